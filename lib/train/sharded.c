/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Optimizer state divided over ranks. Each rank updates a piece of the parameters, and so needs the
 * optimizer's state of that piece only:
 *
 *	1. reduce-scatter: each rank gets the mean gradient of its piece
 *	2. the optimizer updates the piece
 *	3. allgather: everybody gets all pieces
 *
 * Together they move as many bytes as the allreduce that they replace, which is made of these two
 * halves.
 */
#include <rdtrain/train.h>

#include <stdlib.h>

#include "options.h"

struct rdt_sharded {
	rdt_comm *comm;
	size_t first, count; /* of this rank's piece */
	size_t elem;
	void *params, *gradient;
	rdt_optimizer *optimizer;
	rdt_plan *reduce_scatter, *allgather;
};

static int make(rdt_sharded *s, const struct rdt_sharded_options *o)
{
	int ranks = rdt_comm_size(s->comm), rank = rdt_comm_rank(s->comm), status;
	size_t *counts = calloc((size_t)ranks, sizeof(*counts));

	if (!counts)
		return rdt_set_error(RDT_ERR_NOMEM, "out of memory for the pieces of %d ranks",
				     ranks);
	for (int r = 0; r < ranks; r++)
		counts[r] = rdt_part(o->count, ranks, r, NULL);
	s->count = rdt_part(o->count, ranks, rank, &s->first);
	s->elem = rdt_type_size(o->type);
	status = rdt_optimizer_create(o->optimizer, s->count, o->type, &s->optimizer);
	if (!status)
		status = rdt_alloc(s->comm, o->count * s->elem, &s->params);
	if (!status)
		status = rdt_alloc(s->comm, o->count * s->elem, &s->gradient);
	if (!status)
		status = rdt_reduce_scatterv_plan(
			s->comm, s->gradient, (char *)s->gradient + s->first * s->elem, counts,
			o->type, o->sum ? RDT_SUM : RDT_AVG, &s->reduce_scatter);
	if (!status)
		status = rdt_allgatherv_plan(s->comm, (char *)s->params + s->first * s->elem,
					     s->params, counts, o->type, &s->allgather);
	free(counts);
	return status;
}

int rdt_sharded_create(rdt_comm *comm, const struct rdt_sharded_options *options, rdt_sharded **out)
{
	struct rdt_sharded_options o;
	rdt_sharded *s;
	int status;

	if (!comm || !options || !out)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_sharded_create: %s is NULL",
				     !comm	? "comm"
				     : !options ? "options"
						: "sharded");
	*out = NULL;
	status = rdt_options_copy("rdt_sharded_options", &o, sizeof(o), options);
	if (status)
		return status;
	if ((o.type != RDT_FLOAT32 && o.type != RDT_FLOAT64) || !o.optimizer ||
	    o.count < (size_t)rdt_comm_size(comm))
		return rdt_set_error(RDT_ERR_INVALID,
				     "rdt_sharded_create: float32 or float64, an optimizer, and no "
				     "fewer parameters than ranks, please");
	s = calloc(1, sizeof(*s));
	if (!s)
		return rdt_set_error(RDT_ERR_NOMEM, "out of memory for sharded parameters");
	s->comm = comm;
	status = make(s, &o);
	if (status) {
		rdt_sharded_destroy(s);
		return status;
	}
	*out = s;
	return 0;
}

void rdt_sharded_destroy(rdt_sharded *s)
{
	if (!s)
		return;
	rdt_plan_destroy(s->reduce_scatter);
	rdt_plan_destroy(s->allgather);
	rdt_free(s->comm, s->params);
	rdt_free(s->comm, s->gradient);
	rdt_optimizer_destroy(s->optimizer);
	free(s);
}

void *rdt_sharded_params(const rdt_sharded *s)
{
	return s ? s->params : NULL;
}

void *rdt_sharded_gradient(const rdt_sharded *s)
{
	return s ? s->gradient : NULL;
}

rdt_optimizer *rdt_sharded_optimizer(const rdt_sharded *s, size_t *first, size_t *count)
{
	if (!s)
		return NULL;
	if (first)
		*first = s->first;
	if (count)
		*count = s->count;
	return s->optimizer;
}

static int run(rdt_plan *plan)
{
	int status = rdt_plan_start(plan);

	return status ? status : rdt_plan_wait(plan);
}

int rdt_sharded_step(rdt_sharded *s, uint64_t step, double rate)
{
	size_t from;
	int status;

	if (!s)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_sharded_step: no sharded parameters");
	from = s->first * s->elem;
	status = run(s->reduce_scatter);
	if (status)
		return status;
	rdt_optimizer_step(s->optimizer, step, rate, (char *)s->params + from,
			   (const char *)s->gradient + from);
	return run(s->allgather);
}
