/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of algorithms; see algorithms.h. */
#include "algorithms.h"

#include <string.h>

#define SYMMETRIC RDT_ALG_SYMMETRIC
#define RANK_ORDER RDT_ALG_RANK_ORDER
#define RAGGED RDT_ALG_RAGGED

const struct rdt_algorithm rdt_algorithms[] = {
	{ "board", RDT_COLL_ALLREDUCE, rdt_emit_board,
	  "ranks of one host read each other's vectors", SYMMETRIC | RANK_ORDER, rdt_applies_direct,
	  rdt_cost_board },
	{ "oneshot", RDT_COLL_ALLREDUCE, rdt_emit_oneshot,
	  "every rank puts its vector to every other", SYMMETRIC | RANK_ORDER, NULL,
	  rdt_cost_oneshot },
	{ "exchange", RDT_COLL_ALLREDUCE, rdt_emit_exchange_allreduce,
	  "every rank sums a block from all and puts it to all", SYMMETRIC | RANK_ORDER, NULL,
	  rdt_cost_exchange_allreduce },
	{ "radix2", RDT_COLL_ALLREDUCE, rdt_emit_radix2, "whole vectors, in groups of 2 a round", 0,
	  NULL, rdt_cost_radix2 },
	{ "radix4", RDT_COLL_ALLREDUCE, rdt_emit_radix4, "whole vectors, in groups of 4 a round", 0,
	  NULL, rdt_cost_radix4 },
	{ "radix8", RDT_COLL_ALLREDUCE, rdt_emit_radix8, "whole vectors, in groups of 8 a round", 0,
	  NULL, rdt_cost_radix8 },
	{ "circulant", RDT_COLL_ALLREDUCE, rdt_emit_circulant_allreduce,
	  "reduce-scatter and allgather at halving distances", 0, NULL,
	  rdt_cost_circulant_allreduce },
	{ "ring", RDT_COLL_ALLREDUCE, rdt_emit_ring,
	  "reduce-scatter and allgather between neighbours", SYMMETRIC, NULL, rdt_cost_ring },
	{ "exchange", RDT_COLL_REDUCE_SCATTER, rdt_emit_exchange_reduce_scatter,
	  "every rank sums its block from all", SYMMETRIC | RANK_ORDER | RAGGED, NULL,
	  rdt_cost_exchange_reduce_scatter },
	{ "circulant", RDT_COLL_REDUCE_SCATTER, rdt_emit_circulant_reduce_scatter,
	  "partial sums at halving distances", RAGGED, NULL, rdt_cost_circulant_reduce_scatter },
	{ "ring", RDT_COLL_REDUCE_SCATTER, rdt_emit_ring_reduce_scatter,
	  "partial sums between neighbours", SYMMETRIC | RAGGED, NULL,
	  rdt_cost_ring_reduce_scatter },
	{ "exchange", RDT_COLL_ALLGATHER, rdt_emit_exchange_allgather,
	  "every rank puts its block to all", SYMMETRIC | RAGGED, NULL,
	  rdt_cost_exchange_allgather },
	{ "circulant", RDT_COLL_ALLGATHER, rdt_emit_circulant_allgather,
	  "blocks at doubling distances", RAGGED, NULL, rdt_cost_circulant_allgather },
	{ "ring", RDT_COLL_ALLGATHER, rdt_emit_ring_allgather, "blocks between neighbours",
	  SYMMETRIC | RAGGED, NULL, rdt_cost_ring_allgather },
	{ "direct", RDT_COLL_ALLREDUCE, rdt_emit_direct_allreduce,
	  "ranks of one host sum a block each in each other's memory", SYMMETRIC | RANK_ORDER,
	  rdt_applies_direct, rdt_cost_direct_allreduce },
	{ "hierarchical-circulant", RDT_COLL_ALLREDUCE, rdt_emit_hierarchy_circulant,
	  "within hosts through memory, between them by circulants", 0, rdt_applies_hierarchy,
	  rdt_cost_hierarchy_circulant },
	{ "hierarchical-ring", RDT_COLL_ALLREDUCE, rdt_emit_hierarchy_ring,
	  "within hosts through memory, between them by rings", RDT_ALG_HOST_SYMMETRIC,
	  rdt_applies_hierarchy, rdt_cost_hierarchy_ring },
	{ "direct", RDT_COLL_REDUCE_SCATTER, rdt_emit_direct_reduce_scatter,
	  "ranks of one host read their block in each other's memory",
	  SYMMETRIC | RANK_ORDER | RAGGED, rdt_applies_direct, rdt_cost_direct_reduce_scatter },
	{ "direct", RDT_COLL_ALLGATHER, rdt_emit_direct_allgather,
	  "ranks of one host read each other's blocks", SYMMETRIC | RAGGED, rdt_applies_direct,
	  rdt_cost_direct_allgather },
	{ "tree", RDT_COLL_BROADCAST, rdt_emit_tree_broadcast, "binomial tree", 0, NULL,
	  rdt_cost_tree_broadcast },
	{ "linear", RDT_COLL_BROADCAST, rdt_emit_linear_broadcast, "the root puts to every other",
	  0, NULL, rdt_cost_linear_broadcast },
	{ "tree", RDT_COLL_REDUCE, rdt_emit_tree_reduce, "binomial tree", 0, NULL,
	  rdt_cost_tree_reduce },
	{ "linear", RDT_COLL_REDUCE, rdt_emit_linear_reduce, "every other puts to the root",
	  RANK_ORDER, NULL, rdt_cost_linear_reduce },
	{ "linear", RDT_COLL_GATHER, rdt_emit_linear_gather, "every other puts to the root", RAGGED,
	  NULL, rdt_cost_linear_gather },
	{ "linear", RDT_COLL_SCATTER, rdt_emit_linear_scatter, "the root puts to every other",
	  RAGGED, NULL, rdt_cost_linear_scatter },
	{ "pairwise", RDT_COLL_ALLTOALL, rdt_emit_pairwise,
	  "each block from its source to its destination, in n-1 rounds", SYMMETRIC | RAGGED, NULL,
	  rdt_cost_pairwise },
	{ "bruck", RDT_COLL_ALLTOALL, rdt_emit_bruck,
	  "blocks travel in packs to doubling distances", SYMMETRIC, NULL, rdt_cost_bruck },
	{ "eager", RDT_COLL_SEND, rdt_emit_transfer, "through the receiver's scratch", 0, NULL,
	  rdt_cost_transfer },
	{ "dissemination", RDT_COLL_BARRIER, rdt_emit_barrier2,
	  "notifications at doubling distances", SYMMETRIC, NULL, rdt_cost_barrier2 },
	{ "dissemination4", RDT_COLL_BARRIER, rdt_emit_barrier4,
	  "notifications at distances times 4, 3 a round", SYMMETRIC, NULL, rdt_cost_barrier4 },
	{ "dissemination8", RDT_COLL_BARRIER, rdt_emit_barrier8,
	  "notifications at distances times 8, 7 a round", SYMMETRIC, NULL, rdt_cost_barrier8 },
	{ .name = NULL },
};

const struct rdt_algorithm *rdt_algorithm_find(enum rdt_collective collective, const char *name)
{
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++)
		if (a->collective == collective && strcmp(a->name, name) == 0)
			return a;
	return NULL;
}

bool rdt_algorithm_applies(const struct rdt_algorithm *algorithm, int size,
			   const struct rdt_shape *shape)
{
	if (shape->ragged && !(algorithm->flags & RAGGED))
		return false;
	return !algorithm->applies || algorithm->applies(size, shape);
}
