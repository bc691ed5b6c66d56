/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A multi-layer perceptron learns a table on all workers. This file is the training loop; trainer.c
 * is what the workers do together, mlp.c the network, samples.c the data, settings.c the options.
 *
 *	rdtrain run -n 4 -- ./train_mlp --hidden 64,32 --epochs 30
 *	rdtrain run -n 4 -- ./train_mlp --parallel 2x2 --wire bfloat16
 *	rdtrain run -n 5 -- ./train_mlp --mode server --staleness 4
 *	rdtrain run -n 4 --restarts 2 -- ./train_mlp --elastic
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
#include "elastic.h"
#include "progress.h"
#include "samples.h"
#include "settings.h"
#include "trainer.h"

/* Where the training is: alike on all workers, but for what only some have completed. */
struct position {
	uint64_t done;	/* steps and epochs */
	uint64_t batch; /* the next of the epoch */
	double seen[2]; /* loss and samples of the epoch; each worker's own */
	double loss, accuracy;
	long epochs; /* done */
	enum rdt_stop_reason reason;
};

struct worker {
	struct settings s;
	int width[MLP_LAYERS_MAX + 1]; /* of the network's layers */
	rdt_comm *comm;
	struct trainer t;
	struct samples samples;
	rdt_sampler *sampler;
	struct position at;
	FILE *json; /* rank 0's results */
	double samples_per_s;
	uint64_t *digests; /* of every worker's parameters */
	/* elastic */
	bool attached; /* the trainer has the state; else `kept` */
	void *kept;
	int attempts; /* to go on, since the last step */
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
	w->at.accuracy = correct / (double)n;
	return 0;
}

/* A step or an epoch counts when all of it has ended well: else it can be repeated. */
static int train_epoch(struct worker *w, struct progress *bar)
{
	uint64_t steps = rdt_sampler_steps(w->sampler);
	double sum[2];

	while (w->at.batch < steps) {
		struct rdt_batch batch;
		double loss;

		rdt_sampler_next(w->sampler, &batch);
		samples_gather(&w->samples, 0, batch.rows, batch.n);
		if (trainer_step(&w->t, w->samples.gathered_x, w->samples.gathered_y, (int)batch.n,
				 batch.total, &loss))
			return -1;
		w->at.seen[0] += loss;
		w->at.seen[1] += (double)batch.n;
		w->at.batch++;
		w->at.done++;
		w->attempts = 0;
		progress_draw(bar, (double)w->at.batch / (double)steps, "epoch", w->at.epochs + 1,
			      w->s.epochs);
	}
	memcpy(sum, w->at.seen, sizeof(sum));
	if (trainer_sum(&w->t, sum, 2))
		return -1;
	w->at.loss = sum[0] / sum[1];
	return 0;
}

static int end_epoch(struct worker *w, struct rdt_stop *stop, struct progress *bar, double seconds)
{
	enum rdt_stop_reason reason;

	if (w->s.checkpoint && checkpoint_save(&w->t, rdt_sampler_position(w->sampler)))
		return -1;
	if (test(w))
		return -1;
	if (rdt_stop_check(stop, w->t.comm, (uint64_t)w->at.epochs + 1, w->at.loss, 1, &reason))
		return rdt_failed(&w->t);
	w->at.epochs++;
	if (w->t.rank == 0)
		printf("%s%5ld  %13.6f  %13.4f  %9.0f\n", progress_clear(bar), w->at.epochs,
		       w->at.loss, w->at.accuracy, (double)w->samples.n_train / seconds);
	w->at.reason = reason;
	w->at.batch = 0;
	w->at.seen[0] = w->at.seen[1] = 0;
	w->at.done++;
	return 0;
}

static int go_on(struct worker *w);
static int admit(struct worker *w);

static int train(struct worker *w)
{
	struct progress bar = { 0 };
	struct rdt_stop stop = { .epochs = (uint64_t)w->s.epochs, .seconds = w->s.seconds };
	double total_time = 0, begin;
	long first = w->at.epochs;

	if (w->t.rank == 0 && w->at.done == 0)
		printf("epoch  training loss  test accuracy  samples/s\n");
	while (w->at.reason == RDT_GO_ON) {
		bar.on = w->t.rank == 0 && !w->s.no_progress && on_terminal();
		begin = now();
		if (train_epoch(w, &bar) || end_epoch(w, &stop, &bar, now() - begin) || admit(w)) {
			if (go_on(w))
				return -1;
			continue;
		}
		total_time += now() - begin;
	}
	if (w->at.reason == RDT_STOP_DIVERGED)
		return w->t.rank ? -1
				 : failed(w, "the loss is no longer finite; try a smaller --lr");
	if (w->at.epochs > first)
		w->samples_per_s =
			(double)w->samples.n_train * (double)(w->at.epochs - first) / total_time;
	return 0;
}

/* ---- results ------------------------------------------------------------------------- */

static void print_result(const struct worker *w, bool same)
{
	printf("\nworkers            %d\n", w->t.size);
	if (w->t.parts > 1)
		printf("grid               %d copies of %d parts\n", w->t.copies, w->t.parts);
	printf("epochs             %ld\n", w->at.epochs);
	if (w->samples_per_s > 0)
		printf("training loss      %.6f\n", w->at.loss);
	printf("test accuracy      %.4f\n", w->at.accuracy);
	if (w->samples_per_s > 0)
		printf("samples per second %.0f\n", w->samples_per_s);
	printf("parameters         %s on all %s\n", same ? "equal" : "NOT EQUAL",
	       w->t.parts > 1 ? "copies" : "ranks");
	for (int r = 0; r < w->t.size; r++)
		printf("  rank %-4d digest %016" PRIx64 "\n", r, w->digests[r]);
}

static int write_json(struct worker *w)
{
	json_t *list = json_array(), *root;
	char text[17];
	bool trained;
	int status;

	for (int r = 0; r < w->t.size; r++) {
		snprintf(text, sizeof(text), "%016" PRIx64, w->digests[r]);
		json_array_append_new(list, json_string(text));
	}
	trained = w->samples_per_s > 0;
	root = json_pack("{s:i, s:i, s:I, s:o, s:f, s:o, s:o}", "workers", w->t.size, "parts",
			 w->t.parts, "epochs", (json_int_t)w->at.epochs, "loss",
			 trained ? json_real(w->at.loss) : json_null(), "accuracy", w->at.accuracy,
			 "samples_per_s", trained ? json_real(w->samples_per_s) : json_null(),
			 "digests", list);
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

/* Alike: *same. -1: it could not be found out. */
static int compare(struct worker *w, bool *same)
{
	int status = trainer_compare(
		&w->t, "parameters",
		XXH3_64bits(w->t.mlp.params, w->t.mlp.n_params * sizeof(float)), false, w->digests);

	*same = status == 0;
	return status;
}

/* ---- set-up -------------------------------------------------------------------------- */

/* Before the work, not after it: can the results be written? */
static int open_json(struct worker *w)
{
	char text[512];

	if (!w->s.json || w->json || w->t.rank != 0)
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
	w->at.epochs = (long)(position / rdt_sampler_steps(w->sampler));
	/* A run that was finished before it is resumed has no epoch left. */
	if (w->at.epochs >= w->s.epochs)
		w->at.reason = RDT_STOP_EPOCHS;
	return 0;
}

/* ---- a communicator, the first or another -------------------------------------------- */

#define PIECES (3 + 2 * MLP_LAYERS_MAX)
#define ATTEMPTS 5

/* All that makes this worker what it is. */
static int state(struct worker *w, struct elastic_piece pieces[PIECES])
{
	int n = 0;

	pieces[n++] = (struct elastic_piece){ &w->at, sizeof(w->at) };
	pieces[n++] = (struct elastic_piece){ &w->t.step, sizeof(w->t.step) };
	pieces[n++] = (struct elastic_piece){ w->t.mlp.params, w->t.mlp.n_params * sizeof(float) };
	for (int l = 0; l < w->t.mlp.n_layers; l++)
		for (int i = 0; i < rdt_optimizer_states(w->t.optimizer[l]) && n < PIECES; i++)
			pieces[n++] = (struct elastic_piece){
				rdt_optimizer_state(w->t.optimizer[l], i),
				(w->t.mlp.offset[l + 1] - w->t.mlp.offset[l]) * sizeof(float)
			};
	return n;
}

/* Makes everything on w->comm, and this worker like the others. */
static int attach(struct worker *w)
{
	struct elastic_piece pieces[PIECES];
	uint64_t *digests =
		realloc(w->digests, (size_t)rdt_comm_size(w->comm) * sizeof(*w->digests));
	int n;

	if (!digests)
		return failed(w, "out of memory");
	w->digests = digests;
	if (trainer_open(&w->t, w->comm, &w->s, w->width, w->s.n_hidden + 1, (int)w->s.batch))
		return -1;
	if (w->t.rank < 0)
		return 0; /* a server */
	if (open_json(w) || open_sampler(w))
		return -1;
	/* Workers on several hosts read several files. */
	if (trainer_compare(&w->t, "data", samples_digest(&w->samples), true, w->digests))
		return -1;
	if (w->s.resume && resume(w))
		return -1;
	if (w->s.elastic) {
		n = state(w, pieces);
		if (w->kept)
			elastic_restore(w->kept, pieces, n);
		if (elastic_share(w->comm, w->at.done, pieces, n))
			return rdt_failed(&w->t);
	}
	rdt_sampler_seek(w->sampler,
			 (uint64_t)w->at.epochs * rdt_sampler_steps(w->sampler) + w->at.batch);
	w->attached = true;
	return 0;
}

/* What attach has made, but for the state. */
static int detach(struct worker *w)
{
	struct elastic_piece pieces[PIECES];
	int n;

	if (w->attached) {
		n = state(w, pieces);
		free(w->kept);
		w->kept = elastic_save(pieces, n);
		if (!w->kept)
			return failed(w, "out of memory");
		w->attached = false;
	}
	trainer_close(&w->t);
	rdt_sampler_destroy(w->sampler);
	w->sampler = NULL;
	return 0;
}

static void say_size(const struct worker *w)
{
	if (w->t.rank == 0)
		printf("going on with %d workers in epoch %ld\n", w->t.size, w->at.epochs + 1);
}

/* After a failure: with what is left. */
static int go_on(struct worker *w)
{
	while (w->s.elastic && w->attempts++ < ATTEMPTS) {
		/* Nobody waits for others in what is given up now. */
		if (w->t.grid)
			rdt_comm_abort(rdt_grid_data(w->t.grid));
		if (detach(w))
			return -1;
		if (elastic_survive(&w->comm))
			return rdt_failed(&w->t);
		if (!attach(w)) {
			say_size(w);
			return 0;
		}
	}
	return -1;
}

/* Takes in new workers after an epoch. */
static int admit(struct worker *w)
{
	rdt_comm *larger;

	if (!w->s.elastic || w->at.reason != RDT_GO_ON)
		return 0;
	if (elastic_admit(w->comm, &larger))
		return rdt_failed(&w->t);
	if (!larger)
		return 0;
	if (detach(w)) {
		rdt_comm_destroy(larger);
		return -1;
	}
	rdt_comm_destroy(w->comm);
	w->comm = larger;
	if (attach(w))
		return -1;
	say_size(w);
	return 0;
}

static int run(struct worker *w)
{
	bool same = false;
	int n = w->s.n_hidden + 1, status;

	if (samples_read(&w->samples, w->s.data, (uint64_t)w->s.seed, (size_t)w->s.batch))
		return -1;
	w->width[0] = (int)w->samples.features;
	memcpy(&w->width[1], w->s.hidden, (size_t)w->s.n_hidden * sizeof(int));
	w->width[n] = w->samples.classes;
	if (attach(w) && go_on(w))
		return -1;
	if (w->t.rank < 0)
		return trainer_serve(&w->t);
	if (w->t.rank == 0 && w->at.done == 0)
		describe(w, w->width);
	/* A worker may be through when another one finds that something is missing. */
	do {
		if (train(w))
			return -1;
		status = trainer_finish(&w->t) || test(w) || compare(w, &same) ? -1 : 0;
	} while (status && go_on(w) == 0);
	if (w->t.rank == 0) {
		print_result(w, same);
		if (w->json && write_json(w))
			return -1;
	}
	return status;
}

int main(int argc, char **argv)
{
	struct worker w = { .s = settings_parse(argc, argv) };
	int status;

	setvbuf(stdout, NULL, _IOLBF, 0); /* a line at a time, also through a pipe */
	/* Workers share the processors: one thread each, unless someone has said otherwise. */
	if (!getenv("OPENBLAS_NUM_THREADS") && !getenv("OMP_NUM_THREADS"))
		openblas_set_num_threads(1);

	/* Who this worker is and where the others are comes from the environment. */
	if (rdt_comm_create(NULL, &w.comm)) {
		fprintf(stderr, "%s\n", rdt_last_error());
		return 1;
	}
	status = run(&w);

	/* After a failure of this worker alone, the others must not wait for it. */
	if (status)
		rdt_comm_abort(w.comm);
	trainer_close(&w.t);
	rdt_comm_destroy(w.comm);
	rdt_sampler_destroy(w.sampler);
	samples_free(&w.samples);
	if (w.json)
		fclose(w.json);
	free(w.digests);
	free(w.kept);
	return status ? 1 : 0;
}
