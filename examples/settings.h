/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line of train_mlp. */
#ifndef EXAMPLES_SETTINGS_H
#define EXAMPLES_SETTINGS_H

#include <rdtrain/train.h>

#include "mlp.h"

struct settings {
	const char *data, *json, *checkpoint;
	int hidden[MLP_LAYERS_MAX], n_hidden;
	double learning_rate, momentum, seconds;
	enum rdt_optimizer_kind optimizer;
	long batch, epochs, seed;
	int copies, parts; /* 0: as many as there are workers */
	bool shard, no_progress, resume, elastic;
	int servers;	/* 0: gradients are reduced, there is none */
	long staleness; /* -1: workers wait for each other in every step */
	enum rdt_type wire;
	long accumulate; /* passes of a step */
	long bucket;	 /* bytes */
};

/* Exits with a message when the command line is wrong. */
struct settings settings_parse(int argc, char **argv);

#endif
