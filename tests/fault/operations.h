/* SPDX-License-Identifier: BSD-3-Clause */
/* One operation of each kind, over buffers of bytes, for tests that break it at some step. */
#ifndef RDT_TEST_FAULT_OPERATIONS_H
#define RDT_TEST_FAULT_OPERATIONS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <rdtrain/rdtrain.h>

#include "tests/values.h"

enum kind {
	ALLREDUCE,
	REDUCE_SCATTER,
	ALLGATHER,
	BROADCAST,
	REDUCE,
	GATHER,
	SCATTER,
	ALLTOALL,
	ALLTOALLV,
	SEND_AROUND, /* everybody to the next */
	BARRIER,
	PLANNED, /* an allreduce */
	KINDS
};

struct operation {
	enum kind kind;
	size_t count;	   /* of the vector, or of a block */
	uint8_t *in, *out; /* [RANKS_MAX * count] each */
	rdt_plan *plan;	   /* PLANNED */
};

static const char *const kind_names[] = { "allreduce",	 "reduce_scatter", "allgather",
					  "broadcast",	 "reduce",	   "gather",
					  "scatter",	 "alltoall",	   "alltoallv",
					  "send around", "barrier",	   "planned allreduce" };

static inline size_t operation_bytes(const struct operation *o, int n)
{
	return o->count * (size_t)n;
}

/* What this rank contributes. */
static inline void operation_fill(struct operation *o, int rank, int n, int round)
{
	memset(o->out, 0xee, operation_bytes(o, n));
	test_fill(o->in, operation_bytes(o, n), RDT_UINT8, RDT_MAX, rank, round);
	if (o->kind == BROADCAST && rank == 0)
		test_fill(o->out, o->count, RDT_UINT8, RDT_MAX, 0, round);
}

static inline int send_around(const struct operation *o, rdt_comm *comm, int rank, int n)
{
	rdt_request *sent, *taken;
	int status = rdt_send_start(comm, o->in, o->count, RDT_UINT8, (rank + 1) % n, &sent), first;

	if (status)
		return status;
	first = rdt_recv_start(comm, o->out, o->count, RDT_UINT8, (rank + n - 1) % n, &taken);
	if (!first)
		first = rdt_wait(taken);
	status = rdt_wait(sent);
	return first ? first : status;
}

/* Block i goes to rank i, and is i bytes shorter than the longest. */
static inline int alltoallv(const struct operation *o, rdt_comm *comm, int rank, int n)
{
	size_t in[64], out[64];

	for (int i = 0; i < n; i++) {
		in[i] = o->count > (size_t)i ? o->count - (size_t)i : 0;
		out[i] = o->count > (size_t)rank ? o->count - (size_t)rank : 0;
	}
	return rdt_alltoallv(comm, o->in, in, o->out, out, RDT_UINT8);
}

static inline int operation_run(struct operation *o, rdt_comm *comm, int rank, int n)
{
	int status;

	switch (o->kind) {
	case ALLREDUCE: return rdt_allreduce(comm, o->in, o->out, o->count, RDT_UINT8, RDT_MAX);
	case REDUCE_SCATTER:
		return rdt_reduce_scatter(comm, o->in, o->out, o->count, RDT_UINT8, RDT_SUM);
	case ALLGATHER: return rdt_allgather(comm, o->in, o->out, o->count, RDT_UINT8);
	case BROADCAST: return rdt_broadcast(comm, o->out, o->count, RDT_UINT8, 0);
	case REDUCE: return rdt_reduce(comm, o->in, o->out, o->count, RDT_UINT8, RDT_SUM, 0);
	case GATHER: return rdt_gather(comm, o->in, o->out, o->count, RDT_UINT8, n - 1);
	case SCATTER: return rdt_scatter(comm, o->in, o->out, o->count, RDT_UINT8, n - 1);
	case ALLTOALL: return rdt_alltoall(comm, o->in, o->out, o->count, RDT_UINT8);
	case ALLTOALLV: return alltoallv(o, comm, rank, n);
	case SEND_AROUND: return send_around(o, comm, rank, n);
	case BARRIER: return rdt_barrier(comm);
	case PLANNED:
		status = o->plan ? 0
				 : rdt_allreduce_plan(comm, o->in, o->out, o->count, RDT_UINT8,
						      RDT_SUM, &o->plan);
		if (!status)
			status = rdt_plan_start(o->plan);
		return status ? status : rdt_plan_wait(o->plan);
	case KINDS: break;
	}
	return RDT_ERR_INVALID;
}

#endif
