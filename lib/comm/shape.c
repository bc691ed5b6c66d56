/* SPDX-License-Identifier: BSD-3-Clause */
/* From a call to the shapes of its windows; see shape.h. Knows no memory but the call's counts. */
#include "shape.h"

#include <stdlib.h>

#include "collectives/window.h"

uint64_t rdt_alltoallv_window(const rdt_comm *comm, uint64_t elem)
{
	return rdt_window_block(comm->config.window, RDT_WINDOW_MAX, elem, (uint64_t)comm->size);
}

static bool has_in(enum rdt_collective c)
{
	return c == RDT_COLL_REDUCE_SCATTER || c == RDT_COLL_SCATTER || c == RDT_COLL_ALLTOALL;
}

static bool has_out(enum rdt_collective c)
{
	return c == RDT_COLL_ALLGATHER || c == RDT_COLL_GATHER || c == RDT_COLL_ALLTOALL;
}

static uint64_t count_of(const struct rdt_call *call, const size_t *counts, int i)
{
	return counts ? counts[i] : call->count;
}

static const size_t *out_counts(const struct rdt_call *call)
{
	return call->collective == RDT_COLL_ALLTOALL ? call->out_counts : call->counts;
}

static uint64_t sum(const struct rdt_call *call, const size_t *counts, int n)
{
	uint64_t total = 0;

	for (int i = 0; i < n; i++)
		total += count_of(call, counts, i);
	return total;
}

uint64_t rdt_call_bytes(const rdt_comm *comm, const struct rdt_call *call, enum rdt_buffer buffer)
{
	bool input = buffer == RDT_INPUT, root = comm->rank == call->root;
	uint64_t elements = 0;

	switch (call->collective) {
	case RDT_COLL_ALLREDUCE: elements = call->count; break;
	case RDT_COLL_BROADCAST: elements = call->count; break;
	case RDT_COLL_REDUCE: elements = input || root ? call->count : 0; break;
	case RDT_COLL_SEND:
		elements = comm->rank == (input ? call->root : call->peer) ? call->count : 0;
		break;
	case RDT_COLL_REDUCE_SCATTER:
		elements = input ? sum(call, call->counts, comm->size)
				 : count_of(call, call->counts, comm->rank);
		break;
	case RDT_COLL_ALLGATHER:
		elements = input ? count_of(call, call->counts, comm->rank)
				 : sum(call, call->counts, comm->size);
		break;
	case RDT_COLL_SCATTER:
		elements = !input ? count_of(call, call->counts, comm->rank)
			   : root ? sum(call, call->counts, comm->size)
				  : 0;
		break;
	case RDT_COLL_GATHER:
		elements = input  ? count_of(call, call->counts, comm->rank)
			   : root ? sum(call, call->counts, comm->size)
				  : 0;
		break;
	case RDT_COLL_ALLTOALL:
		elements = sum(call, input ? call->counts : call->out_counts, comm->size);
		break;
	case RDT_COLL_BARRIER:
	case RDT_COLL_COUNT: return 0;
	}
	return elements * rdt_type_size(call->type);
}

/* Offsets and lengths of whole blocks, one after another. */
static int lay_out(struct rdt_shaper *s, const size_t *counts, uint64_t **offset, uint64_t **total,
		   uint64_t **part)
{
	size_t n = (size_t)s->comm->size;
	uint64_t at = 0;

	*offset = calloc(3 * n, sizeof(**offset));
	if (!*offset)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for the blocks of %zu ranks", n);
	*total = *offset + n;
	*part = *offset + 2 * n;
	for (int i = 0; i < s->comm->size; i++) {
		(*offset)[i] = at;
		(*total)[i] = count_of(s->call, counts, i) * s->elem;
		at += (*total)[i];
		if ((*total)[i] > s->longest)
			s->longest = (*total)[i];
	}
	return 0;
}

static uint64_t part_of(const struct rdt_shaper *s, uint64_t total, uint64_t window)
{
	uint64_t begin = window * s->window_bytes;

	return total <= begin			 ? 0
	       : total - begin < s->window_bytes ? total - begin
						 : s->window_bytes;
}

/* The first window after `window` in which a block of `total` bytes has another part. */
static uint64_t change_of(const struct rdt_shaper *s, uint64_t total, uint64_t window)
{
	uint64_t full = s->window_bytes ? total / s->window_bytes : 0;

	if (window < full)
		return full;
	return part_of(s, total, window) ? window + 1 : s->n_windows;
}

/* Cuts the blocks at window s->first, and finds out how long it stays like this. */
static void cut(struct rdt_shaper *s)
{
	enum rdt_collective c = s->call->collective;

	s->end = change_of(s, s->longest, s->first);
	s->shape.bytes = 0;
	s->shape.max_block = 0;
	if (!has_in(c) && !has_out(c)) {
		s->shape.bytes = part_of(s, s->longest, s->first);
		return;
	}
	s->shape.max_block = part_of(s, s->longest, s->first);
	for (int i = 0; i < s->comm->size; i++)
		for (int out = 0; out < 2; out++) {
			const uint64_t *total = out ? s->out_total : s->in_total;
			uint64_t *part = out ? s->out_part : s->in_part;
			uint64_t change;

			if (!total)
				continue;
			part[i] = part_of(s, total[i], s->first);
			change = change_of(s, total[i], s->first);
			if (change < s->end)
				s->end = change;
		}
}

int rdt_shaper_open(struct rdt_shaper *s, const rdt_comm *comm, const struct rdt_call *call,
		    const struct rdt_agreed *agreed)
{
	bool barrier = call->collective == RDT_COLL_BARRIER;
	int status = 0;

	*s = (struct rdt_shaper){
		.comm = comm,
		.call = call,
		.elem = barrier ? 1 : rdt_type_size(call->type),
		.group = { .rank = comm->rank, .size = comm->size },
	};
	if (call->collective == RDT_COLL_SEND) {
		s->pair[0] = call->root;
		s->pair[1] = call->peer;
		s->group = (struct rdt_group){ comm->rank == call->peer, 2, s->pair };
	}
	if (has_in(call->collective))
		status = lay_out(s, call->counts, &s->in_offset, &s->in_total, &s->in_part);
	if (!status && has_out(call->collective))
		status = lay_out(s, out_counts(call), &s->out_offset, &s->out_total, &s->out_part);
	if (status) {
		rdt_shaper_close(s);
		return status;
	}
	s->shape = (struct rdt_shape){
		.collective = call->collective,
		.elem_size = (uint32_t)s->elem,
		.root = call->root,
		.in = { s->in_offset, s->in_part },
		.out = { s->out_offset, s->out_part },
		.remote_output = agreed->remote_output,
		.ragged = call->counts != NULL,
		.mapped = agreed->mapped,
		.in_place = rdt_call_is_exchange_in_place(call),
		/* What one rank reads in another's memory comes with no hash. */
		.host = call->collective == RDT_COLL_SEND || comm->config.check ? NULL : comm->host,
	};
	if (!has_in(call->collective) && !has_out(call->collective)) {
		s->longest = barrier ? 0 : call->count * s->elem;
		/* Both ends of a wire have fixed slots. */
		s->window_bytes =
			call->collective == RDT_COLL_SEND
				? RDT_TRANSFER_WINDOW
				: rdt_window_bytes(comm->config.window, s->longest, s->elem);
	} else if (call->longest) {
		/* All ranks must cut alike, and only this is known to all. */
		s->longest = call->longest;
		s->window_bytes = rdt_alltoallv_window(comm, s->elem);
	} else {
		s->window_bytes =
			rdt_window_block(comm->config.window, s->longest * (uint64_t)comm->size,
					 s->elem, (uint64_t)comm->size);
	}
	s->n_windows = s->longest <= s->window_bytes
			       ? 1
			       : (s->longest + s->window_bytes - 1) / s->window_bytes;
	cut(s);
	return 0;
}

bool rdt_shaper_next(struct rdt_shaper *s)
{
	if (s->end >= s->n_windows)
		return false;
	s->first = s->end;
	cut(s);
	return true;
}

void rdt_shaper_close(struct rdt_shaper *s)
{
	free(s->in_offset);
	free(s->out_offset);
}
