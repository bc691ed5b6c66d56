/* SPDX-License-Identifier: BSD-3-Clause */
/* How a vector is divided among ranks, once for all algorithms: n blocks of whole elements whose
 * lengths differ by one element at most, the longer ones first. */
#ifndef RDT_BLOCKS_H
#define RDT_BLOCKS_H

#include <stdint.h>

struct rdt_blocks {
	uint64_t count; /* elements */
	uint64_t n;	/* blocks */
	uint64_t elem;	/* bytes of an element */
};

/* Where block i begins, in bytes; i == n gives the end. */
static inline uint64_t rdt_block_offset(const struct rdt_blocks *b, uint64_t i)
{
	uint64_t longer = b->count % b->n;

	return (b->count / b->n * i + (i < longer ? i : longer)) * b->elem;
}

static inline uint64_t rdt_block_bytes(const struct rdt_blocks *b, uint64_t i)
{
	return rdt_block_offset(b, i + 1) - rdt_block_offset(b, i);
}

/* No block is longer. */
static inline uint64_t rdt_block_max(const struct rdt_blocks *b)
{
	return rdt_block_bytes(b, 0);
}

#endif
