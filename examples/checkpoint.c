/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The state of train_mlp as a checkpoint. Names do not depend on the workers: "layers.0.weight" is
 * the whole of it, of which each worker has a box. With --shard-optimizer the state is a vector for
 * each part of the network, of which each copy has a piece.
 */
#include "checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME 64
#define KEEP 3 /* checkpoints that stay */

struct list {
	struct rdt_tensor *tensors;
	char (*names)[NAME];
	int n, room;
};

static struct rdt_tensor *add(struct list *list, const char *name)
{
	struct rdt_tensor *tensor = &list->tensors[list->n];

	snprintf(list->names[list->n], NAME, "%s", name);
	*tensor = (struct rdt_tensor){ .name = list->names[list->n],
				       .type = RDT_FLOAT32,
				       .sharded = 1 };
	list->n++;
	return tensor;
}

/* Something that is laid out as a layer's parameters: weights, then biases. */
static void add_layer(struct list *list, const struct mlp *m, int l, const char *what, float *at)
{
	const struct rdt_layer_part *p = &m->layer[l];
	struct rdt_tensor *t;
	char name[NAME];

	snprintf(name, sizeof(name), "layers.%d.weight%s", l, what);
	t = add(list, name);
	t->n_dims = 2;
	t->dims[0] = (uint64_t)m->width[l];
	t->dims[1] = (uint64_t)m->width[l + 1];
	t->start[0] = (uint64_t)p->first_in;
	t->count[0] = (uint64_t)p->n_in;
	t->start[1] = (uint64_t)p->first_out;
	t->count[1] = (uint64_t)p->n_out;
	t->data = at;

	snprintf(name, sizeof(name), "layers.%d.bias%s", l, what);
	t = add(list, name);
	t->n_dims = 1;
	t->dims[0] = (uint64_t)m->width[l + 1];
	t->start[0] = (uint64_t)p->first_out;
	t->count[0] = (uint64_t)p->n_out;
	t->data = at + (size_t)p->n_in * (size_t)p->n_out;
}

/* The pieces of a divided state: one vector for each part, of which this worker knows its own. */
static int add_pieces(struct list *list, struct trainer *t)
{
	struct rdt_layer_part layers[MLP_LAYERS_MAX];
	size_t first, count;
	rdt_optimizer *optimizer = rdt_sharded_optimizer(t->sharded, &first, &count);

	for (int part = 0; part < t->parts; part++) {
		if (rdt_part_layers(t->mlp.width, t->mlp.n_layers, t->parts, part, layers))
			return rdt_failed(t);
		for (int i = 0; i < rdt_optimizer_states(optimizer); i++) {
			struct rdt_tensor *tensor;
			char name[NAME];

			snprintf(name, sizeof(name), "parts.%d.%s", part,
				 rdt_optimizer_state_name(optimizer, i));
			tensor = add(list, name);
			tensor->n_dims = 1;
			tensor->dims[0] = mlp_count(t->mlp.width, t->mlp.n_layers, layers);
			if (part != t->part)
				continue;
			tensor->start[0] = first;
			tensor->count[0] = count;
			tensor->data = rdt_optimizer_state(optimizer, i);
		}
	}
	return 0;
}

static int fill(struct list *list, struct trainer *t)
{
	char what[NAME];

	list->room = 8 * MLP_LAYERS_MAX + 2 * t->parts;
	list->tensors = calloc((size_t)list->room, sizeof(*list->tensors));
	list->names = calloc((size_t)list->room, sizeof(*list->names));
	if (!list->tensors || !list->names) {
		fprintf(stderr, "rank %d: out of memory for a checkpoint\n", t->rank);
		return -1;
	}
	for (int l = 0; l < t->mlp.n_layers; l++) {
		add_layer(list, &t->mlp, l, "", t->mlp.params + t->mlp.offset[l]);
		for (int i = 0; !t->sharded && i < rdt_optimizer_states(t->optimizer[l]); i++) {
			snprintf(what, sizeof(what), ".%s",
				 rdt_optimizer_state_name(t->optimizer[l], i));
			add_layer(list, &t->mlp, l, what, rdt_optimizer_state(t->optimizer[l], i));
		}
	}
	return t->sharded ? add_pieces(list, t) : 0;
}

static void release(struct list *list)
{
	free(list->tensors);
	free(list->names);
}

int checkpoint_save(struct trainer *t, uint64_t position)
{
	struct list list = { 0 };
	int status = fill(&list, t);

	if (!status) {
		struct rdt_checkpoint c = { .size = sizeof(c),
					    .tensors = list.tensors,
					    .n_tensors = list.n,
					    .step = t->step,
					    .position = position,
					    .seed = (uint64_t)t->s->seed,
					    .keep = KEEP };

		if (rdt_checkpoint_save(t->comm, t->s->checkpoint, &c))
			status = rdt_failed(t);
	}
	release(&list);
	return status;
}

int checkpoint_load(struct trainer *t, uint64_t *position)
{
	struct list list = { 0 };
	int status = fill(&list, t);
	struct rdt_checkpoint c = { .size = sizeof(c),
				    .tensors = list.tensors,
				    .n_tensors = list.n };

	*position = 0;
	if (!status && rdt_checkpoint_load(t->comm, t->s->checkpoint, &c))
		status = rdt_failed(t);
	if (!status && c.found && c.seed != (uint64_t)t->s->seed) {
		fprintf(stderr, "rank %d: the checkpoint is of --seed %llu\n", t->rank,
			(unsigned long long)c.seed);
		status = -1;
	}
	if (!status && c.found) {
		t->step = c.step;
		*position = c.position;
		if (t->rank == 0)
			printf("%s%sgoing on from step %llu\n", c.skipped, *c.skipped ? "\n" : "",
			       (unsigned long long)c.step);
	}
	release(&list);
	return status;
}
