/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Moving everything on: transports, connections, programs; and waiting for it, through the wait
 * policy of lib/engine/wait.c.
 */
#include "comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"

#include "journal.h"
#include "prologue.h"
#include "trace.h"
#include "transfer.h"

/* Between calls of rdt_test, look at the descriptors this often. */
#define GLANCE_NS 20000000

/* A caller that polls less often than this is busy elsewhere: that time is its own. */
#define AWAY_NS 1000000000

static void deactivate(rdt_plan *plan)
{
	rdt_comm *comm = plan->comm;

	if (plan->prev_active)
		plan->prev_active->next_active = plan->next_active;
	else
		comm->active = plan->next_active;
	if (plan->next_active)
		plan->next_active->prev_active = plan->prev_active;
	plan->next_active = plan->prev_active = NULL;
}

/* A call into a transport failed: why is in its failures, or in the sentence it set. */
static int fail(rdt_comm *comm, int status)
{
	char text[768];

	snprintf(text, sizeof(text), "%s", rdt_last_error());
	return rdt_fail_transports(comm, status, text);
}

static int advance(rdt_plan *plan)
{
	rdt_comm *comm = plan->comm;
	int n = rdt_engine_advance(&plan->program);

	if (n < 0)
		return fail(comm, n);
	if (!plan->program.running) {
		deactivate(plan);
		if (plan->base)
			rdt_prologue_part_over(plan);
		else if (!plan->bound)
			rdt_request_finished(plan);
		else
			rdt_trace_operation(comm, &plan->call, plan->algorithm, plan->from);
	}
	return n;
}

struct waited {
	rdt_comm *comm;
	bool *set;
};

static void note(void *arg, int peer)
{
	((struct waited *)arg)->set[peer] = true;
}

/* A rank that has left will send nothing more: whoever still waits for it waits in vain. */
static void tell_left(void *arg, int peer)
{
	rdt_comm *comm = ((struct waited *)arg)->comm;

	if (comm->peers[peer].left && !comm->failed)
		rdt_fail(comm, RDT_ERR_PEER_LOST, peer,
			 "rank %d has left the communicator while rank %d still waits for it", peer,
			 comm->rank);
}

int rdt_progress(rdt_comm *comm)
{
	int done = 0, heard;

	if (comm->failed)
		return rdt_fail_again(comm);
	for (int t = 0; t < comm->n_transports; t++) {
		int n = comm->transports[t].ops->progress(comm->transports[t].handle);

		if (n < 0)
			return fail(comm, n);
		done += n;
	}
	heard = done;
	if (comm->connecting) {
		int n = rdt_peers_progress(comm);

		if (n < 0)
			return n;
		done += n;
	}
	if (comm->opening) {
		int n = rdt_transfer_progress(comm);

		if (n < 0)
			return n;
		done += n;
	}
	for (rdt_plan *plan = comm->active, *next; plan; plan = next) {
		int n;

		next = plan->next_active;
		n = advance(plan);
		if (n < 0)
			return n;
		if (comm->failed) /* found when an operation ended */
			return rdt_fail_again(comm);
		done += n;
	}
	/* What transports hear is not always for an operation: reads of journals go on for as long
	 * as one waits. */
	comm->moves += (unsigned)(done - heard);
	if (comm->someone_left && done == 0) {
		struct waited waited = { .comm = comm };

		/* A failure ends all programs, so go from the first one again each time. */
		for (rdt_plan *plan = comm->active; plan && !comm->failed; plan = plan->next_active)
			rdt_engine_waits_for(&plan->program, tell_left, &waited);
		for (int r = 0; r < comm->size && comm->opening; r++)
			if (rdt_transfer_waits_for(comm, r))
				tell_left(&waited, r);
		if (comm->failed)
			return rdt_fail_again(comm);
	}
	return done;
}

void rdt_plan_activate(rdt_plan *plan)
{
	rdt_engine_start(&plan->program);
	rdt_plan_link(plan);
}

void rdt_plan_link(rdt_plan *plan)
{
	rdt_comm *comm = plan->comm;

	comm->unwatched = true;
	plan->started = true;
	plan->polled = 0; /* the deadline of a caller who polls begins when he first does */
	plan->prev_active = NULL;
	plan->next_active = comm->active;
	if (comm->active)
		comm->active->prev_active = plan;
	comm->active = plan;
}

/* ---- the hooks of the wait policy ---------------------------------------------------------------
 */

static int hook_progress(void *arg)
{
	return rdt_progress(arg);
}

/* Room for what all transports and the rendezvous can want watched: two descriptors a transport,
 * one for each of its peers, one for the rendezvous. */
int rdt_progress_fds(rdt_comm *comm)
{
	comm->fds_capacity = RDT_TRANSPORTS * (comm->size + 8) + 1;
	comm->fds = calloc((size_t)comm->fds_capacity, sizeof(*comm->fds));
	return comm->fds ? 0
			 : rdt_err(RDT_ERR_NOMEM, "out of memory for %d descriptors",
				   comm->fds_capacity);
}

static struct pollfd *hook_fds(void *arg, int *n)
{
	rdt_comm *comm = arg;

	*n = 0;
	for (int t = 0; t < comm->n_transports; t++) {
		comm->fds_of[t] = comm->transports[t].ops->fds(
			comm->transports[t].handle, comm->fds + *n, comm->fds_capacity - *n);
		*n += comm->fds_of[t];
	}
	if (comm->boot && comm->boot_ops->fd(comm->boot) >= 0)
		comm->fds[(*n)++] =
			(struct pollfd){ .fd = comm->boot_ops->fd(comm->boot), .events = POLLIN };
	return comm->fds;
}

/* What one who waits does now and then: asks whether the rendezvous is there, and what the others
 * are doing. */
static int look_around(rdt_comm *comm)
{
	int status = 0;

	if (comm->boot && rdt_now() >= comm->boot_ops->watch_by(comm->boot))
		status = rdt_fail_watch(comm);
	return status < 0 ? status : rdt_journal_compare(comm);
}

static int hook_arm(void *arg)
{
	rdt_comm *comm = arg;
	int status = look_around(comm);

	if (status < 0)
		return status;
	for (int t = 0; t < comm->n_transports; t++) {
		status = comm->transports[t].ops->arm(comm->transports[t].handle);
		if (status < 0)
			return fail(comm, status);
		if (status)
			return 1;
	}
	return 0;
}

static int64_t hook_wake_by(void *arg)
{
	rdt_comm *comm = arg;
	int64_t journal = rdt_journal_next(comm), transfer = rdt_transfer_next(comm),
		boot = comm->boot ? comm->boot_ops->watch_by(comm->boot) : INT64_MAX, by;

	by = journal < transfer ? journal : transfer;
	return by < boot ? by : boot;
}

static int hook_woken(void *arg, struct pollfd *fds, int n)
{
	rdt_comm *comm = arg;
	int at = 0;

	comm->unwatched = true;
	for (int t = 0; t < comm->n_transports; t++) {
		int status = comm->transports[t].ops->woken(comm->transports[t].handle, fds + at,
							    comm->fds_of[t]);

		if (status < 0)
			return fail(comm, status);
		at += comm->fds_of[t];
	}
	if (at == n || !fds[at].revents)
		return 0;
	/* What is complete counts, whatever the rendezvous may have to tell. */
	rdt_progress(comm);
	return rdt_fail_watch(comm);
}

static bool hook_done(void *arg, void *what)
{
	rdt_comm *comm = arg;

	return comm->wait_done(comm, what);
}

const struct rdt_wait_hooks rdt_progress_hooks = {
	.progress = hook_progress,
	.done = hook_done,
	.fds = hook_fds,
	.arm = hook_arm,
	.woken = hook_woken,
	.wake_by = hook_wake_by,
};

int rdt_progress_glance(rdt_comm *comm)
{
	int status;

	comm->glanced = rdt_now();
	if (!comm->fds)
		return 0;
	status = rdt_wait_glance(&rdt_progress_hooks, comm);
	return status < 0 ? status : 0;
}

int rdt_progress_test(rdt_comm *comm)
{
	uint64_t moves = comm->moves;
	int n = rdt_progress(comm);

	if (n == 0 && rdt_now() - comm->glanced > GLANCE_NS) {
		n = rdt_progress_glance(comm);
		if (n == 0)
			n = look_around(comm);
		/* What the glance woke up may have been the last thing missing. */
		if (n == 0)
			n = rdt_progress(comm);
	}
	/* A caller that polls in a loop must not keep the processor from the rank it waits for. */
	if (n == 0 && comm->policy.crowded)
		rdt_wait_yield();
	return n < 0 ? n : comm->moves != moves;
}

void rdt_poll_clock(const rdt_comm *comm, bool moved, int64_t *polled, int64_t *deadline)
{
	int64_t now = rdt_now();

	if (moved || *polled == 0)
		*deadline = now + (int64_t)(comm->config.timeout_s * 1e9);
	else if (now - *polled > AWAY_NS)
		*deadline += now - *polled;
	*polled = now;
}

/* "ranks 1, 3", which are suspected from now on, or "" when the programs wait for no peer. */
static void suspect_waited(rdt_comm *comm, char *text, size_t size)
{
	struct waited waited = { .comm = comm, .set = calloc((size_t)comm->size, sizeof(bool)) };
	size_t n = 0;
	int count = 0;

	text[0] = '\0';
	if (!waited.set)
		return;
	for (rdt_plan *plan = comm->active; plan; plan = plan->next_active)
		rdt_engine_waits_for(&plan->program, note, &waited);
	for (int r = 0; r < comm->size; r++)
		if ((comm->peers[r].ep && !comm->peers[r].up) || rdt_transfer_waits_for(comm, r))
			waited.set[r] = true;
	for (int r = 0; r < comm->size; r++) {
		if (waited.set[r])
			rdt_fail_suspect(comm, r);
		if (waited.set[r] && n + 16 < size)
			n += (size_t)snprintf(text + n, size - n, "%s%d",
					      count++ ? ", " : " for rank ", r);
	}
	free(waited.set);
}

int rdt_progress_timeout(rdt_comm *comm, const char *doing, double seconds)
{
	char whom[256], operation[128] = "an operation";

	suspect_waited(comm, whom, sizeof(whom));
	if (!doing) {
		if (comm->active)
			rdt_call_describe(comm->active->base ? &comm->active->base->call
							     : &comm->active->call,
					  operation, sizeof(operation));
		doing = operation;
	}
	return rdt_fail(comm, RDT_ERR_TIMEOUT, -1,
			"rank %d waited %.3g s%s in %s without an answer; is that rank stopped, or "
			"did it make "
			"another call? (the deadline is RDTRAIN_TIMEOUT or rdt_options.timeout_s)",
			comm->rank, seconds, whom, doing);
}

int rdt_progress_until(rdt_comm *comm, bool (*done)(rdt_comm *comm, void *what), void *what,
		       int64_t deadline, const char *doing)
{
	int64_t from = rdt_now();
	int status;

	if (comm->failed)
		return rdt_fail_again(comm);
	comm->wait_done = done;
	status = rdt_wait_until(&rdt_progress_hooks, comm, what, &comm->policy, deadline);
	if (status == 0)
		return 0;
	if (!comm->failed && status == RDT_ERR_TIMEOUT)
		return rdt_progress_timeout(comm, doing, (double)(rdt_now() - from) / 1e9);
	return rdt_fail(comm, status, -1, "%s", rdt_last_error());
}

int rdt_progress_wait(rdt_comm *comm, bool (*done)(rdt_comm *comm, void *what), void *what,
		      double seconds)
{
	int status;

	if (comm->failed)
		return rdt_fail_again(comm);
	comm->wait_done = done;
	status = rdt_wait_briefly(&rdt_progress_hooks, comm, what, &comm->policy);
	if (status > 0)
		return 0;
	if (status < 0)
		return rdt_fail(comm, status, -1, "%s", rdt_last_error());
	return rdt_progress_until(comm, done, what, rdt_deadline(seconds), NULL);
}
