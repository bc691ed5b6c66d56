/* SPDX-License-Identifier: BSD-3-Clause */
/* What each collective means; see meaning.h. */
#include "meaning.h"

bool rdt_collective_reduces(enum rdt_collective collective)
{
	return collective == RDT_COLL_ALLREDUCE || collective == RDT_COLL_REDUCE_SCATTER ||
	       collective == RDT_COLL_REDUCE;
}

bool rdt_collective_rooted(enum rdt_collective collective)
{
	return collective == RDT_COLL_BROADCAST || collective == RDT_COLL_REDUCE ||
	       collective == RDT_COLL_GATHER || collective == RDT_COLL_SCATTER;
}

bool rdt_collective_blocks(enum rdt_collective collective)
{
	return collective == RDT_COLL_REDUCE_SCATTER || collective == RDT_COLL_ALLGATHER ||
	       collective == RDT_COLL_GATHER || collective == RDT_COLL_SCATTER ||
	       collective == RDT_COLL_ALLTOALL;
}

bool rdt_collective_in_place(enum rdt_collective collective)
{
	return collective != RDT_COLL_BROADCAST && collective != RDT_COLL_BARRIER &&
	       collective != RDT_COLL_SEND;
}

static uint64_t end_of(const struct rdt_layout *layout, int size)
{
	uint64_t end = 0;

	for (int i = 0; i < size; i++)
		if (layout->length[i] && layout->offset[i] + layout->length[i] > end)
			end = layout->offset[i] + layout->length[i];
	return end;
}

static uint64_t input_bytes(const struct rdt_shape *shape, int size, int rank)
{
	switch (shape->collective) {
	case RDT_COLL_ALLREDUCE:
	case RDT_COLL_REDUCE: return shape->bytes;
	case RDT_COLL_SEND: return rank == 0 ? shape->bytes : 0;
	case RDT_COLL_REDUCE_SCATTER:
	case RDT_COLL_ALLTOALL: return end_of(&shape->in, size);
	case RDT_COLL_SCATTER: return rank == shape->root ? end_of(&shape->in, size) : 0;
	case RDT_COLL_ALLGATHER:
	case RDT_COLL_GATHER: return shape->out.length[rank];
	case RDT_COLL_BROADCAST:
	case RDT_COLL_BARRIER:
	case RDT_COLL_COUNT: break;
	}
	return 0;
}

static uint64_t output_bytes(const struct rdt_shape *shape, int size, int rank)
{
	switch (shape->collective) {
	case RDT_COLL_ALLREDUCE:
	case RDT_COLL_BROADCAST: return shape->bytes;
	case RDT_COLL_REDUCE: return rank == shape->root ? shape->bytes : 0;
	case RDT_COLL_SEND: return rank == 1 ? shape->bytes : 0;
	case RDT_COLL_REDUCE_SCATTER:
	case RDT_COLL_SCATTER: return shape->in.length[rank];
	case RDT_COLL_GATHER: return rank == shape->root ? end_of(&shape->out, size) : 0;
	case RDT_COLL_ALLGATHER:
	case RDT_COLL_ALLTOALL: return end_of(&shape->out, size);
	case RDT_COLL_BARRIER:
	case RDT_COLL_COUNT: break;
	}
	return 0;
}

uint64_t rdt_meaning_bytes(const struct rdt_shape *shape, int size, int rank,
			   enum rdt_buffer buffer)
{
	return buffer == RDT_INPUT ? input_bytes(shape, size, rank)
				   : output_bytes(shape, size, rank);
}

int64_t rdt_meaning_distance(const struct rdt_shape *shape, int rank)
{
	switch (shape->collective) {
	case RDT_COLL_REDUCE_SCATTER: return -(int64_t)shape->in.offset[rank];
	case RDT_COLL_SCATTER: return rank == shape->root ? -(int64_t)shape->in.offset[rank] : 0;
	case RDT_COLL_ALLGATHER: return (int64_t)shape->out.offset[rank];
	case RDT_COLL_GATHER: return rank == shape->root ? (int64_t)shape->out.offset[rank] : 0;
	default: return 0;
	}
}

/* Which block of the layout holds this element, and where in it; false: none. */
static bool find(const struct rdt_layout *layout, int size, uint64_t elem, uint64_t element,
		 int *block, uint64_t *within)
{
	uint64_t at = element * elem;

	for (int i = 0; i < size; i++)
		if (at >= layout->offset[i] && at - layout->offset[i] < layout->length[i]) {
			*block = i;
			*within = element - layout->offset[i] / elem;
			return true;
		}
	return false;
}

bool rdt_meaning_of(const struct rdt_shape *const *shapes, int size, int rank, uint64_t element,
		    struct rdt_meaning *out)
{
	const struct rdt_shape *shape = shapes[rank];
	uint64_t elem = shape->elem_size;

	*out = (struct rdt_meaning){ -1, element };
	switch (shape->collective) {
	case RDT_COLL_ALLREDUCE:
	case RDT_COLL_REDUCE: return true;
	case RDT_COLL_BROADCAST: out->rank = shape->root; return true;
	case RDT_COLL_SEND: out->rank = 0; return true;
	case RDT_COLL_REDUCE_SCATTER: out->element += shape->in.offset[rank] / elem; return true;
	case RDT_COLL_SCATTER:
		out->rank = shape->root;
		out->element += shape->in.offset[rank] / elem;
		return true;
	case RDT_COLL_ALLGATHER:
	case RDT_COLL_GATHER:
		return find(&shape->out, size, elem, element, &out->rank, &out->element);
	case RDT_COLL_ALLTOALL:
		if (!find(&shape->out, size, elem, element, &out->rank, &out->element))
			return false;
		out->element += shapes[out->rank]->in.offset[rank] / elem;
		return true;
	case RDT_COLL_BARRIER:
	case RDT_COLL_COUNT: break;
	}
	return false;
}
