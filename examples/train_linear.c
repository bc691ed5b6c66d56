/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Linear regression by gradient descent, divided over workers in three ways:
 *
 *	J(theta) = 1/(2m) sum_i (theta . x_i - y_i)^2
 *	gradient = 1/m sum_i (theta . x_i - y_i) x_i
 *	theta <- theta - eta gradient
 *
 *	--mode data	each worker has some of the samples and all of theta: gradients are summed
 *	--mode model	each worker has some of the features, for all samples, and so a part
 *			of theta; sums of the products theta . x_i are formed
 *	--mode server	as data, but rank 0 is a server that keeps theta, applies the gradients that
 *			the others push to it, and from which they pull theta
 *
 *	rdtrain run -n 4 -- ./train_linear --mode model --random 10000x100
 *
 * eta is 1/L, L being the largest eigenvalue of 1/m X'X, which power iteration finds: with that J
 * never rises. At the end theta is compared with the closed-form solution.
 */
#include <rdtrain/train.h>

#include <argp.h>
#include <cblas.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "linear.h"
#include "progress.h"

#ifndef RDTRAIN_EXAMPLE_DATA /* the build says where the example's data is */
#define RDTRAIN_EXAMPLE_DATA "data"
#endif

/* ---- the command line ---------------------------------------------------------------- */

static const char *const modes[] = { "data", "model", "server" };
enum mode { DATA, MODEL, SERVER };

struct settings {
	enum mode mode;
	const char *data, *random, *json;
	long iterations, seed;
	double tolerance;
	bool no_progress;
};

enum { KEY_SEED = 256, KEY_NO_PROGRESS, KEY_RANDOM, KEY_TOLERANCE };

static const struct argp_option options[] = {
	{ "mode", 'm', "data|model|server", 0, "What is divided over the workers (default data)",
	  0 },
	{ "data", 'd', "FILE", 0,
	  "Samples, the target last (default " RDTRAIN_EXAMPLE_DATA "/diabetes.csv)", 0 },
	{ "random", KEY_RANDOM, "ROWSxFEATURES", 0, "Random samples instead, like 10000x100", 0 },
	{ "iterations", 'i', "N", 0, "At most so many (default 100000)", 0 },
	{ "tolerance", KEY_TOLERANCE, "T", 0,
	  "Stop when the gradient is T times the first one (default 1e-10)", 0 },
	{ "seed", KEY_SEED, "N", 0, "Of the random samples (default 1)", 0 },
	{ "json", 'J', "FILE", 0, "Write theta, J of each iteration and the error as JSON", 0 },
	{ "no-progress", KEY_NO_PROGRESS, 0, 0, "No progress bar, even on a terminal", 0 },
	{ 0 },
};

static double number(struct argp_state *state, const char *what, const char *text, double low,
		     double high)
{
	char *end;
	double x = strtod(text, &end);

	if (end == text || *end || !(x >= low && x <= high))
		argp_error(state, "%s: \"%s\" is not a number from %g to %g", what, text, low,
			   high);
	return x;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct settings *s = state->input;

	switch (key) {
	case 'm':
		for (int m = DATA; m <= SERVER; m++)
			if (strcmp(arg, modes[m]) == 0) {
				s->mode = (enum mode)m;
				return 0;
			}
		argp_error(state, "--mode: \"%s\" is none of data, model, server", arg);
		return EINVAL;
	case 'd': s->data = arg; return 0;
	case KEY_RANDOM: s->random = arg; return 0;
	case 'i': s->iterations = (long)number(state, "--iterations", arg, 1, 1e9); return 0;
	case KEY_TOLERANCE: s->tolerance = number(state, "--tolerance", arg, 1e-15, 1); return 0;
	case KEY_SEED: s->seed = (long)number(state, "--seed", arg, 0, 1e9); return 0;
	case 'J': s->json = arg; return 0;
	case KEY_NO_PROGRESS: s->no_progress = true; return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	options,
	parse,
	NULL,
	"Least squares by gradient descent, on all workers of `rdtrain run`.\v"
	"theta is printed for the features as they are; features are standardized for the descent. "
	"The exit status is not 0 when anything failed, or when theta is not within 1e-6 of the "
	"closed-form solution.",
	NULL,
	NULL,
	NULL
};

/* ---- a worker ------------------------------------------------------------------------ */

struct worker {
	rdt_comm *all;	/* every process */
	rdt_comm *comm; /* the workers: all of them, but for a server */
	int rank, size; /* among the workers; a server's rank is -1 */
	rdt_ps *ps;	/* the server, or the way to it; NULL: there is none */
	const struct settings *s;
	struct source source;
	struct table table; /* this worker's part */
	double *theta;	    /* [n_columns] */
	/* In memory that peers reach, each with the allreduce over it. */
	double *residual; /* [n_rows] theta . x_i - y_i */
	double *gradient; /* [n_columns + 1]: and the sum of squares, which rides along */
	rdt_plan *sum_residuals, *sum_gradients;
	double *history; /* J of each iteration */
	long iterations;
	double lipschitz, seconds;
};

static int rdt_failed(const struct worker *w)
{
	fprintf(stderr, "rank %d: %s\n", w->rank, rdt_last_error());
	return -1;
}

/* Over the workers that have other samples of the same features. */
static int sum_over_samples(void *arg, double *v, size_t n)
{
	struct worker *w = arg;

	if (w->s->mode == MODEL) /* this worker has them all */
		return 0;
	return rdt_allreduce(w->comm, v, v, n, RDT_FLOAT64, RDT_SUM) ? rdt_failed(w) : 0;
}

/* A number that each worker has for its features: over all features. */
static int sum_over_features(struct worker *w, double *v)
{
	if (w->s->mode != MODEL)
		return 0;
	return rdt_allreduce(w->comm, v, v, 1, RDT_FLOAT64, RDT_SUM) ? rdt_failed(w) : 0;
}

static int reduce(struct worker *w, rdt_plan *plan)
{
	return rdt_plan_start(plan) || rdt_plan_wait(plan) ? rdt_failed(w) : 0;
}

/*
 * w->gradient = 1/m X'(X v - y), of this worker's features; without y where `targets` is false.
 * Behind it the sum of (X v - y)^2.
 */
static int gradient_at(struct worker *w, const double *v, bool targets)
{
	int rows = (int)w->table.n_rows, columns = (int)w->table.n_columns;
	double m = (double)w->source.rows;

	rdt_trace_begin(w->comm, "compute");
	memset(w->residual, 0, (size_t)rows * sizeof(double));
	if (rows && columns)
		cblas_dgemv(CblasRowMajor, CblasNoTrans, rows, columns, 1, w->table.x, columns, v,
			    1, 0, w->residual, 1);
	rdt_trace_end(w->comm);
	if (w->s->mode == MODEL && reduce(w, w->sum_residuals))
		return -1;
	rdt_trace_begin(w->comm, "compute");
	if (targets)
		cblas_daxpy(rows, -1, w->table.y, 1, w->residual, 1);
	memset(w->gradient, 0, ((size_t)columns + 1) * sizeof(double));
	if (rows && columns)
		cblas_dgemv(CblasRowMajor, CblasTrans, rows, columns, 1 / m, w->table.x, columns,
			    w->residual, 1, 0, w->gradient, 1);
	w->gradient[columns] = cblas_ddot(rows, w->residual, 1, w->residual, 1);
	rdt_trace_end(w->comm);
	if (w->ps) /* the server adds gradients up */
		return sum_over_samples(w, &w->gradient[columns], 1);
	return w->s->mode != MODEL ? reduce(w, w->sum_gradients) : 0;
}

static int norm(struct worker *w, const double *v, double *out)
{
	double square = cblas_ddot((int)w->table.n_columns, v, 1, v, 1);

	if (sum_over_features(w, &square))
		return -1;
	*out = sqrt(square);
	return 0;
}

/* The largest eigenvalue of 1/m X'X. */
static int power_iteration(struct worker *w)
{
	size_t n = w->table.n_columns;
	double length;

	/* A start that no eigenvector is at right angles to, whoever has which feature. */
	for (size_t c = 0; c < n; c++)
		w->theta[c] = 1 + 0.5 * sin((double)(w->table.first_column + c));
	for (int i = 0; i < 60; i++) {
		if (norm(w, w->theta, &length))
			return -1;
		for (size_t c = 0; c < n; c++)
			w->theta[c] /= length;
		if (gradient_at(w, w->theta, false) || norm(w, w->gradient, &w->lipschitz))
			return -1;
		memcpy(w->theta, w->gradient, n * sizeof(double));
	}
	memset(w->theta, 0, n * sizeof(double));
	return 0;
}

/* theta <- theta - eta gradient; *length becomes that of the gradient. */
static int update(struct worker *w, double *length)
{
	int n = (int)w->table.n_columns;
	const void *gradient = w->gradient;
	double eta = 1 / w->lipschitz;

	if (!w->ps) {
		cblas_daxpy(n, -eta, w->gradient, 1, w->theta, 1);
		return norm(w, w->gradient, length);
	}
	/* The server applies the mean over the workers: their number makes it the sum. */
	cblas_dscal(n, w->size, w->gradient, 1);
	if (rdt_ps_push(w->ps, &gradient))
		return rdt_failed(w);
	cblas_dcopy(n, w->theta, 1, w->gradient, 1);
	if (rdt_ps_pull(w->ps))
		return rdt_failed(w);
	cblas_daxpy(n, -1, w->theta, 1, w->gradient, 1);
	if (norm(w, w->gradient, length))
		return -1;
	*length /= eta;
	return 0;
}

static int descend(struct worker *w)
{
	struct progress bar = { .on = w->rank == 0 && !w->s->no_progress && on_terminal() };
	double first = 0, length, begin = now();

	if (w->rank == 0)
		printf("iteration  J                       gradient\n");
	for (long i = 0; i < w->s->iterations; i++) {
		double j;

		if (gradient_at(w, w->theta, true))
			return -1;
		j = w->gradient[w->table.n_columns] / (2 * (double)w->source.rows);
		if (update(w, &length))
			return -1;
		first = i == 0 ? length : first;
		w->history[i] = j;
		w->iterations = i + 1;
		if (w->rank == 0)
			printf("%s%9ld  %-22.15g  %.3e\n", progress_clear(&bar), i, j, length);
		if (length <= w->s->tolerance * first)
			break;
		progress_draw(&bar, log(length / first) / log(w->s->tolerance), "iteration", i,
			      w->s->iterations);
	}
	w->seconds = now() - begin;
	return 0;
}

/* ---- set-up -------------------------------------------------------------------------- */

/* Divides the processes when one is to serve. */
static int find_workers(struct worker *w)
{
	bool server = w->s->mode == SERVER && rdt_comm_rank(w->all) == 0;

	w->comm = w->all;
	if (w->s->mode == SERVER) {
		if (rdt_comm_size(w->all) < 2) {
			fprintf(stderr,
				"train_linear: a server needs a worker: rdtrain run -n 2 or "
				"more\n");
			return -1;
		}
		if (rdt_comm_split(w->all, server ? -1 : 0, 0, &w->comm)) {
			fprintf(stderr, "%s\n", rdt_last_error());
			return -1;
		}
	}
	w->rank = server ? -1 : rdt_comm_rank(w->comm);
	w->size = server ? 0 : rdt_comm_size(w->comm);
	return source_open(&w->source, w->s->random ? NULL : w->s->data, w->s->random,
			   (uint64_t)w->s->seed);
}

/* The step is what the workers have found: the first of them, rank 1, tells. */
static int open_server(struct worker *w)
{
	struct rdt_ps_tensor theta = { .name = "theta",
				       .data = w->theta,
				       .count = w->source.columns };
	struct rdt_ps_options o = { .size = sizeof(o),
				    .mode = RDT_PS_SYNC,
				    .type = RDT_FLOAT64,
				    .optimizer = { .size = sizeof(o.optimizer), .kind = RDT_SGD } };

	if (rdt_broadcast(w->all, &w->lipschitz, 1, RDT_FLOAT64, 1))
		return rdt_failed(w);
	o.rate.base = 1 / w->lipschitz;
	return rdt_ps_create(w->all, &o, &theta, 1, &w->ps) ? rdt_failed(w) : 0;
}

static int serve(struct worker *w)
{
	w->theta = calloc(w->source.columns, sizeof(double));
	if (!w->theta || open_server(w))
		return -1;
	return rdt_ps_serve(w->ps) ? rdt_failed(w) : 0;
}

static int prepare(struct worker *w)
{
	struct table *t = &w->table;
	bool model = w->s->mode == MODEL;
	void *residual, *gradient;

	t->n_rows =
		rdt_part(w->source.rows, model ? 1 : w->size, model ? 0 : w->rank, &t->first_row);
	t->n_columns = rdt_part(w->source.columns, model ? w->size : 1, model ? w->rank : 0,
				&t->first_column);
	if (table_read(&w->source, t) || table_standardize(t, w->source.rows, sum_over_samples, w))
		return -1;
	w->theta = calloc(t->n_columns + 1, sizeof(double));
	w->history = calloc((size_t)w->s->iterations, sizeof(double));
	if (!w->theta || !w->history) {
		fprintf(stderr, "rank %d: out of memory\n", w->rank);
		return -1;
	}
	if (rdt_alloc(w->comm, (t->n_rows + 1) * sizeof(double), &residual) ||
	    rdt_alloc(w->comm, (t->n_columns + 1) * sizeof(double), &gradient))
		return rdt_failed(w);
	w->residual = residual;
	w->gradient = gradient;
	if (model ? rdt_allreduce_plan(w->comm, w->residual, w->residual, t->n_rows, RDT_FLOAT64,
				       RDT_SUM, &w->sum_residuals)
		  : rdt_allreduce_plan(w->comm, w->gradient, w->gradient, t->n_columns + 1,
				       RDT_FLOAT64, RDT_SUM, &w->sum_gradients))
		return rdt_failed(w);
	return 0;
}

/* ---- results ------------------------------------------------------------------------- */

/* All of theta, for the features as they are; theta[columns] of the source. */
static int whole_theta(struct worker *w, double *theta)
{
	size_t *counts = calloc((size_t)w->size, sizeof(*counts)), n = w->source.columns;
	double *mean = calloc(n, sizeof(double)), *deviation = calloc(n, sizeof(double));
	const double *parts[] = { w->theta, w->table.mean, w->table.deviation };
	double *wholes[] = { theta, mean, deviation };
	int status = counts && mean && deviation ? 0 : -1;

	for (int r = 0; r < w->size && !status; r++)
		counts[r] = rdt_part(n, w->size, r, NULL);
	for (int i = 0; i < 3 && !status; i++) {
		if (w->s->mode != MODEL)
			memcpy(wholes[i], parts[i], n * sizeof(double));
		else if (rdt_allgatherv(w->comm, parts[i], wholes[i], counts, RDT_FLOAT64))
			status = rdt_failed(w);
	}
	if (!status)
		theta_restore(theta, mean, deviation, n);
	free(counts);
	free(mean);
	free(deviation);
	return status;
}

static double relative_error(const double *theta, const double *exact, size_t n)
{
	double off = 0, size = 0;

	for (size_t c = 0; c < n; c++) {
		off += pow(theta[c] - exact[c], 2);
		size += pow(exact[c], 2);
	}
	return sqrt(off / size);
}

static int write_json(const struct worker *w, const double *theta, double error)
{
	json_t *list = json_array(), *js = json_array(), *root;
	int status;

	for (size_t c = 0; c < w->source.columns; c++)
		json_array_append_new(list, json_real(theta[c]));
	for (long i = 0; i < w->iterations; i++)
		json_array_append_new(js, json_real(w->history[i]));
	root = json_pack("{s:s s:i s:I s:I s:I s:f s:f s:o s:o}", "mode", modes[w->s->mode],
			 "workers", w->size, "rows", (json_int_t)w->source.rows, "features",
			 (json_int_t)w->source.columns - 1, "iterations", (json_int_t)w->iterations,
			 "step", 1 / w->lipschitz, "relative_error", error, "theta", list, "J", js);
	errno = ENOMEM;
	status = root ? json_dump_file(root, w->s->json, JSON_INDENT(2)) : -1;
	if (status)
		fprintf(stderr, "train_linear: cannot write %s: %s\n", w->s->json, strerror(errno));
	json_decref(root);
	return status;
}

static int report(struct worker *w)
{
	size_t n = w->source.columns;
	double *theta = calloc(n, sizeof(double)), *exact = calloc(n, sizeof(double)), error;
	int status = -1;

	if (!theta || !exact || whole_theta(w, theta))
		goto out;
	status = 0;
	if (w->rank)
		goto out;
	status = closed_form(&w->source, exact);
	if (status)
		goto out;
	error = relative_error(theta, exact, n);
	printf("\nmode               %s\nworkers            %d\nsamples            %zu\n"
	       "features           %zu\niterations         %ld\nstep               %.6g\n"
	       "J                  %.12g\nseconds            %.3f\nrelative error     %.3e\n",
	       modes[w->s->mode], w->size, w->source.rows, n - 1, w->iterations, 1 / w->lipschitz,
	       w->history[w->iterations - 1], w->seconds, error);
	for (size_t c = 0; c < n && c < 12; c++)
		printf("theta %-4zu         %-18.12g closed form %.12g\n", c, theta[c], exact[c]);
	if (w->s->json && write_json(w, theta, error))
		status = -1;
	if (!(error <= 1e-6)) {
		fprintf(stderr, "train_linear: theta is not within 1e-6 of the closed form; more "
				"--iterations?\n");
		status = -1;
	}
out:
	free(theta);
	free(exact);
	return status;
}

static int run(struct worker *w)
{
	if (find_workers(w))
		return -1;
	if (w->rank < 0)
		return serve(w);
	if (prepare(w) || power_iteration(w))
		return -1;
	if (w->s->mode == SERVER && (open_server(w) || (rdt_ps_pull(w->ps) && rdt_failed(w))))
		return -1;
	return descend(w) || report(w) ? -1 : 0;
}

int main(int argc, char **argv)
{
	struct settings s = { .data = RDTRAIN_EXAMPLE_DATA "/diabetes.csv",
			      .iterations = 100000,
			      .seed = 1,
			      .tolerance = 1e-10 };
	struct worker w = { .s = &s };
	int status;

	argp_parse(&argp, argc, argv, 0, NULL, &s);
	setvbuf(stdout, NULL, _IOLBF, 0); /* a line at a time, also through a pipe */
	/* Workers share the processors: one thread each, unless someone has said otherwise. */
	if (!getenv("OPENBLAS_NUM_THREADS") && !getenv("OMP_NUM_THREADS"))
		openblas_set_num_threads(1);
	if (rdt_comm_create(NULL, &w.all)) {
		fprintf(stderr, "%s\n", rdt_last_error());
		return 1;
	}
	status = run(&w);

	/* After a failure of this worker alone, the others must not wait for it. */
	if (status)
		rdt_comm_abort(w.all);
	rdt_ps_destroy(w.ps);
	rdt_plan_destroy(w.sum_residuals);
	rdt_plan_destroy(w.sum_gradients);
	if (w.comm != w.all)
		rdt_comm_destroy(w.comm);
	rdt_comm_destroy(w.all);
	source_close(&w.source);
	table_free(&w.table);
	free(w.theta);
	free(w.history);
	return status ? 1 : 0;
}
