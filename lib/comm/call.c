/* SPDX-License-Identifier: BSD-3-Clause */
/* The public collectives, three forms each: what the user said becomes a struct rdt_call. */
#include "comm.h"

static struct rdt_call allreduce(const void *in, void *out, size_t count, enum rdt_type type,
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

static struct rdt_call broadcast(void *buf, size_t count, enum rdt_type type, int root)
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

static struct rdt_call barrier(void)
{
	return (struct rdt_call){ .collective = RDT_COLL_BARRIER };
}

static int run(rdt_comm *comm, const struct rdt_call *call)
{
	struct rdt_request *request;
	int status = rdt_request_start(comm, call, &request);

	return status ? status : rdt_wait(request);
}

static int start(rdt_comm *comm, const struct rdt_call *call, rdt_request **request)
{
	if (!request)
		return rdt_err(RDT_ERR_INVALID, "rdt_%s_start: request is NULL",
			       rdt_collective_name(call->collective));
	return rdt_request_start(comm, call, request);
}

static int plan(rdt_comm *comm, const struct rdt_call *call, rdt_plan **out)
{
	int status;

	if (!out)
		return rdt_err(RDT_ERR_INVALID, "rdt_%s_plan: plan is NULL",
			       rdt_collective_name(call->collective));
	status = rdt_call_check(comm, call);
	return status ? status : rdt_plan_make(comm, call, true, out);
}

int rdt_allreduce(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		  enum rdt_op op)
{
	struct rdt_call call = allreduce(in, out, count, type, op);

	return run(comm, &call);
}

int rdt_allreduce_start(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
			enum rdt_op op, rdt_request **request)
{
	struct rdt_call call = allreduce(in, out, count, type, op);

	return start(comm, &call, request);
}

int rdt_allreduce_plan(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		       enum rdt_op op, rdt_plan **out_plan)
{
	struct rdt_call call = allreduce(in, out, count, type, op);

	return plan(comm, &call, out_plan);
}

int rdt_broadcast(rdt_comm *comm, void *buf, size_t count, enum rdt_type type, int root)
{
	struct rdt_call call = broadcast(buf, count, type, root);

	return run(comm, &call);
}

int rdt_broadcast_start(rdt_comm *comm, void *buf, size_t count, enum rdt_type type, int root,
			rdt_request **request)
{
	struct rdt_call call = broadcast(buf, count, type, root);

	return start(comm, &call, request);
}

int rdt_broadcast_plan(rdt_comm *comm, void *buf, size_t count, enum rdt_type type, int root,
		       rdt_plan **out_plan)
{
	struct rdt_call call = broadcast(buf, count, type, root);

	return plan(comm, &call, out_plan);
}

int rdt_barrier(rdt_comm *comm)
{
	struct rdt_call call = barrier();

	return run(comm, &call);
}

int rdt_barrier_start(rdt_comm *comm, rdt_request **request)
{
	struct rdt_call call = barrier();

	return start(comm, &call, request);
}

int rdt_barrier_plan(rdt_comm *comm, rdt_plan **out_plan)
{
	struct rdt_call call = barrier();

	return plan(comm, &call, out_plan);
}
