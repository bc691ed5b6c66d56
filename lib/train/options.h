/* SPDX-License-Identifier: BSD-3-Clause */
/* Structs of options that begin with their size, and may be of another version's length. */
#ifndef RDT_TRAIN_OPTIONS_H
#define RDT_TRAIN_OPTIONS_H

#include <string.h>

#include <rdtrain/rdtrain.h>

/*
 * Copies the struct `from` of a caller to `to` of `size` bytes. A caller built against an older,
 * shorter one leaves the newer fields at zero. INVALID: it is NULL, or its size cannot be meant.
 */
static inline int rdt_options_copy(const char *name, void *to, size_t size, const void *from)
{
	size_t given = 0;

	if (from)
		memcpy(&given, from, sizeof(given));
	if (given < sizeof(given) || given > 65536)
		return rdt_set_error(RDT_ERR_INVALID,
				     from ? "%s.size is not that of a struct; set it to "
					    "sizeof(struct %s)"
					  : "%s is NULL; pass a struct %s",
				     name, name);
	memset(to, 0, size);
	memcpy(to, from, given < size ? given : size);
	return 0;
}

#endif
