/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From schedule to program: cuts the operation into windows, emits the schedule of one, turns
 * owners into links, and ties buffers to memory. The only place where a span gets a base.
 */
#include "comm.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Windows: small enough that several are under way in the caches and on the link, large enough that
 * a step's fixed cost does not show. */
#define WINDOW_MAX ((uint64_t)512 << 10)
#define WINDOW_MIN ((uint64_t)32 << 10)
#define SLOTS 4

/* Bytes of one window for an operation of `bytes`; the same on all ranks. A multiple of 64
 * elements. */
static uint64_t window_bytes(const rdt_comm *comm, uint64_t bytes, uint64_t elem)
{
	uint64_t window = comm->config.window;
	uint64_t unit = 64 * elem;

	if (!window) {
		window = bytes / SLOTS;
		if (window < WINDOW_MIN)
			window = WINDOW_MIN;
		if (window > WINDOW_MAX)
			window = WINDOW_MAX;
	}
	return window < unit ? unit : window / unit * unit;
}

static int emit(rdt_plan *plan, const struct rdt_algorithm *algorithm, uint64_t bytes,
		bool remote_output, struct rdt_schedule *schedule)
{
	struct rdt_group group = { .rank = plan->comm->rank, .size = plan->comm->size };
	struct rdt_shape shape = {
		.collective = plan->call.collective,
		.bytes = bytes,
		.elem_size = plan->program.elem_size,
		.root = plan->call.root,
		.remote_output = remote_output,
	};

	if (algorithm->emit(&group, &shape, schedule))
		return rdt_err(RDT_ERR_NOMEM, "out of memory for the schedule of %s",
			       algorithm->name);
	return 0;
}

/* ---- links
 * ----------------------------------------------------------------------------------------- */

/* Gives a link index to every peer that occurs; -1 in `link_of` for the others. */
static int collect_links(const struct rdt_schedule *s, int *link_of, int n_links)
{
	for (int l = 0; l < s->n_lanes; l++)
		for (size_t i = 0; i < s->lanes[l].n_steps; i++) {
			const struct rdt_step *step = &s->lanes[l].steps[i];

			if ((step->kind == RDT_PUT || step->kind == RDT_WAIT) &&
			    link_of[step->peer] < 0)
				link_of[step->peer] = n_links++;
		}
	return n_links;
}

static void mark_written(struct rdt_program *p, const struct rdt_schedule *s, const int *link_of)
{
	for (int l = 0; l < s->n_lanes; l++)
		for (size_t i = 0; i < s->lanes[l].n_steps; i++) {
			const struct rdt_step *step = &s->lanes[l].steps[i];

			if (step->kind == RDT_PUT && rdt_step_dst(s, step)->length)
				p->links[link_of[step->peer]].written = true;
		}
}

static int make_links(rdt_plan *plan, const struct rdt_schedule *full,
		      const struct rdt_schedule *tail, int *link_of)
{
	struct rdt_program *p = &plan->program;

	for (int r = 0; r < plan->comm->size; r++)
		link_of[r] = -1;
	p->n_links = collect_links(full, link_of, 0);
	p->n_links = collect_links(tail, link_of, p->n_links);
	if (p->n_links >= RDT_LINK_MINE)
		return rdt_err(RDT_ERR_NOMEM,
			       "a schedule with %d peers is more than a program holds", p->n_links);
	p->links = calloc((size_t)p->n_links + 1, sizeof(*p->links));
	if (!p->links)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for %d links", p->n_links);
	for (int r = 0; r < plan->comm->size; r++)
		if (link_of[r] >= 0)
			p->links[link_of[r]].peer = r;
	mark_written(p, full, link_of);
	mark_written(p, tail, link_of);
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

/* Everything that follows from the two schedules. */
static int lay_out(rdt_plan *plan, const struct rdt_schedule *full, const struct rdt_schedule *tail)
{
	struct rdt_program *p = &plan->program;
	rdt_comm *comm = plan->comm;
	uint16_t room = (uint16_t)larger(widest(full), widest(tail));
	int slots_that_fit = RDT_SLOT_LANES / full->n_lanes;

	p->n_lanes = full->n_lanes;
	p->n_slots = p->n_windows < SLOTS ? (int)p->n_windows : SLOTS;
	if (p->n_slots > slots_that_fit)
		p->n_slots = slots_that_fit;
	p->channel = rdt_channel((unsigned)plan->slot, 0);
	p->scratch_epochs = full->scratch_epochs;
	p->scratch_stride = (larger(full->scratch_bytes, tail->scratch_bytes) + 63) / 64 * 64;
	p->consumed =
		calloc((size_t)(p->n_links * p->n_slots * p->n_lanes) + 1, sizeof(*p->consumed));
	p->srcs = calloc(room, sizeof(*p->srcs));
	p->dsts = calloc(room, sizeof(*p->dsts));
	if (!p->consumed || !p->srcs || !p->dsts)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for a program");

	/* Peers are at most one run ahead of this rank, in each slot. */
	for (int l = 0; l < full->n_lanes; l++)
		for (size_t i = 0; i < full->lanes[l].n_steps; i++)
			plan->reserved += full->lanes[l].steps[i].kind == RDT_WAIT
						  ? (long)full->lanes[l].steps[i].count
						  : 0;
	plan->reserved *= 2 * p->n_slots;

	if (p->scratch_stride && comm->n_transports) {
		uint64_t bytes =
			p->scratch_stride * (uint64_t)p->scratch_epochs * (uint64_t)p->n_slots;

		return rdt_memory_new(comm, bytes, &plan->scratch);
	}
	return 0;
}

int rdt_bind(rdt_plan *plan, const struct rdt_algorithm *algorithm, bool remote_output)
{
	struct rdt_program *p = &plan->program;
	const struct rdt_call *call = &plan->call;
	struct rdt_schedule full, tail;
	uint64_t elem = call->collective == RDT_COLL_BARRIER ? 1 : rdt_type_size(call->type);
	uint64_t bytes = call->count * elem, rest = 0;
	int *link_of = calloc((size_t)plan->comm->size, sizeof(*link_of));
	int status;

	rdt_schedule_init(&full);
	rdt_schedule_init(&tail);
	if (!link_of)
		return rdt_err(RDT_ERR_NOMEM, "out of memory");

	p->elem_size = (uint32_t)elem;
	p->window_bytes = window_bytes(plan->comm, bytes, elem);
	p->n_windows =
		bytes <= p->window_bytes ? 1 : (bytes + p->window_bytes - 1) / p->window_bytes;
	if (p->n_windows == 1)
		p->window_bytes = bytes;
	else
		rest = bytes - (p->n_windows - 1) * p->window_bytes;
	if (call->collective == RDT_COLL_ALLREDUCE) {
		p->reduce = rdt_reduce_kernel(call->type, call->op);
		p->divisor = call->op == RDT_AVG ? (uint32_t)plan->comm->size : 0;
	}

	status = emit(plan, algorithm, p->window_bytes, remote_output, &full);
	if (status == 0 && rest && rest != p->window_bytes)
		status = emit(plan, algorithm, rest, remote_output, &tail);
	if (status)
		goto out;
	status = make_links(plan, &full, &tail, link_of);
	if (status)
		goto out;
	status = lay_out(plan, &full, &tail);
	if (status)
		goto out;
	status = bind_schedule(plan, &full, link_of, &p->full);
	if (status == 0 && tail.n_lanes)
		status = bind_schedule(plan, &tail, link_of, &p->tail);
out:
	rdt_schedule_free(&full);
	rdt_schedule_free(&tail);
	free(link_of);
	return status;
}

static void bind_local(rdt_comm *comm, struct rdt_local *local, const void *base, size_t bytes)
{
	struct rdt_mem *mem = rdt_mem_table_find(&comm->memory, base, bytes);

	local->base =
		(char *)base; /* INPUT is only read; the engine has one type for all buffers */
	for (int t = 0; t < comm->n_transports; t++)
		local->region[t] = mem ? mem->handle[t] : NULL;
}

void rdt_bind_buffers(rdt_plan *plan, const struct rdt_call *call)
{
	struct rdt_program *p = &plan->program;
	size_t bytes = call->count * p->elem_size;

	if (call->collective == RDT_COLL_BARRIER)
		return;
	bind_local(plan->comm, &p->local[RDT_INPUT], call->in, bytes);
	if (call->out == call->in)
		p->local[RDT_OUTPUT] = p->local[RDT_INPUT];
	else
		bind_local(plan->comm, &p->local[RDT_OUTPUT], call->out, bytes);
}

/* ---- the exchange
 * ------------------------------------------------------------------------------------ */

/*
 * What a rank tells its peers of a plan: for each transport, for OUTPUT and SCRATCH, a byte of
 * length and as many bytes of exported memory; length 0 where there is nothing to write to.
 */
static const enum rdt_buffer exported[] = { RDT_OUTPUT, RDT_SCRATCH };
#define N_EXPORTED (sizeof(exported) / sizeof(exported[0]))
#define BLOB_MAX (RDT_TRANSPORTS * N_EXPORTED * (1 + RDT_EXPORT_MAX))

static int export_all(rdt_plan *plan, bool remote_output, unsigned char *blob, size_t *length)
{
	rdt_comm *comm = plan->comm;
	size_t bytes = plan->call.count * plan->program.elem_size;
	size_t at = 0;

	for (int t = 0; t < comm->n_transports; t++)
		for (size_t b = 0; b < N_EXPORTED; b++) {
			struct rdt_mem *mem = NULL;
			const void *base = NULL;
			size_t n = 0, size = 0;

			if (exported[b] == RDT_SCRATCH && plan->scratch) {
				mem = plan->scratch;
				base = mem->base;
				size = mem->bytes;
			} else if (exported[b] == RDT_OUTPUT && remote_output && bytes) {
				base = plan->call.out;
				size = bytes;
				mem = rdt_mem_table_find(&comm->memory, base, size);
			}
			if (mem) {
				int status = comm->transports[t].ops->mem_export(
					mem->handle[t], base, size, blob + at + 1, &n);

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
static int import_all(struct rdt_link *link, const unsigned char *blob, size_t length)
{
	size_t at = 0;

	for (int t = 0; t <= link->transport; t++)
		for (size_t b = 0; b < N_EXPORTED; b++) {
			size_t n = at < length ? blob[at] : 0;

			if (at >= length || n > length - at - 1)
				return rdt_err(RDT_ERR_SYSTEM,
					       "rank %d sent a malformed description of its memory",
					       link->peer);
			if (t == link->transport && n) {
				int status = link->ops->mem_import(link->ep, blob + at + 1, n,
								   &link->remote[exported[b]]);

				if (status)
					return status;
			}
			at += 1 + n;
		}
	return 0;
}

static void attach_link(rdt_plan *plan, int l)
{
	struct rdt_program *p = &plan->program;
	struct rdt_link *link = &p->links[l];
	const struct rdt_peer *peer = &plan->comm->peers[link->peer];
	int lanes = p->n_slots * p->n_lanes;

	link->transport = peer->transport;
	link->ep = peer->ep;
	link->ops = plan->comm->transports[peer->transport].ops;
	/* Every notification of the plan that had this slot before has been waited for; the peer
	 * sends none for this plan before it has read this rank's blob. */
	for (int lane = 0; lane < lanes; lane++)
		p->consumed[l * lanes + lane] = __atomic_load_n(
			&rdt_ep_head(link->ep)->counters[p->channel + (unsigned)lane],
			__ATOMIC_ACQUIRE);
}

int rdt_bind_exchange(rdt_plan *plan, uint64_t sequence, bool remote_output, int64_t deadline)
{
	struct rdt_program *p = &plan->program;
	rdt_comm *comm = plan->comm;
	unsigned char blob[BLOB_MAX];
	char key[RDT_KEY_MAX];
	size_t length;
	int status;

	if (plan->scratch) {
		p->local[RDT_SCRATCH].base = plan->scratch->base;
		for (int t = 0; t < comm->n_transports; t++)
			p->local[RDT_SCRATCH].region[t] = plan->scratch->handle[t];
	}
	for (int l = 0; l < p->n_links; l++)
		attach_link(plan, l);
	for (int t = 0; t < comm->n_transports; t++) {
		status = comm->transports[t].ops->reserve(comm->transports[t].handle,
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
	if (p->n_links == 0)
		return 0;

	status = export_all(plan, remote_output, blob, &length);
	if (status)
		return status;
	snprintf(key, sizeof(key), "plan/%" PRIu64, sequence);
	status = comm->boot_ops->put(comm->boot, key, blob, length);
	if (status)
		return status;
	/* Every peer's blob is waited for, also where nothing is written: a notification sent
	 * before the peer has looked at its counters would be lost. */
	for (int l = 0; l < p->n_links; l++) {
		length = sizeof(blob);
		status = rdt_peers_get(comm, p->links[l].peer, key, blob, &length, deadline);
		if (status == 0 && p->links[l].written)
			status = import_all(&p->links[l], blob, length);
		if (status)
			return status;
	}
	return 0;
}

static void free_bound(struct rdt_bound_schedule *s)
{
	for (int l = 0; l < RDT_MAX_LANES; l++)
		free(s->lanes[l].steps);
	free(s->spans);
	free(s->puts);
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
	free_bound(&p->full);
	free_bound(&p->tail);
	free(p->links);
	free(p->consumed);
	free(p->srcs);
	free(p->dsts);
}
