/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line of train_mlp. */
#include "settings.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef RDTRAIN_EXAMPLE_DATA /* the build says where the example's data is */
#define RDTRAIN_EXAMPLE_DATA "data"
#endif

enum {
	KEY_HIDDEN = 256,
	KEY_MOMENTUM,
	KEY_SEED,
	KEY_NO_PROGRESS,
	KEY_OPTIMIZER,
	KEY_SECONDS,
	KEY_SHARD,
	KEY_WIRE,
	KEY_ACCUMULATE,
	KEY_BUCKET,
	KEY_CHECKPOINT,
	KEY_RESUME,
	KEY_MODE,
	KEY_SERVERS,
	KEY_STALENESS,
	KEY_ELASTIC,
};

static const struct argp_option options[] = {
	{ "data", 'd', "FILE", 0,
	  "Numbers separated by commas, the class last (default " RDTRAIN_EXAMPLE_DATA
	  "/digits.csv)",
	  0 },
	{ "hidden", KEY_HIDDEN, "N,N,...", 0, "Sizes of the hidden layers (default 64,32)", 0 },
	{ "optimizer", KEY_OPTIMIZER, "sgd|momentum|adam", 0, "Default momentum", 0 },
	{ "lr", 'l', "RATE", 0, "Learning rate (default 0.05; adam: 0.002)", 0 },
	{ "momentum", KEY_MOMENTUM, "M", 0, "Momentum, 0 to less than 1 (default 0.9)", 0 },
	{ "batch", 'b', "N", 0, "Samples of one step, over all workers (default 32)", 0 },
	{ "epochs", 'e', "N", 0, "Passes over the training set (default 30)", 0 },
	{ "seconds", KEY_SECONDS, "S", 0, "Stop after the epoch in which S seconds have passed",
	  0 },
	{ "seed", KEY_SEED, "N", 0, "Decides split, order and first weights (default 1)", 0 },
	{ "parallel", 'p', "data|model|CxP", 0,
	  "data: each worker has the whole model (default); model: the layers are divided over all "
	  "workers; 2x2: two copies of two parts",
	  1 },
	{ "shard-optimizer", KEY_SHARD, 0, 0,
	  "Each worker keeps and applies a part of the optimizer's state", 1 },
	{ "wire", KEY_WIRE, "float32|bfloat16|float16", 0,
	  "Gradients are sent as this (default float32)", 1 },
	{ "accumulate", KEY_ACCUMULATE, "N", 0, "Compute each step in N passes (default 1)", 1 },
	{ "bucket", KEY_BUCKET, "BYTES", 0, "Gradients of one allreduce (default 4194304)", 1 },
	{ "mode", KEY_MODE, "reduce|server", 0,
	  "reduce: gradients are summed by all workers (default); server: the first workers keep "
	  "the parameters, the others train",
	  1 },
	{ "servers", KEY_SERVERS, "N", 0, "With --mode server: so many (default 1)", 1 },
	{ "staleness", KEY_STALENESS, "N", 0,
	  "With --mode server: a worker may be N steps ahead of the slowest; without it all keep "
	  "step",
	  1 },
	{ "checkpoint", KEY_CHECKPOINT, "DIR", 0, "Write a checkpoint there after each epoch", 2 },
	{ "resume", KEY_RESUME, 0, 0, "Go on from the newest checkpoint there", 2 },
	{ "elastic", KEY_ELASTIC, 0, 0,
	  "Go on without workers that die, and take in new ones after each epoch", 1 },
	{ "json", 'J', "FILE", 0, "Write the results to FILE as JSON", 2 },
	{ "no-progress", KEY_NO_PROGRESS, 0, 0, "No progress bar, even on a terminal", 2 },
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

static int one_of(struct argp_state *state, const char *what, const char *text,
		  const char *const *names)
{
	for (int i = 0; names[i]; i++)
		if (strcmp(text, names[i]) == 0)
			return i;
	argp_error(state, "%s: there is no \"%s\"; --help lists them", what, text);
	return 0;
}

static void hidden(struct argp_state *state, struct settings *s, char *text)
{
	s->n_hidden = 0;
	for (char *size = strtok(text, ","); size; size = strtok(NULL, ",")) {
		if (s->n_hidden == MLP_LAYERS_MAX - 1)
			argp_error(state, "--hidden: at most %d layers", MLP_LAYERS_MAX - 1);
		s->hidden[s->n_hidden++] = (int)whole(state, "--hidden", size, 1, 1 << 16);
	}
}

static void parallel(struct argp_state *state, struct settings *s, const char *text)
{
	char more;

	s->copies = strcmp(text, "model") == 0;
	s->parts = strcmp(text, "data") == 0;
	if (!s->copies && !s->parts &&
	    (sscanf(text, "%dx%d%c", &s->copies, &s->parts, &more) != 2 || s->copies < 1 ||
	     s->parts < 1))
		argp_error(state,
			   "--parallel: \"%s\" is neither data nor model nor copies x parts, like "
			   "2x2",
			   text);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	static const char *const optimizers[] = { "sgd", "momentum", "adam", NULL };
	static const char *const wires[] = { "float32", "bfloat16", "float16", NULL };
	static const char *const server_modes[] = { "reduce", "server", NULL };
	static const enum rdt_type types[] = { RDT_FLOAT32, RDT_BFLOAT16, RDT_FLOAT16 };
	struct settings *s = state->input;

	switch (key) {
	case 'd': s->data = arg; return 0;
	case 'J': s->json = arg; return 0;
	case 'l': s->learning_rate = real(state, "--lr", arg, 1000); return 0;
	case 'b': s->batch = whole(state, "--batch", arg, 1, 1 << 20); return 0;
	case 'e': s->epochs = whole(state, "--epochs", arg, 1, 1000000); return 0;
	case 'p': parallel(state, s, arg); return 0;
	case KEY_HIDDEN: hidden(state, s, arg); return 0;
	case KEY_OPTIMIZER:
		s->optimizer =
			(enum rdt_optimizer_kind)one_of(state, "--optimizer", arg, optimizers);
		return 0;
	case KEY_MOMENTUM: s->momentum = real(state, "--momentum", arg, 1); return 0;
	case KEY_SECONDS: s->seconds = real(state, "--seconds", arg, 1e9); return 0;
	case KEY_SEED: s->seed = whole(state, "--seed", arg, 0, INT32_MAX); return 0;
	case KEY_SHARD: s->shard = true; return 0;
	case KEY_WIRE: s->wire = types[one_of(state, "--wire", arg, wires)]; return 0;
	case KEY_ACCUMULATE: s->accumulate = whole(state, "--accumulate", arg, 1, 1024); return 0;
	case KEY_BUCKET: s->bucket = whole(state, "--bucket", arg, 1, 1 << 30); return 0;
	case KEY_ELASTIC: s->elastic = true; return 0;
	case KEY_NO_PROGRESS: s->no_progress = true; return 0;
	case KEY_CHECKPOINT: s->checkpoint = arg; return 0;
	case KEY_RESUME: s->resume = true; return 0;
	case KEY_MODE:
		if (one_of(state, "--mode", arg, server_modes) && !s->servers)
			s->servers = 1;
		return 0;
	case KEY_SERVERS: s->servers = (int)whole(state, "--servers", arg, 1, 1024); return 0;
	case KEY_STALENESS: s->staleness = whole(state, "--staleness", arg, 0, 1 << 20); return 0;
	case ARGP_KEY_END:
		if (s->shard && (s->wire != RDT_FLOAT32 || s->accumulate > 1))
			argp_error(state, "--shard-optimizer goes with neither --wire nor "
					  "--accumulate");
		if (s->servers && (s->shard || s->wire != RDT_FLOAT32 || s->accumulate > 1 ||
				   s->parts != 1 || s->checkpoint))
			argp_error(state, "--mode server goes with neither --parallel, "
					  "--shard-optimizer, --wire, --accumulate nor "
					  "--checkpoint");
		if (s->staleness >= 0 && !s->servers)
			argp_error(state, "--staleness is for --mode server");
		if (s->resume && !s->checkpoint)
			argp_error(state, "--resume needs --checkpoint DIR");
		if (s->elastic && (s->shard || s->parts != 1 || s->servers || s->checkpoint))
			argp_error(state, "--elastic goes with neither --parallel but data, "
					  "--shard-optimizer, --mode server nor --checkpoint");
		if (s->momentum == 0 && s->optimizer == RDT_MOMENTUM)
			s->optimizer = RDT_SGD;
		if (s->learning_rate < 0)
			s->learning_rate = s->optimizer == RDT_ADAM ? 0.002 : 0.05;
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

struct settings settings_parse(int argc, char **argv)
{
	struct settings s = {
		.data = RDTRAIN_EXAMPLE_DATA "/digits.csv",
		.hidden = { 64, 32 },
		.n_hidden = 2,
		.optimizer = RDT_MOMENTUM,
		.learning_rate = -1,
		.momentum = 0.9,
		.batch = 32,
		.epochs = 30,
		.seed = 1,
		.parts = 1,
		.accumulate = 1,
		.staleness = -1,
	};

	argp_parse(&argp, argc, argv, 0, NULL, &s);
	return s;
}
