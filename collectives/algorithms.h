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

/* Whether the algorithm can be used; looks at what is equal on all ranks only. */
typedef bool (*rdt_applies_fn)(int size, const struct rdt_shape *shape);

enum {
	/* When all blocks are equal, rank r does what rank 0 does, with r added to every peer. */
	RDT_ALG_SYMMETRIC = 1u,
	/* The same for hosts with equally many consecutive ranks: those of host h do what those of
	 * host 0 do, with the ranks of h hosts added to every peer. */
	RDT_ALG_HOST_SYMMETRIC = 8u,
	/* Sums are formed in the order of ranks, so their bits do not depend on the algorithm. */
	RDT_ALG_RANK_ORDER = 2u,
	/* INPUT and OUTPUT may be laid out in blocks of different lengths. */
	RDT_ALG_RAGGED = 4u,
};

struct rdt_algorithm {
	const char *name;
	enum rdt_collective collective;
	rdt_emit_fn emit;
	const char *summary; /* one line, for listings */
	unsigned flags;
	rdt_applies_fn applies; /* NULL: always */
	rdt_cost_fn cost;	/* NULL: no promise */
};

/* NULL-name-terminated. */
extern const struct rdt_algorithm rdt_algorithms[];

/* By name, for one collective; NULL when there is none. */
const struct rdt_algorithm *rdt_algorithm_find(enum rdt_collective collective, const char *name);

/* Whether `algorithm` can run this shape: by its flags and by applies(). */
bool rdt_algorithm_applies(const struct rdt_algorithm *algorithm, int size,
			   const struct rdt_shape *shape);

/* oneshot.c */
int rdt_emit_oneshot(const struct rdt_group *, const struct rdt_shape *, struct rdt_schedule *);
struct rdt_cost rdt_cost_oneshot(int size, const struct rdt_shape *);

/* board.c */
#define RDT_BOARD_HEADER 8 /* bytes before the vector on a board */
int rdt_emit_board(const struct rdt_group *, const struct rdt_shape *, struct rdt_schedule *);
struct rdt_cost rdt_cost_board(int size, const struct rdt_shape *);

/* exchange.c: everybody with everybody, block by block */
int rdt_emit_exchange_allreduce(const struct rdt_group *, const struct rdt_shape *,
				struct rdt_schedule *);
int rdt_emit_exchange_reduce_scatter(const struct rdt_group *, const struct rdt_shape *,
				     struct rdt_schedule *);
int rdt_emit_exchange_allgather(const struct rdt_group *, const struct rdt_shape *,
				struct rdt_schedule *);
struct rdt_cost rdt_cost_exchange_allreduce(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_exchange_reduce_scatter(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_exchange_allgather(int size, const struct rdt_shape *);

/* radix.c */
int rdt_emit_radix2(const struct rdt_group *, const struct rdt_shape *, struct rdt_schedule *);
int rdt_emit_radix4(const struct rdt_group *, const struct rdt_shape *, struct rdt_schedule *);
int rdt_emit_radix8(const struct rdt_group *, const struct rdt_shape *, struct rdt_schedule *);
struct rdt_cost rdt_cost_radix2(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_radix4(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_radix8(int size, const struct rdt_shape *);

/* circulant.c */
int rdt_emit_circulant_allreduce(const struct rdt_group *, const struct rdt_shape *,
				 struct rdt_schedule *);
int rdt_emit_circulant_reduce_scatter(const struct rdt_group *, const struct rdt_shape *,
				      struct rdt_schedule *);
int rdt_emit_circulant_allgather(const struct rdt_group *, const struct rdt_shape *,
				 struct rdt_schedule *);
struct rdt_cost rdt_cost_circulant_allreduce(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_circulant_reduce_scatter(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_circulant_allgather(int size, const struct rdt_shape *);

/* ring.c */
int rdt_emit_ring(const struct rdt_group *, const struct rdt_shape *, struct rdt_schedule *);
int rdt_emit_ring_reduce_scatter(const struct rdt_group *, const struct rdt_shape *,
				 struct rdt_schedule *);
int rdt_emit_ring_allgather(const struct rdt_group *, const struct rdt_shape *,
			    struct rdt_schedule *);
struct rdt_cost rdt_cost_ring(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_ring_reduce_scatter(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_ring_allgather(int size, const struct rdt_shape *);

/* direct.c: ranks of one host, through each other's memory */
int rdt_emit_direct_allreduce(const struct rdt_group *, const struct rdt_shape *,
			      struct rdt_schedule *);
int rdt_emit_direct_reduce_scatter(const struct rdt_group *, const struct rdt_shape *,
				   struct rdt_schedule *);
int rdt_emit_direct_allgather(const struct rdt_group *, const struct rdt_shape *,
			      struct rdt_schedule *);
bool rdt_applies_direct(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_direct_allreduce(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_direct_reduce_scatter(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_direct_allgather(int size, const struct rdt_shape *);

/* hierarchy.c */
int rdt_emit_hierarchy_circulant(const struct rdt_group *, const struct rdt_shape *,
				 struct rdt_schedule *);
int rdt_emit_hierarchy_ring(const struct rdt_group *, const struct rdt_shape *,
			    struct rdt_schedule *);
bool rdt_applies_hierarchy(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_hierarchy_circulant(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_hierarchy_ring(int size, const struct rdt_shape *);

/* tree.c */
int rdt_emit_tree_broadcast(const struct rdt_group *, const struct rdt_shape *,
			    struct rdt_schedule *);
int rdt_emit_tree_reduce(const struct rdt_group *, const struct rdt_shape *, struct rdt_schedule *);
struct rdt_cost rdt_cost_tree_broadcast(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_tree_reduce(int size, const struct rdt_shape *);

/* linear.c: the root with everybody */
int rdt_emit_linear_broadcast(const struct rdt_group *, const struct rdt_shape *,
			      struct rdt_schedule *);
int rdt_emit_linear_reduce(const struct rdt_group *, const struct rdt_shape *,
			   struct rdt_schedule *);
int rdt_emit_linear_gather(const struct rdt_group *, const struct rdt_shape *,
			   struct rdt_schedule *);
int rdt_emit_linear_scatter(const struct rdt_group *, const struct rdt_shape *,
			    struct rdt_schedule *);
struct rdt_cost rdt_cost_linear_broadcast(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_linear_reduce(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_linear_gather(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_linear_scatter(int size, const struct rdt_shape *);

/* alltoall.c */
int rdt_emit_pairwise(const struct rdt_group *, const struct rdt_shape *, struct rdt_schedule *);
int rdt_emit_bruck(const struct rdt_group *, const struct rdt_shape *, struct rdt_schedule *);
struct rdt_cost rdt_cost_pairwise(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_bruck(int size, const struct rdt_shape *);

/* barrier.c */
int rdt_emit_barrier2(const struct rdt_group *, const struct rdt_shape *, struct rdt_schedule *);
int rdt_emit_barrier4(const struct rdt_group *, const struct rdt_shape *, struct rdt_schedule *);
int rdt_emit_barrier8(const struct rdt_group *, const struct rdt_shape *, struct rdt_schedule *);
struct rdt_cost rdt_cost_barrier2(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_barrier4(int size, const struct rdt_shape *);
struct rdt_cost rdt_cost_barrier8(int size, const struct rdt_shape *);

/* transfer.c: from one rank to another */
int rdt_emit_transfer(const struct rdt_group *, const struct rdt_shape *, struct rdt_schedule *);
struct rdt_cost rdt_cost_transfer(int size, const struct rdt_shape *);

#endif
