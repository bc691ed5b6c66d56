/* SPDX-License-Identifier: BSD-3-Clause */
/* Choosing an algorithm by its predicted time; see select.h. */
#include "select.h"

/* A choice must not take long, so algorithms with very long schedules are not considered then; they
 * are not the fast ones. */
#define SELECT_STEPS UINT64_C(4000000)

/* Equally fast ones stay in the order of the table. */
static bool faster(const struct rdt_candidate *a, const struct rdt_candidate *b)
{
	if (a->outcome != RDT_SIMULATED || b->outcome != RDT_SIMULATED)
		return a->outcome == RDT_SIMULATED && b->outcome != RDT_SIMULATED;
	return a->prediction.time_ps < b->prediction.time_ps;
}

static bool sums(enum rdt_collective collective)
{
	return collective == RDT_COLL_ALLREDUCE || collective == RDT_COLL_REDUCE ||
	       collective == RDT_COLL_REDUCE_SCATTER;
}

int rdt_predict(const struct rdt_simulation *what, enum rdt_collective collective, bool in_order,
		struct rdt_candidate out[RDT_CANDIDATES])
{
	unsigned needed = in_order && sums(collective) ? RDT_ALG_RANK_ORDER : 0;
	int n = 0;

	for (const struct rdt_algorithm *a = rdt_algorithms; a->name && n < RDT_CANDIDATES; a++) {
		struct rdt_candidate candidate = { .algorithm = a };
		int at = n;

		if (a->collective != collective || (a->flags & needed) != needed)
			continue;
		candidate.outcome = rdt_simulate(a, what, &candidate.prediction);
		if (candidate.outcome == RDT_SIMULATE_NO_MEMORY)
			return -1;
		for (; at > 0 && faster(&candidate, &out[at - 1]); at--)
			out[at] = out[at - 1];
		out[at] = candidate;
		n++;
	}
	return n;
}

void rdt_selector_init(struct rdt_selector *selector, const struct rdt_simulation *what,
		       bool in_order)
{
	*selector = (struct rdt_selector){ .what = *what, .in_order = in_order };
	selector->what.root = 0;
	if (!selector->what.max_steps)
		selector->what.max_steps = SELECT_STEPS;
}

/* 0 for 0 bytes, 1 for 1, 2 for 2 and 3, 3 for 4 to 7, ... */
static int row(uint64_t bytes)
{
	int row = 0;

	while (bytes && row < RDT_SELECT_SIZES - 1) {
		bytes /= 2;
		row++;
	}
	return row;
}

const struct rdt_algorithm *rdt_select(struct rdt_selector *selector,
				       enum rdt_collective collective, uint64_t bytes,
				       const struct rdt_shape *shape)
{
	int size = collective == RDT_COLL_BARRIER ? 0 : row(bytes);
	const struct rdt_algorithm **order = selector->order[collective][size];

	if (!*order) {
		struct rdt_simulation what = selector->what;
		struct rdt_candidate candidates[RDT_CANDIDATES];
		int n;

		what.bytes = size ? UINT64_C(1) << (size - 1) : 0;
		n = rdt_predict(&what, collective, selector->in_order, candidates);
		selector->no_memory = n < 0;
		for (int i = 0; i < n; i++)
			if (candidates[i].outcome == RDT_SIMULATED)
				*order++ = candidates[i].algorithm;
		order = selector->order[collective][size];
	}
	while (*order && shape && !rdt_algorithm_applies(*order, selector->what.ranks, shape))
		order++;
	return *order;
}
