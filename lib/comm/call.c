/* SPDX-License-Identifier: BSD-3-Clause */
/* The public collectives, three forms each: what the user said becomes a struct rdt_call. */
#include "comm.h"

#include "thread.h"

static int run(rdt_comm *comm, const struct rdt_call *call)
{
	rdt_plan *again = comm && !comm->thread ? rdt_request_again(comm, call) : NULL;
	int status;

	if (again)
		return rdt_request_board(again, call);
	status = rdt_call_check(comm, call);
	if (status)
		return status;
	rdt_enter(comm);
	status = rdt_request_run(comm, call);
	rdt_leave(comm);
	return status;
}

static int start(rdt_comm *comm, const struct rdt_call *call, rdt_request **request)
{
	int status;

	if (!request)
		return rdt_err(RDT_ERR_INVALID, "rdt_%s_start: request is NULL",
			       rdt_collective_name(call->collective));
	*request = NULL;
	status = rdt_call_check(comm, call);
	if (status)
		return status;
	rdt_enter(comm);
	status = rdt_request_start(comm, call, request);
	rdt_leave(comm);
	return status;
}

static int plan(rdt_comm *comm, const struct rdt_call *call, rdt_plan **out)
{
	int status;

	if (!out)
		return rdt_err(RDT_ERR_INVALID, "rdt_%s_plan: plan is NULL",
			       rdt_collective_name(call->collective));
	*out = NULL;
	status = rdt_call_check(comm, call);
	if (status)
		return status;
	rdt_enter(comm);
	status = rdt_plan_make(comm, call, true, out);
	rdt_leave(comm);
	return status;
}

/* ---- allreduce ------------------------------------------------------------------------------- */

static struct rdt_call allreduce_call(const void *in, void *out, size_t count, enum rdt_type type,
				      enum rdt_op op)
{
	return (struct rdt_call){
		.collective = RDT_COLL_ALLREDUCE,
		.in = in,
		.out = out,
		.count = count,
		.type = type,
		.op = op,
	};
}

int rdt_allreduce(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		  enum rdt_op op)
{
	struct rdt_call call = allreduce_call(in, out, count, type, op);

	return run(comm, &call);
}

int rdt_allreduce_start(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
			enum rdt_op op, rdt_request **request)
{
	struct rdt_call call = allreduce_call(in, out, count, type, op);

	return start(comm, &call, request);
}

int rdt_allreduce_plan(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		       enum rdt_op op, rdt_plan **out_plan)
{
	struct rdt_call call = allreduce_call(in, out, count, type, op);

	return plan(comm, &call, out_plan);
}

/* ---- reduce_scatter -------------------------------------------------------------------------- */

static struct rdt_call reduce_scatter_call(const void *in, void *out, size_t count,
					   enum rdt_type type, enum rdt_op op)
{
	return (struct rdt_call){
		.collective = RDT_COLL_REDUCE_SCATTER,
		.in = in,
		.out = out,
		.count = count,
		.type = type,
		.op = op,
	};
}

int rdt_reduce_scatter(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		       enum rdt_op op)
{
	struct rdt_call call = reduce_scatter_call(in, out, count, type, op);

	return run(comm, &call);
}

int rdt_reduce_scatter_start(rdt_comm *comm, const void *in, void *out, size_t count,
			     enum rdt_type type, enum rdt_op op, rdt_request **request)
{
	struct rdt_call call = reduce_scatter_call(in, out, count, type, op);

	return start(comm, &call, request);
}

int rdt_reduce_scatter_plan(rdt_comm *comm, const void *in, void *out, size_t count,
			    enum rdt_type type, enum rdt_op op, rdt_plan **out_plan)
{
	struct rdt_call call = reduce_scatter_call(in, out, count, type, op);

	return plan(comm, &call, out_plan);
}

/* ---- reduce_scatterv ------------------------------------------------------------------------- */

static struct rdt_call reduce_scatterv_call(const void *in, void *out, const size_t *counts,
					    enum rdt_type type, enum rdt_op op)
{
	return (struct rdt_call){
		.collective = RDT_COLL_REDUCE_SCATTER,
		.in = in,
		.out = out,
		.by_counts = true,
		.counts = counts,
		.type = type,
		.op = op,
	};
}

int rdt_reduce_scatterv(rdt_comm *comm, const void *in, void *out, const size_t *counts,
			enum rdt_type type, enum rdt_op op)
{
	struct rdt_call call = reduce_scatterv_call(in, out, counts, type, op);

	return run(comm, &call);
}

int rdt_reduce_scatterv_start(rdt_comm *comm, const void *in, void *out, const size_t *counts,
			      enum rdt_type type, enum rdt_op op, rdt_request **request)
{
	struct rdt_call call = reduce_scatterv_call(in, out, counts, type, op);

	return start(comm, &call, request);
}

int rdt_reduce_scatterv_plan(rdt_comm *comm, const void *in, void *out, const size_t *counts,
			     enum rdt_type type, enum rdt_op op, rdt_plan **out_plan)
{
	struct rdt_call call = reduce_scatterv_call(in, out, counts, type, op);

	return plan(comm, &call, out_plan);
}

/* ---- allgather ------------------------------------------------------------------------------- */

static struct rdt_call allgather_call(const void *in, void *out, size_t count, enum rdt_type type)
{
	return (struct rdt_call){
		.collective = RDT_COLL_ALLGATHER,
		.in = in,
		.out = out,
		.count = count,
		.type = type,
	};
}

int rdt_allgather(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type)
{
	struct rdt_call call = allgather_call(in, out, count, type);

	return run(comm, &call);
}

int rdt_allgather_start(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
			rdt_request **request)
{
	struct rdt_call call = allgather_call(in, out, count, type);

	return start(comm, &call, request);
}

int rdt_allgather_plan(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		       rdt_plan **out_plan)
{
	struct rdt_call call = allgather_call(in, out, count, type);

	return plan(comm, &call, out_plan);
}

/* ---- allgatherv ------------------------------------------------------------------------------ */

static struct rdt_call allgatherv_call(const void *in, void *out, const size_t *counts,
				       enum rdt_type type)
{
	return (struct rdt_call){
		.collective = RDT_COLL_ALLGATHER,
		.in = in,
		.out = out,
		.by_counts = true,
		.counts = counts,
		.type = type,
	};
}

int rdt_allgatherv(rdt_comm *comm, const void *in, void *out, const size_t *counts,
		   enum rdt_type type)
{
	struct rdt_call call = allgatherv_call(in, out, counts, type);

	return run(comm, &call);
}

int rdt_allgatherv_start(rdt_comm *comm, const void *in, void *out, const size_t *counts,
			 enum rdt_type type, rdt_request **request)
{
	struct rdt_call call = allgatherv_call(in, out, counts, type);

	return start(comm, &call, request);
}

int rdt_allgatherv_plan(rdt_comm *comm, const void *in, void *out, const size_t *counts,
			enum rdt_type type, rdt_plan **out_plan)
{
	struct rdt_call call = allgatherv_call(in, out, counts, type);

	return plan(comm, &call, out_plan);
}

/* ---- broadcast ------------------------------------------------------------------------------- */

static struct rdt_call broadcast_call(void *buf, size_t count, enum rdt_type type, int root)
{
	return (struct rdt_call){
		.collective = RDT_COLL_BROADCAST,
		.in = buf,
		.out = buf,
		.count = count,
		.type = type,
		.root = root,
	};
}

int rdt_broadcast(rdt_comm *comm, void *buf, size_t count, enum rdt_type type, int root)
{
	struct rdt_call call = broadcast_call(buf, count, type, root);

	return run(comm, &call);
}

int rdt_broadcast_start(rdt_comm *comm, void *buf, size_t count, enum rdt_type type, int root,
			rdt_request **request)
{
	struct rdt_call call = broadcast_call(buf, count, type, root);

	return start(comm, &call, request);
}

int rdt_broadcast_plan(rdt_comm *comm, void *buf, size_t count, enum rdt_type type, int root,
		       rdt_plan **out_plan)
{
	struct rdt_call call = broadcast_call(buf, count, type, root);

	return plan(comm, &call, out_plan);
}

/* ---- reduce ---------------------------------------------------------------------------------- */

static struct rdt_call reduce_call(const void *in, void *out, size_t count, enum rdt_type type,
				   enum rdt_op op, int root)
{
	return (struct rdt_call){
		.collective = RDT_COLL_REDUCE,
		.in = in,
		.out = out,
		.count = count,
		.type = type,
		.op = op,
		.root = root,
	};
}

int rdt_reduce(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
	       enum rdt_op op, int root)
{
	struct rdt_call call = reduce_call(in, out, count, type, op, root);

	return run(comm, &call);
}

int rdt_reduce_start(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		     enum rdt_op op, int root, rdt_request **request)
{
	struct rdt_call call = reduce_call(in, out, count, type, op, root);

	return start(comm, &call, request);
}

int rdt_reduce_plan(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		    enum rdt_op op, int root, rdt_plan **out_plan)
{
	struct rdt_call call = reduce_call(in, out, count, type, op, root);

	return plan(comm, &call, out_plan);
}

/* ---- gather ---------------------------------------------------------------------------------- */

static struct rdt_call gather_call(const void *in, void *out, size_t count, enum rdt_type type,
				   int root)
{
	return (struct rdt_call){
		.collective = RDT_COLL_GATHER,
		.in = in,
		.out = out,
		.count = count,
		.type = type,
		.root = root,
	};
}

int rdt_gather(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
	       int root)
{
	struct rdt_call call = gather_call(in, out, count, type, root);

	return run(comm, &call);
}

int rdt_gather_start(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		     int root, rdt_request **request)
{
	struct rdt_call call = gather_call(in, out, count, type, root);

	return start(comm, &call, request);
}

int rdt_gather_plan(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		    int root, rdt_plan **out_plan)
{
	struct rdt_call call = gather_call(in, out, count, type, root);

	return plan(comm, &call, out_plan);
}

/* ---- gatherv --------------------------------------------------------------------------------- */

static struct rdt_call gatherv_call(const void *in, void *out, const size_t *counts,
				    enum rdt_type type, int root)
{
	return (struct rdt_call){
		.collective = RDT_COLL_GATHER,
		.in = in,
		.out = out,
		.by_counts = true,
		.counts = counts,
		.type = type,
		.root = root,
	};
}

int rdt_gatherv(rdt_comm *comm, const void *in, void *out, const size_t *counts, enum rdt_type type,
		int root)
{
	struct rdt_call call = gatherv_call(in, out, counts, type, root);

	return run(comm, &call);
}

int rdt_gatherv_start(rdt_comm *comm, const void *in, void *out, const size_t *counts,
		      enum rdt_type type, int root, rdt_request **request)
{
	struct rdt_call call = gatherv_call(in, out, counts, type, root);

	return start(comm, &call, request);
}

int rdt_gatherv_plan(rdt_comm *comm, const void *in, void *out, const size_t *counts,
		     enum rdt_type type, int root, rdt_plan **out_plan)
{
	struct rdt_call call = gatherv_call(in, out, counts, type, root);

	return plan(comm, &call, out_plan);
}

/* ---- scatter --------------------------------------------------------------------------------- */

static struct rdt_call scatter_call(const void *in, void *out, size_t count, enum rdt_type type,
				    int root)
{
	return (struct rdt_call){
		.collective = RDT_COLL_SCATTER,
		.in = in,
		.out = out,
		.count = count,
		.type = type,
		.root = root,
	};
}

int rdt_scatter(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		int root)
{
	struct rdt_call call = scatter_call(in, out, count, type, root);

	return run(comm, &call);
}

int rdt_scatter_start(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		      int root, rdt_request **request)
{
	struct rdt_call call = scatter_call(in, out, count, type, root);

	return start(comm, &call, request);
}

int rdt_scatter_plan(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		     int root, rdt_plan **out_plan)
{
	struct rdt_call call = scatter_call(in, out, count, type, root);

	return plan(comm, &call, out_plan);
}

/* ---- scatterv -------------------------------------------------------------------------------- */

static struct rdt_call scatterv_call(const void *in, void *out, const size_t *counts,
				     enum rdt_type type, int root)
{
	return (struct rdt_call){
		.collective = RDT_COLL_SCATTER,
		.in = in,
		.out = out,
		.by_counts = true,
		.counts = counts,
		.type = type,
		.root = root,
	};
}

int rdt_scatterv(rdt_comm *comm, const void *in, void *out, const size_t *counts,
		 enum rdt_type type, int root)
{
	struct rdt_call call = scatterv_call(in, out, counts, type, root);

	return run(comm, &call);
}

int rdt_scatterv_start(rdt_comm *comm, const void *in, void *out, const size_t *counts,
		       enum rdt_type type, int root, rdt_request **request)
{
	struct rdt_call call = scatterv_call(in, out, counts, type, root);

	return start(comm, &call, request);
}

int rdt_scatterv_plan(rdt_comm *comm, const void *in, void *out, const size_t *counts,
		      enum rdt_type type, int root, rdt_plan **out_plan)
{
	struct rdt_call call = scatterv_call(in, out, counts, type, root);

	return plan(comm, &call, out_plan);
}

/* ---- alltoall -------------------------------------------------------------------------------- */

static struct rdt_call alltoall_call(const void *in, void *out, size_t count, enum rdt_type type)
{
	return (struct rdt_call){
		.collective = RDT_COLL_ALLTOALL,
		.in = in,
		.out = out,
		.count = count,
		.type = type,
	};
}

int rdt_alltoall(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type)
{
	struct rdt_call call = alltoall_call(in, out, count, type);

	return run(comm, &call);
}

int rdt_alltoall_start(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		       rdt_request **request)
{
	struct rdt_call call = alltoall_call(in, out, count, type);

	return start(comm, &call, request);
}

int rdt_alltoall_plan(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		      rdt_plan **out_plan)
{
	struct rdt_call call = alltoall_call(in, out, count, type);

	return plan(comm, &call, out_plan);
}

/* ---- alltoallv ------------------------------------------------------------------------------- */

static struct rdt_call alltoallv_call(const void *in, const size_t *counts, void *out,
				      const size_t *out_counts, enum rdt_type type)
{
	return (struct rdt_call){
		.collective = RDT_COLL_ALLTOALL,
		.in = in,
		.by_counts = true,
		.counts = counts,
		.out = out,
		.out_counts = out_counts,
		.type = type,
	};
}

int rdt_alltoallv(rdt_comm *comm, const void *in, const size_t *counts, void *out,
		  const size_t *out_counts, enum rdt_type type)
{
	struct rdt_call call = alltoallv_call(in, counts, out, out_counts, type);

	return run(comm, &call);
}

int rdt_alltoallv_start(rdt_comm *comm, const void *in, const size_t *counts, void *out,
			const size_t *out_counts, enum rdt_type type, rdt_request **request)
{
	struct rdt_call call = alltoallv_call(in, counts, out, out_counts, type);

	return start(comm, &call, request);
}

int rdt_alltoallv_plan(rdt_comm *comm, const void *in, const size_t *counts, void *out,
		       const size_t *out_counts, enum rdt_type type, rdt_plan **out_plan)
{
	struct rdt_call call = alltoallv_call(in, counts, out, out_counts, type);

	return plan(comm, &call, out_plan);
}

/* ---- barrier --------------------------------------------------------------------------------- */

static struct rdt_call barrier_call(void)
{
	return (struct rdt_call){
		.collective = RDT_COLL_BARRIER,
	};
}

int rdt_barrier(rdt_comm *comm)
{
	struct rdt_call call = barrier_call();

	return run(comm, &call);
}

int rdt_barrier_start(rdt_comm *comm, rdt_request **request)
{
	struct rdt_call call = barrier_call();

	return start(comm, &call, request);
}

int rdt_barrier_plan(rdt_comm *comm, rdt_plan **out_plan)
{
	struct rdt_call call = barrier_call();

	return plan(comm, &call, out_plan);
}

/* ---- send ------------------------------------------------------------------------------------ */

static struct rdt_call send_call(rdt_comm *comm, const void *in, size_t count, enum rdt_type type,
				 int peer)
{
	return (struct rdt_call){
		.collective = RDT_COLL_SEND,
		.in = in,
		.count = count,
		.type = type,
		.root = comm ? comm->rank : 0,
		.peer = peer,
	};
}

int rdt_send(rdt_comm *comm, const void *in, size_t count, enum rdt_type type, int peer)
{
	struct rdt_call call = send_call(comm, in, count, type, peer);

	return run(comm, &call);
}

int rdt_send_start(rdt_comm *comm, const void *in, size_t count, enum rdt_type type, int peer,
		   rdt_request **request)
{
	struct rdt_call call = send_call(comm, in, count, type, peer);

	return start(comm, &call, request);
}

int rdt_send_plan(rdt_comm *comm, const void *in, size_t count, enum rdt_type type, int peer,
		  rdt_plan **out_plan)
{
	struct rdt_call call = send_call(comm, in, count, type, peer);

	return plan(comm, &call, out_plan);
}

/* ---- recv ------------------------------------------------------------------------------------ */

static struct rdt_call recv_call(rdt_comm *comm, void *out, size_t count, enum rdt_type type,
				 int peer)
{
	return (struct rdt_call){
		.collective = RDT_COLL_SEND,
		.out = out,
		.count = count,
		.type = type,
		.root = peer,
		.peer = comm ? comm->rank : 0,
	};
}

int rdt_recv(rdt_comm *comm, void *out, size_t count, enum rdt_type type, int peer)
{
	struct rdt_call call = recv_call(comm, out, count, type, peer);

	return run(comm, &call);
}

int rdt_recv_start(rdt_comm *comm, void *out, size_t count, enum rdt_type type, int peer,
		   rdt_request **request)
{
	struct rdt_call call = recv_call(comm, out, count, type, peer);

	return start(comm, &call, request);
}

int rdt_recv_plan(rdt_comm *comm, void *out, size_t count, enum rdt_type type, int peer,
		  rdt_plan **out_plan)
{
	struct rdt_call call = recv_call(comm, out, count, type, peer);

	return plan(comm, &call, out_plan);
}
