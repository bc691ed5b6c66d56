/* SPDX-License-Identifier: BSD-3-Clause */
/* Until all that was called for is done, there too; see window_parts.h. */
#include "window_parts.h"

static bool flushed_one(rdt_window *w, int rank)
{
	struct rdt_target *t = &w->targets[rank];

	if (!t->touched || t->lost || !t->ep)
		return true;
	if (!t->told) {
		int status = w->ops->onesided->complete(t->ep);

		if (status == RDT_AGAIN)
			return false;
		if (status < 0) {
			rdt_window_failures(w);
			rdt_window_lose(w, rank, status, rdt_last_error());
			return true;
		}
		t->told = true;
	}
	if (rdt_ep_head(t->ep)->completed != rdt_ep_head(t->ep)->posted) {
		if (w->ops->connected(t->ep) < 0) {
			rdt_window_failures(w);
			rdt_window_lose(w, rank, RDT_ERR_PEER_LOST, rdt_last_error());
			return true;
		}
		return false;
	}
	return t->landings == 0;
}

static bool flushed(rdt_window *w, struct rdt_window_wait *wait)
{
	for (int r = 0; r < w->comm->size; r++)
		if ((wait->number == UINT64_MAX || r == (int)wait->number) && !flushed_one(w, r)) {
			wait->rank = r;
			return false;
		}
	return true;
}

int rdt_window_flush(rdt_window *w, int rank)
{
	struct rdt_window_wait wait = { .done = flushed,
					.rank = rank,
					.number = rank < 0 ? UINT64_MAX : (uint64_t)rank };
	bool late;
	int status = 0;

	if (!w || rank >= w->comm->size || rank < -1)
		return rdt_err(RDT_ERR_INVALID, "rdt_window_flush: %s",
			       w ? "no such rank" : "window is NULL");
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (w->ops && !flushed(w, &wait))
		status = rdt_window_wait(w, &wait, "rdt_window_flush");
	/* The first of the lost is told last. */
	late = status == RDT_ERR_TIMEOUT;
	for (int r = w->comm->size - 1; r >= 0; r--) {
		struct rdt_target *t = &w->targets[r];

		if ((rank >= 0 && r != rank) || !t->touched)
			continue;
		if (late || t->lost || w->failed)
			rdt_window_forget(w, r, 0);
		if (late)
			continue;
		t->touched = false;
		if (rdt_window_gone(w, r))
			status = rdt_window_gone(w, r);
	}
	return status;
}
