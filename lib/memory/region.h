/* SPDX-License-Identifier: BSD-3-Clause */
/* Which registered memory holds an address: a table sorted by base. Regions do not overlap. */
#ifndef RDT_REGION_H
#define RDT_REGION_H

#include <stdbool.h>
#include <stddef.h>

#include "alloc.h"

#define RDT_REGION_HANDLES 2

struct rdt_region; /* a transport's own record of it */
struct rdt_comm;

/* The public rdt_mem. */
struct rdt_mem {
	struct rdt_comm *comm;
	char *base;
	size_t bytes;
	struct rdt_block block; /* of rdt_alloc; block.base is NULL for the user's own memory */
	struct rdt_region
		*handle[RDT_REGION_HANDLES]; /* by transport; NULL: not registered there */
};

struct rdt_mem_table {
	struct rdt_mem **entries;
	size_t n, capacity;
};

/* INVALID when it overlaps what is there, NOMEM. */
int rdt_mem_table_add(struct rdt_mem_table *table, struct rdt_mem *mem);
void rdt_mem_table_remove(struct rdt_mem_table *table, const struct rdt_mem *mem);
/* The entry that holds all of [ptr, ptr + bytes), or NULL. */
struct rdt_mem *rdt_mem_table_find(const struct rdt_mem_table *table, const void *ptr,
				   size_t bytes);
void rdt_mem_table_free(struct rdt_mem_table *table);

#endif
