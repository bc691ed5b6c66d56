/* SPDX-License-Identifier: BSD-3-Clause */
/* The prologue of plain calls; see prologue.h. */
#include "prologue.h"

#include <stdlib.h>
#include <string.h>

#include "shape.h"

#define BUFFERS 2 /* INPUT and OUTPUT */

#define IMPORTS 64 /* regions of a peer that are remembered */
#define OFFSETS (((uint64_t)1 << 56) - 1)

/* A buffer: the whole region that it lies in, which peers know from earlier calls, and where. */
struct place {
	unsigned char region[RDT_EXPORT_MAX]; /* zeros behind its length */
	uint64_t offset : 56, length : 8;
};

/* What one rank says of its buffers in one call. Bit `2 + t * BUFFERS + b` of flags: places[t][b]
 * is filled in. */
struct offer {
	uint32_t flags;
	uint32_t
		frees; /* regions of the user's that are no more; then peers forget all they know */
	struct place places[][BUFFERS];
};

/* A region of a peer, imported. */
struct rdt_import {
	struct rdt_import *next; /* the last used first */
	struct rdt_remote *remote;
	char *mapped;
	int users; /* links that refer to it */
	unsigned char region[RDT_EXPORT_MAX];
};

struct rdt_prologue {
	rdt_plan *exchange; /* allgather of the offers */
	rdt_plan *open;	    /* over everybody's buffers */
	uint64_t need;	    /* flags that `open` asks for */
	const struct rdt_call *call;
	size_t bytes;		  /* of one offer */
	char *offers;		  /* [size] of them; this rank's in its place */
	struct rdt_import **held; /* [links of open][BUFFERS] */
};

static struct offer *offer_of(const struct rdt_prologue *p, int rank)
{
	return (struct offer *)(p->offers + (size_t)rank * p->bytes);
}

static uint32_t there(int t, int b)
{
	return 1u << (2 + t * BUFFERS + b);
}

/* ---- offering -------------------------------------------------------------------------------- */

static bool can_be_put_into(rdt_comm *comm, const struct rdt_mem *mem)
{
	for (int t = 0; t < comm->n_transports; t++)
		if (!mem->handle[t] || !comm->transports[t].ops->mem_exportable(mem->handle[t]))
			return false;
	return true;
}

static void find(rdt_comm *comm, const struct rdt_call *call, struct rdt_mem *mem[BUFFERS],
		 const void *base[BUFFERS], uint64_t bytes[BUFFERS])
{
	base[RDT_INPUT] = call->in;
	base[RDT_OUTPUT] = call->out;
	for (int b = 0; b < BUFFERS; b++) {
		bytes[b] = rdt_call_bytes(comm, call, (enum rdt_buffer)b);
		mem[b] = bytes[b] ? rdt_mem_table_find(&comm->memory, base[b], bytes[b]) : NULL;
	}
}

static uint32_t flags_of(rdt_comm *comm, struct rdt_mem *const mem[BUFFERS],
			 const uint64_t bytes[BUFFERS])
{
	uint32_t flags = 0;

	if (!bytes[RDT_OUTPUT] || (mem[RDT_OUTPUT] && can_be_put_into(comm, mem[RDT_OUTPUT])))
		flags |= RDT_OFFER_OUTPUT;
	if (!comm->config.check &&
	    (!bytes[RDT_INPUT] || (mem[RDT_INPUT] && mem[RDT_INPUT]->block.base)) &&
	    (!bytes[RDT_OUTPUT] || (mem[RDT_OUTPUT] && mem[RDT_OUTPUT]->block.base)))
		flags |= RDT_OFFER_MAPPED;
	return flags;
}

uint64_t rdt_offer_flags(rdt_comm *comm, const struct rdt_call *call)
{
	struct rdt_mem *mem[BUFFERS];
	const void *base[BUFFERS];
	uint64_t bytes[BUFFERS];

	find(comm, call, mem, base, bytes);
	return flags_of(comm, mem, bytes);
}

struct rdt_agreed rdt_offer_agreed(uint64_t flags)
{
	return (struct rdt_agreed){ flags & RDT_OFFER_OUTPUT, flags & RDT_OFFER_MAPPED };
}

/* A buffer that cannot be exported now (locked memory ran out) is not offered: then all go through
 * scratch. */
static void fill(rdt_comm *comm, const struct rdt_call *call, struct offer *offer)
{
	struct rdt_mem *mem[BUFFERS];
	const void *base[BUFFERS];
	uint64_t bytes[BUFFERS];

	find(comm, call, mem, base, bytes);
	offer->flags = flags_of(comm, mem, bytes);
	offer->frees = comm->frees;
	for (int t = 0; t < comm->n_transports; t++)
		for (int b = 0; b < BUFFERS; b++) {
			const struct rdt_transport_ops *ops = comm->transports[t].ops;
			struct place *place = &offer->places[t][b];
			size_t length;
			int status;

			/* Peers read INPUT where they can map it, and nowhere else. */
			if (!mem[b] || !mem[b]->handle[t] || (b == RDT_INPUT && !ops->mem_map) ||
			    !ops->mem_exportable(mem[b]->handle[t]))
				continue;
			status = ops->mem_export(mem[b]->handle[t], mem[b]->base, mem[b]->bytes,
						 b == RDT_INPUT ? RDT_ACCESS_GET : RDT_ACCESS_PUT,
						 place->region, &length);
			if (status) {
				offer->flags &= ~(uint32_t)(RDT_OFFER_OUTPUT | RDT_OFFER_MAPPED);
				rdt_warn("rank %d goes through scratch: %s", comm->rank,
					 rdt_last_error());
				continue;
			}
			place->offset = (uint64_t)((const char *)base[b] - mem[b]->base) & OFFSETS;
			place->length = (uint8_t)length;
			offer->flags |= there(t, b);
		}
}

/* ---- taking ---------------------------------------------------------------------------------- */

/* A link of `open` goes nowhere any more. */
static void let_go(struct rdt_prologue *p, int l)
{
	struct rdt_link *link = &p->open->program.links[l];

	for (int b = 0; b < BUFFERS; b++) {
		struct rdt_import **held = &p->held[l * BUFFERS + b];

		if (*held)
			(*held)->users--;
		*held = NULL;
		link->remote[b] = NULL;
		link->mapped[b] = NULL;
	}
}

static void drop(struct rdt_comm *comm, int rank, struct rdt_import **at)
{
	struct rdt_import *import = *at;

	*at = import->next;
	comm->transports[comm->peers[rank].transport].ops->mem_release(import->remote);
	free(import);
}

/* A peer has freed memory. What was imported of it would keep its pages for nothing. */
static void forget(rdt_comm *comm, int rank)
{
	for (rdt_plan *plan = comm->plans; plan; plan = plan->next) {
		rdt_plan *open = plan->prologue ? plan->prologue->open : NULL;

		for (int l = 0; open && !open->program.running && l < open->program.n_links; l++)
			if (open->program.links[l].peer == rank)
				let_go(plan->prologue, l);
	}
	for (struct rdt_import **at = &comm->peers[rank].imports; *at;)
		if ((*at)->users)
			at = &(*at)->next;
		else
			drop(comm, rank, at);
}

static int import(rdt_comm *comm, const struct rdt_link *link, const struct place *place,
		  struct rdt_import **out)
{
	struct rdt_import **first = &comm->peers[link->peer].imports, **at, **idle = NULL, *found;
	int n = 0, status;

	for (at = first; *at && memcmp((*at)->region, place->region, RDT_EXPORT_MAX) != 0;
	     at = &(*at)->next, n++)
		if (!(*at)->users)
			idle = at;
	found = *at;
	if (found) {
		*at = found->next;
	} else {
		if (n >= IMPORTS && idle)
			drop(comm, link->peer, idle);
		found = calloc(1, sizeof(*found));
		if (!found)
			return rdt_err(RDT_ERR_NOMEM, "out of memory for a peer's region");
		status = link->ops->mem_import(link->ep, place->region, place->length,
					       &found->remote);
		if (status) {
			free(found);
			return rdt_fail_peer(comm, link->peer, status);
		}
		found->mapped = link->ops->mem_map ? link->ops->mem_map(found->remote) : NULL;
		memcpy(found->region, place->region, RDT_EXPORT_MAX);
	}
	found->next = *first;
	*first = found;
	*out = found;
	return 0;
}

/* Where a peer's buffers are in this operation: mostly in the regions of the last. */
static int reach(rdt_comm *comm, struct rdt_prologue *p, int l)
{
	struct rdt_link *link = &p->open->program.links[l];
	const struct offer *offer = offer_of(p, link->peer);

	for (int b = 0; b < BUFFERS; b++) {
		const struct place *place = &offer->places[link->transport][b];
		struct rdt_import **held = &p->held[l * BUFFERS + b];

		if (!(link->used & 1u << b) || !(offer->flags & there(link->transport, b)))
			continue;
		if (!*held || memcmp((*held)->region, place->region, RDT_EXPORT_MAX) != 0) {
			struct rdt_import *found = NULL;
			int status = import(comm, link, place, &found);

			if (status)
				return status;
			if (*held)
				(*held)->users--;
			found->users++;
			*held = found;
		}
		link->remote[b] = (*held)->remote;
		link->mapped[b] = (*held)->mapped ? (*held)->mapped + place->offset : NULL;
		link->offset[b] = place->offset;
	}
	return 0;
}

static int take(rdt_plan *plan, bool *open)
{
	struct rdt_prologue *p = plan->prologue;
	rdt_comm *comm = plan->comm;
	uint64_t flags = p->need;
	int status = 0;

	for (int r = 0; r < comm->size; r++) {
		const struct offer *offer = offer_of(p, r);

		flags &= offer->flags;
		if (r != comm->rank && offer->frees != comm->peers[r].frees) {
			comm->peers[r].frees = offer->frees;
			forget(comm, r);
		}
	}
	*open = flags == p->need;
	for (int l = 0; *open && !status && l < p->open->program.n_links; l++)
		status = reach(comm, p, l);
	return status;
}

/* ---- running --------------------------------------------------------------------------------- */

void rdt_prologue_begin(rdt_plan *plan, const struct rdt_call *call)
{
	struct rdt_prologue *p = plan->prologue;

	fill(plan->comm, call, offer_of(p, plan->comm->rank));
	p->call = call;
	p->exchange->sequence = p->open->sequence = plan->sequence;
	rdt_plan_activate(p->exchange);
}

void rdt_prologue_part_over(rdt_plan *part)
{
	rdt_plan *plan = part->base;
	struct rdt_prologue *p = plan->prologue;
	bool open = false;
	int status;

	if (part == p->open) {
		rdt_request_finished(plan);
		return;
	}
	status = take(plan, &open);
	if (status) {
		rdt_fail(plan->comm, status, -1, "%s", rdt_last_error());
		return;
	}
	if (open)
		rdt_bind_buffers(p->open, p->call);
	rdt_plan_activate(open ? p->open : plan);
}

/* ---- making ---------------------------------------------------------------------------------- */

/* Is the exchange and then `call` over buffers like these faster than through scratch? */
static int pays(rdt_plan *plan, const struct rdt_call *exchange, const struct rdt_agreed *agreed,
		bool *yes)
{
	const struct rdt_agreed nothing = { 0 };
	uint64_t staged, open, first;
	int status;

	*yes = false;
	status = rdt_predicted(plan->comm, &plan->call, &nothing, &staged);
	if (!status)
		status = rdt_predicted(plan->comm, &plan->call, agreed, &open);
	if (!status)
		status = rdt_predicted(plan->comm, exchange, &nothing, &first);
	if (!status)
		*yes = open < staged && first < staged - open;
	return status;
}

static int make_parts(rdt_plan *plan, const struct rdt_call *exchange,
		      const struct rdt_agreed *agreed)
{
	const struct rdt_agreed nothing = { 0 };
	struct rdt_prologue *p = plan->prologue;
	struct rdt_call call = plan->call;
	int status;

	p->offers = calloc((size_t)plan->comm->size, p->bytes);
	if (!p->offers)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for the offers of %d ranks",
			       plan->comm->size);
	call.in = call.out = NULL;
	status = rdt_plan_make_part(plan, exchange, &nothing,
				    rdt_algorithm_find(RDT_COLL_ALLGATHER, "exchange"),
				    &p->exchange);
	if (!status)
		status = rdt_plan_make_part(plan, &call, agreed, NULL, &p->open);
	if (status)
		return status;
	p->held =
		calloc((size_t)p->open->program.n_links + 1, BUFFERS * sizeof(struct rdt_import *));
	if (!p->held)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for what peers offer");
	p->exchange->call.out = p->offers;
	p->exchange->call.in = offer_of(p, plan->comm->rank);
	rdt_bind_buffers(p->exchange, &p->exchange->call);
	return 0;
}

int rdt_prologue_make(rdt_plan *plan, uint64_t hint)
{
	rdt_comm *comm = plan->comm;
	struct rdt_agreed agreed = rdt_offer_agreed(hint);
	size_t bytes =
		sizeof(struct offer) + (size_t)comm->n_transports * BUFFERS * sizeof(struct place);
	struct rdt_call exchange = { .collective = RDT_COLL_ALLGATHER,
				     .count = bytes / 8,
				     .type = RDT_UINT64 };
	bool yes;
	int status;

	if (comm->size == 1 || !(hint & (RDT_OFFER_OUTPUT | RDT_OFFER_MAPPED)) ||
	    plan->call.collective == RDT_COLL_BARRIER ||
	    plan->call.collective == RDT_COLL_ALLTOALL) /* which goes through scratch always */
		return 0;
	status = pays(plan, &exchange, &agreed, &yes);
	if (status || !yes)
		return status;
	/* No room is no failure: all ranks find it alike, and scratch does as well. */
	plan->kept = true;
	status = rdt_onecall_room(comm, 2);
	plan->kept = false;
	if (status)
		return comm->failed ? status : 0;
	plan->prologue = calloc(1, sizeof(*plan->prologue));
	if (!plan->prologue)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for a plan");
	plan->prologue->need = hint & (RDT_OFFER_OUTPUT | RDT_OFFER_MAPPED);
	plan->prologue->bytes = bytes;
	return make_parts(plan, &exchange, &agreed);
}

void rdt_prologue_free(rdt_plan *plan)
{
	struct rdt_prologue *p = plan->prologue;

	if (!p)
		return;
	for (int l = 0; p->held && l < p->open->program.n_links; l++)
		let_go(p, l);
	for (int i = 0; i < 2; i++) {
		rdt_plan *part = i ? p->open : p->exchange;

		if (part) {
			part->base = NULL;
			rdt_plan_free(part);
		}
	}
	free(p->offers);
	free(p->held);
	free(p);
}

void rdt_prologue_close(rdt_comm *comm)
{
	for (int r = 0; comm->peers && r < comm->size; r++)
		while (comm->peers[r].imports)
			drop(comm, r, &comm->peers[r].imports);
}
