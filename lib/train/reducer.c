/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The reducer: averages the gradients of a backward pass over the ranks while the pass goes on.
 *
 * Gradients are put into buckets from the last to the first, as a backward pass makes them. A
 * bucket is one persistent allreduce. It starts when all of its gradients are ready and all buckets
 * before it have started: plans of a communicator must start in the same order on all ranks,
 * whatever the order in which each of them computes.
 *
 * Where the gradients live:
 *
 *	in the bucket	that is what peers reach, nothing is copied; the default
 *	apart		in the caller's memory, or while they are added up over several passes;
 *			copied in when ready, and out when the means are there
 *
 * On a wire of 16 bits the bucket is ordinary memory, and what the plan sends is a rounded copy.
 * For a mean in float16, whose largest number is soon exceeded by a sum, each rank's share of the
 * mean is rounded, and the shares are summed.
 */
#include <rdtrain/train.h>

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "half.h"
#include "options.h"

#define BUCKET_BYTES ((size_t)4 << 20)
#define BUCKETS_MAX 200 /* a communicator has 254 plans */
#define LINE ((size_t)64)

struct gradient {
	size_t count;
	char *data, *in_bucket; /* the same: nothing is copied */
	int bucket;
	bool ready; /* in this pass */
	bool used;  /* in this step */
};

struct bucket {
	size_t count; /* elements, with what aligns them */
	size_t first; /* within the memory of all buckets */
	int waits_for, gradients;
	rdt_plan *plan;
};

struct rdt_reducer {
	rdt_comm *comm;
	enum rdt_type type, wire;
	size_t elem;
	bool sum, accumulates;
	bool shares; /* shares of the mean are sent, not terms of the sum */
	float most;  /* of what is sent, in size */
	bool holds;  /* this pass only adds */
	int passes;  /* of this step that are finished */
	struct gradient *gradients;
	int n_gradients;
	struct bucket *buckets;
	int n_buckets;
	int started;	 /* buckets of this pass */
	int oldest;	 /* of those that may be in flight */
	size_t count;	 /* elements of all buckets */
	void *reachable; /* from rdt_alloc: the buckets, or what is sent of them */
	char *memory;	 /* the buckets */
	float *carry;	 /* what rounding lost; NULL: forgotten */
	char *apart;	 /* of gradients that are added up, without memory of the caller's */
};

static size_t aligned(const struct rdt_reducer *r, size_t count)
{
	size_t per_line = LINE / r->elem;

	return (count + per_line - 1) / per_line * per_line;
}

/* ---- set-up ---------------------------------------------------------------------------------- */

static int check(const rdt_comm *comm, const struct rdt_gradient *gradients, int n,
		 const struct rdt_reducer_options *o)
{
	if (!comm || !gradients || n < 1)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_reducer_create: %s",
				     !comm	  ? "no communicator"
				     : !gradients ? "gradients is NULL"
						  : "n must be 1 or more");
	for (int i = 0; i < n; i++)
		if (gradients[i].count == 0)
			return rdt_set_error(RDT_ERR_INVALID,
					     "rdt_reducer_create: gradient %d has no elements", i);
	if (o->type != RDT_FLOAT32 && o->type != RDT_FLOAT64)
		return rdt_set_error(RDT_ERR_INVALID,
				     "rdt_reducer_options.type: gradients are float32 or float64");
	if (o->wire != RDT_FLOAT32 && o->wire != RDT_FLOAT16 && o->wire != RDT_BFLOAT16)
		return rdt_set_error(
			RDT_ERR_INVALID,
			"rdt_reducer_options.wire is RDT_FLOAT16 or RDT_BFLOAT16, or 0 "
			"for gradients as they are");
	if (o->wire != RDT_FLOAT32 && o->type != RDT_FLOAT32)
		return rdt_set_error(
			RDT_ERR_INVALID,
			"rdt_reducer_options.wire: only float32 gradients are rounded");
	return 0;
}

/* Which gradients go together: from the last on, as many as fit. Counts only; no memory yet. */
static int divide(struct rdt_reducer *r, size_t bucket_bytes)
{
	int b = -1;

	for (int i = r->n_gradients - 1; i >= 0; i--) {
		size_t count = aligned(r, r->gradients[i].count);

		if (b < 0 || (r->buckets[b].count + count) * r->elem > bucket_bytes)
			r->buckets[++b].first = r->count;
		r->gradients[i].bucket = b;
		r->buckets[b].count += count;
		r->buckets[b].gradients++;
		r->count += count;
	}
	r->n_buckets = b + 1;
	if (r->n_buckets > BUCKETS_MAX)
		return rdt_set_error(
			RDT_ERR_INVALID,
			"rdt_reducer_create: the gradients would make %d buckets, at most "
			"%d are possible; raise rdt_reducer_options.bucket_bytes",
			r->n_buckets, BUCKETS_MAX);
	return 0;
}

static void *lines(size_t bytes)
{
	void *memory = aligned_alloc(LINE, (bytes + LINE - 1) / LINE * LINE);

	if (memory)
		memset(memory, 0, bytes);
	return memory;
}

static int allocate(struct rdt_reducer *r, bool feedback)
{
	bool rounded = r->wire != r->type;
	int status = rdt_alloc(r->comm, r->count * rdt_type_size(r->wire), &r->reachable);

	if (status)
		return status;
	r->memory = rounded ? lines(r->count * r->elem) : r->reachable;
	if (rounded && feedback)
		r->carry = lines(r->count * sizeof(float));
	if (r->accumulates)
		r->apart = lines(r->count * r->elem);
	if (!r->memory || (rounded && feedback && !r->carry) || (r->accumulates && !r->apart))
		return rdt_set_error(RDT_ERR_NOMEM, "out of memory for gradients of %zu bytes",
				     r->count * r->elem);
	return 0;
}

/* Says where each gradient is. */
static void place(struct rdt_reducer *r, const struct rdt_gradient *given)
{
	size_t at = 0;

	for (int i = r->n_gradients - 1; i >= 0; i--) {
		struct gradient *g = &r->gradients[i];

		g->in_bucket = r->memory + at * r->elem;
		g->data = given[i].data	   ? given[i].data
			  : r->accumulates ? r->apart + at * r->elem
					   : g->in_bucket;
		at += aligned(r, g->count);
	}
}

static void begin_pass(struct rdt_reducer *r)
{
	for (int i = 0; i < r->n_gradients; i++)
		r->gradients[i].ready = false;
	for (int b = 0; b < r->n_buckets; b++)
		r->buckets[b].waits_for = r->buckets[b].gradients;
	r->started = r->oldest = 0;
	r->holds = false;
}

/* So much that the sum of all ranks' is no infinity, although each addition may round up. */
static float largest_share(int ranks)
{
	return (float)(RDT_FLOAT16_MAX / ranks / pow(1 + 0x1p-11, ranks));
}

static int make_plans(struct rdt_reducer *r)
{
	enum rdt_op op = r->sum || r->shares ? RDT_SUM : RDT_AVG;

	for (int b = 0; b < r->n_buckets; b++) {
		struct bucket *bucket = &r->buckets[b];
		char *at = (char *)r->reachable + bucket->first * rdt_type_size(r->wire);
		int status = rdt_allreduce_plan(r->comm, at, at, bucket->count, r->wire, op,
						&bucket->plan);

		if (status)
			return status;
	}
	return 0;
}

int rdt_reducer_create(rdt_comm *comm, const struct rdt_gradient *gradients, int n,
		       const struct rdt_reducer_options *options, rdt_reducer **out)
{
	static const struct rdt_reducer_options defaults = { .size = sizeof(defaults) };
	struct rdt_reducer_options given, *o = &given;
	rdt_reducer *r;
	int status;

	if (!out)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_reducer_create: reducer is NULL");
	*out = NULL;
	status = rdt_options_copy("rdt_reducer_options", o, sizeof(*o),
				  options ? options : &defaults);
	if (!status)
		status = check(comm, gradients, n, o);
	if (status)
		return status;
	r = calloc(1, sizeof(*r));
	if (!r)
		return rdt_set_error(RDT_ERR_NOMEM, "out of memory for a reducer");
	r->comm = comm;
	r->type = o->type;
	r->wire = o->wire == RDT_FLOAT32 ? o->type : o->wire;
	r->elem = rdt_type_size(r->type);
	r->sum = o->sum;
	r->accumulates = o->accumulate;
	r->shares = r->wire == RDT_FLOAT16 && !r->sum;
	r->most = r->wire == RDT_FLOAT16 ? RDT_FLOAT16_MAX : FLT_MAX;
	if (r->shares)
		r->most = largest_share(rdt_comm_size(comm));
	r->n_gradients = n;
	r->gradients = calloc((size_t)n, sizeof(*r->gradients));
	r->buckets = calloc((size_t)n, sizeof(*r->buckets));
	if (!r->gradients || !r->buckets) {
		status = rdt_set_error(RDT_ERR_NOMEM, "out of memory for %d gradients", n);
		goto fail;
	}
	for (int i = 0; i < n; i++)
		r->gradients[i].count = gradients[i].count;
	status = divide(r, o->bucket_bytes ? o->bucket_bytes : BUCKET_BYTES);
	if (!status)
		status = allocate(r, !o->no_feedback);
	if (status)
		goto fail;
	place(r, gradients);
	begin_pass(r);
	status = make_plans(r);
	if (status)
		goto fail;
	*out = r;
	return 0;

fail:
	rdt_reducer_destroy(r);
	return status;
}

void rdt_reducer_destroy(rdt_reducer *r)
{
	if (!r)
		return;
	for (int b = 0; b < r->n_buckets; b++)
		rdt_plan_destroy(r->buckets[b].plan);
	if (r->memory != r->reachable)
		free(r->memory);
	rdt_free(r->comm, r->reachable);
	free(r->carry);
	free(r->apart);
	free(r->gradients);
	free(r->buckets);
	free(r);
}

/* ---- a pass ---------------------------------------------------------------------------------- */

void *rdt_reducer_gradient(const rdt_reducer *r, int i)
{
	return r && i >= 0 && i < r->n_gradients ? r->gradients[i].data : NULL;
}

float *rdt_reducer_carry(const rdt_reducer *r, size_t *count)
{
	*count = r && r->carry ? r->count : 0;
	return r ? r->carry : NULL;
}

int rdt_reducer_hold(rdt_reducer *r)
{
	if (!r || !r->accumulates)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_reducer_hold: %s",
				     r ? "the reducer was made without "
					 "rdt_reducer_options.accumulate"
				       : "no reducer");
	for (int i = 0; i < r->n_gradients; i++)
		if (r->gradients[i].ready)
			return rdt_set_error(RDT_ERR_INVALID,
					     "rdt_reducer_hold comes before the first "
					     "rdt_reducer_ready of a pass");
	r->holds = true;
	return 0;
}

static void add(const struct rdt_reducer *r, const struct gradient *g)
{
	if (r->type == RDT_FLOAT64)
		for (size_t i = 0; i < g->count; i++)
			((double *)g->in_bucket)[i] += ((const double *)g->data)[i];
	else
		for (size_t i = 0; i < g->count; i++)
			((float *)g->in_bucket)[i] += ((const float *)g->data)[i];
}

/* The gradient is in its bucket when this returns. */
static void take(const struct rdt_reducer *r, struct gradient *g)
{
	if (g->data != g->in_bucket) {
		if (g->used)
			add(r, g);
		else
			memcpy(g->in_bucket, g->data, g->count * r->elem);
	}
	g->used = true;
}

/* In the last pass of a step. */
static void round_bucket(const struct rdt_reducer *r, const struct bucket *b)
{
	double parts = r->shares ? (double)rdt_comm_size(r->comm) * (r->passes + 1) : 1;

	rdt_half_pack(r->wire, (const float *)r->memory + b->first, (float)(1 / parts), r->most,
		      r->carry ? r->carry + b->first : NULL, (uint16_t *)r->reachable + b->first,
		      b->count);
}

static int start_what_can(rdt_reducer *r)
{
	while (r->started < r->n_buckets && r->buckets[r->started].waits_for == 0) {
		struct bucket *b = &r->buckets[r->started];
		int status;

		if (r->wire != r->type)
			round_bucket(r, b);
		status = rdt_plan_start(b->plan);
		if (status)
			return status;
		r->started++;
	}
	return 0;
}

/* What is in flight goes on in calls of the library: this is one. */
static int drive(rdt_reducer *r)
{
	int done = 1, status = 0;

	while (r->oldest < r->started && done && !status) {
		status = rdt_plan_test(r->buckets[r->oldest].plan, &done);
		r->oldest += done;
	}
	return status;
}

int rdt_reducer_ready(rdt_reducer *r, int i)
{
	struct gradient *g;
	int status = 0;

	if (!r || i < 0 || i >= r->n_gradients)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_reducer_ready: there is no gradient %d",
				     i);
	g = &r->gradients[i];
	if (g->ready)
		return rdt_set_error(
			RDT_ERR_INVALID,
			"rdt_reducer_ready: gradient %d was ready before in this pass; "
			"rdt_reducer_finish ends one",
			i);
	g->ready = true;
	take(r, g);
	r->buckets[g->bucket].waits_for--;
	if (!r->holds)
		status = start_what_can(r);
	return status ? status : drive(r);
}

int rdt_reducer_poll(rdt_reducer *r)
{
	return r ? drive(r) : rdt_set_error(RDT_ERR_INVALID, "rdt_reducer_poll: no reducer");
}

/* Gradients that this rank did not need in this pass are zero. */
static void fill(rdt_reducer *r)
{
	for (int i = 0; i < r->n_gradients; i++) {
		struct gradient *g = &r->gradients[i];

		if (g->ready)
			continue;
		if (!g->used)
			memset(g->in_bucket, 0, g->count * r->elem);
		g->used = true;
		r->buckets[g->bucket].waits_for--;
	}
}

static void scale(const struct rdt_reducer *r, const struct bucket *b, double by)
{
	if (r->type == RDT_FLOAT64)
		for (size_t i = b->first; i < b->first + b->count; i++)
			((double *)r->memory)[i] *= by;
	else
		for (size_t i = b->first; i < b->first + b->count; i++)
			((float *)r->memory)[i] *= (float)by;
}

/* The sum or mean over the ranks is there: the mean over the passes, and back to its place. */
static void hand_out(rdt_reducer *r, int bucket)
{
	const struct bucket *b = &r->buckets[bucket];
	double by = r->sum || r->shares ? 1 : 1.0 / (r->passes + 1);

	if (r->wire != r->type)
		rdt_half_unpack(r->wire, (const uint16_t *)r->reachable + b->first, (float)by,
				(float *)r->memory + b->first, b->count);
	else if (by < 1)
		scale(r, b, by);
	for (int i = 0; i < r->n_gradients; i++) {
		struct gradient *g = &r->gradients[i];

		if (g->bucket == bucket && g->data != g->in_bucket)
			memcpy(g->data, g->in_bucket, g->count * r->elem);
	}
}

static int end_step(rdt_reducer *r)
{
	int status = start_what_can(r);

	rdt_trace_begin(r->comm, "wait for gradients");
	for (int b = 0; b < r->n_buckets && !status; b++) {
		status = rdt_plan_wait(r->buckets[b].plan);
		if (!status)
			hand_out(r, b);
	}
	rdt_trace_end(r->comm);
	for (int i = 0; i < r->n_gradients; i++)
		r->gradients[i].used = false;
	r->passes = 0;
	return status;
}

int rdt_reducer_finish(rdt_reducer *r)
{
	int status = 0;

	if (!r)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_reducer_finish: no reducer");
	fill(r);
	if (r->holds)
		r->passes++;
	else
		status = end_step(r);
	begin_pass(r);
	return status;
}
