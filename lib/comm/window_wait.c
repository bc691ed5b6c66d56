/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How windows move on and wait, and how they learn who is lost; see window_parts.h. The first word
 * on a lost rank counts: the transport's, or the rendezvous'.
 */
#include "window_parts.h"

#include <string.h>

#include "lib/base/clock.h"

/* ---- who is there ---------------------------------------------------------------------------- */

void rdt_window_lose(rdt_window *w, int rank, int status, const char *why)
{
	struct rdt_target *t;

	if (rank < 0 || rank >= w->comm->size) {
		if (!w->failed)
			snprintf(w->why, sizeof(w->why), "%s", why);
		w->failed = w->failed ? w->failed : status;
		return;
	}
	t = &w->targets[rank];
	if (t->lost)
		return;
	t->lost = status;
	snprintf(t->why, sizeof(t->why), "%s", why);
	rdt_info("window: rank %d is lost: %s", rank, t->why);
}

void rdt_window_failures(rdt_window *w)
{
	struct rdt_transport_failure failure;

	while (w->ops->failure(w->transport, &failure))
		rdt_window_lose(w, failure.peer, failure.status, failure.text);
}

static void watch(rdt_window *w)
{
	const struct rdt_bootstrap_ops *ops = w->comm->boot_ops;
	struct rdt_bootstrap_event event;
	char text[RDT_WINDOW_WHY];

	while (w->comm->boot && ops->watch(w->comm->boot, &event) == 1) {
		switch (event.kind) {
		case RDT_EVENT_LOST:
			snprintf(text, sizeof(text),
				 "rank %d is lost: its connection to the rendezvous ended without "
				 "a good-bye (the process was killed, or its host is gone)",
				 event.rank);
			rdt_window_lose(w, event.rank, RDT_ERR_PEER_LOST, text);
			break;
		case RDT_EVENT_LEFT:
		case RDT_EVENT_ABORT:
			snprintf(text, sizeof(text), "rank %d has destroyed its window",
				 event.rank);
			rdt_window_lose(w, event.rank, RDT_ERR_PEER_LOST, text);
			break;
		case RDT_EVENT_SERVICE:
			rdt_warn("the rendezvous service is gone (%s): a window notices the loss "
				 "of a rank by its connections only",
				 event.text);
			break;
		}
	}
}

int rdt_window_gone(const rdt_window *w, int rank)
{
	const struct rdt_target *t = &w->targets[rank];

	if (w->failed)
		return rdt_err((enum rdt_status)w->failed, "%s", w->why);
	return t->lost ? rdt_err((enum rdt_status)t->lost, "%s", t->why) : 0;
}

/* ---- moving on ------------------------------------------------------------------------------- */

/* Copies answers to where they belong. Those of a connection that failed will not come; those of a
 * rank that is merely said to be lost may, and keep their slots until then. */
static int land(rdt_window *w)
{
	int n = 0;

	for (; w->landed != w->landings; w->landed++, n++) {
		struct rdt_landing *l = &w->landing[w->landed % RDT_WINDOW_SLOTS];
		struct rdt_target *t = &w->targets[l->rank];
		bool there = rdt_ep_head(t->ep)->completed >= l->number;

		if (!there && w->ops->connected(t->ep) >= 0)
			break;
		if (!there)
			rdt_window_lose(w, l->rank, RDT_ERR_PEER_LOST, rdt_last_error());
		else if (l->to)
			memcpy(l->to, rdt_window_slot(w, w->landed), l->length);
		t->landings--;
	}
	return n;
}

void rdt_window_forget(rdt_window *w, int rank, uint64_t first)
{
	for (uint64_t i = first > w->landed ? first : w->landed; i < w->landings; i++)
		if (w->landing[i % RDT_WINDOW_SLOTS].rank == rank)
			w->landing[i % RDT_WINDOW_SLOTS].to = NULL;
}

static int hook_progress(void *arg)
{
	rdt_window *w = arg;
	int n = w->ops->progress(w->transport);

	if (n < 0) {
		rdt_window_failures(w);
		n = 1;
	}
	return n + land(w);
}

static struct pollfd *hook_fds(void *arg, int *n)
{
	rdt_window *w = arg;
	rdt_comm *comm = w->comm;

	*n = comm->fds_of[0] = w->ops->fds(w->transport, comm->fds, comm->fds_capacity - 1);
	if (comm->boot_ops->fd(comm->boot) >= 0)
		comm->fds[(*n)++] =
			(struct pollfd){ .fd = comm->boot_ops->fd(comm->boot), .events = POLLIN };
	return comm->fds;
}

static int hook_arm(void *arg)
{
	rdt_window *w = arg;

	return w->ops->arm(w->transport) != 0;
}

static int hook_woken(void *arg, struct pollfd *fds, int n)
{
	rdt_window *w = arg;
	int own = w->comm->fds_of[0];

	if (w->ops->woken(w->transport, fds, own) < 0)
		rdt_window_failures(w);
	if (own < n && fds[own].revents)
		watch(w);
	return 0;
}

static int64_t hook_wake_by(void *arg)
{
	(void)arg;
	return INT64_MAX;
}

static bool hook_done(void *arg, void *what)
{
	struct rdt_window_wait *wait = what;

	return ((rdt_window *)arg)->failed || wait->done(arg, wait);
}

static const struct rdt_wait_hooks hooks = {
	.progress = hook_progress,
	.done = hook_done,
	.fds = hook_fds,
	.arm = hook_arm,
	.woken = hook_woken,
	.wake_by = hook_wake_by,
};

int rdt_window_wait(rdt_window *w, struct rdt_window_wait *wait, const char *doing)
{
	double seconds = w->comm->config.timeout_s;
	int status = rdt_wait_until(&hooks, w, wait, &w->comm->policy, rdt_deadline(seconds));

	if (status == RDT_ERR_TIMEOUT)
		return rdt_err(RDT_ERR_TIMEOUT,
			       "rank %d waited %.3g s for rank %d in %s; is the way to that host "
			       "blocked? (the deadline is RDTRAIN_TIMEOUT or "
			       "rdt_options.timeout_s)",
			       w->comm->rank, seconds, wait->rank, doing);
	return status;
}

int rdt_window_lost(rdt_window *w, int *ranks, int max)
{
	int n = 0;

	if (!w)
		return 0;
	if (w->ops) {
		hook_progress(w);
		rdt_wait_glance(&hooks, w);
	}
	for (int r = 0; r < w->comm->size; r++)
		if (w->targets[r].lost) {
			if (n < max)
				ranks[n] = r;
			n++;
		}
	return n;
}
