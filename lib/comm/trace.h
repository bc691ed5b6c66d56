/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The timeline (RDTRAIN_TRACE): when each operation of a communicator began and ended, and the
 * spans that the caller names, written in the Trace Event Format that Perfetto and chrome://tracing
 * open. While the program runs an event is a few stores into a ring that was touched beforehand: no
 * allocation, no system call. The file is written when the communicator ends, with those that were
 * split from it.
 */
#ifndef RDT_COMM_TRACE_H
#define RDT_COMM_TRACE_H

#include "comm.h"

#include "lib/base/clock.h"

/* Opens the file of this rank. *trace is NULL when `pattern` is. Errors: INVALID (it cannot be
 * written), NOMEM. */
int rdt_trace_open(const char *pattern, int rank, int size, struct rdt_trace **trace);
/* `part` records into the same timeline as `comm`. */
void rdt_trace_share(rdt_comm *comm, rdt_comm *part);
/* The last communicator of a timeline writes it, unless this is a forked copy. NULL is allowed. */
void rdt_trace_close(struct rdt_trace *trace);

/* One operation that has ended now. */
void rdt_trace_record(rdt_comm *comm, const struct rdt_call *call,
		      const struct rdt_algorithm *algorithm, int64_t from);

/* When an operation begins: what to give to rdt_trace_operation. 0: there is no timeline. */
static inline int64_t rdt_trace_start(const rdt_comm *comm)
{
	return comm->trace ? rdt_now() : 0;
}

static inline void rdt_trace_operation(rdt_comm *comm, const struct rdt_call *call,
				       const struct rdt_algorithm *algorithm, int64_t from)
{
	if (from)
		rdt_trace_record(comm, call, algorithm, from);
}

#endif
