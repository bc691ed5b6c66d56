/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All-to-all: rank r has a block for each rank, and gets one from each. Ranks are modulo n.
 *
 * Pairwise, for large blocks: in round k = 1 .. n-1 rank r puts its block for r+k into slot k of
 * that rank's SCRATCH, and copies what r-k put into slot k here to OUTPUT. It stages because the
 * sender cannot know where in the receiver's OUTPUT its block belongs: a rank knows its own row and
 * column of lengths only.
 *
 * In place, the block for r+k lies where that from r+k is to be copied, which happens in round n-k.
 * Where k < n-k that is no danger: r+k sends its block after it has had ours. The others, whose
 * place is taken before or while they are sent, are copied to SCRATCH at first.
 *
 * Bruck, for small blocks: ceil(log2 n) rounds instead of n-1, for which each block is carried up
 * to as many times (Bruck et al., "Efficient algorithms for all-to-all communications in multiport
 * message-passing systems", 1997). A block that has i ranks to go to the right makes the steps that
 * are the bits of i: in round j it is put, packed with all others of which bit j is set, from
 * everywhere to the rank 2^j to the right. So in every round all ranks hold the same set of i, each
 * for another destination. Blocks stay where they were received; packing is the only copy on the
 * way. OUTPUT is written when all INPUT has been packed, so in place is no matter.
 *
 * Why two epochs of scratch, for both: a rank that is through has heard in this run, directly or
 * not, from all others. So all are through with the run before, have consumed all puts of it, and
 * the next run may use its scratch again.
 */
#include "algorithms.h"

/* ---- pairwise ------------------------------------------------------------------------------- */

struct rdt_cost rdt_cost_pairwise(int size, const struct rdt_shape *shape)
{
	uint64_t n = (uint64_t)size;

	return (struct rdt_cost){
		.rounds = size - 1,
		.bytes = (n - 1) * shape->max_block,
		.puts = n * (n - 1),
	};
}

/* In place, is the block for the k-th rank to the right in danger before it has been consumed? */
static bool endangered(const struct rdt_shape *shape, int n, int k)
{
	return shape->in_place && k >= n - k;
}

/* Slots 1 .. n-1 are for what is received. Behind them is room for what must be kept until it has
 * been sent, k = ceil(n/2) .. n-1; on all ranks, although only some may be in place. */
static struct rdt_span slot_of(const struct rdt_shape *shape, int rank, int slot, uint64_t length)
{
	return rdt_span(RDT_SCRATCH, rank, (uint64_t)(slot - 1) * shape->max_block, length);
}

static struct rdt_span kept(const struct rdt_shape *shape, int me, int n, int k, uint64_t length)
{
	return slot_of(shape, me, n + k - (n + 1) / 2, length);
}

int rdt_emit_pairwise(const struct rdt_group *group, const struct rdt_shape *shape,
		      struct rdt_schedule *out)
{
	const struct rdt_layout *in = &shape->in, *to = &shape->out;
	int n = group->size, r = group->rank, me = rdt_group_peer(group, r);

	out->scratch_epochs = 2;
	out->scratch_bytes = (uint64_t)(n - 1 + n / 2) * shape->max_block;
	for (int k = 1; k < n; k++) {
		int i = rdt_group_shift(group, r, k);

		if (endangered(shape, n, k))
			rdt_copy(out, 0, kept(shape, me, n, k, in->length[i]),
				 rdt_span(RDT_INPUT, me, in->offset[i], in->length[i]));
	}
	if (!shape->in_place)
		rdt_copy(out, 0, rdt_span(RDT_OUTPUT, me, to->offset[r], to->length[r]),
			 rdt_span(RDT_INPUT, me, in->offset[r], in->length[r]));

	for (int k = 1; k < n; k++) {
		int right = rdt_group_shift(group, r, k), left = rdt_group_shift(group, r, -k);
		int target = rdt_group_peer(group, right);
		struct rdt_span block =
			rdt_span(RDT_INPUT, me, in->offset[right], in->length[right]);

		if (endangered(shape, n, k))
			block = kept(shape, me, n, k, block.length);
		rdt_put(out, 0, target, slot_of(shape, target, k, block.length), block);
		rdt_wait_for(out, 0, rdt_group_peer(group, left), 1);
		rdt_copy(out, 0, rdt_span(RDT_OUTPUT, me, to->offset[left], to->length[left]),
			 slot_of(shape, me, k, to->length[left]));
	}
	return rdt_schedule_finish(out);
}

/* ---- Bruck ---------------------------------------------------------------------------------- */

/* How many i below `end` have this bit set. */
static uint64_t with_bit(uint64_t end, uint64_t bit)
{
	uint64_t rest = end % (2 * bit);

	return end / (2 * bit) * bit + (rest > bit ? rest - bit : 0);
}

struct rdt_cost rdt_cost_bruck(int size, const struct rdt_shape *shape)
{
	uint64_t n = (uint64_t)size;
	struct rdt_cost cost = { 0 };

	for (uint64_t bit = 1; bit < n; bit *= 2) {
		cost.rounds++;
		cost.puts += n;
		cost.bytes += with_bit(n, bit) * shape->max_block;
	}
	return cost;
}

/* In SCRATCH each round has an area for the blocks that are received in it, then one for those that
 * are packed, both in the order of i. The area of the received begins at this block. */
static uint64_t area_of(uint64_t n, uint64_t bit)
{
	uint64_t blocks = 0;

	for (uint64_t before = 1; before < bit; before *= 2)
		blocks += 2 * with_bit(n, before);
	return blocks;
}

/* What one rank's part of Bruck's algorithm is computed from. */
struct bruck {
	const struct rdt_group *group;
	const struct rdt_shape *shape;
	int me;
	uint64_t n, block; /* ranks, bytes */
};

/* The block with i to go, as the rounds for all bits of i up to `done` have left it here. */
static struct rdt_span held(const struct bruck *b, uint64_t i, uint64_t done)
{
	int to = rdt_group_shift(b->group, b->group->rank, (int)i);
	uint64_t last = done, at;

	while (last && !(i & last))
		last /= 2;
	if (!last)
		return rdt_span(RDT_INPUT, b->me, b->shape->in.offset[to], b->block);
	at = area_of(b->n, last) + with_bit(i, last);
	return rdt_span(RDT_SCRATCH, b->me, at * b->block, b->block);
}

static void bruck_round(const struct bruck *b, uint64_t bit, struct rdt_schedule *out)
{
	int r = b->group->rank;
	int right = rdt_group_peer(b->group, rdt_group_shift(b->group, r, (int)bit));
	int left = rdt_group_peer(b->group, rdt_group_shift(b->group, r, -(int)bit));
	uint64_t blocks = with_bit(b->n, bit), area = area_of(b->n, bit), packed = area + blocks;

	for (uint64_t i = bit; i < b->n; i++)
		if (i & bit)
			rdt_copy(out, 0,
				 rdt_span(RDT_SCRATCH, b->me,
					  (packed + with_bit(i, bit)) * b->block, b->block),
				 held(b, i, bit / 2));
	rdt_put(out, 0, right, rdt_span(RDT_SCRATCH, right, area * b->block, blocks * b->block),
		rdt_span(RDT_SCRATCH, b->me, packed * b->block, blocks * b->block));
	rdt_wait_for(out, 0, left, 1);
}

int rdt_emit_bruck(const struct rdt_group *group, const struct rdt_shape *shape,
		   struct rdt_schedule *out)
{
	const struct bruck b = {
		.group = group,
		.shape = shape,
		.me = rdt_group_peer(group, group->rank),
		.n = (uint64_t)group->size,
		.block = shape->in.length[0],
	};
	uint64_t end = 1;

	while (end < b.n)
		end *= 2;
	out->scratch_epochs = 2;
	out->scratch_bytes = area_of(b.n, end) * b.block;
	for (uint64_t bit = 1; bit < b.n; bit *= 2)
		bruck_round(&b, bit, out);
	/* What has arrived with i set out i ranks to the left; 0 is the block for myself. */
	for (uint64_t i = shape->in_place ? 1 : 0; i < b.n; i++) {
		int from = rdt_group_shift(group, group->rank, -(int)i);

		rdt_copy(out, 0, rdt_span(RDT_OUTPUT, b.me, shape->out.offset[from], b.block),
			 held(&b, i, end / 2));
	}
	return rdt_schedule_finish(out);
}
