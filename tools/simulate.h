/* SPDX-License-Identifier: BSD-3-Clause */
/* What the two halves of `rdtrain simulate` share: collectives, and whole training steps. */
#ifndef RDT_TOOLS_SIMULATE_H
#define RDT_TOOLS_SIMULATE_H

#include <stdint.h>

#include "collectives/model.h"

struct argp_state;

/* The command with --step-time: predicts a training step. */
int rdt_simulate_step(int argc, char **argv);

/* Values of options; end the program with a message when they are wrong. */
uint64_t rdt_simulate_size(const struct argp_state *state, const char *name, const char *text);
int rdt_simulate_number(const struct argp_state *state, const char *name, const char *text,
			int least, int most);
/* A built-in model, or a file; NULL: the default. 0, or an exit status with the message printed. */
int rdt_simulate_model(const char *name, struct rdt_model *model);
/* "cannot WHAT FILE: why". Returns 1. */
int rdt_simulate_complain(const char *what, const char *file);
/* Runs gnuplot on a script. 0, or an exit status with the message printed. */
int rdt_simulate_gnuplot(const char *script);

#endif
