/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dissemination barrier: in round i every rank notifies the ranks 1, 2, .. k-1 times k^i to its
 * right and waits for those as far to its left. After ceil(log_k n) rounds each has heard, directly
 * or not, from all (Hensgen, Finkel and Manber, "Two algorithms for barrier synchronization", 1988,
 * for k = 2). A larger radix k has fewer rounds and more messages in each.
 */
#include "algorithms.h"

static struct rdt_cost cost(int size, int radix)
{
	struct rdt_cost cost = { 0 };

	for (int64_t distance = 1; distance < size; distance *= radix) {
		cost.rounds++;
		for (int j = 1; j < radix && j * distance < size; j++)
			cost.puts += (uint64_t)size;
	}
	return cost;
}

static int emit(const struct rdt_group *group, int radix, struct rdt_schedule *out)
{
	for (int64_t distance = 1; distance < group->size; distance *= radix) {
		for (int j = 1; j < radix && j * distance < group->size; j++) {
			int right = rdt_group_shift(group, group->rank, (int)(j * distance));

			rdt_notify(out, 0, rdt_group_peer(group, right));
		}
		for (int j = 1; j < radix && j * distance < group->size; j++) {
			int left = rdt_group_shift(group, group->rank, -(int)(j * distance));

			rdt_wait_for(out, 0, rdt_group_peer(group, left), 1);
		}
	}
	return rdt_schedule_finish(out);
}

int rdt_emit_barrier2(const struct rdt_group *group, const struct rdt_shape *shape,
		      struct rdt_schedule *out)
{
	(void)shape;
	return emit(group, 2, out);
}

int rdt_emit_barrier4(const struct rdt_group *group, const struct rdt_shape *shape,
		      struct rdt_schedule *out)
{
	(void)shape;
	return emit(group, 4, out);
}

int rdt_emit_barrier8(const struct rdt_group *group, const struct rdt_shape *shape,
		      struct rdt_schedule *out)
{
	(void)shape;
	return emit(group, 8, out);
}

struct rdt_cost rdt_cost_barrier2(int size, const struct rdt_shape *shape)
{
	(void)shape;
	return cost(size, 2);
}

struct rdt_cost rdt_cost_barrier4(int size, const struct rdt_shape *shape)
{
	(void)shape;
	return cost(size, 4);
}

struct rdt_cost rdt_cost_barrier8(int size, const struct rdt_shape *shape)
{
	(void)shape;
	return cost(size, 8);
}
