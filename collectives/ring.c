/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ring allreduce, for large vectors: each rank talks to its two neighbours only, and puts 2(n-1)/n
 * of the vector in all, which is the least possible (Patarasuk and Yuan, "Bandwidth optimal
 * all-reduce algorithms for clusters of workstations", 2009).
 *
 * The vector is divided into n blocks; all arithmetic on ranks and blocks is modulo n.
 *
 * Reduce-scatter. In round k = 0 .. n-2 rank r puts block r-k, as far as it is summed, into slot k
 * of its right neighbour's SCRATCH; and adds to its own part of block r-k-1 what its left neighbour
 * put into slot k here. After n-1 rounds block r+1 is complete at rank r.
 *
 * Allgather. In round k rank r puts block r+1-k, complete, to its right neighbour: straight into
 * its OUTPUT where that may be written, else into slot n-1+k of SCRATCH, to be copied; and receives
 * block r-k.
 *
 * Who proves what. Slot k is used once in a run. A rank that is through has received the block that
 * its right neighbour completed last, so that neighbour has emptied all slots of the
 * reduce-scatter: the next run may fill them. The slots of the allgather need two epochs, because
 * nobody hears that the last of them was copied until that rank sends again. A put into OUTPUT,
 * which is INPUT when in place, carries a block to which that rank has contributed, so it has
 * entered the run and read its part.
 */
#include "algorithms.h"
#include "blocks.h"

/* Each phase puts all blocks but one; the last two blocks are the shortest. */
struct rdt_cost rdt_cost_ring(int size, const struct rdt_shape *shape)
{
	struct rdt_blocks blocks = { shape->bytes / shape->elem_size, (uint64_t)size,
				     shape->elem_size };

	if (size == 1)
		return (struct rdt_cost){ 0 };
	return (struct rdt_cost){
		.rounds = 2 * (size - 1),
		.bytes = shape->bytes + rdt_block_offset(&blocks, (uint64_t)size - 2),
		.puts = (uint64_t)size * 2 * (uint64_t)(size - 1),
	};
}

int rdt_emit_ring(const struct rdt_group *group, const struct rdt_shape *shape,
		  struct rdt_schedule *out)
{
	int n = group->size, r = group->rank, me = rdt_group_peer(group, r);
	int right = rdt_group_peer(group, rdt_group_shift(group, r, 1));
	int left = rdt_group_peer(group, rdt_group_shift(group, r, -1));
	struct rdt_blocks blocks = { shape->bytes / shape->elem_size, (uint64_t)n,
				     shape->elem_size };
	uint64_t slot = rdt_block_max(&blocks);

	if (!shape->remote_output)
		out->scratch_epochs = 2;
	if (n == 1) {
		struct rdt_span input = rdt_span(RDT_INPUT, me, 0, shape->bytes);
		struct rdt_span output = rdt_span(RDT_OUTPUT, me, 0, shape->bytes);

		rdt_reduce_to(out, 0, RDT_STEP_FINAL, &output, 1, &input, 1);
		return rdt_schedule_finish(out);
	}

	/* Not left to the builder: with blocks of different lengths not every rank uses all of it,
	 * and all ranks must have the same. */
	out->scratch_bytes = (uint64_t)(n - 1) * slot * (shape->remote_output ? 1 : 2);

	for (int k = 0; k < n - 1; k++) {
		uint64_t sent = (uint64_t)rdt_group_shift(group, r, -k);
		uint64_t got = (uint64_t)rdt_group_shift(group, r, -k - 1);
		uint64_t sent_at = rdt_block_offset(&blocks, sent),
			 sent_bytes = rdt_block_bytes(&blocks, sent);
		uint64_t got_at = rdt_block_offset(&blocks, got),
			 got_bytes = rdt_block_bytes(&blocks, got);
		struct rdt_span sum = rdt_span(RDT_OUTPUT, me, got_at, got_bytes);
		struct rdt_span parts[] = {
			rdt_span(RDT_SCRATCH, me, (uint64_t)k * slot, got_bytes),
			rdt_span(RDT_INPUT, me, got_at, got_bytes),
		};

		rdt_put(out, 0, right, rdt_span(RDT_SCRATCH, right, (uint64_t)k * slot, sent_bytes),
			rdt_span(k == 0 ? RDT_INPUT : RDT_OUTPUT, me, sent_at, sent_bytes));
		rdt_wait_for(out, 0, left, 1);
		rdt_reduce_to(out, 0, k == n - 2 ? RDT_STEP_FINAL : 0, &sum, 1, parts, 2);
	}

	for (int k = 0; k < n - 1; k++) {
		uint64_t sent = (uint64_t)rdt_group_shift(group, r, 1 - k);
		uint64_t got = (uint64_t)rdt_group_shift(group, r, -k);
		uint64_t sent_at = rdt_block_offset(&blocks, sent),
			 sent_bytes = rdt_block_bytes(&blocks, sent);
		uint64_t got_at = rdt_block_offset(&blocks, got),
			 got_bytes = rdt_block_bytes(&blocks, got);
		uint64_t at = (uint64_t)(n - 1 + k) * slot;

		rdt_put(out, 0, right,
			shape->remote_output ? rdt_span(RDT_OUTPUT, right, sent_at, sent_bytes)
					     : rdt_span(RDT_SCRATCH, right, at, sent_bytes),
			rdt_span(RDT_OUTPUT, me, sent_at, sent_bytes));
		rdt_wait_for(out, 0, left, 1);
		if (!shape->remote_output)
			rdt_copy(out, 0, rdt_span(RDT_OUTPUT, me, got_at, got_bytes),
				 rdt_span(RDT_SCRATCH, me, at, got_bytes));
	}
	return rdt_schedule_finish(out);
}
