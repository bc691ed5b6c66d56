/* SPDX-License-Identifier: BSD-3-Clause */
/* Do all ranks hold the same bytes? By a hash of 128 bits; who differs is named. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rdtrain/train.h>
#include <xxhash.h>

struct digest {
	uint64_t bytes, low, high;
};

static bool same(const struct digest *a, const struct digest *b)
{
	return a->bytes == b->bytes && a->low == b->low && a->high == b->high;
}

/* The rank whose bytes most ranks have; of several such, the lowest. */
static int most_common(const struct digest *all, int size, int *count)
{
	int best = 0;

	*count = 0;
	for (int r = 0; r < size; r++) {
		int n = 0;

		for (int s = 0; s < size; s++)
			n += same(&all[r], &all[s]);
		if (n > *count) {
			*count = n;
			best = r;
		}
	}
	return best;
}

static int name_differing(const struct digest *all, int size, const char *name)
{
	int count, common = most_common(all, size, &count);
	bool lengths = false;
	char ranks[512];
	size_t used = 0;

	for (int r = 0; r < size && used < sizeof(ranks) - 16; r++)
		if (!same(&all[r], &all[common])) {
			lengths = lengths || all[r].bytes != all[common].bytes;
			used += (size_t)snprintf(ranks + used, sizeof(ranks) - used, "%s%d",
						 used ? ", " : "", r);
		}
	if (used == 0)
		return 0;
	return rdt_set_error(
		RDT_ERR_MISMATCH,
		"%s: %d of %d ranks have equal bytes, rank %d among them; these differ%s: "
		"rank %s",
		name, count, size, common, lengths ? ", some in length" : "", ranks);
}

int rdt_check_equal(rdt_comm *comm, const char *name, const void *buf, size_t bytes)
{
	int size = rdt_comm_size(comm), status;
	struct digest mine = { .bytes = bytes }, *all;
	XXH128_hash_t hash;

	if (size < 1 || !name || (bytes && !buf))
		return rdt_set_error(RDT_ERR_INVALID, "rdt_check_equal: %s is NULL",
				     size < 1 ? "comm"
				     : !name  ? "name"
					      : "buf");
	all = calloc((size_t)size, sizeof(*all));
	if (!all)
		return rdt_set_error(RDT_ERR_NOMEM, "out of memory for %d ranks", size);
	hash = XXH3_128bits(bytes ? buf : "", bytes);
	mine.low = hash.low64;
	mine.high = hash.high64;
	status = rdt_allgather(comm, &mine, all, sizeof(mine) / sizeof(uint64_t), RDT_UINT64);
	if (!status)
		status = name_differing(all, size, name);
	free(all);
	return status;
}
