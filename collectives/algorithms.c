/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of algorithms and the default choice; see algorithms.h. */
#include "algorithms.h"

#include <string.h>

/* Above any of them, one-shot's n-fold traffic costs more than the ring's latency. */
#define ONESHOT_BYTES 16384
#define ONESHOT_TOTAL 65536
#define ONESHOT_RANKS 64

const struct rdt_algorithm rdt_algorithms[] = {
	{ "oneshot", RDT_COLL_ALLREDUCE, rdt_emit_oneshot,
	  "every rank puts its vector to every other", ONESHOT_RANKS, ONESHOT_TOTAL,
	  rdt_cost_oneshot },
	{ "ring", RDT_COLL_ALLREDUCE, rdt_emit_ring,
	  "reduce-scatter and allgather between neighbours", 0, 0, rdt_cost_ring },
	{ "tree", RDT_COLL_BROADCAST, rdt_emit_tree_broadcast, "binomial tree", 0, 0,
	  rdt_cost_tree_broadcast },
	{ "dissemination", RDT_COLL_BARRIER, rdt_emit_barrier,
	  "notifications at doubling distances", 0, 0, rdt_cost_barrier },
	{ .name = NULL },
};

const struct rdt_algorithm *rdt_algorithm_find(enum rdt_collective collective, const char *name)
{
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++)
		if (a->collective == collective && strcmp(a->name, name) == 0)
			return a;
	return NULL;
}

static const char *allreduce(int size, uint64_t bytes)
{
	bool small = bytes <= ONESHOT_BYTES && bytes * (uint64_t)size <= ONESHOT_TOTAL;

	return size == 1 || (small && size <= ONESHOT_RANKS) ? "oneshot" : "ring";
}

const struct rdt_algorithm *rdt_algorithm_select(enum rdt_collective collective, int size,
						 uint64_t bytes)
{
	switch (collective) {
	case RDT_COLL_ALLREDUCE: return rdt_algorithm_find(collective, allreduce(size, bytes));
	case RDT_COLL_BROADCAST: return rdt_algorithm_find(collective, "tree");
	case RDT_COLL_BARRIER: return rdt_algorithm_find(collective, "dissemination");
	case RDT_COLL_COUNT: break;
	}
	return NULL;
}
