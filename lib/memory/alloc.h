/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that other processes of this host can map: an anonymous file (memfd) mapped shared, with
 * huge pages advised. Knows nothing of transports.
 */
#ifndef RDT_ALLOC_H
#define RDT_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rdt_block {
	void *base;
	size_t bytes; /* mapped: what was asked for, rounded up to pages */
	int memfd;
};

/* Bytes that this machine can still give, swap included; UINT64_MAX when it does not say. */
uint64_t rdt_memory_available(void);

/*
 * Zeroed, page-aligned, backed from the start (a full machine is NOMEM here, not SIGBUS later). The
 * file is this user's alone and cannot change its size; unless others may `write`, it can be mapped
 * for writing here and by nobody else. NOMEM, SYSTEM.
 */
int rdt_block_map(size_t bytes, bool write, struct rdt_block *block);
void rdt_block_unmap(struct rdt_block *block);

#endif
