/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Recursive multiplying allreduce, for small vectors: about log_k n rounds in each of which groups
 * of up to k ranks exchange their whole vectors (Ruefenacht, Bull and Booth, "Generalisation of
 * recursive doubling for AllReduce", 2017). A larger radix k has fewer rounds and more puts in
 *each.
 *
 * p, the product of the rounds' factors, is the largest that taking the largest factor first gives:
 *
 *	n = 24, k = 8: 8 * 3	n = 6, k = 4: 4, and 2 ranks are left	n = 5, k = 8: 5
 *
 * What is left of n is less than a factor of 2, so n - p < p: each of those ranks folds into a
 *proxy of its own among the first p. It puts its vector there first and gets the result in the end.
 *
 * Rank v < p is a number in mixed radix. In a round of factor f the f ranks that differ in one
 *digit form a group: each puts its partial sum into slot [its digit] of the others, and each
 *reduces the f slots in the order of digits. So the ranks of a group have the same bits after it,
 *and after the last round all have.
 *
 * Every round has slots of its own, and a partial sum is formed in the slot from where it is put:
 * the first is a copy of INPUT, because a put reads its source at any time until the peer has it
 *and OUTPUT, which may be INPUT, is written before that is known (see oneshot.c).
 *
 * Who proves what. A rank that is through has heard, directly or not, from all ranks in this run;
 *so they were through with the one before, its slots are free and what it put from them has
 *arrived: two epochs. A proxy puts the result into the OUTPUT of a rank that has entered the run,
 *and whose INPUT it has.
 */
#include "algorithms.h"

#define MAX_RADIX 8

/* The rounds of n ranks; 32 factors of 2 are more than an int holds. */
struct factors {
	int n; /* rounds */
	int factor[32];
	int product; /* ranks that take part in them */
	int slots;   /* of all rounds together */
};

static struct factors factors_of(int size, int radix)
{
	struct factors f = { .product = 1 };

	while (size / f.product >= 2) {
		int left = size / f.product, factor = left < radix ? left : radix;

		f.factor[f.n++] = factor;
		f.product *= factor;
		f.slots += factor;
	}
	return f;
}

static struct rdt_cost cost(int size, const struct rdt_shape *shape, int radix)
{
	struct factors f = factors_of(size, radix);
	uint64_t sent = (uint64_t)(f.slots - f.n); /* by each in the rounds */
	uint64_t extra = (uint64_t)(size - f.product);

	return (struct rdt_cost){
		.rounds = f.n + (extra ? 2 : 0),
		.bytes = (sent + (extra ? 1 : 0)) * shape->bytes,
		.puts = (uint64_t)f.product * sent + 2 * extra,
	};
}

/* A vector's place in SCRATCH. */
static struct rdt_span slot(const struct rdt_shape *shape, int rank, int number)
{
	return rdt_span(RDT_SCRATCH, rank, (uint64_t)number * shape->bytes, shape->bytes);
}

/* A rank beyond p: its vector to the proxy, the result from there. `spare` is the slot of either.
 */
static void follow(const struct rdt_shape *shape, int me, int proxy, int spare,
		   struct rdt_schedule *out)
{
	struct rdt_span output = rdt_span(RDT_OUTPUT, me, 0, shape->bytes);

	rdt_put(out, 0, proxy, slot(shape, proxy, spare), rdt_span(RDT_INPUT, me, 0, shape->bytes));
	rdt_wait_for(out, 0, proxy, 1);
	if (!shape->remote_output)
		rdt_copy(out, 0, output, slot(shape, me, spare));
}

/*
 * One round: `f` ranks, `stride` apart, of which this is number `digit`, with slots from `first`
 * on. The sum goes to `result`.
 */
static void multiply(const struct rdt_group *group, const struct rdt_shape *shape, int f,
		     int stride, int first, unsigned flags, struct rdt_span result,
		     struct rdt_schedule *out)
{
	int r = group->rank, digit = r / stride % f, me = rdt_group_peer(group, r);
	struct rdt_span terms[MAX_RADIX];

	for (int k = 1; k < f; k++) {
		int other = (digit + k) % f;
		int peer = rdt_group_peer(group, r + (other - digit) * stride);

		rdt_put(out, 0, peer, slot(shape, peer, first + digit),
			slot(shape, me, first + digit));
	}
	for (int k = 1; k < f; k++) {
		int other = (digit - k + f) % f;

		rdt_wait_for(out, 0, rdt_group_peer(group, r + (other - digit) * stride), 1);
	}
	for (int i = 0; i < f; i++)
		terms[i] = slot(shape, me, first + i);
	rdt_reduce_to(out, 0, flags, &result, 1, terms, f);
}

/* A rank of the first p; `follower` is the peer that it is the proxy of, -1: none. */
static void lead(const struct rdt_group *group, const struct rdt_shape *shape,
		 const struct factors *f, int follower, struct rdt_schedule *out)
{
	int r = group->rank, me = rdt_group_peer(group, r), first = 0, stride = 1;
	struct rdt_span output = rdt_span(RDT_OUTPUT, me, 0, shape->bytes);
	struct rdt_span terms[] = { rdt_span(RDT_INPUT, me, 0, shape->bytes),
				    slot(shape, me, f->slots) };
	struct rdt_span partial = slot(shape, me, r % f->factor[0]);

	if (follower >= 0) {
		rdt_wait_for(out, 0, follower, 1);
		rdt_reduce_to(out, 0, 0, &partial, 1, terms, 2);
	} else {
		rdt_copy(out, 0, partial, terms[0]);
	}
	for (int i = 0; i < f->n; i++) {
		int next = first + f->factor[i], next_stride = stride * f->factor[i];
		bool last = i == f->n - 1;

		if (!last)
			partial = slot(shape, me, next + r / next_stride % f->factor[i + 1]);
		multiply(group, shape, f->factor[i], stride, first, last ? RDT_STEP_FINAL : 0,
			 last ? output : partial, out);
		first = next;
		stride = next_stride;
	}
	if (follower >= 0)
		rdt_put(out, 0, follower,
			shape->remote_output ? rdt_span(RDT_OUTPUT, follower, 0, shape->bytes)
					     : slot(shape, follower, f->slots),
			output);
}

static int emit(const struct rdt_group *group, const struct rdt_shape *shape, int radix,
		struct rdt_schedule *out)
{
	struct factors f = factors_of(group->size, radix);
	int n = group->size, r = group->rank, p = f.product, me = rdt_group_peer(group, r);

	if (n == 1) {
		struct rdt_span input = rdt_span(RDT_INPUT, me, 0, shape->bytes);
		struct rdt_span output = rdt_span(RDT_OUTPUT, me, 0, shape->bytes);

		rdt_reduce_to(out, 0, RDT_STEP_FINAL, &output, 1, &input, 1);
		return rdt_schedule_finish(out);
	}
	out->scratch_epochs = 2;
	out->scratch_bytes = (uint64_t)(f.slots + (n > p)) * shape->bytes;
	if (r >= p)
		follow(shape, me, rdt_group_peer(group, r - p), f.slots, out);
	else
		lead(group, shape, &f, r + p < n ? rdt_group_peer(group, r + p) : -1, out);
	return rdt_schedule_finish(out);
}

int rdt_emit_radix2(const struct rdt_group *group, const struct rdt_shape *shape,
		    struct rdt_schedule *out)
{
	return emit(group, shape, 2, out);
}

int rdt_emit_radix4(const struct rdt_group *group, const struct rdt_shape *shape,
		    struct rdt_schedule *out)
{
	return emit(group, shape, 4, out);
}

int rdt_emit_radix8(const struct rdt_group *group, const struct rdt_shape *shape,
		    struct rdt_schedule *out)
{
	return emit(group, shape, 8, out);
}

struct rdt_cost rdt_cost_radix2(int size, const struct rdt_shape *shape)
{
	return cost(size, shape, 2);
}

struct rdt_cost rdt_cost_radix4(int size, const struct rdt_shape *shape)
{
	return cost(size, shape, 4);
}

struct rdt_cost rdt_cost_radix8(int size, const struct rdt_shape *shape)
{
	return cost(size, shape, 8);
}
