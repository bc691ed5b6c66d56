/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One size of `rdtrain perf`: warms up, takes the time, checks. Every decision that changes what is
 * called next (how often, whether to go on) is made from numbers that all ranks share.
 */
#include "tools/perf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/memory/alloc.h"

#define GUARD 64 /* bytes before and behind a buffer that nobody may touch */
#define GUARD_BYTE 0xa7
#define UNWRITTEN 0xff	     /* the output before a checked operation: NaN, or -1 */
#define CHECKED_OPERATIONS 2 /* one after the other, with other contents */

/* When the number of iterations is not given: TYPICAL, more while they are cheap, fewer when they
 * are dear. */
#define WARMUP 5
#define WARMUP_SECONDS 0.2
#define TYPICAL 20
#define MOST 1000
#define CHEAP_SECONDS 0.02
#define DEAR_SECONDS 1.0
#define FEWEST 3

/* ---- buffers --------------------------------------------------------------------------------- */

static int make_block(struct perf_buffers *b, size_t bytes, void **block, rdt_mem **mem)
{
	if (b->memory == PERF_ALLOC)
		return rdt_alloc(b->comm, bytes, block);
	*block = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
	if (!*block)
		return rdt_err(RDT_ERR_NOMEM,
			       "no memory for a buffer of %zu bytes; try a smaller -e", bytes);
	if (b->memory == PERF_MALLOC)
		return 0;
	return rdt_mem_register(b->comm, *block, bytes, mem);
}

int perf_buffers_make(rdt_comm *comm, enum perf_memory memory, uint64_t bytes,
		      struct perf_buffers *b)
{
	size_t whole = (size_t)bytes + 2 * GUARD;
	const char *local = getenv("RDTRAIN_LOCAL_SIZE");
	uint64_t ranks = local ? strtoull(local, NULL, 10) : 1;
	uint64_t need = 2 * whole * (ranks ? ranks : 1), have = rdt_memory_available();
	int status;

	*b = (struct perf_buffers){ .comm = comm, .memory = memory };
	if (need > have)
		return rdt_err(
			RDT_ERR_NOMEM,
			"buffers for sizes up to %llu bytes take %llu bytes on this host, and "
			"%llu are available; try a smaller -e",
			(unsigned long long)bytes, (unsigned long long)need,
			(unsigned long long)have);
	status = make_block(b, whole, &b->in_block, &b->in_mem);
	if (!status)
		status = make_block(b, whole, &b->out_block, &b->out_mem);
	if (status) {
		perf_buffers_free(b);
		return status;
	}
	memset(b->in_block, 0, whole);
	memset(b->out_block, 0, whole);
	b->in = (char *)b->in_block + GUARD;
	b->out = (char *)b->out_block + GUARD;
	return 0;
}

static void free_block(struct perf_buffers *b, void *block, rdt_mem *mem)
{
	if (b->memory == PERF_ALLOC) {
		if (block)
			rdt_free(b->comm, block);
		return;
	}
	rdt_mem_deregister(mem);
	free(block);
}

void perf_buffers_free(struct perf_buffers *b)
{
	free_block(b, b->in_block, b->in_mem);
	free_block(b, b->out_block, b->out_mem);
	*b = (struct perf_buffers){ 0 };
}

/* ---- running --------------------------------------------------------------------------------- */

/* One size in one place. */
struct trial {
	const struct perf_settings *settings;
	const struct perf_data *data;
	rdt_comm *comm;
	void *in, *out;
	uint64_t bytes, count;
	enum rdt_type type;
	enum rdt_op op;
	rdt_plan *plan;
};

static int operate(const struct trial *t)
{
	rdt_request *request;
	int status;

	switch (t->settings->form) {
	case PERF_PLAN:
		status = rdt_plan_start(t->plan);
		return status ? status : rdt_plan_wait(t->plan);
	case PERF_START:
		status = rdt_allreduce_start(t->comm, t->in, t->out, t->count, t->type, t->op,
					     &request);
		return status ? status : rdt_wait(request);
	default: return rdt_allreduce(t->comm, t->in, t->out, t->count, t->type, t->op);
	}
}

/* The largest of all ranks' values. */
static int agree(rdt_comm *comm, double *values, size_t n)
{
	return rdt_allreduce(comm, values, values, n, RDT_FLOAT64, RDT_MAX);
}

static long iterations_for(double seconds)
{
	double n = TYPICAL;

	if (seconds * TYPICAL > DEAR_SECONDS)
		n = DEAR_SECONDS / seconds;
	else if (seconds * TYPICAL < CHEAP_SECONDS)
		n = seconds > 0 ? CHEAP_SECONDS / seconds : MOST;
	return n < FEWEST ? FEWEST : n > MOST ? MOST : (long)n;
}

static int repeat(const struct trial *t, long times)
{
	int status = 0;

	for (long i = 0; i < times && !status; i++)
		status = operate(t);
	return status;
}

/* What one operation takes when pages and connections are there: the time of the second. */
static int estimate(const struct trial *t, double *seconds)
{
	int status = operate(t);
	int64_t start = rdt_now();

	if (!status)
		status = operate(t);
	*seconds = (double)(rdt_now() - start) / 1e9;
	return status ? status : agree(t->comm, seconds, 1);
}

/* Warms up, and says how many iterations to time. Given numbers are kept to exactly. */
static int warm_up(const struct trial *t, long *iterations)
{
	long warmup = t->settings->warmup;
	double seconds;
	int status;

	*iterations = t->settings->iterations;
	if (warmup >= 0 && *iterations >= 0)
		return repeat(t, warmup);
	status = estimate(t, &seconds);
	if (status)
		return status;
	if (*iterations < 0)
		*iterations = iterations_for(seconds);
	if (warmup < 0)
		warmup = seconds * WARMUP < WARMUP_SECONDS ? WARMUP : 2;
	return repeat(t, warmup - 2);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The value that `part` of n sorted ones do not exceed. */
static double percentile(const double *sorted, long n, double part)
{
	long i = (long)(part * (double)n + 0.999999) - 1;

	return sorted[i < 0 ? 0 : i >= n ? n - 1 : i];
}

static int take_times(const struct trial *t, long n, struct perf_timing *timing)
{
	double *seconds = malloc((size_t)n * sizeof(*seconds));
	double slowest[4]; /* of all ranks: mean, p50, p99, max */
	int64_t start, last;
	int status;

	if (!seconds)
		return rdt_err(RDT_ERR_NOMEM, "no memory for the times of %ld iterations", n);
	status = rdt_barrier(t->comm);
	start = last = rdt_now();
	for (long i = 0; i < n && !status; i++) {
		int64_t now;

		status = operate(t);
		now = rdt_now();
		seconds[i] = (double)(now - last) / 1e9;
		last = now;
	}
	if (status)
		goto out;
	qsort(seconds, (size_t)n, sizeof(*seconds), by_size);
	slowest[0] = (double)(last - start) / 1e9 / (double)n;
	slowest[1] = percentile(seconds, n, 0.50);
	slowest[2] = percentile(seconds, n, 0.99);
	slowest[3] = seconds[n - 1];
	status = agree(t->comm, slowest, 4);
	timing->iterations = n;
	timing->mean = slowest[0];
	timing->p50 = slowest[1];
	timing->p99 = slowest[2];
	timing->max = slowest[3];
out:
	free(seconds);
	return status;
}

/* ---- checking -------------------------------------------------------------------------------- */

static void set_guards(void *buffer, uint64_t bytes)
{
	memset((char *)buffer - GUARD, GUARD_BYTE, GUARD);
	memset((char *)buffer + bytes, GUARD_BYTE, GUARD);
}

static uint64_t damaged_guards(const void *buffer, uint64_t bytes)
{
	const unsigned char *before = (const unsigned char *)buffer - GUARD;
	const unsigned char *behind = (const unsigned char *)buffer + bytes;
	uint64_t damaged = 0;

	for (int i = 0; i < GUARD; i++)
		damaged += (uint64_t)((before[i] != GUARD_BYTE) + (behind[i] != GUARD_BYTE));
	return damaged;
}

/* Wrong results, inputs that changed and bytes written beside the buffers, on all ranks. */
static int check(const struct trial *t, int64_t *wrong)
{
	int64_t found = 0;
	int status;

	for (uint64_t seed = 1; seed <= CHECKED_OPERATIONS; seed++) {
		if (t->out != t->in)
			memset(t->out, UNWRITTEN, t->bytes);
		perf_data_fill(t->data, t->in, t->count, seed);
		set_guards(t->in, t->bytes);
		set_guards(t->out, t->bytes);
		status = operate(t);
		if (status)
			return status;
		found += (int64_t)perf_data_wrong(t->data, t->out, t->count, seed);
		found += (int64_t)damaged_guards(t->out, t->bytes);
		if (t->out == t->in)
			continue;
		found += (int64_t)perf_data_changed(t->data, t->in, t->count, seed);
		found += (int64_t)damaged_guards(t->in, t->bytes);
	}
	status = rdt_allreduce(t->comm, &found, &found, 1, RDT_INT64, RDT_SUM);
	*wrong = found;
	return status;
}

static int run_trial(struct trial *t, struct perf_timing *timing)
{
	double ranks = rdt_comm_size(t->comm);
	long n = 0;
	int status;

	perf_data_fill(t->data, t->in, t->count, 0);
	if (t->settings->form == PERF_PLAN) {
		status = rdt_allreduce_plan(t->comm, t->in, t->out, t->count, t->type, t->op,
					    &t->plan);
		if (status)
			return status;
	}
	status = warm_up(t, &n);
	if (!status)
		status = take_times(t, n, timing);
	timing->wrong = -1;
	if (!status && t->settings->check)
		status = check(t, &timing->wrong);
	if (!status && timing->mean > 0) {
		timing->algbw = (double)t->bytes / timing->mean / 1e9;
		timing->busbw = timing->algbw * 2 * (ranks - 1) / ranks;
	}
	rdt_plan_destroy(t->plan);
	t->plan = NULL;
	return status;
}

int perf_time(const struct perf_settings *settings, const struct perf_buffers *buffers,
	      const struct perf_data *data, struct perf_result *result)
{
	struct trial t = {
		.settings = settings,
		.data = data,
		.comm = buffers->comm,
		.in = buffers->in,
		.out = buffers->out,
		.bytes = result->bytes,
		.count = result->count,
		.type = result->type,
		.op = result->op,
	};
	int status = 0;

	if (settings->places & PERF_OUT_OF_PLACE)
		status = run_trial(&t, &result->out_of_place);
	t.in = t.out;
	if (!status && settings->places & PERF_IN_PLACE)
		status = run_trial(&t, &result->in_place);
	return status;
}
