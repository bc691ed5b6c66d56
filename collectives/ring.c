/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ring, for large vectors: each rank talks to its two neighbours only. A reduce-scatter or an
 * allgather puts (n-1)/n of the data, an allreduce, which is one after the other, 2(n-1)/n: the
 * least possible (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
 * workstations", 2009).
 *
 * The data is divided into n blocks, or comes in blocks; all arithmetic on ranks and blocks is
 * modulo n.
 *
 * Reduce-scatter. In round k = 0 .. n-2 rank r puts block r-k-1, as far as it is summed, into slot
 * k of its right neighbour's SCRATCH; and adds its own part of block r-k-2 to what its left
 * neighbour put into slot k here, in that slot, from where it is put in the next round. After n-1
 * rounds block r is complete at rank r.
 *
 * Allgather. In round k rank r puts block r-k to its right neighbour: straight into its OUTPUT
 * where that may be written, else into a slot of SCRATCH, to be copied; and receives block r-k-1.
 *
 * Who proves what. Slots are used once in a run. With a rank's notification comes the knowledge of
 * all ranks to its left, so that a rank that is through with the allgather of an allreduce knows
 * that all are through with the reduce-scatter: its slots are empty and what was put from them has
 * arrived, the next run may use them. All other slots need two epochs, because nobody hears that
 * the last of them were emptied until their owner sends again. A put into OUTPUT, which is INPUT
 * when in place, carries a block to which the owner has contributed, so it has entered the run and
 * its part has been read; in an allgather alone the owner tells its left neighbour first that it is
 * READY.
 */
#include "algorithms.h"
#include "parts.h"

/* ---- cost ------------------------------------------------------------------------------------ */

/* Of n-1 rounds for each phase. In the reduce-scatter rank r puts all blocks but r, in the
 * allgather all but r+1. */
static struct rdt_cost cost(const struct rdt_parts *parts, bool reduces, bool gathers, bool ready)
{
	int phases = reduces + gathers, n = parts->n;
	uint64_t all = (uint64_t)phases * rdt_parts_bytes(parts, 0, n);
	struct rdt_cost cost = { 0 };

	if (n == 1)
		return cost;
	for (int r = 0; r < n; r++) {
		uint64_t kept = (reduces ? rdt_part_bytes(parts, r) : 0) +
				(gathers ? rdt_part_bytes(parts, (r + 1) % n) : 0);

		if (all - kept > cost.bytes)
			cost.bytes = all - kept;
	}
	cost.rounds = phases * (n - 1) + ready;
	cost.puts = (uint64_t)n * (uint64_t)cost.rounds;
	return cost;
}

struct rdt_cost rdt_cost_ring(int size, const struct rdt_shape *shape)
{
	struct rdt_parts parts = rdt_parts_of_vector(size, shape);

	return cost(&parts, true, true, false);
}

struct rdt_cost rdt_cost_ring_reduce_scatter(int size, const struct rdt_shape *shape)
{
	struct rdt_parts parts = rdt_parts_of_layout(size, shape, &shape->in);

	return cost(&parts, true, false, false);
}

struct rdt_cost rdt_cost_ring_allgather(int size, const struct rdt_shape *shape)
{
	struct rdt_parts parts = rdt_parts_of_layout(size, shape, &shape->out);

	return cost(&parts, false, true, shape->remote_output);
}

/* ---- phases ---------------------------------------------------------------------------------- */

static int left_of(const struct rdt_group *group)
{
	return rdt_group_peer(group, rdt_group_shift(group, group->rank, -1));
}

static int right_of(const struct rdt_group *group)
{
	return rdt_group_peer(group, rdt_group_shift(group, group->rank, 1));
}

/* SCRATCH of one phase. */
static uint64_t slots_bytes(const struct rdt_parts *parts)
{
	return (uint64_t)(parts->n - 1) * parts->slot;
}

/* This rank's block is summed to `result`, through the first slots of SCRATCH. */
static void reduce(const struct rdt_group *group, const struct rdt_parts *parts,
		   struct rdt_span result, struct rdt_schedule *out)
{
	int n = group->size, r = group->rank, me = rdt_group_peer(group, r);
	int right = right_of(group);
	struct rdt_span put = rdt_part_span(parts, RDT_INPUT, me, rdt_group_shift(group, r, -1));

	for (int k = 0; k < n - 1; k++) {
		bool last = k == n - 2;
		struct rdt_span own =
			rdt_part_span(parts, RDT_INPUT, me, rdt_group_shift(group, r, -k - 2));
		uint64_t at = (uint64_t)k * parts->slot;
		struct rdt_span terms[] = { rdt_span(RDT_SCRATCH, me, at, own.length), own };

		rdt_put(out, 0, right, rdt_span(RDT_SCRATCH, right, at, put.length), put);
		rdt_wait_for(out, 0, left_of(group), 1);
		rdt_reduce_to(out, 0, last ? RDT_STEP_FINAL : 0, last ? &result : &terms[0], 1,
			      terms, 2);
		put = terms[0];
	}
}

/* OUTPUT has this rank's block and gets the others; through slots behind `base` when staged. */
static void gather(const struct rdt_group *group, const struct rdt_parts *parts, bool staged,
		   uint64_t base, struct rdt_schedule *out)
{
	int r = group->rank, me = rdt_group_peer(group, r), right = right_of(group);

	for (int k = 0; k < group->size - 1; k++) {
		int put = rdt_group_shift(group, r, -k), got = rdt_group_shift(group, r, -k - 1);
		struct rdt_span here = rdt_part_span(parts, RDT_OUTPUT, me, put);
		struct rdt_span there = rdt_part_span(parts, RDT_OUTPUT, right, put);
		struct rdt_span next = rdt_part_span(parts, RDT_OUTPUT, me, got);
		uint64_t at = base + (uint64_t)k * parts->slot;

		if (staged)
			there = rdt_span(RDT_SCRATCH, right, at, here.length);
		rdt_put(out, 0, right, there, here);
		rdt_wait_for(out, 0, left_of(group), 1);
		if (staged)
			rdt_copy(out, 0, next, rdt_span(RDT_SCRATCH, me, at, next.length));
	}
}

/* ---- the collectives ------------------------------------------------------------------------- */

/* A rank alone. */
static int emit_alone(struct rdt_span input, struct rdt_span output, struct rdt_schedule *out)
{
	rdt_reduce_to(out, 0, RDT_STEP_FINAL, &output, 1, &input, 1);
	return rdt_schedule_finish(out);
}

/* The size of SCRATCH is not left to the builder: with blocks of different lengths not every rank
 * uses all of it, and all ranks must have the same. */

int rdt_emit_ring(const struct rdt_group *group, const struct rdt_shape *shape,
		  struct rdt_schedule *out)
{
	struct rdt_parts parts = rdt_parts_of_vector(group->size, shape);
	int r = group->rank, me = rdt_group_peer(group, r);
	struct rdt_span result = rdt_part_span(&parts, RDT_OUTPUT, me, r);
	bool staged = !shape->remote_output;

	if (group->size == 1)
		return emit_alone(rdt_part_span(&parts, RDT_INPUT, me, r), result, out);
	out->scratch_epochs = staged ? 2 : 1;
	out->scratch_bytes = slots_bytes(&parts) * (staged ? 2 : 1);
	reduce(group, &parts, result, out);
	gather(group, &parts, staged, slots_bytes(&parts), out);
	return rdt_schedule_finish(out);
}

int rdt_emit_ring_reduce_scatter(const struct rdt_group *group, const struct rdt_shape *shape,
				 struct rdt_schedule *out)
{
	struct rdt_parts parts = rdt_parts_of_layout(group->size, shape, &shape->in);
	int r = group->rank, me = rdt_group_peer(group, r);
	struct rdt_span result = rdt_span(RDT_OUTPUT, me, 0, rdt_part_bytes(&parts, r));

	if (group->size == 1)
		return emit_alone(rdt_part_span(&parts, RDT_INPUT, me, r), result, out);
	out->scratch_epochs = 2;
	out->scratch_bytes = slots_bytes(&parts);
	reduce(group, &parts, result, out);
	return rdt_schedule_finish(out);
}

int rdt_emit_ring_allgather(const struct rdt_group *group, const struct rdt_shape *shape,
			    struct rdt_schedule *out)
{
	struct rdt_parts parts = rdt_parts_of_layout(group->size, shape, &shape->out);
	int r = group->rank, me = rdt_group_peer(group, r);
	bool staged = !shape->remote_output;

	if (staged && group->size > 1) {
		out->scratch_epochs = 2;
		out->scratch_bytes = slots_bytes(&parts);
	}
	if (!staged && group->size > 1)
		rdt_notify(out, 0, left_of(group));
	rdt_copy(out, 0, rdt_part_span(&parts, RDT_OUTPUT, me, r),
		 rdt_span(RDT_INPUT, me, 0, rdt_part_bytes(&parts, r)));
	if (!staged && group->size > 1)
		rdt_wait_for(out, 0, right_of(group), 1);
	gather(group, &parts, staged, 0, out);
	return rdt_schedule_finish(out);
}
