/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dissemination barrier: in round k every rank notifies the rank 2^k to its right and waits for the
 * one 2^k to its left. After ceil(log2 n) rounds each has heard, directly or not, from all
 * (Hensgen, Finkel and Manber, "Two algorithms for barrier synchronization", 1988).
 */
#include "algorithms.h"

struct rdt_cost rdt_cost_barrier(int size, const struct rdt_shape *shape)
{
	struct rdt_cost cost = { 0 };

	(void)shape;
	for (int64_t distance = 1; distance < size; distance *= 2)
		cost.rounds++;
	cost.puts = (uint64_t)cost.rounds * (uint64_t)size;
	return cost;
}

int rdt_emit_barrier(const struct rdt_group *group, const struct rdt_shape *shape,
		     struct rdt_schedule *out)
{
	(void)shape;
	for (int distance = 1; distance < group->size; distance *= 2) {
		rdt_notify(out, 0,
			   rdt_group_peer(group, rdt_group_shift(group, group->rank, distance)));
		rdt_wait_for(out, 0,
			     rdt_group_peer(group, rdt_group_shift(group, group->rank, -distance)),
			     1);
	}
	return rdt_schedule_finish(out);
}
