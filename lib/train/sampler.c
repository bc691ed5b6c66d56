/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Samplers: which samples a worker works on in each step. Two things are kept apart:
 *
 * The order is global. Epoch e is one permutation of all samples, a function of the seed and e;
 * step s works on its batch [s * batch, (s + 1) * batch). The number of workers does not enter, so
 * any number of them trains on the same batches, and all of them take the same number of steps.
 *
 * The placement says which workers hold a sample, and so who of them works on it: the one of its
 * holders that has the fewest samples of this batch so far. All workers compute the same.
 */
#include <rdtrain/train.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "hash_ring.h"
#include "options.h"

struct rdt_sampler {
	uint64_t samples, batch, seed, steps;
	int rank, workers, replicas;
	enum rdt_placement placement;
	bool in_order;
	uint64_t *keys; /* NULL: a sample's key is its number */
	struct rdt_hash_ring ring;
	uint32_t *holders; /* room for `replicas` */
	size_t *load;	   /* of each worker, in the batch that is dealt out */
	uint64_t *order;   /* the permutation of epoch `shuffled` */
	uint64_t *mine;	   /* this worker's samples of the step */
	uint64_t shuffled;
	uint64_t position;
};

/* ---- the order --------------------------------------------------------------------------- */

/* SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014). */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* 0 to n-1, each equally likely: the few values that would favour some are drawn again. */
static uint64_t below(uint64_t *state, uint64_t n)
{
	uint64_t unfair = -n % n, value;

	do
		value = next_random(state);
	while (value < unfair);
	return value % n;
}

/* Fisher and Yates, from the sorted list, so that an epoch does not depend on those before it. */
static void shuffle(rdt_sampler *s, uint64_t epoch)
{
	uint64_t state = rdt_hash_number(s->seed) ^ rdt_hash_number(~epoch);

	for (uint64_t i = 0; i < s->samples; i++)
		s->order[i] = i;
	for (uint64_t i = s->samples; i > 1 && !s->in_order; i--) {
		uint64_t j = below(&state, i), swap = s->order[i - 1];

		s->order[i - 1] = s->order[j];
		s->order[j] = swap;
	}
	s->shuffled = epoch;
}

/* ---- the placement ----------------------------------------------------------------------- */

/* Writes the ranks that hold a sample, first its owner; how many there are is s->replicas. */
static void find_holders(const rdt_sampler *s, uint64_t sample, uint32_t *holders)
{
	uint64_t n = (uint64_t)s->workers, key = s->keys ? s->keys[sample] : sample, owner = 0;

	switch (s->placement) {
	case RDT_PLACE_CONSISTENT:
		rdt_hash_ring_owners(&s->ring, rdt_hash_number(key), holders, (size_t)s->replicas);
		return;
	case RDT_PLACE_SPLIT:
		/* the last w with w * samples / n <= sample */
		owner = (uint64_t)(((unsigned __int128)(sample + 1) * n - 1) / s->samples);
		break;
	case RDT_PLACE_ROUND_ROBIN: owner = sample % n; break;
	case RDT_PLACE_HASH: owner = rdt_hash_number(key) % n; break;
	case RDT_PLACE_EVERYWHERE: break;
	}
	for (int r = 0; r < s->replicas; r++)
		holders[r] = (uint32_t)((owner + (uint64_t)r) % n);
}

struct name {
	uint32_t id, rank;
};

static int compare_ids(const void *a, const void *b)
{
	uint32_t p = ((const struct name *)a)->id, q = ((const struct name *)b)->id;

	return (p > q) - (p < q);
}

/* The ring is made of the workers' ids, and then told their ranks, by which all else counts. */
static int make_ring(rdt_sampler *s, const uint32_t *ids, int virtual_nodes)
{
	size_t n = (size_t)s->workers;
	struct name *names = malloc(n * sizeof(*names));
	uint32_t *nodes = malloc(n * sizeof(*nodes));
	int status = RDT_ERR_NOMEM;

	if (!nodes || !names) {
		rdt_set_error(RDT_ERR_NOMEM, "no memory for the ids of %zu workers", n);
		goto out;
	}
	for (uint32_t w = 0; w < n; w++) {
		nodes[w] = ids ? ids[w] : w;
		names[w] = (struct name){ .id = nodes[w], .rank = w };
	}
	status = rdt_hash_ring_make(&s->ring, nodes, n, virtual_nodes);
	qsort(names, n, sizeof(*names), compare_ids);
	for (size_t p = 0; p < s->ring.n_points; p++) {
		struct name key = { .id = s->ring.points[p].node }, *found;

		found = bsearch(&key, names, n, sizeof(*names), compare_ids);
		s->ring.points[p].node = found->rank;
	}
out:
	free(nodes);
	free(names);
	return status;
}

/* ---- creation ---------------------------------------------------------------------------- */

static int check(const struct rdt_sampler_options *o)
{
	if (o->samples == 0 || o->batch == 0 || o->samples > PTRDIFF_MAX / sizeof(uint64_t))
		return rdt_set_error(RDT_ERR_INVALID, "a sampler of %zu samples in batches of %zu",
				     (size_t)o->samples, (size_t)o->batch);
	if (o->workers < 1 || o->rank < 0 || o->rank >= o->workers)
		return rdt_set_error(RDT_ERR_INVALID, "a sampler for rank %d of %d workers",
				     o->rank, o->workers);
	if ((unsigned)o->placement > RDT_PLACE_CONSISTENT)
		return rdt_set_error(RDT_ERR_INVALID, "%d is no enum rdt_placement",
				     (int)o->placement);
	if (o->replicas < 0 || o->replicas > o->workers)
		return rdt_set_error(RDT_ERR_INVALID,
				     "%d replicas of each sample on %d workers: 1 to %d",
				     o->replicas, o->workers, o->workers);
	if (o->drop_last && o->batch > o->samples)
		return rdt_set_error(RDT_ERR_INVALID,
				     "a batch of %zu of %zu samples, and incomplete batches are "
				     "dropped: no step is left",
				     (size_t)o->batch, (size_t)o->samples);
	return 0;
}

int rdt_sampler_create(const struct rdt_sampler_options *options, rdt_sampler **sampler)
{
	struct rdt_sampler_options given, *o = &given;
	rdt_sampler *s = NULL;
	int status;

	if (!sampler)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_sampler_create: sampler is NULL");
	*sampler = NULL;
	status = rdt_options_copy("rdt_sampler_options", o, sizeof(*o), options);
	if (!status)
		status = check(o);
	if (status)
		return status;
	s = calloc(1, sizeof(*s));
	if (!s)
		goto no_memory;
	s->samples = o->samples;
	s->batch = o->batch < o->samples ? o->batch : o->samples;
	s->seed = o->seed;
	s->steps = o->drop_last ? o->samples / s->batch : (o->samples - 1) / s->batch + 1;
	s->rank = o->rank;
	s->workers = o->workers;
	s->placement = o->placement;
	s->replicas = o->placement == RDT_PLACE_EVERYWHERE ? o->workers
		      : o->replicas			   ? o->replicas
							   : 1;
	s->in_order = o->in_order;
	s->holders = calloc((size_t)s->replicas, sizeof(*s->holders));
	s->load = calloc((size_t)s->workers, sizeof(*s->load));
	s->order = calloc(s->samples, sizeof(*s->order));
	s->mine = calloc(s->batch, sizeof(*s->mine));
	if (o->keys) {
		s->keys = calloc(s->samples, sizeof(*s->keys));
		if (s->keys)
			memcpy(s->keys, o->keys, s->samples * sizeof(*s->keys));
	}
	if (!s->holders || !s->load || !s->order || !s->mine || (o->keys && !s->keys))
		goto no_memory;
	if (s->placement == RDT_PLACE_CONSISTENT)
		status = make_ring(s, o->ids, o->virtual_nodes);
	if (status) {
		rdt_sampler_destroy(s);
		return status;
	}
	shuffle(s, 0);
	*sampler = s;
	return 0;
no_memory:
	rdt_sampler_destroy(s);
	return rdt_set_error(RDT_ERR_NOMEM, "no memory for a sampler of %zu samples",
			     (size_t)o->samples);
}

void rdt_sampler_destroy(rdt_sampler *s)
{
	if (!s)
		return;
	rdt_hash_ring_free(&s->ring);
	free(s->keys);
	free(s->holders);
	free(s->load);
	free(s->order);
	free(s->mine);
	free(s);
}

/* ---- steps ------------------------------------------------------------------------------- */

uint64_t rdt_sampler_steps(const rdt_sampler *s)
{
	return s->steps;
}

uint64_t rdt_sampler_position(const rdt_sampler *s)
{
	return s->position;
}

void rdt_sampler_seek(rdt_sampler *s, uint64_t position)
{
	s->position = position;
}

int rdt_sampler_holders(const rdt_sampler *s, uint64_t sample, int *ranks, int max)
{
	uint32_t *holders = s->holders;

	if (sample >= s->samples)
		return rdt_set_error(RDT_ERR_INVALID, "sample %zu of %zu", (size_t)sample,
				     (size_t)s->samples);
	find_holders(s, sample, holders);
	for (int r = 0; r < s->replicas && r < max; r++)
		ranks[r] = (int)holders[r];
	return s->replicas;
}

/* An even cut, one piece behind the other; pieces differ by one sample at most. */
static void cut(rdt_sampler *s, const uint64_t *batch, struct rdt_batch *out)
{
	size_t n = (size_t)s->workers, rank = (size_t)s->rank, base = out->total / n,
	       more = out->total % n;
	size_t first = rank * base + (rank < more ? rank : more);

	out->n = base + (rank < more);
	memcpy(s->mine, batch + first, out->n * sizeof(*batch));
}

/* Each sample to the holder that has the fewest of this batch, the first of those. */
static void deal(rdt_sampler *s, const uint64_t *batch, struct rdt_batch *out)
{
	memset(s->load, 0, (size_t)s->workers * sizeof(*s->load));
	for (size_t i = 0; i < out->total; i++) {
		uint32_t to;

		find_holders(s, batch[i], s->holders);
		to = s->holders[0];
		for (int r = 1; r < s->replicas; r++)
			if (s->load[s->holders[r]] < s->load[to])
				to = s->holders[r];
		s->load[to]++;
		if (to == (uint32_t)s->rank)
			s->mine[out->n++] = batch[i];
	}
}

void rdt_sampler_next(rdt_sampler *s, struct rdt_batch *out)
{
	uint64_t first;

	out->epoch = s->position / s->steps;
	out->step = s->position % s->steps;
	if (out->epoch != s->shuffled)
		shuffle(s, out->epoch);
	first = out->step * s->batch;
	out->total = s->samples - first < s->batch ? s->samples - first : s->batch;
	out->rows = s->mine;
	out->n = 0;
	if (s->placement == RDT_PLACE_EVERYWHERE)
		cut(s, s->order + first, out);
	else
		deal(s, s->order + first, out);
	s->position++;
}
