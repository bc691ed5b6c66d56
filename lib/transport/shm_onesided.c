/* SPDX-License-Identifier: BSD-3-Clause */
/* One-sided access on one host: loads and stores to mapped memory, which are over at once. Reads
 * are rdt_shm_get(). */
#include "shm.h"

#include <string.h>

#include "lib/base/error.h"

static int check(const struct rdt_ep *ep, const struct rdt_remote *remote, uint64_t offset,
		 uint64_t length, unsigned access)
{
	if (ep->shm->shut)
		return rdt_err(RDT_ERR_ABORTED, "shm: access after the transport was shut down");
	if (ep->gone)
		return rdt_shm_lost_err(ep);
	if (!remote || remote->ep != ep || !(remote->access & access) || offset > remote->length ||
	    length > remote->length - offset)
		return rdt_err(RDT_ERR_INVALID,
			       "shm: access %u to %lu bytes at %lu of %lu bytes of rank %d", access,
			       (unsigned long)length, (unsigned long)offset,
			       (unsigned long)(remote ? remote->length : 0), ep->head.peer);
	return 0;
}

static int shm_write(struct rdt_ep *ep, struct rdt_remote *remote, uint64_t offset, const void *src,
		     const struct rdt_region *region, uint64_t length)
{
	int status = check(ep, remote, offset, length, RDT_ACCESS_PUT);

	(void)region;
	if (status)
		return status;
	if (!remote->mapped)
		return rdt_shm_cma_write(ep, remote->address + offset, src, length);
	/* A word is stored at once: who looks at it sees the old or the new one. release: and with
	 * it what was put before. */
	if (length == sizeof(uint64_t) && (uintptr_t)(remote->mapped + offset) % length == 0) {
		uint64_t word;

		memcpy(&word, src, sizeof(word));
		__atomic_store_n((uint64_t *)(void *)(remote->mapped + offset), word,
				 __ATOMIC_RELEASE);
		return 0;
	}
	memcpy(remote->mapped + offset, src, length);
	atomic_thread_fence(memory_order_release);
	return 0;
}

static int shm_atomic(struct rdt_ep *ep, struct rdt_remote *remote, uint64_t offset,
		      const struct rdt_atomic *atomic, uint64_t *old,
		      const struct rdt_region *region)
{
	int status = check(ep, remote, offset, sizeof(*old), RDT_ACCESS_ATOMIC);

	(void)region;
	if (status)
		return status;
	if (!remote->mapped || (uintptr_t)(remote->mapped + offset) % sizeof(*old))
		return rdt_err(RDT_ERR_INVALID,
			       "shm: the memory of rank %d is not mapped here, so its words cannot "
			       "be changed atomically: expose memory of the library (base NULL) or "
			       "of rdt_alloc",
			       ep->head.peer);
	*old = rdt_atomic_here(remote->mapped + offset, atomic);
	return 0;
}

static unsigned shm_access(struct rdt_transport *transport)
{
	(void)transport;
	return RDT_ACCESS_ALL;
}

static int shm_complete(struct rdt_ep *ep)
{
	atomic_thread_fence(memory_order_seq_cst);
	return ep->gone ? rdt_shm_lost_err(ep) : 0;
}

const struct rdt_onesided_ops rdt_shm_onesided = {
	.size = sizeof(struct rdt_onesided_ops),
	.own_endpoint = false,
	.access = shm_access,
	.write = shm_write,
	.atomic = shm_atomic,
	.complete = shm_complete,
};
