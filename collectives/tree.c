/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Binomial trees: broadcast here, reduction below.
 *
 * Broadcast: ceil(log2 n) rounds, each rank receives the vector once.
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

/*
 * Reduction: the mirror image. A child puts the sum of its subtree into a slot of its parent's
 * SCRATCH, one for each bit; the parent reduces its own INPUT and all slots in one pass: the root
 * into OUTPUT, the others into SCRATCH, behind the slots, from where they put it on.
 *
 * A leaf would never hear whether its parent's slot is free, so the parent begins its run with
 * READY to its children, and a child waits for it before its put. READY is not kept back until the
 * grandparent has consumed the parent's last sum, which may lie, when the lengths of two runs
 * differ, where a child will put; hence two epochs: READY of one run says that the parent has had
 * READY of the run before, which the grandparent sent after it had consumed the sum before that.
 */
struct rdt_cost rdt_cost_tree_reduce(int size, const struct rdt_shape *shape)
{
	struct rdt_cost cost = rdt_cost_tree_broadcast(size, shape);

	cost.bytes = size > 1 ? shape->bytes : 0;
	return cost;
}

/* Has rank v, from the root, a child for bit j? (If not, none for higher bits.) */
static bool has_child(int v, int j, int n)
{
	return (v == 0 || j < __builtin_ctz((unsigned)v)) && v + ((int64_t)1 << j) < n;
}

static int child_of(const struct rdt_group *group, const struct rdt_shape *shape, int v, int j)
{
	return rdt_group_peer(group, (v + (1 << j) + shape->root) % group->size);
}

/* Where the child for bit j puts the sum of its subtree. */
static struct rdt_span slot_of(int rank, int j, const struct rdt_shape *shape)
{
	return rdt_span(RDT_SCRATCH, rank, (uint64_t)j * shape->bytes, shape->bytes);
}

int rdt_emit_tree_reduce(const struct rdt_group *group, const struct rdt_shape *shape,
			 struct rdt_schedule *out)
{
	int n = group->size, me = rdt_group_peer(group, group->rank);
	int v = rdt_group_shift(group, group->rank, -shape->root);
	int lowest = v & -v, levels = 0, n_parts = 1;
	struct rdt_span input = rdt_span(RDT_INPUT, me, 0, shape->bytes), sum = input;
	struct rdt_span parts[32] = { input }; /* an int has fewer bits */

	while (((int64_t)1 << levels) < n)
		levels++;
	out->scratch_epochs = 2;
	out->scratch_bytes = n > 1 ? (uint64_t)(levels + 1) * shape->bytes : 0;

	for (int j = 0; j < levels && has_child(v, j, n); j++)
		rdt_notify(out, 0, child_of(group, shape, v, j));
	for (int j = 0; j < levels && has_child(v, j, n); j++) {
		rdt_wait_for(out, 0, child_of(group, shape, v, j), 1);
		parts[n_parts++] = slot_of(me, j, shape);
	}
	if (v == 0)
		sum = rdt_span(RDT_OUTPUT, me, 0, shape->bytes);
	else if (n_parts > 1)
		sum = slot_of(me, levels, shape);
	if (v == 0 || n_parts > 1)
		rdt_reduce_to(out, 0, v == 0 ? RDT_STEP_FINAL : 0, &sum, 1, parts, n_parts);
	if (v) {
		int parent = rdt_group_peer(group, (v - lowest + shape->root) % n);

		rdt_wait_for(out, 0, parent, 1);
		rdt_put(out, 0, parent, slot_of(parent, __builtin_ctz((unsigned)v), shape), sum);
	}
	return rdt_schedule_finish(out);
}
