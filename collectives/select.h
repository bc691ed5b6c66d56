/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which algorithm to use: the one that the simulator predicts to be the fastest. All ranks of a
 * communicator have to choose alike; they do, for the same model, ranks and flags, because the
 * simulator counts in integers.
 */
#ifndef RDT_SELECT_H
#define RDT_SELECT_H

#include "simulate.h"

struct rdt_candidate {
	const struct rdt_algorithm *algorithm;
	enum rdt_simulated outcome;
	struct rdt_prediction prediction;
};

#define RDT_CANDIDATES 16 /* no collective has more algorithms */

/*
 * Predicts every algorithm of a collective for `what` into `out`, the fastest first and those
 * without a prediction last. in_order: where something is summed, only the algorithms that sum in
 * the order of ranks. Returns how many there are, or -1 when memory ran out.
 */
int rdt_predict(const struct rdt_simulation *what, enum rdt_collective collective, bool in_order,
		struct rdt_candidate out[RDT_CANDIDATES]);

/* The choices of one communicator, made as they are asked for. */
#define RDT_SELECT_SIZES 32 /* 0, then powers of two: 1, 2, 4 .. 1 GiB */

struct rdt_selector {
	/* Set once: model, ranks, hosts, flags. Bytes and root are not looked at: the root is 0. */
	struct rdt_simulation what;
	bool in_order;
	bool no_memory; /* rdt_select's last NULL was for want of it */
	/* The fastest first; NULL behind the last, and everywhere where nobody has asked yet. */
	const struct rdt_algorithm *order[RDT_COLL_COUNT][RDT_SELECT_SIZES][RDT_CANDIDATES + 1];
};

/* Copies `what`, but neither its model nor its hosts. */
void rdt_selector_init(struct rdt_selector *selector, const struct rdt_simulation *what,
		       bool in_order);

/*
 * The best algorithm for `bytes`, as for the next lower power of two; NULL when none applies, or
 * memory ran out. Sizes are predicted with equal blocks; `shape`, if any, is what the algorithm
 * must be able to run. A choice that was made before costs nothing; the first one simulates, which
 * takes milliseconds among hundreds of ranks and up to seconds among thousands.
 */
const struct rdt_algorithm *rdt_select(struct rdt_selector *selector,
				       enum rdt_collective collective, uint64_t bytes,
				       const struct rdt_shape *shape);

#endif
