/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Plans behind plain calls. The first call of a shape makes a plan, later ones find it. Such a plan
 * says nothing about the user's buffers, so each rank may pass other memory each time: peers write
 * into its scratch only, or into buffers that were offered for the one operation (prologue.c).
 *
 * Everything here is decided from the sequence of calls alone, which is the same on all ranks: that
 * is why the oldest plan is the one that makes room, and is waited for, rather than any idle one.
 */
#include "comm.h"

#include <string.h>

#include "lib/base/clock.h"

#include "transfer.h"

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

/* Where in comm->shapes the plan for a call is, if it is there. */
static rdt_plan **shape_of(rdt_comm *comm, const struct rdt_call *call)
{
	uint64_t hash = call->count * 16 + (uint64_t)call->collective;

	hash = (hash * 16 + (uint64_t)call->type) * 8 + (uint64_t)call->op;
	hash = (hash ^ (uint64_t)call->root << 40) * UINT64_C(0x9e3779b97f4a7c15);
	return &comm->shapes[hash >> 57];
}

static bool is_idle(rdt_comm *comm, void *what)
{
	(void)comm;
	const rdt_plan *plan = what;

	return !plan->queue && plan->awaited == 0;
}

static rdt_plan *oldest(const rdt_comm *comm, int *cached)
{
	rdt_plan *oldest = NULL;

	*cached = 0;
	for (rdt_plan *plan = comm->plans; plan; plan = plan->next) {
		if (plan->bound || plan->wire || plan->base)
			continue;
		++*cached;
		if (!plan->kept && (!oldest || plan->last_use < oldest->last_use))
			oldest = plan;
	}
	return oldest;
}

static int forget(rdt_comm *comm, rdt_plan *plan)
{
	int status =
		rdt_progress_wait(comm, is_idle, plan, comm->config.timeout_s);

	if (!status)
		rdt_plan_free(plan);
	return status;
}

int rdt_onecall_room(rdt_comm *comm, int slots)
{
	for (;;) {
		int free = 0, cached, status;
		rdt_plan *plan = oldest(comm, &cached);

		for (int slot = 0; slot < RDT_SLOTS - RDT_WIRE_SLOTS; slot++)
			free += !comm->slot_used[slot];
		if (free >= slots)
			return 0;
		/* All ranks hand out the same slots, so all find the last one taken alike. */
		if (!plan)
			return rdt_err(RDT_ERR_NOMEM,
				       "%d plans are alive on this communicator, and there is room "
				       "for %d; destroy some first",
				       RDT_SLOTS - RDT_WIRE_SLOTS - free,
				       RDT_SLOTS - RDT_WIRE_SLOTS);
		status = forget(comm, plan);
		if (status)
			return status;
	}
}

rdt_plan *rdt_onecall_find(rdt_comm *comm, const struct rdt_call *call)
{
	rdt_plan **shape = shape_of(comm, call), *plan = *shape;

	if (plan && same(comm, &plan->call, call))
		return plan;
	for (plan = comm->plans; plan; plan = plan->next)
		if (!plan->bound && !plan->wire && !plan->base && same(comm, &plan->call, call)) {
			*shape = plan;
			return plan;
		}
	return NULL;
}

void rdt_onecall_gone(rdt_plan *plan)
{
	for (size_t i = 0; i < sizeof(plan->comm->shapes) / sizeof(plan->comm->shapes[0]); i++)
		if (plan->comm->shapes[i] == plan)
			plan->comm->shapes[i] = NULL;
}

int rdt_onecall_plan(rdt_comm *comm, const struct rdt_call *call, rdt_plan **out)
{
	rdt_plan *plan;
	int status, cached;

	comm->call_sequence++;
	plan = rdt_onecall_find(comm, call);
	if (!plan) {
		rdt_plan *old = oldest(comm, &cached);

		status = old && cached >= RDT_CACHED ? forget(comm, old) : 0;
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
