/* SPDX-License-Identifier: BSD-3-Clause */
/* What the workers of train_mlp do together; see trainer.h. */
#include "trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int rdt_failed(const struct trainer *t)
{
	fprintf(stderr, "rank %d: %s\n", t->rank, rdt_last_error());
	return -1;
}

/* ---- what the network asks for --------------------------------------------------------------- */

/* Of a network that is divided: activations, or derivatives by them, summed over its parts. */
static int sum_over_parts(void *arg, float *v, size_t n)
{
	struct trainer *t = arg;

	return rdt_allreduce(rdt_grid_model(t->grid), v, v, n, RDT_FLOAT32, RDT_SUM) ? rdt_failed(t)
										     : 0;
}

/* The gradient of a layer is there: its allreduce runs while the layers below are computed. */
static int layer_ready(void *arg, int layer)
{
	struct trainer *t = arg;

	return t->reducer && rdt_reducer_ready(t->reducer, layer) ? rdt_failed(t) : 0;
}

/* ---- set-up ---------------------------------------------------------------------------------- */

static int make_grid(struct trainer *t, const int *width, int n_layers,
		     struct rdt_layer_part *layers)
{
	t->copies = t->s->copies ? t->s->copies : t->size / t->s->parts;
	t->parts = t->s->parts ? t->s->parts : t->size / t->copies;
	if (rdt_grid_create(t->comm, t->copies, t->parts, &t->grid))
		return rdt_failed(t);
	t->copy = rdt_comm_rank(rdt_grid_data(t->grid));
	t->part = rdt_comm_rank(rdt_grid_model(t->grid));
	return rdt_part_layers(width, n_layers, t->parts, t->part, layers) ? rdt_failed(t) : 0;
}

static struct rdt_optimizer_options optimizer_options(const struct settings *s)
{
	return (struct rdt_optimizer_options){ .size = sizeof(struct rdt_optimizer_options),
					       .kind = s->optimizer,
					       .momentum = s->momentum };
}

/* Gradients lie in memory of the reducer, where peers read them. */
static int make_reducer(struct trainer *t)
{
	struct rdt_reducer_options o = { .size = sizeof(o),
					 .bucket_bytes = (size_t)t->s->bucket,
					 .wire = t->s->wire,
					 .accumulate = t->s->accumulate > 1,
					 .sum = 1 }; /* divided by the batch already */
	struct rdt_optimizer_options optimizer = optimizer_options(t->s);
	struct rdt_gradient gradients[MLP_LAYERS_MAX] = { 0 };

	for (int l = 0; l < t->mlp.n_layers; l++)
		gradients[l].count = t->mlp.offset[l + 1] - t->mlp.offset[l];
	if (rdt_reducer_create(rdt_grid_data(t->grid), gradients, t->mlp.n_layers, &o, &t->reducer))
		return rdt_failed(t);
	for (int l = 0; l < t->mlp.n_layers; l++) {
		t->gradient[l] = rdt_reducer_gradient(t->reducer, l);
		if (rdt_optimizer_create(&optimizer, gradients[l].count, RDT_FLOAT32,
					 &t->optimizer[l]))
			return rdt_failed(t);
	}
	return 0;
}

static int make_sharded(struct trainer *t, size_t count)
{
	struct rdt_optimizer_options optimizer = optimizer_options(t->s);
	struct rdt_sharded_options o = { .size = sizeof(o),
					 .count = count,
					 .type = RDT_FLOAT32,
					 .sum = 1,
					 .optimizer = &optimizer };

	return rdt_sharded_create(rdt_grid_data(t->grid), &o, &t->sharded) ? rdt_failed(t) : 0;
}

int trainer_open(struct trainer *t, rdt_comm *comm, const struct settings *s, const int *width,
		 int n_layers, int rows)
{
	struct rdt_layer_part layers[MLP_LAYERS_MAX];

	*t = (struct trainer){
		.s = s, .comm = comm, .rank = rdt_comm_rank(comm), .size = rdt_comm_size(comm)
	};
	if (make_grid(t, width, n_layers, layers) ||
	    (s->shard && make_sharded(t, mlp_count(width, n_layers, layers))))
		return -1;
	if (mlp_init(&t->mlp, width, n_layers, rows, layers, rdt_sharded_params(t->sharded))) {
		fprintf(stderr, "rank %d: out of memory for the network\n", t->rank);
		return -1;
	}
	t->mlp.sum = t->parts > 1 ? sum_over_parts : NULL;
	t->mlp.ready = layer_ready;
	t->mlp.arg = t;
	for (int l = 0; s->shard && l < n_layers; l++)
		t->gradient[l] = (float *)rdt_sharded_gradient(t->sharded) + t->mlp.offset[l];
	if (!s->shard && make_reducer(t))
		return -1;

	/* One copy makes the first parameters; the others take them over. */
	if (t->copy == 0)
		mlp_randomise(&t->mlp, (uint64_t)s->seed);
	if (rdt_broadcast(rdt_grid_data(t->grid), t->mlp.params, t->mlp.n_params, RDT_FLOAT32, 0))
		return rdt_failed(t);
	return 0;
}

void trainer_close(struct trainer *t)
{
	rdt_reducer_destroy(t->reducer);
	for (int l = 0; l < MLP_LAYERS_MAX; l++)
		rdt_optimizer_destroy(t->optimizer[l]);
	mlp_free(&t->mlp);
	rdt_sharded_destroy(t->sharded);
	rdt_grid_destroy(t->grid);
}

/* ---- a step ---------------------------------------------------------------------------------- */

/* In several passes when that was asked for: only the last one's gradients travel. */
static int backward(struct trainer *t, const float *x, const int *y, int rows, size_t total,
		    double *loss)
{
	int passes = (int)t->s->accumulate, features = t->mlp.width[0];

	*loss = 0;
	for (int p = 0; p < passes; p++) {
		size_t first, n = rdt_part((size_t)rows, passes, p, &first);

		if (p + 1 < passes && rdt_reducer_hold(t->reducer))
			return rdt_failed(t);
		/* Divided by the whole batch, not the share: the shares may be unequal. */
		*loss += mlp_gradient(&t->mlp, x + first * (size_t)features, y + first, (int)n,
				      1.0f / (float)total, t->gradient);
		if (t->mlp.failed)
			return -1;
		if (t->reducer && rdt_reducer_finish(t->reducer))
			return rdt_failed(t);
	}
	return 0;
}

int trainer_step(struct trainer *t, const float *x, const int *y, int rows, size_t total,
		 double *loss)
{
	double rate = t->s->learning_rate;
	int status;

	rdt_trace_begin(t->comm, "forward and backward");
	status = backward(t, x, y, rows, total, loss);
	rdt_trace_end(t->comm);
	if (status)
		return status;
	rdt_trace_begin(t->comm, "update");
	if (t->sharded && rdt_sharded_step(t->sharded, t->step, rate))
		status = rdt_failed(t);
	for (int l = 0; l < t->mlp.n_layers && !t->sharded; l++)
		rdt_optimizer_step(t->optimizer[l], t->step, rate, t->mlp.params + t->mlp.offset[l],
				   t->gradient[l]);
	rdt_trace_end(t->comm);
	t->step++;
	return status;
}

int trainer_sum(struct trainer *t, double *v, size_t n)
{
	return rdt_allreduce(rdt_grid_data(t->grid), v, v, n, RDT_FLOAT64, RDT_SUM) ? rdt_failed(t)
										    : 0;
}

/* Each puts its own into a vector of zeros, and the sum over all workers is the list. */
int trainer_compare(struct trainer *t, const char *what, uint64_t digest, bool all,
		    uint64_t *digests)
{
	int status = 0;

	memset(digests, 0, (size_t)t->size * sizeof(*digests));
	digests[t->rank] = digest;
	if (rdt_allreduce(t->comm, digests, digests, (size_t)t->size, RDT_UINT64, RDT_SUM))
		return rdt_failed(t);
	for (int r = 1; r < t->size; r++) {
		int like = all ? 0 : r % t->parts;

		if (digests[r] != digests[like]) {
			if (t->rank == 0)
				fprintf(stderr, "rank %d has other %s than rank %d\n", r, what,
					like);
			status = -1;
		}
	}
	return status;
}
