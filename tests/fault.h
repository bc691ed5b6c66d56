/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A transport that breaks on purpose: it stands around shm and verbs alike, passes everything on,
 * and does one wrong thing at one step. A step is a put. The linker puts it in the place of the
 * real ones (--wrap of rdt_shm_ops and rdt_rails_ops), so the library has no hook for it.
 */
#ifndef RDT_TEST_FAULT_H
#define RDT_TEST_FAULT_H

#include <stdbool.h>
#include <stdint.h>

enum fault_kind {
	FAULT_NONE,   /* only count */
	FAULT_DROP,   /* the put is not made, and nobody is told */
	FAULT_DELAY,  /* there is no room for it, for a while */
	FAULT_DOUBLE, /* its notification comes twice */
	FAULT_FLIP,   /* one bit of it changes on the way; a put of nothing is let pass */
	FAULT_ERROR,  /* it is not made, and its completion says so */
	FAULT_DEATH,  /* the process ends before it, by SIGKILL */
};

struct fault {
	enum fault_kind kind;
	uint64_t step; /* from 0, counted from fault_arm() */
	uint64_t seed; /* which bit, how long */
};

/* From now on; NULL: nothing more. */
void fault_arm(const struct fault *fault);
/* Puts since then. */
uint64_t fault_steps(void);
/* Has it happened? */
bool fault_happened(void);

const char *fault_name(enum fault_kind kind);

/* Numbers from a seed, one after another; each below n. */
uint64_t fault_dice(uint64_t *seed, uint64_t n);

#endif
