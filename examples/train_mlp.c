/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A multi-layer perceptron learns a table on all workers. This file is the training loop; trainer.c
 * is what the workers do together, mlp.c the network, samples.c the data, settings.c the options.
 *
 *	rdtrain run -n 4 -- ./train_mlp --hidden 64,32 --epochs 30
 *	rdtrain run -n 4 -- ./train_mlp --parallel 2x2 --wire bfloat16
 *	rdtrain run -n 5 -- ./train_mlp --mode server --staleness 4
 *
 * One step, on each worker:
 *   1. its share of the global batch -> the share's part of the gradient, divided by the batch
 *   2. the parts are summed -> the mean gradient over the whole batch, bitwise the same everywhere
 *   3. the same update on all copies of the network, so that they never differ
 * The global batch and the seed decide which samples a step sees, not the number of workers: any
 * number of workers trains the same network, but for rounding.
 */
#include <rdtrain/train.h>

#include <cblas.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "checkpoint.h"
#include "progress.h"
#include "samples.h"
#include "settings.h"
#include "trainer.h"

struct worker {
	struct settings s;
	struct trainer t;
	struct samples samples;
	rdt_sampler *sampler;
	FILE *json; /* rank 0's results */
	double loss, accuracy, samples_per_s;
	long epochs;	   /* done ... */
	long resumed;	   /* ... of them by a run before */
	uint64_t *digests; /* of every worker's parameters */
};

static int failed(const struct worker *w, const char *sentence)
{
	fprintf(stderr, "rank %d: %s\n", w->t.rank, sentence);
	return -1;
}

/* ---- training ------------------------------------------------------------------------ */

/* The part of the test set that is classified right; each copy tests its share. */
static int test(struct worker *w)
{
	size_t n = w->samples.rows - w->samples.n_train, most = (size_t)w->t.mlp.max_rows, first;
	size_t mine = rdt_part(n, w->t.copies, w->t.copy, &first);
	double correct = 0;

	for (size_t i = 0; i < mine; i += most) {
		size_t rows = i + most < mine ? most : mine - i;

		samples_gather(&w->samples, w->samples.n_train + first + i, NULL, rows);
		correct += mlp_correct(&w->t.mlp, w->samples.gathered_x, w->samples.gathered_y,
				       (int)rows);
	}
	if (w->t.mlp.failed || trainer_sum(&w->t, &correct, 1))
		return -1;
	w->accuracy = correct / (double)n;
	return 0;
}

static int train_epoch(struct worker *w, struct progress *bar)
{
	double seen[2] = { 0 }; /* loss, samples */
	uint64_t steps = rdt_sampler_steps(w->sampler);

	for (uint64_t s = 0; s < steps; s++) {
		struct rdt_batch batch;
		double loss;

		rdt_sampler_next(w->sampler, &batch);
		samples_gather(&w->samples, 0, batch.rows, batch.n);
		if (trainer_step(&w->t, w->samples.gathered_x, w->samples.gathered_y, (int)batch.n,
				 batch.total, &loss))
			return -1;
		seen[0] += loss;
		seen[1] += (double)batch.n;
		progress_draw(bar, (double)(s + 1) / (double)steps, "epoch", w->epochs + 1,
			      w->s.epochs);
	}
	if (trainer_sum(&w->t, seen, 2))
		return -1;
	w->loss = seen[0] / seen[1];
	return 0;
}

static int train(struct worker *w)
{
	struct progress bar = { .on = w->t.rank == 0 && !w->s.no_progress && on_terminal() };
	struct rdt_stop stop = { .epochs = (uint64_t)w->s.epochs, .seconds = w->s.seconds };
	enum rdt_stop_reason reason = RDT_GO_ON;
	double total_time = 0, begin;

	if (w->t.rank == 0)
		printf("epoch  training loss  test accuracy  samples/s\n");
	while (reason == RDT_GO_ON) {
		begin = now();
		if (train_epoch(w, &bar))
			return -1;
		begin = now() - begin;
		total_time += begin;
		w->epochs++;
		if (w->s.checkpoint && checkpoint_save(&w->t, rdt_sampler_position(w->sampler)))
			return -1;
		if (test(w))
			return -1;
		if (w->t.rank == 0)
			printf("%s%5ld  %13.6f  %13.4f  %9.0f\n", progress_clear(&bar), w->epochs,
			       w->loss, w->accuracy, (double)w->samples.n_train / begin);
		if (rdt_stop_check(&stop, w->t.comm, (uint64_t)w->epochs, w->loss, 1, &reason))
			return rdt_failed(&w->t);
	}
	if (reason == RDT_STOP_DIVERGED)
		return w->t.rank ? -1
				 : failed(w, "the loss is no longer finite; try a smaller --lr");
	w->samples_per_s =
		(double)w->samples.n_train * (double)(w->epochs - w->resumed) / total_time;
	return trainer_finish(&w->t) || test(w) ? -1 : 0;
}

/* ---- results ------------------------------------------------------------------------- */

static void print_result(const struct worker *w, bool same)
{
	printf("\nworkers            %d\n", w->t.size);
	if (w->t.parts > 1)
		printf("grid               %d copies of %d parts\n", w->t.copies, w->t.parts);
	printf("epochs             %ld\ntraining loss      %.6f\ntest accuracy      %.4f\n"
	       "samples per second %.0f\n",
	       w->epochs, w->loss, w->accuracy, w->samples_per_s);
	printf("parameters         %s on all %s\n", same ? "equal" : "NOT EQUAL",
	       w->t.parts > 1 ? "copies" : "ranks");
	for (int r = 0; r < w->t.size; r++)
		printf("  rank %-4d digest %016" PRIx64 "\n", r, w->digests[r]);
}

static int write_json(struct worker *w)
{
	json_t *list = json_array(), *root;
	char text[17];
	int status;

	for (int r = 0; r < w->t.size; r++) {
		snprintf(text, sizeof(text), "%016" PRIx64, w->digests[r]);
		json_array_append_new(list, json_string(text));
	}
	root = json_pack("{s:i, s:i, s:I, s:f, s:f, s:f, s:o}", "workers", w->t.size, "parts",
			 w->t.parts, "epochs", (json_int_t)w->epochs, "loss", w->loss, "accuracy",
			 w->accuracy, "samples_per_s", w->samples_per_s, "digests", list);
	errno = 0;
	status = root ? json_dumpf(root, w->json, JSON_INDENT(2)) : -1;
	if (fclose(w->json))
		status = -1;
	w->json = NULL;
	if (status)
		fprintf(stderr, "rank %d: cannot write %s: %s\n", w->t.rank, w->s.json,
			errno ? strerror(errno) : "out of memory");
	json_decref(root);
	return status;
}

static int report(struct worker *w)
{
	int status = trainer_compare(
		&w->t, "parameters",
		XXH3_64bits(w->t.mlp.params, w->t.mlp.n_params * sizeof(float)), false, w->digests);

	if (w->t.rank == 0) {
		print_result(w, status == 0);
		if (w->json && write_json(w))
			status = -1;
	}
	return status;
}

/* ---- set-up -------------------------------------------------------------------------- */

/* Before the work, not after it: can the results be written? */
static int open_json(struct worker *w)
{
	char text[512];

	if (!w->s.json || w->t.rank != 0)
		return 0;
	w->json = fopen(w->s.json, "w");
	if (w->json)
		return 0;
	snprintf(text, sizeof(text), "cannot write %s: %s", w->s.json, strerror(errno));
	return failed(w, text);
}

/* Which samples this worker works on in each step: its copy's share of the batch. */
static int open_sampler(struct worker *w)
{
	struct rdt_sampler_options o = { .size = sizeof(o),
					 .samples = w->samples.n_train,
					 .batch = (uint64_t)w->s.batch,
					 .seed = (uint64_t)w->s.seed,
					 .rank = w->t.copy,
					 .workers = w->t.copies };

	return rdt_sampler_create(&o, &w->sampler) ? rdt_failed(&w->t) : 0;
}

static void describe(const struct worker *w, const int *width)
{
	const struct settings *s = &w->s;

	printf("%s: %zu rows, %zu to train on and %zu to test\nnetwork %d", s->data,
	       w->samples.rows, w->samples.n_train, w->samples.rows - w->samples.n_train, width[0]);
	for (int l = 1; l <= s->n_hidden + 1; l++)
		printf("-%d", width[l]);
	printf(", %zu parameters; workers %d, global batch %ld, learning rate %g, momentum %g, "
	       "seed %ld\n",
	       mlp_count(width, s->n_hidden + 1, NULL), w->t.size, s->batch, s->learning_rate,
	       s->momentum, s->seed);
}

static int resume(struct worker *w)
{
	uint64_t position;

	if (checkpoint_load(&w->t, &position))
		return -1;
	rdt_sampler_seek(w->sampler, position);
	w->epochs = w->resumed = (long)(position / rdt_sampler_steps(w->sampler));
	return 0;
}

static int run(struct worker *w, rdt_comm *comm)
{
	int width[MLP_LAYERS_MAX + 1] = { 0 }, n = w->s.n_hidden + 1;

	w->digests = calloc((size_t)rdt_comm_size(comm), sizeof(*w->digests));
	if (!w->digests ||
	    samples_read(&w->samples, w->s.data, (uint64_t)w->s.seed, (size_t)w->s.batch))
		return -1;
	width[0] = (int)w->samples.features;
	memcpy(&width[1], w->s.hidden, (size_t)w->s.n_hidden * sizeof(int));
	width[n] = w->samples.classes;
	if (trainer_open(&w->t, comm, &w->s, width, n, (int)w->s.batch))
		return -1;
	if (w->t.rank < 0)
		return trainer_serve(&w->t);
	if (open_json(w) || open_sampler(w))
		return -1;
	if (w->t.rank == 0)
		describe(w, width);
	/* Workers on several hosts read several files. */
	if (trainer_compare(&w->t, "data", samples_digest(&w->samples), true, w->digests))
		return -1;
	if (w->s.resume && resume(w))
		return -1;
	return train(w) || report(w) ? -1 : 0;
}

int main(int argc, char **argv)
{
	struct worker w = { .s = settings_parse(argc, argv) };
	rdt_comm *comm;
	int status;

	setvbuf(stdout, NULL, _IOLBF, 0); /* a line at a time, also through a pipe */
	/* Workers share the processors: one thread each, unless someone has said otherwise. */
	if (!getenv("OPENBLAS_NUM_THREADS") && !getenv("OMP_NUM_THREADS"))
		openblas_set_num_threads(1);

	/* Who this worker is and where the others are comes from the environment. */
	if (rdt_comm_create(NULL, &comm)) {
		fprintf(stderr, "%s\n", rdt_last_error());
		return 1;
	}
	status = run(&w, comm);

	/* After a failure of this worker alone, the others must not wait for it. */
	if (status)
		rdt_comm_abort(comm);
	trainer_close(&w.t);
	rdt_comm_destroy(comm);
	rdt_sampler_destroy(w.sampler);
	samples_free(&w.samples);
	if (w.json)
		fclose(w.json);
	free(w.digests);
	return status ? 1 : 0;
}
