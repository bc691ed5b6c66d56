/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Plans behind plain calls. The first call of a shape makes a plan, later ones find it. Such a plan
 * says nothing about the user's buffers: peers write into its scratch only, so each rank may pass
 * other memory each time.
 *
 * Everything here is decided from the sequence of calls alone, which is the same on all ranks: that
 * is why the oldest plan is the one that makes room, and is waited for, rather than any idle one.
 */
#include "comm.h"

#include <string.h>

#include "lib/base/clock.h"

#define RDT_CACHED 128 /* shapes remembered; the other slots are for the user's plans */

static bool same(const rdt_comm *comm, const struct rdt_call *a, const struct rdt_call *b)
{
	if (a->collective != b->collective || a->type != b->type || a->op != b->op ||
	    a->root != b->root || !a->counts != !b->counts)
		return false;
	if (!a->counts)
		return a->count == b->count;
	/* The plan for all-to-alls with counts is for any counts. */
	return a->collective == RDT_COLL_ALLTOALL ||
	       memcmp(a->counts, b->counts, (size_t)comm->size * sizeof(*a->counts)) == 0;
}

static bool is_idle(rdt_comm *comm, void *what)
{
	(void)comm;
	return ((rdt_plan *)what)->queue == NULL;
}

static int make_room(rdt_comm *comm)
{
	rdt_plan *oldest = NULL;
	int cached = 0, status;

	for (rdt_plan *plan = comm->plans; plan; plan = plan->next) {
		if (plan->bound || plan->wire)
			continue;
		cached++;
		if (!oldest || plan->last_use < oldest->last_use)
			oldest = plan;
	}
	if (cached < RDT_CACHED)
		return 0;
	status = rdt_progress_until(comm, is_idle, oldest, rdt_deadline(comm->config.timeout_s),
				    NULL);
	if (status)
		return status;
	rdt_plan_free(oldest);
	return 0;
}

int rdt_onecall_plan(rdt_comm *comm, const struct rdt_call *call, rdt_plan **out)
{
	rdt_plan *plan;
	int status;

	comm->call_sequence++;
	for (plan = comm->plans; plan; plan = plan->next)
		if (!plan->bound && !plan->wire && same(comm, &plan->call, call))
			break;
	if (!plan) {
		status = make_room(comm);
		if (status)
			return status;
		status = rdt_plan_make(comm, call, false, &plan);
		if (status)
			return status;
	}
	plan->last_use = comm->call_sequence;
	*out = plan;
	return 0;
}
