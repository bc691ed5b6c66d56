/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Loading a checkpoint: from the newest on, until one is good. All ranks read the header; each
 * checks the sums of its share of the parts; only when all parts are good on all ranks is anything
 * copied to the caller. How the parts were cut when saved does not matter to what is read.
 */
#include "checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define BUFFER_BYTES (1 << 20)

struct load {
	rdt_comm *comm;
	int rank, size, fd;
	char *path;
	struct rdt_header header;
	struct rdt_part *parts;
	size_t n_parts;
	uint64_t words[3]; /* step, position, seed */
};

static int get(const struct load *l, void *data, size_t n, uint64_t offset)
{
	char *to = data;

	while (n > 0) {
		ssize_t done = pread(l->fd, to, n, (off_t)offset);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return rdt_set_error(RDT_ERR_SYSTEM, "%s: byte %llu: %s", l->path,
					     (unsigned long long)offset, strerror(errno));
		if (done == 0)
			return rdt_set_error(RDT_ERR_INVALID, "%s: byte %llu: the file ends here",
					     l->path, (unsigned long long)offset);
		to += done;
		offset += (uint64_t)done;
		n -= (size_t)done;
	}
	return 0;
}

/* ---- the header -------------------------------------------------------------------------- */

static int check_header_sum(const struct load *l, const unsigned char *bytes, size_t n)
{
	size_t at = 8 + strlen(RDT_HEADER_PREFIX);
	char sum[RDT_SUM_DIGITS + 1];

	if (n < at + RDT_SUM_DIGITS || memcmp(bytes + 8, RDT_HEADER_PREFIX, at - 8) != 0)
		return rdt_set_error(RDT_ERR_INVALID,
				     "%s: byte 8: the header does not begin with its checksum: not "
				     "a checkpoint of librdtrain, or damaged",
				     l->path);
	snprintf(sum, sizeof(sum), "%016llx", (unsigned long long)rdt_header_sum(bytes, n));
	if (memcmp(sum, bytes + at, RDT_SUM_DIGITS) != 0)
		return rdt_set_error(RDT_ERR_INVALID,
				     "%s: bytes 0 to %zu: the header's checksum is wrong", l->path,
				     n);
	return 0;
}

static int read_words(struct load *l)
{
	static const char *const keys[] = { "rdtrain.step", "rdtrain.position", "rdtrain.seed" };

	for (int i = 0; i < 3; i++) {
		const char *text = rdt_header_metadata(&l->header, keys[i]);

		if (!text || !*text || strspn(text, "0123456789") != strlen(text))
			return rdt_set_error(RDT_ERR_INVALID, "%s: byte 8: the header has no %s",
					     l->path, keys[i]);
		l->words[i] = strtoull(text, NULL, 10);
	}
	return 0;
}

static int read_header(struct load *l, uint64_t file_bytes)
{
	unsigned char first[8], *bytes = NULL;
	uint64_t length = 0;
	const char *parts;
	int status;

	if (file_bytes < 8)
		return rdt_set_error(RDT_ERR_INVALID,
				     "%s: byte %llu: the file ends within the header's length",
				     l->path, (unsigned long long)file_bytes);
	status = get(l, first, 8, 0);
	for (int i = 8; i > 0; i--)
		length = length << 8 | first[i - 1];
	if (!status && (length > RDT_HEADER_MAX || length > file_bytes - 8))
		status = rdt_set_error(
			RDT_ERR_INVALID, "%s: byte 0: a header of %llu bytes in a file of %llu",
			l->path, (unsigned long long)length, (unsigned long long)file_bytes);
	if (status)
		return status;
	bytes = malloc(8 + length);
	if (!bytes)
		return rdt_set_error(RDT_ERR_NOMEM, "%s: no memory for its header", l->path);
	status = get(l, bytes, 8 + length, 0);
	if (!status)
		status = check_header_sum(l, bytes, 8 + length);
	if (!status)
		status = rdt_header_parse(l->path, bytes, 8 + length, file_bytes, &l->header);
	free(bytes);
	if (status)
		return status;
	parts = rdt_header_metadata(&l->header, "rdtrain.parts");
	status = read_words(l);
	if (!status)
		status = rdt_parts_read(l->path, parts ? parts : "", &l->header, &l->parts,
					&l->n_parts);
	return status;
}

static int open_file(struct load *l)
{
	struct stat stat;

	l->fd = open(l->path, O_RDONLY | O_CLOEXEC);
	/* Listed a moment ago: removed since, or the list is of another host's directory. */
	if (l->fd < 0 && errno == ENOENT)
		return rdt_set_error(RDT_ERR_INVALID, "%s: %s", l->path, strerror(errno));
	if (l->fd < 0 || fstat(l->fd, &stat))
		return rdt_set_error(RDT_ERR_SYSTEM, "%s: %s", l->path, strerror(errno));
	return read_header(l, (uint64_t)stat.st_size);
}

/* ---- the data ---------------------------------------------------------------------------- */

struct run {
	const struct load *l;
	char *data; /* where the elements go; NULL: through the buffer into the sum */
	char *buffer;
	XXH3_state_t *sum;
	size_t element;
	uint64_t at;
};

static int get_run(void *arg, uint64_t whole, uint64_t part, uint64_t n)
{
	const struct run *run = arg;
	uint64_t offset = run->at + whole * run->element, left = n * run->element;

	if (run->data)
		return get(run->l, run->data + part * run->element, left, offset);
	while (left > 0) {
		size_t length = left < BUFFER_BYTES ? left : BUFFER_BYTES;
		int status = get(run->l, run->buffer, length, offset);

		if (status)
			return status;
		XXH3_64bits_update(run->sum, run->buffer, length);
		offset += length;
		left -= length;
	}
	return 0;
}

static int verify_part(const struct load *l, const struct rdt_part *part, struct run *run)
{
	const struct rdt_entry *e = &l->header.entries[part->entry];
	int status;

	run->element = rdt_type_size(e->type);
	run->at = l->header.data_at + e->begin;
	XXH3_64bits_reset(run->sum);
	status = rdt_slab_runs(&part->slab, e->n_dims, e->dims, get_run, run);
	if (!status && XXH3_64bits_digest(run->sum) != part->sum)
		status = rdt_set_error(RDT_ERR_INVALID,
				       "%s: tensor \"%s\", in bytes %llu to %llu: a part's "
				       "checksum is wrong",
				       l->path, e->name, (unsigned long long)run->at,
				       (unsigned long long)(l->header.data_at + e->end));
	return status;
}

/* The parts are dealt out over the ranks, whoever wrote them and whoever wants them. */
static int verify(const struct load *l)
{
	struct run run = { .l = l, .sum = XXH3_createState(), .buffer = malloc(BUFFER_BYTES) };
	int status = 0;

	if (!run.sum || !run.buffer)
		status = rdt_set_error(RDT_ERR_NOMEM, "%s: no memory to check it", l->path);
	for (size_t p = (size_t)l->rank; p < l->n_parts && !status; p += (size_t)l->size)
		status = verify_part(l, &l->parts[p], &run);
	XXH3_freeState(run.sum);
	free(run.buffer);
	return status;
}

static int match(const struct load *l, const struct rdt_checkpoint *c)
{
	for (int i = 0; i < c->n_tensors; i++) {
		const struct rdt_tensor *t = &c->tensors[i];
		const struct rdt_entry *e = rdt_header_find(&l->header, t->name);

		if (!e)
			return rdt_set_error(RDT_ERR_INVALID, "%s has no tensor \"%s\"", l->path,
					     t->name);
		if (e->type != t->type)
			return rdt_set_error(RDT_ERR_INVALID, "%s: tensor \"%s\" is of %s, not %s",
					     l->path, t->name, rdt_type_name(e->type),
					     rdt_type_name(t->type));
		if (e->n_dims != t->n_dims ||
		    memcmp(e->dims, t->dims, (size_t)t->n_dims * sizeof(*t->dims)) != 0)
			return rdt_set_error(RDT_ERR_INVALID,
					     "%s: tensor \"%s\" has other dimensions", l->path,
					     t->name);
	}
	return 0;
}

static int read_tensors(const struct load *l, const struct rdt_checkpoint *c)
{
	int status = 0;

	for (int i = 0; i < c->n_tensors && !status; i++) {
		const struct rdt_tensor *t = &c->tensors[i];
		const struct rdt_entry *e = rdt_header_find(&l->header, t->name);
		struct rdt_slab slab = rdt_tensor_slab(t);
		struct run run = {
			.l = l,
			.data = t->data,
			.element = rdt_type_size(t->type),
			.at = l->header.data_at + e->begin,
		};

		if (rdt_slab_elements(&slab, t->n_dims) > 0)
			status = rdt_slab_runs(&slab, t->n_dims, t->dims, get_run, &run);
	}
	return status;
}

/* ---- the choice -------------------------------------------------------------------------- */

/* *good says whether the file was; a status is for errors that are not its fault. */
static int try(struct load *l, struct rdt_checkpoint *c, bool *good)
{
	int status =
		rdt_agree(l->comm, l->path ? open_file(l)
					   : rdt_set_error(RDT_ERR_NOMEM, "no memory for a path"));

	*good = false;
	if (!status)
		status = rdt_agree(l->comm, verify(l));
	if (status) {
		size_t used = strlen(c->skipped);

		/* Only damage is passed over. What the machine or a collective could not do says
		 * nothing about the file, and going back to an older one would lose steps. */
		if (status != RDT_ERR_INVALID)
			return status;
		snprintf(c->skipped + used, sizeof(c->skipped) - used, "%s%s", used ? "; " : "",
			 rdt_last_error());
		return 0;
	}
	*good = true;
	status = rdt_agree(l->comm, match(l, c));
	if (!status)
		status = rdt_agree(l->comm, read_tensors(l, c));
	if (status)
		return status;
	c->step = l->words[0];
	c->position = l->words[1];
	c->seed = l->words[2];
	c->found = 1;
	return 0;
}

/* Rank 0's list of what there is, on all ranks. */
static int share_list(rdt_comm *comm, const char *directory, uint64_t **steps, size_t *n)
{
	int rank = rdt_comm_rank(comm), status = 0;
	uint64_t count;

	if (rank == 0)
		status = rdt_checkpoint_list(directory, steps, n);
	count = *n;
	status = rdt_agree(comm, status);
	if (!status)
		status = rdt_broadcast(comm, &count, 1, RDT_UINT64, 0);
	if (status)
		return status;
	*n = count;
	if (rank != 0) {
		*steps = calloc(*n + 1, sizeof(**steps));
		if (!*steps)
			status = rdt_set_error(RDT_ERR_NOMEM, "no memory for %zu steps", *n);
	}
	status = rdt_agree(comm, status);
	return status || !*n ? status : rdt_broadcast(comm, *steps, *n, RDT_UINT64, 0);
}

int rdt_checkpoint_load(rdt_comm *comm, const char *directory, struct rdt_checkpoint *given)
{
	struct rdt_checkpoint taken, *c = &taken;
	uint64_t *steps = NULL;
	bool good = false;
	size_t n = 0;
	int status;

	if (!comm)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_checkpoint_load: no communicator");
	status = rdt_agree(comm, rdt_checkpoint_take("rdt_checkpoint_load", directory, given, c));
	if (!status)
		status = rdt_checkpoint_same(comm, c);
	if (status)
		return status;
	c->found = 0;
	c->skipped[0] = '\0';
	status = share_list(comm, directory, &steps, &n);
	for (size_t i = 0; i < n && !status && !good; i++) {
		struct load l = {
			.comm = comm,
			.rank = rdt_comm_rank(comm),
			.size = rdt_comm_size(comm),
			.fd = -1,
			.path = rdt_checkpoint_path(directory, steps[i], ""),
		};

		status = try(&l, c, &good);
		if (l.fd >= 0)
			close(l.fd);
		rdt_header_free(&l.header);
		free(l.parts);
		free(l.path);
	}
	if (!status && n && !good)
		status = rdt_set_error(RDT_ERR_INVALID, "none of the checkpoints is good: %.900s",
				       c->skipped);
	free(steps);
	memcpy(given, c, given->size < sizeof(*c) ? given->size : sizeof(*c));
	return status;
}
