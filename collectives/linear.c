/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The root with everybody, without anyone between: for small groups, and for gather and scatter,
 * where a tree would carry every block several times.
 *
 * Broadcast and scatter: each rank notifies the root that it is READY, the root puts to it. Gather
 * and reduce: the root notifies each rank that it is READY, that rank puts. So nobody puts before
 * the receiver has entered the run, and is through with its SCRATCH of the run before: one epoch is
 * enough. What is put is always INPUT or OUTPUT, never SCRATCH.
 *
 * Puts go straight to OUTPUT where that may be written, else into SCRATCH, from where the receiver
 * copies. The reduction is in the order of ranks.
 *
 * The root serves its right neighbour first, and the others behind it in order.
 */
#include <stdlib.h>

#include "algorithms.h"

/* A notification and a put for each rank but the root. */
static struct rdt_cost cost(int size, uint64_t bytes)
{
	return (struct rdt_cost){
		.rounds = size > 1 ? 2 : 0,
		.bytes = size > 1 ? bytes : 0,
		.puts = 2 * (uint64_t)(size - 1),
	};
}

static uint64_t sum_of_blocks(int size, const struct rdt_layout *layout, int except)
{
	uint64_t sum = 0;

	for (int i = 0; i < size; i++)
		sum += i == except ? 0 : layout->length[i];
	return sum;
}

struct rdt_cost rdt_cost_linear_broadcast(int size, const struct rdt_shape *shape)
{
	return cost(size, (uint64_t)(size - 1) * shape->bytes);
}

struct rdt_cost rdt_cost_linear_reduce(int size, const struct rdt_shape *shape)
{
	return cost(size, shape->bytes);
}

struct rdt_cost rdt_cost_linear_gather(int size, const struct rdt_shape *shape)
{
	return cost(size, shape->max_block);
}

struct rdt_cost rdt_cost_linear_scatter(int size, const struct rdt_shape *shape)
{
	return cost(size, sum_of_blocks(size, &shape->in, shape->root));
}

/* The k-th rank to the right of the root. */
static int other(const struct rdt_group *group, const struct rdt_shape *shape, int k)
{
	return rdt_group_shift(group, shape->root, k);
}

/* What a rank that is not the root does in a broadcast or a scatter. */
static void receive(const struct rdt_group *group, const struct rdt_shape *shape, uint64_t bytes,
		    struct rdt_schedule *out)
{
	int me = rdt_group_peer(group, group->rank), root = rdt_group_peer(group, shape->root);

	rdt_notify(out, 0, root);
	rdt_wait_for(out, 0, root, 1);
	if (!shape->remote_output)
		rdt_copy(out, 0, rdt_span(RDT_OUTPUT, me, 0, bytes),
			 rdt_span(RDT_SCRATCH, me, 0, bytes));
}

int rdt_emit_linear_broadcast(const struct rdt_group *group, const struct rdt_shape *shape,
			      struct rdt_schedule *out)
{
	enum rdt_buffer target = shape->remote_output ? RDT_OUTPUT : RDT_SCRATCH;
	int me = rdt_group_peer(group, group->rank);

	out->scratch_bytes = shape->remote_output || group->size == 1 ? 0 : shape->bytes;
	if (group->rank != shape->root) {
		receive(group, shape, shape->bytes, out);
		return rdt_schedule_finish(out);
	}
	for (int k = 1; k < group->size; k++) {
		int peer = rdt_group_peer(group, other(group, shape, k));

		rdt_wait_for(out, 0, peer, 1);
		rdt_put(out, 0, peer, rdt_span(target, peer, 0, shape->bytes),
			rdt_span(RDT_OUTPUT, me, 0, shape->bytes));
	}
	return rdt_schedule_finish(out);
}

int rdt_emit_linear_scatter(const struct rdt_group *group, const struct rdt_shape *shape,
			    struct rdt_schedule *out)
{
	const struct rdt_layout *in = &shape->in;
	enum rdt_buffer target = shape->remote_output ? RDT_OUTPUT : RDT_SCRATCH;
	int r = group->rank, me = rdt_group_peer(group, r);

	out->scratch_bytes = shape->remote_output || group->size == 1 ? 0 : shape->max_block;
	if (r != shape->root) {
		receive(group, shape, in->length[r], out);
		return rdt_schedule_finish(out);
	}
	for (int k = 1; k < group->size; k++) {
		int i = other(group, shape, k), peer = rdt_group_peer(group, i);

		rdt_wait_for(out, 0, peer, 1);
		rdt_put(out, 0, peer, rdt_span(target, peer, 0, in->length[i]),
			rdt_span(RDT_INPUT, me, in->offset[i], in->length[i]));
	}
	rdt_copy(out, 0, rdt_span(RDT_OUTPUT, me, 0, in->length[r]),
		 rdt_span(RDT_INPUT, me, in->offset[r], in->length[r]));
	return rdt_schedule_finish(out);
}

/* What the root begins a gather or a reduction with. */
static void invite(const struct rdt_group *group, const struct rdt_shape *shape,
		   struct rdt_schedule *out)
{
	for (int k = 1; k < group->size; k++)
		rdt_notify(out, 0, rdt_group_peer(group, other(group, shape, k)));
}

/* The slot of rank i in the root's SCRATCH; the root has none. */
static struct rdt_span slot_of(const struct rdt_group *group, const struct rdt_shape *shape, int i,
			       uint64_t size, uint64_t length)
{
	uint64_t slot = (uint64_t)(i > shape->root ? i - 1 : i);

	return rdt_span(RDT_SCRATCH, rdt_group_peer(group, shape->root), slot * size, length);
}

int rdt_emit_linear_reduce(const struct rdt_group *group, const struct rdt_shape *shape,
			   struct rdt_schedule *out)
{
	int n = group->size, r = group->rank, me = rdt_group_peer(group, r);
	int root = rdt_group_peer(group, shape->root);
	struct rdt_span input = rdt_span(RDT_INPUT, me, 0, shape->bytes);
	struct rdt_span output = rdt_span(RDT_OUTPUT, me, 0, shape->bytes);
	struct rdt_span *parts;

	out->scratch_bytes = (uint64_t)(n - 1) * shape->bytes;
	if (r != shape->root) {
		rdt_wait_for(out, 0, root, 1);
		rdt_put(out, 0, root, slot_of(group, shape, r, shape->bytes, shape->bytes), input);
		return rdt_schedule_finish(out);
	}
	parts = calloc((size_t)n, sizeof(*parts));
	if (!parts)
		return -1;
	for (int i = 0; i < n; i++)
		parts[i] = i == r ? input : slot_of(group, shape, i, shape->bytes, shape->bytes);
	invite(group, shape, out);
	for (int k = 1; k < n; k++)
		rdt_wait_for(out, 0, rdt_group_peer(group, other(group, shape, k)), 1);
	rdt_reduce_to(out, 0, RDT_STEP_FINAL, &output, 1, parts, n);
	free(parts);
	return rdt_schedule_finish(out);
}

int rdt_emit_linear_gather(const struct rdt_group *group, const struct rdt_shape *shape,
			   struct rdt_schedule *out)
{
	const struct rdt_layout *to = &shape->out;
	int n = group->size, r = group->rank, me = rdt_group_peer(group, r);
	int root = rdt_group_peer(group, shape->root);
	struct rdt_span input = rdt_span(RDT_INPUT, me, 0, to->length[r]);
	struct rdt_span there = rdt_span(RDT_OUTPUT, root, to->offset[r], to->length[r]);

	out->scratch_bytes = shape->remote_output ? 0 : (uint64_t)(n - 1) * shape->max_block;
	if (r != shape->root) {
		if (!shape->remote_output)
			there = slot_of(group, shape, r, shape->max_block, to->length[r]);
		rdt_wait_for(out, 0, root, 1);
		rdt_put(out, 0, root, there, input);
		return rdt_schedule_finish(out);
	}
	invite(group, shape, out);
	rdt_copy(out, 0, there, input);
	for (int k = 1; k < n; k++) {
		int i = other(group, shape, k);

		rdt_wait_for(out, 0, rdt_group_peer(group, i), 1);
		if (!shape->remote_output)
			rdt_copy(out, 0, rdt_span(RDT_OUTPUT, me, to->offset[i], to->length[i]),
				 slot_of(group, shape, i, shape->max_block, to->length[i]));
	}
	return rdt_schedule_finish(out);
}
