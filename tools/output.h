/* SPDX-License-Identifier: BSD-3-Clause */
/* A worker's output, passed on line by line with a prefix. */
#ifndef RDT_OUTPUT_H
#define RDT_OUTPUT_H

struct event_base;
struct output;

/*
 * Reads `from` (which it then owns) as the loop of `base` runs, and writes whole lines, `prefix`
 * before each, to the descriptor `to`. Without a prefix bytes are passed on as they come. NULL: out
 * of memory.
 */
struct output *output_new(struct event_base *base, int from, int to, const char *prefix);
/* The writer has ended: takes what is still in the pipe, without waiting for more. */
void output_end(struct output *output);
void output_free(struct output *output);

#endif
