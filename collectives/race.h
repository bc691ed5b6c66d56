/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Data races, by vector clocks. Private to the verifier (verify.c and its parts).
 *
 * A thread is one lane of one rank; its clock says how far it knows every thread to be. A PUT is
 * asynchronous: at some moment after the post it reads its source, later it writes its destination,
 * on a channel of its own for each (lane, destination) that delivers in order. Those moments need
 * no clock of their own, because there are only two ways to learn that they are past:
 *
 *  - the receiver has waited for the notification: source read and destination written;
 *  - the sender's operation is over, which includes local completion: the source is read (nothing
 *    is known about the destination). This holds for INPUT and OUTPUT only. The windows of one
 *    operation follow one another without it, so that scratch must do with notifications.
 *
 * So an access of a put is ordered before an event when the event knows either of the two.
 */
#ifndef RDT_RACE_H
#define RDT_RACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The caller's turn, in the place of a step's index. */
#define RDT_BEFORE_RUN (-1)
#define RDT_AFTER_RUN (-2)

/* A step that was executed once, or a turn of the caller; its number is its index in `events`. */
struct rdt_event {
	uint32_t tick; /* of its thread */
	int thread;
	int run, step;
	/* PUT only */
	int receiver;	 /* the thread that waits for it; -1: no PUT */
	uint32_t waited; /* the receiver's tick at the WAIT; 0: not yet */
	uint32_t next;	 /* the next unconsumed put of the same channel; 0: none */
	int depth;	 /* puts in the longest chain that ends with this one, in its run */
	size_t clock;	 /* index of its clock at the post */
};

struct rdt_race {
	int n_threads, lanes, runs;
	uint32_t *clocks; /* [thread][thread] */
	uint32_t *over;	  /* [rank][run]: tick of the rank's first lane when the run was over */
	struct rdt_event *events;
	size_t n_events, cap_events;
	uint32_t *posts; /* clocks at the posts: [put][thread] */
	size_t n_posts, cap_posts;
	struct rdt_shadow *shadow; /* [cell] */
	struct rdt_reader *readers;
	size_t n_readers, cap_readers;
	uint32_t free_reader;
	bool failed; /* out of memory; sticky */
};

/* Two accesses that nothing orders; other == 0: there is none. */
struct rdt_conflict {
	uint32_t other;
	bool other_wrote;
};

int rdt_race_init(struct rdt_race *r, int ranks, int lanes, int runs, size_t cells);
void rdt_race_free(struct rdt_race *r);

/* A new event on `thread`; `receiver` is the thread that a PUT notifies, else -1. 0 when memory ran
 * out. */
uint32_t rdt_race_event(struct rdt_race *r, int thread, int run, int step, int receiver);
/* The WAIT that is `event` has consumed `put`: its thread now knows what the poster knew. */
void rdt_race_consume(struct rdt_race *r, uint32_t event, uint32_t put);
/* All lanes of a rank meet (the run is over), then all know the same. */
void rdt_race_join(struct rdt_race *r, int rank);

/* What `event` does to a cell. `scratch`: the cell is in SCRATCH. */
struct rdt_conflict rdt_race_read(struct rdt_race *r, uint32_t event, size_t cell);
struct rdt_conflict rdt_race_write(struct rdt_race *r, uint32_t event, size_t cell, bool scratch);

/* How far the rank of `thread` knows `other` to be. */
static inline uint32_t rdt_race_knows(const struct rdt_race *r, int thread, int other)
{
	return r->clocks[(size_t)thread * (size_t)r->n_threads + (size_t)other];
}

/* The most notifications that can have arrived at a rank and not been waited for, when the others
 * run as far ahead as causality lets them. Exact for one lane, a bound for several. After all runs.
 */
uint32_t rdt_race_most_pending(const struct rdt_race *r);

#endif
