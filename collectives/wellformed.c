/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the verifier can say of schedules without running them: spans lie inside their buffers and
 * belong to whom they may, elements are whole, and in every run each rank's waits consume exactly
 * what its peers put.
 */
#include "symbolic.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool is_rank(const struct rdt_verifier *v, int rank)
{
	return rank >= 0 && rank < v->c->size;
}

static int check_span(const struct rdt_verifier *v, const struct rdt_place *at,
		      const struct rdt_span *span)
{
	uint64_t elem = v->c->elem_size, bytes;

	if ((unsigned)span->buffer >= RDT_BUFFER_COUNT || !is_rank(v, span->rank))
		return rdt_fault(v, at, "a span names buffer %d of rank %d: there is none",
				 (int)span->buffer, span->rank);
	bytes = rdt_buffer_bytes(v, at->run, span->rank, span->buffer);
	if (span->length > bytes || span->offset > bytes - span->length)
		return rdt_fault(v, at,
				 "the span ends outside its buffer, which has %" PRIu64 " bytes",
				 bytes);
	if (span->length % elem || span->offset % elem)
		return rdt_fault(v, at, "the span cuts an element of %" PRIu64 " bytes in two",
				 elem);
	return 0;
}

static int check_put(const struct rdt_verifier *v, const struct rdt_place *at,
		     const struct rdt_schedule *s, const struct rdt_step *step)
{
	const struct rdt_span *dst = rdt_step_dst(s, step), *src = rdt_step_src(s, step);
	int status;

	if (!is_rank(v, step->peer) || step->peer == at->rank)
		return rdt_fault(v, at, "no put can go to rank %d", step->peer);
	if (step->n_dst != 1 || step->n_src != 1 || dst->length != src->length)
		return rdt_fault(v, at, "a put has one source and one destination of equal length");
	if (src->length == 0)
		return 0;
	if (src->rank != at->rank || dst->rank != step->peer)
		return rdt_fault(v, at, "a put goes from this rank's memory to its peer's");
	if (dst->buffer == RDT_INPUT || (dst->buffer == RDT_OUTPUT && !v->c->remote_output))
		return rdt_fault(v, at, "a peer may not write there");
	status = check_span(v, at, dst);
	return status ? status : check_span(v, at, src);
}

/* Where a span begins, on a scale that INPUT and OUTPUT share in place. */
static int64_t begin_of(const struct rdt_verifier *v, int run, const struct rdt_span *span)
{
	int64_t begin = (int64_t)span->offset;

	if (span->buffer == RDT_INPUT && v->c->in_place)
		begin += rdt_meaning_distance(rdt_shape_of(v, run, span->rank), span->rank);
	return begin;
}

static bool overlap(const struct rdt_verifier *v, int run, const struct rdt_span *a,
		    const struct rdt_span *b)
{
	bool in_place = v->c->in_place && a->buffer != RDT_SCRATCH && b->buffer != RDT_SCRATCH;
	int64_t at_a = begin_of(v, run, a), at_b = begin_of(v, run, b);

	return a->rank == b->rank && (a->buffer == b->buffer || in_place) &&
	       at_a < at_b + (int64_t)b->length && at_b < at_a + (int64_t)a->length;
}

/* May this rank load from and store to the span? */
static bool reachable(const struct rdt_verifier *v, const struct rdt_place *at,
		      const struct rdt_span *span)
{
	const struct rdt_shape *shape = rdt_shape_of(v, at->run, at->rank);

	return span->rank == at->rank || (rdt_shares_host(shape, span->rank, at->rank) &&
					  (span->buffer == RDT_SCRATCH || shape->mapped));
}

/* REDUCE and COPY touch memory that is mapped here only, and store where no source is but their
 * own. */
static int check_local(const struct rdt_verifier *v, const struct rdt_place *at,
		       const struct rdt_schedule *s, const struct rdt_step *step)
{
	const struct rdt_span *dst = rdt_step_dst(s, step);
	int n = step->n_dst + step->n_src;

	if (step->n_dst < 1 || step->n_src < 1 || (step->kind == RDT_COPY && n != 2))
		return rdt_fault(v, at, "it lacks a source or a destination, or has too many");
	for (int i = 0; i < n; i++) {
		int status = check_span(v, at, &dst[i]);

		if (status)
			return status;
		if (!reachable(v, at, &dst[i]))
			return rdt_fault(v, at,
					 "it touches the memory of rank %d, which is not "
					 "mapped here",
					 dst[i].rank);
		if (dst[i].length != dst[0].length || dst[i].length == 0)
			return rdt_fault(v, at, "its spans are empty or of different lengths");
	}
	for (int i = 0; i < step->n_dst; i++) {
		if (dst[i].buffer == RDT_INPUT)
			return rdt_fault(v, at, "it writes INPUT");
		for (int k = i + 1; k < n; k++) {
			bool same_place = k >= step->n_dst && begin_of(v, at->run, &dst[i]) ==
								      begin_of(v, at->run, &dst[k]);

			if (overlap(v, at->run, &dst[i], &dst[k]) && !same_place)
				return rdt_fault(v, at, "a destination overlaps another span");
		}
	}
	return 0;
}

static int check_step(const struct rdt_verifier *v, const struct rdt_place *at,
		      const struct rdt_schedule *s, const struct rdt_step *step)
{
	switch ((enum rdt_step_kind)step->kind) {
	case RDT_PUT: return check_put(v, at, s, step);
	case RDT_WAIT:
		if (!is_rank(v, step->peer) || step->peer == at->rank || step->count == 0)
			return rdt_fault(v, at, "nothing can be waited for there");
		return 0;
	case RDT_REDUCE:
	case RDT_COPY: return check_local(v, at, s, step);
	}
	return rdt_fault(v, at, "there is no step of kind %d", step->kind);
}

/* Notifications in one run, from one rank to another, on one lane. */
struct balance {
	uint32_t put, waited;
};

static struct balance *balance_of(const struct rdt_verifier *v, struct balance *all, int from,
				  int to, int lane)
{
	return &all[((size_t)from * (size_t)v->c->size + (size_t)to) * (size_t)v->lanes +
		    (size_t)lane];
}

static int check_balance(const struct rdt_verifier *v, int run, struct balance *all)
{
	for (int from = 0; from < v->c->size; from++)
		for (int to = 0; to < v->c->size; to++)
			for (int lane = 0; lane < v->lanes; lane++) {
				struct balance *b = balance_of(v, all, from, to, lane);

				if (b->put != b->waited)
					return rdt_fault(v, NULL,
							 "in run %d rank %d notifies rank %d %u "
							 "times on lane %d, which waits for %u",
							 run, from, to, b->put, lane, b->waited);
			}
	return 0;
}

static int check_schedule(const struct rdt_verifier *v, int run, int rank, struct balance *all)
{
	const struct rdt_schedule *s = rdt_schedule_of(v, run, rank);

	if (s->scratch_epochs != v->epochs[rdt_plan_of(v, run)])
		return rdt_fault(v, NULL, "rank %d keeps %d copies of scratch in run %d, others %d",
				 rank, s->scratch_epochs, run, v->epochs[rdt_plan_of(v, run)]);
	if (s->scratch_bytes != rdt_schedule_of(v, run, 0)->scratch_bytes)
		return rdt_fault(
			v, NULL,
			"in run %d rank %d has %" PRIu64 " bytes of scratch, rank 0 %" PRIu64
			": a peer would reckon with the wrong place",
			run, rank, s->scratch_bytes, rdt_schedule_of(v, run, 0)->scratch_bytes);
	for (int l = 0; l < s->n_lanes; l++)
		for (size_t i = 0; i < s->lanes[l].n_steps; i++) {
			const struct rdt_step *step = &s->lanes[l].steps[i];
			struct rdt_place at = { run, rank, l, (int)i };
			int status = check_step(v, &at, s, step);

			if (status)
				return status;
			if (step->kind == RDT_PUT)
				balance_of(v, all, rank, step->peer, l)->put++;
			else if (step->kind == RDT_WAIT)
				balance_of(v, all, step->peer, rank, l)->waited += step->count;
		}
	return 0;
}

int rdt_check_wellformed(const struct rdt_verifier *v)
{
	size_t n = (size_t)v->c->size * (size_t)v->c->size * (size_t)v->lanes;
	struct balance *all = malloc(n * sizeof(*all));
	int status = all ? 0 : -1;

	for (int run = 0; run < RDT_VERIFY_RUNS && !status; run++) {
		memset(all, 0, n * sizeof(*all));
		for (int rank = 0; rank < v->c->size && !status; rank++)
			status = check_schedule(v, run, rank, all);
		if (!status)
			status = check_balance(v, run, all);
	}
	free(all);
	return status;
}
