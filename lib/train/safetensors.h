/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The safetensors format (github.com/huggingface/safetensors, README, "Format"): the header's
 * length in 8 bytes, little-endian; the header, a JSON object that begins with '{' and may end in
 * blanks; the data. Each entry of the header is a tensor's dtype, shape and data_offsets, which
 * count from the data's start; the tensors cover the data without hole or overlap. "__metadata__"
 * maps strings to strings.
 *
 * This is the header alone: nothing here reads or writes a tensor, and no byte of a file is
 * trusted.
 */
#ifndef RDT_TRAIN_SAFETENSORS_H
#define RDT_TRAIN_SAFETENSORS_H

#include <rdtrain/train.h>

/* What the format's own implementation takes at most. */
#define RDT_HEADER_MAX 100000000

struct rdt_entry {
	const char *name; /* when read: the header's own, freed with it */
	enum rdt_type type;
	int n_dims;
	uint64_t dims[RDT_DIMS_MAX];
	uint64_t begin, end; /* bytes, from the data's start */
};

struct rdt_header {
	struct rdt_entry *entries;
	size_t n;
	uint64_t data_at; /* where the data begins in the file */
	void *json;	  /* owns names and metadata */
};

/*
 * Reads the header in the first `n` bytes of a file of `file_bytes`; `n` may be all of it, and must
 * be 8 + the header's length at least, if the file is that long. Errors: INVALID ("NAME: byte
 * OFFSET: ..."), NOMEM. rdt_header_free is owed after 0 only.
 */
int rdt_header_parse(const char *name, const void *bytes, size_t n, uint64_t file_bytes,
		     struct rdt_header *header);
void rdt_header_free(struct rdt_header *header);

const struct rdt_entry *rdt_header_find(const struct rdt_header *header, const char *name);
/* A string of __metadata__, or NULL. */
const char *rdt_header_metadata(const struct rdt_header *header, const char *key);

/*
 * Writes the first data_at bytes of a file into *bytes (malloc'd) for entries whose offsets are
 * set. `metadata` are n_metadata pairs of key and value, which come first and in this order.
 * Errors: INVALID (a name is no UTF-8), NOMEM.
 */
int rdt_header_write(const struct rdt_entry *entries, size_t n, const char *const (*metadata)[2],
		     size_t n_metadata, unsigned char **bytes, size_t *n_bytes);

#endif
