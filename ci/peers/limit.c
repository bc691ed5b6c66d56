/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What this machine allows two ranks, whatever the library; timed as in bench.h, by two threads on
 * a processor each. Up to 4 KiB: each writes its vector where the other reads it, with a flag in
 * the first line. Above: each sums half of both buffers in one pass, and stores the sum to both.
 * usage: limit FROM TO FACTOR
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "bench.h"

#define SMALL 4096

struct board {
	_Alignas(64) atomic_uint number;
	float v[SMALL / 4];
};

static struct board boards[2][2]; /* [rank][round % 2] */
static _Alignas(64) atomic_uint meeting[2][16];
static float *pools[2];
static double *shared[2];
static __thread int me;
static __thread unsigned met, round_of;
static size_t from_bytes, to_bytes;
static double factor;

static void barrier(void)
{
	atomic_store_explicit(&meeting[me][0], ++met, memory_order_release);
	while (atomic_load_explicit(&meeting[1 - me][0], memory_order_acquire) - met > 1u << 31)
		;
}

__attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3"))) static void
sum(float *a, float *b, size_t count)
{
	for (size_t i = 0; i < count; i++)
		a[i] = b[i] = a[i] + b[i];
}

__attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3"))) static void
add(float *a, const float *b, size_t count)
{
	for (size_t i = 0; i < count; i++)
		a[i] += b[i];
}

static void small(float *buffer, size_t count)
{
	unsigned round = ++round_of;
	struct board *mine = &boards[me][round % 2], *other = &boards[1 - me][round % 2];

	memcpy(mine->v, buffer, count * sizeof(float));
	atomic_store_explicit(&mine->number, round, memory_order_release);
	while (atomic_load_explicit(&other->number, memory_order_acquire) != round)
		;
	add(buffer, other->v, count);
}

static void allreduce(float *buffer, size_t count, int which)
{
	size_t half = count / 2, at = (size_t)(buffer - pools[me]) + (me ? half : 0);

	(void)which;
	if (count * sizeof(float) <= SMALL) {
		small(buffer, count);
		return;
	}
	sum(pools[0] + at, pools[1] + at, me ? count - half : half);
	barrier();
}

static void largest(double *samples, int n)
{
	shared[me] = samples;
	barrier();
	for (int i = 0; me == 0 && i < n; i++)
		if (shared[1][i] > samples[i])
			samples[i] = shared[1][i];
	barrier();
}

static void *run(void *arg)
{
	struct bench b = { .allreduce = allreduce, .barrier = barrier, .largest = largest };
	cpu_set_t set;

	me = b.rank = arg != NULL;
	CPU_ZERO(&set);
	CPU_SET(me, &set);
	sched_setaffinity(0, sizeof(set), &set);
	b.pool = pools[me];
	memset(b.pool, 0, bench_pool(to_bytes));
	barrier();
	bench_run(&b, from_bytes, to_bytes, factor);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t other;

	from_bytes = bench_size(argc, argv, 1, 8);
	to_bytes = bench_size(argc, argv, 2, 64u << 20);
	factor = argc > 3 ? atof(argv[3]) : 1;
	for (int r = 0; r < 2; r++)
		pools[r] = aligned_alloc((size_t)2 << 20, bench_pool(to_bytes));
	if (!pools[0] || !pools[1] || pthread_create(&other, NULL, run, pools))
		return 1;
	run(NULL);
	pthread_join(other, NULL);
	return 0;
}
