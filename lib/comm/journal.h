/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The journal: do all ranks make the same calls? Private to lib/comm.
 *
 * Every rank writes down each operation that it begins, under its number in the sequence of the
 * communicator's operations, in memory that its peers may read. That costs a store. A rank that has
 * waited for some time reads, one-sided, what those that it waits for have written under the same
 * number: another call is RDT_ERR_MISMATCH, naming what both said. So a mismatch is told even when
 * the other rank is busy elsewhere, and nothing travels while all is well. That no wrong sum can
 * come of a mismatch is the plans' business: a notification belongs to a plan, and a plan to a
 * call.
 *
 * When the rendezvous is gone the same reads tell that a host has fallen silent, since nobody
 * answers them, and what a rank of this host has failed by.
 */
#ifndef RDT_JOURNAL_H
#define RDT_JOURNAL_H

#include "comm.h"

enum rdt_journal_form {
	RDT_FORM_CALL,	 /* a plain call, waiting or not */
	RDT_FORM_MAKE,	 /* a plan is made */
	RDT_FORM_START,	 /* a plan is started */
	RDT_FORM_SPLIT,	 /* rdt_comm_split */
	RDT_FORM_WINDOW, /* rdt_window_create */
};

/* Makes this rank's journal and tells where it is. */
int rdt_journal_open(rdt_comm *comm);
void rdt_journal_close(rdt_comm *comm);

/* Makes the journal of a connected peer readable from here. */
int rdt_journal_reach(rdt_comm *comm, int rank, int64_t deadline);
/* The same without waiting for it: it is there, when the peer is, or it is for another time. */
int rdt_journal_look(rdt_comm *comm, int rank);

/* Writes the next operation down; its number. `plan` is that of FORM_START. */
uint64_t rdt_journal_note(rdt_comm *comm, const struct rdt_call *call, enum rdt_journal_form form,
			  uint64_t plan);

/*
 * For a rank that waits: compares, now and then, with the ranks that it waits for. Negative: the
 * communicator has failed.
 */
int rdt_journal_compare(rdt_comm *comm);
/* The rendezvous is gone: from now on it tells nothing, so looks are closer together. */
void rdt_journal_hurry(rdt_comm *comm);
/* This rank has failed, and without the rendezvous: the others of its host find here why. */
void rdt_journal_last_words(rdt_comm *comm);
/* Without the rendezvous: has a rank of this host failed? Negative: so this communicator has. */
int rdt_journal_hear(rdt_comm *comm);
/* When to come again for that (rdt_now() time); INT64_MAX: there is nothing to compare. */
int64_t rdt_journal_next(const rdt_comm *comm);

#endif
