/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of one-sided access (rdtrain/window.h). Private to the files window*.c:
 *
 *	window.c	create, exchange what peers need, destroy
 *	window_access.c	put, get and atomics
 *	window_flush.c	until all that was called for is done
 *	window_wait.c	moving on, waiting, and who is lost
 *
 * A window is a communicator of its own, with its own connections, of which only the transport and
 * the watch at the rendezvous are used once it is made: nothing of lib/comm's failure state, so
 * that a lost rank is lost to those who call on it and to nobody else.
 *
 * Answers (reads into memory that is not the window's own, and what atomics return) land in slots
 * of registered memory, a ring that is taken and given back in order.
 */
#ifndef RDT_COMM_WINDOW_PARTS_H
#define RDT_COMM_WINDOW_PARTS_H

#include <rdtrain/window.h>

#include "comm.h"

#define RDT_WINDOW_SLOTS 64u
#define RDT_WINDOW_SLOT_BYTES 65536u
#define RDT_WINDOW_WHY 512

/* An answer under way. */
struct rdt_landing {
	void *to;
	size_t length;
	int rank;
	uint64_t number; /* the endpoint's count of completed puts when it is there */
};

struct rdt_target {
	uint64_t bytes;
	struct rdt_remote *remote;
	struct rdt_ep *ep; /* NULL: own memory, reached by the processor */
	int landings;	   /* under way */
	bool touched;	   /* since the last flush */
	bool told;	   /* the transport has been told to complete what was called for */
	int lost;	   /* enum rdt_status; 0: it is there */
	char why[RDT_WINDOW_WHY];
};

struct rdt_window {
	rdt_comm *comm;
	const struct rdt_transport_ops *ops; /* NULL in a world of one */
	struct rdt_transport *transport;
	struct rdt_block block; /* of the library's memory; base NULL: the caller's, or none */
	char *base;
	size_t bytes;
	struct rdt_region *own, *slots_region;
	struct rdt_block slots;
	struct rdt_landing landing[RDT_WINDOW_SLOTS];
	uint64_t landings, landed;  /* begun and over, since the beginning */
	struct rdt_target *targets; /* by rank */
	int failed;		    /* the transport as a whole */
	char why[RDT_WINDOW_WHY];
};

struct rdt_access; /* one work request's worth; window_access.c */

/* What a call waits for. */
struct rdt_window_wait {
	bool (*done)(rdt_window *w, struct rdt_window_wait *wait);
	int rank;	 /* waited for, for the message */
	uint64_t number; /* of a landing; flush: a rank, or UINT64_MAX */
	struct rdt_access *access;
	int status; /* of the access */
};

static inline char *rdt_window_slot(const rdt_window *w, uint64_t number)
{
	return (char *)w->slots.base + number % RDT_WINDOW_SLOTS * RDT_WINDOW_SLOT_BYTES;
}

/* window_wait.c */
/* `rank` is lost or, where there is no such rank, the whole transport. The first word counts. */
void rdt_window_lose(rdt_window *w, int rank, int status, const char *why);
/* Takes what the transport has to tell. */
void rdt_window_failures(rdt_window *w);
/* Why this rank cannot be reached, or 0. */
int rdt_window_gone(const rdt_window *w, int rank);
/* Waits until wait->done(), or for the deadline of the communicator: TIMEOUT. */
int rdt_window_wait(rdt_window *w, struct rdt_window_wait *wait, const char *doing);
/* Answers since landing `first` from `rank`, should they come yet, go nowhere: the caller's memory
 * may be gone. */
void rdt_window_forget(rdt_window *w, int rank, uint64_t first);

#endif
