/* SPDX-License-Identifier: BSD-3-Clause */
/* Workers' output, passed on line by line. An outlet is where it goes; an output is one pipe. */
#ifndef RDT_OUTPUT_H
#define RDT_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

struct event_base;
struct outlet;
struct output;

/* Writes to `fd`, which stays the caller's, as the loop of `base` runs. Each time that nothing is
 * left to write, drained(arg) is called. NULL: out of memory. */
struct outlet *outlet_new(struct event_base *base, int fd, void (*drained)(void *arg), void *arg);
/* Adds a piece of text of our own. */
void outlet_write(struct outlet *outlet, const char *text, size_t length);
/* Has all been written, as far as anybody reads it? */
bool outlet_empty(const struct outlet *outlet);
/* After its outputs. What is not written yet is dropped. NULL is allowed. */
void outlet_free(struct outlet *outlet);

/*
 * Reads `from`, which it then owns, and passes whole lines on, `prefix` before each. prefix NULL:
 * bytes are passed on as they come. NULL: out of memory; `from` is closed.
 */
struct output *output_new(struct event_base *base, int from, struct outlet *to, const char *prefix);
/* The writer has ended: takes what is in the pipe now, without waiting for more, and ends the last
 * line. NULL is allowed, here and below. */
void output_end(struct output *output);
void output_free(struct output *output);

#endif
