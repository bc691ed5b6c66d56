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

/* Where a checkpoint has this worker's carry. Workers with other parts of the network have others
 * in length. */
static int place_carry(struct trainer *t)
{
	uint64_t mine, *counts = calloc((size_t)t->size, sizeof(*counts));
	int status = -1;

	t->carry = rdt_reducer_carry(t->reducer, &t->carry_count);
	mine = t->carry_count;
	if (!counts)
		fprintf(stderr, "rank %d: out of memory for %d counts\n", t->rank, t->size);
	else if (rdt_allgather(t->comm, &mine, counts, 1, RDT_UINT64))
		rdt_failed(t);
	else
		status = 0;
	for (int r = 0; r < t->size && !status; r++) {
		t->carry_first += r < t->rank ? counts[r] : 0;
		t->carry_total += counts[r];
	}
	free(counts);
	return status;
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
	return place_carry(t);
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

/*
 * Servers update by the mean of what the workers push, or by each push when workers need not keep
 * step. What a worker pushes is the mean gradient of its share, so the rate is divided by their
 * number in the latter case.
 */
static int make_server(struct trainer *t)
{
	struct rdt_ps_tensor tensors[MLP_LAYERS_MAX];
	char names[MLP_LAYERS_MAX][24];
	struct rdt_ps_options o = { .size = sizeof(o),
				    .servers = t->s->servers,
				    .mode = t->s->staleness < 0 ? RDT_PS_SYNC : RDT_PS_STALE,
				    .staleness =
					    t->s->staleness < 0 ? 0 : (uint64_t)t->s->staleness,
				    .type = RDT_FLOAT32,
				    .optimizer = optimizer_options(t->s),
				    .rate = { .base = t->s->learning_rate } };
	int workers = rdt_comm_size(t->all) - t->s->servers;

	if (o.mode == RDT_PS_STALE)
		o.rate.base /= workers;
	t->pushed = calloc(t->mlp.n_params, sizeof(float));
	if (!t->pushed) {
		fprintf(stderr, "rank %d: out of memory for gradients\n", t->rank);
		return -1;
	}
	for (int l = 0; l < t->mlp.n_layers; l++) {
		snprintf(names[l], sizeof(names[l]), "layers.%d", l);
		t->gradient[l] = t->pushed + t->mlp.offset[l];
		tensors[l] =
			(struct rdt_ps_tensor){ .name = names[l],
						.data = t->mlp.params + t->mlp.offset[l],
						.count = t->mlp.offset[l + 1] - t->mlp.offset[l] };
	}
	/* All begin with the parameters of rank 0, a server. */
	mlp_randomise(&t->mlp, (uint64_t)t->s->seed);
	if (rdt_ps_create(t->all, &o, tensors, t->mlp.n_layers, &t->ps))
		return rdt_failed(t);
	return t->rank >= 0 && rdt_ps_pull(t->ps) ? rdt_failed(t) : 0;
}

/* Divides the processes when some are to serve. */
static int find_workers(struct trainer *t)
{
	bool server = rdt_comm_rank(t->all) < t->s->servers;

	t->comm = t->all;
	if (t->s->servers >= rdt_comm_size(t->all)) {
		fprintf(stderr, "train_mlp: %d servers of %d processes leave no worker\n",
			t->s->servers, rdt_comm_size(t->all));
		return -1;
	}
	if (t->s->servers && rdt_comm_split(t->all, server ? -1 : 0, 0, &t->comm))
		return rdt_failed(t);
	t->rank = server ? -1 : rdt_comm_rank(t->comm);
	t->size = server ? 0 : rdt_comm_size(t->comm);
	return 0;
}

int trainer_open(struct trainer *t, rdt_comm *comm, const struct settings *s, const int *width,
		 int n_layers, int rows)
{
	struct rdt_layer_part layers[MLP_LAYERS_MAX];

	*t = (struct trainer){ .s = s, .all = comm, .copies = 1, .parts = 1 };
	if (find_workers(t))
		return -1;
	if (t->rank < 0) {
		if (mlp_init(&t->mlp, width, n_layers, 1, NULL, NULL)) {
			fprintf(stderr, "train_mlp: out of memory for the network\n");
			return -1;
		}
		return make_server(t);
	}
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
	if (s->servers)
		return make_server(t);
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
	rdt_ps_destroy(t->ps);
	free(t->pushed);
	rdt_reducer_destroy(t->reducer);
	for (int l = 0; l < MLP_LAYERS_MAX; l++)
		rdt_optimizer_destroy(t->optimizer[l]);
	mlp_free(&t->mlp);
	rdt_sharded_destroy(t->sharded);
	rdt_grid_destroy(t->grid);
	if (t->comm != t->all)
		rdt_comm_destroy(t->comm);
}

/* ---- a step ---------------------------------------------------------------------------------- */

/* In several passes when that was asked for: only the last one's gradients travel. */
static int backward(struct trainer *t, const float *x, const int *y, int rows, size_t total,
		    double *loss)
{
	int passes = (int)t->s->accumulate, features = t->mlp.width[0];
	/* Divided by the whole batch, not the share: the shares may be unequal. A server takes the
	 * mean over the workers, of which their number makes the sum. */
	float scale = (t->ps ? (float)t->size : 1) / (float)total;

	*loss = 0;
	for (int p = 0; p < passes; p++) {
		size_t first, n = rdt_part((size_t)rows, passes, p, &first);

		if (p + 1 < passes && rdt_reducer_hold(t->reducer))
			return rdt_failed(t);
		*loss += mlp_gradient(&t->mlp, x + first * (size_t)features, y + first, (int)n,
				      scale, t->gradient);
		if (t->mlp.failed)
			return -1;
		if (t->reducer && rdt_reducer_finish(t->reducer))
			return rdt_failed(t);
	}
	return 0;
}

static int push_and_pull(struct trainer *t)
{
	const void *gradients[MLP_LAYERS_MAX];

	for (int l = 0; l < t->mlp.n_layers; l++)
		gradients[l] = t->gradient[l];
	return rdt_ps_push(t->ps, gradients) || rdt_ps_pull(t->ps) ? rdt_failed(t) : 0;
}

int trainer_serve(struct trainer *t)
{
	return rdt_ps_serve(t->ps) ? rdt_failed(t) : 0;
}

int trainer_finish(struct trainer *t)
{
	if (!t->ps)
		return 0;
	/* Each has seen its own pushes applied; when all have, all see the same. */
	return rdt_barrier(t->comm) || rdt_ps_pull(t->ps) ? rdt_failed(t) : 0;
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
	if (t->ps)
		status = push_and_pull(t);
	for (int l = 0; l < t->mlp.n_layers && t->reducer; l++)
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
