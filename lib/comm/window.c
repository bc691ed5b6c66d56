/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One-sided access: windows are made and destroyed here. What the ranks need of each other's memory
 * goes through the rendezvous, and all connect to all; see window_parts.h.
 */
#include <rdtrain/window.h>

#include <stdlib.h>
#include <unistd.h>

#include "lib/base/clock.h"

#include "comm.h"
#include "thread.h"
#include "window_parts.h"

/* What the others need to know. */
struct exposed {
	uint64_t bytes;
	uint32_t length;
	unsigned char blob[RDT_EXPORT_MAX];
};

static int register_own(rdt_window *w, int memfd, uint64_t memfd_offset)
{
	int status;

	if (w->bytes) {
		status = w->ops->mem_register(w->transport, w->base, w->bytes, memfd, memfd_offset,
					      &w->own);
		if (status)
			return status;
	}
	if (w->ops->mem_map)
		return 0;
	/* Nothing is mapped: answers land here. */
	status = rdt_block_map((size_t)RDT_WINDOW_SLOTS * RDT_WINDOW_SLOT_BYTES, false, &w->slots);
	if (status)
		return status;
	return w->ops->mem_register(w->transport, w->slots.base, w->slots.bytes, w->slots.memfd, 0,
				    &w->slots_region);
}

static int import(rdt_window *w, int rank, int64_t deadline)
{
	struct rdt_target *t = &w->targets[rank];
	struct exposed e = { 0 };
	size_t length = sizeof(e);
	int status = rdt_peers_get(w->comm, rank, "window", &e, &length, deadline);

	if (status)
		return status;
	if (length != sizeof(e) || e.length > sizeof(e.blob))
		return rdt_err(RDT_ERR_SYSTEM, "rank %d sent a malformed description of its window",
			       rank);
	t->bytes = e.bytes;
	t->ep = w->comm->peers[rank].ep;
	return e.bytes ? w->ops->mem_import(t->ep, e.blob, e.length, &t->remote) : 0;
}

static int reach(rdt_window *w)
{
	rdt_comm *comm = w->comm;
	int64_t deadline = rdt_deadline(comm->config.start_timeout_s);
	struct exposed e = { .bytes = w->bytes };
	struct rdt_fence fence;
	size_t length = 0;
	bool *peers;
	int status = 0;

	if (!w->ops->onesided)
		return rdt_err(RDT_ERR_NO_DEVICE, "the %s transport has no one-sided access",
			       w->ops->name);
	if (w->bytes)
		status =
			w->ops->mem_export(w->own, w->base, w->bytes,
					   w->ops->onesided->access(w->transport), e.blob, &length);
	e.length = (uint32_t)length;
	if (!status)
		status = rdt_peers_put(comm, "window", &e, sizeof(e));
	if (status)
		return status;
	peers = calloc((size_t)comm->size, sizeof(*peers));
	if (!peers)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for a window");
	for (int r = 0; r < comm->size; r++)
		peers[r] = r != comm->rank || w->ops->onesided->own_endpoint;
	status = rdt_peers_connect(comm, peers, deadline);
	for (int r = 0; r < comm->size && !status; r++)
		if (peers[r])
			status = import(w, r, deadline);
	free(peers);
	/* From here on a rank that is lost is lost alone. */
	return status ? status : rdt_peers_fence(comm, "window", 0, &fence, deadline);
}

static void release(rdt_window *w)
{
	rdt_comm_destroy(w->comm); /* and what was registered and imported with its transport */
	if (w->block.base)
		rdt_block_unmap(&w->block);
	if (w->slots.base)
		rdt_block_unmap(&w->slots);
	free(w->targets);
	free(w);
}

static int make(rdt_comm *parent, rdt_window *w)
{
	const struct rdt_mem *mem =
		w->bytes && w->base ? rdt_mem_table_find(&parent->memory, w->base, w->bytes) : NULL;
	int memfd = mem && mem->block.base ? mem->block.memfd : -1, status;
	uint64_t at = memfd >= 0 ? (uint64_t)(w->base - mem->base) : 0;

	if (w->bytes && !w->base) {
		status = rdt_block_map(w->bytes, true, &w->block);
		if (status)
			return status;
		w->base = w->block.base;
		memfd = w->block.memfd;
	}
	w->targets[w->comm->rank].bytes = w->bytes;
	if (w->comm->size == 1)
		return 0;
	w->ops = w->comm->transports[0].ops;
	w->transport = w->comm->transports[0].handle;
	status = register_own(w, memfd, at);
	return status ? status : reach(w);
}

static int create(rdt_comm *parent, void *base, size_t bytes, rdt_window **out)
{
	rdt_window *w = calloc(1, sizeof(*w));
	int status;

	if (!w)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for a window");
	w->base = bytes ? base : NULL;
	w->bytes = bytes;
	w->targets = calloc((size_t)parent->size, sizeof(*w->targets));
	if (!w->targets)
		status = rdt_err(RDT_ERR_NOMEM, "out of memory for %d ranks", parent->size);
	else
		status = rdt_split_whole(parent, "rdt_window_create", &w->comm);
	if (status) {
		free(w->targets);
		free(w);
		return status;
	}
	status = make(parent, w);
	if (status) {
		/* The others are told, and do not wait. */
		if (w->comm->boot && !w->comm->failed)
			rdt_fail(w->comm, status, -1, "rank %d could not make its window: %s",
				 parent->rank, rdt_last_error());
		release(w);
		return status;
	}
	*out = w;
	return 0;
}

int rdt_window_create(rdt_comm *comm, void *base, size_t bytes, rdt_window **window)
{
	int status;

	if (!comm || !window)
		return rdt_err(RDT_ERR_INVALID, "rdt_window_create: %s is NULL",
			       comm ? "window" : "comm");
	*window = NULL;
	if ((uintptr_t)base % sizeof(uint64_t) || bytes > SIZE_MAX / 2)
		return rdt_err(RDT_ERR_INVALID,
			       "rdt_window_create: %zu bytes at %p; the memory of a window begins "
			       "at a multiple of 8",
			       bytes, base);
	rdt_enter(comm);
	status = create(comm, base, bytes, window);
	rdt_leave(comm);
	return status;
}

void *rdt_window_base(const rdt_window *window)
{
	return window ? window->base : NULL;
}

size_t rdt_window_bytes(const rdt_window *window, int rank)
{
	return window && rank >= 0 && rank < window->comm->size ? window->targets[rank].bytes : 0;
}

void rdt_window_destroy(rdt_window *window)
{
	if (!window)
		return;
	if (window->comm->owner == getpid())
		rdt_window_flush(window, -1);
	release(window);
}
