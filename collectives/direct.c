/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Among ranks of one host, through each other's memory: nothing is put but notifications, and each
 * element crosses the memory bus as rarely as can be.
 *
 * Every rank notifies all others that it is READY: what it contributes may be read. When all are,
 * it reads what it needs of the others' memory, and stores; then it notifies all that it is DONE.
 * When all are, its memory is its own again.
 *
 * Where INPUT and OUTPUT are mapped, that is the memory that is read and written. Else it is
 * SCRATCH, which always is: each rank first copies there what the others need of its INPUT.
 *
 * The allreduce divides the vector into n blocks. Rank r sums block r, in the order of ranks, and
 * stores the sum to everybody, in one pass. Nobody else reads block r or writes it, so it may be
 * stored where it was read: in place, and in SCRATCH, from where each copies the others' blocks.
 *
 * Who proves what. Whoever writes to a rank's memory has its READY of this run. Whatever others do
 * there is over when that rank has everybody's DONE, and so is whatever it does to others when it
 * sends its own: one epoch is enough, and INPUT and OUTPUT are the caller's.
 */
#include <stdlib.h>

#include "algorithms.h"
#include "blocks.h"

bool rdt_applies_direct(int size, const struct rdt_shape *shape)
{
	for (int i = 1; i < size; i++)
		if (!rdt_shares_host(shape, 0, i))
			return false;
	return true;
}

/* READY and DONE, from everybody to everybody. */
static struct rdt_cost cost(int size)
{
	return (struct rdt_cost){
		.rounds = size > 1 ? 2 : 0,
		.puts = 2 * (uint64_t)size * (uint64_t)(size - 1),
	};
}

struct rdt_cost rdt_cost_direct_allreduce(int size, const struct rdt_shape *shape)
{
	(void)shape;
	return cost(size);
}

struct rdt_cost rdt_cost_direct_reduce_scatter(int size, const struct rdt_shape *shape)
{
	(void)shape;
	return cost(size);
}

struct rdt_cost rdt_cost_direct_allgather(int size, const struct rdt_shape *shape)
{
	(void)shape;
	return cost(size);
}

/* Comes back when all others have come here too. */
static void meet(const struct rdt_group *group, struct rdt_schedule *out)
{
	for (int k = 1; k < group->size; k++)
		rdt_notify(out, 0, rdt_group_peer(group, rdt_group_shift(group, group->rank, k)));
	for (int k = 1; k < group->size; k++)
		rdt_wait_for(out, 0, rdt_group_peer(group, rdt_group_shift(group, group->rank, -k)),
			     1);
}

/* ---- allreduce ------------------------------------------------------------------------------ */

/* All of a vector but my block: what lies before it, and behind. */
static void copy_others(const struct rdt_group *group, const struct rdt_shape *shape,
			const struct rdt_blocks *blocks, enum rdt_buffer to, enum rdt_buffer from,
			struct rdt_schedule *out)
{
	int me = rdt_group_peer(group, group->rank);
	uint64_t before = rdt_block_offset(blocks, (uint64_t)group->rank);
	uint64_t behind = rdt_block_offset(blocks, (uint64_t)group->rank + 1);
	uint64_t rest = shape->bytes - behind;

	rdt_copy(out, 0, rdt_span(to, me, 0, before), rdt_span(from, me, 0, before));
	rdt_copy(out, 0, rdt_span(to, me, behind, rest), rdt_span(from, me, behind, rest));
}

/* Sums my block from everybody's vector and stores it to everybody. */
static int sum_my_block(const struct rdt_group *group, const struct rdt_shape *shape,
			const struct rdt_blocks *blocks, struct rdt_schedule *out)
{
	int n = group->size, r = group->rank;
	uint64_t at = rdt_block_offset(blocks, (uint64_t)r);
	uint64_t bytes = rdt_block_bytes(blocks, (uint64_t)r);
	struct rdt_span *dst = calloc(2 * (size_t)n, sizeof(*dst)), *src = dst + n;

	if (!dst)
		return -1;
	for (int i = 0; i < n; i++) {
		bool staged = !shape->mapped && i != r;
		int rank = rdt_group_peer(group, i);

		dst[i] = rdt_span(staged ? RDT_SCRATCH : RDT_OUTPUT, rank, at, bytes);
		src[i] = rdt_span(staged ? RDT_SCRATCH : RDT_INPUT, rank, at, bytes);
	}
	rdt_reduce_to(out, 0, RDT_STEP_FINAL, dst, n, src, n);
	free(dst);
	return 0;
}

int rdt_emit_direct_allreduce(const struct rdt_group *group, const struct rdt_shape *shape,
			      struct rdt_schedule *out)
{
	struct rdt_blocks blocks = { shape->bytes / shape->elem_size, (uint64_t)group->size,
				     shape->elem_size };
	bool staged = !shape->mapped && group->size > 1;

	out->scratch_bytes = staged ? shape->bytes : 0;
	if (staged)
		copy_others(group, shape, &blocks, RDT_SCRATCH, RDT_INPUT, out);
	meet(group, out);
	if (sum_my_block(group, shape, &blocks, out))
		return -1;
	meet(group, out);
	if (staged)
		copy_others(group, shape, &blocks, RDT_OUTPUT, RDT_SCRATCH, out);
	return rdt_schedule_finish(out);
}

/* ---- reduce-scatter -------------------------------------------------------------------------- */

/* Block i of what `rank` contributes: in its INPUT, or staged in slot i of its SCRATCH. */
static struct rdt_span block_at(const struct rdt_group *group, const struct rdt_shape *shape,
				int rank, int i, bool staged)
{
	return rdt_span(staged ? RDT_SCRATCH : RDT_INPUT, rdt_group_peer(group, rank),
			staged ? (uint64_t)i * shape->max_block : shape->in.offset[i],
			shape->in.length[i]);
}

int rdt_emit_direct_reduce_scatter(const struct rdt_group *group, const struct rdt_shape *shape,
				   struct rdt_schedule *out)
{
	int n = group->size, r = group->rank;
	struct rdt_span block =
		rdt_span(RDT_OUTPUT, rdt_group_peer(group, r), 0, shape->in.length[r]);
	bool staged = !shape->mapped && n > 1;
	struct rdt_span *src = calloc((size_t)n, sizeof(*src));

	if (!src)
		return -1;
	out->scratch_bytes = staged ? (uint64_t)n * shape->max_block : 0;
	for (int i = 0; i < n; i++) {
		src[i] = block_at(group, shape, i, r, staged && i != r);
		if (staged && i != r)
			rdt_copy(out, 0, block_at(group, shape, r, i, true),
				 block_at(group, shape, r, i, false));
	}
	meet(group, out);
	rdt_reduce_to(out, 0, RDT_STEP_FINAL, &block, 1, src, n);
	meet(group, out);
	free(src);
	return rdt_schedule_finish(out);
}

/* ---- allgather ------------------------------------------------------------------------------- */

int rdt_emit_direct_allgather(const struct rdt_group *group, const struct rdt_shape *shape,
			      struct rdt_schedule *out)
{
	const struct rdt_layout *to = &shape->out;
	int n = group->size, r = group->rank, me = rdt_group_peer(group, r);
	enum rdt_buffer from = shape->mapped ? RDT_INPUT : RDT_SCRATCH;
	struct rdt_span mine = rdt_span(RDT_INPUT, me, 0, to->length[r]);

	out->scratch_bytes = !shape->mapped && n > 1 ? shape->max_block : 0;
	/* Before READY: in place it is the block that the others read, stored to itself. */
	rdt_copy(out, 0, rdt_span(RDT_OUTPUT, me, to->offset[r], mine.length), mine);
	if (!shape->mapped && n > 1)
		rdt_copy(out, 0, rdt_span(RDT_SCRATCH, me, 0, mine.length), mine);
	meet(group, out);
	for (int k = 1; k < n; k++) {
		int i = rdt_group_shift(group, r, k);

		rdt_copy(out, 0, rdt_span(RDT_OUTPUT, me, to->offset[i], to->length[i]),
			 rdt_span(from, rdt_group_peer(group, i), 0, to->length[i]));
	}
	meet(group, out);
	return rdt_schedule_finish(out);
}
