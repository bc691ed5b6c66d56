/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The state of train_mlp as a checkpoint. Names do not depend on the workers: "layers.0.weight" is
 * the whole of it, of which each worker has a box. With --shard-optimizer the state is a vector for
 * each part of the network, of which each copy has a piece. With --wire, "carry" is what rounding
 * has lost on the workers, one after another; it means something to the same workers only.
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

/* What a run that goes on must, or need not, have in common with the one that it goes on from. */
struct origin {
	int64_t batch, size, parts, wire;
};

static struct origin origin_of(const struct trainer *t)
{
	return (struct origin){ t->s->batch, t->size, t->parts, t->s->wire };
}

static struct rdt_tensor origin_tensor(struct origin *o)
{
	return (struct rdt_tensor){ .name = "run",
				    .type = RDT_INT64,
				    .n_dims = 1,
				    .dims = { sizeof(*o) / sizeof(int64_t) },
				    .data = o };
}

static void add_carry(struct list *list, struct trainer *t)
{
	struct rdt_tensor *tensor = add(list, "carry");

	tensor->n_dims = 1;
	tensor->dims[0] = t->carry_total;
	tensor->start[0] = t->carry_first;
	tensor->count[0] = t->carry_count;
	tensor->data = t->carry;
}

static int fill(struct list *list, struct trainer *t, bool carry)
{
	char what[NAME];

	list->room = 8 * MLP_LAYERS_MAX + 2 * t->parts + 2;
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
	if (carry)
		add_carry(list, t);
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
	struct origin origin = origin_of(t);
	int status = fill(&list, t, t->carry_total > 0);

	if (!status) {
		struct rdt_checkpoint c = { .size = sizeof(c),
					    .tensors = list.tensors,
					    .n_tensors = list.n + 1,
					    .step = t->step,
					    .position = position,
					    .seed = (uint64_t)t->s->seed,
					    .keep = KEEP };

		list.tensors[list.n] = origin_tensor(&origin);
		if (rdt_checkpoint_save(t->comm, t->s->checkpoint, &c))
			status = rdt_failed(t);
	}
	release(&list);
	return status;
}

/* Is there a checkpoint, of a run that this one can continue? *carry: also what rounding lost. */
static int examine(struct trainer *t, bool *found, bool *carry)
{
	struct origin origin, own = origin_of(t);
	struct rdt_tensor tensor = origin_tensor(&origin);
	struct rdt_checkpoint c = { .size = sizeof(c), .tensors = &tensor, .n_tensors = 1 };

	if (rdt_checkpoint_load(t->comm, t->s->checkpoint, &c))
		return rdt_failed(t);
	*found = c.found;
	if (!c.found)
		return 0;
	if (c.seed != (uint64_t)t->s->seed || origin.batch != own.batch) {
		fprintf(stderr, "rank %d: the checkpoint is of --seed %llu --batch %lld\n", t->rank,
			(unsigned long long)c.seed, (long long)origin.batch);
		return -1;
	}
	*carry = t->carry_total > 0 && memcmp(&origin, &own, sizeof(own)) == 0;
	if (t->carry_total > 0 && !*carry && t->rank == 0)
		printf("the checkpoint is of other workers or another --wire: what rounding had "
		       "lost is not taken over\n");
	return 0;
}

int checkpoint_load(struct trainer *t, uint64_t *position)
{
	struct rdt_checkpoint c = { .size = sizeof(c) };
	struct list list = { 0 };
	bool found = false, carry = false;
	int status = examine(t, &found, &carry);

	*position = 0;
	if (status || !found)
		return status;
	status = fill(&list, t, carry);
	c.tensors = list.tensors;
	c.n_tensors = list.n;
	if (!status && rdt_checkpoint_load(t->comm, t->s->checkpoint, &c))
		status = rdt_failed(t);
	if (!status) {
		t->step = c.step;
		*position = c.position;
		if (t->rank == 0)
			printf("%s%sgoing on from step %llu\n", c.skipped, *c.skipped ? "\n" : "",
			       (unsigned long long)c.step);
	}
	release(&list);
	return status;
}
