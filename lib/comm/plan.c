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

#include "lib/base/clock.h"

#define FLAG_OUTPUT_EXPORTABLE 1u

void rdt_call_describe(const struct rdt_call *call, char *text, size_t size)
{
	switch (call->collective) {
	case RDT_COLL_ALLREDUCE:
		snprintf(text, size, "allreduce of %zu %s, %s", call->count,
			 rdt_type_name(call->type), rdt_op_name(call->op));
		return;
	case RDT_COLL_BROADCAST:
		snprintf(text, size, "broadcast of %zu %s from rank %d", call->count,
			 rdt_type_name(call->type), call->root);
		return;
	case RDT_COLL_BARRIER: snprintf(text, size, "barrier"); return;
	default: break;
	}
	snprintf(text, size, "unknown collective");
}

static bool overlap(const char *a, const char *b, size_t bytes)
{
	return a < b + bytes && b < a + bytes;
}

int rdt_call_check(rdt_comm *comm, const struct rdt_call *call)
{
	const char *name = rdt_collective_name(call->collective);
	size_t elem;

	if (!comm)
		return rdt_err(RDT_ERR_INVALID, "rdt_%s: no communicator", name);
	if (call->collective == RDT_COLL_BARRIER)
		return 0;
	elem = rdt_type_size(call->type);
	if (elem == 0)
		return rdt_err(RDT_ERR_INVALID, "rdt_%s: %d is no enum rdt_type", name,
			       (int)call->type);
	if (call->collective == RDT_COLL_ALLREDUCE && !rdt_op_name(call->op))
		return rdt_err(RDT_ERR_INVALID, "rdt_%s: %d is no enum rdt_op", name,
			       (int)call->op);
	if (call->collective == RDT_COLL_BROADCAST && (call->root < 0 || call->root >= comm->size))
		return rdt_err(RDT_ERR_INVALID, "rdt_%s: root %d is not a rank of 0..%d", name,
			       call->root, comm->size - 1);
	if (call->count > (size_t)PTRDIFF_MAX / elem)
		return rdt_err(RDT_ERR_INVALID,
			       "rdt_%s: %zu elements of %zu bytes are more than memory holds", name,
			       call->count, elem);
	if (call->count && (!call->in || !call->out))
		return rdt_err(RDT_ERR_INVALID, "rdt_%s: %s is NULL", name,
			       call->in ? "out" : "in");
	if (call->in != call->out && overlap(call->in, call->out, call->count * elem))
		return rdt_err(RDT_ERR_INVALID,
			       "rdt_%s: in and out overlap without being the same; pass equal "
			       "pointers for in "
			       "place, or separate buffers",
			       name);
	return 0;
}

/* Rank 0's override, else by size. */
static const struct rdt_algorithm *choose(rdt_comm *comm, const struct rdt_call *call)
{
	const char *forced = call->collective == RDT_COLL_ALLREDUCE   ? comm->config.allreduce
			     : call->collective == RDT_COLL_BROADCAST ? comm->config.broadcast
								      : "";

	if (*forced)
		return rdt_algorithm_find(call->collective, forced);
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++)
		if (a->collective == call->collective)
			return a;
	return NULL;
}

static bool output_exportable(rdt_comm *comm, const struct rdt_call *call)
{
	struct rdt_mem *mem = rdt_mem_table_find(&comm->memory, call->out,
						 call->count * rdt_type_size(call->type));

	if (!mem)
		return false;
	for (int t = 0; t < comm->n_transports; t++)
		if (!mem->handle[t] || !comm->transports[t].ops->mem_exportable(mem->handle[t]))
			return false;
	return true;
}

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
	status = rdt_peers_fence(comm, signature, *flags, &fence, deadline);
	if (status)
		return status;
	if (!fence.equal)
		return rdt_fail(comm, RDT_ERR_MISMATCH, -1, true,
				"rank %d calls \"%s\", rank %d calls \"%s\": all ranks must make "
				"the same calls in the "
				"same order",
				fence.rank_a, fence.signature_a, fence.rank_b, fence.signature_b);
	*flags = fence.flags;
	return 0;
}

static int take_slot(rdt_comm *comm)
{
	for (int slot = 0; slot < RDT_SLOTS; slot++)
		if (!comm->slot_used[slot]) {
			comm->slot_used[slot] = true;
			return slot;
		}
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

static int make(rdt_plan *plan, uint64_t sequence)
{
	rdt_comm *comm = plan->comm;
	const struct rdt_call *call = &plan->call;
	int64_t deadline = rdt_deadline(comm->config.timeout_s);
	const struct rdt_algorithm *algorithm;
	uint64_t flags = plan->bound && output_exportable(comm, call) ? FLAG_OUTPUT_EXPORTABLE : 0;
	char words[128];
	bool remote_output;
	int status;

	status = agree(comm, call, plan->bound, &flags, deadline);
	if (status)
		return status;
	remote_output = flags & FLAG_OUTPUT_EXPORTABLE;
	plan->slot = take_slot(comm);
	if (plan->slot < 0)
		return rdt_err(RDT_ERR_NOMEM,
			       "%d plans are alive on this communicator; destroy some first",
			       RDT_SLOTS);
	algorithm = choose(comm, call);
	if (!algorithm)
		return rdt_err(RDT_ERR_INVALID,
			       "no algorithm \"%s\" for %s; `rdtrain verify` lists them",
			       call->collective == RDT_COLL_ALLREDUCE ? comm->config.allreduce
								      : comm->config.broadcast,
			       rdt_collective_name(call->collective));
	status = rdt_bind(plan, algorithm, remote_output);
	if (status)
		return status;
	status = connect_links(plan, deadline);
	if (status)
		return status;
	status = rdt_bind_exchange(plan, sequence, remote_output, deadline);
	if (status)
		return status;
	rdt_bind_buffers(plan, call);

	rdt_call_describe(call, words, sizeof(words));
	rdt_info("%s%s: %s, %" PRIu64 " windows of %" PRIu64
		 " bytes, %d at a time, %zu bytes of scratch, %s",
		 words, plan->bound ? " (plan)" : "", algorithm->name, plan->program.n_windows,
		 plan->program.window_bytes, plan->program.n_slots,
		 plan->scratch ? plan->scratch->bytes : 0,
		 remote_output ? "straight into OUTPUT" : "through scratch");
	return 0;
}

int rdt_plan_make(rdt_comm *comm, const struct rdt_call *call, bool bound, rdt_plan **out)
{
	rdt_plan *plan;
	int status;

	if (comm->failed)
		return rdt_fail_again(comm);
	plan = calloc(1, sizeof(*plan));
	if (!plan)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for a plan");
	plan->comm = comm;
	plan->call = *call;
	plan->bound = bound;
	plan->slot = -1;
	plan->queue_tail = &plan->queue;
	plan->next = comm->plans;
	comm->plans = plan;

	status = make(plan, comm->plan_sequence++);
	if (status) {
		/* The others are in the middle of making it too: they must not wait for this rank.
		 */
		if (!comm->failed)
			status = rdt_fail(comm, status, -1, true,
					  "rank %d could not make the plan of an operation: %s",
					  comm->rank, rdt_last_error());
		rdt_plan_free(plan);
		return comm->failed ? rdt_fail_again(comm) : status;
	}
	*out = plan;
	return 0;
}

void rdt_plan_free(rdt_plan *plan)
{
	rdt_comm *comm = plan->comm;
	rdt_plan **at = &comm->plans;

	while (*at != plan)
		at = &(*at)->next;
	*at = plan->next;
	rdt_bind_free(plan);
	if (plan->slot >= 0)
		comm->slot_used[plan->slot] = false;
	free(plan);
}

int rdt_plan_poll(rdt_plan *plan)
{
	rdt_comm *comm = plan->comm;
	int n = rdt_progress_test(comm);

	if (n < 0)
		return n;
	if (n > 0)
		plan->deadline = rdt_deadline(comm->config.timeout_s);
	else if (plan->program.running && rdt_now() > plan->deadline)
		return rdt_progress_timeout(comm, NULL, comm->config.timeout_s);
	return 0;
}

/* ---- the user's plans
 * ---------------------------------------------------------------------------- */

int rdt_plan_start(rdt_plan *plan)
{
	if (!plan)
		return rdt_err(RDT_ERR_INVALID, "rdt_plan_start: no plan");
	if (plan->comm->failed)
		return rdt_fail_again(plan->comm);
	if (plan->program.running)
		return rdt_err(RDT_ERR_INVALID,
			       "rdt_plan_start: the plan is running; rdt_plan_wait comes first");
	rdt_plan_activate(plan);
	rdt_progress(plan->comm); /* the first puts leave now; a failure waits for rdt_plan_wait */
	return 0;
}

int rdt_plan_test(rdt_plan *plan, int *done)
{
	if (!plan || !done)
		return rdt_err(RDT_ERR_INVALID, "rdt_plan_test: %s is NULL",
			       plan ? "done" : "plan");
	if (plan->program.running)
		rdt_plan_poll(plan);
	*done = !plan->program.running;
	return plan->comm->failed ? rdt_fail_again(plan->comm) : 0;
}

static bool is_over(rdt_comm *comm, void *what)
{
	(void)comm;
	return !((rdt_plan *)what)->program.running;
}

int rdt_plan_wait(rdt_plan *plan)
{
	if (!plan)
		return rdt_err(RDT_ERR_INVALID, "rdt_plan_wait: no plan");
	if (plan->comm->failed)
		return rdt_fail_again(plan->comm);
	if (!plan->program.running)
		return 0;
	return rdt_progress_until(plan->comm, is_over, plan,
				  rdt_deadline(plan->comm->config.timeout_s), NULL);
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
	if (!plan)
		return;
	rdt_plan_wait(plan);
	/* When an operation has ended here, every peer has started it and so has read what it needs
	 * of this rank's memory. A plan that never ran proves nothing of the kind. */
	if (!plan->started && plan->program.n_links && !plan->comm->failed)
		await_others(plan);
	rdt_plan_free(plan);
}
