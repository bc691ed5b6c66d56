/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdtrain perf --overlap. For each size three times are taken: of the allreduce alone (a plan,
 * started and waited for), of a computation alone that takes as long, and of both: started,
 *computed, waited for. Of the shorter of the first two, what the third does not add is hidden:
 *
 *	hidden = (allreduce + computation - both) / min(allreduce, computation)
 *
 * 100 % means that the allreduce costs nothing while one computes; 0 %, that one comes after the
 * other. Once the computation makes no call at all, so that only the device, the peers and a
 *progress thread can get on with the allreduce; once it calls rdt_plan_test at each twentieth.
 */
#include "tools/perf_overlap.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"

#define SLICES 20
#define ROUNDS_MAX 200
#define ROUNDS_MIN 5
#define SIZE_SECONDS 1.0 /* of each time and size, about */

/* Something to do that stays in registers and the first-level cache. */
static float values[1024];

static void compute(uint64_t units)
{
	for (uint64_t unit = 0; unit < units; unit++) {
		for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
			values[i] = values[i] * 0.999f + 0.5f;
		__asm__ volatile("" ::: "memory");
	}
}

static double seconds_since(int64_t from)
{
	return (double)(rdt_now() - from) / 1e9;
}

static uint64_t units_for(double seconds)
{
	uint64_t units = 16;
	double took;

	do {
		int64_t from = rdt_now();

		units *= 2;
		compute(units);
		took = seconds_since(from);
	} while (took < 0.002);
	return (uint64_t)((double)units * seconds / took) + 1;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct trial {
	rdt_comm *comm;
	rdt_plan *plan;
	uint64_t units; /* of computation; 0: none */
	bool start;	/* the allreduce */
	int tests;	/* in between */
};

/* Once: seconds, or negative. */
static double once(const struct trial *t)
{
	int64_t from;
	int done;

	if (rdt_barrier(t->comm))
		return -1;
	from = rdt_now();
	if (t->start && rdt_plan_start(t->plan))
		return -1;
	if (t->tests && t->units)
		for (int i = 0; i < t->tests; i++) {
			compute(t->units / (uint64_t)t->tests);
			if (rdt_plan_test(t->plan, &done))
				return -1;
			if (done) {
				compute(t->units / (uint64_t)t->tests *
					(uint64_t)(t->tests - 1 - i));
				return seconds_since(from);
			}
		}
	else
		compute(t->units);
	if (t->start && rdt_plan_wait(t->plan))
		return -1;
	return seconds_since(from);
}

/* The median over `rounds`, on the slowest rank. Negative: failed. */
static double median(const struct trial *t, int rounds)
{
	double samples[ROUNDS_MAX];

	for (int i = -1; i < rounds; i++) {
		double took = once(t);

		if (took < 0)
			return -1;
		if (i >= 0)
			samples[i] = took;
	}
	if (rdt_allreduce(t->comm, samples, samples, (size_t)rounds, RDT_FLOAT64, RDT_MAX))
		return -1;
	qsort(samples, (size_t)rounds, sizeof(samples[0]), compare);
	return samples[rounds / 2];
}

/* The same number on all ranks. */
static int rounds_for(rdt_comm *comm, double seconds, int *rounds)
{
	double n = seconds > 0 ? SIZE_SECONDS / seconds : ROUNDS_MAX;

	*rounds = n > ROUNDS_MAX ? ROUNDS_MAX : n < ROUNDS_MIN ? ROUNDS_MIN : (int)n;
	return rdt_allreduce(comm, rounds, rounds, 1, RDT_INT32, RDT_MIN);
}

static double hidden(double a, double b, double both)
{
	double share = (a + b - both) / (a < b ? a : b) * 100;

	return share < 0 ? 0 : share > 100 ? 100 : share;
}

static int run_size(rdt_comm *comm, void *buffer, uint64_t bytes)
{
	struct trial t = { .comm = comm, .start = true };
	double alone, work, both, tested;
	int rounds, status;

	status = rdt_allreduce_plan(comm, buffer, buffer, bytes / sizeof(float), RDT_FLOAT32,
				    RDT_SUM, &t.plan);
	if (status)
		return status;
	alone = median(&t, ROUNDS_MIN);
	if (alone < 0 || rounds_for(comm, alone, &rounds))
		goto fail;
	alone = median(&t, rounds);
	t.units = units_for(alone);
	t.start = false;
	work = alone < 0 ? -1 : median(&t, rounds);
	t.start = true;
	both = work < 0 ? -1 : median(&t, rounds);
	t.tests = SLICES;
	tested = both < 0 ? -1 : median(&t, rounds);
	if (tested < 0)
		goto fail;
	if (rdt_comm_rank(comm) == 0) {
		printf("%12llu %12.2f %12.2f %12.2f %9.0f %12.2f %9.0f\n",
		       (unsigned long long)bytes, alone * 1e6, work * 1e6, both * 1e6,
		       hidden(alone, work, both), tested * 1e6, hidden(alone, work, tested));
		fflush(stdout);
	}
	rdt_plan_destroy(t.plan);
	return 0;
fail:
	rdt_plan_destroy(t.plan);
	return RDT_ERR_SYSTEM;
}

int perf_overlap(const struct perf_settings *s, rdt_comm *comm)
{
	uint64_t begin = s->begin < 1024 ? 1024 : s->begin;
	void *buffer;
	int status = rdt_alloc(comm, s->end < begin ? begin : s->end, &buffer);

	if (status)
		return status;
	if (rdt_comm_rank(comm) == 0)
		printf("# allreduce of float32, sum, in place, %d ranks, progress by %s\n"
		       "# %10s %12s %12s %12s %9s %12s %9s\n"
		       "# %10s %12s %12s %12s %9s %12s %9s\n",
		       rdt_comm_size(comm),
		       getenv("RDTRAIN_PROGRESS") ? getenv("RDTRAIN_PROGRESS") : "caller", "size",
		       "allreduce", "computation", "both", "hidden", "with tests", "hidden", "(B)",
		       "(us)", "(us)", "(us)", "(%)", "(us)", "(%)");
	for (uint64_t bytes = begin; bytes <= s->end && !status;
	     bytes = s->factor > 1 ? (uint64_t)((double)bytes * s->factor) : bytes + s->step)
		status = run_size(comm, buffer, bytes / 4 * 4);
	rdt_free(comm, buffer);
	return status;
}
