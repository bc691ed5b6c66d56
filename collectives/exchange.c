/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Exchange: everybody with everybody, block by block. Two network latencies for an allreduce, one
 * for each of its halves, and no more bytes than a ring puts; but n-1 puts of every rank at once.
 *
 * Reduce-scatter. Every rank puts block j of its INPUT into slot [itself] of rank j's SCRATCH, and
 * reduces its own block from the n-1 slots and its own INPUT, in the order of ranks.
 *
 * Allgather. Every rank puts its block to all others: straight into their OUTPUT where that may be
 * written, else into slot [itself] of SCRATCH, from where they copy. An empty block is a bare
 * notification, so that what follows from it is known all the same.
 *
 * Who proves what. A block of the allreduce's second half goes to a rank whose part of it has come
 * before: that rank has entered the run and its INPUT, which may be OUTPUT, has been read there. A
 * rank that is through has such a block from everyone, sent after the slots were emptied: one epoch
 * is enough. The allgather alone has no such proof, so each rank first tells all others that it is
 * READY. Where a half is the end of the run, nobody hears that its slots were emptied: two epochs.
 * A rank that is through has heard that all have entered that run, hence left the one before.
 */
#include <stdlib.h>

#include "algorithms.h"
#include "parts.h"

/* What rank `me` puts when each of its puts carries its own block, or each the receiver's. */
static uint64_t own_to_all(const struct rdt_parts *parts, int me)
{
	return (uint64_t)(parts->n - 1) * rdt_part_bytes(parts, me);
}

static uint64_t theirs_to_all(const struct rdt_parts *parts, int me)
{
	return rdt_parts_bytes(parts, 0, parts->n) - rdt_part_bytes(parts, me);
}

static struct rdt_cost cost(const struct rdt_parts *parts, bool reduces, bool gathers, bool ready)
{
	uint64_t n = (uint64_t)parts->n;
	int rounds = reduces + gathers + ready;
	struct rdt_cost cost = { 0 };

	if (n == 1)
		return cost;
	for (int i = 0; i < parts->n; i++) {
		uint64_t bytes = (reduces ? theirs_to_all(parts, i) : 0) +
				 (gathers ? own_to_all(parts, i) : 0);

		if (bytes > cost.bytes)
			cost.bytes = bytes;
	}
	cost.rounds = rounds;
	cost.puts = (uint64_t)rounds * n * (n - 1);
	return cost;
}

struct rdt_cost rdt_cost_exchange_allreduce(int size, const struct rdt_shape *shape)
{
	struct rdt_parts parts = rdt_parts_of_vector(size, shape);

	return cost(&parts, true, true, false);
}

struct rdt_cost rdt_cost_exchange_reduce_scatter(int size, const struct rdt_shape *shape)
{
	struct rdt_parts parts = rdt_parts_of_layout(size, shape, &shape->in);

	return cost(&parts, true, false, false);
}

struct rdt_cost rdt_cost_exchange_allgather(int size, const struct rdt_shape *shape)
{
	struct rdt_parts parts = rdt_parts_of_layout(size, shape, &shape->out);

	return cost(&parts, false, true, shape->remote_output);
}

/* The peers in the order of puts: each begins with its right neighbour, so that they do not all
 * write to rank 0 first. */
static int to(const struct rdt_group *group, int k)
{
	return rdt_group_shift(group, group->rank, k);
}

/* And in the order in which theirs are likely to come. */
static int from(const struct rdt_group *group, int k)
{
	return rdt_group_shift(group, group->rank, -k);
}

static void wait_for_all(const struct rdt_group *group, struct rdt_schedule *out)
{
	for (int k = 1; k < group->size; k++)
		rdt_wait_for(out, 0, rdt_group_peer(group, from(group, k)), 1);
}

/* The sum of this rank's block goes to `result`. -1 when memory ran out. */
static int reduce(const struct rdt_group *group, const struct rdt_parts *parts,
		  struct rdt_span result, struct rdt_schedule *out)
{
	int n = group->size, r = group->rank, me = rdt_group_peer(group, r);
	struct rdt_span *terms = calloc((size_t)n, sizeof(*terms));

	if (!terms)
		return -1;
	for (int k = 1; k < n; k++) {
		int peer = rdt_group_peer(group, to(group, k));
		struct rdt_span theirs = rdt_part_span(parts, RDT_INPUT, me, to(group, k));

		rdt_put(out, 0, peer,
			rdt_span(RDT_SCRATCH, peer, (uint64_t)r * parts->slot, theirs.length),
			theirs);
	}
	wait_for_all(group, out);
	for (int i = 0; i < n; i++)
		terms[i] = rdt_span(RDT_SCRATCH, me, (uint64_t)i * parts->slot, result.length);
	terms[r] = rdt_part_span(parts, RDT_INPUT, me, r);
	rdt_reduce_to(out, 0, RDT_STEP_FINAL, &result, 1, terms, n);
	free(terms);
	return 0;
}

/* This rank's block, which lies in `own`, to everybody; through slots behind `base` when staged. */
static void gather(const struct rdt_group *group, const struct rdt_parts *parts, bool staged,
		   uint64_t base, struct rdt_span own, struct rdt_schedule *out)
{
	int r = group->rank, me = rdt_group_peer(group, r);

	for (int k = 1; k < group->size; k++) {
		int peer = rdt_group_peer(group, to(group, k));
		struct rdt_span there =
			staged ? rdt_span(RDT_SCRATCH, peer, base + (uint64_t)r * parts->slot,
					  own.length)
			       : rdt_part_span(parts, RDT_OUTPUT, peer, r);

		rdt_put(out, 0, peer, there, own);
	}
	if (!staged) {
		wait_for_all(group, out);
		return;
	}
	for (int k = 1; k < group->size; k++) {
		int i = from(group, k);
		struct rdt_span there = rdt_part_span(parts, RDT_OUTPUT, me, i);

		rdt_wait_for(out, 0, rdt_group_peer(group, i), 1);
		rdt_copy(out, 0, there,
			 rdt_span(RDT_SCRATCH, me, base + (uint64_t)i * parts->slot, there.length));
	}
}

int rdt_emit_exchange_allreduce(const struct rdt_group *group, const struct rdt_shape *shape,
				struct rdt_schedule *out)
{
	struct rdt_parts parts = rdt_parts_of_vector(group->size, shape);
	uint64_t slots = (uint64_t)group->size * parts.slot;
	bool staged = !shape->remote_output;
	struct rdt_span own =
		rdt_part_span(&parts, RDT_OUTPUT, rdt_group_peer(group, group->rank), group->rank);

	out->scratch_epochs = staged ? 2 : 1;
	if (group->size > 1)
		out->scratch_bytes = staged ? 2 * slots : slots;
	if (reduce(group, &parts, own, out))
		return -1;
	gather(group, &parts, staged, slots, own, out);
	return rdt_schedule_finish(out);
}

int rdt_emit_exchange_reduce_scatter(const struct rdt_group *group, const struct rdt_shape *shape,
				     struct rdt_schedule *out)
{
	struct rdt_parts parts = rdt_parts_of_layout(group->size, shape, &shape->in);
	struct rdt_span result = rdt_span(RDT_OUTPUT, rdt_group_peer(group, group->rank), 0,
					  rdt_part_bytes(&parts, group->rank));

	out->scratch_epochs = 2;
	if (group->size > 1)
		out->scratch_bytes = (uint64_t)group->size * parts.slot;
	if (reduce(group, &parts, result, out))
		return -1;
	return rdt_schedule_finish(out);
}

int rdt_emit_exchange_allgather(const struct rdt_group *group, const struct rdt_shape *shape,
				struct rdt_schedule *out)
{
	struct rdt_parts parts = rdt_parts_of_layout(group->size, shape, &shape->out);
	int r = group->rank, me = rdt_group_peer(group, r);
	bool staged = !shape->remote_output;
	struct rdt_span own = rdt_span(RDT_INPUT, me, 0, rdt_part_bytes(&parts, r));

	if (staged && group->size > 1) {
		out->scratch_epochs = 2;
		out->scratch_bytes = (uint64_t)group->size * parts.slot;
	}
	for (int k = 1; k < group->size && !staged; k++)
		rdt_notify(out, 0, rdt_group_peer(group, from(group, k)));
	rdt_copy(out, 0, rdt_part_span(&parts, RDT_OUTPUT, me, r), own);
	if (!staged)
		wait_for_all(group, out);
	gather(group, &parts, staged, 0, own, out);
	return rdt_schedule_finish(out);
}
