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

int rdt_predict(const struct rdt_simulation *what, enum rdt_collective collective, bool in_order,
		struct rdt_candidate *out, int room)
{
	int n = 0;

	for (const struct rdt_algorithm *a = rdt_algorithms; a->name && n < room; a++) {
		struct rdt_candidate candidate = { .algorithm = a };
		int at = n;

		if (a->collective != collective || (in_order && !(a->flags & RDT_ALG_RANK_ORDER)))
			continue;
		candidate.outcome = rdt_simulate(a, what, &candidate.prediction);
		if (candidate.outcome == RDT_SIMULATE_NO_MEMORY)
			return -1;
		while (at > 0 && faster(&candidate, &out[at - 1])) {
			out[at] = out[at - 1];
			at--;
		}
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
				       enum rdt_collective collective, uint64_t bytes)
{
	int size = collective == RDT_COLL_BARRIER ? 0 : row(bytes);
	const struct rdt_algorithm **choice = &selector->choice[collective][size];

	/* Sums in the order of ranks can only matter where something is summed. */
	bool sums = collective == RDT_COLL_ALLREDUCE || collective == RDT_COLL_REDUCE ||
		    collective == RDT_COLL_REDUCE_SCATTER;

	if (!*choice) {
		struct rdt_simulation what = selector->what;
		struct rdt_candidate best = { 0 };
		const struct rdt_algorithm *a = rdt_algorithms;

		what.bytes = size ? UINT64_C(1) << (size - 1) : 0;
		for (; a->name; a++) {
			struct rdt_candidate candidate = { .algorithm = a };

			if (a->collective != collective ||
			    (selector->in_order && sums && !(a->flags & RDT_ALG_RANK_ORDER)))
				continue;
			candidate.outcome = rdt_simulate(a, &what, &candidate.prediction);
			if (candidate.outcome == RDT_SIMULATE_NO_MEMORY)
				return NULL;
			if (candidate.outcome == RDT_SIMULATED &&
			    (!best.algorithm || faster(&candidate, &best)))
				best = candidate;
		}
		*choice = best.algorithm;
	}
	return *choice;
}
