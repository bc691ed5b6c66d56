/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The failure state of a communicator, and its only writer. Failures come from three sources: the
 * rendezvous (a member's connection ended, a member gave up), a transport (a bad completion, a
 * process that is gone), and a deadline. Whichever comes first is told to all through the
 * rendezvous, which answers with a verdict: what it was and who is lost, the same for all. That is
 * what every pending and later call returns. Where the rendezvous does not answer, a rank goes by
 * what it knows itself.
 */
#include "comm.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"

#include "journal.h"
#include "thread.h"

#define WHO_DIED_S 0.1
#define VERDICT_S 0.45 /* the service gives it after 0.3 s at the latest */

static void end_everything(rdt_comm *comm)
{
	for (rdt_plan *plan = comm->active; plan; plan = plan->next_active) {
		plan->program.running = false;
		plan->cut_off = true;
	}
	comm->active = NULL;
	for (rdt_plan *plan = comm->plans; plan; plan = plan->next) {
		plan->next_active = plan->prev_active = NULL;
		for (struct rdt_request *r = plan->queue; r; r = r->next) {
			r->over = true;
			r->outcome = comm->failed;
			if (r->whole) {
				r->whole->over = true;
				r->whole->outcome = comm->failed;
			}
		}
		plan->queue = NULL;
		plan->queue_tail = &plan->queue;
	}
}

void rdt_fail_suspect(rdt_comm *comm, int rank)
{
	if (!comm->failed)
		comm->peers[rank].lost = true;
}

/* "rank 1", "ranks 1, 3": the lost; "" for none. How many. */
static int name_lost(const rdt_comm *comm, char *text, size_t size)
{
	size_t n = 0;
	int count = 0;

	text[0] = '\0';
	for (int r = 0; r < comm->size; r++)
		count += comm->peers[r].lost;
	for (int r = 0, named = 0; r < comm->size && n + 16 < size; r++)
		if (comm->peers[r].lost)
			n += (size_t)snprintf(text + n, size - n, "%s%d",
					      named++	  ? ", "
					      : count > 1 ? "ranks "
							  : "rank ",
					      r);
	return count;
}

bool rdt_is_everybodys(int status)
{
	return status == RDT_ERR_PEER_LOST || status == RDT_ERR_TIMEOUT ||
	       status == RDT_ERR_MISMATCH || status == RDT_ERR_CORRUPT || status == RDT_ERR_ABORTED;
}

static void take_verdict(rdt_comm *comm, const struct rdt_verdict *v)
{
	bool mine = v->rank == comm->rank;
	char lost[128];

	comm->judged = true;
	for (int r = 0; r < comm->size; r++)
		comm->peers[r].lost = v->lost[r / 8] >> (r % 8) & 1;
	/* What is wrong with this rank alone it knows better. */
	if (!rdt_is_everybodys(comm->failed))
		return;
	if (!mine) {
		/* A loss, a deadline, a mismatch and a corruption are everybody's; what else ended
		 * that rank was its own. */
		comm->failed = rdt_is_everybodys(v->status) ? v->status : RDT_ERR_ABORTED;
		snprintf(comm->failure, sizeof(comm->failure),
			 v->rank < 0 ? "%s" : "%s (told by rank %d)", v->text, v->rank);
	}
	if (name_lost(comm, lost, sizeof(lost)) > 1 ||
	    (lost[0] && comm->failed == RDT_ERR_TIMEOUT)) {
		size_t n = strlen(comm->failure);

		snprintf(comm->failure + n, sizeof(comm->failure) - n, "; lost: %s", lost);
	}
}

/* Without a verdict nobody knows whether a process of another host is gone, or the whole host, or
 * this one's link: with one rank of a host all are held for lost, as the rendezvous does with a
 * silent host, so that the ranks of this host come to the same. */
static void lose_hosts(rdt_comm *comm)
{
	char lost[128];
	size_t n = strlen(comm->failure);

	if (comm->failed == RDT_ERR_PEER_LOST && comm->host)
		for (int r = 0; r < comm->size; r++)
			for (int q = 0; q < comm->size && comm->peers[r].lost; q++)
				if (comm->host[q] == comm->host[r] &&
				    comm->host[q] != comm->host[comm->rank])
					comm->peers[q].lost = true;
	if (name_lost(comm, lost, sizeof(lost)) > 1)
		snprintf(comm->failure + n, sizeof(comm->failure) - n,
			 "; lost, as far as can be told without the rendezvous: %s", lost);
}

static void await_verdict(rdt_comm *comm)
{
	int64_t deadline = rdt_deadline(VERDICT_S);

	while (comm->boot && !comm->judged) {
		struct pollfd fd = { .events = POLLIN };
		struct rdt_verdict verdict;
		int n = comm->boot_ops->verdict(comm->boot, &verdict);

		if (n == 1)
			take_verdict(comm, &verdict);
		else if (n < 0 || rdt_now() >= deadline)
			return;
		else {
			fd.fd = comm->boot_ops->fd(comm->boot);
			poll(&fd, 1, rdt_left_ms(deadline));
		}
	}
}

static void tell(rdt_comm *comm)
{
	unsigned char *lost = calloc(1, (size_t)comm->size / 8 + 1);

	for (int r = 0; lost && r < comm->size; r++)
		lost[r / 8] |= (unsigned char)(comm->peers[r].lost << (r % 8));
	comm->boot_ops->abort(comm->boot, comm->failed, lost, comm->failure);
	free(lost);
}

int rdt_fail(rdt_comm *comm, int status, int rank, const char *format, ...)
{
	va_list args;

	if (comm->failed)
		return rdt_fail_again(comm);
	if (rank >= 0 && rank < comm->size)
		comm->peers[rank].lost = true;
	/* Whom the rendezvous missed without naming it: whoever has left. */
	for (int r = 0; status == RDT_ERR_PEER_LOST && rank < 0 && r < comm->size; r++)
		comm->peers[r].lost = comm->peers[r].lost || comm->peers[r].left;

	va_start(args, format);
	vsnprintf(comm->failure, sizeof(comm->failure), format, args);
	va_end(args);
	comm->failed = status;
	for (int t = 0; t < comm->n_transports; t++)
		comm->transports[t].ops->shutdown(comm->transports[t].handle);
	if (comm->boot) {
		tell(comm);
		await_verdict(comm);
		if (!comm->judged) {
			lose_hosts(comm);
			rdt_journal_last_words(comm);
		}
	}
	rdt_info("communicator failed: %s: %s", rdt_strerror(comm->failed), comm->failure);
	end_everything(comm);
	return rdt_fail_again(comm);
}

int rdt_fail_again(rdt_comm *comm)
{
	return rdt_err(comm->failed, "%s", comm->failure);
}

int rdt_fail_watch(rdt_comm *comm)
{
	struct rdt_bootstrap_event event;

	while (comm->boot && comm->boot_ops->watch(comm->boot, &event) == 1) {
		switch (event.kind) {
		case RDT_EVENT_LOST:
			rdt_fail(comm, RDT_ERR_PEER_LOST, event.rank,
				 "rank %d is lost: its connection to the rendezvous ended without "
				 "a good-bye "
				 "(the process was killed, or its host is gone)",
				 event.rank);
			break;
		case RDT_EVENT_LEFT:
			if (event.rank >= 0 && event.rank < comm->size) {
				comm->peers[event.rank].left = true;
				comm->someone_left = true;
			}
			break;
		case RDT_EVENT_ABORT:
			rdt_fail(comm, RDT_ERR_ABORTED, -1, "rank %d has given up: %s", event.rank,
				 event.text);
			break;
		case RDT_EVENT_SERVICE:
			/* What connections are for needs the rendezvous when they are up, and one
			 * to a host that is silent is given up very late. */
			if (comm->connecting)
				rdt_fail(comm, RDT_ERR_UNREACHABLE, -1,
					 "the rendezvous service is gone (%s) while rank %d "
					 "connects to %d others",
					 event.text, comm->rank, comm->connecting);
			rdt_warn("the rendezvous service is gone (%s): links that are up go on, "
				 "but no plan can be "
				 "made any more, and a rank on another host that dies is noticed "
				 "only by its links",
				 event.text);
			rdt_journal_hurry(comm);
			break;
		}
	}
	return comm->failed ? rdt_fail_again(comm) : 0;
}

/* A peer that dies while one connects to it refuses in words that fit a peer that lives. */
static bool may_be_a_death(int status)
{
	return status == RDT_ERR_PEER_LOST || status == RDT_ERR_UNREACHABLE;
}

/*
 * A link that ends may belong to a rank that died, or to one that gave up because another died. The
 * rendezvous knows which; it is asked first, for a short while.
 */
static void ask_who_died(rdt_comm *comm)
{
	int64_t deadline = rdt_deadline(WHO_DIED_S);

	while (comm->boot && !comm->failed && rdt_now() < deadline) {
		struct pollfd fd = { .fd = comm->boot_ops->fd(comm->boot), .events = POLLIN };

		if (fd.fd < 0) {
			rdt_journal_hear(comm); /* it may have said so itself */
			return;
		}
		if (rdt_fail_watch(comm) < 0)
			return;
		poll(&fd, 1, rdt_left_ms(deadline));
	}
}

int rdt_fail_peer(rdt_comm *comm, int rank, int status)
{
	char text[768];

	if (!may_be_a_death(status))
		return status;
	snprintf(text, sizeof(text), "%s", rdt_last_error());
	ask_who_died(comm);
	if (comm->failed)
		return rdt_fail_again(comm);
	if (status == RDT_ERR_UNREACHABLE)
		return rdt_err(status, "%s", text);
	return rdt_fail(comm, status, rank, "%s", text);
}

int rdt_fail_transports(rdt_comm *comm, int status, const char *text)
{
	for (int t = 0; t < comm->n_transports; t++) {
		struct rdt_open_transport *transport = &comm->transports[t];
		struct rdt_transport_failure failure;

		while (transport->ops->failure(transport->handle, &failure)) {
			if (may_be_a_death(failure.status))
				ask_who_died(comm);
			/* When the rendezvous has named a cause, this may be no more than its
			 * consequence. */
			if (!comm->failed)
				rdt_fail(comm, failure.status, failure.peer, "%s", failure.text);
		}
	}
	return rdt_fail(comm, status, -1, "%s", text);
}

int rdt_comm_lost(rdt_comm *comm, int *ranks, int max)
{
	int n = 0;

	if (!comm)
		return 0;
	rdt_enter(comm);
	rdt_progress_glance(comm);
	for (int r = 0; r < comm->size; r++)
		if (comm->peers[r].lost) {
			if (n < max)
				ranks[n] = r;
			n++;
		}
	rdt_leave(comm);
	return n;
}

int rdt_comm_abort(rdt_comm *comm)
{
	if (!comm)
		return rdt_err(RDT_ERR_INVALID, "rdt_comm_abort: no communicator");
	rdt_enter(comm);
	if (!comm->failed)
		rdt_fail(comm, RDT_ERR_ABORTED, -1, "rank %d called rdt_comm_abort", comm->rank);
	rdt_leave(comm);
	return 0;
}
