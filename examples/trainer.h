/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the workers of train_mlp do together: who has which part of the network, how gradients are
 * brought together, who updates what. Everything that librdtrain is used for in a training step is
 * here.
 */
#ifndef EXAMPLES_TRAINER_H
#define EXAMPLES_TRAINER_H

#include <rdtrain/train.h>

#include "mlp.h"
#include "settings.h"

struct trainer {
	const struct settings *s;
	rdt_comm *all;	/* every process */
	rdt_comm *comm; /* the workers: all of them, but for servers */
	int rank, size; /* among the workers; a server's rank is -1 */
	/* Ranks in a grid: copies of the network, each divided into parts. */
	rdt_grid *grid;
	int copy, copies, part, parts;
	struct mlp mlp;			 /* this worker's part */
	float *gradient[MLP_LAYERS_MAX]; /* by layer */
	/* Either each copy updates all of its parameters, by gradients that the reducer sums ... */
	rdt_reducer *reducer;
	rdt_optimizer *optimizer[MLP_LAYERS_MAX];
	float *carry; /* of the reducer, with --wire; all workers' one after the other ... */
	size_t carry_first, carry_count, carry_total; /* ... have this one's from `first` on */
	/* ... or each of the workers with the same part updates a piece ... */
	rdt_sharded *sharded;
	/* ... or servers do, to which gradients are pushed and from which parameters are pulled. */
	rdt_ps *ps;
	float *pushed; /* the gradients */
	uint64_t step; /* updates so far */
};

/*
 * Divides the workers of `comm` and makes the network: width[0 .. n_layers], at most `rows` rows at
 * a time. Collective, as all of these. 0, or -1 with the sentence printed; trainer_close is owed in
 * either case.
 */
int trainer_open(struct trainer *t, rdt_comm *comm, const struct settings *s, const int *width,
		 int n_layers, int rows);
void trainer_close(struct trainer *t);

/*
 * One update of all parameters by the mean gradient over `total` samples, `rows` of which this
 * worker has. *loss: the sum of this worker's.
 */
int trainer_step(struct trainer *t, const float *x, const int *y, int rows, size_t total,
		 double *loss);

/* A server's work, until the workers are done. */
int trainer_serve(struct trainer *t);
/* The last parameters, the same for all workers. */
int trainer_finish(struct trainer *t);

/* Adds up over the copies: each has seen other samples. */
int trainer_sum(struct trainer *t, double *v, size_t n);

/*
 * Collects every worker's digest in digests[size]. -1, and it says who, when two that ought to be
 * equal are not: those of workers with the same part, or of all.
 */
int trainer_compare(struct trainer *t, const char *what, uint64_t digest, bool all,
		    uint64_t *digests);

/* For a failed rdt_ call: the library has the sentence. Returns -1. */
int rdt_failed(const struct trainer *t);

#endif
