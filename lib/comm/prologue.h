/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The prologue of plain calls: before an operation, all ranks tell each other where the buffers of
 * this call are, so that peers may reach them although nobody knows what another rank passed last
 * time.
 *
 * The plan behind a plain call goes through scratch and suits any memory. Where the buffers of the
 * first call could be reached by peers on all ranks, and the model says that it pays, it gets two
 * parts: the exchange of these offers (a small allgather), and `open`, a second plan for the same
 * call that works in everybody's buffers. Each operation runs the exchange and then one of the two,
 * whichever suits what was offered, which all ranks see alike.
 */
#ifndef RDT_COMM_PROLOGUE_H
#define RDT_COMM_PROLOGUE_H

#include "comm.h"

#define RDT_OFFER_OUTPUT 1u /* peers may put into OUTPUT */
#define RDT_OFFER_MAPPED 2u /* INPUT and OUTPUT are of rdt_alloc */

/* What this rank can offer of a call's buffers: flags. A buffer that it does not have stands in
 * nobody's way. */
uint64_t rdt_offer_flags(rdt_comm *comm, const struct rdt_call *call);

/* What plans over the buffers may assume when all ranks offer `flags`. */
struct rdt_agreed rdt_offer_agreed(uint64_t flags);

/* Gives `plan` its parts where they pay; collective, like making a plan. hint: what all ranks
 * offered in the first call. */
int rdt_prologue_make(rdt_plan *plan, uint64_t hint);
void rdt_prologue_free(rdt_plan *plan);

/* Forgets the peers' memory, when all plans are gone. */
void rdt_prologue_close(rdt_comm *comm);

/* Begins the operation whose buffers are bound to `plan` already. */
void rdt_prologue_begin(rdt_plan *plan, const struct rdt_call *call);

/* A part is through: goes on with the operation. */
void rdt_prologue_part_over(rdt_plan *part);

#endif
