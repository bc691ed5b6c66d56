/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The n parts of a buffer, one for each rank of the group, whichever way they are given: a vector
 * divided evenly (blocks.h), or the blocks of a layout. So that a phase of an algorithm is written
 * once and serves the allreduce as well as the collectives that have blocks.
 */
#ifndef RDT_PARTS_H
#define RDT_PARTS_H

#include "blocks.h"
#include "schedule.h"

struct rdt_parts {
	int n;
	const struct rdt_layout *layout; /* NULL: `even` */
	struct rdt_blocks even;
	uint64_t slot; /* room for any one part, the same on all ranks */
};

static inline struct rdt_parts rdt_parts_of_vector(int size, const struct rdt_shape *shape)
{
	struct rdt_parts parts = { .n = size };

	parts.even = (struct rdt_blocks){ shape->bytes / shape->elem_size, (uint64_t)size,
					  shape->elem_size };
	parts.slot = rdt_block_max(&parts.even);
	return parts;
}

static inline struct rdt_parts rdt_parts_of_layout(int size, const struct rdt_shape *shape,
						   const struct rdt_layout *layout)
{
	return (struct rdt_parts){ .n = size, .layout = layout, .slot = shape->max_block };
}

static inline uint64_t rdt_part_offset(const struct rdt_parts *parts, int i)
{
	return parts->layout ? parts->layout->offset[i]
			     : rdt_block_offset(&parts->even, (uint64_t)i);
}

static inline uint64_t rdt_part_bytes(const struct rdt_parts *parts, int i)
{
	return parts->layout ? parts->layout->length[i]
			     : rdt_block_bytes(&parts->even, (uint64_t)i);
}

/* Bytes of `count` parts from `first` on, around the ring. */
static inline uint64_t rdt_parts_bytes(const struct rdt_parts *parts, int first, int count)
{
	uint64_t bytes = 0;

	for (int i = 0; i < count; i++)
		bytes += rdt_part_bytes(parts, (first + i) % parts->n);
	return bytes;
}

/* Part i where it belongs in a buffer that has all of them. */
static inline struct rdt_span rdt_part_span(const struct rdt_parts *parts, enum rdt_buffer buffer,
					    int rank, int i)
{
	return rdt_span(buffer, rank, rdt_part_offset(parts, i), rdt_part_bytes(parts, i));
}

#endif
