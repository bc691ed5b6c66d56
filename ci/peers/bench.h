/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How ci/bench times an allreduce (float32, sum, in place), the same for every library.
 *
 * A rank has a pool of buffers and takes the next one in each iteration, so that none is warm from
 * the operation before. It writes new values into it, as a backward pass would have, and times the
 * one call. Before calls of BENCH_BARRIER bytes and more, in which writing takes long enough to
 * pull the ranks apart, they meet in the library's own barrier, outside the clock. A sample is the
 * time of the slowest rank in that iteration; what is printed for a size is
 *
 *	BYTES MEDIAN_US P99_US
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BENCH_POOL ((size_t)64 << 20) /* bytes of all buffers together, or one larger one */
#define BENCH_BUFFERS 32	      /* at most */
#define BENCH_BARRIER 8192

/* One library, on one rank. */
struct bench {
	int rank;
	float *pool;	/* of bench_pool() bytes */
	size_t buffers; /* at most so many at a time; 0: BENCH_BUFFERS */
	void (*prepare)(float *buffer, size_t count, int which); /* before the clock; may be NULL */
	void (*allreduce)(float *buffer, size_t count, int which);
	void (*barrier)(void);
	void (*largest)(double *samples, int n); /* over all ranks, in place */
};

/* Arguments of every program: the smallest size, the largest, a factor on the number of iterations.
 */
static inline size_t bench_size(int argc, char **argv, int which, size_t otherwise)
{
	return argc > which ? strtoull(argv[which], NULL, 0) : otherwise;
}

static inline size_t bench_pool(size_t largest)
{
	return largest > BENCH_POOL ? largest : BENCH_POOL;
}

static inline double bench_kernel_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* Microseconds, from the processor's counter where there is one, as perftest has them: in a virtual
 * machine the kernel's clock can take longer to read than what is timed. */
static inline double bench_now(void)
{
#ifdef __x86_64__
	static double tick;

	if (tick == 0) {
		double from = bench_kernel_now(), to;
		unsigned long long ticks = __builtin_ia32_rdtsc();

		while ((to = bench_kernel_now()) < from + 50000)
			;
		tick = (to - from) / (double)(__builtin_ia32_rdtsc() - ticks);
	}
	return (double)__builtin_ia32_rdtsc() * tick;
#else
	return bench_kernel_now();
#endif
}

static int bench_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static inline int bench_iterations(size_t bytes, double factor)
{
	int n = bytes <= 65536		    ? 2000
		: bytes <= (size_t)1 << 20  ? 200
		: bytes <= (size_t)16 << 20 ? 40
					    : 14;

	n = (int)(n * factor);
	return n < 3 ? 3 : n;
}

static inline void bench_run(const struct bench *b, size_t from, size_t to, double factor)
{
	for (size_t bytes = from; bytes <= to; bytes *= 2) {
		size_t count = bytes / sizeof(float), buffers = BENCH_POOL / bytes;
		int n = bench_iterations(bytes, factor), warm = n / 10 + 2;
		double *samples = (double *)calloc((size_t)n, sizeof(*samples));

		if (buffers > (b->buffers ? b->buffers : BENCH_BUFFERS))
			buffers = b->buffers ? b->buffers : BENCH_BUFFERS;
		buffers = buffers ? buffers : 1;
		for (size_t k = 0; b->prepare && k < buffers; k++)
			b->prepare(b->pool + k * count, count, (int)k);
		for (int i = -warm; i < n; i++) {
			size_t which = (size_t)(i + warm) % buffers;
			float *buffer = b->pool + which * count;
			double from_us;

			for (size_t k = 0; k < count; k++)
				buffer[k] = (float)(i + 1);
			if (bytes >= BENCH_BARRIER)
				b->barrier();
			from_us = bench_now();
			b->allreduce(buffer, count, (int)which);
			if (i >= 0)
				samples[i] = bench_now() - from_us;
		}
		b->largest(samples, n);
		qsort(samples, (size_t)n, sizeof(*samples), bench_compare);
		if (b->rank == 0) {
			printf("%zu %.3f %.3f\n", bytes, samples[n / 2], samples[n * 99 / 100]);
			fflush(stdout);
		}
		free(samples);
	}
}

#endif
