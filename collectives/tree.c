/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Binomial tree broadcast: ceil(log2 n) rounds, each rank receives the vector once.
 *
 * Ranks are numbered from the root: v = (rank - root) mod n. The parent of v is v without its
 * lowest bit; its children are v + 2^j for each 2^j below that bit (for the root: any) that stays
 * below n:
 *
 *	        0
 *	     /  |  \
 *	    4   2   1		n = 7: 4 has 6 and 5, 2 has 3
 *	   / \  |
 *	  6   5 3
 *
 * A child first notifies its parent that it is READY: it has entered the run, so its buffers may be
 * written. The parent waits for that, then puts: straight into OUTPUT where that may be written,
 * else into SCRATCH, from where the child copies. READY of the next run comes after that copy, so
 * one epoch of scratch is enough. The highest child, with the largest subtree, is served first.
 */
#include "algorithms.h"

struct rdt_cost rdt_cost_tree_broadcast(int size, const struct rdt_shape *shape)
{
	struct rdt_cost cost = { 0 };

	/* The root puts to each child, 2^j < size. The deepest rank has as many ancestors as bits
	 * are set in its number: at most floor(log2(size)). READY comes before. */
	for (int64_t bit = 1; bit < size; bit *= 2) {
		cost.bytes += shape->bytes;
		cost.rounds += 2 * bit <= size;
	}
	cost.rounds += size > 1;
	cost.puts = 2 * (uint64_t)(size - 1);
	return cost;
}

int rdt_emit_tree_broadcast(const struct rdt_group *group, const struct rdt_shape *shape,
			    struct rdt_schedule *out)
{
	int n = group->size, me = rdt_group_peer(group, group->rank);
	int v = rdt_group_shift(group, group->rank, -shape->root);
	int lowest = v & -v, top = 1;
	struct rdt_span output = rdt_span(RDT_OUTPUT, me, 0, shape->bytes);
	enum rdt_buffer target = shape->remote_output ? RDT_OUTPUT : RDT_SCRATCH;

	if (v) {
		int parent = rdt_group_peer(group, (v - lowest + shape->root) % n);

		rdt_notify(out, 0, parent);
		rdt_wait_for(out, 0, parent, 1);
		if (!shape->remote_output)
			rdt_copy(out, 0, output, rdt_span(RDT_SCRATCH, me, 0, shape->bytes));
	}
	while (2 * top < n)
		top *= 2;
	for (int bit = v ? lowest / 2 : top; bit > 0; bit /= 2) {
		int child;

		if (v + bit >= n)
			continue;
		child = rdt_group_peer(group, (v + bit + shape->root) % n);
		rdt_wait_for(out, 0, child, 1);
		rdt_put(out, 0, child, rdt_span(target, child, 0, shape->bytes), output);
	}
	return rdt_schedule_finish(out);
}
