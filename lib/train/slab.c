/* SPDX-License-Identifier: BSD-3-Clause */
/* Boxes of tensors; see slab.h. */
#include "slab.h"

uint64_t rdt_slab_elements(const struct rdt_slab *slab, int n_dims)
{
	uint64_t n = 1;

	for (int i = 0; i < n_dims; i++)
		n *= slab->count[i];
	return n;
}

bool rdt_slab_fits(const struct rdt_slab *slab, int n_dims, const uint64_t *dims)
{
	for (int i = 0; i < n_dims; i++)
		if (slab->start[i] > dims[i] || slab->count[i] > dims[i] - slab->start[i])
			return false;
	return true;
}

bool rdt_slab_equal(const struct rdt_slab *a, const struct rdt_slab *b, int n_dims)
{
	for (int i = 0; i < n_dims; i++)
		if (a->start[i] != b->start[i] || a->count[i] != b->count[i])
			return false;
	return true;
}

bool rdt_slabs_meet(const struct rdt_slab *a, const struct rdt_slab *b, int n_dims)
{
	for (int i = 0; i < n_dims; i++)
		if (a->count[i] == 0 || b->count[i] == 0 ||
		    a->start[i] >= b->start[i] + b->count[i] ||
		    b->start[i] >= a->start[i] + a->count[i])
			return false;
	return true;
}

int rdt_slab_runs(const struct rdt_slab *slab, int n_dims, const uint64_t *dims,
		  int (*visit)(void *arg, uint64_t whole, uint64_t part, uint64_t n), void *arg)
{
	uint64_t run = 1, elements = rdt_slab_elements(slab, n_dims);
	int outer = n_dims;

	/* From the last dimension on: as long as all of the dimensions behind are taken, the run
	 * goes on. */
	while (outer > 0) {
		outer--;
		run *= slab->count[outer];
		if (slab->count[outer] != dims[outer])
			break;
	}
	for (uint64_t part = 0; part < elements; part += run) {
		/* The index of the run's first element, digit by digit from the last dimension. */
		uint64_t rest = part, whole = 0, stride = 1;
		int status;

		for (int i = n_dims - 1; i >= 0; i--) {
			whole += (slab->start[i] + rest % slab->count[i]) * stride;
			rest /= slab->count[i];
			stride *= dims[i];
		}
		status = visit(arg, whole, part, run);
		if (status)
			return status;
	}
	return 0;
}
