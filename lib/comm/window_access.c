/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Puts, gets and atomics; see window_parts.h. An access of any length is cut into work requests,
 * each of which waits for nothing but room; the processor does what concerns its own memory, unless
 * the transport has an endpoint for that, too.
 */
#include "window_parts.h"

#include <string.h>

#define PIECE ((size_t)1 << 20) /* the longest access in one work request */

enum kind { PUT, GET, ATOMIC };

/* ---- one work request ----------------------------------------------------------------------- */

/* One work request's worth. */
struct rdt_access {
	enum kind kind;
	int rank;
	size_t offset, length;
	char *here;
	struct rdt_atomic atomic;
	uint64_t number; /* of its landing */
	bool waits;	 /* the caller waits for the answer: nothing is left to flush */
	bool over;	 /* it has none: the answer is there */
};

/* The landing for it, begun only when the transport took it. */
static int into_slot(rdt_window *w, struct rdt_access *a)
{
	struct rdt_target *t = &w->targets[a->rank];
	char *slot = rdt_window_slot(w, w->landings);
	int status;

	if (w->landings - w->landed == RDT_WINDOW_SLOTS)
		return RDT_AGAIN;
	if (a->kind == GET)
		status = w->ops->get(t->ep, t->remote, a->offset, slot, w->slots_region, a->length);
	else
		status = w->ops->onesided->atomic(t->ep, t->remote, a->offset, &a->atomic,
						  (uint64_t *)(void *)slot, w->slots_region);
	if (status)
		return status;
	a->number = w->landings++;
	w->landing[a->number % RDT_WINDOW_SLOTS] =
		(struct rdt_landing){ .to = a->here,
				      .length = a->length,
				      .rank = a->rank,
				      .number = rdt_ep_head(t->ep)->posted };
	t->landings++;
	return 0;
}

/* Where memory is mapped the answer is there at once. */
static int atomic_mapped(rdt_window *w, struct rdt_access *a)
{
	struct rdt_target *t = &w->targets[a->rank];
	uint64_t old;
	int status = w->ops->onesided->atomic(t->ep, t->remote, a->offset, &a->atomic, &old, NULL);

	if (!status && a->here)
		memcpy(a->here, &old, sizeof(old));
	a->over = true;
	return status;
}

static int try_access(rdt_window *w, struct rdt_access *a)
{
	struct rdt_target *t = &w->targets[a->rank];
	bool ours = w->own && a->here >= w->base && a->here < w->base + w->bytes &&
		    a->length <= (size_t)(w->base + w->bytes - a->here);
	int status = rdt_window_gone(w, a->rank);

	if (status)
		return status;
	t->touched = t->touched || !a->waits;
	t->told = false;
	if (a->kind == PUT)
		status = w->ops->onesided->write(t->ep, t->remote, a->offset, a->here,
						 ours ? w->own : NULL, a->length);
	else if (a->kind == GET && (ours || w->ops->mem_map))
		status = w->ops->get(t->ep, t->remote, a->offset, a->here, w->own, a->length);
	else if (w->ops->mem_map)
		status = atomic_mapped(w, a);
	else
		status = into_slot(w, a);
	/* Where a connection has failed, its failure says more. */
	if (status < 0 && status != RDT_ERR_INVALID && status != RDT_ERR_NO_DEVICE) {
		rdt_window_failures(w);
		if (status == RDT_ERR_PEER_LOST || w->ops->connected(t->ep) < 0)
			rdt_window_lose(w, a->rank, status, rdt_last_error());
		return rdt_window_gone(w, a->rank) ? rdt_window_gone(w, a->rank) : status;
	}
	return status;
}

static bool accessed(rdt_window *w, struct rdt_window_wait *wait)
{
	wait->status = try_access(w, wait->access);
	return wait->status != RDT_AGAIN;
}

static int access_there(rdt_window *w, struct rdt_access *a, const char *doing)
{
	struct rdt_window_wait wait = { .done = accessed, .rank = a->rank, .access = a };
	int status;

	if (accessed(w, &wait))
		return wait.status;
	status = rdt_window_wait(w, &wait, doing);
	if (!status && w->failed)
		return rdt_window_gone(w, a->rank);
	return status ? status : wait.status;
}

static void access_here(rdt_window *w, struct rdt_access *a)
{
	char *there = w->base + a->offset;
	uint64_t old;

	if (a->kind == PUT) {
		memmove(there, a->here, a->length);
	} else if (a->kind == GET) {
		memmove(a->here, there, a->length);
	} else {
		old = rdt_atomic_here(there, &a->atomic);
		if (a->here)
			memcpy(a->here, &old, sizeof(old));
	}
}

/* ---- any number of bytes -------------------------------------------------------------------- */

static int check(const rdt_window *w, const char *call, int rank, size_t offset, size_t bytes,
		 bool buffer)
{
	if (!w)
		return rdt_err(RDT_ERR_INVALID, "%s: window is NULL", call);
	if (rank < 0 || rank >= w->comm->size)
		return rdt_err(RDT_ERR_INVALID, "%s: rank %d of %d does not exist", call, rank,
			       w->comm->size);
	if (offset > w->targets[rank].bytes || bytes > w->targets[rank].bytes - offset)
		return rdt_err(RDT_ERR_INVALID,
			       "%s: %zu bytes at offset %zu; rank %d exposes %llu bytes", call,
			       bytes, offset, rank, (unsigned long long)w->targets[rank].bytes);
	if (bytes && !buffer)
		return rdt_err(RDT_ERR_INVALID, "%s: the buffer is NULL", call);
	return 0;
}

/* How much of it goes in one work request: what has to land in a slot fits one, and what is read
 * straight into this rank's own part ends with it. */
static size_t piece(const rdt_window *w, enum kind kind, const char *here, size_t bytes)
{
	size_t most = PIECE;

	if (kind == GET && w->ops && !w->ops->mem_map) {
		most = RDT_WINDOW_SLOT_BYTES;
		if (w->own && here >= w->base && here < w->base + w->bytes) {
			most = (size_t)(w->base + w->bytes - here);
			most = most < PIECE ? most : PIECE;
		}
	}
	return bytes < most ? bytes : most;
}

static int move(rdt_window *w, const char *call, enum kind kind, int rank, size_t offset,
		char *here, size_t bytes)
{
	int status = check(w, call, rank, offset, bytes, here);
	uint64_t first;

	if (status || bytes == 0)
		return status;
	first = w->landings;
	for (size_t done = 0, n; done < bytes && !status; done += n) {
		struct rdt_access a = { .kind = kind, .rank = rank, .offset = offset + done };

		n = piece(w, kind, here + done, bytes - done);
		a.here = here + done;
		a.length = n;
		if (w->targets[rank].ep)
			status = access_there(w, &a, call);
		else
			access_here(w, &a);
	}
	if (status)
		rdt_window_forget(w, rank, first);
	return status;
}

int rdt_window_put(rdt_window *w, int rank, size_t offset, const void *in, size_t bytes)
{
	return move(w, "rdt_window_put", PUT, rank, offset, (char *)(uintptr_t)in, bytes);
}

int rdt_window_get(rdt_window *w, int rank, size_t offset, void *out, size_t bytes)
{
	return move(w, "rdt_window_get", GET, rank, offset, out, bytes);
}

/* ---- atomics -------------------------------------------------------------------------------- */

static bool has_landed(rdt_window *w, struct rdt_window_wait *wait)
{
	return w->landed > wait->number || w->targets[wait->rank].lost;
}

static int atomic(rdt_window *w, const char *call, int rank, size_t offset,
		  const struct rdt_atomic *what, uint64_t *old, bool waits)
{
	struct rdt_access a = { .kind = ATOMIC,
				.rank = rank,
				.offset = offset,
				.length = sizeof(*old),
				.here = (char *)old,
				.atomic = *what,
				.waits = waits };
	struct rdt_window_wait wait = { .done = has_landed, .rank = rank };
	int status = check(w, call, rank, offset, sizeof(*old), true);

	if (!status && offset % sizeof(*old))
		status = rdt_err(RDT_ERR_INVALID, "%s: offset %zu is no multiple of 8", call,
				 offset);
	if (status)
		return status;
	if (!w->targets[rank].ep) {
		access_here(w, &a);
		return 0;
	}
	status = access_there(w, &a, call);
	if (status || !waits || a.over)
		return status;
	wait.number = a.number;
	status = rdt_window_wait(w, &wait, call);
	if (!status && w->landed > a.number && !w->targets[rank].lost)
		return 0;
	rdt_window_forget(w, rank, a.number);
	return status ? status : rdt_window_gone(w, rank);
}

int rdt_window_fetch_add(rdt_window *w, int rank, size_t offset, uint64_t add, uint64_t *old)
{
	const struct rdt_atomic what = { .operand = add };

	return atomic(w, "rdt_window_fetch_add", rank, offset, &what, old, true);
}

int rdt_window_compare_swap(rdt_window *w, int rank, size_t offset, uint64_t expected,
			    uint64_t desired, uint64_t *old)
{
	const struct rdt_atomic what = { .swap = true, .operand = expected, .desired = desired };

	return atomic(w, "rdt_window_compare_swap", rank, offset, &what, old, true);
}

int rdt_window_fetch_add_start(rdt_window *w, int rank, size_t offset, uint64_t add, uint64_t *old)
{
	const struct rdt_atomic what = { .operand = add };

	return atomic(w, "rdt_window_fetch_add_start", rank, offset, &what, old, false);
}

int rdt_window_compare_swap_start(rdt_window *w, int rank, size_t offset, uint64_t expected,
				  uint64_t desired, uint64_t *old)
{
	const struct rdt_atomic what = { .swap = true, .operand = expected, .desired = desired };

	return atomic(w, "rdt_window_compare_swap_start", rank, offset, &what, old, false);
}
