/* SPDX-License-Identifier: BSD-3-Clause */
/* What the parts of the verifier share. Private to verify.c, wellformed.c and symbolic.c. */
#ifndef RDT_SYMBOLIC_H
#define RDT_SYMBOLIC_H

#include "meaning.h"
#include "race.h"
#include "verify.h"

/* Operations in a row; lengths and scratch copies alternate, so each meets its like again. */
#define RDT_VERIFY_RUNS 4

/* What one element of a buffer holds. */
struct rdt_value {
	uint64_t ranks;	  /* bit r: rank r's contribution is in it; 0: nobody has written here */
	uint64_t terms;	  /* identifies the expression: equal terms have equal bits */
	uint32_t element; /* of which element */
	int16_t run;	  /* of which run */
	bool final;
	bool unread; /* a step stored it and nobody has read it yet */
};

struct rdt_verifier {
	const struct rdt_verify_case *c;
	struct rdt_verify_result *result;
	struct rdt_case_shape *shapes;	/* [run % 2][rank] */
	struct rdt_schedule *schedules; /* [run][rank] */
	int lanes;			/* the most that any schedule has */
	/* A plan is an algorithm with scratch of its own; there are two when c->next is set. */
	int plans;
	uint64_t user_elements;	      /* of INPUT, and of OUTPUT: room for the largest */
	uint64_t scratch_elements[2]; /* of one copy, by plan */
	int epochs[2];
	struct rdt_race race;
	struct rdt_value *values; /* [rank][INPUT, OUTPUT, copies of SCRATCH of each plan] */
	uint64_t *agreed;	  /* [run][element]: terms of the first rank that was through */
};

static inline int rdt_plan_of(const struct rdt_verifier *v, int run)
{
	return v->plans == 2 ? run % 2 : 0;
}

static inline const struct rdt_shape *rdt_shape_of(const struct rdt_verifier *v, int run, int rank)
{
	return &v->shapes[run % 2 * v->c->size + rank].shape;
}

/* One step of one rank in one run. */
struct rdt_place {
	int run, rank, lane, step;
};

static inline struct rdt_schedule *rdt_schedule_of(const struct rdt_verifier *v, int run, int rank)
{
	return &v->schedules[(size_t)run * (size_t)v->c->size + (size_t)rank];
}

/* Bytes of `rank`'s buffer in `run`. */
uint64_t rdt_buffer_bytes(const struct rdt_verifier *v, int run, int rank, enum rdt_buffer buffer);

/* Functions below return 0, 1 when they found a fault, or -1 when memory ran out. */

/* Keeps the first fault, with its place in front when there is one; returns 1. */
int rdt_fault(const struct rdt_verifier *v, const struct rdt_place *at, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* wellformed.c: what can be said of the schedules without running them. */
int rdt_check_wellformed(const struct rdt_verifier *v);

/* symbolic.c: memory. */
int rdt_symbolic_init(struct rdt_verifier *v);
void rdt_symbolic_free(struct rdt_verifier *v);
/* The caller writes its buffers before a run, and reads OUTPUT after it. */
int rdt_symbolic_begin(struct rdt_verifier *v, int rank, int run);
int rdt_symbolic_end(struct rdt_verifier *v, int rank, int run);
/* Executes PUT, REDUCE or COPY as `event`. */
int rdt_symbolic_step(struct rdt_verifier *v, const struct rdt_place *at, uint32_t event);
/* After all runs: is anything left that was stored for nobody? */
int rdt_symbolic_leftovers(const struct rdt_verifier *v);

#endif
