/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Notifications: how a put says which counter it raises.
 *
 * A *channel* is a slot (which plan) and a lane within it. The receiver keeps one monotonic 32-bit
 * counter for each (peer, channel); it wraps around, so compare by difference. On verbs the channel
 * travels in the immediate of an RDMA write:
 *
 *	31                    12 11        4 3      0
 *	+-----------------------+-----------+--------+
 *	| reserved, zero        | slot      | lane   |
 *	+-----------------------+-----------+--------+
 */
#ifndef RDT_NOTIFY_H
#define RDT_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

#define RDT_SLOTS 256	  /* plans of one communicator at a time */
#define RDT_SLOT_LANES 16 /* lanes of one plan, over all its concurrent windows */
#define RDT_CHANNELS (RDT_SLOTS * RDT_SLOT_LANES)

static inline uint32_t rdt_channel(unsigned slot, unsigned lane)
{
	return slot * RDT_SLOT_LANES + lane;
}

/* Has the wrapping counter `now` reached `target`? True for up to 2^31 ahead. */
static inline bool rdt_reached(uint32_t now, uint32_t target)
{
	return (int32_t)(now - target) >= 0;
}

#endif
