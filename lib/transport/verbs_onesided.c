/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One-sided access: plain RDMA writes, of which the peer's program hears nothing, and atomics.
 * Reads are rdt_verbs_get(). The atomics of a device are atomic with each other, not always with
 * the processor's: so a rank reaches its own memory through a connection to itself
 * (verbs_endpoint.c).
 */
#include <string.h>

#include "lib/base/error.h"
#include "verbs.h"

static int outside(const struct rdt_verbs_ep *ep, const struct rdt_verbs_remote *remote,
		   uint64_t offset, uint64_t length)
{
	return rdt_err(RDT_ERR_INVALID,
		       "verbs: access to %llu bytes at offset %llu of rank %d's %llu",
		       (unsigned long long)length, (unsigned long long)offset, ep->head.peer,
		       (unsigned long long)(remote ? remote->length : 0));
}

static bool holds(const struct rdt_verbs_ep *ep, const struct rdt_verbs_remote *remote,
		  uint64_t offset, uint64_t length)
{
	return remote && remote->ep == ep && offset <= remote->length &&
	       length <= remote->length - offset;
}

static int verbs_write(struct rdt_ep *endpoint, struct rdt_remote *to, uint64_t offset,
		       const void *src, const struct rdt_region *from, uint64_t length)
{
	struct rdt_verbs_ep *ep = rdt_verbs_ep(endpoint);
	const struct rdt_verbs_remote *remote = (const struct rdt_verbs_remote *)to;
	const struct rdt_verbs_region *region = rdt_verbs_local(from);
	struct rdt_verbs *t = ep->t;
	bool in_line = length <= ep->max_inline;
	struct ibv_sge sge = { (uintptr_t)src, (uint32_t)length, region ? region->local->lkey : 0 };
	struct ibv_send_wr wr = { .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_RDMA_WRITE };
	struct rdt_verbs_sent sent = { .puts = ep->head.posted + 1 };
	uint32_t segment = 0;
	int rc;

	if (ep->state != RDT_EP_UP || t->shut)
		return rdt_verbs_not_up(ep);
	if (length == 0 || length > t->max_msg || length > RDT_PUT_BOUNCE_MAX ||
	    !holds(ep, remote, offset, length))
		return outside(ep, remote, offset, length);
	if (rdt_verbs_full(ep, 1))
		return RDT_AGAIN;
	if (!region && !in_line) {
		char *copy = rdt_verbs_bounce_take(&t->bounce, (uint32_t)length, &segment);

		if (!copy)
			return RDT_AGAIN;
		memcpy(copy, src, length);
		sge.addr = (uintptr_t)copy;
		sge.lkey = t->bounce.mr->lkey;
		sent.bounce = segment + 1;
	}
	if (in_line)
		wr.send_flags |= IBV_SEND_INLINE;
	if (sent.bounce || ep->wr_posted + 1 - ep->wr_signalled >= t->sq_depth / 4)
		wr.send_flags |= IBV_SEND_SIGNALED;
	wr.wr.rdma.remote_addr = remote->addr + offset;
	wr.wr.rdma.rkey = remote->rkey;
	rc = rdt_verbs_post(ep, &wr, &sent);
	if (rc)
		return rc;
	ep->head.posted++;
	return 0;
}

static int verbs_atomic(struct rdt_ep *endpoint, struct rdt_remote *at, uint64_t offset,
			const struct rdt_atomic *atomic, uint64_t *old, const struct rdt_region *to)
{
	struct rdt_verbs_ep *ep = rdt_verbs_ep(endpoint);
	const struct rdt_verbs_remote *remote = (const struct rdt_verbs_remote *)at;
	const struct rdt_verbs_region *region = rdt_verbs_local(to);
	struct rdt_verbs *t = ep->t;
	struct ibv_sge sge = { (uintptr_t)old, sizeof(*old), region ? region->local->lkey : 0 };
	struct ibv_send_wr wr = { .sg_list = &sge,
				  .num_sge = 1,
				  .opcode = atomic->swap ? IBV_WR_ATOMIC_CMP_AND_SWP
							 : IBV_WR_ATOMIC_FETCH_AND_ADD,
				  .send_flags = IBV_SEND_SIGNALED };
	struct rdt_verbs_sent sent = { .puts = ep->head.posted + 1 };
	int rc;

	if (ep->state != RDT_EP_UP || t->shut)
		return rdt_verbs_not_up(ep);
	if (t->device_attr.atomic_cap == IBV_ATOMIC_NONE)
		return rdt_err(RDT_ERR_NO_DEVICE,
			       "verbs: %s has no atomics (iWARP, or a driver without them)",
			       t->choice.device);
	if (!region)
		return rdt_err(RDT_ERR_NOMEM,
			       "verbs: the memory in which answers arrive is registered no more");
	if (!holds(ep, remote, offset, sizeof(*old)) || (remote->addr + offset) % sizeof(*old))
		return outside(ep, remote, offset, sizeof(*old));
	if (rdt_verbs_full(ep, 1))
		return RDT_AGAIN;
	wr.wr.atomic.remote_addr = remote->addr + offset;
	wr.wr.atomic.rkey = remote->rkey;
	wr.wr.atomic.compare_add = atomic->operand;
	wr.wr.atomic.swap = atomic->desired;
	rc = rdt_verbs_post(ep, &wr, &sent);
	if (rc)
		return rc;
	ep->head.posted++;
	return 0;
}

static unsigned verbs_access(struct rdt_transport *transport)
{
	return rdt_verbs(transport)->device_attr.atomic_cap == IBV_ATOMIC_NONE
		       ? RDT_ACCESS_PUT | RDT_ACCESS_GET
		       : RDT_ACCESS_ALL;
}

static int verbs_complete(struct rdt_ep *endpoint)
{
	struct rdt_verbs_ep *ep = rdt_verbs_ep(endpoint);

	if (ep->state != RDT_EP_UP || ep->t->shut)
		return rdt_verbs_not_up(ep);
	return rdt_verbs_flush(ep) ? 0 : RDT_AGAIN;
}

const struct rdt_onesided_ops rdt_verbs_onesided = {
	.size = sizeof(struct rdt_onesided_ops),
	.own_endpoint = true,
	.access = verbs_access,
	.write = verbs_write,
	.atomic = verbs_atomic,
	.complete = verbs_complete,
};
