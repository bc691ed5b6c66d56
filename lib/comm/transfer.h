/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Send and receive. Private to lib/comm.
 *
 * Two ranks that send to each other for the first time open a pair: two wires, one in each
 * direction, each a small plan with slots in the receiver's memory. Opening waits for nobody: it
 * goes on in progress, and requests queue up meanwhile. Messages of a wire run one after another.
 *
 * Each message begins with a header, put into the receiver's memory before the data: its number,
 * count and type. The receiver compares it with its own call when all data is there, or when it has
 * waited for some time; so a receive never succeeds with another message than it asked for.
 */
#ifndef RDT_TRANSFER_H
#define RDT_TRANSFER_H

#include "comm.h"

/* Slots that belong to wires: from the lower rank to the higher, and back. */
#define RDT_WIRE_SLOTS 2
/* Bytes behind the receiver's slots: two headers, used in turn. */
#define RDT_WIRE_HEADERS 64

int rdt_transfer_start(struct rdt_request *request);
/* Goes on with opening pairs: how many things happened, or negative: failed. */
int rdt_transfer_progress(rdt_comm *comm);
/* When to come again for that (rdt_now() time); INT64_MAX: nothing is being opened. */
int64_t rdt_transfer_next(const rdt_comm *comm);
/* Does a send or receive wait for that rank to open its side? */
bool rdt_transfer_waits_for(const rdt_comm *comm, int rank);
/* A request of the wire begins: 0 or negative. */
int rdt_transfer_begin(rdt_plan *wire);
/* Compares the header of the message that runs, if it has come. Negative: the communicator has
 * failed. */
int rdt_transfer_check(rdt_plan *wire);
/* Is this plan a wire on which this rank sends? */
bool rdt_wire_sends(const rdt_plan *plan);
/* Frees the pairs; their plans go with all plans. */
void rdt_transfer_close(rdt_comm *comm);

#endif
