/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Circulant graph algorithms: reduce-scatter and allgather in ceil(log2 n) rounds for every n, and
 * each puts (n-1)/n of the data, both the least possible; an allreduce is one after the other
 * (Traeff, "Optimal, non-pipelined reduce-scatter and allreduce algorithms", arXiv 2410.14234).
 *
 * R[i] is block r+i at rank r; all arithmetic on ranks and blocks is modulo n. The steps of both
 * are the halvings of n, rounded up: 22, 11, 6, 3, 2, 1. One of them is from `whole` to `half`.
 *
 * Reduce-scatter, from n down: rank r puts the upper part R[half .. whole-1] to rank r+half, for
 * which it is the lower part R[0 .. whole-half-1], and adds to its own lower part what rank r-half
 * put here. In the end R[0] is complete.
 *
 * Allgather, from 1 up, is its mirror: rank r puts the lower part to rank r-half, for which it is
 * the upper part, and gets its own upper part from rank r+half. A round whose blocks are all empty
 * is a bare notification.
 *
 * Where things lie. What a round of the reduce-scatter receives is packed, block after block, in a
 * region of SCRATCH for that round; the first region has room for the odd block too, and becomes
 * the partial sum: R[0 .. half-1], packed, so that every later put has one source. The first takes
 * its blocks from INPUT. The allgather puts from OUTPUT to OUTPUT where that may be written. So
 * these two are as many puts as there are pieces of memory that have no gap: one, or two where the
 * blocks go round the end of the buffer, but more if the layout has gaps. Else the allgather puts
 * from SCRATCH to SCRATCH, where each rank has all of R packed, and copies.
 *
 * Who proves what. Peers of the allreduce's allgather are those of its reduce-scatter, the other
 * way round: a rank that puts into the upper part of OUTPUT, which may be INPUT, had that upper
 * part from its owner and is known to have it. The allgather alone has no such proof, so that each
 * rank first tells those from whom it will receive that it is READY; all of these are waited for
 * before anything else, for they are counted like the data that may come from the same peer. In
 * every run a rank hears, directly or not, from all others before it is through: with the
 * allreduce's own allgather, that they have emptied the regions of the reduce-scatter and got what
 * was put from them (one epoch); in all other cases only that they have entered the run, hence left
 * the one before (two epochs).
 */
#include "algorithms.h"
#include "parts.h"

/* ---- rounds ---------------------------------------------------------------------------------- */

/* 32 halvings are more than an int has. */
struct rounds {
	int n;
	int whole[33]; /* from n down to 1; whole[k + 1] is half of round k */
};

static struct rounds rounds_of(int n)
{
	struct rounds rounds = { .n = 0 };

	rounds.whole[0] = n;
	for (; n > 1; n = (n + 1) / 2)
		rounds.whole[++rounds.n] = (n + 1) / 2;
	return rounds;
}

/* ---- pieces of memory ------------------------------------------------------------------------ */

/* Walks over `left` blocks from `next` on, around the end, in pieces of memory without a gap. */
struct pieces {
	const struct rdt_parts *parts;
	int next, left;
};

static struct pieces pieces_of(const struct rdt_parts *parts, int first, int count)
{
	return (struct pieces){ parts, first % parts->n, count };
}

/* The next piece that is not empty: where it lies in a buffer of `rank`; false: none is left. */
static bool take_piece(struct pieces *p, enum rdt_buffer buffer, int rank, struct rdt_span *out)
{
	*out = rdt_span(buffer, rank, 0, 0);
	for (; p->left > 0; p->left--, p->next = (p->next + 1) % p->parts->n) {
		uint64_t offset = rdt_part_offset(p->parts, p->next);
		uint64_t bytes = rdt_part_bytes(p->parts, p->next);

		if (bytes == 0)
			continue;
		if (out->length && offset != out->offset + out->length)
			break;
		if (out->length == 0)
			out->offset = offset;
		out->length += bytes;
	}
	return out->length > 0;
}

/* How many puts carry them: at least a bare notification. */
static uint32_t count_pieces(const struct rdt_parts *parts, int first, int count)
{
	struct pieces pieces = pieces_of(parts, first, count);
	struct rdt_span piece;
	uint32_t n = 0;

	while (take_piece(&pieces, RDT_INPUT, 0, &piece))
		n++;
	return n ? n : 1;
}

/* A part of `packed` that is as long as `piece`, and begins where the last one ended. */
static struct rdt_span cut(struct rdt_span *packed, const struct rdt_span *piece)
{
	struct rdt_span head = *packed;

	head.length = piece->length;
	packed->offset += piece->length;
	return head;
}

/* `count` blocks from `first` on, which lie in `buffer` of this rank, packed or not. */
static void copy_packed(const struct rdt_parts *parts, int first, int count, enum rdt_buffer buffer,
			struct rdt_span packed, bool unpack, struct rdt_schedule *out)
{
	struct pieces pieces = pieces_of(parts, first, count);
	struct rdt_span piece;

	while (take_piece(&pieces, buffer, packed.rank, &piece)) {
		struct rdt_span there = cut(&packed, &piece);

		rdt_copy(out, 0, unpack ? piece : there, unpack ? there : piece);
	}
}

/* ---- cost ------------------------------------------------------------------------------------ */

/* What rank `r` puts in the reduce-scatter. */
static void add_reduce(struct rdt_cost *cost, uint64_t *bytes, const struct rdt_parts *parts, int r)
{
	struct rounds rounds = rounds_of(parts->n);
	int half = rounds.whole[1];

	*bytes += rdt_parts_bytes(parts, r + 1, parts->n - 1);
	cost->puts += count_pieces(parts, r + half, parts->n - half) + (uint64_t)rounds.n - 1;
}

/* And in the allgather. */
static void add_gather(struct rdt_cost *cost, uint64_t *bytes, const struct rdt_parts *parts, int r,
		       bool staged)
{
	struct rounds rounds = rounds_of(parts->n);

	for (int k = 0; k < rounds.n; k++) {
		int lower = rounds.whole[k] - rounds.whole[k + 1];

		*bytes += rdt_parts_bytes(parts, r, lower);
		cost->puts += staged ? 1 : count_pieces(parts, r, lower);
	}
}

static struct rdt_cost cost(const struct rdt_parts *parts, bool reduces, bool gathers, bool staged)
{
	int rounds = rounds_of(parts->n).n;
	bool ready = gathers && !reduces && !staged;
	struct rdt_cost cost = { 0 };

	if (parts->n == 1)
		return cost;
	cost.rounds = (reduces + gathers) * rounds + ready;
	for (int r = 0; r < parts->n; r++) {
		uint64_t bytes = 0;

		if (reduces)
			add_reduce(&cost, &bytes, parts, r);
		if (gathers)
			add_gather(&cost, &bytes, parts, r, staged);
		if (ready)
			cost.puts += (uint64_t)rounds;
		if (bytes > cost.bytes)
			cost.bytes = bytes;
	}
	return cost;
}

struct rdt_cost rdt_cost_circulant_allreduce(int size, const struct rdt_shape *shape)
{
	struct rdt_parts parts = rdt_parts_of_vector(size, shape);

	return cost(&parts, true, true, !shape->remote_output);
}

struct rdt_cost rdt_cost_circulant_reduce_scatter(int size, const struct rdt_shape *shape)
{
	struct rdt_parts parts = rdt_parts_of_layout(size, shape, &shape->in);

	return cost(&parts, true, false, true);
}

struct rdt_cost rdt_cost_circulant_allgather(int size, const struct rdt_shape *shape)
{
	struct rdt_parts parts = rdt_parts_of_layout(size, shape, &shape->out);

	return cost(&parts, false, true, !shape->remote_output);
}

/* ---- reduce-scatter -------------------------------------------------------------------------- */

/* SCRATCH of the reduce-scatter: whole[1] blocks for the first region, n - whole[1] at most for the
 * others. */
static uint64_t reduce_bytes(const struct rdt_parts *parts)
{
	return parts->n == 1 ? 0 : (uint64_t)parts->n * parts->slot;
}

/* The first round: from INPUT, and the lower half of INPUT is added where the sums will be. */
static void reduce_first(const struct rdt_group *group, const struct rdt_parts *parts, int half,
			 struct rdt_schedule *out)
{
	int n = group->size, r = group->rank, me = rdt_group_peer(group, r);
	int up = rdt_group_peer(group, rdt_group_shift(group, r, half));
	struct pieces pieces = pieces_of(parts, r + half, n - half);
	struct rdt_span region = rdt_span(RDT_SCRATCH, up, 0, 0), piece;

	if (!take_piece(&pieces, RDT_INPUT, me, &piece))
		rdt_notify(out, 0, up);
	for (; piece.length; take_piece(&pieces, RDT_INPUT, me, &piece))
		rdt_put(out, 0, up, cut(&region, &piece), piece);

	/* When n is odd, nothing is added to the last of the lower half in this round. */
	region = rdt_span(RDT_SCRATCH, me, rdt_parts_bytes(parts, r, n - half), 0);
	copy_packed(parts, r + n - half, 2 * half - n, RDT_INPUT, region, false, out);

	rdt_wait_for(out, 0, rdt_group_peer(group, rdt_group_shift(group, r, -half)),
		     count_pieces(parts, r, n - half));
}

/*
 * This rank's block is summed to all of `results`. Round k receives into the region behind those of
 * the rounds before; the sum of what INPUT and the regions have of R[i] is formed in the first one.
 */
static void reduce(const struct rdt_group *group, const struct rdt_parts *parts,
		   const struct rdt_span *results, int n_results, struct rdt_schedule *out)
{
	struct rounds rounds = rounds_of(group->size);
	int r = group->rank, me = rdt_group_peer(group, r);
	uint64_t region = (uint64_t)rounds.whole[1] * parts->slot;

	reduce_first(group, parts, rounds.whole[1], out);
	/* INPUT is not packed: piece by piece. The last round of all makes the result. */
	if (rounds.n > 1) {
		struct pieces pieces = pieces_of(parts, r, group->size - rounds.whole[1]);
		struct rdt_span sums = rdt_span(RDT_SCRATCH, me, 0, 0), terms[2];

		while (take_piece(&pieces, RDT_INPUT, me, &terms[1])) {
			terms[0] = cut(&sums, &terms[1]);
			rdt_reduce_to(out, 0, 0, &terms[0], 1, terms, 2);
		}
	} else {
		struct rdt_span terms[] = { rdt_span(RDT_SCRATCH, me, 0, results[0].length),
					    rdt_part_span(parts, RDT_INPUT, me, r) };

		rdt_reduce_to(out, 0, RDT_STEP_FINAL, results, n_results, terms, 2);
	}

	for (int k = 1; k < rounds.n; k++) {
		int whole = rounds.whole[k], half = rounds.whole[k + 1], lower = whole - half;
		int up = rdt_group_peer(group, rdt_group_shift(group, r, half));
		uint64_t put = rdt_parts_bytes(parts, r + half, lower);
		uint64_t got = rdt_parts_bytes(parts, r, lower);
		struct rdt_span terms[] = { rdt_span(RDT_SCRATCH, me, region, got),
					    rdt_span(RDT_SCRATCH, me, 0, got) };
		bool last = k == rounds.n - 1;

		rdt_put(out, 0, up, rdt_span(RDT_SCRATCH, up, region, put),
			rdt_span(RDT_SCRATCH, me, rdt_parts_bytes(parts, r, half), put));
		rdt_wait_for(out, 0, rdt_group_peer(group, rdt_group_shift(group, r, -half)), 1);
		rdt_reduce_to(out, 0, last ? RDT_STEP_FINAL : 0, last ? results : &terms[1],
			      last ? n_results : 1, terms, 2);
		region += (uint64_t)lower * parts->slot;
	}
}

/* ---- allgather ------------------------------------------------------------------------------- */

/* From OUTPUT, which has this rank's block, to OUTPUT. */
static void gather(const struct rdt_group *group, const struct rdt_parts *parts,
		   struct rdt_schedule *out)
{
	struct rounds rounds = rounds_of(group->size);
	int r = group->rank, me = rdt_group_peer(group, r);

	for (int k = rounds.n - 1; k >= 0; k--) {
		int half = rounds.whole[k + 1], lower = rounds.whole[k] - half;
		int down = rdt_group_peer(group, rdt_group_shift(group, r, -half));
		struct pieces pieces = pieces_of(parts, r, lower);
		struct rdt_span piece, there;

		if (!take_piece(&pieces, RDT_OUTPUT, me, &piece))
			rdt_notify(out, 0, down);
		for (; piece.length; take_piece(&pieces, RDT_OUTPUT, me, &piece)) {
			there = piece;
			there.rank = down;
			rdt_put(out, 0, down, there, piece);
		}
		rdt_wait_for(out, 0, rdt_group_peer(group, rdt_group_shift(group, r, half)),
			     count_pieces(parts, r + half, lower));
	}
}

/* From SCRATCH, which has this rank's block at `base`, to SCRATCH, and from there to OUTPUT. */
static void gather_staged(const struct rdt_group *group, const struct rdt_parts *parts,
			  uint64_t base, struct rdt_schedule *out)
{
	struct rounds rounds = rounds_of(group->size);
	int r = group->rank, me = rdt_group_peer(group, r);

	for (int k = rounds.n - 1; k >= 0; k--) {
		int half = rounds.whole[k + 1], lower = rounds.whole[k] - half;
		int below = rdt_group_shift(group, r, -half), down = rdt_group_peer(group, below);
		uint64_t bytes = rdt_parts_bytes(parts, r, lower);
		uint64_t there = base + rdt_parts_bytes(parts, below, half);
		uint64_t here = base + rdt_parts_bytes(parts, r, half);

		rdt_put(out, 0, down, rdt_span(RDT_SCRATCH, down, there, bytes),
			rdt_span(RDT_SCRATCH, me, base, bytes));
		rdt_wait_for(out, 0, rdt_group_peer(group, rdt_group_shift(group, r, half)), 1);
		copy_packed(parts, r + half, lower, RDT_OUTPUT, rdt_span(RDT_SCRATCH, me, here, 0),
			    true, out);
	}
}

/* Nobody puts into OUTPUT before its owner has entered the run. */
static void make_ready(const struct rdt_group *group, struct rdt_schedule *out)
{
	struct rounds rounds = rounds_of(group->size);

	for (int k = rounds.n; k >= 1; k--)
		rdt_notify(out, 0,
			   rdt_group_peer(group,
					  rdt_group_shift(group, group->rank, rounds.whole[k])));
	for (int k = rounds.n; k >= 1; k--)
		rdt_wait_for(out, 0,
			     rdt_group_peer(group,
					    rdt_group_shift(group, group->rank, -rounds.whole[k])),
			     1);
}

/* ---- the collectives ------------------------------------------------------------------------- */

/* A rank alone. */
static int emit_alone(struct rdt_span input, struct rdt_span output, struct rdt_schedule *out)
{
	rdt_reduce_to(out, 0, RDT_STEP_FINAL, &output, 1, &input, 1);
	return rdt_schedule_finish(out);
}

int rdt_emit_circulant_allreduce(const struct rdt_group *group, const struct rdt_shape *shape,
				 struct rdt_schedule *out)
{
	struct rdt_parts parts = rdt_parts_of_vector(group->size, shape);
	int r = group->rank, me = rdt_group_peer(group, r);
	uint64_t base = reduce_bytes(&parts);
	bool staged = !shape->remote_output;
	struct rdt_span results[] = {
		rdt_part_span(&parts, RDT_OUTPUT, me, r),
		rdt_span(RDT_SCRATCH, me, base, rdt_part_bytes(&parts, r)),
	};

	if (group->size == 1)
		return emit_alone(rdt_part_span(&parts, RDT_INPUT, me, r), results[0], out);
	out->scratch_epochs = staged ? 2 : 1;
	out->scratch_bytes = base + (staged ? shape->bytes : 0);
	reduce(group, &parts, results, staged ? 2 : 1, out);
	if (staged)
		gather_staged(group, &parts, base, out);
	else
		gather(group, &parts, out);
	return rdt_schedule_finish(out);
}

int rdt_emit_circulant_reduce_scatter(const struct rdt_group *group, const struct rdt_shape *shape,
				      struct rdt_schedule *out)
{
	struct rdt_parts parts = rdt_parts_of_layout(group->size, shape, &shape->in);
	int r = group->rank, me = rdt_group_peer(group, r);
	struct rdt_span result = rdt_span(RDT_OUTPUT, me, 0, rdt_part_bytes(&parts, r));

	if (group->size == 1)
		return emit_alone(rdt_part_span(&parts, RDT_INPUT, me, r), result, out);
	out->scratch_epochs = 2;
	out->scratch_bytes = reduce_bytes(&parts);
	reduce(group, &parts, &result, 1, out);
	return rdt_schedule_finish(out);
}

int rdt_emit_circulant_allgather(const struct rdt_group *group, const struct rdt_shape *shape,
				 struct rdt_schedule *out)
{
	struct rdt_parts parts = rdt_parts_of_layout(group->size, shape, &shape->out);
	int r = group->rank, me = rdt_group_peer(group, r);
	struct rdt_span own = rdt_span(RDT_INPUT, me, 0, rdt_part_bytes(&parts, r));
	struct rdt_span there = rdt_part_span(&parts, RDT_OUTPUT, me, r);
	struct rdt_span packed = rdt_span(RDT_SCRATCH, me, 0, own.length);
	bool staged = !shape->remote_output;

	if (staged && group->size > 1) {
		out->scratch_epochs = 2;
		out->scratch_bytes = rdt_parts_bytes(&parts, 0, group->size);
		rdt_copy(out, 0, packed, own);
	}
	if (!staged)
		make_ready(group, out);
	rdt_copy(out, 0, there, own);
	if (staged)
		gather_staged(group, &parts, 0, out);
	else
		gather(group, &parts, out);
	return rdt_schedule_finish(out);
}
