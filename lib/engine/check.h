/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RDTRAIN_CHECK=1: are the data that arrive those that were sent?
 *
 * Every notification is announced by a *record* in the receiver's SCRATCH: what was put where, its
 * hash, and the number of the notification on its channel. The data go first, without a
 * notification; the put of the record notifies, on the same channel, so that both are there when
 * it is seen. The receiver looks at the record where the schedule waits, which is before anything
 * uses the data, so a flipped bit, a lost write, and a notification that is lost or comes twice
 * end the operation with RDT_ERR_CORRUPT.
 *
 * Each lane of each link has a ring of records. Peers are at most one run ahead of this rank, as
 * the verifier proves; a ring holds the notifications of two runs. No schedule changes.
 */
#ifndef RDT_CHECK_H
#define RDT_CHECK_H

#include "program.h"

struct rdt_record {
	uint64_t data;	 /* hash of the data; 0 where there are none */
	uint64_t place;	 /* bytes from the beginning of the buffer; the buffer in the top byte */
	uint64_t length; /* bytes; 0: a bare notification */
	uint32_t number; /* of the notification, from 0 */
	uint32_t self;	 /* hash of the fields before */
};

struct rdt_check {
	int rank;		/* this one, for sentences */
	uint64_t offset;	/* of the records of this rank's peers, in its own SCRATCH */
	uint32_t ring;		/* records for each lane of a link; a power of two */
	uint32_t *sent, *taken; /* [link * lanes + lane]: notifications so far */
	/* [lane]: the put that found no room; its hash need not be formed again. */
	struct rdt_pending {
		enum { RDT_NOTHING, RDT_HASHED, RDT_DATA_OUT } state;
		struct rdt_record record;
	} * pending;
};

/* How this program's records are indexed; in `ring`s of them. */
static inline uint64_t rdt_record_ring(const struct rdt_program *p, uint32_t link, uint32_t lane)
{
	return (uint64_t)link * (uint64_t)(p->n_slots * p->n_lanes) + lane;
}

/* A hash of any bytes. */
uint64_t rdt_hash(const void *bytes, size_t length);

/* As put() of the transport, into `place` of `buffer` of the peer. */
int rdt_check_put(struct rdt_program *p, uint16_t link, unsigned lane, const struct rdt_put *put,
		  uint8_t buffer, uint64_t place);
/* What carried the data, in words: a device and both addresses, or "shared memory". */
void rdt_check_way(const struct rdt_link *link, char *text, size_t size);
/* `count` more notifications have come: 0, or RDT_ERR_CORRUPT. */
int rdt_check_arrived(struct rdt_program *p, uint16_t link, unsigned lane, uint32_t count);

#endif
