/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One-sided access (window.h). A window is a communicator of its own, with its own connections,
 * of which only the transport and the watch at the rendezvous are used once it is made: nothing of
 * lib/comm's failure state, so that a lost rank is lost to those who call on it and to nobody else.
 *
 * Answers (reads into memory that is not the window's own, and what atomics return) land in slots
 * of registered memory, a ring that is taken and given back in order.
 */
#include <rdtrain/window.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"

#include "comm.h"
#include "thread.h"

#define SLOTS 64u
#define SLOT_BYTES 65536u
#define PIECE ((size_t)1 << 20) /* the longest access in one work request */
#define WHY 512

/* An answer under way. */
struct landing {
	void *to;
	size_t length;
	int rank;
	uint64_t number; /* the endpoint's count of completed puts when it is there */
};

struct target {
	uint64_t bytes;
	struct rdt_remote *remote;
	struct rdt_ep *ep; /* NULL: own memory, reached by the processor */
	int landings;	   /* under way */
	bool touched;	   /* since the last flush */
	bool told;	   /* the transport has been told to complete what was called for */
	int lost;	   /* enum rdt_status; 0: it is there */
	char why[WHY];
};

struct rdt_window {
	rdt_comm *comm;
	const struct rdt_transport_ops *ops; /* NULL in a world of one */
	struct rdt_transport *transport;
	struct rdt_block block; /* of the library's memory; base NULL: the caller's, or none */
	char *base;
	size_t bytes;
	struct rdt_region *own, *slots_region;
	struct rdt_block slots;
	struct landing landing[SLOTS];
	uint64_t landings, landed; /* begun and over, since the beginning */
	struct target *targets;	   /* by rank */
	int failed;		   /* the transport as a whole */
	char why[WHY];
};

/* ---- who is there ---------------------------------------------------------------------------- */

static void lose(rdt_window *w, int rank, int status, const char *why)
{
	struct target *t;

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

static void take_failures(rdt_window *w)
{
	struct rdt_transport_failure failure;

	while (w->ops->failure(w->transport, &failure))
		lose(w, failure.peer, failure.status, failure.text);
}

static void watch(rdt_window *w)
{
	const struct rdt_bootstrap_ops *ops = w->comm->boot_ops;
	struct rdt_bootstrap_event event;
	char text[WHY];

	while (w->comm->boot && ops->watch(w->comm->boot, &event) == 1) {
		switch (event.kind) {
		case RDT_EVENT_LOST:
			snprintf(text, sizeof(text),
				 "rank %d is lost: its connection to the rendezvous ended without "
				 "a good-bye (the process was killed, or its host is gone)",
				 event.rank);
			lose(w, event.rank, RDT_ERR_PEER_LOST, text);
			break;
		case RDT_EVENT_LEFT:
		case RDT_EVENT_ABORT:
			snprintf(text, sizeof(text), "rank %d has destroyed its window",
				 event.rank);
			lose(w, event.rank, RDT_ERR_PEER_LOST, text);
			break;
		case RDT_EVENT_SERVICE:
			rdt_warn("the rendezvous service is gone (%s): a window notices the loss "
				 "of a rank by its connections only",
				 event.text);
			break;
		}
	}
}

static int gone(const rdt_window *w, int rank)
{
	const struct target *t = &w->targets[rank];

	if (w->failed)
		return rdt_err((enum rdt_status)w->failed, "%s", w->why);
	return t->lost ? rdt_err((enum rdt_status)t->lost, "%s", t->why) : 0;
}

/* ---- moving on ------------------------------------------------------------------------------- */

static char *slot_of(const rdt_window *w, uint64_t number)
{
	return (char *)w->slots.base + number % SLOTS * SLOT_BYTES;
}

/* Copies answers to where they belong. Those of a connection that failed will not come; those of a
 * rank that is merely said to be lost may, and keep their slots until then. */
static int land(rdt_window *w)
{
	int n = 0;

	for (; w->landed != w->landings; w->landed++, n++) {
		struct landing *l = &w->landing[w->landed % SLOTS];
		struct target *t = &w->targets[l->rank];
		bool there = rdt_ep_head(t->ep)->completed >= l->number;

		if (!there && w->ops->connected(t->ep) >= 0)
			break;
		if (!there)
			lose(w, l->rank, RDT_ERR_PEER_LOST, rdt_last_error());
		else if (l->to)
			memcpy(l->to, slot_of(w, w->landed), l->length);
		t->landings--;
	}
	return n;
}

static int hook_progress(void *arg)
{
	rdt_window *w = arg;
	int n = w->ops->progress(w->transport);

	if (n < 0) {
		take_failures(w);
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
		take_failures(w);
	if (own < n && fds[own].revents)
		watch(w);
	return 0;
}

static int64_t hook_wake_by(void *arg)
{
	(void)arg;
	return INT64_MAX;
}

struct wait {
	bool (*done)(rdt_window *w, struct wait *wait);
	int rank;
	uint64_t number;
	struct access *access;
	int status;
};

static bool hook_done(void *arg, void *what)
{
	struct wait *wait = what;

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

static int wait_for(rdt_window *w, struct wait *wait, const char *doing)
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

/* ---- access ---------------------------------------------------------------------------------- */

enum kind { PUT, GET, ATOMIC };

/* One work request's worth. */
struct access {
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
static int into_slot(rdt_window *w, struct access *a)
{
	struct target *t = &w->targets[a->rank];
	char *slot = slot_of(w, w->landings);
	int status;

	if (w->landings - w->landed == SLOTS)
		return RDT_AGAIN;
	if (a->kind == GET)
		status = w->ops->get(t->ep, t->remote, a->offset, slot, w->slots_region, a->length);
	else
		status = w->ops->onesided->atomic(t->ep, t->remote, a->offset, &a->atomic,
						  (uint64_t *)(void *)slot, w->slots_region);
	if (status)
		return status;
	a->number = w->landings++;
	w->landing[a->number % SLOTS] = (struct landing){ .to = a->here,
							  .length = a->length,
							  .rank = a->rank,
							  .number = rdt_ep_head(t->ep)->posted };
	t->landings++;
	return 0;
}

/* Where memory is mapped the answer is there at once. */
static int atomic_mapped(rdt_window *w, struct access *a)
{
	struct target *t = &w->targets[a->rank];
	uint64_t old;
	int status = w->ops->onesided->atomic(t->ep, t->remote, a->offset, &a->atomic, &old, NULL);

	if (!status && a->here)
		memcpy(a->here, &old, sizeof(old));
	a->over = true;
	return status;
}

static int try_access(rdt_window *w, struct access *a)
{
	struct target *t = &w->targets[a->rank];
	bool ours = w->own && a->here >= w->base && a->here < w->base + w->bytes &&
		    a->length <= (size_t)(w->base + w->bytes - a->here);
	int status = gone(w, a->rank);

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
		take_failures(w);
		if (status == RDT_ERR_PEER_LOST || w->ops->connected(t->ep) < 0)
			lose(w, a->rank, status, rdt_last_error());
		return gone(w, a->rank) ? gone(w, a->rank) : status;
	}
	return status;
}

static bool accessed(rdt_window *w, struct wait *wait)
{
	wait->status = try_access(w, wait->access);
	return wait->status != RDT_AGAIN;
}

static int access_there(rdt_window *w, struct access *a, const char *doing)
{
	struct wait wait = { .done = accessed, .rank = a->rank, .access = a };
	int status;

	if (accessed(w, &wait))
		return wait.status;
	status = wait_for(w, &wait, doing);
	if (!status && w->failed)
		return gone(w, a->rank);
	return status ? status : wait.status;
}

static void access_here(rdt_window *w, struct access *a)
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
		most = SLOT_BYTES;
		if (w->own && here >= w->base && here < w->base + w->bytes) {
			most = (size_t)(w->base + w->bytes - here);
			most = most < PIECE ? most : PIECE;
		}
	}
	return bytes < most ? bytes : most;
}

/* Answers since landing `first` from `rank`, should they come yet, go nowhere: the caller's memory
 * may be gone. */
static void forget(rdt_window *w, int rank, uint64_t first)
{
	for (uint64_t i = first > w->landed ? first : w->landed; i < w->landings; i++)
		if (w->landing[i % SLOTS].rank == rank)
			w->landing[i % SLOTS].to = NULL;
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
		struct access a = { .kind = kind, .rank = rank, .offset = offset + done };

		n = piece(w, kind, here + done, bytes - done);
		a.here = here + done;
		a.length = n;
		if (w->targets[rank].ep)
			status = access_there(w, &a, call);
		else
			access_here(w, &a);
	}
	if (status)
		forget(w, rank, first);
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

static bool has_landed(rdt_window *w, struct wait *wait)
{
	return w->landed > wait->number || w->targets[wait->rank].lost;
}

static int atomic(rdt_window *w, const char *call, int rank, size_t offset,
		  const struct rdt_atomic *what, uint64_t *old, bool waits)
{
	struct access a = { .kind = ATOMIC,
			    .rank = rank,
			    .offset = offset,
			    .length = sizeof(*old),
			    .here = (char *)old,
			    .atomic = *what,
			    .waits = waits };
	struct wait wait = { .done = has_landed, .rank = rank };
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
	status = wait_for(w, &wait, call);
	if (!status && w->landed > a.number && !w->targets[rank].lost)
		return 0;
	forget(w, rank, a.number);
	return status ? status : gone(w, rank);
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

/* ---- flush ----------------------------------------------------------------------------------- */

static bool flushed_one(rdt_window *w, int rank)
{
	struct target *t = &w->targets[rank];

	if (!t->touched || t->lost || !t->ep)
		return true;
	if (!t->told) {
		int status = w->ops->onesided->complete(t->ep);

		if (status == RDT_AGAIN)
			return false;
		if (status < 0) {
			take_failures(w);
			lose(w, rank, status, rdt_last_error());
			return true;
		}
		t->told = true;
	}
	if (rdt_ep_head(t->ep)->completed != rdt_ep_head(t->ep)->posted) {
		if (w->ops->connected(t->ep) < 0) {
			take_failures(w);
			lose(w, rank, RDT_ERR_PEER_LOST, rdt_last_error());
			return true;
		}
		return false;
	}
	return t->landings == 0;
}

static bool flushed(rdt_window *w, struct wait *wait)
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
	struct wait wait = { .done = flushed,
			     .rank = rank,
			     .number = rank < 0 ? UINT64_MAX : (uint64_t)rank };
	bool late;
	int status = 0;

	if (!w || rank >= w->comm->size || rank < -1)
		return rdt_err(RDT_ERR_INVALID, "rdt_window_flush: %s",
			       w ? "no such rank" : "window is NULL");
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (w->ops && !flushed(w, &wait))
		status = wait_for(w, &wait, "rdt_window_flush");
	/* The first of the lost is told last. */
	late = status == RDT_ERR_TIMEOUT;
	for (int r = w->comm->size - 1; r >= 0; r--) {
		struct target *t = &w->targets[r];

		if ((rank >= 0 && r != rank) || !t->touched)
			continue;
		if (late || t->lost || w->failed)
			forget(w, r, 0);
		if (late)
			continue;
		t->touched = false;
		if (gone(w, r))
			status = gone(w, r);
	}
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

/* ---- life ------------------------------------------------------------------------------------ */

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
	status = rdt_block_map((size_t)SLOTS * SLOT_BYTES, false, &w->slots);
	if (status)
		return status;
	return w->ops->mem_register(w->transport, w->slots.base, w->slots.bytes, w->slots.memfd, 0,
				    &w->slots_region);
}

static int import(rdt_window *w, int rank, int64_t deadline)
{
	struct target *t = &w->targets[rank];
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
