/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdtrain simulate --step-time MS --gradient-bytes B: what becomes of a training step when it is
 * done by many workers, and how many of them are worth their price.
 *
 * The step of one worker is known: computing forward, then backward, where gradients become ready
 * bit by bit. They are reduced in buckets as rdt_reducer does it: each bucket's allreduce begins
 * when its gradients are there and the bucket before it is through. What is left when the backward
 * pass ends is waited for.
 */
#include "tools/simulate.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include <rdtrain/rdtrain.h>

#include "collectives/select.h"

#define MOST_POINTS 40

struct settings {
	double step_ms, backward, efficiency;
	uint64_t gradient, bucket;
	int per_host, most;
	bool strong;
	const char *model_name, *json, *plot;
	struct rdt_model model;
};

/* A number of workers, and what is predicted for it. */
struct point {
	int workers;
	double allreduce_ms; /* of all gradients, if nothing were hidden */
	double exposed_ms;   /* of it behind the backward pass */
	double step_ms, efficiency, speedup;
};

enum {
	OPTION_STEP_TIME = 256,
	OPTION_GRADIENT,
	OPTION_BUCKET,
	OPTION_BACKWARD,
	OPTION_WORKERS,
	OPTION_EFFICIENCY,
	OPTION_STRONG,
	OPTION_PER_HOST,
	OPTION_MODEL,
	OPTION_PLOT,
};

static const struct argp_option options[] = {
	{ "step-time", OPTION_STEP_TIME, "MS", 0, "Milliseconds of a step of one worker", 0 },
	{ "gradient-bytes", OPTION_GRADIENT, "SIZE", 0, "Bytes of all gradients", 0 },
	{ "bucket-bytes", OPTION_BUCKET, "SIZE", 0, "Gradients of one allreduce (default 4M)", 0 },
	{ "backward", OPTION_BACKWARD, "SHARE", 0,
	  "Of the step, in which gradients become ready (default 0.67)", 0 },
	{ "max-workers", OPTION_WORKERS, "N", 0, "Up to so many, 65536 at most (default 1024)", 0 },
	{ "ranks-per-host", OPTION_PER_HOST, "N", 0, "Workers on each host (default 1)", 0 },
	{ "strong", OPTION_STRONG, NULL, 0,
	  "The batch is divided over the workers; without it each has one of its own", 0 },
	{ "efficiency", OPTION_EFFICIENCY, "E", 0,
	  "Recommend the most workers that are this efficient (default 0.8)", 0 },
	{ "model", OPTION_MODEL, "NAME|FILE", 0, "The machine (default infiniband-edr)", 1 },
	{ "json", 'J', "FILE", 0, "Write all numbers there too", 2 },
	{ "plot", OPTION_PLOT, "FILE.svg", 0, "Draw efficiency and speedup; needs gnuplot", 2 },
	{ 0 },
};

static const char doc[] =
	"Predicts a training step of many workers from that of one: the time of the step, how "
	"efficient the workers are, and how many are worth it."
	"\v"
	"  rdtrain simulate --step-time 120 --gradient-bytes 100M --ranks-per-host 8\n\n"
	"allreduce is the time of all gradients' allreduces one after another, exposed what of it "
	"is not hidden behind the backward pass. speedup is samples per second, against one "
	"worker; "
	"efficiency is speedup divided by workers.\n\n"
	"Exit status: 0; 1 when nothing could be predicted or a file not written; 2 for wrong "
	"usage.";

static double real(const struct argp_state *state, const char *name, const char *text, double least,
		   double most)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= least && value <= most))
		argp_error(state, "--%s: \"%s\" is not a number from %g to %g", name, text, least,
			   most);
	return value;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct settings *s = state->input;

	switch (key) {
	case OPTION_STEP_TIME: s->step_ms = real(state, "step-time", arg, 1e-3, 1e9); return 0;
	case OPTION_GRADIENT:
		s->gradient = rdt_simulate_size(state, "gradient-bytes", arg);
		return 0;
	case OPTION_BUCKET: s->bucket = rdt_simulate_size(state, "bucket-bytes", arg); return 0;
	case OPTION_BACKWARD: s->backward = real(state, "backward", arg, 0, 1); return 0;
	case OPTION_WORKERS:
		s->most = rdt_simulate_number(state, "max-workers", arg, 1, 65536);
		return 0;
	case OPTION_PER_HOST:
		s->per_host = rdt_simulate_number(state, "ranks-per-host", arg, 1, 65536);
		return 0;
	case OPTION_STRONG: s->strong = true; return 0;
	case OPTION_EFFICIENCY: s->efficiency = real(state, "efficiency", arg, 0.01, 1); return 0;
	case OPTION_MODEL: s->model_name = arg; return 0;
	case 'J': s->json = arg; return 0;
	case OPTION_PLOT: s->plot = arg; return 0;
	case ARGP_KEY_END:
		if (!s->gradient)
			argp_error(state, "say how many bytes of gradients there are: "
					  "--gradient-bytes");
		if (s->bucket < 1)
			argp_error(state, "--bucket-bytes is 1 at least");
		return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

/* ---- predicting ------------------------------------------------------------------------------ */

/* Milliseconds of the fastest allreduce; negative: none could be predicted. */
static double allreduce_ms(const struct settings *s, int workers, uint64_t bytes)
{
	struct rdt_simulation what = {
		.model = &s->model,
		.ranks = workers,
		.ranks_per_host = s->per_host < workers ? s->per_host : workers,
		.bytes = bytes,
		.elem_size = 4,
		.remote_output = true,
		.mapped = true,
	};
	struct rdt_candidate c[RDT_CANDIDATES];

	if (rdt_predict(&what, RDT_COLL_ALLREDUCE, false, c) < 1 || c[0].outcome != RDT_SIMULATED)
		return -1;
	return (double)c[0].prediction.time_ps / 1e9;
}

static int predict(const struct settings *s, int workers, struct point *p)
{
	uint64_t buckets = (s->gradient + s->bucket - 1) / s->bucket;
	uint64_t last = s->gradient - (buckets - 1) * s->bucket;
	double compute = s->strong ? s->step_ms / workers : s->step_ms;
	double backward = compute * s->backward, end = 0, each, rest;

	each = workers > 1 && buckets > 1 ? allreduce_ms(s, workers, s->bucket) : 0;
	rest = workers > 1 ? allreduce_ms(s, workers, last) : 0;
	if (each < 0 || rest < 0)
		return -1;
	for (uint64_t b = 0; b < buckets; b++) {
		uint64_t made = b + 1 < buckets ? (b + 1) * s->bucket : s->gradient;
		double ready = backward * (double)made / (double)s->gradient;

		end = (ready > end ? ready : end) + (b + 1 < buckets ? each : rest);
	}
	*p = (struct point){ .workers = workers,
			     .allreduce_ms = each * (double)(buckets - 1) + rest,
			     .exposed_ms = end > backward ? end - backward : 0 };
	p->step_ms = compute + p->exposed_ms;
	p->speedup = s->step_ms / p->step_ms * (s->strong ? 1 : workers);
	p->efficiency = p->speedup / workers;
	return 0;
}

/* The most workers that are efficient enough; of a batch that is divided, no more than pay. */
static const struct point *recommended(const struct settings *s, const struct point *points, int n)
{
	const struct point *best = &points[0];

	for (int i = 1; i < n; i++)
		if (points[i].efficiency >= s->efficiency && points[i].speedup > best->speedup)
			best = &points[i];
	return best;
}

/* ---- telling --------------------------------------------------------------------------------- */

static void print_table(const struct settings *s, const struct point *p, int n)
{
	const struct point *best = recommended(s, p, n);

	printf("# rdtrain %s simulate: step %g ms, gradients of %" PRIu64 " bytes in buckets of "
	       "%" PRIu64 ", %d workers on a host, model %s, %s\n",
	       rdt_version(), s->step_ms, s->gradient, s->bucket, s->per_host, s->model.name,
	       s->strong ? "one batch for all" : "a batch for each");
	printf("# %-8s %14s %12s %12s %11s %10s\n", "workers", "allreduce (ms)", "exposed (ms)",
	       "step (ms)", "efficiency", "speedup");
	for (int i = 0; i < n; i++)
		printf("  %-8d %14.3f %12.3f %12.3f %11.3f %10.2f\n", p[i].workers,
		       p[i].allreduce_ms, p[i].exposed_ms, p[i].step_ms, p[i].efficiency,
		       p[i].speedup);
	printf("# recommended: %d workers, %.1f times as fast as one (efficiency %.3f, %.2f "
	       "wanted)\n",
	       best->workers, best->speedup, best->efficiency, s->efficiency);
}

static int write_json(const struct settings *s, const struct point *p, int n)
{
	json_t *list = json_array(), *root;
	int bad;

	for (int i = 0; i < n; i++)
		json_array_append_new(
			list, json_pack("{s:i s:f s:f s:f s:f s:f}", "workers", p[i].workers,
					"allreduce_ms", p[i].allreduce_ms, "exposed_ms",
					p[i].exposed_ms, "step_ms", p[i].step_ms, "efficiency",
					p[i].efficiency, "speedup", p[i].speedup));
	root = json_pack("{s:s s:f s:I s:I s:i s:b s:s s:i s:o}", "version", rdt_version(),
			 "step_time_ms", s->step_ms, "gradient_bytes", (json_int_t)s->gradient,
			 "bucket_bytes", (json_int_t)s->bucket, "ranks_per_host", s->per_host,
			 "strong", s->strong, "model", s->model.name, "recommended_workers",
			 recommended(s, p, n)->workers, "results", list);
	errno = ENOMEM;
	bad = !root || json_dump_file(root, s->json, JSON_INDENT(2));
	json_decref(root);
	return bad ? rdt_simulate_complain("write", s->json) : 0;
}

static int plot(const struct settings *s, const struct point *p, int n)
{
	char script[] = "/tmp/rdtrain-plot-XXXXXX";
	int fd = mkstemp(script), status;
	FILE *to = fd < 0 ? NULL : fdopen(fd, "w");

	if (!to)
		return rdt_simulate_complain("make", script);
	fprintf(to,
		"set terminal svg size 900,600 background 'white' noenhanced\nset output \"%s\"\n"
		"set logscale x 2\nset logscale y2 2\nset grid\nset key left bottom\n"
		"set xlabel 'workers'\nset ylabel 'efficiency'\nset y2label 'speedup'\n"
		"set yrange [0:1.05]\nset ytics nomirror\nset y2tics\n"
		"set title \"step of %g ms, gradients of %" PRIu64
		" bytes, model %s\"\n$p << EOD\n",
		s->plot, s->step_ms, s->gradient, s->model.name);
	for (int i = 0; i < n; i++)
		fprintf(to, "%d %.4f %.3f\n", p[i].workers, p[i].efficiency, p[i].speedup);
	fprintf(to, "EOD\nplot $p using 1:2 with linespoints title 'efficiency', "
		    "$p using 1:3 axes x1y2 with linespoints title 'speedup'\n");
	status = fclose(to) ? rdt_simulate_complain("write", script) : rdt_simulate_gnuplot(script);
	unlink(script);
	return status;
}

int rdt_simulate_step(int argc, char **argv)
{
	static const struct argp argp = { options, parse, NULL, doc, NULL, NULL, NULL };
	struct settings s = {
		.backward = 0.67,
		.efficiency = 0.8,
		.bucket = 4 << 20,
		.per_host = 1,
		.most = 1024,
	};
	struct point points[MOST_POINTS];
	int n = 0, status;

	if (argp_parse(&argp, argc, argv, 0, NULL, &s))
		return 2;
	if (s.plot && strpbrk(s.plot, "\"\\\n")) {
		fprintf(stderr, "rdtrain simulate: --plot: a name without quotes, please\n");
		return 2;
	}
	status = rdt_simulate_model(s.model_name, &s.model);
	if (status)
		return status;
	for (int workers = 1;; workers = workers * 2 < s.most ? workers * 2 : s.most) {
		if (predict(&s, workers, &points[n++])) {
			fprintf(stderr,
				"rdtrain simulate: no allreduce among %d ranks could be "
				"predicted\n",
				workers);
			return 1;
		}
		if (workers == s.most)
			break;
	}
	print_table(&s, points, n);
	if (s.json)
		status = write_json(&s, points, n);
	return status || !s.plot ? status : plot(&s, points, n);
}
