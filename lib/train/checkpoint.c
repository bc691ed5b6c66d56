/* SPDX-License-Identifier: BSD-3-Clause */
/* What saving and loading a checkpoint have in common; see checkpoint.h. */
#include "checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "options.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian");

#define NAME "checkpoint-"
#define END ".safetensors"

/* ---- ranks ------------------------------------------------------------------------------- */

int rdt_agree(rdt_comm *comm, int status)
{
	int64_t worst = status ? (int64_t)status * ((int64_t)1 << 32) + rdt_comm_rank(comm) : 0;
	char text[1000];
	int failed, rank;

	failed = rdt_allreduce(comm, &worst, &worst, 1, RDT_INT64, RDT_MIN);
	if (failed || worst == 0)
		return failed;
	rank = (int)(worst & 0xffffffff);
	snprintf(text, sizeof(text), "%s", rdt_last_error());
	failed = rdt_broadcast(comm, text, sizeof(text), RDT_UINT8, rank);
	if (failed)
		return failed;
	return rdt_set_error((int)(worst >> 32), "rank %d: %.*s", rank, (int)sizeof(text), text);
}

struct rdt_slab rdt_tensor_slab(const struct rdt_tensor *t)
{
	struct rdt_slab slab = { 0 };

	for (int i = 0; i < t->n_dims; i++) {
		slab.start[i] = t->sharded ? t->start[i] : 0;
		slab.count[i] = t->sharded ? t->count[i] : t->dims[i];
	}
	return slab;
}

static int check_tensor(const struct rdt_checkpoint *c, int i)
{
	const struct rdt_tensor *t = &c->tensors[i];
	uint64_t bytes = rdt_type_size(t->type);
	struct rdt_slab slab;

	if (!t->name || !*t->name || strcmp(t->name, "__metadata__") == 0)
		return rdt_set_error(RDT_ERR_INVALID, "tensor %d of a checkpoint has no name%s", i,
				     t->name && *t->name ? " of its own" : "");
	for (int k = 0; k < i; k++)
		if (strcmp(t->name, c->tensors[k].name) == 0)
			return rdt_set_error(RDT_ERR_INVALID, "two tensors are called \"%s\"",
					     t->name);
	if (bytes == 0 || t->n_dims < 0 || t->n_dims > RDT_DIMS_MAX)
		return rdt_set_error(RDT_ERR_INVALID, "tensor \"%s\": type %d, %d dimensions",
				     t->name, (int)t->type, t->n_dims);
	for (int d = 0; d < t->n_dims; d++)
		if (__builtin_mul_overflow(bytes, t->dims[d], &bytes) || bytes > INT64_MAX)
			return rdt_set_error(RDT_ERR_INVALID,
					     "tensor \"%s\" is larger than all memory", t->name);
	slab = rdt_tensor_slab(t);
	if (!rdt_slab_fits(&slab, t->n_dims, t->dims))
		return rdt_set_error(RDT_ERR_INVALID, "tensor \"%s\": the part goes beyond it",
				     t->name);
	if (!t->data && rdt_slab_elements(&slab, t->n_dims) > 0)
		return rdt_set_error(RDT_ERR_INVALID, "tensor \"%s\": data is NULL", t->name);
	return 0;
}

int rdt_checkpoint_take(const char *call, const char *directory, const struct rdt_checkpoint *given,
			struct rdt_checkpoint *c)
{
	int failed = rdt_options_copy("rdt_checkpoint", c, sizeof(*c), given);

	if (failed)
		return failed;
	if (!directory || c->n_tensors < 0 || (c->n_tensors && !c->tensors) || c->keep < 0)
		return rdt_set_error(RDT_ERR_INVALID, "%s: %s", call,
				     !directory	   ? "directory is NULL"
				     : c->keep < 0 ? "keep is negative"
						   : "no tensors");
	for (int i = 0; i < c->n_tensors; i++) {
		int status = check_tensor(c, i);

		if (status)
			return status;
	}
	return 0;
}

int rdt_checkpoint_same(rdt_comm *comm, const struct rdt_checkpoint *c)
{
	uint64_t hash = (uint64_t)c->n_tensors, both[2];
	int status;

	for (int i = 0; i < c->n_tensors; i++) {
		const struct rdt_tensor *t = &c->tensors[i];
		uint64_t words[] = { hash, (uint64_t)t->type, (uint64_t)t->n_dims };

		hash = XXH3_64bits_withSeed(t->name, strlen(t->name),
					    XXH3_64bits(words, sizeof(words)));
		hash = XXH3_64bits_withSeed(t->dims, (size_t)t->n_dims * sizeof(*t->dims), hash);
	}
	both[0] = hash;
	both[1] = ~hash;
	status = rdt_allreduce(comm, both, both, 2, RDT_UINT64, RDT_MIN);
	if (!status && both[0] != ~both[1])
		status = rdt_set_error(RDT_ERR_MISMATCH,
				       "the ranks do not list the same tensors: names, types, "
				       "dimensions and order must agree");
	return status;
}

/* ---- files ------------------------------------------------------------------------------- */

char *rdt_checkpoint_path(const char *directory, uint64_t step, const char *end)
{
	char *path = NULL;

	return asprintf(&path, "%s/" NAME "%012llu" END "%s", directory, (unsigned long long)step,
			end) < 0
		       ? NULL
		       : path;
}

/* Is it the name of a checkpoint, written as rdt_checkpoint_path does? */
static bool read_name(const char *name, uint64_t *step)
{
	char again[64];
	unsigned long long n;

	if (sscanf(name, NAME "%20llu" END, &n) != 1)
		return false;
	snprintf(again, sizeof(again), NAME "%012llu" END, n);
	*step = n;
	return strcmp(again, name) == 0;
}

static int newest_first(const void *a, const void *b)
{
	uint64_t p = *(const uint64_t *)a, q = *(const uint64_t *)b;

	return (p < q) - (p > q);
}

int rdt_checkpoint_list(const char *directory, uint64_t **steps, size_t *n)
{
	DIR *folder = opendir(directory);
	struct dirent *file;
	uint64_t step;
	int status = 0;

	*steps = NULL;
	*n = 0;
	if (!folder && errno == ENOENT)
		return 0;
	if (!folder)
		return rdt_set_error(RDT_ERR_SYSTEM, "%s: %s", directory, strerror(errno));
	while (!status && (file = readdir(folder)) != NULL) {
		uint64_t *more;

		if (!read_name(file->d_name, &step))
			continue;
		more = reallocarray(*steps, *n + 1, sizeof(*more));
		if (more) {
			*steps = more;
			more[(*n)++] = step;
		} else {
			status = rdt_set_error(RDT_ERR_NOMEM, "%s: no memory for its list",
					       directory);
		}
	}
	closedir(folder);
	if (*n)
		qsort(*steps, *n, sizeof(**steps), newest_first);
	return status;
}

/* ---- checksums --------------------------------------------------------------------------- */

uint64_t rdt_header_sum(const unsigned char *bytes, size_t n_bytes)
{
	static const char zeros[] = "0000000000000000";
	size_t at = 8 + strlen(RDT_HEADER_PREFIX);
	uint64_t sum = XXH3_64bits(bytes, at);

	sum = XXH3_64bits_withSeed(zeros, RDT_SUM_DIGITS, sum);
	at += RDT_SUM_DIGITS;
	return XXH3_64bits_withSeed(bytes + at, n_bytes - at, sum);
}

/* "ENTRY START,START COUNT,COUNT SUM;" for each part; a tensor without dimensions has "-" for both.
 */
char *rdt_parts_write(const struct rdt_part *parts, size_t n, const struct rdt_entry *entries)
{
	char *text = NULL;
	size_t length;
	FILE *to = open_memstream(&text, &length);

	if (!to)
		return NULL;
	for (size_t p = 0; p < n; p++) {
		const struct rdt_part *part = &parts[p];
		int n_dims = entries[part->entry].n_dims;

		fprintf(to, "%u", part->entry);
		for (int k = 0; k < 2; k++) {
			const uint64_t *v = k ? part->slab.count : part->slab.start;

			for (int d = 0; d < n_dims; d++)
				fprintf(to, "%c%llu", d ? ',' : ' ', (unsigned long long)v[d]);
			if (n_dims == 0)
				fputs(" -", to);
		}
		fprintf(to, " %016llx;", (unsigned long long)part->sum);
	}
	if (fclose(to)) {
		free(text);
		return NULL;
	}
	return text;
}

/* A number that ends at `end`; *text goes behind that. */
static bool read_number(const char **text, int base, char end, uint64_t *number)
{
	char *stop;

	if (!strchr("0123456789abcdef", **text) || !**text)
		return false;
	errno = 0;
	*number = strtoull(*text, &stop, base);
	if (errno || *stop != end)
		return false;
	*text = stop + 1;
	return true;
}

static bool read_numbers(const char **text, int n_dims, uint64_t *numbers)
{
	if (n_dims == 0) {
		if ((*text)[0] != '-' || (*text)[1] != ' ')
			return false;
		*text += 2;
		return true;
	}
	for (int d = 0; d < n_dims; d++)
		if (!read_number(text, 10, d == n_dims - 1 ? ' ' : ',', &numbers[d]))
			return false;
	return true;
}

static bool read_part(const char **text, const struct rdt_header *h, struct rdt_part *part)
{
	const struct rdt_entry *e;
	uint64_t entry;

	if (!read_number(text, 10, ' ', &entry) || entry >= h->n)
		return false;
	part->entry = (uint32_t)entry;
	e = &h->entries[entry];
	return read_numbers(text, e->n_dims, part->slab.start) &&
	       read_numbers(text, e->n_dims, part->slab.count) &&
	       read_number(text, 16, ';', &part->sum) &&
	       rdt_slab_fits(&part->slab, e->n_dims, e->dims);
}

int rdt_parts_read(const char *name, const char *text, const struct rdt_header *h,
		   struct rdt_part **parts, size_t *n)
{
	uint64_t elements = 0, all = 0;
	size_t most = 0;

	*n = 0;
	for (const char *c = text; *c; c++)
		most += *c == ';';
	*parts = calloc(most + 1, sizeof(**parts));
	if (!*parts)
		return rdt_set_error(RDT_ERR_NOMEM, "%s: no memory for %zu parts", name, most);
	while (*text && *n < most && read_part(&text, h, &(*parts)[*n])) {
		const struct rdt_part *part = &(*parts)[(*n)++];

		elements += rdt_slab_elements(&part->slab, h->entries[part->entry].n_dims);
	}
	for (size_t i = 0; i < h->n; i++)
		all += (h->entries[i].end - h->entries[i].begin) /
		       rdt_type_size(h->entries[i].type);
	if (!*text && elements == all)
		return 0;
	free(*parts);
	*parts = NULL;
	return rdt_set_error(RDT_ERR_INVALID,
			     "%s: byte 8: the header's list of parts is wrong (part "
			     "%zu)",
			     name, *n);
}
