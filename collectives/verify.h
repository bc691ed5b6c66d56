/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verifier: runs all ranks of an algorithm symbolically, several operations in a row, and
 * proves
 *
 *  - contributions: every output element holds those that its collective says (meaning.h), each
 *    exactly once, and was made FINAL exactly once where the collective reduces;
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
 *  - the same bits on all ranks: their sums were formed in the same order, and in the order of
 *    ranks by the algorithms that promise it.
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
	/* Of every other run: another plan, over the same buffers and with scratch of its own.
	 * NULL: the same plan, where the other runs are of next_count (a tail window). */
	const struct rdt_algorithm *next;
	int size;	     /* ranks; at most 64 */
	uint64_t count;	     /* elements of the vector, or of each block, in the first run */
	uint64_t next_count; /* in the next; runs alternate: count, next, count, next */
	bool ragged;	     /* blocks of different lengths, from 0 to twice as long */
	uint32_t elem_size;
	int root;
	bool in_place;
	bool remote_output;
	bool mapped;
	const int *host; /* [size] or NULL, as in struct rdt_shape */
};

#define RDT_VERIFY_RANKS 64

/* The shape that `rank` is told in `run`, with the arrays it points to. */
struct rdt_case_shape {
	struct rdt_shape shape;
	uint64_t in_offset[RDT_VERIFY_RANKS], in_length[RDT_VERIFY_RANKS];
	uint64_t out_offset[RDT_VERIFY_RANKS], out_length[RDT_VERIFY_RANKS];
};
void rdt_verify_shape(const struct rdt_verify_case *c, int run, int rank,
		      struct rdt_case_shape *out);

/* The algorithm of a run. */
static inline const struct rdt_algorithm *rdt_verify_algorithm(const struct rdt_verify_case *c,
							       int run)
{
	return run % 2 && c->next ? c->next : c->algorithm;
}

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
 * open to peers or not, even and ragged blocks, roots, and for the algorithms that look at hosts
 * every division of the ranks among up to 4 of them, mapped or not. Calls `visit` for each until it
 * returns non-zero; returns that, or 0.
 */
typedef int (*rdt_verify_visit_fn)(void *arg, const struct rdt_verify_case *c);
int rdt_verify_cases(const struct rdt_algorithm *algorithm, int size, rdt_verify_visit_fn visit,
		     void *arg);

/* The same for two plans in turn: every algorithm after every other. */
int rdt_verify_pairs(int size, rdt_verify_visit_fn visit, void *arg);

#endif
