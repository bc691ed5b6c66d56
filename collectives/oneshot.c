/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One-shot allreduce, for small vectors: one network latency.
 *
 * SCRATCH has a slot for the vector of each rank. Every rank copies its vector into its own slot,
 * puts it from there into the same slot of every other rank, waits for the others', and reduces all
 * slots in the order of ranks, so that the result has the same bits everywhere.
 *
 * Why the copy: a put reads its source at any time until the peer has it, and when OUTPUT is INPUT
 * the reduction would overwrite a source that is still being read.
 *
 * Why two epochs of scratch: a rank that has everybody's vector is through, and may put its next
 * one into the slot of a rank that has yet to reduce. By the time it puts the one after that, it
 * has had that rank's next vector, which was sent after the reduction.
 */
#include <stdlib.h>

#include "algorithms.h"

struct rdt_cost rdt_cost_oneshot(int size, const struct rdt_shape *shape)
{
	uint64_t n = (uint64_t)size;

	return (struct rdt_cost){
		.rounds = size > 1,
		.bytes = (n - 1) * shape->bytes,
		.puts = n * (n - 1),
	};
}

int rdt_emit_oneshot(const struct rdt_group *group, const struct rdt_shape *shape,
		     struct rdt_schedule *out)
{
	int n = group->size, me = rdt_group_peer(group, group->rank);
	struct rdt_span *slots = calloc((size_t)n, sizeof(*slots));
	struct rdt_span input = rdt_span(RDT_INPUT, me, 0, shape->bytes);
	struct rdt_span output = rdt_span(RDT_OUTPUT, me, 0, shape->bytes);

	if (!slots)
		return -1;
	out->scratch_epochs = 2;
	for (int i = 0; i < n; i++)
		slots[i] = rdt_span(RDT_SCRATCH, me, (uint64_t)i * shape->bytes, shape->bytes);

	if (n == 1) {
		rdt_reduce_to(out, 0, RDT_STEP_FINAL, &output, 1, &input, 1);
		free(slots);
		return rdt_schedule_finish(out);
	}
	rdt_copy(out, 0, slots[group->rank], input);
	/* Each begins with its right neighbour, so that they do not all write to rank 0 first. */
	for (int k = 1; k < n; k++) {
		int peer = rdt_group_peer(group, rdt_group_shift(group, group->rank, k));
		struct rdt_span there = slots[group->rank];

		there.rank = peer;
		rdt_put(out, 0, peer, there, slots[group->rank]);
	}
	for (int k = 1; k < n; k++)
		rdt_wait_for(out, 0, rdt_group_peer(group, rdt_group_shift(group, group->rank, -k)),
			     1);
	rdt_reduce_to(out, 0, RDT_STEP_FINAL, &output, 1, slots, n);
	free(slots);
	return rdt_schedule_finish(out);
}
