/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The failure state of a communicator, and its only writer. Failures come from three sources: the
 * rendezvous (a member's connection ended, a member gave up), a transport (a bad completion, a
 * process that is gone), and a deadline. Whichever comes first decides what every pending and later
 * call returns; what comes later only adds to the set of lost ranks.
 */
#include "comm.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"

#include "thread.h"

#define WHO_DIED_S 0.1

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

int rdt_fail(rdt_comm *comm, int status, int rank, bool tell, const char *format, ...)
{
	va_list args;

	if (rank >= 0 && rank < comm->size)
		comm->peers[rank].lost = true;
	if (comm->failed)
		return rdt_fail_again(comm);
	/* Whom the rendezvous missed without naming it: whoever has left. */
	for (int r = 0; status == RDT_ERR_PEER_LOST && rank < 0 && r < comm->size; r++)
		comm->peers[r].lost = comm->peers[r].lost || comm->peers[r].left;

	va_start(args, format);
	vsnprintf(comm->failure, sizeof(comm->failure), format, args);
	va_end(args);
	comm->failed = status;
	rdt_info("communicator failed: %s: %s", rdt_strerror(status), comm->failure);
	for (int t = 0; t < comm->n_transports; t++)
		comm->transports[t].ops->shutdown(comm->transports[t].handle);
	end_everything(comm);
	if (tell && comm->boot) {
		char why[512];

		snprintf(why, sizeof(why), "%d %d %.480s", status, rank, comm->failure);
		comm->boot_ops->abort(comm->boot, why);
	}
	return rdt_fail_again(comm);
}

int rdt_fail_again(rdt_comm *comm)
{
	return rdt_err(comm->failed, "%s", comm->failure);
}

/* What another rank's rdt_fail wrote into its abort: status, lost rank, sentence. */
static int fail_as_told(rdt_comm *comm, const struct rdt_bootstrap_event *event)
{
	int status, rank, n = 0;

	if (sscanf(event->text, "%d %d %n", &status, &rank, &n) != 2 || n == 0 || status >= 0 ||
	    status < RDT_ERR_SYSTEM)
		return rdt_fail(comm, RDT_ERR_ABORTED, -1, false, "rank %d aborted the job: %s",
				event->rank, event->text);
	/* A loss, a deadline and a mismatch are everybody's; what else ended that rank was its own.
	 */
	if (status != RDT_ERR_PEER_LOST && status != RDT_ERR_TIMEOUT && status != RDT_ERR_MISMATCH)
		status = RDT_ERR_ABORTED;
	return rdt_fail(comm, status, rank, false, "%s (told by rank %d)", event->text + n,
			event->rank);
}

int rdt_fail_watch(rdt_comm *comm)
{
	struct rdt_bootstrap_event event;

	while (comm->boot && comm->boot_ops->watch(comm->boot, &event) == 1) {
		switch (event.kind) {
		case RDT_EVENT_LOST:
			rdt_fail(comm, RDT_ERR_PEER_LOST, event.rank, false,
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
		case RDT_EVENT_ABORT: fail_as_told(comm, &event); break;
		case RDT_EVENT_SERVICE:
			rdt_warn("the rendezvous service is gone (%s): links that are up go on, "
				 "but no plan can be "
				 "made any more, and a rank on another host that dies is noticed "
				 "only by its links",
				 event.text);
			break;
		}
	}
	return comm->failed ? rdt_fail_again(comm) : 0;
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

		if (fd.fd < 0 || rdt_fail_watch(comm) < 0)
			return;
		poll(&fd, 1, rdt_left_ms(deadline));
	}
}

int rdt_fail_peer(rdt_comm *comm, int rank, int status)
{
	char text[768];

	if (status != RDT_ERR_PEER_LOST)
		return status;
	snprintf(text, sizeof(text), "%s", rdt_last_error());
	ask_who_died(comm);
	if (comm->failed)
		return rdt_fail_again(comm);
	return rdt_fail(comm, status, rank, true, "%s", text);
}

int rdt_fail_transports(rdt_comm *comm, int status, const char *text)
{
	for (int t = 0; t < comm->n_transports; t++) {
		struct rdt_open_transport *transport = &comm->transports[t];
		struct rdt_transport_failure failure;

		while (transport->ops->failure(transport->handle, &failure)) {
			if (failure.status == RDT_ERR_PEER_LOST)
				ask_who_died(comm);
			/* When the rendezvous has named a cause, this may be no more than its
			 * consequence. */
			if (!comm->failed)
				rdt_fail(comm, failure.status, failure.peer, true, "%s",
					 failure.text);
		}
	}
	return rdt_fail(comm, status, -1, true, "%s", text);
}

int rdt_comm_lost(rdt_comm *comm, int *ranks, int max)
{
	int n = 0;

	if (!comm)
		return 0;
	rdt_enter(comm);
	/* Others may have been lost since the first. */
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
		rdt_fail(comm, RDT_ERR_ABORTED, -1, true, "rank %d called rdt_comm_abort",
			 comm->rank);
	rdt_leave(comm);
	return 0;
}
