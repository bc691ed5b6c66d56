/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Operations in flight. A request comes from the communicator's fixed pool and waits in the queue
 * of the plan that will run it: operations of the same shape share a plan and run one after
 * another, others run side by side.
 */
#include "comm.h"

#include "lib/base/clock.h"

void rdt_requests_init(rdt_comm *comm)
{
	for (int i = RDT_REQUESTS - 1; i >= 0; i--) {
		comm->requests[i].comm = comm;
		comm->requests[i].next = comm->free_requests;
		comm->free_requests = &comm->requests[i];
	}
}

static struct rdt_request *take(rdt_comm *comm)
{
	struct rdt_request *request = comm->free_requests;

	if (!request)
		return NULL;
	comm->free_requests = request->next;
	*request = (struct rdt_request){ .comm = comm };
	return request;
}

static void give_back(struct rdt_request *request)
{
	request->next = request->comm->free_requests;
	request->comm->free_requests = request;
}

/* Runs the first request of the queue. */
static void begin(rdt_plan *plan)
{
	rdt_bind_buffers(plan, &plan->queue->call);
	rdt_plan_activate(plan);
}

void rdt_request_finished(rdt_plan *plan)
{
	struct rdt_request *request = plan->queue;

	request->over = true;
	plan->queue = request->next;
	if (!plan->queue)
		plan->queue_tail = &plan->queue;
	else
		begin(plan);
}

int rdt_request_start(rdt_comm *comm, const struct rdt_call *call, struct rdt_request **out)
{
	struct rdt_request *request;
	rdt_plan *plan;
	int status;

	status = rdt_call_check(comm, call);
	if (status)
		return status;
	if (comm->failed)
		return rdt_fail_again(comm);
	request = take(comm);
	if (!request)
		return rdt_err(RDT_ERR_INVALID,
			       "%d operations are in flight on this communicator already; complete "
			       "some with "
			       "rdt_wait or rdt_test first",
			       RDT_REQUESTS);
	request->call = *call;
	if (call->count == 0 && call->collective != RDT_COLL_BARRIER) {
		request->over = true;
		*out = request;
		return 0;
	}
	status = rdt_onecall_plan(comm, call, &plan);
	if (status) {
		give_back(request);
		return status;
	}
	request->plan = plan;
	*plan->queue_tail = request;
	plan->queue_tail = &request->next;
	if (plan->queue == request) {
		begin(plan);
		/* The first puts leave now, not when the caller comes back. A failure waits for
		 * rdt_wait. */
		rdt_progress(comm);
	}
	*out = request;
	return 0;
}

/* Over: what was it? */
static int outcome(struct rdt_request *request)
{
	rdt_comm *comm = request->comm;
	int status = request->outcome;

	give_back(request);
	return status ? rdt_fail_again(comm) : 0;
}

static bool is_over(rdt_comm *comm, void *what)
{
	(void)comm;
	return ((struct rdt_request *)what)->over;
}

int rdt_wait(struct rdt_request *request)
{
	rdt_comm *comm;

	if (!request)
		return rdt_err(RDT_ERR_INVALID, "rdt_wait: no request");
	comm = request->comm;
	if (!request->over) {
		int status = rdt_progress_until(comm, is_over, request,
						rdt_deadline(comm->config.timeout_s), NULL);

		if (status)
			request->outcome = status;
	}
	return outcome(request);
}

int rdt_test(struct rdt_request *request, int *done)
{
	if (!request || !done)
		return rdt_err(RDT_ERR_INVALID, "rdt_test: %s is NULL",
			       request ? "done" : "request");
	if (!request->over)
		rdt_plan_poll(request->plan); /* a failure ends all requests, this one too */
	*done = request->over;
	return request->over ? outcome(request) : 0;
}
