/* SPDX-License-Identifier: BSD-3-Clause */
/* The monotonic clock, in nanoseconds, and deadlines by it. */
#ifndef RDT_TRAIN_CLOCK_H
#define RDT_TRAIN_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t rdt_train_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The time `seconds` from now; far away for what does not fit. */
static inline int64_t rdt_train_deadline(double seconds)
{
	return seconds < 1e9 ? rdt_train_now() + (int64_t)(seconds * 1e9) : INT64_MAX;
}

#endif
