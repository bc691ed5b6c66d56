/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RLIMIT_MEMLOCK: how much memory this process may lock for a device, how much it has locked, and
 * the sentence for a user whose limit is too low. Registers nothing itself.
 */
#ifndef RDT_MEMLOCK_H
#define RDT_MEMLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rdt_memlock {
	uint64_t limit;	 /* bytes, the soft limit; UINT64_MAX: unlimited */
	uint64_t locked; /* bytes pinned by this process already (VmPin) */
	bool exempt;	 /* CAP_IPC_LOCK: the kernel does not look at the limit */
};

/* Reads both files anew: the limit can be changed from outside (prlimit). Never fails; what cannot
 * be read counts as nothing locked and not exempt. */
void rdt_memlock_read(struct rdt_memlock *memlock);

/* The pages that registering [ptr, ptr + length) pins, in bytes. */
uint64_t rdt_memlock_need(const void *ptr, size_t length, size_t page);

/* Would the kernel refuse to pin `need` more bytes, by the limit alone (exempt or not)? */
bool rdt_memlock_exceeded(const struct rdt_memlock *memlock, uint64_t need);

/* RDT_ERR_MEMLOCK with the limit, the need and the remedy. `what` names the memory: "a region of
 * 4096 bytes". */
int rdt_memlock_err(const struct rdt_memlock *memlock, uint64_t need, const char *what);

#endif
