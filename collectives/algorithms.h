/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of algorithms: name, when it applies, how to emit it, what it costs. A new algorithm is
 * one new file with an emitter and a promise of its cost, and one line in algorithms.c.
 */
#ifndef RDT_ALGORITHMS_H
#define RDT_ALGORITHMS_H

#include "schedule.h"

/*
 * Writes this rank's schedule into `out` (already initialised). Pure: the same arguments give the
 * same schedule. Returns 0, or -1 when memory ran out.
 */
typedef int (*rdt_emit_fn)(const struct rdt_group *group, const struct rdt_shape *shape,
			   struct rdt_schedule *out);

/* What the schedules of all ranks cost together; the verifier holds an emitter to its promise. */
struct rdt_cost {
	int rounds;	/* at most: puts in the longest chain of which each needs the one before */
	uint64_t bytes; /* at most: what one rank puts */
	uint64_t puts;	/* exactly: notifications of all ranks together */
};
typedef struct rdt_cost (*rdt_cost_fn)(int size, const struct rdt_shape *shape);

struct rdt_algorithm {
	const char *name;
	enum rdt_collective collective;
	rdt_emit_fn emit;
	const char *summary; /* one line, for listings */
	/* The largest group and window for which it is sane to choose it; 0: no limit. */
	int max_size;
	uint64_t max_bytes;
	rdt_cost_fn cost; /* NULL: no promise */
};

/* NULL-name-terminated. */
extern const struct rdt_algorithm rdt_algorithms[];

/* By name, for one collective; NULL when there is none. */
const struct rdt_algorithm *rdt_algorithm_find(enum rdt_collective collective, const char *name);

/*
 * The default choice for an operation of `bytes` on a group of `size`. It looks at nothing but its
 * arguments, so that every rank chooses alike.
 */
const struct rdt_algorithm *rdt_algorithm_select(enum rdt_collective collective, int size,
						 uint64_t bytes);

/* The emitters, one file each. */
int rdt_emit_oneshot(const struct rdt_group *, const struct rdt_shape *, struct rdt_schedule *);
int rdt_emit_ring(const struct rdt_group *, const struct rdt_shape *, struct rdt_schedule *);
int rdt_emit_tree_broadcast(const struct rdt_group *, const struct rdt_shape *,
			    struct rdt_schedule *);
int rdt_emit_barrier(const struct rdt_group *, const struct rdt_shape *, struct rdt_schedule *);

struct rdt_cost rdt_cost_oneshot(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_ring(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_tree_broadcast(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_barrier(int size, const struct rdt_shape *);

#endif
