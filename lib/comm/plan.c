/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Plans: from a call to a program that all ranks agree on. Making one is collective:
 *
 *	1. a fence, whose signature is the call in words (unequal: RDT_ERR_MISMATCH, naming what two
 *ranks said) and whose flags say whether everybody's OUTPUT may be written by peers;
 *	2. every rank chooses the same algorithm from the same arguments, and emits its schedule;
 *	3. connections to the peers that occur in it;
 *	4. scratch, receives, and an exchange of exported memory with those peers.
 *
 * Slots (and with them notification channels) are handed out lowest first; since plans are made and
 * destroyed in the same order everywhere, they agree.
 */
#include "comm.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"

#include "journal.h"
#include "prologue.h"
#include "shape.h"
#include "thread.h"
#include "trace.h"
#include "transfer.h"

/* Do all ranks make the same plan? *flags: mine in, everybody's out. */
static int agree(rdt_comm *comm, const struct rdt_call *call, bool bound, uint64_t *flags,
		 int64_t deadline)
{
	char words[128], signature[RDT_SIGNATURE_MAX];
	struct rdt_fence fence;
	int status;

	if (!comm->boot)
		return 0;
	rdt_call_describe(call, words, sizeof(words));
	snprintf(signature, sizeof(signature), "%s%s", words, bound ? " (plan)" : "");
	if (call->counts)
		snprintf(signature + strlen(signature), sizeof(signature) - strlen(signature),
			 " #%08x", rdt_call_hash(comm, call));
	status = rdt_peers_fence(comm, signature, *flags, &fence, deadline);
	if (status)
		return status;
	if (!fence.equal)
		return rdt_fail(comm, RDT_ERR_MISMATCH, -1,
				"rank %d calls \"%s\", rank %d calls \"%s\": all ranks must make "
				"the same calls in the "
				"same order",
				fence.rank_a, fence.signature_a, fence.rank_b, fence.signature_b);
	*flags = fence.flags;
	return 0;
}

/* The lowest that is free; -1: none. */
static int free_slot(const rdt_comm *comm)
{
	for (int slot = 0; slot < RDT_SLOTS - RDT_WIRE_SLOTS; slot++)
		if (!comm->slot_used[slot])
			return slot;
	return -1;
}

static int connect_links(rdt_plan *plan, int64_t deadline)
{
	rdt_comm *comm = plan->comm;
	struct rdt_program *program = &plan->program;
	bool *peers = calloc((size_t)comm->size, sizeof(*peers));
	int status;

	if (!peers)
		return rdt_err(RDT_ERR_NOMEM, "out of memory");
	for (int i = 0; i < program->n_links; i++)
		peers[program->links[i].peer] = true;
	status = rdt_peers_connect(comm, peers, deadline);
	free(peers);
	return status;
}

/* Keeps the counts: the caller's array is his again when the call returns. */
static int copy_counts(rdt_plan *plan)
{
	size_t n = (size_t)plan->comm->size;
	struct rdt_call *call = &plan->call;

	if (!call->counts)
		return 0;
	plan->counts = calloc(2 * n, sizeof(*plan->counts));
	if (!plan->counts)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for the counts of %zu ranks", n);
	memcpy(plan->counts, call->counts, n * sizeof(*plan->counts));
	call->counts = plan->counts;
	if (call->out_counts) {
		memcpy(plan->counts + n, call->out_counts, n * sizeof(*plan->counts));
		call->out_counts = plan->counts + n;
	}
	return 0;
}

static void tell(const rdt_plan *plan, const struct rdt_agreed *agreed, const char *predicted)
{
	char words[128];

	rdt_call_describe(&plan->call, words, sizeof(words));
	rdt_info("%s%s: %s, %" PRIu64 " windows of %" PRIu64
		 " bytes, %d at a time, %zu bytes of scratch, %s%s",
		 words, plan->bound ? " (plan)" : "", plan->algorithm->name,
		 plan->program.n_windows, plan->program.window_bytes, plan->program.n_slots,
		 plan->scratch ? plan->scratch->bytes : 0,
		 agreed->mapped		 ? "buffers mapped"
		 : agreed->remote_output ? "straight into OUTPUT"
					 : "through scratch",
		 predicted);
}

/* *refused: no algorithm suits, which all ranks find alike, so nothing is wrong with the others. */
static int make(rdt_plan *plan, bool *refused)
{
	rdt_comm *comm = plan->comm;
	const struct rdt_call *call = &plan->call;
	int64_t deadline = rdt_deadline(comm->config.timeout_s);
	uint64_t flags = plan->base ? 0 : rdt_offer_flags(comm, call);
	struct rdt_agreed agreed = plan->agreed;
	struct rdt_shaper shaper;
	char predicted[512] = "";
	int status = copy_counts(plan);

	if (!status)
		status = agree(comm, call, plan->bound, &flags, deadline);
	if (status)
		return status;
	if (call->collective == RDT_COLL_ALLTOALL && call->counts) {
		plan->varying = !plan->bound;
		if (plan->varying)
			plan->call = rdt_alltoallv_template(comm, call, plan->counts);
		else
			status = rdt_alltoallv_agree(comm, &plan->call);
		if (status)
			return status;
	}
	if (plan->bound)
		agreed = rdt_offer_agreed(flags);
	status = rdt_shaper_open(&shaper, comm, call, &agreed);
	if (status)
		return status;
	if (!plan->algorithm)
		status = rdt_choose(comm, &shaper, &plan->algorithm);
	*refused = status == RDT_ERR_INVALID;
	if (!status && rdt_log_on(RDT_LOG_INFO))
		rdt_choice_explain(comm, &shaper, predicted, sizeof(predicted));
	if (!status)
		status = rdt_bind(plan, plan->algorithm, &shaper);
	rdt_shaper_close(&shaper);
	if (!status)
		status = connect_links(plan, deadline);
	if (!status)
		status = rdt_bind_exchange(plan, plan->number, &agreed, deadline);
	/* Whoever came to this plan's fence had read all of the plan before. */
	if (!status && comm->boot && plan->number)
		status = rdt_bind_forget(comm, plan->number - 1);
	if (status)
		return status;
	rdt_bind_buffers(plan, call);
	tell(plan, &agreed, predicted);
	return plan->bound || plan->base ? 0 : rdt_prologue_make(plan, flags);
}

static rdt_plan *new_plan(rdt_comm *comm, const struct rdt_call *call)
{
	rdt_plan *plan = calloc(1, sizeof(*plan));

	if (!plan) {
		rdt_err(RDT_ERR_NOMEM, "out of memory for a plan");
		return NULL;
	}
	plan->comm = comm;
	plan->call = *call;
	plan->slot = -1;
	plan->queue_tail = &plan->queue;
	plan->next = comm->plans;
	comm->plans = plan;
	return plan;
}

/* There is room for it. Frees the plan when it cannot be made. */
static int complete(rdt_plan *plan)
{
	rdt_comm *comm = plan->comm;
	bool refused = false;
	int status;

	plan->slot = free_slot(comm);
	comm->slot_used[plan->slot] = true;
	plan->number = comm->plan_sequence++;
	if (plan->bound)
		rdt_journal_note(comm, &plan->call, RDT_FORM_MAKE, plan->number);
	status = make(plan, &refused);
	if (!status)
		return 0;
	if (!comm->failed && !(refused && status == RDT_ERR_INVALID))
		/* The others are in the middle of making it too: they must not wait for this rank.
		 */
		rdt_fail(comm, status, -1, "rank %d could not make the plan of an operation: %s",
			 comm->rank, rdt_last_error());
	plan->base = NULL;
	rdt_plan_free(plan);
	return comm->failed ? rdt_fail_again(comm) : status;
}

int rdt_plan_make(rdt_comm *comm, const struct rdt_call *call, bool bound, rdt_plan **out)
{
	bool lengths = bound && call->collective == RDT_COLL_ALLTOALL && call->counts;
	rdt_plan *plan;
	int status = 0;

	if (comm->failed)
		return rdt_fail_again(comm);
	/* For the exchange of lengths there may have to be a plan, too. */
	if (call->collective != RDT_COLL_SEND)
		status = rdt_onecall_room(comm, 1 + lengths);
	if (status)
		return status;
	plan = new_plan(comm, call);
	if (!plan)
		return RDT_ERR_NOMEM;
	plan->bound = bound;
	if (call->collective != RDT_COLL_SEND)
		status = complete(plan);
	if (!status)
		*out = plan;
	return status;
}

int rdt_plan_make_part(rdt_plan *base, const struct rdt_call *call, const struct rdt_agreed *agreed,
		       const struct rdt_algorithm *algorithm, rdt_plan **out)
{
	rdt_plan *plan = new_plan(base->comm, call);
	int status;

	if (!plan)
		return RDT_ERR_NOMEM;
	plan->base = base;
	plan->agreed = *agreed;
	plan->algorithm = algorithm;
	status = complete(plan);
	if (!status)
		*out = plan;
	return status;
}

void rdt_plan_free(rdt_plan *plan)
{
	rdt_comm *comm = plan->comm;
	rdt_plan **at = &comm->plans;

	if (plan->base) { /* a part goes with the whole */
		rdt_plan_free(plan->base);
		return;
	}
	rdt_prologue_free(plan);
	rdt_onecall_gone(plan);
	while (*at != plan)
		at = &(*at)->next;
	*at = plan->next;
	rdt_bind_free(plan);
	if (plan->slot >= 0)
		comm->slot_used[plan->slot] = false;
	free(plan->wire);
	free(plan->counts);
	free(plan);
}

/* ---- the user's plans
 * ---------------------------------------------------------------------------- */

/* A plan of a send or a receive: the wire has everything, this only remembers the call. */
static int start_transfer(rdt_plan *plan)
{
	if (plan->transfer)
		return rdt_err(RDT_ERR_INVALID,
			       "rdt_plan_start: the plan is running; rdt_plan_wait comes first");
	return rdt_request_start(plan->comm, &plan->call, &plan->transfer);
}

static int start(rdt_plan *plan)
{
	if (plan->comm->failed)
		return rdt_fail_again(plan->comm);
	if (plan->call.collective == RDT_COLL_SEND)
		return start_transfer(plan);
	/* Also when it happens to be over: the other ranks could not know. */
	if (plan->pending)
		return rdt_err(RDT_ERR_INVALID,
			       "rdt_plan_start: the plan was started before; rdt_plan_wait, or "
			       "rdt_plan_test until it says done, comes first");
	plan->pending = true;
	plan->cut_off = false;
	plan->sequence = rdt_journal_note(plan->comm, &plan->call, RDT_FORM_START, plan->number);
	if (rdt_call_is_empty(plan->comm, &plan->call))
		return 0;
	plan->from = rdt_trace_start(plan->comm);
	rdt_plan_activate(plan);
	rdt_progress(plan->comm); /* the first puts leave now; a failure waits for rdt_plan_wait */
	return 0;
}

int rdt_plan_start(rdt_plan *plan)
{
	int status;

	if (!plan)
		return rdt_err(RDT_ERR_INVALID, "rdt_plan_start: no plan");
	rdt_enter(plan->comm);
	status = start(plan);
	rdt_leave(plan->comm);
	return status;
}

static void poll_once(rdt_plan *plan)
{
	rdt_comm *comm = plan->comm;
	int n = rdt_progress_test(comm);

	rdt_poll_clock(comm, n > 0, &plan->polled, &plan->deadline);
	if (n == 0 && plan->program.running && plan->polled > plan->deadline)
		rdt_progress_timeout(comm, NULL, comm->config.timeout_s);
}

/* An operation that was complete when the communicator failed did not fail. */
static bool is_complete(const rdt_plan *plan)
{
	return plan->pending && !plan->program.running && !plan->cut_off;
}

static int test(rdt_plan *plan, int *done)
{
	bool complete;

	if (plan->transfer) {
		int status = rdt_test(plan->transfer, done);

		if (*done)
			plan->transfer = NULL;
		return status;
	}
	if (plan->program.running)
		poll_once(plan);
	*done = !plan->program.running;
	complete = is_complete(plan);
	plan->pending = plan->pending && !*done;
	return plan->comm->failed && !complete ? rdt_fail_again(plan->comm) : 0;
}

int rdt_plan_test(rdt_plan *plan, int *done)
{
	int status;

	if (!plan || !done)
		return rdt_err(RDT_ERR_INVALID, "rdt_plan_test: %s is NULL",
			       plan ? "done" : "plan");
	rdt_enter(plan->comm);
	status = test(plan, done);
	rdt_leave(plan->comm);
	return status;
}

static bool is_over(rdt_comm *comm, void *what)
{
	(void)comm;
	return !((rdt_plan *)what)->program.running;
}

/* seconds NULL: the communicator's deadline. */
static int wait(rdt_plan *plan, const double *seconds)
{
	bool complete;

	if (plan->transfer) {
		struct rdt_request *request = plan->transfer;

		plan->transfer = NULL;
		return seconds ? rdt_wait_within(request, *seconds) : rdt_wait(request);
	}
	complete = is_complete(plan);
	plan->pending = false;
	if (plan->comm->failed && !complete)
		return rdt_fail_again(plan->comm);
	if (!plan->program.running)
		return 0;
	return rdt_progress_wait(plan->comm, is_over, plan,
				 seconds ? *seconds : plan->comm->config.timeout_s);
}

int rdt_plan_wait(rdt_plan *plan)
{
	int status;

	if (!plan)
		return rdt_err(RDT_ERR_INVALID, "rdt_plan_wait: no plan");
	rdt_enter(plan->comm);
	status = wait(plan, NULL);
	rdt_leave(plan->comm);
	return status;
}

int rdt_plan_wait_within(rdt_plan *plan, double seconds)
{
	int status;

	if (!plan || !rdt_seconds_ok(seconds))
		return rdt_err(RDT_ERR_INVALID, "rdt_plan_wait_within: %s",
			       plan ? RDT_SECONDS_RULE : "no plan");
	rdt_enter(plan->comm);
	status = wait(plan, &seconds);
	rdt_leave(plan->comm);
	return status;
}

/* A failure is the communicator's from then on; there is nobody to return it to here. */
static void await_others(rdt_plan *plan)
{
	char words[128], signature[RDT_SIGNATURE_MAX];
	struct rdt_fence fence;

	rdt_call_describe(&plan->call, words, sizeof(words));
	snprintf(signature, sizeof(signature), "%s (plan, destroyed)", words);
	rdt_peers_fence(plan->comm, signature, 0, &fence,
			rdt_deadline(plan->comm->config.timeout_s));
}

void rdt_plan_destroy(rdt_plan *plan)
{
	rdt_comm *comm;

	if (!plan)
		return;
	comm = plan->comm;
	rdt_enter(comm);
	wait(plan, NULL);
	/* When an operation has ended here, every peer has started it and so has read what it needs
	 * of this rank's memory. A plan that never ran proves nothing of the kind. */
	if (!plan->started && plan->program.n_links && !comm->failed)
		await_others(plan);
	rdt_plan_free(plan);
	rdt_leave(comm);
}
