/* SPDX-License-Identifier: BSD-3-Clause */
/* Calls as the user made them: are they right, what are they in words. Looks at arguments only. */
#include "comm.h"

#include <inttypes.h>

#include "shape.h"

static bool has_blocks(const struct rdt_call *call)
{
	return rdt_collective_blocks(call->collective);
}

/* FNV-1a over the counts. */
uint32_t rdt_call_hash(const rdt_comm *comm, const struct rdt_call *call)
{
	uint32_t hash = 2166136261u;

	if (!call->counts || call->collective == RDT_COLL_ALLTOALL)
		return call->counts != NULL;
	for (int i = 0; i < comm->size; i++)
		for (int byte = 0; byte < 8; byte++) {
			hash ^= (uint32_t)((uint64_t)call->counts[i] >> 8 * byte) & 255u;
			hash *= 16777619u;
		}
	return hash ? hash : 1;
}

bool rdt_call_is_empty(const rdt_comm *comm, const struct rdt_call *call)
{
	if (call->collective == RDT_COLL_BARRIER)
		return false;
	if (!call->counts)
		return call->count == 0;
	/* In an all-to-all nobody knows the counts of the others. */
	for (int i = 0; i < comm->size; i++)
		if (call->counts[i] || call->collective == RDT_COLL_ALLTOALL)
			return false;
	return true;
}

void rdt_call_describe(const struct rdt_call *call, char *text, size_t size)
{
	const char *name = rdt_collective_name(call->collective);
	char count[48], rest[64] = "";

	if (call->counts)
		snprintf(count, sizeof(count), "blocks by counts of");
	else
		snprintf(count, sizeof(count), "%zu", call->count);
	switch (call->collective) {
	case RDT_COLL_BARRIER: snprintf(text, size, "barrier"); return;
	case RDT_COLL_SEND:
		snprintf(text, size, "send of %zu %s from rank %d to rank %d", call->count,
			 rdt_type_name(call->type), call->root, call->peer);
		return;
	case RDT_COLL_REDUCE:
		snprintf(rest, sizeof(rest), ", %s, to rank %d", rdt_op_name(call->op), call->root);
		break;
	case RDT_COLL_ALLREDUCE:
	case RDT_COLL_REDUCE_SCATTER:
		snprintf(rest, sizeof(rest), ", %s", rdt_op_name(call->op));
		break;
	case RDT_COLL_GATHER: snprintf(rest, sizeof(rest), " to rank %d", call->root); break;
	case RDT_COLL_BROADCAST:
	case RDT_COLL_SCATTER: snprintf(rest, sizeof(rest), " from rank %d", call->root); break;
	default: break;
	}
	snprintf(text, size, "%s of %s %s%s%s", name ? name : "unknown collective", count,
		 rdt_type_name(call->type), has_blocks(call) && !call->counts ? " a rank" : "",
		 rest);
}

/* ---- checking -------------------------------------------------------------------------------- */

static bool overlap(const char *a, uint64_t a_bytes, const char *b, uint64_t b_bytes)
{
	return a && b && a < b + b_bytes && b < a + a_bytes;
}

/* Where INPUT lies within OUTPUT, or OUTPUT within INPUT, when the caller works in place. */
static bool is_in_place(const rdt_comm *comm, const struct rdt_call *call)
{
	const char *in = call->in, *out = call->out;
	uint64_t before = 0;

	for (int i = 0; i < comm->rank && has_blocks(call); i++)
		before += call->counts ? call->counts[i] : call->count;
	before *= rdt_type_size(call->type);
	switch (call->collective) {
	case RDT_COLL_REDUCE_SCATTER:
	case RDT_COLL_SCATTER: return out == in + before;
	case RDT_COLL_ALLGATHER:
	case RDT_COLL_GATHER: return in == out + before;
	case RDT_COLL_ALLTOALL: {
		bool equal = in == out;

		for (int i = 0; i < comm->size && equal && call->counts; i++)
			equal = call->counts[i] == call->out_counts[i];
		return equal;
	}
	default: return in == out;
	}
}

/* The function that was called, without its rdt_. */
static const char *name_of(const rdt_comm *comm, const struct rdt_call *call)
{
	static const char *const by_counts[RDT_COLL_COUNT] = {
		[RDT_COLL_REDUCE_SCATTER] = "reduce_scatterv",
		[RDT_COLL_ALLGATHER] = "allgatherv",
		[RDT_COLL_GATHER] = "gatherv",
		[RDT_COLL_SCATTER] = "scatterv",
		[RDT_COLL_ALLTOALL] = "alltoallv",
	};

	if (call->collective == RDT_COLL_SEND)
		return comm && call->root == comm->rank ? "send" : "recv";
	return call->by_counts ? by_counts[call->collective]
			       : rdt_collective_name(call->collective);
}

static int check_buffers(const rdt_comm *comm, const struct rdt_call *call, const char *name)
{
	uint64_t in = rdt_call_bytes(comm, call, RDT_INPUT);
	uint64_t out = rdt_call_bytes(comm, call, RDT_OUTPUT);

	if ((in && !call->in) || (out && !call->out))
		return rdt_err(RDT_ERR_INVALID, "rdt_%s: %s is NULL", name,
			       call->collective == RDT_COLL_BROADCAST ? "buf"
			       : in && !call->in		      ? "in"
								      : "out");
	if (in && out && overlap(call->in, in, call->out, out) && !is_in_place(comm, call))
		return rdt_err(RDT_ERR_INVALID,
			       "rdt_%s: in and out overlap, but not as in place is meant: pass "
			       "equal pointers (%s), or separate buffers",
			       name,
			       call->collective == RDT_COLL_ALLTOALL
				       ? "and counts that are equal both ways"
			       : has_blocks(call) ? "or, of the smaller buffer, that to this "
						    "rank's block in the larger one"
						  : "both to the same vector");
	return 0;
}

/* Counts that no memory holds would overflow the sums. */
static int check_counts(const rdt_comm *comm, const struct rdt_call *call, const char *name)
{
	size_t elem = rdt_type_size(call->type), most = (size_t)PTRDIFF_MAX / elem;
	const size_t *arrays[] = { call->counts, call->out_counts };
	uint64_t ranks = has_blocks(call) ? (uint64_t)comm->size : 1;

	if (!call->counts && call->count > most / ranks)
		return rdt_err(RDT_ERR_INVALID,
			       "rdt_%s: %zu elements of %zu bytes%s are more than memory holds",
			       name, call->count, elem, ranks > 1 ? " for each rank" : "");
	for (int k = 0; k < 2; k++) {
		size_t left = most;

		for (int i = 0; i < comm->size && arrays[k]; i++) {
			if (arrays[k][i] > left)
				return rdt_err(RDT_ERR_INVALID,
					       "rdt_%s: counts[%d] is %zu: with those before it "
					       "more than memory holds",
					       name, i, arrays[k][i]);
			left -= arrays[k][i];
		}
	}
	return 0;
}

static int check_rank(const rdt_comm *comm, const char *name, const char *what, int rank)
{
	if (rank >= 0 && rank < comm->size)
		return 0;
	return rdt_err(RDT_ERR_INVALID, "rdt_%s: %s %d is not a rank of 0..%d", name, what, rank,
		       comm->size - 1);
}

int rdt_call_check(rdt_comm *comm, const struct rdt_call *call)
{
	const char *name = name_of(comm, call);
	int status = 0;

	if (!comm)
		return rdt_err(RDT_ERR_INVALID, "rdt_%s: no communicator", name);
	if (call->collective == RDT_COLL_BARRIER)
		return 0;
	if (rdt_type_size(call->type) == 0)
		return rdt_err(RDT_ERR_INVALID, "rdt_%s: %d is no enum rdt_type", name,
			       (int)call->type);
	if (rdt_collective_reduces(call->collective) && !rdt_op_name(call->op))
		return rdt_err(RDT_ERR_INVALID, "rdt_%s: %d is no enum rdt_op", name,
			       (int)call->op);
	if (rdt_collective_rooted(call->collective))
		status = check_rank(comm, name, "root", call->root);
	if (!status && call->collective == RDT_COLL_SEND) {
		bool sends = call->root == comm->rank;

		status = check_rank(comm, name, "peer", sends ? call->peer : call->root);
		if (!status && call->peer == call->root)
			status = rdt_err(RDT_ERR_INVALID,
					 "rdt_%s: peer %d is this rank itself; copy instead", name,
					 call->peer);
	}
	if (!status && call->by_counts &&
	    (!call->counts || (call->collective == RDT_COLL_ALLTOALL && !call->out_counts)))
		status = rdt_err(RDT_ERR_INVALID, "rdt_%s: %s is NULL", name,
				 call->counts				 ? "out_counts"
				 : call->collective == RDT_COLL_ALLTOALL ? "in_counts"
									 : "counts");
	if (!status)
		status = check_counts(comm, call, name);
	return status ? status : check_buffers(comm, call, name);
}
