/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of registered memory; see region.h. */
#include "region.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"

/* The first entry that begins after ptr. */
static size_t upper_bound(const struct rdt_mem_table *table, const void *ptr)
{
	size_t low = 0, high = table->n;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if ((uintptr_t)table->entries[middle]->base <= (uintptr_t)ptr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int rdt_mem_table_add(struct rdt_mem_table *table, struct rdt_mem *mem)
{
	size_t at = upper_bound(table, mem->base);
	const struct rdt_mem *other = NULL;

	if (at > 0 && table->entries[at - 1]->base + table->entries[at - 1]->bytes > mem->base)
		other = table->entries[at - 1];
	else if (at < table->n && mem->base + mem->bytes > table->entries[at]->base)
		other = table->entries[at];
	if (other)
		return rdt_err(RDT_ERR_INVALID,
			       "memory %p of %zu bytes overlaps %p of %zu bytes, which is "
			       "registered already; "
			       "register a buffer once, or deregister the old registration first",
			       (void *)mem->base, mem->bytes, (void *)other->base, other->bytes);
	if (table->n == table->capacity) {
		size_t capacity = table->capacity ? 2 * table->capacity : 16;
		struct rdt_mem **entries = realloc(table->entries, capacity * sizeof(*entries));

		if (!entries)
			return rdt_err(RDT_ERR_NOMEM,
				       "out of memory for the table of registered memory");
		table->entries = entries;
		table->capacity = capacity;
	}
	memmove(&table->entries[at + 1], &table->entries[at],
		(table->n - at) * sizeof(*table->entries));
	table->entries[at] = mem;
	table->n++;
	return 0;
}

void rdt_mem_table_remove(struct rdt_mem_table *table, const struct rdt_mem *mem)
{
	size_t at = upper_bound(table, mem->base);

	if (at == 0 || table->entries[at - 1] != mem)
		return;
	table->n--;
	memmove(&table->entries[at - 1], &table->entries[at],
		(table->n - (at - 1)) * sizeof(*table->entries));
}

struct rdt_mem *rdt_mem_table_find(const struct rdt_mem_table *table, const void *ptr, size_t bytes)
{
	size_t at = upper_bound(table, ptr);
	struct rdt_mem *mem;
	size_t before;

	if (at == 0)
		return NULL;
	mem = table->entries[at - 1];
	before = (size_t)((const char *)ptr - mem->base);
	return before <= mem->bytes && bytes <= mem->bytes - before ? mem : NULL;
}

void rdt_mem_table_free(struct rdt_mem_table *table)
{
	free(table->entries);
	*table = (struct rdt_mem_table){ 0 };
}
