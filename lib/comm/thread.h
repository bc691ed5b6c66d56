/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The progress thread (RDTRAIN_PROGRESS=thread): moves what is in flight on while the caller
 * computes. Every public function that touches a communicator's operations goes between rdt_enter
 * and rdt_leave, which cost nothing where there is no thread. They nest.
 */
#ifndef RDT_COMM_THREAD_H
#define RDT_COMM_THREAD_H

#include "comm.h"

/* Starts it where the configuration asks for it. Errors: SYSTEM, NOMEM. */
int rdt_thread_start(rdt_comm *comm);
/* Ends it; operations in flight are the caller's again. */
void rdt_thread_stop(rdt_comm *comm);

void rdt_thread_lock(rdt_comm *comm);
void rdt_thread_unlock(rdt_comm *comm);

static inline void rdt_enter(rdt_comm *comm)
{
	if (comm->thread)
		rdt_thread_lock(comm);
}

static inline void rdt_leave(rdt_comm *comm)
{
	if (comm->thread)
		rdt_thread_unlock(comm);
}

#endif
