/* SPDX-License-Identifier: BSD-3-Clause */
/* What saving and loading a checkpoint have in common. */
#ifndef RDT_TRAIN_CHECKPOINT_H
#define RDT_TRAIN_CHECKPOINT_H

#include "safetensors.h"
#include "slab.h"

/* The header's own checksum stands right at its start, so that it can be found in any damage. */
#define RDT_HEADER_SUM "rdtrain.xxh3"
#define RDT_HEADER_PREFIX "{\"__metadata__\":{\"" RDT_HEADER_SUM "\":\""
#define RDT_SUM_DIGITS 16

/* A box of a tensor that one rank writes, and the checksum of its elements. */
struct rdt_part {
	uint32_t entry; /* of the header, in the order of the data */
	int writer;
	struct rdt_slab slab;
	uint64_t sum;
};

/*
 * One rank's outcome becomes everybody's: 0 when all pass 0; else the status of a rank that failed,
 * and its sentence, with its rank. Collective.
 */
int rdt_agree(rdt_comm *comm, int status);

/* Copies and checks the arguments, as far as one rank sees them; then whether all ranks have the
 * same tensors. */
int rdt_checkpoint_take(const char *call, const char *directory, const struct rdt_checkpoint *given,
			struct rdt_checkpoint *c);
int rdt_checkpoint_same(rdt_comm *comm, const struct rdt_checkpoint *c);

/* This rank's box of a tensor. */
struct rdt_slab rdt_tensor_slab(const struct rdt_tensor *t);

/* The name of the checkpoint of a step, with `end` behind it; malloc'd, NULL without memory. */
char *rdt_checkpoint_path(const char *directory, uint64_t step, const char *end);
/* The steps of which there are checkpoints, newest first; malloc'd. None when there is no folder.
 */
int rdt_checkpoint_list(const char *directory, uint64_t **steps, size_t *n);

/* XXH3 of the header's bytes with zeros where its sum stands; `bytes` begin with its length. */
uint64_t rdt_header_sum(const unsigned char *bytes, size_t n_bytes);

/* The parts as text, for the metadata, and back. Fixed in length, whatever the sums. */
char *rdt_parts_write(const struct rdt_part *parts, size_t n, const struct rdt_entry *entries);
int rdt_parts_read(const char *name, const char *text, const struct rdt_header *header,
		   struct rdt_part **parts, size_t *n);

#endif
