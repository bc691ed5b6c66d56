/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From schedules to a program: emits the schedule of each kind of window, turns owners into links,
 * and ties buffers to memory. The only place where a span gets a base.
 */
#include "comm.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/engine/board.h"

#include "records.h"
#include "shape.h"
#include "transfer.h"

/* The schedules of one operation, while they are turned into a program. */
struct emitted {
	struct rdt_schedule *schedules;
	uint64_t *first; /* [n] the windows where they begin */
	int n, capacity;
};

static void free_emitted(struct emitted *e)
{
	for (int i = 0; i < e->n; i++)
		rdt_schedule_free(&e->schedules[i]);
	free(e->schedules);
	free(e->first);
}

static int emit_one(struct emitted *e, const struct rdt_algorithm *algorithm,
		    const struct rdt_shaper *shaper)
{
	if (e->n == e->capacity) {
		int more = e->capacity ? 2 * e->capacity : 4;
		struct rdt_schedule *grown =
			realloc(e->schedules, (size_t)more * sizeof(*e->schedules));
		uint64_t *first = realloc(e->first, (size_t)more * sizeof(*e->first));

		if (grown)
			e->schedules = grown;
		if (first)
			e->first = first;
		if (!grown || !first)
			return rdt_err(RDT_ERR_NOMEM, "out of memory for %d schedules", more);
		e->capacity = more;
	}
	rdt_schedule_init(&e->schedules[e->n]);
	e->first[e->n] = shaper->first;
	if (algorithm->emit(&shaper->group, &shaper->shape, &e->schedules[e->n++]))
		return rdt_err(RDT_ERR_NOMEM, "out of memory for the schedule of %s",
			       algorithm->name);
	return 0;
}

static int emit_all(struct emitted *e, const struct rdt_algorithm *algorithm,
		    struct rdt_shaper *shaper)
{
	int status;

	do {
		status = emit_one(e, algorithm, shaper);
	} while (status == 0 && rdt_shaper_next(shaper));
	return status;
}

/* ---- links
 * ----------------------------------------------------------------------------------------- */

static int add_link(int *link_of, int peer, int n_links)
{
	if (link_of[peer] >= 0)
		return n_links;
	link_of[peer] = n_links;
	return n_links + 1;
}

/* Gives a link index to every peer that occurs; -1 in `link_of` for the others. */
static int collect_links(const struct rdt_schedule *s, int *link_of, int n_links, int rank)
{
	for (int l = 0; l < s->n_lanes; l++)
		for (size_t i = 0; i < s->lanes[l].n_steps; i++) {
			const struct rdt_step *step = &s->lanes[l].steps[i];

			if (step->kind == RDT_PUT || step->kind == RDT_WAIT)
				n_links = add_link(link_of, step->peer, n_links);
		}
	for (size_t i = 0; i < s->n_spans; i++)
		if (s->spans[i].rank != rank)
			n_links = add_link(link_of, s->spans[i].rank, n_links);
	return n_links;
}

/* Notes whose buffers are named: those are exchanged. */
static void mark_used(struct rdt_program *p, const struct rdt_schedule *s, const int *link_of,
		      int rank)
{
	for (size_t i = 0; i < s->n_spans; i++)
		if (s->spans[i].rank != rank && s->spans[i].length)
			p->links[link_of[s->spans[i].rank]].used |= 1u << s->spans[i].buffer;
}

static int make_links(rdt_plan *plan, const struct emitted *e, int *link_of)
{
	struct rdt_program *p = &plan->program;
	int n = 0;

	for (int i = 0; i < e->n; i++)
		n = collect_links(&e->schedules[i], link_of, n, plan->comm->rank);
	if (n >= RDT_LINK_MINE)
		return rdt_err(RDT_ERR_NOMEM,
			       "a schedule with %d peers is more than a program holds", n);
	p->links = calloc((size_t)n + 1, sizeof(*p->links));
	if (!p->links)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for %d links", n);
	p->n_links = n;
	for (int r = 0; r < plan->comm->size; r++)
		if (link_of[r] >= 0)
			p->links[link_of[r]].peer = r;
	for (int i = 0; i < e->n; i++)
		mark_used(p, &e->schedules[i], link_of, plan->comm->rank);
	return 0;
}

/* ---- steps
 * ------------------------------------------------------------------------------------------ */

static int bind_lane(const struct rdt_lane *lane, const int *link_of, struct rdt_bound_lane *out,
		     uint32_t *puts)
{
	out->steps = calloc(lane->n_steps + 1, sizeof(*out->steps));
	if (!out->steps)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for %zu steps", lane->n_steps);
	out->n_steps = (uint32_t)lane->n_steps;
	for (size_t i = 0; i < lane->n_steps; i++) {
		const struct rdt_step *step = &lane->steps[i];
		bool linked = step->kind == RDT_PUT || step->kind == RDT_WAIT;

		out->steps[i] = (struct rdt_bound_step){
			.kind = step->kind,
			.flags = step->flags,
			.link = linked ? (uint16_t)link_of[step->peer] : RDT_LINK_MINE,
			.n_dst = step->n_dst,
			.n_src = step->n_src,
			.count = step->count,
			.spans = step->spans,
		};
		if (step->kind == RDT_PUT)
			puts[link_of[step->peer]]++;
	}
	return 0;
}

static int bind_schedule(const rdt_plan *plan, const struct rdt_schedule *s, const int *link_of,
			 struct rdt_bound_schedule *out)
{
	int status;

	out->spans = calloc(s->n_spans + 1, sizeof(*out->spans));
	out->puts = calloc((size_t)plan->program.n_links + 1, sizeof(*out->puts));
	if (!out->spans || !out->puts)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for %zu spans", s->n_spans);
	for (size_t i = 0; i < s->n_spans; i++) {
		const struct rdt_span *span = &s->spans[i];

		out->spans[i] = (struct rdt_bound_span){
			.offset = span->offset,
			.length = span->length,
			.link = span->rank == plan->comm->rank ? RDT_LINK_MINE
							       : (uint16_t)link_of[span->rank],
			.buffer = (uint8_t)span->buffer,
		};
	}
	for (int l = 0; l < s->n_lanes; l++) {
		status = bind_lane(&s->lanes[l], link_of, &out->lanes[l], out->puts);
		if (status)
			return status;
	}
	out->n_lanes = s->n_lanes;
	return 0;
}

static int bind_all(rdt_plan *plan, const struct emitted *e, const int *link_of)
{
	struct rdt_program *p = &plan->program;

	p->schedules = calloc((size_t)e->n, sizeof(*p->schedules));
	if (!p->schedules)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for %d schedules", e->n);
	for (int i = 0; i < e->n; i++) {
		int status;

		p->n_schedules++;
		p->schedules[i].first = e->first[i];
		status = bind_schedule(plan, &e->schedules[i], link_of, &p->schedules[i]);
		if (status)
			return status;
	}
	return 0;
}

static uint16_t widest(const struct rdt_schedule *s)
{
	uint16_t widest = 1;

	for (int l = 0; l < s->n_lanes; l++)
		for (size_t i = 0; i < s->lanes[l].n_steps; i++) {
			const struct rdt_step *step = &s->lanes[l].steps[i];

			if (step->n_src > widest)
				widest = step->n_src;
			if (step->n_dst > widest)
				widest = step->n_dst;
		}
	return widest;
}

/* ---- the program
 * ------------------------------------------------------------------------------------ */

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Everything that follows from the schedules. */
static int lay_out(rdt_plan *plan, const struct emitted *e)
{
	struct rdt_program *p = &plan->program;
	uint16_t room = 1;
	long waits = 0;
	int slots_that_fit;

	p->n_lanes = e->schedules[0].n_lanes;
	p->scratch_epochs = e->schedules[0].scratch_epochs;
	for (int i = 0; i < e->n; i++) {
		const struct rdt_schedule *s = &e->schedules[i];

		room = (uint16_t)larger(room, widest(s));
		waits = (long)larger((uint64_t)waits, rdt_schedule_waits(s));
		p->scratch_stride = larger(p->scratch_stride, (s->scratch_bytes + 63) / 64 * 64);
		if (s->n_lanes != p->n_lanes || s->scratch_epochs != p->scratch_epochs)
			return rdt_err(RDT_ERR_INVALID,
				       "schedules of one operation differ in lanes or in copies "
				       "of scratch");
	}
	slots_that_fit = RDT_SLOT_LANES / p->n_lanes;
	p->n_slots = p->n_windows < RDT_WINDOW_SLOTS && !plan->varying ? (int)p->n_windows
								       : RDT_WINDOW_SLOTS;
	if (p->n_slots > slots_that_fit)
		p->n_slots = slots_that_fit;
	p->channel = rdt_channel((unsigned)plan->slot, 0);
	p->consumed =
		calloc((size_t)(p->n_links * p->n_slots * p->n_lanes) + 1, sizeof(*p->consumed));
	p->srcs = calloc(room, sizeof(*p->srcs));
	p->dsts = calloc(room, sizeof(*p->dsts));
	if (!p->consumed || !p->srcs || !p->dsts)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for a program");

	/* Peers are at most one run ahead of this rank, in each slot. */
	plan->reserved = waits * 2 * p->n_slots;
	return 0;
}

/* Of all slots and epochs; behind it a wire's headers, and what RDTRAIN_CHECK=1 needs. */
static int make_scratch(rdt_plan *plan)
{
	const struct rdt_program *p = &plan->program;
	uint64_t bytes = p->scratch_stride * (uint64_t)p->scratch_epochs * (uint64_t)p->n_slots;

	if (plan->wire)
		bytes += RDT_WIRE_HEADERS;
	if (rdt_wire_sends(plan))
		bytes = 0;
	bytes = rdt_records_place(plan, bytes);
	if (!bytes || !plan->comm->n_transports)
		return 0;
	return rdt_memory_new(plan->comm, bytes, &plan->scratch);
}

/* Which link leads to each rank; -1: none. */
static int *links_by_rank(const rdt_plan *plan)
{
	int *link_of = calloc((size_t)plan->comm->size, sizeof(*link_of));

	for (int r = 0; link_of && r < plan->comm->size; r++)
		link_of[r] = -1;
	for (int l = 0; link_of && l < plan->program.n_links; l++)
		link_of[plan->program.links[l].peer] = l;
	return link_of;
}

int rdt_bind(rdt_plan *plan, const struct rdt_algorithm *algorithm, struct rdt_shaper *shaper)
{
	struct rdt_program *p = &plan->program;
	const struct rdt_call *call = &plan->call;
	struct emitted emitted = { 0 };
	int *link_of = links_by_rank(plan);
	int status;

	if (!link_of)
		return rdt_err(RDT_ERR_NOMEM, "out of memory");
	p->elem_size = (uint32_t)shaper->elem;
	p->window_bytes = shaper->window_bytes;
	p->n_windows = shaper->n_windows;
	if (rdt_collective_reduces(call->collective)) {
		p->reduce = rdt_reduce_kernel(call->type, call->op);
		p->divisor = call->op == RDT_AVG ? (uint32_t)plan->comm->size : 0;
	}
	status = emit_all(&emitted, algorithm, shaper);
	if (!status)
		status = make_links(plan, &emitted, link_of);
	if (!status)
		status = lay_out(plan, &emitted);
	if (!status)
		status = bind_all(plan, &emitted, link_of);
	if (!status)
		status = rdt_records_make(plan);
	if (!status)
		status = make_scratch(plan);
	free_emitted(&emitted);
	free(link_of);
	return status;
}

static void free_schedules(struct rdt_program *p)
{
	for (int i = 0; i < p->n_schedules; i++) {
		for (int l = 0; l < RDT_MAX_LANES; l++)
			free(p->schedules[i].lanes[l].steps);
		free(p->schedules[i].spans);
		free(p->schedules[i].puts);
	}
	free(p->schedules);
	p->schedules = NULL;
	p->n_schedules = 0;
}

int rdt_bind_again(rdt_plan *plan, const struct rdt_algorithm *algorithm, struct rdt_shaper *shaper)
{
	struct emitted emitted = { 0 };
	int *link_of = links_by_rank(plan);
	int status;

	if (!link_of)
		return rdt_err(RDT_ERR_NOMEM, "out of memory");
	status = emit_all(&emitted, algorithm, shaper);
	if (!status) {
		free_schedules(&plan->program);
		plan->program.n_windows = shaper->n_windows;
		status = bind_all(plan, &emitted, link_of);
		if (!status)
			status = rdt_records_fit(plan);
	}
	free_emitted(&emitted);
	free(link_of);
	return status;
}

static void bind_local(rdt_comm *comm, struct rdt_local *local, const void *base, size_t bytes)
{
	struct rdt_mem *mem = bytes ? rdt_mem_table_find(&comm->memory, base, bytes) : NULL;

	local->base =
		(char *)base; /* INPUT is only read; the engine has one type for all buffers */
	for (int t = 0; t < comm->n_transports; t++)
		local->region[t] = mem ? mem->handle[t] : NULL;
}

void rdt_bind_buffers(rdt_plan *plan, const struct rdt_call *call)
{
	struct rdt_program *p = &plan->program;
	const rdt_comm *comm = plan->comm;

	bind_local(plan->comm, &p->local[RDT_INPUT], call->in,
		   rdt_call_bytes(comm, call, RDT_INPUT));
	bind_local(plan->comm, &p->local[RDT_OUTPUT], call->out,
		   rdt_call_bytes(comm, call, RDT_OUTPUT));
}

/* ---- the exchange
 * ------------------------------------------------------------------------------------ */

/*
 * What a rank tells its peers of a plan: where its records lie, then, for each transport, for each
 * buffer, a byte of length and as many bytes of exported memory; length 0 where there is nothing to
 * go to.
 */
/* The memory behind a buffer that peers may go to, or NULL. */
static struct rdt_mem *exported(rdt_plan *plan, int t, int b, const struct rdt_agreed *agreed,
				const void **base, size_t *bytes)
{
	rdt_comm *comm = plan->comm;
	bool maps = agreed->mapped && comm->transports[t].ops->mem_map;

	if (b == RDT_SCRATCH) {
		*base = plan->scratch ? plan->scratch->base : NULL;
		*bytes = plan->scratch ? plan->scratch->bytes : 0;
		return plan->scratch;
	}
	*base = b == RDT_INPUT ? plan->call.in : plan->call.out;
	*bytes = rdt_call_bytes(comm, &plan->call, (enum rdt_buffer)b);
	if (*bytes == 0 || !(maps || (b == RDT_OUTPUT && agreed->remote_output)))
		return NULL;
	return rdt_mem_table_find(&comm->memory, *base, *bytes);
}

size_t rdt_bind_blob(const rdt_comm *comm)
{
	return RDT_TRANSPORTS * RDT_BUFFER_COUNT * (1 + RDT_EXPORT_MAX) + rdt_records_blob(comm);
}

int rdt_bind_export(rdt_plan *plan, const struct rdt_agreed *agreed, unsigned char *blob,
		    size_t *length)
{
	rdt_comm *comm = plan->comm;
	size_t at = rdt_records_export(plan, blob);

	for (int t = 0; t < comm->n_transports; t++)
		for (int b = 0; b < RDT_BUFFER_COUNT; b++) {
			const void *base;
			size_t n = 0, size;
			struct rdt_mem *mem = exported(plan, t, b, agreed, &base, &size);

			if (mem) {
				int status = comm->transports[t].ops->mem_export(
					mem->handle[t], base, size,
					b == RDT_INPUT ? RDT_ACCESS_GET : RDT_ACCESS_PUT,
					blob + at + 1, &n);

				if (status)
					return status;
			}
			blob[at] = (unsigned char)n;
			at += 1 + n;
		}
	*length = at;
	return 0;
}

/* Takes the part of a peer's blob that is for this link's transport. */
int rdt_bind_import(rdt_plan *plan, int l, const unsigned char *blob, size_t length)
{
	struct rdt_link *link = &plan->program.links[l];
	size_t at = 0;
	int status = rdt_records_import(plan, l, blob, length, &at);

	if (status)
		return status;
	for (int t = 0; t <= link->transport; t++)
		for (int b = 0; b < RDT_BUFFER_COUNT; b++) {
			size_t n = at < length ? blob[at] : 0;

			if (at >= length || n > length - at - 1)
				return rdt_err(RDT_ERR_SYSTEM,
					       "rank %d sent a malformed description of its memory",
					       link->peer);
			if (t == link->transport && n && link->used & 1u << b) {
				status = link->ops->mem_import(link->ep, blob + at + 1, n,
							       &link->remote[b]);
				if (status)
					return rdt_fail_peer(plan->comm, link->peer, status);
				if (link->ops->mem_map)
					link->mapped[b] = link->ops->mem_map(link->remote[b]);
			}
			at += 1 + n;
		}
	return 0;
}

void rdt_bind_attach(rdt_plan *plan, int l)
{
	struct rdt_program *p = &plan->program;
	struct rdt_link *link = &p->links[l];
	const struct rdt_peer *peer = &plan->comm->peers[link->peer];
	int lanes = p->n_slots * p->n_lanes;

	link->transport = peer->transport;
	link->ep = peer->ep;
	link->ops = plan->comm->transports[peer->transport].ops;
	/* Every notification of the plan that had this slot before has been waited for; the peer
	 * sends none for this plan before it has read this rank's blob. A wire has its slot for
	 * good, and may have been notified already. */
	for (int lane = 0; lane < lanes && !plan->wire; lane++)
		p->consumed[l * lanes + lane] = __atomic_load_n(
			&rdt_ep_head(link->ep)->counters[p->channel + (unsigned)lane],
			__ATOMIC_ACQUIRE);
}

int rdt_bind_reserve(rdt_plan *plan)
{
	struct rdt_program *p = &plan->program;
	rdt_comm *comm = plan->comm;

	if (plan->scratch) {
		p->local[RDT_SCRATCH].base = plan->scratch->base;
		for (int t = 0; t < comm->n_transports; t++)
			p->local[RDT_SCRATCH].region[t] = plan->scratch->handle[t];
	}
	for (int t = 0; t < comm->n_transports; t++) {
		int status = comm->transports[t].ops->reserve(comm->transports[t].handle,
							      plan->reserved);
		if (status) {
			while (t-- > 0)
				comm->transports[t].ops->reserve(comm->transports[t].handle,
								 -plan->reserved);
			plan->reserved = 0;
			return status;
		}
	}
	plan->exchanged = true;
	return 0;
}

static void plan_key(char *key, size_t size, uint64_t number)
{
	snprintf(key, size, "plan/%" PRIu64, number);
}

int rdt_bind_forget(rdt_comm *comm, uint64_t number)
{
	char key[RDT_KEY_MAX];

	plan_key(key, sizeof(key), number);
	return comm->boot_ops->forget(comm->boot, key);
}

static int exchange(rdt_plan *plan, uint64_t sequence, const struct rdt_agreed *agreed,
		    unsigned char *blob, size_t room, int64_t deadline)
{
	struct rdt_program *p = &plan->program;
	rdt_comm *comm = plan->comm;
	char key[RDT_KEY_MAX];
	size_t length;
	int status;

	status = rdt_bind_export(plan, agreed, blob, &length);
	if (status)
		return status;
	plan_key(key, sizeof(key), sequence);
	status = rdt_peers_put(comm, key, blob, length);
	if (status)
		return status;
	/* Every peer's blob is waited for, also where nothing is written: a notification sent
	 * before the peer has looked at its counters would be lost. */
	for (int l = 0; l < p->n_links; l++) {
		length = room;
		status = rdt_peers_get(comm, p->links[l].peer, key, blob, &length, deadline);
		if (status == 0 && p->links[l].used)
			status = rdt_bind_import(plan, l, blob, length);
		if (status)
			return status;
	}
	return 0;
}

int rdt_bind_exchange(rdt_plan *plan, uint64_t sequence, const struct rdt_agreed *agreed,
		      int64_t deadline)
{
	struct rdt_program *p = &plan->program;
	size_t room = rdt_bind_blob(plan->comm);
	unsigned char *blob;
	int status;

	for (int l = 0; l < p->n_links; l++)
		rdt_bind_attach(plan, l);
	status = rdt_bind_reserve(plan);
	if (status || p->n_links == 0)
		return status;
	blob = malloc(room);
	if (!blob)
		return rdt_err(RDT_ERR_NOMEM, "out of memory to make a plan known");
	status = exchange(plan, sequence, agreed, blob, room, deadline);
	free(blob);
	p->board = !status && plan->algorithm->emit == rdt_emit_board && rdt_board_suits(p);
	return status;
}

void rdt_bind_free(rdt_plan *plan)
{
	struct rdt_program *p = &plan->program;
	rdt_comm *comm = plan->comm;

	for (int l = 0; l < p->n_links; l++)
		for (int b = 0; b < RDT_BUFFER_COUNT; b++)
			if (p->links[l].remote[b])
				p->links[l].ops->mem_release(p->links[l].remote[b]);
	for (int t = 0; t < comm->n_transports && plan->exchanged; t++)
		comm->transports[t].ops->reserve(comm->transports[t].handle, -plan->reserved);
	if (plan->scratch)
		rdt_memory_free(comm, plan->scratch);
	rdt_records_free(plan);
	free_schedules(p);
	free(p->links);
	free(p->consumed);
	free(p->srcs);
	free(p->dsts);
}
