/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Slabs: a box of a tensor, as `start` and `count` in each dimension. In the whole tensor it is a
 * number of runs of elements that lie together.
 */
#ifndef RDT_TRAIN_SLAB_H
#define RDT_TRAIN_SLAB_H

#include <stdbool.h>

#include <rdtrain/train.h>

struct rdt_slab {
	uint64_t start[RDT_DIMS_MAX], count[RDT_DIMS_MAX];
};

/* Elements of it; a tensor without dimensions has one. */
uint64_t rdt_slab_elements(const struct rdt_slab *slab, int n_dims);
/* Does it lie within the tensor? */
bool rdt_slab_fits(const struct rdt_slab *slab, int n_dims, const uint64_t *dims);
bool rdt_slab_equal(const struct rdt_slab *a, const struct rdt_slab *b, int n_dims);
bool rdt_slabs_meet(const struct rdt_slab *a, const struct rdt_slab *b, int n_dims);

/*
 * Calls visit with each run, in order: `whole` is its first element in the tensor, `part` in the
 * slab by itself. Ends early with what visit returns when that is not 0.
 */
int rdt_slab_runs(const struct rdt_slab *slab, int n_dims, const uint64_t *dims,
		  int (*visit)(void *arg, uint64_t whole, uint64_t part, uint64_t n), void *arg);

#endif
