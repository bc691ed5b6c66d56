/* SPDX-License-Identifier: BSD-3-Clause */
/* Monotonic time and deadlines, in nanoseconds. */
#ifndef RDT_CLOCK_H
#define RDT_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t rdt_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t); /* the vDSO: no system call */
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t rdt_deadline(double seconds)
{
	return rdt_now() + (int64_t)(seconds * 1e9);
}

/* What is left until `deadline`, in whole milliseconds rounded up, for poll(2); 0 when it has
 * passed. */
static inline int rdt_left_ms(int64_t deadline)
{
	int64_t left = deadline - rdt_now();

	if (left <= 0)
		return 0;
	left = (left + 999999) / 1000000;
	return left > 3600000 ? 3600000 : (int)left;
}

#endif
