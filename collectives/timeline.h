/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of the simulator: compiled schedules of some ranks ("actors"), and the run of them
 * over time. simulate.c compiles; timeline.c runs.
 */
#ifndef RDT_TIMELINE_H
#define RDT_TIMELINE_H

#include <stdbool.h>

#include "model.h"
#include "schedule.h"
#include "window.h"

/* One step, reduced to what it costs and whom it concerns. */
struct rdt_sim_op {
	uint64_t value; /* PUT: bytes; REDUCE, COPY: CPU ps */
	union {
		struct {
			uint32_t actor; /* PUT: who receives */
			uint32_t link;	/* PUT: the sender, as the receiver counts; WAIT: the
					   peer, as this actor counts */
		};
		uint64_t traffic; /* REDUCE, COPY: bytes read and written */
	};
	uint32_t count; /* WAIT */
	uint8_t kind;	/* enum rdt_step_kind */
	uint8_t net;	/* PUT, WAIT: enum rdt_link_kind */
};

struct rdt_sim_lane {
	struct rdt_sim_op *ops;
	size_t n;
};

/* One rank that is run. */
struct rdt_sim_actor {
	struct rdt_sim_lane lanes[2][RDT_MAX_LANES]; /* of a full window, of the tail */
	int *peers; /* sorted: ranks that it waits for; index: its number of the link */
	int n_peers;
	int rank, host, rail; /* rail: index into all rails of all hosts that are run */
};

struct rdt_sim {
	const struct rdt_model *model;
	struct rdt_sim_actor *actors;
	int n_actors, n_hosts; /* that are run */
	int n_lanes;
	int n_slots;
	uint64_t n_windows;
	bool tail; /* the last window has lanes of its own */
	bool checked;
};

struct rdt_sim_result {
	uint64_t time_ps;
	int rounds;
	uint64_t steps;
	bool stuck;
};

/* 0, or -1 when memory ran out. */
int rdt_sim_run(const struct rdt_sim *sim, struct rdt_sim_result *result);

#endif
