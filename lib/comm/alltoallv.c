/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All-to-all with counts. A rank knows what it sends to each and gets from each, and nothing of the
 * rest; but all must cut their blocks into equally many windows. So two numbers go round first, by
 * an all-to-all of fixed blocks: how much this rank sends to you, and the longest block that it
 * sends. That also tells ranks that disagree about a block.
 */
#include "comm.h"

#include <inttypes.h>
#include <stdlib.h>

#include "lib/base/clock.h"

#include "shape.h"

struct note {
	uint64_t bytes;	  /* for you */
	uint64_t longest; /* for anybody */
};

static struct note *new_notes(rdt_comm *comm, const struct rdt_call *call)
{
	uint64_t elem = rdt_type_size(call->type), longest = 0;
	struct note *notes = calloc(2 * (size_t)comm->size, sizeof(*notes));

	for (int i = 0; notes && i < comm->size; i++)
		if (call->counts[i] * elem > longest)
			longest = call->counts[i] * elem;
	for (int i = 0; notes && i < comm->size; i++)
		notes[i] = (struct note){ call->counts[i] * elem, longest };
	if (!notes)
		rdt_err(RDT_ERR_NOMEM, "out of memory for the counts of %d ranks", comm->size);
	return notes;
}

static struct rdt_call exchange_of(rdt_comm *comm, struct note *notes)
{
	return (struct rdt_call){
		.collective = RDT_COLL_ALLTOALL,
		.in = notes,
		.out = notes + comm->size,
		.count = sizeof(*notes) / sizeof(uint64_t),
		.type = RDT_UINT64,
	};
}

/* What the others said: call->longest, or MISMATCH. */
static int read_notes(rdt_comm *comm, struct rdt_call *call, const struct note *said)
{
	uint64_t elem = rdt_type_size(call->type);

	call->longest = 0;
	for (int i = 0; i < comm->size; i++) {
		if (said[i].bytes != call->out_counts[i] * elem)
			return rdt_fail(comm, RDT_ERR_MISMATCH, -1,
					"alltoallv: rank %d sends %" PRIu64 " bytes to rank %d, "
					"which expects %" PRIu64,
					i, said[i].bytes, comm->rank, call->out_counts[i] * elem);
		if (said[i].longest > call->longest)
			call->longest = said[i].longest;
	}
	return 0;
}

/* The lengths are known: the blocks follow. */
static void go_on(struct rdt_request *part)
{
	struct rdt_request *whole = part->whole;
	rdt_comm *comm = part->comm;
	const struct note *notes = part->memory;

	whole->plan->awaited--;
	if (read_notes(comm, &whole->call, notes + comm->size))
		return; /* the failure has ended both */
	if (whole->call.longest == 0)
		whole->over = true;
	else
		rdt_request_queue(whole, whole->plan);
}

int rdt_lengths_exchange(struct rdt_request *whole, rdt_plan *plan)
{
	rdt_comm *comm = whole->comm;
	size_t n = (size_t)comm->size;
	struct note *notes = new_notes(comm, &whole->call);
	size_t *counts = calloc(2 * n, sizeof(*counts));
	struct rdt_call exchange;
	struct rdt_request *part;
	rdt_plan *first;
	int status = RDT_ERR_NOMEM;

	if (!notes || !counts) {
		rdt_err(RDT_ERR_NOMEM, "out of memory for the counts of %d ranks", comm->size);
		goto free_both;
	}
	/* The caller's arrays are his again when the call returns. */
	for (size_t i = 0; i < n; i++) {
		counts[i] = whole->call.counts[i];
		counts[n + i] = whole->call.out_counts[i];
	}
	exchange = exchange_of(comm, notes);
	plan->kept = true;
	status = rdt_onecall_plan(comm, &exchange, &first);
	plan->kept = false;
	if (!status)
		status = rdt_request_new(comm, &exchange, whole, &part);
	if (status)
		goto free_both;
	whole->call.counts = counts;
	whole->call.out_counts = counts + n;
	whole->memory = counts;
	whole->plan = plan;
	plan->awaited++;
	part->then = go_on;
	part->memory = notes;
	part->sequence = whole->sequence;
	rdt_request_queue(part, first);
	return 0;

free_both:
	free(notes);
	free(counts);
	return status;
}

int rdt_alltoallv_agree(rdt_comm *comm, struct rdt_call *call)
{
	struct note *notes = new_notes(comm, call);
	struct rdt_request *request;
	struct rdt_call exchange;
	int status;

	if (!notes)
		return RDT_ERR_NOMEM;
	exchange = exchange_of(comm, notes);
	status = rdt_request_start(comm, &exchange, &request);
	if (!status)
		status = rdt_wait(request);
	if (!status)
		status = read_notes(comm, call, notes + comm->size);
	free(notes);
	return status;
}

struct rdt_call rdt_alltoallv_template(const rdt_comm *comm, const struct rdt_call *call,
				       size_t *counts)
{
	struct rdt_call template = *call;
	uint64_t elem = rdt_type_size(call->type);

	template.longest = rdt_alltoallv_window(comm, elem);
	for (int i = 0; i < 2 * comm->size; i++)
		counts[i] = template.longest / elem;
	template.counts = counts;
	template.out_counts = counts + comm->size;
	template.in = template.out = NULL;
	return template;
}
