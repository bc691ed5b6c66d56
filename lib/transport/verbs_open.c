/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An instance: one device, one protection domain, one completion queue for everything, one shared
 * receive queue, and a listener on each of the device's addresses. Connections are made elsewhere.
 *
 * Receivers are never not ready, by count: as many receives are posted as the caller has reserved
 * notifications, plus one good-bye for each endpoint, plus the batch that may be consumed and not
 * posted again yet. The completion queue holds all of them and every send queue, full.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/log.h"
#include "verbs.h"

#define LISTEN_BACKLOG 1024

static int set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static long wanted_receives(const struct rdt_verbs *t)
{
	return t->reserved + (long)t->neps + RDT_VERBS_SLACK;
}

int rdt_verbs_replenish(struct rdt_verbs *t, bool all)
{
	long missing = wanted_receives(t) - t->posted;

	while (missing >= RDT_VERBS_BATCH || (all && missing > 0)) {
		long n = missing < RDT_VERBS_BATCH ? missing : RDT_VERBS_BATCH;
		struct ibv_recv_wr *bad;
		int error;

		/* the chain's last n */
		error = ibv_post_srq_recv(t->srq, &t->recv_chain[RDT_VERBS_BATCH - n], &bad);
		if (error)
			return rdt_err(RDT_ERR_SYSTEM,
				       "verbs: %s takes no more receives, with %ld posted of %ld: "
				       "%s",
				       t->choice.device, t->posted, t->srq_depth, strerror(error));
		t->posted += n;
		missing -= n;
	}
	return 0;
}

int rdt_verbs_make_room(struct rdt_verbs *t, uint32_t eps, long reserved)
{
	long receives = reserved + (long)eps + RDT_VERBS_SLACK;
	long completions = receives + (long)eps * t->sq_depth;

	if (receives > t->srq_depth)
		return rdt_err(RDT_ERR_NOMEM,
			       "verbs: %ld notifications from %u peers need %ld receives, the "
			       "shared receive queue of %s holds %ld: fewer plans at a time, or "
			       "fewer peers",
			       reserved, eps, receives, t->choice.device, t->srq_depth);
	if (completions <= t->cq->cqe)
		return 0;
	if (completions > t->device_attr.max_cqe)
		return rdt_err(RDT_ERR_NOMEM,
			       "verbs: %ld notifications from %u peers need %ld completions, %s "
			       "has at most %d: fewer plans at a time, or fewer peers",
			       reserved, eps, completions, t->choice.device,
			       t->device_attr.max_cqe);
	long grown = completions > 2l * t->cq->cqe ? completions : 2l * t->cq->cqe;

	if (grown > t->device_attr.max_cqe)
		grown = t->device_attr.max_cqe;
	if (ibv_resize_cq(t->cq, (int)grown) != 0)
		return rdt_err_errno(
			RDT_ERR_NOMEM,
			"verbs: %ld completions are needed, the completion queue of %s "
			"has %d and cannot grow",
			completions, t->choice.device, t->cq->cqe);
	return 0;
}

static int reserve(struct rdt_transport *transport, long more)
{
	struct rdt_verbs *t = rdt_verbs(transport);
	int rc;

	if (t->reserved + more < 0)
		return rdt_err(RDT_ERR_INVALID, "verbs: %ld notifications given back, %ld reserved",
			       -more, t->reserved);
	if (more > 0) {
		rc = rdt_verbs_make_room(t, t->neps, t->reserved + more);
		if (rc)
			return rc;
	}
	t->reserved += more;
	/* fewer: those that are posted stay until they are used */
	return rdt_verbs_replenish(t, true);
}

/* The most inline data that a queue pair of ours may have here, found by asking. */
static int probe_inline(struct rdt_verbs *t)
{
	static const uint32_t sizes[] = { 256, 192, 128, 96, 64, 32, 16, 0 };
	struct ibv_qp *qp = NULL;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct ibv_qp_init_attr attr = {
			.send_cq = t->cq,
			.recv_cq = t->cq,
			.srq = t->srq,
			.cap = { .max_send_wr = t->sq_depth,
				 .max_send_sge = 1,
				 .max_inline_data = sizes[i] },
			.qp_type = IBV_QPT_RC,
		};

		qp = ibv_create_qp(t->pd, &attr);
		if (!qp)
			continue;
		/* what was asked for is enough; more would make work requests longer */
		t->max_inline =
			attr.cap.max_inline_data < sizes[i] ? attr.cap.max_inline_data : sizes[i];
		ibv_destroy_qp(qp);
		return 0;
	}
	return rdt_verbs_resource_err(t, "queue pair");
}

static int open_queues(struct rdt_verbs *t)
{
	const struct ibv_device_attr *device = &t->device_attr;
	struct ibv_srq_init_attr srq = { .attr = { .max_sge = 1 } };
	int cqe = device->max_cqe < RDT_VERBS_CQ_START ? device->max_cqe : RDT_VERBS_CQ_START;

	t->sq_depth = RDT_VERBS_SQ_DEPTH;
	while (t->sq_depth > 16 && t->sq_depth > (uint32_t)device->max_qp_wr)
		t->sq_depth /= 2;
	t->max_msg = t->choice.port_attr.max_msg_sz;
	if (t->max_msg == 0 || t->max_msg > 1u << 30)
		t->max_msg = 1u << 30;
	if (device->max_srq == 0)
		return rdt_err(RDT_ERR_NO_DEVICE, "verbs: %s has no shared receive queues",
			       t->choice.device);
	t->srq_depth =
		device->max_srq_wr < RDT_VERBS_SRQ_DEPTH ? device->max_srq_wr : RDT_VERBS_SRQ_DEPTH;
	srq.attr.max_wr = (uint32_t)t->srq_depth;

	t->pd = ibv_alloc_pd(t->choice.ctx);
	if (!t->pd)
		return rdt_verbs_resource_err(t, "protection domain");
	t->comp = ibv_create_comp_channel(t->choice.ctx);
	if (!t->comp || set_nonblocking(t->comp->fd) != 0)
		return rdt_verbs_resource_err(t, "completion channel");
	t->cq = ibv_create_cq(t->choice.ctx, cqe, NULL, t->comp, 0);
	if (!t->cq)
		return rdt_verbs_resource_err(t, "completion queue");
	t->srq = ibv_create_srq(t->pd, &srq);
	if (!t->srq)
		return rdt_verbs_resource_err(t, "shared receive queue");
	for (int i = 0; i + 1 < RDT_VERBS_BATCH; i++)
		t->recv_chain[i].next = &t->recv_chain[i + 1];
	return probe_inline(t);
}

/* rdma_rxe retries for ever when told 7, so its writers would never hear of a dead peer. It is the
 * driver whose devices have a "parent". */
static void bound_retries(struct rdt_verbs *t)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/parent", t->choice.device);
	if (t->ib_retry < 7 || access(path, F_OK) != 0)
		return;
	t->ib_retry = 6;
	rdt_warn("verbs: RDTRAIN_IB_RETRY_CNT=7 means for ever on soft-RoCE (%s); 6 is used",
		 t->choice.device);
}

static int listen_everywhere(struct rdt_verbs *t)
{
	struct rdt_verbs_choice *choice = &t->choice;
	char text[RDT_VERBS_ADDR_TEXT];
	int n = 0;

	for (int i = 0; i < choice->n; i++) {
		struct rdt_verbs_local *local = &choice->local[i];

		if (rdma_listen(local->id, LISTEN_BACKLOG) != 0) {
			rdt_warn("verbs: cannot listen on %s: %s; the address is left out",
				 rdt_verbs_addr_text(&local->addr, text), strerror(errno));
			rdma_destroy_id(local->id);
			continue;
		}
		local->addr.port = ntohs(rdma_get_src_port(local->id));
		choice->local[n++] = *local;
	}
	choice->n = n;
	if (n == 0)
		return rdt_err(RDT_ERR_NO_DEVICE, "verbs: cannot listen on any address of %s",
			       choice->device);
	return 0;
}

static int check_config(const struct rdt_transport_config *config)
{
	if (config->size < 1 || config->rank < 0 || config->rank >= config->size)
		return rdt_err(RDT_ERR_INVALID, "verbs: rank %d of %d", config->rank, config->size);
	if (config->ib_timeout < -1 || config->ib_timeout == 0 || config->ib_timeout > 31)
		return rdt_err(RDT_ERR_INVALID,
			       "RDTRAIN_IB_TIMEOUT=%d: 1 to 31, for 4.096 us * 2^n (0 would wait "
			       "for ever)",
			       config->ib_timeout);
	if (config->ib_retry_cnt < -1 || config->ib_retry_cnt > 7)
		return rdt_err(RDT_ERR_INVALID, "RDTRAIN_IB_RETRY_CNT=%d: 0 to 7",
			       config->ib_retry_cnt);
	if (config->ib_tc < -1 || config->ib_tc > 255)
		return rdt_err(RDT_ERR_INVALID, "RDTRAIN_IB_TC=%d: 0 to 255", config->ib_tc);
	if (config->ib_sl >= 0)
		rdt_warn("verbs: RDTRAIN_IB_SL=%d has no effect: librdmacm takes the service level "
			 "from the path (InfiniBand: the subnet manager) or from RDTRAIN_IB_TC "
			 "(RoCE)",
			 config->ib_sl);
	return 0;
}

int rdt_verbs_open(const struct rdt_transport_config *config, rdt_info_fn note, void *arg,
		   struct rdt_verbs **out)
{
	struct rdt_verbs *t;
	char why[400];
	int rc;

	rc = check_config(config);
	if (rc)
		return rc;
	if (!rdt_verbs_present("/sys", "/dev", why, sizeof(why)))
		return rdt_err(RDT_ERR_NO_DEVICE, "verbs: %s", why);
	t = calloc(1, sizeof(*t));
	if (!t)
		return rdt_err(RDT_ERR_NOMEM, "verbs: no memory for a transport");
	t->ops = &rdt_verbs_ops;
	t->config = *config;
	t->ib_timeout = config->ib_timeout < 0 ? RDT_VERBS_TIMEOUT : config->ib_timeout;
	t->ib_retry = config->ib_retry_cnt < 0 ? RDT_VERBS_RETRY : config->ib_retry_cnt;
	t->pending_room = 2 * config->size + 16;
	t->by_rank = calloc((size_t)config->size, sizeof(t->by_rank[0]));
	t->pending = calloc((size_t)t->pending_room, sizeof(t->pending[0]));
	if (!t->by_rank || !t->pending) {
		rc = rdt_err(RDT_ERR_NOMEM, "verbs: no memory for %d ranks", config->size);
		goto fail;
	}
	t->events = rdma_create_event_channel();
	if (!t->events || set_nonblocking(t->events->fd) != 0) {
		rc = rdt_err_errno(RDT_ERR_NO_DEVICE,
				   "verbs: librdmacm cannot open /dev/infiniband/rdma_cm");
		goto fail;
	}
	rc = rdt_verbs_choose(config, t->events, note, arg, &t->choice);
	if (rc)
		goto fail;
	if (ibv_query_device(t->choice.ctx, &t->device_attr) != 0) {
		rc = rdt_verbs_resource_err(t, "answer about its limits");
		goto fail;
	}
	bound_retries(t);
	rc = open_queues(t);
	if (!rc)
		rc = listen_everywhere(t);
	if (!rc)
		rc = rdt_verbs_replenish(t, true);
	if (rc)
		goto fail;
	*out = t;
	return 0;
fail:
	rdt_verbs_close(t);
	return rc;
}

/* In reverse; also of an instance that was opened half. */
void rdt_verbs_close(struct rdt_verbs *t)
{
	if (!t)
		return;
	rdt_verbs_stop_connecting(t);
	while (t->remotes)
		rdt_verbs_mem_release((struct rdt_remote *)t->remotes);
	while (t->neps) /* from the end: freeing one looks through those that are left */
		rdt_verbs_ep_free(t->eps[--t->neps]);
	while (t->regions)
		rdt_verbs_mem_deregister((struct rdt_region *)t->regions);
	rdt_verbs_bounce_close(t);
	if (t->srq)
		ibv_destroy_srq(t->srq);
	if (t->cq) {
		if (t->unacked) /* else destroying waits for them */
			ibv_ack_cq_events(t->cq, t->unacked);
		ibv_destroy_cq(t->cq);
	}
	if (t->comp)
		ibv_destroy_comp_channel(t->comp);
	if (t->pd)
		ibv_dealloc_pd(t->pd);
	rdt_verbs_unchoose(&t->choice);
	if (t->events)
		rdma_destroy_event_channel(t->events);
	free(t->by_qp);
	free(t->eps);
	free(t->pending);
	free(t->by_rank);
	free(t);
}

static int open_(const struct rdt_transport_config *config, struct rdt_transport **transport)
{
	char text[RDT_VERBS_ADDR_TEXT];
	struct rdt_verbs *t;
	int rc = rdt_verbs_open(config, NULL, NULL, &t);

	if (rc)
		return rc;
	rdt_info("verbs: %s port %d, %g Gbit/s, address %s and %d more, inline %u, receives up to "
		 "%ld, ack timeout 2^%d with %d retries",
		 t->choice.device, t->choice.port, rdt_verbs_rate(&t->choice.port_attr),
		 rdt_verbs_addr_text(&t->choice.local[0].addr, text), t->choice.n - 1,
		 t->max_inline, t->srq_depth, t->ib_timeout, t->ib_retry);
	*transport = (struct rdt_transport *)t;
	return 0;
}

static void close_(struct rdt_transport *transport)
{
	rdt_verbs_close(rdt_verbs(transport));
}

const struct rdt_transport_ops rdt_verbs_ops = {
	.size = sizeof(struct rdt_transport_ops),
	.name = "verbs",
	.open = open_,
	.close = close_,
	.address = rdt_verbs_address,
	.reachable = rdt_verbs_reachable,
	.connect = rdt_verbs_connect,
	.connected = rdt_verbs_connected,
	.describe = rdt_verbs_describe,
	.reserve = reserve,
	.mem_register = rdt_verbs_mem_register,
	.mem_deregister = rdt_verbs_mem_deregister,
	.mem_exportable = rdt_verbs_mem_exportable,
	.mem_export = rdt_verbs_mem_export,
	.mem_import = rdt_verbs_mem_import,
	.mem_release = rdt_verbs_mem_release,
	.mem_map = NULL, /* nothing of a peer is mapped here */
	.put = rdt_verbs_put,
	.get = rdt_verbs_get,
	.progress = rdt_verbs_progress,
	.fds = rdt_verbs_fds,
	.arm = rdt_verbs_arm,
	.woken = rdt_verbs_woken,
	.failure = rdt_verbs_failure,
	.leave = rdt_verbs_leave,
	.shutdown = rdt_verbs_shutdown,
	.onesided = &rdt_verbs_onesided,
};
