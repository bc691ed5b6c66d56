/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Schedules: what one rank does in a collective, as plain data. Read this first.
 *
 * A collective algorithm is a pure function from a shape to a schedule; it does no I/O and knows no
 * pointers. The engine runs the schedule over links, the verifier runs all ranks of it
 * symbolically, the simulator predicts its time. Nothing in this folder includes anything but libc.
 *
 * A schedule is a few lanes; a lane is a list of steps that run in order; lanes run concurrently.
 *
 *   PUT peer, src, dst    write the local span src into the peer's span dst (equal lengths), then
 *                         add one to the notification count that the peer keeps for (me, lane).
 *                         Length 0 is a bare notification. Puts of one lane to one peer arrive in
 *                         order. The step is over before src has been read: src may be written
 *                         again only after the peer is known to have consumed the notification,
 *                         or in the next operation.
 *   WAIT peer, n          until n more notifications of (peer, lane) have arrived
 *   REDUCE dst[], src[]   combine one or more sources element by element, in the order given, and
 *                         store the result to one or more destinations, in one pass over memory.
 *                         A destination may be the same span as a source, but not overlap it
 *                         otherwise. Flag FINAL: exactly once on the way to each output element
 *                         (an average divides there)
 *   COPY dst, src         local copy (one source, one destination)
 *
 * The counter behind WAIT is monotonic: a lane's waits consume exactly what its peers' puts produce
 * in each operation, no more and no less, so a peer that is already in its next operation does no
 * harm.
 *
 * A schedule describes one *window* of an operation. The engine cuts a large operation into windows
 * and runs the schedule once for each, INPUT and OUTPUT moved along. SCRATCH is not moved: each
 * concurrent window has its own, and consecutive runs of a schedule on it use its `scratch_epochs`
 * copies in turn. So a run of the schedule may assume that every rank is done with the run
 * `scratch_epochs` before, only if the schedule's own notifications prove it: the verifier checks
 * that by vector clocks over consecutive runs.
 */
#ifndef RDT_SCHEDULE_H
#define RDT_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "group.h"

enum rdt_collective {
	RDT_COLL_ALLREDUCE,
	RDT_COLL_REDUCE_SCATTER,
	RDT_COLL_ALLGATHER,
	RDT_COLL_BROADCAST,
	RDT_COLL_REDUCE,
	RDT_COLL_GATHER,
	RDT_COLL_SCATTER,
	RDT_COLL_ALLTOALL,
	RDT_COLL_BARRIER,
	RDT_COLL_SEND, /* one vector, from group rank 0 to group rank 1; the group has no others */
	RDT_COLL_COUNT
};

/* "allreduce", ...; NULL outside the enum. */
const char *rdt_collective_name(enum rdt_collective collective);

/*
 * What INPUT and OUTPUT hold: "vector" is one of shape->bytes; "blocks" are laid out by shape->in
 * or shape->out, one for each rank; "block" is this rank's alone, at offset 0.
 *
 *			 INPUT		    OUTPUT
 *	allreduce	 vector		    vector
 *	reduce_scatter	 blocks (in)	    block (of in)
 *	allgather	 block (of out)	    blocks (out)
 *	broadcast	 -		    vector; the root's holds the data from the start
 *	reduce		 vector		    vector at the root, else -
 *	gather		 block (of out)	    blocks (out) at the root, else -
 *	scatter		 blocks (in) at	    block (of in)
 *			 the root, else -
 *	alltoall	 blocks (in)	    blocks (out)
 *	send		 vector at 0	    vector at 1
 */
enum rdt_buffer { RDT_INPUT, RDT_OUTPUT, RDT_SCRATCH, RDT_BUFFER_COUNT };

/*
 * `length` bytes at `offset` of communicator rank `rank`'s buffer. A span of another rank is legal
 * as the destination of a PUT to it and, for the steps that touch memory directly (REDUCE, COPY),
 * for a peer whose memory is mapped here: the SCRATCH of the ranks of this host always, their INPUT
 * and OUTPUT when shape->mapped. Such an access is this rank's own, done when the step is over;
 * notifications have to order it against the owner's.
 */
struct rdt_span {
	enum rdt_buffer buffer;
	int rank;
	uint64_t offset, length;
};

enum rdt_step_kind { RDT_PUT, RDT_WAIT, RDT_REDUCE, RDT_COPY };

#define RDT_STEP_FINAL 1u /* REDUCE: the result is complete */

struct rdt_step {
	uint8_t kind; /* enum rdt_step_kind */
	uint8_t flags;
	uint16_t n_dst, n_src;
	int peer;	/* PUT, WAIT: communicator rank */
	uint32_t count; /* WAIT: how many notifications */
	uint32_t spans; /* index of the first span: destinations, then sources */
};

struct rdt_lane {
	struct rdt_step *steps;
	size_t n_steps, cap_steps;
};

#define RDT_MAX_LANES 4

struct rdt_schedule {
	int n_lanes;
	struct rdt_lane lanes[RDT_MAX_LANES];
	struct rdt_span *spans;
	size_t n_spans, cap_spans;
	uint64_t scratch_bytes; /* of one epoch; the builder raises it to cover every local span */
	int scratch_epochs;	/* 1 or 2 */
	bool failed;		/* the builder ran out of memory; sticky, reported by _finish */
};

/*
 * How a buffer is divided into one block for each rank of the group. In a window each block is cut
 * at the same place, so that `length` (of the part in this window) may be shorter than the distance
 * from one offset to the next, or 0. Blocks do not overlap; they need not be in the order of ranks.
 */
struct rdt_layout {
	const uint64_t *offset; /* [group size] bytes from the buffer's beginning */
	const uint64_t *length; /* [group size] bytes */
};

/*
 * What the emitters are told. Equal on all ranks, but for group->rank and, in an all-to-all, `in`
 * and `out` (block i of rank j's `in` is as long as block j of rank i's `out`).
 */
struct rdt_shape {
	enum rdt_collective collective;
	uint32_t elem_size; /* bytes of one element, at least 1; all lengths are multiples of it */
	int root;	    /* group rank; broadcast, reduce, gather, scatter */
	uint64_t bytes;	    /* of the vector in this window; may be 0 */
	struct rdt_layout in, out; /* of the collectives that have blocks */
	bool ragged;		   /* blocks differ in length, on some rank at least */
	uint64_t max_block;	   /* no block of any rank is longer; slots for blocks in SCRATCH */
	bool remote_output;	   /* every rank's OUTPUT may be the target of a PUT */
	bool in_place; /* all-to-all: INPUT is OUTPUT on this rank, and `in` and `out` are equal */
	bool mapped;   /* every rank's INPUT and OUTPUT are mapped by the ranks of its host */
	/* [group size] the number of each rank's host, below the group's size; NULL: each on one of
	 * its own */
	const int *host;
};

/* Whether group rank `a` can load from and store to the memory of `b`, another rank. */
static inline bool rdt_shares_host(const struct rdt_shape *shape, int a, int b)
{
	return shape->host && shape->host[a] == shape->host[b];
}

/* ---- the builder: emitters call these in order; lanes are numbered from 0 ---------------------
 */

void rdt_schedule_init(struct rdt_schedule *s);
void rdt_schedule_free(struct rdt_schedule *s);

static inline struct rdt_span rdt_span(enum rdt_buffer buffer, int rank, uint64_t offset,
				       uint64_t length)
{
	return (struct rdt_span){ buffer, rank, offset, length };
}

void rdt_put(struct rdt_schedule *s, int lane, int peer, struct rdt_span dst, struct rdt_span src);
/* A put of nothing: a bare notification. */
void rdt_notify(struct rdt_schedule *s, int lane, int peer);
void rdt_wait_for(struct rdt_schedule *s, int lane, int peer, uint32_t n);
/* Spans of length 0 make no step. */
void rdt_reduce_to(struct rdt_schedule *s, int lane, unsigned flags, const struct rdt_span *dst,
		   int n_dst, const struct rdt_span *src, int n_src);
void rdt_copy(struct rdt_schedule *s, int lane, struct rdt_span dst, struct rdt_span src);

/*
 * Appends another schedule, which must have one lane, to `lane`: an algorithm made of others. What
 * `part` does in a buffer is done in base[buffer].buffer, base[buffer].offset bytes further on, of
 * the same rank. Its scratch is counted in; its epochs are the caller's to judge.
 */
void rdt_schedule_append(struct rdt_schedule *s, int lane, const struct rdt_schedule *part,
			 const struct rdt_span base[RDT_BUFFER_COUNT]);

/* 0, or -1 when memory ran out while building (the schedule must still be freed). */
int rdt_schedule_finish(struct rdt_schedule *s);

/* Destinations and sources of a step. */
static inline const struct rdt_span *rdt_step_dst(const struct rdt_schedule *s,
						  const struct rdt_step *step)
{
	return &s->spans[step->spans];
}
static inline const struct rdt_span *rdt_step_src(const struct rdt_schedule *s,
						  const struct rdt_step *step)
{
	return &s->spans[step->spans + step->n_dst];
}

/* The receive bound that the engine needs: notifications that one run of `s` consumes in all lanes.
 */
uint64_t rdt_schedule_waits(const struct rdt_schedule *s);

/* One line a step, for people; an example is in the man page of `rdtrain verify`. */
void rdt_schedule_print(FILE *to, const struct rdt_schedule *s);
/* One step in the same words, cut short where it does not fit; size >= 1. */
void rdt_step_format(char *out, size_t size, const struct rdt_schedule *s,
		     const struct rdt_step *step);

#endif
