/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Progress: completions become counters, freed sources and failures; sleeping and waking; how an
 * instance ends, in good order or not. The only file that polls the completion queue.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/log.h"
#include "verbs.h"

#define ACK_BATCH 64
#define POLL_PASSES 4
#define LEAVE_S 1.0
#define SETTLE_S 0.3

/* ---- failures -------------------------------------------------------------------------------- */

static void queue_failure(struct rdt_verbs *t, int status, int peer, const char *text)
{
	struct rdt_transport_failure *f;

	if (t->shut || t->left || t->failure_head - t->failure_tail == RDT_VERBS_FAILURES)
		return;
	f = &t->failures[t->failure_head++ % RDT_VERBS_FAILURES];
	f->status = status;
	f->peer = peer;
	snprintf(f->text, sizeof(f->text), "%s", text);
}

void rdt_verbs_ep_fail(struct rdt_verbs_ep *ep, int status, const char *format, ...)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };
	va_list args;

	if (ep->state == RDT_EP_FAILED)
		return; /* what follows a failure is its consequence */
	if (ep->state == RDT_EP_CONNECTING)
		ep->t->connecting--;
	ep->state = RDT_EP_FAILED;
	ep->status = status;
	va_start(args, format);
	vsnprintf(ep->why, sizeof(ep->why), format, args);
	va_end(args);
	if (ep->qp)
		ibv_modify_qp(ep->qp, &attr, IBV_QP_STATE);
	queue_failure(ep->t, status, ep->head.peer, ep->why);
}

void rdt_verbs_fail(struct rdt_verbs *t, int status, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	queue_failure(t, status, -1, text);
}

bool rdt_verbs_failure(struct rdt_transport *transport, struct rdt_transport_failure *failure)
{
	struct rdt_verbs *t = rdt_verbs(transport);

	if (t->failure_head == t->failure_tail)
		return false;
	*failure = t->failures[t->failure_tail++ % RDT_VERBS_FAILURES];
	return true;
}

static int pending_failure(const struct rdt_verbs *t)
{
	if (t->failure_head == t->failure_tail)
		return 0;
	return t->failures[t->failure_tail % RDT_VERBS_FAILURES].status;
}

/* ---- completions ----------------------------------------------------------------------------- */

static uint32_t spread(uint32_t qp_num)
{
	return qp_num * 2654435761u >> 7;
}

void rdt_verbs_map_qps(struct rdt_verbs *t)
{
	uint32_t mask = t->by_qp_size - 1;

	memset(t->by_qp, 0, t->by_qp_size * sizeof(t->by_qp[0]));
	for (uint32_t i = 0; i < t->neps; i++) {
		struct rdt_verbs_ep *ep = t->eps[i];
		uint32_t at;

		if (!ep->qp)
			continue;
		for (at = spread(ep->qp->qp_num) & mask; t->by_qp[at].ep; at = (at + 1) & mask)
			;
		t->by_qp[at] = (struct rdt_verbs_slot){ ep->qp->qp_num, ep };
	}
}

static struct rdt_verbs_ep *ep_of_qp(const struct rdt_verbs *t, uint32_t qp_num)
{
	uint32_t mask = t->by_qp_size - 1;

	if (!t->by_qp)
		return NULL;
	for (uint32_t at = spread(qp_num) & mask; t->by_qp[at].ep; at = (at + 1) & mask)
		if (t->by_qp[at].qp_num == qp_num)
			return t->by_qp[at].ep;
	return NULL;
}

static void on_notification(struct rdt_verbs *t, const struct ibv_wc *wc)
{
	struct rdt_verbs_ep *ep = ep_of_qp(t, wc->qp_num);
	uint32_t channel = ntohl(wc->imm_data);

	if (!ep)
		return; /* an attempt that was dropped */
	if (wc->opcode == IBV_WC_RECV_RDMA_WITH_IMM && channel == RDT_VERBS_GOODBYE) {
		ep->said_goodbye = true;
	} else if (wc->opcode != IBV_WC_RECV_RDMA_WITH_IMM || channel >= RDT_CHANNELS) {
		rdt_verbs_ep_fail(ep, RDT_ERR_MISMATCH,
				  "verbs: rank %d sent notification 0x%x (opcode %d), which this "
				  "version does not know: do all ranks run the same version?",
				  ep->head.peer, channel, wc->opcode);
	} else {
		/* release: who sees the count sees the data that came before it */
		__atomic_store_n(&ep->counters[channel], ep->counters[channel] + 1,
				 __ATOMIC_RELEASE);
	}
}

static void on_error(struct rdt_verbs_ep *ep, const struct ibv_wc *wc)
{
	if (ep->suspect || ep->state != RDT_EP_UP)
		return; /* what follows a failure is its consequence */
	if (!rdt_verbs_wc_suspect(wc->status)) {
		rdt_verbs_wc_fail(ep, wc);
		return;
	}
	ep->suspect = true;
	ep->suspect_wc = *wc;
	ep->t->suspects++;
}

static void on_sent(struct rdt_verbs *t, const struct ibv_wc *wc)
{
	struct rdt_verbs_ep *ep = t->eps[(wc->wr_id >> 32) - 1];
	/* the 32 bits of the number that travelled, completed by where the queue stands */
	uint64_t number = ep->wr_done + (uint32_t)((uint32_t)wc->wr_id - (uint32_t)ep->wr_done);
	struct rdt_verbs_sent *sent = &ep->sent[number & (t->sq_depth - 1)];

	if (sent->bounce) {
		rdt_verbs_bounce_give(&t->bounce, sent->bounce - 1);
		sent->bounce = 0;
	}
	if (wc->status != IBV_WC_SUCCESS) {
		on_error(ep, wc);
		return;
	}
	ep->wr_done = number + 1;
	if (sent->puts > ep->head.completed) /* else: taken along by its work request */
		ep->head.completed = sent->puts;
}

static void on_completion(struct rdt_verbs *t, const struct ibv_wc *wc)
{
	if (wc->wr_id) {
		on_sent(t, wc);
		return;
	}
	t->posted--;
	if (wc->status == IBV_WC_SUCCESS) {
		on_notification(t, wc);
	} else {
		struct rdt_verbs_ep *ep = ep_of_qp(t, wc->qp_num);

		if (ep)
			on_error(ep, wc);
	}
}

int rdt_verbs_poll(struct rdt_verbs *t)
{
	struct ibv_wc wc[RDT_VERBS_BATCH];
	int total = 0;

	for (int pass = 0; pass < POLL_PASSES; pass++) {
		int n = ibv_poll_cq(t->cq, RDT_VERBS_BATCH, wc);

		if (n < 0) {
			rdt_verbs_fail(t, RDT_ERR_SYSTEM,
				       "verbs: the completion queue of %s cannot be polled (%d)",
				       t->choice.device, n);
			break;
		}
		for (int i = 0; i < n; i++)
			on_completion(t, &wc[i]);
		total += n;
		if (rdt_verbs_replenish(t, false) != 0) {
			rdt_verbs_fail(t, RDT_ERR_SYSTEM, "%s", rdt_last_error());
			break;
		}
		if (n < RDT_VERBS_BATCH)
			break;
	}
	return total;
}

/*
 * A process that dies loses its memory regions before its connections, so the first sign of its
 * death may be a write that its device refuses, as if the caller had made a mistake. The
 * connection manager tells the two apart, a little later; wait for it, since all is over anyway.
 */
static void settle(struct rdt_verbs *t)
{
	struct pollfd fd = { .fd = t->events->fd, .events = POLLIN };
	int64_t deadline;

	if (t->suspects == 0)
		return; /* before the clock is read: that may be a system call */
	deadline = rdt_deadline(SETTLE_S);
	while (t->suspects > 0) {
		int left = rdt_left_ms(deadline);

		rdt_verbs_drive(t);
		t->suspects = 0;
		for (uint32_t i = 0; i < t->neps; i++) {
			struct rdt_verbs_ep *ep = t->eps[i];

			if (ep->suspect && ep->state == RDT_EP_UP && left == 0)
				rdt_verbs_wc_fail(ep, &ep->suspect_wc);
			t->suspects += ep->suspect && ep->state == RDT_EP_UP;
		}
		if (t->suspects > 0)
			poll(&fd, 1, left);
	}
}

int rdt_verbs_progress(struct rdt_transport *transport)
{
	struct rdt_verbs *t = rdt_verbs(transport);
	int n = rdt_verbs_poll(t), failed;

	if (t->connecting > 0)
		n += rdt_verbs_drive(t);
	settle(t);
	failed = pending_failure(t);
	return failed ? failed : n;
}

/* ---- sleeping -------------------------------------------------------------------------------- */

int rdt_verbs_fds(struct rdt_transport *transport, struct pollfd *fds, int max)
{
	const struct rdt_verbs *t = rdt_verbs(transport);
	int n = 0;

	if (n < max)
		fds[n++] = (struct pollfd){ .fd = t->comp->fd, .events = POLLIN };
	if (n < max)
		fds[n++] = (struct pollfd){ .fd = t->events->fd, .events = POLLIN };
	return n;
}

int rdt_verbs_arm(struct rdt_transport *transport)
{
	struct rdt_verbs *t = rdt_verbs(transport);
	int n;

	if (!t->armed) {
		int error = ibv_req_notify_cq(t->cq, 0);

		if (error)
			rdt_verbs_fail(t, RDT_ERR_SYSTEM,
				       "verbs: %s gives no completion events: %s", t->choice.device,
				       strerror(error));
		t->armed = !error;
	}
	/* what completed before the request gives no event */
	n = rdt_verbs_poll(t);
	settle(t);
	return n > 0 || pending_failure(t) ? 1 : 0;
}

static void take_cq_events(struct rdt_verbs *t)
{
	struct ibv_cq *cq;
	void *context;

	while (ibv_get_cq_event(t->comp, &cq, &context) == 0) {
		t->armed = false;
		/* acknowledging takes a lock, so several at a time */
		if (++t->unacked == ACK_BATCH) {
			ibv_ack_cq_events(t->cq, t->unacked);
			t->unacked = 0;
		}
	}
}

int rdt_verbs_woken(struct rdt_transport *transport, const struct pollfd *fds, int n)
{
	struct rdt_verbs *t = rdt_verbs(transport);

	for (int i = 0; i < n; i++) {
		if (!fds[i].revents)
			continue;
		if (fds[i].fd == t->comp->fd)
			take_cq_events(t);
		else if (fds[i].fd == t->events->fd)
			rdt_verbs_drive(t);
	}
	settle(t);
	return pending_failure(t);
}

/* ---- the end --------------------------------------------------------------------------------- */

/* Sends what good-byes it can; true when all that matter have arrived. */
static bool goodbyes_done(struct rdt_verbs *t)
{
	bool done = true;

	for (uint32_t i = 0; i < t->neps; i++) {
		struct rdt_verbs_ep *ep = t->eps[i];

		if (ep->state != RDT_EP_UP)
			continue;
		if (!ep->goodbye_sent)
			ep->goodbye_sent = rdt_verbs_say_goodbye(ep);
		/* a peer that has left itself may be gone and need not know */
		if (ep->state == RDT_EP_UP && !ep->said_goodbye &&
		    (!ep->goodbye_sent || ep->wr_done != ep->wr_posted))
			done = false;
	}
	return done;
}

void rdt_verbs_leave(struct rdt_transport *transport)
{
	struct rdt_verbs *t = rdt_verbs(transport);
	int64_t deadline = rdt_deadline(LEAVE_S);
	struct pollfd fds[2];

	if (t->left || t->shut)
		return;
	t->left = true;
	rdt_verbs_stop_connecting(t);
	while (!goodbyes_done(t) && rdt_left_ms(deadline) > 0) {
		int n = rdt_verbs_fds(transport, fds, 2);

		if (rdt_verbs_arm(transport))
			continue;
		if (poll(fds, (nfds_t)n, rdt_left_ms(deadline)) > 0)
			rdt_verbs_woken(transport, fds, n);
	}
}

void rdt_verbs_shutdown(struct rdt_transport *transport)
{
	struct rdt_verbs *t = rdt_verbs(transport);
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };

	t->shut = true;
	rdt_verbs_stop_connecting(t);
	for (uint32_t i = 0; i < t->neps; i++) {
		struct rdt_verbs_ep *ep = t->eps[i];

		if (ep->qp)
			ibv_modify_qp(ep->qp, &attr, IBV_QP_STATE);
		if (ep->state == RDT_EP_FAILED)
			continue;
		ep->state = RDT_EP_FAILED;
		ep->status = RDT_ERR_ABORTED;
		snprintf(ep->why, sizeof(ep->why), "verbs: the connection to rank %d was shut down",
			 ep->head.peer);
	}
	t->connecting = 0;
}
