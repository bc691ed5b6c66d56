/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parts of `rdtrain perf`:
 *
 *	perf.c         options, and the loop over types, operations and sizes
 *	perf_time.c    one size: runs the collective, takes the time, has the results checked
 *	perf_data.c    what goes in and what must come out
 *	perf_report.c  the table and the JSON file
 *	perf_overlap.c --overlap; calibrate.c: --calibrate
 */
#ifndef RDT_PERF_H
#define RDT_PERF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rdtrain/rdtrain.h>

enum perf_form { PERF_BLOCKING, PERF_START, PERF_PLAN };
enum perf_memory { PERF_ALLOC, PERF_REGISTER, PERF_MALLOC };
enum { PERF_OUT_OF_PLACE = 1, PERF_IN_PLACE = 2 };

#define PERF_TYPES (RDT_UINT64 + 1)
#define PERF_OPS (RDT_PROD + 1)

struct perf_settings {
	const char *collective, *json;
	const char *calibrate;	   /* a file: do that instead */
	bool overlap;		   /* or that */
	uint64_t begin, end, step; /* bytes; the step is added when there is no factor */
	double factor;
	long iterations, warmup; /* -1: as many as a bounded time allows */
	bool types[PERF_TYPES], ops[PERF_OPS];
	enum perf_form form;
	enum perf_memory memory;
	unsigned places;
	bool check, verbose;
};

/* One size in one place, the same on all ranks. Each time is the largest of all ranks. */
struct perf_timing {
	long iterations;
	double mean, p50, p99, max; /* seconds */
	double algbw, busbw;	    /* 1e9 bytes a second */
	int64_t wrong;		    /* elements, on all ranks together; -1: not checked */
};

struct perf_result {
	uint64_t bytes, count;
	enum rdt_type type;
	enum rdt_op op;
	struct perf_timing out_of_place, in_place; /* iterations 0: not measured */
};

/* ---- perf_data.c ----------------------------------------------------------------------------- */

struct perf_data;

/* What this rank contributes and what all get, for one type and operation. NULL: out of memory. */
struct perf_data *perf_data_new(int rank, int size, enum rdt_type type, enum rdt_op op);
void perf_data_free(struct perf_data *data);
/* This rank's contribution to the operation number `seed`. */
void perf_data_fill(const struct perf_data *data, void *buffer, uint64_t count, uint64_t seed);
/* How many elements of `buffer` are not that contribution any more. */
uint64_t perf_data_changed(const struct perf_data *data, const void *buffer, uint64_t count,
			   uint64_t seed);
/* How many elements of `buffer` are not the result of operation number `seed`. */
uint64_t perf_data_wrong(const struct perf_data *data, const void *buffer, uint64_t count,
			 uint64_t seed);

/* ---- perf_time.c ----------------------------------------------------------------------------- */

/* The buffers of all sizes. */
struct perf_buffers {
	rdt_comm *comm;
	enum perf_memory memory;
	void *in_block, *out_block; /* with a guard before and behind */
	rdt_mem *in_mem, *out_mem;
	void *in, *out;
};

int perf_buffers_make(rdt_comm *comm, enum perf_memory memory, uint64_t bytes,
		      struct perf_buffers *buffers);
void perf_buffers_free(struct perf_buffers *buffers);

/* Fills in result's timings; count and type are given. Collective. 0 or a negative status. */
int perf_time(const struct perf_settings *settings, const struct perf_buffers *buffers,
	      const struct perf_data *data, struct perf_result *result);

/* ---- perf_report.c --------------------------------------------------------------------------- */

struct perf_report;

/* Collective; rank 0 alone prints. `file` NULL: no JSON. On failure the sentence is set. */
int perf_report_new(rdt_comm *comm, const struct perf_settings *settings,
		    struct perf_report **report);
int perf_report_add(struct perf_report *report, const struct perf_result *result);
/* The last lines, and the JSON file. *wrong is the sum over all results. */
int perf_report_end(struct perf_report *report, int64_t *wrong);
void perf_report_free(struct perf_report *report);

#endif
