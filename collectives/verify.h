/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verifier: runs all ranks of an algorithm symbolically, several operations in a row, and
 * proves
 *
 *  - contributions: every output element holds every rank's contribution exactly once, and was made
 *    FINAL exactly once (allreduce); or holds the root's element (broadcast);
 *  - a barrier's end on any rank happens after every rank's start;
 *  - INPUT is never written when it is not also OUTPUT;
 *  - no deadlock, no notification left over, none waited for that nobody sends;
 *  - no data race, by vector clocks: puts are asynchronous (they read their source and write their
 *    destination at any moment between the post and the peer's wait, or the end of the operation),
 *    the caller reads OUTPUT and writes INPUT and OUTPUT between operations, and consecutive runs
 *    on the same scratch may follow one another with other lengths (a tail window);
 *  - every span lies inside its buffer and belongs to whom it may, in whole elements; all ranks
 *    have scratch of the same size;
 *  - no waste: what a step stores is read before it is overwritten, and rounds, bytes and puts are
 *    those that the algorithm promises (rdt_cost);
 *  - the same bits on all ranks: their sums were formed in the same order.
 *
 * Scratch may be reused only where notifications prove that it is free, for the windows of one
 * operation follow one another without waiting for local completion; INPUT and OUTPUT are the
 * caller's again when all puts of the operation are locally complete, which says nothing about the
 * far end.
 */
#ifndef RDT_VERIFY_H
#define RDT_VERIFY_H

#include "algorithms.h"

struct rdt_verify_case {
	const struct rdt_algorithm *algorithm;
	int size;	     /* ranks; at most 64 */
	uint64_t count;	     /* elements of the first run */
	uint64_t next_count; /* elements of the next; runs alternate: count, next, count, next */
	uint32_t elem_size;
	int root;
	bool in_place;
	bool remote_output;
};

/* What was found, beside pass or fail. */
struct rdt_verify_result {
	char fault[512];	/* "" when it passed: what, where (rank, lane, step), why */
	uint64_t max_bytes_put; /* by one rank in one run of `count` elements */
	int rounds;		/* longest chain of notifications in it */
	uint64_t puts;		/* notifications of all ranks together in it */
	uint32_t max_pending; /* most notifications one rank can have outstanding from all its peers
			       */
};

/* 0 passed, 1 a fault was found (result->fault says which), -1 out of memory. */
int rdt_verify(const struct rdt_verify_case *c, struct rdt_verify_result *result);

/*
 * Lets a test alter the schedules between emission and verification: called once for each rank and
 * run, before the run is executed. Used to plant faults.
 */
typedef void (*rdt_verify_tamper_fn)(void *arg, int rank, int run, struct rdt_schedule *s);
int rdt_verify_tampered(const struct rdt_verify_case *c, rdt_verify_tamper_fn tamper, void *arg,
			struct rdt_verify_result *result);

/*
 * The cases that `rdtrain verify` and the tests run for one algorithm at one size: lengths around 0
 * and multiples of the size, each followed by another, both element sizes, in place or not, OUTPUT
 * open to peers or not, roots. Calls `visit` for each until it returns non-zero; returns that, or
 * 0.
 */
typedef int (*rdt_verify_visit_fn)(void *arg, const struct rdt_verify_case *c);
int rdt_verify_cases(const struct rdt_algorithm *algorithm, int size, rdt_verify_visit_fn visit,
		     void *arg);

/* The receive bound that the engine needs: notifications that one run of `s` consumes in all lanes.
 */
uint64_t rdt_schedule_waits(const struct rdt_schedule *s);

#endif
