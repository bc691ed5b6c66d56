/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How an operation is cut into windows; on all ranks alike. The communicator binds by this rule and
 * the simulator predicts by it.
 *
 * A window is small enough that several are under way in the caches and on the link, and large
 * enough that a step's fixed cost does not show.
 */
#ifndef RDT_WINDOW_H
#define RDT_WINDOW_H

#include <stdint.h>

#define RDT_WINDOW_MAX ((uint64_t)512 << 10)
#define RDT_WINDOW_MIN ((uint64_t)32 << 10)
#define RDT_BLOCK_WINDOW_MIN ((uint64_t)4 << 10)
#define RDT_WINDOW_SLOTS 4  /* windows under way at a time, at most */
#define RDT_WINDOW_LANES 16 /* lanes of all slots together, at most */

static inline uint64_t rdt_window_round(uint64_t window, uint64_t elem)
{
	uint64_t unit = 64 * elem;

	return window < unit ? unit : window / unit * unit;
}

/* Bytes of one window of an operation of `bytes` in all, a multiple of 64 elements. `wanted` is a
 * setting of the user's; 0: none. */
static inline uint64_t rdt_window_bytes(uint64_t wanted, uint64_t bytes, uint64_t elem)
{
	uint64_t window = wanted;

	if (!window) {
		window = bytes / RDT_WINDOW_SLOTS;
		if (window < RDT_WINDOW_MIN)
			window = RDT_WINDOW_MIN;
		if (window > RDT_WINDOW_MAX)
			window = RDT_WINDOW_MAX;
	}
	return rdt_window_round(window, elem);
}

/* Where buffers are divided into blocks for `ranks`: the part of a window that each block has. */
static inline uint64_t rdt_window_block(uint64_t wanted, uint64_t bytes, uint64_t elem,
					uint64_t ranks)
{
	uint64_t window = rdt_window_bytes(wanted, bytes, elem) / ranks;

	return rdt_window_round(window < RDT_BLOCK_WINDOW_MIN ? RDT_BLOCK_WINDOW_MIN : window,
				elem);
}

#endif
