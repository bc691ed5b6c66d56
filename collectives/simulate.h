/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The simulator: runs the schedules that the engine runs through a model of the machine (model.h),
 * and predicts how long they take. Windows, slots and lanes are as in the engine: each rank has one
 * CPU, which runs a lane until it has to wait and then goes on to the next.
 *
 * Integers only: the same arguments give the same picosecond everywhere.
 *
 * Of a symmetric algorithm (RDT_ALG_SYMMETRIC, RDT_ALG_HOST_SYMMETRIC) with equal numbers of ranks
 * on all hosts, only the ranks of host 0 are run: a put from rank a to rank b of host h happens at
 * the same time as the one from the rank that lies h hosts before a to the rank of host 0 that
 * corresponds to b, so that host 0 delivers to itself. That is exact when the blocks of the vector
 * are equal; when they are not, all ranks are run unless they have too many steps.
 */
#ifndef RDT_SIMULATE_H
#define RDT_SIMULATE_H

#include "algorithms.h"
#include "model.h"

struct rdt_simulation {
	const struct rdt_model *model;
	int ranks;
	int ranks_per_host; /* consecutive ranks; 0 is 1. The last host may have fewer */
	const int *host;    /* [ranks] instead: each rank's host; NULL: by ranks_per_host */
	/* Of the vector, or of all ranks' blocks together, which are then of equal length: rounded
	 * up to whole elements. */
	uint64_t bytes;
	uint32_t elem_size;
	int root;
	bool remote_output, mapped; /* as in rdt_shape */
	bool checked;		    /* by RDTRAIN_CHECK=1: nobody reads in another's memory */
	uint64_t window;	    /* bytes; 0: the library's rule; UINT64_MAX: never cut */
	uint64_t max_steps;	    /* give up where more would have to be run; 0: 20 million */
	bool all_ranks;		    /* run every rank, also of a symmetric algorithm */
};

struct rdt_prediction {
	uint64_t time_ps;
	int rounds;	/* the longest chain of puts of which each waits for the one before */
	uint64_t bytes; /* what the busiest rank puts */
	uint64_t puts;	/* of all ranks together */
	uint64_t steps; /* that were run to find out; half a second a million */
	/* What it needs of the rank that needs most: peers on its host and on others (a queue pair
	 * each, on verbs), and bytes of scratch, which is registered. */
	int peers_host, peers_net;
	uint64_t scratch;
};

enum rdt_simulated {
	RDT_SIMULATED = 0,
	RDT_SIMULATE_NO_MEMORY = -1,
	RDT_SIMULATE_NOT_APPLICABLE = 1, /* the algorithm cannot run this shape */
	RDT_SIMULATE_TOO_BIG = 2,	 /* more than max_steps */
	RDT_SIMULATE_STUCK = 3, /* a rank waits for what nobody sends: a fault of the schedule */
};

enum rdt_simulated rdt_simulate(const struct rdt_algorithm *algorithm,
				const struct rdt_simulation *what, struct rdt_prediction *out);

/* The outcome in words, for people. */
const char *rdt_simulated_text(enum rdt_simulated outcome);

#endif
