/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Data-parallel training, the whole of it: a multi-layer perceptron learns a table, and every
 * worker works on its share of each batch. What a trainer needs of librdtrain is in main, train and
 * same_everywhere; mlp.c is the network; the training layer reads
 * the table.
 *
 *	rdtrain run -n 4 -- ./train_mlp --hidden 64,32 --epochs 30
 *
 * One step of SGD, on each worker:
 *   1. its share of the global batch -> the share's part of the gradient, divided by the batch
 *   2. allreduce SUM -> the mean gradient over the whole batch, bitwise the same on all workers
 *   3. the same update on all workers, so that their parameters never differ
 * The global batch and the seed decide which samples a step sees, not the number of workers: any
 * number of workers trains the same network, but for rounding.
 */
#include <rdtrain/train.h>

#include <argp.h>
#include <cblas.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "mlp.h"

#ifndef RDTRAIN_EXAMPLE_DATA /* the build says where the example's data is */
#define RDTRAIN_EXAMPLE_DATA "data"
#endif

/* ---- the command line ---------------------------------------------------------------- */

struct settings {
	const char *data, *json;
	int hidden[MLP_LAYERS_MAX], n_hidden;
	double learning_rate, momentum;
	long batch, epochs, seed;
	bool no_progress;
};

enum { KEY_HIDDEN = 256, KEY_MOMENTUM, KEY_SEED, KEY_NO_PROGRESS };

static const struct argp_option options[] = {
	{ "data", 'd', "FILE", 0,
	  "Numbers separated by commas, the class last (default " RDTRAIN_EXAMPLE_DATA
	  "/digits.csv)",
	  0 },
	{ "hidden", KEY_HIDDEN, "N,N,...", 0, "Sizes of the hidden layers (default 64,32)", 0 },
	{ "lr", 'l', "RATE", 0, "Learning rate (default 0.05)", 0 },
	{ "momentum", KEY_MOMENTUM, "M", 0, "Momentum, 0 to less than 1 (default 0.9)", 0 },
	{ "batch", 'b', "N", 0, "Samples of one step, over all workers (default 32)", 0 },
	{ "epochs", 'e', "N", 0, "Passes over the training set (default 30)", 0 },
	{ "seed", KEY_SEED, "N", 0, "Decides split, order and first weights (default 1)", 0 },
	{ "json", 'J', "FILE", 0, "Write the results to FILE as JSON", 0 },
	{ "no-progress", KEY_NO_PROGRESS, 0, 0, "No progress bar, even on a terminal", 0 },
	{ 0 },
};

static long whole(struct argp_state *state, const char *what, const char *text, long low, long high)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno || end == text || *end || n < low || n > high)
		argp_error(state, "%s: \"%s\" is not a whole number from %ld to %ld", what, text,
			   low, high);
	return n;
}

static double real(struct argp_state *state, const char *what, const char *text, double high)
{
	char *end;
	double n = strtod(text, &end);

	if (end == text || *end || !(n >= 0 && n < high))
		argp_error(state, "%s: \"%s\" is not a number from 0 to less than %g", what, text,
			   high);
	return n;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct settings *s = state->input;

	switch (key) {
	case 'd': s->data = arg; return 0;
	case 'J': s->json = arg; return 0;
	case 'l': s->learning_rate = real(state, "--lr", arg, 1000); return 0;
	case KEY_MOMENTUM: s->momentum = real(state, "--momentum", arg, 1); return 0;
	case 'b': s->batch = whole(state, "--batch", arg, 1, 1 << 20); return 0;
	case 'e': s->epochs = whole(state, "--epochs", arg, 1, 1000000); return 0;
	case KEY_SEED: s->seed = whole(state, "--seed", arg, 0, INT32_MAX); return 0;
	case KEY_NO_PROGRESS: s->no_progress = true; return 0;
	case KEY_HIDDEN:
		s->n_hidden = 0;
		for (char *size = strtok(arg, ","); size; size = strtok(NULL, ",")) {
			if (s->n_hidden == MLP_LAYERS_MAX - 1)
				argp_error(state, "--hidden: at most %d layers",
					   MLP_LAYERS_MAX - 1);
			s->hidden[s->n_hidden++] = (int)whole(state, "--hidden", size, 1, 1 << 16);
		}
		return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	options,
	parse,
	NULL,
	"Trains a multi-layer perceptron on all workers of `rdtrain run`.\v"
	"The training loss is the mean over the last epoch, while the parameters changed. One row "
	"of five is kept out of training, for the test accuracy. The exit status is not 0 when "
	"anything failed, or when the workers' parameters differ at the end.",
	NULL,
	NULL,
	NULL
};

#define CLASS_MAX 9999

/* The data set in memory: every column but the last is a feature, the last is the class. */
struct table {
	size_t rows, features;
	int classes; /* the largest class, plus one */
	float *x;    /* rows * features values, row by row */
	int *y;	     /* the class of each row */
};

/* ---- a worker ------------------------------------------------------------------------ */

struct worker {
	rdt_comm *comm;
	int rank, size;
	struct table table;
	size_t *order;	/* a shuffled list of the rows: first those to train on */
	size_t n_train; /* the rest is for testing */
	struct mlp mlp;
	float *x;	 /* the rows of a share, one behind the other ... */
	int *y;		 /* ... and their classes */
	float *velocity; /* what momentum keeps of the gradients before */
	FILE *json;	 /* rank 0's results */
};

struct result {
	double loss, accuracy, samples_per_s;
};

/* For a failed rdt_ call: the library has the sentence. */
static int rdt_failed(const struct worker *w)
{
	fprintf(stderr, "rank %d: %s\n", w->rank, rdt_last_error());
	return -1;
}

static int failed(const struct worker *w, const char *sentence)
{
	fprintf(stderr, "rank %d: %s\n", w->rank, sentence);
	return -1;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A list of n things is cut into shares, one for each worker; this is where a share begins. */
static size_t share(const struct worker *w, size_t n, int rank)
{
	return n * (size_t)rank / (size_t)w->size;
}

/* Fisher and Yates. */
static void shuffle(size_t *list, size_t n, uint64_t *random)
{
	for (size_t i = n; i > 1; i--) {
		size_t j = (size_t)(random_next(random) % i), swap = list[i - 1];

		list[i - 1] = list[j];
		list[j] = swap;
	}
}

/* Brings every feature to 0..1, by the range that it has in the training set. */
static void scale_features(struct worker *w)
{
	size_t features = w->table.features;

	for (size_t f = 0; f < features; f++) {
		float low = INFINITY, high = -INFINITY, *x = w->table.x + f;

		for (size_t i = 0; i < w->n_train; i++) {
			low = fminf(low, x[w->order[i] * features]);
			high = fmaxf(high, x[w->order[i] * features]);
		}
		for (size_t row = 0; row < w->table.rows; row++) {
			float *value = &x[row * features];

			/* a feature that never changes tells nothing */
			*value = high > low ? (*value - low) / (high - low) : 0;
		}
	}
}

/* Makes the rows order[first .. end) contiguous in w->x and w->y; returns how many there are. */
static int gather(struct worker *w, size_t first, size_t end)
{
	size_t features = w->table.features;

	for (size_t i = first; i < end; i++) {
		size_t row = w->order[i];

		memcpy(w->x + (i - first) * features, w->table.x + row * features,
		       features * sizeof(float));
		w->y[i - first] = w->table.y[row];
	}
	return (int)(end - first);
}

/* ---- what the workers do together ---------------------------------------------------- */

/*
 * Collects every worker's digest in digests[size]: each puts its own into a vector of zeros, and
 * the sum over all workers is the list. Says which workers differ from rank 0, if any.
 */
static int same_everywhere(const struct worker *w, const char *what, uint64_t digest,
			   uint64_t *digests)
{
	int status = 0;

	memset(digests, 0, (size_t)w->size * sizeof(*digests));
	digests[w->rank] = digest;
	if (rdt_allreduce(w->comm, digests, digests, (size_t)w->size, RDT_UINT64, RDT_SUM))
		return rdt_failed(w);
	for (int r = 1; r < w->size; r++)
		if (digests[r] != digests[0]) {
			if (w->rank == 0)
				fprintf(stderr, "rank %d has other %s than rank 0\n", r, what);
			status = -1;
		}
	return status;
}

/* The part of the test set that is classified right; each worker tests its share. */
static int test(struct worker *w, double *accuracy)
{
	size_t n = w->table.rows - w->n_train, most = (size_t)w->mlp.max_rows;
	size_t first = share(w, n, w->rank), end = share(w, n, w->rank + 1);
	int64_t correct = 0;

	for (size_t i = first; i < end; i += most) {
		size_t stop = i + most < end ? i + most : end;
		int rows = gather(w, w->n_train + i, w->n_train + stop);

		correct += mlp_correct(&w->mlp, w->x, w->y, rows);
	}
	if (rdt_allreduce(w->comm, &correct, &correct, 1, RDT_INT64, RDT_SUM))
		return rdt_failed(w);
	*accuracy = (double)correct / (double)n;
	return 0;
}

static void update(struct worker *w, const struct settings *s, const float *gradient)
{
	float rate = (float)s->learning_rate, momentum = (float)s->momentum;

	for (size_t i = 0; i < w->mlp.n_params; i++) {
		w->velocity[i] = momentum * w->velocity[i] + gradient[i];
		w->mlp.params[i] -= rate * w->velocity[i];
	}
}

/*
 * A line that is drawn again and again. It ends with a carriage return, so that `rdtrain run` can
 * put the rank before it.
 */
static void draw_progress(long epoch, long epochs, double part)
{
	static const char full[] = "########################################";
	int width = (int)sizeof(full) - 1, n = (int)(part * width);

	printf("%5ld [%-*.*s] %3.0f %% of epoch %ld of %ld\r", epoch, width, n, full, part * 100,
	       epoch, epochs);
	fflush(stdout);
}

/* Under `rdtrain run` the output goes through a pipe; the program says what is behind that. */
static bool on_terminal(void)
{
	return isatty(STDOUT_FILENO) || getenv("RDTRAIN_TERMINAL");
}

/*
 * Runs all epochs. `gradient` is registered memory, and the plan is an allreduce over it in place:
 * the gradient, then the loss and the number of samples, which ride along for nothing.
 */
static int train(struct worker *w, const struct settings *s, rdt_plan *plan, float *gradient,
		 struct result *result)
{
	bool bar = w->rank == 0 && !s->no_progress && on_terminal();
	size_t n = w->mlp.n_params, batch = (size_t)s->batch;
	uint64_t random = (uint64_t)s->seed + 1;
	double total_time = 0, drawn = 0;

	if (w->rank == 0)
		printf("epoch  training loss  test accuracy  samples/s\n");
	for (long epoch = 1; epoch <= s->epochs; epoch++) {
		double begin = now(), time, loss = 0, samples = 0;

		shuffle(w->order, w->n_train, &random); /* alike on all workers */
		for (size_t first = 0; first < w->n_train; first += batch) {
			size_t left = w->n_train - first, length = left < batch ? left : batch;
			int rows = gather(w, first + share(w, length, w->rank),
					  first + share(w, length, w->rank + 1));

			/* Divided by the whole batch, not the share: the shares may be unequal. */
			gradient[n] = (float)mlp_gradient(&w->mlp, w->x, w->y, rows,
							  1.0f / (float)length, gradient);
			gradient[n + 1] = (float)rows;
			if (rdt_plan_start(plan) || rdt_plan_wait(plan))
				return rdt_failed(w);
			loss += (double)gradient[n];
			samples += (double)gradient[n + 1];
			update(w, s, gradient);

			if (bar && now() - drawn > 0.1) {
				drawn = now();
				draw_progress(epoch, s->epochs, samples / (double)w->n_train);
			}
		}
		time = now() - begin;
		total_time += time;
		result->loss = loss / samples;
		if (!isfinite(result->loss))
			return w->rank ? -1
				       : failed(w, "the loss is no longer finite; try a smaller "
						   "--lr");
		if (test(w, &result->accuracy))
			return -1;
		if (w->rank == 0)
			printf("%s%5ld  %13.6f  %13.4f  %9.0f\n", bar ? "\033[K" : "", epoch,
			       result->loss, result->accuracy, samples / time);
	}
	result->samples_per_s = (double)w->n_train * (double)s->epochs / total_time;
	return 0;
}

/* ---- results ------------------------------------------------------------------------- */

static void print_result(const struct worker *w, const struct settings *s,
			 const struct result *result, const uint64_t *digests, bool same)
{
	printf("\nworkers            %d\nepochs             %ld\ntraining loss      %.6f\n"
	       "test accuracy      %.4f\nsamples per second %.0f\n",
	       w->size, s->epochs, result->loss, result->accuracy, result->samples_per_s);
	printf("parameters         %s\n", same ? "equal on all ranks" : "NOT EQUAL on all ranks");
	for (int r = 0; r < w->size; r++)
		printf("  rank %-4d digest %016" PRIx64 "\n", r, digests[r]);
}

static int write_json(struct worker *w, const struct settings *s, const struct result *result,
		      const uint64_t *digests)
{
	json_t *list = json_array(), *root;
	char text[17];
	int status;

	for (int r = 0; r < w->size; r++) {
		snprintf(text, sizeof(text), "%016" PRIx64, digests[r]);
		json_array_append_new(list, json_string(text));
	}
	root = json_pack("{s:i, s:I, s:f, s:f, s:f, s:o}", "workers", w->size, "epochs",
			 (json_int_t)s->epochs, "loss", result->loss, "accuracy", result->accuracy,
			 "samples_per_s", result->samples_per_s, "digests", list);
	errno = 0;
	status = root ? json_dumpf(root, w->json, JSON_INDENT(2)) : -1;
	if (fclose(w->json))
		status = -1;
	w->json = NULL;
	if (status)
		fprintf(stderr, "rank %d: cannot write %s: %s\n", w->rank, s->json,
			errno ? strerror(errno) : "out of memory");
	json_decref(root);
	return status;
}

/* ---- set-up -------------------------------------------------------------------------- */

/* Before the work, not after it: can the results be written? */
static int open_json(struct worker *w, const struct settings *s)
{
	char text[512];

	if (!s->json || w->rank != 0)
		return 0;
	w->json = fopen(s->json, "w");
	if (w->json)
		return 0;
	snprintf(text, sizeof(text), "cannot write %s: %s", s->json, strerror(errno));
	return failed(w, text);
}

static int read_table(struct worker *w, const char *path)
{
	struct table *t = &w->table;
	const struct rdt_dataset_info *info;
	rdt_dataset *data = NULL;
	char text[512];
	int status;

	if (rdt_dataset_open(path, &data))
		return rdt_failed(w);
	info = rdt_dataset_info(data);
	t->rows = info->rows;
	t->features = info->columns - 1;
	t->x = calloc(t->rows * info->columns, sizeof(float));
	t->y = calloc(t->rows, sizeof(int));
	if (t->features == 0)
		status = failed(w, "a row needs at least one feature, and then the class");
	else if (!t->x || !t->y)
		status = failed(w, "out of memory for the data");
	else if (rdt_dataset_read(data, NULL, t->rows, 0, t->features, RDT_FLOAT32, t->x) ||
		 rdt_dataset_read(data, NULL, t->rows, t->features, 1, RDT_INT32, t->y))
		status = rdt_failed(w);
	else
		status = 0;
	for (size_t i = 0; i < t->rows && !status; i++) {
		if (t->y[i] < 0 || t->y[i] > CLASS_MAX) {
			snprintf(text, sizeof(text), "%s, row %zu: %d is no class from 0 to %d",
				 path, i + 1, t->y[i], CLASS_MAX);
			status = failed(w, text);
		} else if (t->y[i] >= t->classes) {
			t->classes = t->y[i] + 1;
		}
	}
	rdt_dataset_close(data);
	return status;
}

/* Reads the table and divides it, one row of five for testing; alike on all workers. */
static int prepare_data(struct worker *w, const struct settings *s)
{
	uint64_t random = (uint64_t)s->seed;

	if (read_table(w, s->data))
		return -1;
	if (w->table.rows < 5)
		return failed(w, "the table has fewer than 5 rows: too few to train and to test");
	w->order = calloc(w->table.rows, sizeof(*w->order));
	if (!w->order)
		return failed(w, "out of memory");
	for (size_t i = 0; i < w->table.rows; i++)
		w->order[i] = i;
	shuffle(w->order, w->table.rows, &random);
	w->n_train = w->table.rows - w->table.rows / 5;
	scale_features(w);
	return 0;
}

static int prepare_network(struct worker *w, const struct settings *s)
{
	int width[MLP_LAYERS_MAX + 1] = { (int)w->table.features };
	int rows = (int)((s->batch + w->size - 1) / w->size);

	memcpy(&width[1], s->hidden, (size_t)s->n_hidden * sizeof(int));
	width[s->n_hidden + 1] = w->table.classes;
	if (mlp_init(&w->mlp, width, s->n_hidden + 1, rows))
		return failed(w, "out of memory for the network");
	w->velocity = calloc(w->mlp.n_params, sizeof(float));
	w->x = calloc((size_t)rows * w->table.features, sizeof(float));
	w->y = calloc((size_t)rows, sizeof(int));
	if (!w->velocity || !w->x || !w->y)
		return failed(w, "out of memory for the network");

	/* One worker makes the first parameters; the others take them over. */
	if (w->rank == 0)
		mlp_randomise(&w->mlp, (uint64_t)s->seed);
	if (rdt_broadcast(w->comm, w->mlp.params, w->mlp.n_params, RDT_FLOAT32, 0))
		return rdt_failed(w);
	if (w->rank == 0) {
		printf("%s: %zu rows, %zu to train on and %zu to test\nnetwork %d", s->data,
		       w->table.rows, w->n_train, w->table.rows - w->n_train, width[0]);
		for (int l = 1; l <= s->n_hidden + 1; l++)
			printf("-%d", width[l]);
		printf(", %zu parameters; workers %d, global batch %ld, learning rate %g, momentum "
		       "%g, seed %ld\n",
		       w->mlp.n_params, w->size, s->batch, s->learning_rate, s->momentum, s->seed);
	}
	return 0;
}

static int run(struct worker *w, const struct settings *s)
{
	uint64_t *digests = calloc((size_t)w->size, sizeof(*digests));
	struct result result = { 0 };
	rdt_plan *plan = NULL;
	void *gradient = NULL;
	int status = -1;
	size_t count;

	if (!digests) {
		failed(w, "out of memory");
		goto out;
	}
	if (open_json(w, s) || prepare_data(w, s))
		goto out;
	/* Workers on several hosts read several files. */
	if (same_everywhere(w, "data",
			    XXH3_64bits_withSeed(
				    w->table.x, w->table.rows * w->table.features * sizeof(float),
				    XXH3_64bits(w->table.y, w->table.rows * sizeof(int))),
			    digests))
		goto out;
	if (prepare_network(w, s))
		goto out;

	/*
	 * All gradients live in one piece of registered memory, and the plan settles everything
	 * about their allreduce once: a step then only sends data.
	 */
	count = w->mlp.n_params + 2;
	if (rdt_alloc(w->comm, count * sizeof(float), &gradient) ||
	    rdt_allreduce_plan(w->comm, gradient, gradient, count, RDT_FLOAT32, RDT_SUM, &plan)) {
		rdt_failed(w);
		goto out;
	}
	if (train(w, s, plan, gradient, &result))
		goto out;

	status = same_everywhere(w, "parameters",
				 XXH3_64bits(w->mlp.params, w->mlp.n_params * sizeof(float)),
				 digests);
	if (w->rank == 0) {
		print_result(w, s, &result, digests, status == 0);
		if (w->json && write_json(w, s, &result, digests))
			status = -1;
	}
out:
	rdt_plan_destroy(plan);
	rdt_free(w->comm, gradient);
	free(digests);
	return status;
}

int main(int argc, char **argv)
{
	struct settings s = {
		.data = RDTRAIN_EXAMPLE_DATA "/digits.csv",
		.hidden = { 64, 32 },
		.n_hidden = 2,
		.learning_rate = 0.05,
		.momentum = 0.9,
		.batch = 32,
		.epochs = 30,
		.seed = 1,
	};
	struct worker w = { 0 };
	int status;

	argp_parse(&argp, argc, argv, 0, NULL, &s);
	setvbuf(stdout, NULL, _IOLBF, 0); /* a line at a time, also through a pipe */
	/* Workers share the processors: one thread each, unless someone has said otherwise. */
	if (!getenv("OPENBLAS_NUM_THREADS") && !getenv("OMP_NUM_THREADS"))
		openblas_set_num_threads(1);

	/* Who this worker is and where the others are comes from the environment. */
	if (rdt_comm_create(NULL, &w.comm)) {
		fprintf(stderr, "%s\n", rdt_last_error());
		return 1;
	}
	w.rank = rdt_comm_rank(w.comm);
	w.size = rdt_comm_size(w.comm);

	status = run(&w, &s);

	/* After a failure of this worker alone, the others must not wait for it. */
	if (status)
		rdt_comm_abort(w.comm);
	rdt_comm_destroy(w.comm);
	mlp_free(&w.mlp);
	free(w.table.x);
	free(w.table.y);
	if (w.json)
		fclose(w.json);
	free(w.order);
	free(w.velocity);
	free(w.x);
	free(w.y);
	return status ? 1 : 0;
}
