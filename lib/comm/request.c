/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Operations in flight. A request comes from the communicator's fixed pool and waits in the queue
 * of the plan that will run it: operations of the same shape share a plan and run one after
 * another, others run side by side.
 */
#include "comm.h"

#include <stdlib.h>

#include "lib/base/clock.h"
#include "lib/engine/board.h"

#include "journal.h"
#include "prologue.h"
#include "shape.h"
#include "thread.h"
#include "trace.h"
#include "transfer.h"

void rdt_requests_init(rdt_comm *comm)
{
	for (int i = 2 * RDT_REQUESTS - 1; i >= 0; i--) {
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

void rdt_request_free(struct rdt_request *request)
{
	free(request->memory);
	request->memory = NULL;
	if (!request->whole)
		request->comm->in_flight--;
	request->next = request->comm->free_requests;
	request->comm->free_requests = request;
}

int rdt_request_new(rdt_comm *comm, const struct rdt_call *call, struct rdt_request *whole,
		    struct rdt_request **out)
{
	struct rdt_request *request = whole || comm->in_flight < RDT_REQUESTS ? take(comm) : NULL;

	if (!request)
		return rdt_err(RDT_ERR_INVALID,
			       "%d operations are in flight on this communicator already; complete "
			       "some with "
			       "rdt_wait or rdt_test first",
			       RDT_REQUESTS);
	request->call = *call;
	request->whole = whole;
	comm->in_flight += !whole;
	*out = request;
	return 0;
}

/* Makes the plan's schedules anew for the call that runs next: it is of other lengths, or in place
 * where the last one was not. That is this rank's own affair, its peers do what they did. */
static int adapt(rdt_plan *plan, const struct rdt_call *call)
{
	const struct rdt_agreed agreed = { 0 };
	struct rdt_shaper shaper;
	int status = rdt_shaper_open(&shaper, plan->comm, call, &agreed);

	if (status)
		return status;
	status = rdt_bind_again(plan, plan->algorithm, &shaper);
	rdt_shaper_close(&shaper);
	plan->call.in = call->in;
	plan->call.out = call->out;
	return status;
}

/* Runs the first request of the queue. */
static void begin(rdt_plan *plan)
{
	const struct rdt_request *request = plan->queue;

	if (plan->wire) {
		rdt_transfer_begin(plan); /* a failure ends the request */
		return;
	}
	if (plan->varying || rdt_call_is_exchange_in_place(&plan->call) !=
				     rdt_call_is_exchange_in_place(&request->call)) {
		int status = adapt(plan, &request->call);

		if (status) {
			rdt_fail(plan->comm, status, -1, "%s", rdt_last_error());
			return;
		}
	}
	plan->sequence = request->sequence;
	rdt_bind_buffers(plan, &request->call);
	if (plan->prologue)
		rdt_prologue_begin(plan, &request->call);
	else
		rdt_plan_activate(plan);
}

void rdt_request_queue(struct rdt_request *request, rdt_plan *plan)
{
	request->plan = plan;
	request->next = NULL;
	*plan->queue_tail = request;
	plan->queue_tail = &request->next;
	if (plan->queue == request)
		begin(plan);
}

void rdt_request_finished(rdt_plan *plan)
{
	struct rdt_request *request = plan->queue;

	if (plan->wire && rdt_transfer_check(plan))
		return; /* it was another message: the failure has ended everything */
	request->over = true;
	rdt_trace_operation(plan->comm, &request->call, plan->algorithm, request->from);
	plan->queue = request->next;
	if (!plan->queue)
		plan->queue_tail = &plan->queue;
	else
		begin(plan);
	if (request->then) {
		request->then(request);
		rdt_request_free(request);
	}
}

static int start(struct rdt_request *request)
{
	rdt_comm *comm = request->comm;
	const struct rdt_call *call = &request->call;
	rdt_plan *plan;
	int status;

	if (call->collective == RDT_COLL_SEND)
		return rdt_transfer_start(request);
	request->sequence = rdt_journal_note(comm, call, RDT_FORM_CALL, 0);
	if (rdt_call_is_empty(comm, call)) {
		request->over = true;
		return 0;
	}
	status = rdt_onecall_plan(comm, call, &plan);
	if (status)
		return status;
	if (plan->varying)
		return rdt_lengths_exchange(request, plan);
	/* The caller's array is his again when this returns; the plan has a copy. */
	request->call.counts = plan->call.counts;
	request->call.out_counts = plan->call.out_counts;
	rdt_request_queue(request, plan);
	return 0;
}

int rdt_request_start(rdt_comm *comm, const struct rdt_call *call, struct rdt_request **out)
{
	struct rdt_request *request = NULL;
	int status;

	if (comm->failed)
		return rdt_fail_again(comm);
	status = rdt_request_new(comm, call, NULL, &request);
	if (status)
		return status;
	request->from = rdt_trace_start(comm);
	status = start(request);
	if (status) {
		/* A failure of the communicator has ended the request, queued or not. */
		rdt_request_free(request);
		return comm->failed ? rdt_fail_again(comm) : status;
	}
	/* The first puts leave now, not when the caller comes back. A failure waits for rdt_wait.
	 */
	if (!request->over)
		rdt_progress(comm);
	*out = request;
	return 0;
}

/* ---- blocking -------------------------------------------------------------------------------- */

/* How often to look for the others of a small operation before anything else is done. */
#define LOOKS 400
#define LOOKS_CROWDED 50

/* Small operations mostly end within a microsecond. */
static bool ends_at_once(rdt_plan *plan)
{
	bool crowded = plan->comm->policy.crowded;

	for (int i = 0; i < (crowded ? LOOKS_CROWDED : LOOKS); i++) {
		if (rdt_board_advance(&plan->program))
			return true;
		if (crowded)
			rdt_wait_yield();
		else
			rdt_wait_relax();
	}
	return false;
}

static bool apart(const char *a, const char *b, uint64_t bytes)
{
	return a == b || a + bytes <= b || b + bytes <= a;
}

rdt_plan *rdt_request_again(rdt_comm *comm, const struct rdt_call *call)
{
	rdt_plan *plan = NULL;

	if (call->collective == RDT_COLL_ALLREDUCE && !comm->failed)
		plan = rdt_onecall_find(comm, call);
	if (!plan || !plan->program.board || plan->prologue || plan->queue ||
	    comm->in_flight >= RDT_REQUESTS || !call->in || !call->out ||
	    !apart(call->in, call->out, call->count * plan->program.elem_size))
		return NULL;
	return plan;
}

/* Without a request, unless it takes its time. */
int rdt_request_board(rdt_plan *plan, const struct rdt_call *call)
{
	rdt_comm *comm = plan->comm;
	struct rdt_request *request = NULL;
	int64_t from = rdt_trace_start(comm);
	int status;

	plan->last_use = ++comm->call_sequence;
	plan->sequence = rdt_journal_note(comm, call, RDT_FORM_CALL, 0);
	plan->program.local[RDT_INPUT].base = (char *)call->in;
	plan->program.local[RDT_OUTPUT].base = call->out;
	rdt_board_start(&plan->program);
	plan->started = true;
	if (ends_at_once(plan)) {
		rdt_trace_operation(comm, call, plan->algorithm, from);
		return 0;
	}
	status = rdt_request_new(comm, call, NULL, &request);
	if (status) /* there is one: rdt_request_again has looked */
		return status;
	request->sequence = plan->sequence;
	request->from = from;
	request->plan = plan;
	plan->queue = request;
	plan->queue_tail = &request->next;
	rdt_plan_link(plan);
	return rdt_wait(request);
}

int rdt_request_run(rdt_comm *comm, const struct rdt_call *call)
{
	struct rdt_request *request = NULL;
	rdt_plan *again = rdt_request_again(comm, call);
	int status;

	if (again)
		return rdt_request_board(again, call);
	status = rdt_request_start(comm, call, &request);
	return status ? status : rdt_wait(request);
}

/* Over: what was it? */
static int outcome(struct rdt_request *request)
{
	rdt_comm *comm = request->comm;
	int status = request->outcome;

	rdt_request_free(request);
	return status ? rdt_fail_again(comm) : 0;
}

static bool is_over(rdt_comm *comm, void *what)
{
	(void)comm;
	return ((struct rdt_request *)what)->over;
}

static int wait_for(struct rdt_request *request, const double *seconds)
{
	rdt_comm *comm;
	int status;

	comm = request->comm;
	rdt_enter(comm);
	if (!request->over) {
		status = rdt_progress_wait(comm, is_over, request,
					   seconds ? *seconds : comm->config.timeout_s);
		/* An operation that was complete when the communicator failed did not fail. */
		if (status && !request->over)
			request->outcome = status;
	}
	status = outcome(request);
	rdt_leave(comm);
	return status;
}

int rdt_wait(struct rdt_request *request)
{
	return request ? wait_for(request, NULL) : rdt_err(RDT_ERR_INVALID, "rdt_wait: no request");
}

int rdt_wait_within(struct rdt_request *request, double seconds)
{
	if (!request || !rdt_seconds_ok(seconds))
		return rdt_err(RDT_ERR_INVALID, "rdt_wait_within: %s",
			       request ? RDT_SECONDS_RULE : "no request");
	return wait_for(request, &seconds);
}

static void poll_once(struct rdt_request *request)
{
	rdt_comm *comm = request->comm;
	int n = rdt_progress_test(comm);

	rdt_poll_clock(comm, n > 0, &request->polled, &request->deadline);
	if (n == 0 && !request->over && request->polled > request->deadline)
		rdt_progress_timeout(comm, NULL, comm->config.timeout_s);
}

int rdt_test(struct rdt_request *request, int *done)
{
	rdt_comm *comm;
	int status = 0;

	if (!request || !done)
		return rdt_err(RDT_ERR_INVALID, "rdt_test: %s is NULL",
			       request ? "done" : "request");
	comm = request->comm;
	rdt_enter(comm);
	if (!request->over)
		poll_once(request); /* a failure ends all requests, this one too */
	*done = request->over;
	if (request->over)
		status = outcome(request);
	rdt_leave(comm);
	return status;
}
