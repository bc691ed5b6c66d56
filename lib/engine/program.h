/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A program: a schedule bound to memory and links, and the state of running it. The communicator
 * makes it (lib/comm/bind.c is the only place where a span becomes a pointer's base); the engine
 * runs it. Everything here is laid out when the program is made, so that starting and running it
 * allocate nothing.
 *
 * An operation is cut into windows of `window_bytes`; `n_slots` windows are under way at a time,
 * and window w runs in slot w mod n_slots. Each slot has the schedule's lanes and its own scratch.
 * Windows of other lengths (the last one, or those past the end of a shorter block) have schedules
 * of their own.
 */
#ifndef RDT_PROGRAM_H
#define RDT_PROGRAM_H

#include "collectives/schedule.h"
#include "lib/reduce/reduce.h"
#include "lib/transport/transport.h"

#define RDT_LINK_MINE UINT16_MAX

/* A span whose owner is known: this rank, or the rank behind a link. */
struct rdt_bound_span {
	uint64_t offset,
		length; /* bytes; offset within the window (INPUT, OUTPUT) or epoch (SCRATCH) */
	uint16_t link;	/* index of a link, or RDT_LINK_MINE */
	uint8_t buffer; /* enum rdt_buffer */
};

struct rdt_bound_step {
	uint8_t kind, flags;
	uint16_t link; /* PUT, WAIT */
	uint16_t n_dst, n_src;
	uint32_t count; /* WAIT */
	uint32_t spans; /* index of the first: destinations, then sources */
};

struct rdt_bound_lane {
	struct rdt_bound_step *steps;
	uint32_t n_steps;
};

/* A schedule with its owners resolved, for the windows from `first` to where the next one's begin.
 */
struct rdt_bound_schedule {
	uint64_t first;
	int n_lanes;
	struct rdt_bound_lane lanes[RDT_MAX_LANES];
	struct rdt_bound_span *spans;
	uint32_t *puts; /* how many PUTs go to each link in one run */
};

/* A peer, as this program sees it. */
struct rdt_link {
	int peer;      /* communicator rank */
	int transport; /* index into rdt_program.local[].region */
	struct rdt_ep *ep;
	const struct rdt_transport_ops *ops;
	unsigned used;				     /* bit b: some step names its buffer b */
	struct rdt_remote *remote[RDT_BUFFER_COUNT]; /* NULL where no step goes */
	char *mapped[RDT_BUFFER_COUNT];		     /* where the buffer is mapped here; or NULL */
	uint64_t offset[RDT_BUFFER_COUNT];	     /* of the buffer within `remote` */
	uint64_t records; /* check: of this rank's puts, in the peer's SCRATCH */
	uint32_t ring;	  /* check: how many for each lane */
	/* running state */
	uint64_t puts_left; /* PUTs still to come in this operation */
	uint64_t quiet_at;  /* ep's `completed` must reach this before the operation is over */
};

struct rdt_check;

#define RDT_TRANSPORTS 2 /* at most, in one communicator */

/* This rank's memory of one kind. */
struct rdt_local {
	char *base;
	const struct rdt_region
		*region[RDT_TRANSPORTS]; /* NULL: not registered with that transport */
};

/* One lane of one slot, while it runs. */
struct rdt_lane_state {
	uint32_t step; /* the next to do */
	bool over;     /* through with the slot's window */
};

struct rdt_slot_state {
	uint64_t window;
	const struct rdt_bound_schedule *schedule; /* of that window */
	uint32_t epoch;	   /* counts runs, for ever; scratch copy = epoch % scratch_epochs */
	int lanes_running; /* the slot moves to its next window when all its lanes are through */
};

struct rdt_program {
	/* what to run */
	struct rdt_bound_schedule *schedules; /* ascending by `first` */
	int n_schedules;
	uint64_t n_windows, window_bytes;
	int n_slots, n_lanes;	 /* lanes of one slot */
	unsigned channel;	 /* the first of n_slots * n_lanes notification channels */
	uint64_t scratch_stride; /* bytes of one epoch of one slot */
	int scratch_epochs;
	uint32_t elem_size;
	rdt_reduce_fn reduce;
	uint32_t divisor; /* applied by FINAL steps; 0: none */

	/* on what */
	struct rdt_local local[RDT_BUFFER_COUNT];
	struct rdt_link *links;
	int n_links;

	bool board;		 /* runs by board.h */
	struct rdt_check *check; /* check.h; NULL: data are used as they come */

	/* how far */
	bool running;
	int links_seen; /* board: whose vectors are there */
	struct rdt_slot_state slots[RDT_SLOT_LANES];
	struct rdt_lane_state lanes[RDT_SLOT_LANES];
	int slots_running;
	uint32_t *consumed; /* [link * n_slots * n_lanes + lane]: notifications waited for so far */
	const void **srcs;  /* room for the widest REDUCE */
	void **dsts;
};

#endif
