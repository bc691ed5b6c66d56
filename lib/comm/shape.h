/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a call looks like to the emitters (collectives/schedule.h), window by window. Private to
 * lib/comm.
 *
 * A vector is cut into windows of `window_bytes`; where a buffer is divided into blocks, each block
 * is cut alike, so that window w holds bytes [w * window_bytes, (w + 1) * window_bytes) of every
 * block that is long enough. Windows whose blocks have the same lengths share a schedule.
 */
#ifndef RDT_COMM_SHAPE_H
#define RDT_COMM_SHAPE_H

#include "collectives/window.h"

#include "comm.h"

/* Bytes of one window of a send. */
#define RDT_TRANSFER_WINDOW ((uint64_t)128 << 10)

struct rdt_shaper {
	const rdt_comm *comm;
	const struct rdt_call *call;
	uint64_t elem;
	uint64_t window_bytes, n_windows;
	uint64_t longest; /* the vector, or the longest block of any rank; bytes */
	/* [size] each, where the collective has them: whole blocks, and their parts in this window
	 */
	uint64_t *in_offset, *in_total, *in_part, *out_offset, *out_total, *out_part;

	/* the next kind of window */
	uint64_t first; /* the first window of this kind */
	uint64_t end;	/* the first window of another kind */
	struct rdt_group group;
	int pair[2]; /* send: group.map */
	struct rdt_shape shape;
};

/* NOMEM. Works on the first kind of window at once; an operation has at least one window. */
int rdt_shaper_open(struct rdt_shaper *s, const rdt_comm *comm, const struct rdt_call *call,
		    const struct rdt_agreed *agreed);
/* Goes on to the next kind; false when there is none. */
bool rdt_shaper_next(struct rdt_shaper *s);
void rdt_shaper_close(struct rdt_shaper *s);

/* Bytes from the beginning of this rank's INPUT or OUTPUT to its end; 0: it has none. */
uint64_t rdt_call_bytes(const rdt_comm *comm, const struct rdt_call *call, enum rdt_buffer buffer);

/* The window of plain all-to-alls with counts, whose lengths change from call to call; bytes. */
uint64_t rdt_alltoallv_window(const rdt_comm *comm, uint64_t elem);

#endif
