/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Puts: one RDMA write with immediate each, or several writes of which the last carries the
 * immediate. Allocates nothing and waits for nothing: a full queue is RDT_AGAIN.
 *
 * Which work requests ask for a completion: the last one of a put that the caller will wait for
 * (unless it is inline, and so the caller's again at once), of a put that was split or copied, and
 * otherwise one in a quarter of the queue. So a queue that is full always has a completion under
 * way, and up to half a queue of pieces always fits in time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/base/error.h"
#include "verbs.h"

char *rdt_verbs_bounce_take(struct rdt_verbs_bounce *b, uint32_t length, uint32_t *segment)
{
	uint64_t start, size = b->size;
	uint32_t bytes = (length + 63) & ~63u;

	if (b->seg_head == b->seg_tail) /* empty: from the beginning, so that the longest fits */
		b->head = b->tail = 0;
	else if (b->seg_head - b->seg_tail == RDT_VERBS_SEGMENTS)
		return NULL;
	start = b->head;
	if (start % size + bytes > size)
		start += size - start % size; /* not around the corner */
	if (start + bytes - b->tail > size)
		return NULL;
	b->head = start + bytes;
	*segment = b->seg_head++ % RDT_VERBS_SEGMENTS;
	b->seg[*segment] = (struct rdt_verbs_segment){ .end = b->head };
	return b->base + start % size;
}

void rdt_verbs_bounce_give(struct rdt_verbs_bounce *b, uint32_t segment)
{
	b->seg[segment].done = true;
	while (b->seg_tail != b->seg_head && b->seg[b->seg_tail % RDT_VERBS_SEGMENTS].done)
		b->tail = b->seg[b->seg_tail++ % RDT_VERBS_SEGMENTS].end;
}

int rdt_verbs_bounce_open(struct rdt_verbs *t)
{
	struct rdt_verbs_bounce *b = &t->bounce;
	int rc;

	if (b->mr)
		return 0;
	b->size = RDT_VERBS_BOUNCE;
	b->base = mmap(NULL, b->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (b->base == MAP_FAILED) {
		b->base = NULL;
		return rdt_err_errno(RDT_ERR_NOMEM, "verbs: no memory for a copy ring of %zu bytes",
				     b->size);
	}
	rc = rdt_verbs_reg_mr(t, b->base, b->size, IBV_ACCESS_LOCAL_WRITE,
			      "the ring through which unregistered memory is sent", &b->mr);
	if (rc)
		rdt_verbs_bounce_close(t);
	return rc;
}

void rdt_verbs_bounce_close(struct rdt_verbs *t)
{
	struct rdt_verbs_bounce *b = &t->bounce;

	if (b->mr)
		ibv_dereg_mr(b->mr);
	if (b->base)
		munmap(b->base, b->size);
	memset(b, 0, sizeof(*b));
}

int rdt_verbs_not_up(const struct rdt_verbs_ep *ep)
{
	switch (ep->state) {
	case RDT_EP_CONNECTING:
		return rdt_err(RDT_ERR_INVALID, "verbs: put to rank %d before the connection is up",
			       ep->head.peer);
	case RDT_EP_LEFT:
		return rdt_err(RDT_ERR_PEER_LOST, "verbs: put to rank %d, which has left",
			       ep->head.peer);
	default:
		return rdt_err((enum rdt_status)(ep->status ? ep->status : RDT_ERR_ABORTED), "%s",
			       ep->why[0] ? ep->why : "verbs: put after shutdown");
	}
}

static int check(const struct rdt_verbs_ep *ep, const struct rdt_put *put)
{
	const struct rdt_verbs_remote *remote = (const struct rdt_verbs_remote *)put->remote;
	const struct rdt_verbs_region *region = rdt_verbs_local(put->region);
	const char *src = put->src;

	if (put->channel >= RDT_CHANNELS)
		return rdt_err(RDT_ERR_INVALID, "verbs: channel %u, there are %u", put->channel,
			       RDT_CHANNELS);
	if (put->length == 0)
		return 0;
	if (!remote || remote->ep != ep || put->offset > remote->length ||
	    put->length > remote->length - put->offset)
		return rdt_err(RDT_ERR_INVALID,
			       "verbs: put of %llu bytes at offset %llu of rank %d's %llu bytes",
			       (unsigned long long)put->length, (unsigned long long)put->offset,
			       ep->head.peer, (unsigned long long)(remote ? remote->length : 0));
	if (region ? src < region->base || put->length > region->length ||
			     (size_t)(src - region->base) > region->length - put->length
		   : !src || put->length > RDT_PUT_BOUNCE_MAX)
		return rdt_err(RDT_ERR_INVALID,
			       region ? "verbs: put of %llu bytes that reach outside their region"
				      : "verbs: put of %llu bytes from memory that is not "
					"registered: too many to copy",
			       (unsigned long long)put->length);
	return 0;
}

int rdt_verbs_post(struct rdt_verbs_ep *ep, struct ibv_send_wr *wr,
		   const struct rdt_verbs_sent *sent)
{
	struct ibv_send_wr *bad;
	uint32_t slot = (uint32_t)ep->wr_posted & (ep->t->sq_depth - 1);
	int error;

	wr->wr_id = (uint64_t)(ep->index + 1) << 32 | (uint32_t)ep->wr_posted;
	ep->sent[slot] = *sent;
	error = ibv_post_send(ep->qp, wr, &bad);
	if (error) {
		rdt_verbs_ep_fail(ep, RDT_ERR_SYSTEM, "verbs: cannot post to rank %d on %s: %s%s",
				  ep->head.peer, ep->t->choice.device, strerror(error),
				  error == EACCES ? " (did the process fork, or change its user or "
						    "capabilities, after it opened the device?)"
						  : "");
		return rdt_err(RDT_ERR_SYSTEM, "%s", ep->why);
	}
	ep->wr_posted++;
	if (wr->send_flags & IBV_SEND_SIGNALED)
		ep->wr_signalled = ep->wr_posted;
	return 0;
}

int rdt_verbs_put(struct rdt_ep *endpoint, const struct rdt_put *put)
{
	struct rdt_verbs_ep *ep = rdt_verbs_ep(endpoint);
	const struct rdt_verbs_remote *remote = (const struct rdt_verbs_remote *)put->remote;
	const struct rdt_verbs_region *region = rdt_verbs_local(put->region);
	struct rdt_verbs *t = ep->t;
	uint64_t pieces = put->length > t->max_msg ? (put->length - 1) / t->max_msg + 1 : 1;
	bool in_line = put->length <= ep->max_inline, taken, signal;
	const char *src = put->src;
	uint64_t done = 0;
	uint32_t segment = 0, bounced = 0, lkey = region ? region->local->lkey : 0;
	int rc;

	if (ep->state != RDT_EP_UP || t->shut)
		return rdt_verbs_not_up(ep);
	rc = check(ep, put);
	if (rc)
		return rc;
	if (pieces > t->sq_depth / 2)
		return rdt_err(RDT_ERR_INVALID,
			       "verbs: put of %llu bytes; %s takes %llu at a time, %u times",
			       (unsigned long long)put->length, t->choice.device,
			       (unsigned long long)t->max_msg, t->sq_depth / 2);
	if (rdt_verbs_full(ep, pieces))
		return RDT_AGAIN;
	if (!region && !in_line) {
		char *copy = rdt_verbs_bounce_take(&t->bounce, (uint32_t)put->length, &segment);

		if (!copy)
			return RDT_AGAIN;
		memcpy(copy, src, put->length);
		src = copy;
		lkey = t->bounce.mr->lkey;
		bounced = segment + 1;
	}
	/* What goes with the work request is the caller's again at once, and needs no completion.
	 */
	taken = in_line && ep->head.completed == ep->head.posted;
	signal = ((put->flags & RDT_PUT_LAST) && !taken) || pieces > 1 || bounced ||
		 ep->wr_posted + 1 - ep->wr_signalled >= t->sq_depth / 4;

	for (uint64_t i = 0; i + 1 < pieces; i++, done += t->max_msg) {
		struct ibv_sge sge = { (uintptr_t)src + done, (uint32_t)t->max_msg, lkey };
		struct ibv_send_wr wr = { .sg_list = &sge,
					  .num_sge = 1,
					  .opcode = IBV_WR_RDMA_WRITE };
		struct rdt_verbs_sent sent = { .puts = ep->head.posted };

		wr.wr.rdma.remote_addr = remote->addr + put->offset + done;
		wr.wr.rdma.rkey = remote->rkey;
		rc = rdt_verbs_post(ep, &wr, &sent);
		if (rc)
			return rc;
	}

	struct ibv_sge sge = { (uintptr_t)src + done, (uint32_t)(put->length - done), lkey };
	struct ibv_send_wr wr = {
		.sg_list = put->length ? &sge : NULL,
		.num_sge = put->length ? 1 : 0,
		.opcode = put->flags & RDT_PUT_SILENT ? IBV_WR_RDMA_WRITE
						      : IBV_WR_RDMA_WRITE_WITH_IMM,
		.send_flags = (signal ? IBV_SEND_SIGNALED : 0u) |
			      (in_line && put->length ? IBV_SEND_INLINE : 0u),
		.imm_data = htonl(put->channel),
	};
	struct rdt_verbs_sent sent = { .puts = ep->head.posted + 1, .bounce = bounced };

	/* a write of no bytes needs neither key nor address (InfiniBand specification, C9-88) */
	if (put->length) {
		wr.wr.rdma.remote_addr = remote->addr + put->offset + done;
		wr.wr.rdma.rkey = remote->rkey;
	}
	rc = rdt_verbs_post(ep, &wr, &sent);
	if (rc)
		return rc;
	ep->head.posted++;
	ep->head.completed += taken;
	return 0;
}

int rdt_verbs_get(struct rdt_ep *endpoint, struct rdt_remote *from, uint64_t offset, void *dst,
		  const struct rdt_region *to, uint64_t length)
{
	struct rdt_verbs_ep *ep = rdt_verbs_ep(endpoint);
	const struct rdt_verbs_remote *remote = (const struct rdt_verbs_remote *)from;
	const struct rdt_verbs_region *region = rdt_verbs_local(to);
	struct rdt_verbs *t = ep->t;
	struct ibv_sge sge = { (uintptr_t)dst, (uint32_t)length, 0 };
	struct ibv_send_wr wr = { .sg_list = &sge,
				  .num_sge = 1,
				  .opcode = IBV_WR_RDMA_READ,
				  .send_flags = IBV_SEND_SIGNALED };
	struct rdt_verbs_sent sent = { .puts = ep->head.posted + 1 };
	int rc;

	if (ep->state != RDT_EP_UP || t->shut)
		return rdt_verbs_not_up(ep);
	if (!remote || remote->ep != ep || !region || length == 0 || length > t->max_msg ||
	    offset > remote->length || length > remote->length - offset ||
	    (char *)dst < region->base ||
	    length > region->length - (size_t)((char *)dst - region->base))
		return rdt_err(RDT_ERR_INVALID,
			       "verbs: a get of %llu bytes at offset %llu of rank %d's %llu",
			       (unsigned long long)length, (unsigned long long)offset,
			       ep->head.peer, (unsigned long long)(remote ? remote->length : 0));
	if (rdt_verbs_full(ep, 1))
		return RDT_AGAIN;
	sge.lkey = region->local->lkey;
	wr.wr.rdma.remote_addr = remote->addr + offset;
	wr.wr.rdma.rkey = remote->rkey;
	rc = rdt_verbs_post(ep, &wr, &sent);
	if (rc)
		return rc;
	ep->head.posted++;
	return 0;
}

bool rdt_verbs_flush(struct rdt_verbs_ep *ep)
{
	/* Of no bytes, and without an immediate: the peer's program does not notice. */
	struct ibv_send_wr wr = { .opcode = IBV_WR_RDMA_WRITE, .send_flags = IBV_SEND_SIGNALED };
	struct rdt_verbs_sent sent = { .puts = ep->head.posted };

	if (ep->head.completed == ep->head.posted || ep->wr_signalled == ep->wr_posted)
		return true; /* nothing to wait for, or the last one tells already */
	return !rdt_verbs_full(ep, 1) && rdt_verbs_post(ep, &wr, &sent) == 0;
}

bool rdt_verbs_say_goodbye(struct rdt_verbs_ep *ep)
{
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
		.send_flags = IBV_SEND_SIGNALED,
		.imm_data = htonl(RDT_VERBS_GOODBYE),
	};
	struct rdt_verbs_sent sent = { .puts = ep->head.posted };

	return ep->wr_posted - ep->wr_done < ep->t->sq_depth && rdt_verbs_post(ep, &wr, &sent) == 0;
}
