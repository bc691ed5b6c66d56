/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saving a checkpoint. All ranks know all parts, and so the same header but for the checksums,
 * whose length is fixed: so each knows where its parts belong in the file. They write into a file
 * of another name; when all have synced theirs, rank 0 adds the header with the sums, syncs,
 * renames, and syncs the directory. A death anywhere before the rename leaves the checkpoints that
 * were there.
 */
#include "checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define TEMPORARY ".tmp"
/* A box that several ranks have is written by one, or, from so many bytes on, by all of them. */
#define SPLIT_BYTES (1 << 20)

struct save {
	rdt_comm *comm;
	int rank, size, fd;
	const char *directory;
	const struct rdt_checkpoint *c;
	uint64_t words[3]; /* rank 0's step, position, seed */
	char *path, *temporary;
	int *order;		   /* which tensor an entry is */
	struct rdt_entry *entries; /* in the order of the data */
	struct rdt_slab *slabs;	   /* of all ranks, by rank, then by tensor */
	struct rdt_part *parts;
	size_t n_parts;
	unsigned char *header;
	size_t n_header;
};

/* ---- who writes what --------------------------------------------------------------------- */

/* The largest elements first: so each tensor is aligned to its own, without holes. */
static void lay_out(struct save *s)
{
	uint64_t at = 0;
	int k = 0;

	for (size_t bytes = 8; bytes > 0; bytes /= 2)
		for (int i = 0; i < s->c->n_tensors; i++) {
			const struct rdt_tensor *t = &s->c->tensors[i];
			struct rdt_entry *e = &s->entries[k];
			uint64_t length = bytes;

			if (rdt_type_size(t->type) != bytes)
				continue;
			*e = (struct rdt_entry){ .name = t->name,
						 .type = t->type,
						 .n_dims = t->n_dims };
			for (int d = 0; d < t->n_dims; d++) {
				e->dims[d] = t->dims[d];
				length *= t->dims[d];
			}
			e->begin = at;
			e->end = at += length;
			s->order[k++] = i;
		}
}

static const struct rdt_slab *slab_of(const struct save *s, int rank, int k)
{
	return &s->slabs[(size_t)rank * (size_t)s->c->n_tensors + (size_t)s->order[k]];
}

static int add_part(struct save *s, int k, int writer, const struct rdt_slab *slab)
{
	/* Room for twice as many when a power of two is full. */
	if ((s->n_parts & (s->n_parts - 1)) == 0) {
		size_t room = s->n_parts ? 2 * s->n_parts : 1;
		struct rdt_part *more = reallocarray(s->parts, room, sizeof(*more));

		if (!more)
			return rdt_set_error(RDT_ERR_NOMEM, "no memory for %zu parts", room);
		s->parts = more;
	}
	s->parts[s->n_parts++] =
		(struct rdt_part){ .entry = (uint32_t)k, .writer = writer, .slab = *slab };
	return 0;
}

/* Divides a box over those who have it: rank `first` and the later ones with the same. */
static int divide(struct save *s, int k, int first)
{
	const struct rdt_entry *e = &s->entries[k];
	const struct rdt_slab *slab = slab_of(s, first, k);
	uint64_t elements = rdt_slab_elements(slab, e->n_dims), pieces = 1, piece = 0;
	int holders = 0, chosen, status = 0;

	for (int r = first; r < s->size; r++)
		holders += rdt_slab_equal(slab, slab_of(s, r, k), e->n_dims);
	if (elements * rdt_type_size(e->type) >= SPLIT_BYTES && e->n_dims > 0)
		pieces = slab->count[0] < (uint64_t)holders ? slab->count[0] : (uint64_t)holders;
	chosen = pieces > 1 ? 0 : k % holders; /* small ones in turn */
	for (int r = first, h = 0; r < s->size && !status && piece < pieces; r++) {
		struct rdt_slab cut = *slab;

		if (!rdt_slab_equal(slab, slab_of(s, r, k), e->n_dims) || h++ < chosen)
			continue;
		if (pieces > 1) {
			uint64_t begin = slab->count[0] / pieces * piece,
				 end = piece == pieces - 1 ? slab->count[0]
							   : begin + slab->count[0] / pieces;

			cut.start[0] += begin;
			cut.count[0] = end - begin;
		}
		status = add_part(s, k, r, &cut);
		piece++;
	}
	return status;
}

/* The boxes of one tensor: which are there, that none meets another, that all are the tensor. */
static int divide_tensor(struct save *s, int k)
{
	const struct rdt_entry *e = &s->entries[k];
	uint64_t all = (e->end - e->begin) / rdt_type_size(e->type), elements = 0;

	for (int r = 0; r < s->size; r++) {
		const struct rdt_slab *slab = slab_of(s, r, k);
		int before = 0, status;

		if (rdt_slab_elements(slab, e->n_dims) == 0)
			continue;
		while (before < r && !rdt_slabs_meet(slab, slab_of(s, before, k), e->n_dims))
			before++;
		if (before < r && rdt_slab_equal(slab, slab_of(s, before, k), e->n_dims))
			continue;
		if (before < r)
			return rdt_set_error(RDT_ERR_INVALID,
					     "tensor \"%s\": the parts of ranks %d and %d overlap",
					     e->name, before, r);
		elements += rdt_slab_elements(slab, e->n_dims);
		status = divide(s, k, r);
		if (status)
			return status;
	}
	if (elements != all)
		return rdt_set_error(
			RDT_ERR_INVALID,
			"tensor \"%s\": the ranks' parts have %llu of its %llu elements", e->name,
			(unsigned long long)elements, (unsigned long long)all);
	return 0;
}

/* ---- the header -------------------------------------------------------------------------- */

static int write_header(struct save *s)
{
	char numbers[3][24], *parts = rdt_parts_write(s->parts, s->n_parts, s->entries);
	const char *metadata[][2] = {
		{ RDT_HEADER_SUM, "0000000000000000" },
		{ "rdtrain.step", numbers[0] },
		{ "rdtrain.position", numbers[1] },
		{ "rdtrain.seed", numbers[2] },
		{ "rdtrain.parts", parts },
	};
	char sum[RDT_SUM_DIGITS + 1];
	int status;

	if (!parts)
		return rdt_set_error(RDT_ERR_NOMEM, "no memory for a list of %zu parts",
				     s->n_parts);
	for (int i = 0; i < 3; i++)
		snprintf(numbers[i], sizeof(numbers[i]), "%llu", (unsigned long long)s->words[i]);
	free(s->header);
	status = rdt_header_write(s->entries, (size_t)s->c->n_tensors,
				  (const char *const(*)[2])metadata, 5, &s->header, &s->n_header);
	free(parts);
	if (status)
		return status;
	if (s->n_header - 8 > RDT_HEADER_MAX)
		return rdt_set_error(RDT_ERR_INVALID,
				     "%d tensors in %zu parts: more than a header "
				     "holds",
				     s->c->n_tensors, s->n_parts);
	snprintf(sum, sizeof(sum), "%016llx",
		 (unsigned long long)rdt_header_sum(s->header, s->n_header));
	memcpy(s->header + 8 + strlen(RDT_HEADER_PREFIX), sum, RDT_SUM_DIGITS);
	return 0;
}

/* What can be known before the first byte is written, the same on all ranks. */
static int prepare(struct save *s)
{
	size_t n = (size_t)s->c->n_tensors;
	struct rdt_slab *mine;
	int status = 0;

	s->order = calloc(n + 1, sizeof(*s->order));
	s->entries = calloc(n + 1, sizeof(*s->entries));
	s->slabs = calloc(n * (size_t)s->size + 1, sizeof(*s->slabs));
	s->path = rdt_checkpoint_path(s->directory, s->words[0], "");
	s->temporary = rdt_checkpoint_path(s->directory, s->words[0], TEMPORARY);
	if (!s->order || !s->entries || !s->slabs || !s->path || !s->temporary)
		status = rdt_set_error(RDT_ERR_NOMEM, "no memory for a checkpoint of %zu tensors",
				       n);
	status = rdt_agree(s->comm, status);
	if (status)
		return status;
	lay_out(s);
	mine = s->slabs + (size_t)s->rank * n;
	for (size_t i = 0; i < n; i++)
		mine[i] = rdt_tensor_slab(&s->c->tensors[i]);
	status = rdt_allgather(s->comm, mine, s->slabs, n * 2 * RDT_DIMS_MAX, RDT_UINT64);
	if (status)
		return status;
	for (int k = 0; k < s->c->n_tensors && !status; k++)
		status = divide_tensor(s, k);
	if (!status)
		status = write_header(s);
	return rdt_agree(s->comm, status);
}

/* ---- the file ---------------------------------------------------------------------------- */

static int failed(const char *path, const char *what)
{
	return rdt_set_error(RDT_ERR_SYSTEM, "%s: cannot %s: %s", path, what, strerror(errno));
}

static int put(const struct save *s, const void *data, size_t n, uint64_t offset)
{
	const char *from = data;

	while (n > 0) {
		ssize_t done = pwrite(s->fd, from, n, (off_t)offset);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return failed(s->temporary, "write");
		from += done;
		offset += (uint64_t)done;
		n -= (size_t)done;
	}
	return 0;
}

struct run {
	const struct save *s;
	const char *data;
	size_t element;
	uint64_t at;
};

static int put_run(void *arg, uint64_t whole, uint64_t part, uint64_t n)
{
	const struct run *run = arg;

	return put(run->s, run->data + part * run->element, n * run->element,
		   run->at + whole * run->element);
}

/* Writes the parts that are this rank's, and sets their sums; those of others stay 0. */
static int put_parts(struct save *s)
{
	int status = 0;

	for (size_t p = 0; p < s->n_parts && !status; p++) {
		struct rdt_part *part = &s->parts[p];
		const struct rdt_entry *e = &s->entries[part->entry];
		uint64_t elements = rdt_slab_elements(&part->slab, e->n_dims), row, before;
		struct run run = { .s = s, .element = rdt_type_size(e->type) };

		if (part->writer != s->rank)
			continue;
		/* A piece begins some rows into the caller's box, and lies together there. */
		row = e->n_dims ? elements / part->slab.count[0] : 0;
		before = e->n_dims ? part->slab.start[0] -
					     slab_of(s, s->rank, (int)part->entry)->start[0]
				   : 0;
		run.data = (const char *)s->c->tensors[s->order[part->entry]].data +
			   before * row * run.element;
		run.at = s->n_header + e->begin;
		part->sum = XXH3_64bits(run.data, elements * run.element);
		status = rdt_slab_runs(&part->slab, e->n_dims, e->dims, put_run, &run);
	}
	return status;
}

static int make_file(struct save *s)
{
	uint64_t data = s->c->n_tensors ? s->entries[s->c->n_tensors - 1].end : 0;

	if (mkdir(s->directory, 0777) && errno != EEXIST)
		return failed(s->directory, "make the directory");
	s->fd = open(s->temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (s->fd < 0)
		return failed(s->temporary, "create");
	if (ftruncate(s->fd, (off_t)(s->n_header + data)))
		return failed(s->temporary, "make room");
	return 0;
}

static int open_file(struct save *s)
{
	if (s->rank == 0)
		return 0;
	s->fd = open(s->temporary, O_RDWR | O_CLOEXEC);
	if (s->fd < 0 && errno == ENOENT)
		return rdt_set_error(RDT_ERR_SYSTEM,
				     "%s is not there, though rank 0 made it: all hosts must share "
				     "the directory",
				     s->temporary);
	return s->fd < 0 ? failed(s->temporary, "open") : 0;
}

/* All ranks' sums on all ranks: each has zeros for the parts of others. */
static int share_sums(struct save *s)
{
	uint64_t *sums = calloc(s->n_parts + 1, sizeof(*sums));
	int status = rdt_agree(
		s->comm,
		sums ? 0 : rdt_set_error(RDT_ERR_NOMEM, "no memory for %zu sums", s->n_parts));

	for (size_t p = 0; p < s->n_parts && !status; p++)
		sums[p] = s->parts[p].sum;
	if (!status)
		status = rdt_allreduce(s->comm, sums, sums, s->n_parts, RDT_UINT64, RDT_SUM);
	for (size_t p = 0; p < s->n_parts && !status; p++)
		s->parts[p].sum = sums[p];
	free(sums);
	return status;
}

static int sync_directory(const struct save *s)
{
	int fd = open(s->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), status = 0;

	if (fd < 0 || fsync(fd))
		status = failed(s->directory, "sync the directory");
	if (fd >= 0)
		close(fd);
	return status;
}

/* What a death in an earlier save has left behind. */
static void remove_temporaries(const char *directory)
{
	DIR *folder = opendir(directory);
	struct dirent *file;
	unsigned long long step;

	while (folder && (file = readdir(folder)) != NULL) {
		char *path = NULL, *name;

		if (sscanf(file->d_name, "checkpoint-%20llu", &step) == 1)
			path = rdt_checkpoint_path(directory, step, TEMPORARY);
		name = path ? strrchr(path, '/') + 1 : NULL;
		if (name && strcmp(name, file->d_name) == 0)
			unlink(path);
		free(path);
	}
	if (folder)
		closedir(folder);
}

/* Of the older ones, those that are too many. Higher steps are of another run: not this one's to
 * remove, nor to count, or this checkpoint would be the one to go. */
static void prune(const struct save *s)
{
	uint64_t *steps;
	int kept = 1;
	size_t n;

	if (s->c->keep == 0 || rdt_checkpoint_list(s->directory, &steps, &n))
		return;
	for (size_t i = 0; i < n; i++) {
		char *path;

		if (steps[i] >= s->words[0] || kept++ < s->c->keep)
			continue;
		path = rdt_checkpoint_path(s->directory, steps[i], "");
		if (path)
			unlink(path);
		free(path);
	}
	free(steps);
}

/* Rank 0's end of it: the file becomes the checkpoint. */
static int complete(struct save *s)
{
	int status;

	if (s->rank != 0)
		return 0;
	status = write_header(s);
	if (!status)
		status = put(s, s->header, s->n_header, 0);
	if (!status && fsync(s->fd))
		status = failed(s->temporary, "sync");
	if (!status && rename(s->temporary, s->path))
		status = failed(s->temporary, "rename");
	if (!status)
		status = sync_directory(s);
	if (!status) {
		remove_temporaries(s->directory);
		prune(s);
	}
	return status;
}

static int save(struct save *s)
{
	int status = prepare(s);

	if (!status)
		status = rdt_agree(s->comm, s->rank == 0 ? make_file(s) : 0);
	if (status)
		return status;
	status = open_file(s);
	if (!status)
		status = put_parts(s);
	if (!status && fsync(s->fd))
		status = failed(s->temporary, "sync");
	status = rdt_agree(s->comm, status);
	if (!status)
		status = share_sums(s);
	if (!status)
		status = rdt_agree(s->comm, complete(s));
	if (status && s->rank == 0)
		unlink(s->temporary);
	return status;
}

int rdt_checkpoint_save(rdt_comm *comm, const char *directory, const struct rdt_checkpoint *given)
{
	struct rdt_checkpoint taken, *c = &taken;
	struct save s = { .comm = comm, .fd = -1, .directory = directory, .c = c };
	int status;

	if (!comm)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_checkpoint_save: no communicator");
	s.rank = rdt_comm_rank(comm);
	s.size = rdt_comm_size(comm);
	status = rdt_agree(comm, rdt_checkpoint_take("rdt_checkpoint_save", directory, given, c));
	if (!status)
		status = rdt_checkpoint_same(comm, c);
	if (status)
		return status;
	s.words[0] = c->step;
	s.words[1] = c->position;
	s.words[2] = c->seed;
	status = rdt_broadcast(comm, s.words, 3, RDT_UINT64, 0);
	if (!status)
		status = save(&s);
	if (s.fd >= 0)
		close(s.fd);
	free(s.path);
	free(s.temporary);
	free(s.order);
	free(s.entries);
	free(s.slabs);
	free(s.parts);
	free(s.header);
	return status;
}
