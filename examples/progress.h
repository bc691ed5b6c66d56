/* SPDX-License-Identifier: BSD-3-Clause */
/* What the examples show on a terminal, and clocks. */
#ifndef EXAMPLES_PROGRESS_H
#define EXAMPLES_PROGRESS_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Seconds since some moment. */
static inline double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Under `rdtrain run` the output goes through a pipe; the program says what is behind that. */
static inline bool on_terminal(void)
{
	return isatty(STDOUT_FILENO) || getenv("RDTRAIN_TERMINAL");
}

struct progress {
	bool on;
	double drawn; /* when */
};

/*
 * A line that is drawn again and again, ten times a second at most. It ends with a carriage return,
 * so that `rdtrain run` can put the rank before it.
 */
static inline void progress_draw(struct progress *p, double part, const char *what, long step,
				 long steps)
{
	static const char full[] = "########################################";
	int width = (int)sizeof(full) - 1, n;

	if (!p->on || now() - p->drawn < 0.1)
		return;
	p->drawn = now();
	part = part < 0 ? 0 : part > 1 ? 1 : part;
	n = (int)(part * width);
	printf("%5ld [%-*.*s] %3.0f %% of %s %ld of %ld\r", step, width, n, full, part * 100, what,
	       step, steps);
	fflush(stdout);
}

/* Before a line that is to stay. */
static inline const char *progress_clear(const struct progress *p)
{
	return p->on ? "\033[K" : "";
}

#endif
