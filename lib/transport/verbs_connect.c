/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections, through librdmacm, without ever waiting for it.
 *
 * Every rank listens on its device's addresses. Of two ranks the lower one asks. It tries pairs of
 * addresses (ours, theirs), likeliest first; the next one starts when one fails or has been silent
 * for STAGGER, and the slow ones stay in the race: the first to come up wins, the rest are dropped.
 *
 *	lower:  resolve address -> resolve route -> connect(hello) --------> up
 *	higher: listen ------------------ request(hello): vet, accept(hello) -> up
 *
 * The higher rank accepts one request of a peer at a time and keeps a few others in case that one
 * fails; a request that comes before its own connect() is kept as well. Whoever does not say the
 * right hello (nonce, generation, both ranks) is turned down.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/log.h"
#include "verbs.h"

#define STAGGER ((int64_t)2000000000)
#define RESOLVE_MS 2000
#define STALE_TRIES 5
#define DRAIN_POLLS 1024

void rdt_verbs_link_close(struct rdt_verbs_link *link)
{
	if (!link->id)
		return;
	if (link->ep->qp && link->ep->qp == link->id->qp) {
		link->ep->qp = NULL;
		rdt_verbs_map_qps(link->ep->t);
	}
	if (link->id->qp)
		rdma_destroy_qp(link->id);
	rdma_destroy_id(link->id);
	link->id = NULL;
}

void rdt_verbs_link_fail(struct rdt_verbs_link *link, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(link->why, sizeof(link->why), format, args);
	va_end(args);
	rdt_verbs_link_close(link);
	link->state = RDT_LINK_FAILED;
	rdt_trace("verbs: rank %d: attempt failed: %s", link->ep->head.peer, link->why);
}

static bool link_live(const struct rdt_verbs_link *link)
{
	return link->state != RDT_LINK_IDLE && link->state != RDT_LINK_FAILED;
}

/* Before the route is resolved: the kernel derives the path's life time from the timeout. */
void rdt_verbs_set_options(struct rdt_verbs *t, struct rdma_cm_id *id)
{
	uint8_t timeout = (uint8_t)t->ib_timeout, tos = (uint8_t)t->config.ib_tc;

	if (rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout,
			    sizeof(timeout)) != 0 &&
	    !t->warned_option) {
		t->warned_option = true;
		rdt_warn("verbs: this kernel cannot set the ACK timeout (%s; Linux 5.2 can): a "
			 "silent peer is noticed after about 20 s instead of one",
			 strerror(errno));
	}
	if (t->config.ib_tc >= 0 &&
	    rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, &tos, sizeof(tos)) != 0)
		rdt_warn("verbs: RDTRAIN_IB_TC=%d could not be set: %s", t->config.ib_tc,
			 strerror(errno));
}

bool rdt_verbs_link_qp(struct rdt_verbs_link *link)
{
	struct rdt_verbs *t = link->ep->t;
	struct ibv_qp_init_attr attr = {
		.send_cq = t->cq,
		.recv_cq = t->cq,
		.srq = t->srq,
		.cap = { .max_send_wr = t->sq_depth,
			 .max_send_sge = 1,
			 .max_inline_data = t->max_inline },
		.qp_type = IBV_QPT_RC,
	};

	if (link->id->verbs != t->choice.ctx) {
		rdt_verbs_link_fail(link, "it leads through %s, not through %s",
				    link->id->verbs ? ibv_get_device_name(link->id->verbs->device)
						    : "nothing",
				    t->choice.device);
		return false;
	}
	if (rdma_create_qp(link->id, t->pd, &attr) != 0) {
		rdt_verbs_resource_err(t, "queue pair");
		rdt_verbs_link_fail(link, "%s", rdt_last_error());
		return false;
	}
	return true;
}

void rdt_verbs_own_hello(const struct rdt_verbs_ep *ep, unsigned char bytes[RDT_VERBS_HELLO_BYTES])
{
	const struct rdt_transport_config *config = &ep->t->config;
	struct rdt_verbs_hello hello = {
		.generation = config->generation,
		.from = (uint32_t)config->rank,
		.to = (uint32_t)ep->head.peer,
	};

	memcpy(hello.nonce, config->nonce, sizeof(hello.nonce));
	rdt_verbs_hello_pack(&hello, bytes);
}

struct rdma_conn_param rdt_verbs_conn_param(const struct rdt_verbs *t, const unsigned char *hello)
{
	return (struct rdma_conn_param){
		.private_data = hello,
		.private_data_len = RDT_VERBS_HELLO_BYTES,
		.responder_resources = 1,
		.initiator_depth = 1,
		.retry_count = (uint8_t)t->ib_retry,
		.rnr_retry_count = RDT_VERBS_RNR_RETRY,
	};
}

/* Compares all bytes whatever the first ones say, so that the time taken tells nothing. */
bool rdt_verbs_same_nonce(const unsigned char *a, const unsigned char *b)
{
	unsigned char difference = 0;

	for (int i = 0; i < RDT_NONCE_BYTES; i++)
		difference |= a[i] ^ b[i];
	return difference == 0;
}

/* ---- the side that asks ---------------------------------------------------------------------- */

static void link_start(struct rdt_verbs_link *link)
{
	struct rdt_verbs_ep *ep = link->ep;
	struct rdt_verbs *t = ep->t;
	struct sockaddr_storage src, dst;

	link->since = rdt_now();
	link->state = RDT_LINK_ADDR;
	if (rdma_create_id(t->events, &link->id, link, RDMA_PS_TCP) != 0) {
		link->id = NULL;
		rdt_verbs_link_fail(link, "librdmacm gives no id: %s", strerror(errno));
		return;
	}
	rdt_verbs_set_options(t, link->id);
	rdt_verbs_sockaddr(&t->choice.local[link->src].addr, false, &src);
	rdt_verbs_sockaddr(&ep->peer.addr[link->dst], true, &dst);
	if (rdma_resolve_addr(link->id, (struct sockaddr *)&src, (struct sockaddr *)&dst,
			      RESOLVE_MS) != 0)
		rdt_verbs_link_fail(link, "its address cannot be resolved: %s", strerror(errno));
}

static void link_ask(struct rdt_verbs_link *link)
{
	unsigned char hello[RDT_VERBS_HELLO_BYTES];
	struct rdma_conn_param param;

	rdt_verbs_own_hello(link->ep, hello);
	param = rdt_verbs_conn_param(link->ep->t, hello);
	link->state = RDT_LINK_ASKED;
	if (rdma_connect(link->id, &param) != 0)
		rdt_verbs_link_fail(link, "the request cannot be sent: %s", strerror(errno));
}

static void all_failed(struct rdt_verbs_ep *ep)
{
	char text[400], here[RDT_VERBS_ADDR_TEXT], there[RDT_VERBS_ADDR_TEXT];
	size_t n = 0;

	text[0] = '\0';
	for (int i = 0; i < ep->nlinks && n < sizeof(text); i++) {
		const struct rdt_verbs_link *link = &ep->links[i];
		const struct rdt_verbs_addr *peer = &ep->peer.addr[link->dst];

		rdt_verbs_addr_text(&ep->t->choice.local[link->src].addr, here);
		rdt_verbs_addr_text(peer, there);
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s -> %s port %u: %s",
				      i ? "; " : "", here, there, peer->port, link->why);
	}
	rdt_verbs_ep_fail(ep, RDT_ERR_UNREACHABLE,
			  "verbs: rank %d cannot connect to rank %d (%s): %s", ep->t->config.rank,
			  ep->head.peer, ep->peer.device, text);
}

/* Starts the attempts that are due. */
void rdt_verbs_ep_drive(struct rdt_verbs_ep *ep, int64_t now)
{
	int live = 0;
	int64_t newest = 0;

	for (int i = 0; i < ep->next_link; i++) {
		if (!link_live(&ep->links[i]))
			continue;
		live++;
		if (ep->links[i].since > newest)
			newest = ep->links[i].since;
	}
	while (ep->next_link < ep->nlinks && (live == 0 || now - newest > STAGGER)) {
		struct rdt_verbs_link *link = &ep->links[ep->next_link++];

		link_start(link);
		live += link_live(link);
		newest = now;
	}
	if (live == 0)
		all_failed(ep);
}

/* ---- events ---------------------------------------------------------------------------------- */

static bool right_answer(const struct rdt_verbs_ep *ep, const struct rdt_verbs_cm_event *event)
{
	struct rdt_verbs_hello hello;

	return rdt_verbs_hello_unpack(event->data, event->length, &hello) &&
	       rdt_verbs_same_nonce(hello.nonce, ep->t->config.nonce) &&
	       hello.generation == ep->t->config.generation &&
	       hello.from == (uint32_t)ep->head.peer && hello.to == (uint32_t)ep->t->config.rank;
}

static void link_up(struct rdt_verbs_link *link)
{
	struct rdt_verbs_ep *ep = link->ep;
	struct rdt_verbs *t = ep->t;
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr = { 0 };
	char text[256];

	link->state = RDT_LINK_UP;
	ep->up = link;
	ep->state = RDT_EP_UP;
	t->connecting--;
	for (int i = 0; i < ep->nlinks; i++)
		if (&ep->links[i] != link)
			rdt_verbs_link_close(&ep->links[i]);
	ep->qp = link->id->qp;
	rdt_verbs_map_qps(t);
	rdt_verbs_drop_pending(t, ep->head.peer, RDT_REFUSED_TWICE);
	if (ibv_query_qp(ep->qp, &attr, IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_TIMEOUT,
			 &init) == 0) {
		ep->mtu = attr.path_mtu;
		ep->peer_qp_num = attr.dest_qp_num;
	}
	rdt_verbs_describe((struct rdt_ep *)ep, text, sizeof(text));
	rdt_trace("rank %d: %s, qp %u -> %u, ack timeout 2^%u", ep->head.peer, text, ep->qp->qp_num,
		  ep->peer_qp_num, attr.timeout);
}

static void on_disconnected(struct rdt_verbs_ep *ep)
{
	char there[RDT_VERBS_ADDR_TEXT];
	struct rdt_verbs *t = ep->t;

	if (ep->state != RDT_EP_UP)
		return;
	for (int i = 0; i < DRAIN_POLLS && rdt_verbs_poll(t) > 0; i++)
		;		     /* a good-bye may wait there */
	rdma_disconnect(ep->up->id); /* answers the peer's kernel, and stops the queue pair */
	if (ep->state != RDT_EP_UP)
		return;
	if (t->left || (ep->said_goodbye && ep->head.posted == ep->head.completed)) {
		ep->state = RDT_EP_LEFT;
		rdt_trace("verbs: rank %d has left", ep->head.peer);
		return;
	}
	rdt_verbs_ep_fail(ep, RDT_ERR_PEER_LOST,
			  "verbs: rank %d (%s %s) is lost: its end of the connection was closed "
			  "without a good-bye, so its process has ended; look at its output and "
			  "its host's dmesg (out of memory?)",
			  ep->head.peer, ep->peer.device,
			  rdt_verbs_addr_text(&ep->peer.addr[ep->up->dst], there));
}

static void on_link_failed(struct rdt_verbs_link *link, const struct rdt_verbs_cm_event *event)
{
	struct rdt_verbs_ep *ep = link->ep;
	char why[sizeof(link->why)];

	/* Reason 10: the peer still holds a queue pair number of ours that was used before. */
	if (ep->active && event->type == RDMA_CM_EVENT_REJECTED && event->status == 10 &&
	    link->again++ < STALE_TRIES) {
		rdt_verbs_link_close(link);
		link_start(link);
		return;
	}
	rdt_verbs_cm_reason(event->type, event->status, event->data, event->length, why,
			    sizeof(why));
	rdt_verbs_link_fail(link, "%s", why);
	if (!ep->active)
		rdt_verbs_take_pending(ep);
}

static void on_link_event(struct rdt_verbs_link *link, const struct rdt_verbs_cm_event *event)
{
	struct rdt_verbs_ep *ep = link->ep;

	switch (event->type) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		if (link->state != RDT_LINK_ADDR || !rdt_verbs_link_qp(link))
			break;
		link->state = RDT_LINK_ROUTE;
		if (rdma_resolve_route(link->id, RESOLVE_MS) != 0)
			rdt_verbs_link_fail(link, "its route cannot be resolved: %s",
					    strerror(errno));
		break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		if (link->state == RDT_LINK_ROUTE)
			link_ask(link);
		break;
	case RDMA_CM_EVENT_ESTABLISHED:
		if (link->state != RDT_LINK_ASKED)
			break;
		if (ep->active && !right_answer(ep, event))
			rdt_verbs_link_fail(link, "who answered is not rank %d of this job",
					    ep->head.peer);
		else
			link_up(link);
		break;
	case RDMA_CM_EVENT_DISCONNECTED:
		if (ep->up == link)
			on_disconnected(ep);
		else
			on_link_failed(link, event);
		break;
	case RDMA_CM_EVENT_ADDR_ERROR:
	case RDMA_CM_EVENT_ROUTE_ERROR:
	case RDMA_CM_EVENT_CONNECT_ERROR:
	case RDMA_CM_EVENT_UNREACHABLE:
	case RDMA_CM_EVENT_REJECTED:
		if (ep->up != link)
			on_link_failed(link, event);
		break;
	default: /* TIMEWAIT_EXIT, ADDR_CHANGE and what concerns multicast */ break;
	}
}

/* 1: an event was handled, 0: there is none. */
static int take_event(struct rdt_verbs *t)
{
	struct rdma_cm_event *from;
	struct rdt_verbs_cm_event event;

	if (rdma_get_cm_event(t->events, &from) != 0) {
		if (errno != EAGAIN && errno != EINTR && !t->shut)
			rdt_verbs_fail(t, RDT_ERR_SYSTEM,
				       "verbs: the connection manager cannot be read: %s",
				       strerror(errno));
		return 0;
	}
	event = (struct rdt_verbs_cm_event){ .type = from->event,
					     .status = from->status,
					     .id = from->id };
	if (from->param.conn.private_data) {
		event.length = from->param.conn.private_data_len;
		if (event.length > sizeof(event.data))
			event.length = sizeof(event.data);
		memcpy(event.data, from->param.conn.private_data, event.length);
	}
	rdma_ack_cm_event(from);

	if (event.type == RDMA_CM_EVENT_CONNECT_REQUEST)
		rdt_verbs_on_request(t, &event);
	else if (event.type == RDMA_CM_EVENT_DEVICE_REMOVAL)
		rdt_verbs_fail(t, RDT_ERR_NO_DEVICE, "verbs: device %s was removed",
			       t->choice.device);
	else if (event.id->context)
		on_link_event(event.id->context, &event);
	return 1;
}

int rdt_verbs_drive(struct rdt_verbs *t)
{
	int n = 0;

	while (take_event(t))
		n++;
	if (t->connecting > 0) {
		int64_t now = rdt_now();

		for (uint32_t i = 0; i < t->neps; i++)
			if (t->eps[i]->active && t->eps[i]->state == RDT_EP_CONNECTING)
				rdt_verbs_ep_drive(t->eps[i], now);
	}
	return n;
}
