/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A second opinion on schedules, independent of the verifier: runs all ranks on numbers in an order
 * drawn from a seed. Puts read their source and write their destination late, early or at any
 * time, some ranks are slow, and the caller spoils its buffers between runs. It cannot prove
 * anything; but what the verifier lets pass must never fail here.
 */
#ifndef COLLECTIVES_SHAKEN_H
#define COLLECTIVES_SHAKEN_H

#include <stdlib.h>
#include <string.h>

#include "collectives/meaning.h"
#include "collectives/verify.h"

#define SHAKEN_RUNS 4

struct shaken_number {
	uint64_t sum;
	uint32_t finals; /* how often FINAL was applied on the way */
};

struct shaken_put {
	int from, to, lane, run;
	bool read, written;
	struct rdt_span src, dst;
	struct shaken_number *data;
};

struct shaken {
	const struct rdt_verify_case *c;
	struct rdt_schedule (*schedules)[64]; /* [run][rank] */
	struct rdt_case_shape (*shapes)[64];  /* [run % 2][rank] */
	uint64_t seed, elements, scratch, cells;
	struct shaken_number *memory;
	struct shaken_put *puts;
	int n_puts, max_puts, first; /* puts below `first` are written */
	uint32_t arrived[64][64][RDT_MAX_LANES];
	struct {
		int run, begun;
		size_t step[RDT_MAX_LANES];
		int slowness;
	} ranks[64];
};

static inline uint64_t shaken_random(uint64_t *seed)
{
	uint64_t x = *seed += 0x9e3779b97f4a7c15u;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static inline const struct rdt_shape *shaken_shape(const struct shaken *k, int run, int rank)
{
	return &k->shapes[run % 2][rank].shape;
}

static inline uint64_t shaken_elements(const struct shaken *k, int run, int rank,
				       enum rdt_buffer buffer)
{
	return rdt_meaning_bytes(shaken_shape(k, run, rank), k->c->size, rank, buffer) /
	       k->c->elem_size;
}

static inline uint64_t shaken_contribution(int run, int rank, uint64_t element)
{
	uint64_t seed = (uint64_t)run << 48 | (uint64_t)rank << 32 | element;

	return shaken_random(&seed);
}

static inline struct shaken_number *shaken_at(struct shaken *k, int rank, enum rdt_buffer buffer,
					      int run, uint64_t offset)
{
	uint64_t cell = (uint64_t)rank * k->cells + offset / k->c->elem_size;
	int epochs = k->schedules[0][0].scratch_epochs;

	/* OUTPUT lies in the second third; in place INPUT lies over it. */
	if (buffer == RDT_OUTPUT || (buffer == RDT_INPUT && k->c->in_place))
		cell += k->elements;
	if (buffer == RDT_INPUT && k->c->in_place)
		cell += (uint64_t)(rdt_meaning_distance(shaken_shape(k, run, rank), rank) /
				   (int64_t)k->c->elem_size);
	if (buffer == RDT_INPUT && !k->c->in_place)
		cell += 2 * k->elements;
	if (buffer == RDT_SCRATCH)
		cell += 3 * k->elements + (uint64_t)(run % epochs) * k->scratch;
	return &k->memory[cell];
}

static inline void shaken_begin(struct shaken *k, int rank, int run)
{
	const struct rdt_shape *shape = shaken_shape(k, run, rank);
	bool root = shape->collective == RDT_COLL_BROADCAST && rank == shape->root;

	k->ranks[rank].run = run;
	memset(k->ranks[rank].step, 0, sizeof(k->ranks[rank].step));
	if (run == SHAKEN_RUNS)
		return;
	k->ranks[rank].begun = run + 1;
	for (uint64_t i = 0; i < shaken_elements(k, run, rank, RDT_OUTPUT); i++)
		*shaken_at(k, rank, RDT_OUTPUT, run, i * k->c->elem_size) =
			(struct shaken_number){ root ? shaken_contribution(run, rank, i)
						     : shaken_random(&k->seed),
						root ? 0 : 7 };
	for (uint64_t i = 0; i < shaken_elements(k, run, rank, RDT_INPUT); i++)
		*shaken_at(k, rank, RDT_INPUT, run, i * k->c->elem_size) =
			(struct shaken_number){ shaken_contribution(run, rank, i), 0 };
}

/* Is the result of this rank right? */
static inline bool shaken_right(struct shaken *k, int rank, int run)
{
	enum rdt_collective collective = k->c->algorithm->collective;
	const struct rdt_shape *shapes[64];

	for (int r = 0; r < k->c->size; r++) {
		shapes[r] = shaken_shape(k, run, r);
		if (collective == RDT_COLL_BARRIER && k->ranks[r].begun <= run)
			return false;
	}
	for (uint64_t i = 0; i < shaken_elements(k, run, rank, RDT_OUTPUT); i++) {
		const struct shaken_number *got =
			shaken_at(k, rank, RDT_OUTPUT, run, i * k->c->elem_size);
		struct rdt_meaning meaning;
		uint64_t sum = 0;

		if (!rdt_meaning_of(shapes, k->c->size, rank, i, &meaning))
			continue;
		for (int r = 0; r < k->c->size; r++)
			if (meaning.rank < 0 || r == meaning.rank)
				sum += shaken_contribution(run, r, meaning.element);
		if (got->sum != sum || got->finals != rdt_collective_reduces(collective))
			return false;
	}
	return true;
}

static inline uint64_t shaken_length(const struct shaken *k, const struct rdt_span *span)
{
	return span->length / k->c->elem_size;
}

static inline void shaken_local(struct shaken *k, const struct rdt_schedule *s,
				const struct rdt_step *step, int run)
{
	const struct rdt_span *dst = rdt_step_dst(s, step), *src = rdt_step_src(s, step);

	for (uint64_t i = 0; i < shaken_length(k, dst); i++) {
		struct shaken_number sum = { 0, 0 };

		for (int n = 0; n < step->n_src; n++) {
			const struct shaken_number *x =
				shaken_at(k, src[n].rank, src[n].buffer, run, src[n].offset) + i;

			sum.sum += x->sum;
			sum.finals += x->finals;
		}
		sum.finals += step->flags & RDT_STEP_FINAL;
		for (int n = 0; n < step->n_dst; n++)
			shaken_at(k, dst[n].rank, dst[n].buffer, run, dst[n].offset)[i] = sum;
	}
}

/* Moves one lane by one step, or the rank to its next run. False: it has to wait. */
static inline bool shaken_step(struct shaken *k, int rank, int lane, bool *wrong)
{
	int run = k->ranks[rank].run;
	const struct rdt_schedule *s;
	const struct rdt_step *step;

	if (run == SHAKEN_RUNS)
		return false;
	s = &k->schedules[run][rank];
	if (k->ranks[rank].step[lane] == s->lanes[lane].n_steps) {
		for (int l = 0; l < s->n_lanes; l++)
			if (k->ranks[rank].step[l] < s->lanes[l].n_steps)
				return false;
		for (int i = k->first; i < k->n_puts; i++)
			if (k->puts[i].from == rank && !k->puts[i].read)
				return false;
		*wrong = !shaken_right(k, rank, run);
		shaken_begin(k, rank, run + 1);
		return true;
	}
	step = &s->lanes[lane].steps[k->ranks[rank].step[lane]];
	if (step->kind == RDT_WAIT) {
		if (k->arrived[rank][step->peer][lane] < step->count)
			return false;
		k->arrived[rank][step->peer][lane] -= step->count;
	} else if (step->kind == RDT_PUT) {
		k->puts[k->n_puts++] = (struct shaken_put){
			.from = rank,
			.to = step->peer,
			.lane = lane,
			.run = run,
			.dst = *rdt_step_dst(s, step),
			.src = *rdt_step_src(s, step),
		};
	} else {
		shaken_local(k, s, step, run);
	}
	k->ranks[rank].step[lane]++;
	return true;
}

/* Moves one put: it reads, and later it writes and notifies, in the order of its channel. */
static inline bool shaken_put_moves(struct shaken *k, int index)
{
	struct shaken_put *put = &k->puts[index];
	uint64_t n = shaken_length(k, &put->src);

	if (put->written)
		return false;
	if (!put->read) {
		put->data = malloc((n + 1) * sizeof(*put->data));
		if (!put->data)
			abort();
		memcpy(put->data,
		       shaken_at(k, put->from, put->src.buffer, put->run, put->src.offset),
		       n * sizeof(*put->data));
		put->read = true;
		return true;
	}
	for (int i = k->first; i < index; i++)
		if (!k->puts[i].written && k->puts[i].from == put->from &&
		    k->puts[i].to == put->to && k->puts[i].lane == put->lane)
			return false;
	if (n)
		memcpy(shaken_at(k, put->to, put->dst.buffer, put->run, put->dst.offset), put->data,
		       n * sizeof(*put->data));
	free(put->data);
	put->data = NULL;
	put->written = true;
	k->arrived[put->to][put->from][put->lane]++;
	while (k->first < k->n_puts && k->puts[k->first].written)
		k->first++;
	return true;
}

/* Any put, beginning anywhere. */
static inline bool shaken_some_put(struct shaken *k)
{
	int n = k->n_puts - k->first;
	int from = n ? (int)(shaken_random(&k->seed) % (uint64_t)n) : 0;

	for (int i = 0; i < n; i++)
		if (shaken_put_moves(k, k->first + (from + i) % n))
			return true;
	return false;
}

/* Any lane; slow ranks let their turn pass. */
static inline bool shaken_some_lane(struct shaken *k, bool patient, bool *wrong)
{
	int from = (int)(shaken_random(&k->seed) % (uint64_t)k->c->size);

	for (int i = 0; i < k->c->size; i++) {
		int rank = (from + i) % k->c->size;
		int slow = k->ranks[rank].slowness;

		if (patient && slow && shaken_random(&k->seed) % (uint64_t)slow)
			continue;
		for (int l = 0; l < RDT_MAX_LANES; l++)
			if (shaken_step(k, rank, l, wrong))
				return true;
	}
	return false;
}

/* Does the operation end with right results on all ranks, in the order that `seed` gives? */
static inline bool shaken_run(const struct rdt_verify_case *c, struct rdt_schedule (*schedules)[64],
			      uint64_t seed)
{
	struct shaken k = { .c = c, .schedules = schedules, .seed = seed };
	uint64_t laziness = shaken_random(&k.seed) % 3; /* of puts: eager, any, lazy */
	bool moved = true, wrong = false;

	k.shapes = malloc(2 * sizeof(*k.shapes));
	if (!k.shapes)
		abort();
	for (int run = 0; run < 2; run++)
		for (int rank = 0; rank < c->size; rank++)
			rdt_verify_shape(c, run, rank, &k.shapes[run][rank]);
	for (int run = 0; run < SHAKEN_RUNS; run++)
		for (int rank = 0; rank < c->size; rank++) {
			const struct rdt_schedule *s = &schedules[run][rank];

			for (int b = RDT_INPUT; b <= RDT_OUTPUT; b++)
				if (shaken_elements(&k, run, rank, (enum rdt_buffer)b) > k.elements)
					k.elements =
						shaken_elements(&k, run, rank, (enum rdt_buffer)b);

			if (s->scratch_bytes / c->elem_size > k.scratch)
				k.scratch = s->scratch_bytes / c->elem_size;
			for (int l = 0; l < s->n_lanes; l++)
				k.max_puts += (int)s->lanes[l].n_steps;
		}
	k.cells = 3 * k.elements + 2 * k.scratch;
	k.memory = calloc((size_t)(k.cells * (uint64_t)c->size + 1), sizeof(*k.memory));
	k.puts = calloc((size_t)k.max_puts + 1, sizeof(*k.puts));
	if (!k.memory || !k.puts)
		abort();
	for (int rank = 0; rank < c->size; rank++) {
		k.ranks[rank].slowness = shaken_random(&k.seed) % 4 ? 0 : 100;
		shaken_begin(&k, rank, 0);
	}
	while (moved && !wrong) {
		bool put_first = laziness == 0 || (laziness == 1 && shaken_random(&k.seed) % 2);

		moved = (put_first && shaken_some_put(&k)) || shaken_some_lane(&k, true, &wrong) ||
			shaken_some_put(&k) || shaken_some_lane(&k, false, &wrong);
	}
	for (int rank = 0; rank < c->size; rank++)
		wrong = wrong || k.ranks[rank].run != SHAKEN_RUNS;
	for (int i = k.first; i < k.n_puts; i++)
		free(k.puts[i].data);
	free(k.puts);
	free(k.memory);
	free(k.shapes);
	return !wrong;
}

#endif
