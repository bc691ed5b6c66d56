/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What each collective means: which buffers a rank has, how long they are, where they lie when the
 * caller works in place, and what OUTPUT holds in the end. The verifier judges by it, and nothing
 * else knows it all in one place. Elements are counted from the beginning of a buffer.
 */
#ifndef RDT_MEANING_H
#define RDT_MEANING_H

#include "schedule.h"

/* Does it combine contributions? Then results are made FINAL. */
bool rdt_collective_reduces(enum rdt_collective collective);
/* Has it a root? */
bool rdt_collective_rooted(enum rdt_collective collective);
/* Are its INPUT or OUTPUT divided in blocks? */
bool rdt_collective_blocks(enum rdt_collective collective);
/* Can OUTPUT be INPUT, or one of its blocks, or the other way round? */
bool rdt_collective_in_place(enum rdt_collective collective);

/* Bytes from the beginning of `rank`'s INPUT or OUTPUT to the end of its last block. */
uint64_t rdt_meaning_bytes(const struct rdt_shape *shape, int size, int rank,
			   enum rdt_buffer buffer);

/* In place: how far INPUT lies behind OUTPUT, in bytes; negative: before it. */
int64_t rdt_meaning_distance(const struct rdt_shape *shape, int rank);

/* What one element of OUTPUT is made of. */
struct rdt_meaning {
	int rank;	  /* whose contribution it is; -1: the sum of all ranks' */
	uint64_t element; /* which element of that rank's INPUT (broadcast: of the root's OUTPUT) */
};

/*
 * The meaning of `rank`'s OUTPUT at `element`; false for elements that belong to no block.
 * `shapes` are those of all ranks (an all-to-all has to know where the sender's block lies).
 */
bool rdt_meaning_of(const struct rdt_shape *const *shapes, int size, int rank, uint64_t element,
		    struct rdt_meaning *out);

#endif
