/* SPDX-License-Identifier: BSD-3-Clause */
/* Putting: a copy, a store to a counter, and a wake-up only if the peer sleeps. */
#include "shm.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/error.h"

static void wake(struct rdt_ep *ep)
{
	char byte = 1;

	/* Only the one who clears the flag writes. acq_rel: nothing needs more, the pipe orders the
	 * rest. A full pipe wakes as well. */
	if (atomic_exchange_explicit(&ep->segment->sleeping, 0, memory_order_acq_rel))
		while (write(ep->wake_fd, &byte, 1) < 0 && errno == EINTR)
			;
}

void rdt_shm_nudge(struct rdt_ep *ep)
{
	if (atomic_load_explicit(&ep->segment->sleeping, memory_order_relaxed))
		wake(ep);
}

static int move(struct rdt_ep *ep, const struct rdt_put *put)
{
	const struct rdt_remote *remote = put->remote;

	if (!remote || remote->ep != ep || put->offset > remote->length ||
	    put->length > remote->length - put->offset)
		return rdt_err(RDT_ERR_INVALID,
			       "shm: a put of %lu bytes at %lu into %lu bytes of rank %d",
			       (unsigned long)put->length, (unsigned long)put->offset,
			       (unsigned long)(remote ? remote->length : 0), ep->head.peer);
	if (!(remote->access & RDT_ACCESS_PUT))
		return rdt_err(RDT_ERR_INVALID,
			       "shm: a put into memory that rank %d exported with access %u",
			       ep->head.peer, remote->access);
	if (!remote->mapped)
		return rdt_shm_cma_write(ep, remote->address + put->offset, put->src, put->length);
	memcpy(remote->mapped + put->offset, put->src, put->length);
	return 0;
}

int rdt_shm_put(struct rdt_ep *ep, const struct rdt_put *put)
{
	uint32_t *counter;

	if (ep->shm->shut)
		return rdt_err(RDT_ERR_ABORTED, "shm: put after the transport was shut down");
	if (put->channel >= RDT_CHANNELS)
		return rdt_err(RDT_ERR_INVALID, "shm: channel %u is not below %d", put->channel,
			       RDT_CHANNELS);
	if (put->length) {
		int status = move(ep, put);

		if (status)
			return status;
	}
	ep->head.posted++;
	ep->head.completed++;
	if (put->flags & RDT_PUT_SILENT)
		return 0;
	counter = &ep->out[put->channel];
	/* release: who sees the count sees the data. Only this rank writes it, so no
	 * read-modify-write. */
	__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + 1, __ATOMIC_RELEASE);
	/*
	 * Dekker's pattern with rdt_shm_arm: we store the counter, then load `sleeping`; the peer
	 * stores `sleeping`, then loads its counters. With a full fence between on both sides, at
	 * least one sees the other's store: either we wake it, or it finds the notification and
	 * does not sleep.
	 */
	atomic_thread_fence(memory_order_seq_cst);
	rdt_shm_nudge(ep);
	return 0;
}

int rdt_shm_get(struct rdt_ep *ep, struct rdt_remote *remote, uint64_t offset, void *dst,
		const struct rdt_region *region, uint64_t length)
{
	(void)region;
	if (ep->shm->shut)
		return rdt_err(RDT_ERR_ABORTED, "shm: get after the transport was shut down");
	if (!remote || remote->ep != ep || !(remote->access & RDT_ACCESS_GET) ||
	    offset > remote->length || length > remote->length - offset)
		return rdt_err(RDT_ERR_INVALID,
			       "shm: a get of %lu bytes at %lu from %lu bytes of rank %d, exported "
			       "with access %u",
			       (unsigned long)length, (unsigned long)offset,
			       (unsigned long)(remote ? remote->length : 0), ep->head.peer,
			       remote ? remote->access : 0);
	if (remote->mapped) {
		/* acquire: in the order of the calls, also where the processor would not keep it */
		atomic_thread_fence(memory_order_acquire);
		if (length == sizeof(uint64_t) &&
		    (uintptr_t)(remote->mapped + offset) % length == 0) {
			/* a word at once, though others change it */
			uint64_t word = __atomic_load_n(
				(uint64_t *)(void *)(remote->mapped + offset), __ATOMIC_ACQUIRE);

			memcpy(dst, &word, sizeof(word));
		} else {
			memcpy(dst, remote->mapped + offset, length);
		}
	} else {
		int status = rdt_shm_cma_read(ep, remote->address + offset, dst, length);

		if (status)
			return status;
	}
	ep->head.posted++;
	ep->head.completed++;
	return 0;
}
