/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdtrain perf --calibrate: times every algorithm of the allreduce at several sizes, and finds the
 * costs of a model (collectives/model.h) with which the simulator predicts these times best. All
 * ranks measure; rank 0 fits, writes the file and says how far the predictions are off.
 *
 * The fit changes one cost after another by a factor, keeps what makes the error less, and goes on
 * with smaller factors. The error of a point is the logarithm of predicted over measured time, not
 * squared, so that a time that was disturbed does not draw all to it; a point counts the less the
 * slower it is than the fastest of its size, for only those in front decide a choice. Costs that
 * the measurements say nothing about stay as they were.
 */
#include "tools/calibrate.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collectives/simulate.h"
#include "lib/base/error.h"
#include "lib/comm/comm.h"

static const uint64_t sizes[] = { 8, 512, 4096, 32768, 262144, 1 << 20, 4 << 20, 16 << 20 };
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))
#define ALGORITHMS 16
#define ROUNDS 5  /* of which the best counts: what disturbs makes slower, never faster */
#define BEHIND 5  /* times slower than the best: it will not win at larger sizes, */
#define DEAR 1e-3 /* seconds: and trying takes too long */
#define SLOW 0.02 /* seconds: sizes end where the fastest takes so long */
#define PULL 0.02 /* towards the cost that was there before */

struct point {
	const struct rdt_algorithm *algorithm;
	uint64_t bytes;
	double measured, predicted; /* seconds; measured 0: not */
};

struct calibration {
	rdt_comm *comm;
	struct rdt_simulation what;
	struct rdt_model model;
	struct point points[ALGORITHMS][SIZES];
	int n_algorithms;
	bool crowded; /* a host has more ranks than processors */
};

/* ---- measuring ------------------------------------------------------------------------------- */

/* The algorithms that the plans of rdt_alloc'd buffers can have here. */
static void list(struct calibration *c)
{
	const struct rdt_shape shape = { .collective = RDT_COLL_ALLREDUCE,
					 .bytes = 64,
					 .elem_size = 4,
					 .remote_output = true,
					 .mapped = c->what.mapped,
					 .host = c->what.checked ? NULL : c->what.host };

	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++)
		if (a->collective == RDT_COLL_ALLREDUCE && c->n_algorithms < ALGORITHMS &&
		    rdt_algorithm_applies(a, c->what.ranks, &shape)) {
			for (size_t s = 0; s < SIZES; s++)
				c->points[c->n_algorithms][s] =
					(struct point){ .algorithm = a, .bytes = sizes[s] };
			c->n_algorithms++;
		}
}

static double best_of(const struct calibration *c, size_t s)
{
	double best = 0;

	for (int a = 0; a < c->n_algorithms; a++) {
		double t = c->points[a][s].measured;

		if (t > 0 && (best == 0 || t < best))
			best = t;
	}
	return best;
}

/* Not worth its time, by what the next smaller size has shown: it takes long, and others are much
 * faster, or do so, too. All ranks have the same times, so all decide alike. */
static bool skipped(const struct calibration *c, int a, size_t s)
{
	double t = s > 0 ? c->points[a][s - 1].measured : 0;

	return s > 0 &&
	       (t == 0 || best_of(c, s - 1) > SLOW || (t > DEAR && t > BEHIND * best_of(c, s - 1)));
}

static int measure_one(const struct calibration *c, const struct perf_settings *settings,
		       const struct perf_buffers *buffers, const struct perf_data *data,
		       const char *algorithm, uint64_t bytes, double *seconds)
{
	struct perf_result result = { .bytes = bytes, .count = bytes / 4 };
	int status;

	rdt_choice_force(c->comm, RDT_COLL_ALLREDUCE, algorithm);
	status = perf_time(settings, buffers, data, &result);
	rdt_choice_force(c->comm, RDT_COLL_ALLREDUCE, "");
	if (!status && (*seconds == 0 || result.out_of_place.mean < *seconds))
		*seconds = result.out_of_place.mean;
	return status;
}

static void progress(const struct calibration *c, const char *doing, int done, int all)
{
	if (c->comm->rank == 0 && isatty(STDERR_FILENO))
		fprintf(stderr, done < all ? "\r\033[K%s: %d %%" : "\r\033[K", doing,
			100 * done / all);
}

/* The sizes go up and the rounds are one after another, so that a disturbance does not hit all. */
static int measure(struct calibration *c, const struct perf_settings *settings,
		   const struct perf_buffers *buffers, const struct perf_data *data)
{
	int status = 0;

	for (int round = 0; round < ROUNDS; round++)
		for (size_t s = 0; s < SIZES; s++) {
			progress(c, "measuring", round * (int)SIZES + (int)s, ROUNDS * (int)SIZES);
			for (int a = 0; a < c->n_algorithms && !status; a++)
				if (!skipped(c, a, s))
					status = measure_one(c, settings, buffers, data,
							     c->points[a][s].algorithm->name,
							     sizes[s], &c->points[a][s].measured);
		}
	progress(c, "", 1, 1);
	return status;
}

/* ---- fitting --------------------------------------------------------------------------------- */

/* Costs that are changed together. */
struct knob {
	uint64_t *cost[3];
	uint64_t before;
};

static int knobs_of(struct calibration *c, struct knob *knobs)
{
	struct rdt_link_cost *host = &c->model.link[RDT_LINK_HOST];
	struct rdt_link_cost *net = &c->model.link[RDT_LINK_NET];
	bool neighbours = false, hosts = false;
	int n = 0;

	for (int r = 1; r < c->what.ranks; r++)
		for (int k = 0; k < r; k++) {
			bool together = c->what.host && c->what.host[r] == c->what.host[k];

			neighbours = neighbours || together;
			hosts = hosts || !together;
		}
	if (neighbours) {
		knobs[n++] = (struct knob){ .cost = { &host->latency } };
		knobs[n++] = (struct knob){ .cost = { &host->put, &host->wait } };
		/* All three are copies by the processor. */
		knobs[n++] = (struct knob){ .cost = { &host->byte, &c->model.copy_byte } };
		knobs[n++] = (struct knob){ .cost = { &c->model.memory_byte } };
	}
	if (hosts) {
		knobs[n++] = (struct knob){ .cost = { &net->latency, &net->complete } };
		knobs[n++] = (struct knob){ .cost = { &net->put, &net->wait } };
		knobs[n++] = (struct knob){ .cost = { &net->byte } };
		knobs[n++] = (struct knob){ .cost = { &net->gap } };
	}
	knobs[n++] = (struct knob){ .cost = { &c->model.reduce, &c->model.copy } };
	knobs[n++] = (struct knob){ .cost = { &c->model.reduce_byte } };
	if (c->crowded)
		knobs[n++] = (struct knob){ .cost = { &c->model.turn } };
	for (int k = 0; k < n; k++)
		knobs[k].before = *knobs[k].cost[0];
	return n;
}

static double error_of(struct calibration *c, const struct knob *knobs, int n_knobs)
{
	double sum = 0;

	for (int a = 0; a < c->n_algorithms; a++)
		for (size_t s = 0; s < SIZES; s++) {
			struct point *p = &c->points[a][s];
			struct rdt_prediction prediction;
			double off, best = best_of(c, s);

			if (p->measured == 0)
				continue;
			c->what.bytes = p->bytes;
			if (rdt_simulate(p->algorithm, &c->what, &prediction))
				continue;
			p->predicted = (double)prediction.time_ps / 1e12;
			off = log((p->predicted + 1e-12) / p->measured);
			sum += fabs(off) * best / p->measured;
		}
	for (int k = 0; k < n_knobs; k++) {
		double off = log((double)*knobs[k].cost[0] / (double)knobs[k].before);

		sum += PULL * off * off;
	}
	return sum;
}

static void turn(const struct knob *knob, double factor, uint64_t *saved)
{
	for (int i = 0; i < 3 && knob->cost[i]; i++) {
		saved[i] = *knob->cost[i];
		*knob->cost[i] = (uint64_t)((double)saved[i] * factor + 0.5);
		if (*knob->cost[i] == 0)
			*knob->cost[i] = 1;
	}
}

static void turn_back(const struct knob *knob, const uint64_t *saved)
{
	for (int i = 0; i < 3 && knob->cost[i]; i++)
		*knob->cost[i] = saved[i];
}

static void fit(struct calibration *c)
{
	static const double factors[] = { 2, 1.4, 1.15, 1.05, 1.02 };
	const int steps = sizeof(factors) / sizeof(factors[0]);
	struct knob knobs[16];
	int n = knobs_of(c, knobs);
	double error = error_of(c, knobs, n);

	for (int f = 0; f < steps; f++) {
		bool better = true;

		progress(c, "fitting", f, steps);
		for (int sweep = 0; sweep < 8 && better; sweep++) {
			better = false;
			for (int k = 0; k < 2 * n; k++) {
				double factor = k % 2 ? factors[f] : 1 / factors[f], now;
				uint64_t saved[3];

				turn(&knobs[k / 2], factor, saved);
				now = error_of(c, knobs, n);
				if (now < error) {
					error = now;
					better = true;
				} else {
					turn_back(&knobs[k / 2], saved);
				}
			}
		}
	}
	error_of(c, knobs, n); /* leaves the predictions of the best */
	progress(c, "", 1, 1);
}

/* ---- telling --------------------------------------------------------------------------------- */

static int write_model(const struct calibration *c, FILE *to, const char *file)
{
	fprintf(to,
		"# Made by rdtrain %s, perf --calibrate, with %d ranks. Costs of links that were "
		"not "
		"there\n# are those of a built-in model.\n",
		rdt_version(), c->what.ranks);
	rdt_model_print(to, &c->model);
	if (fclose(to) == 0)
		return 0;
	unlink(file);
	return rdt_err_errno(RDT_ERR_SYSTEM, "%s cannot be written", file);
}

static void report(const struct calibration *c, const char *file)
{
	double sum = 0;
	int n = 0, near = 0;

	printf("# algorithm                    size   measured (us)  predicted (us)      off\n");
	for (int a = 0; a < c->n_algorithms; a++)
		for (size_t s = 0; s < SIZES; s++) {
			const struct point *p = &c->points[a][s];
			double off = p->predicted / p->measured - 1;

			if (p->measured == 0)
				continue;
			printf("  %-22s  %10llu  %14.2f  %14.2f  %+6.0f %%\n", p->algorithm->name,
			       (unsigned long long)p->bytes, p->measured * 1e6, p->predicted * 1e6,
			       100 * off);
			sum += fabs(log(p->predicted / p->measured));
			n++;
		}
	printf("# typically off by %.0f %%\n", n ? 100 * (exp(sum / n) - 1) : 0);
	printf("#       size  fastest measured                  by prediction                     "
	       "costs\n");
	for (size_t s = 0; s < SIZES; s++) {
		const struct point *best = NULL, *chosen = NULL;

		for (int a = 0; a < c->n_algorithms; a++) {
			const struct point *p = &c->points[a][s];

			if (p->measured == 0)
				continue;
			if (!best || p->measured < best->measured)
				best = p;
			if (!chosen || p->predicted < chosen->predicted)
				chosen = p;
		}
		if (!best)
			continue;
		near += chosen->measured <= 1.1 * best->measured;
		printf("  %10llu  %-22s %7.1f us  %-22s %7.1f us  %+6.0f %%\n",
		       (unsigned long long)sizes[s], best->algorithm->name, best->measured * 1e6,
		       chosen->algorithm->name, chosen->measured * 1e6,
		       100 * (chosen->measured / best->measured - 1));
	}
	printf("# within 10 %% of the fastest at %d of %zu sizes\n", near, SIZES);
	printf("# written to %s: use it with RDTRAIN_MODEL=%s, or rdtrain simulate --model %s\n",
	       file, file, file);
}

/* ---- all together ---------------------------------------------------------------------------- */

/* What there is to begin with: the built-in model that suits, and this machine's processors. */
static void begin(struct calibration *c, rdt_comm *comm)
{
	bool memory = comm->host != NULL;
	int most = 0;

	c->comm = comm;
	c->model = *rdt_model_builtin(memory && comm->one_host ? "shm-laptop" : "infiniband-edr");
	c->model.cores = (uint64_t)comm->processors;
	snprintf(c->model.name, sizeof(c->model.name), "calibrated");
	for (int r = 0; r < comm->size; r++) {
		int there = 0;

		for (int k = 0; k < comm->size; k++)
			there += k == r || (memory && comm->host[k] == comm->host[r]);
		most = there > most ? there : most;
	}
	c->crowded = c->model.cores && (uint64_t)most > c->model.cores;
	c->what = (struct rdt_simulation){
		.model = &c->model,
		.ranks = comm->size,
		.ranks_per_host = 1,
		.host = comm->host,
		.elem_size = 4,
		.remote_output = true,
		.mapped = memory,
		.window = comm->config.window,
		.checked = comm->config.check,
	};
	list(c);
}

/* Before the work, and told to all: so all end alike. */
static int open_file(rdt_comm *comm, const char *file, FILE **to)
{
	int32_t bad = 0;
	int status;

	if (comm->rank == 0) {
		*to = fopen(file, "we");
		bad = *to ? 0 : errno;
	}
	status = rdt_broadcast(comm, &bad, 1, RDT_INT32, 0);
	if (status || !bad)
		return status;
	return rdt_err(RDT_ERR_INVALID, "--calibrate: rank 0 cannot write \"%s\": %s", file,
		       strerror(bad));
}

int perf_calibrate(rdt_comm *comm, const char *file)
{
	static const struct perf_settings settings = {
		.iterations = -1,
		.warmup = -1,
		.form = PERF_PLAN,
		.places = PERF_OUT_OF_PLACE,
	};
	struct calibration *c = calloc(1, sizeof(*c));
	struct perf_data *data = perf_data_new(comm->rank, comm->size, RDT_FLOAT32, RDT_SUM);
	struct perf_buffers buffers = { 0 };
	FILE *to = NULL;
	int status = c && data ? 0 : rdt_err(RDT_ERR_NOMEM, "no memory for the measurements");

	if (!status && comm->size < 2)
		status = rdt_err(RDT_ERR_INVALID,
				 "--calibrate needs two ranks or more: rdtrain run -n 2 -- rdtrain "
				 "perf --calibrate");
	if (!status)
		status = open_file(comm, file, &to);
	if (!status)
		status = perf_buffers_make(comm, PERF_ALLOC, sizes[SIZES - 1], &buffers);
	if (!status) {
		begin(c, comm);
		status = measure(c, &settings, &buffers, data);
	}
	if (!status && comm->rank == 0) {
		fit(c);
		status = write_model(c, to, file);
		to = NULL;
		if (!status)
			report(c, file);
	}
	if (!status)
		status = rdt_barrier(comm);
	if (to) {
		fclose(to);
		unlink(file); /* nothing is better than half of it */
	}
	perf_buffers_free(&buffers);
	perf_data_free(data);
	free(c);
	return status;
}
