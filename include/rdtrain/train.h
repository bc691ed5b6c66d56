/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The training layer of librdtrain: data, optimizers, checkpoints, gradients, parameters. It is a
 * library of its own (librdtrain-train) on the public interface of librdtrain, and so one way to
 * use that, not the only one.
 *
 * Statuses, sentences and thread rules are those of <rdtrain/rdtrain.h>. An object here is used by
 * one thread at a time; different objects are independent, as long as they do not share a
 * communicator. Structs of options begin with their size: set `size` to sizeof, and the rest to
 * zero where the default is meant.
 */
#ifndef RDTRAIN_TRAIN_H
#define RDTRAIN_TRAIN_H

#include <rdtrain/rdtrain.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* ---- data ------------------------------------------------------------------------------------ */

/* ---- optimizers ------------------------------------------------------------------------------ */

enum rdt_rate_kind {
	RDT_RATE_CONSTANT, /* base */
	RDT_RATE_STEP,	   /* base, times `factor` after each `every` steps */
	RDT_RATE_COSINE, /* from base to `least` along half a cosine of `every` steps, then least */
};

/*
 * A learning rate over the steps of a run. The first `warmup` steps climb in a line, from
 * base / warmup to base; the kind counts its steps from there.
 */
struct rdt_rate {
	enum rdt_rate_kind kind;
	double base;
	uint64_t warmup, every;
	double factor, least;
};

/* The learning rate of step 0, 1, ... */
double rdt_rate_at(const struct rdt_rate *rate, uint64_t step);

/* ---- checkpoints ----------------------------------------------------------------------------- */

/* ---- reducer --------------------------------------------------------------------------------- */

/* ---- model parallelism ----------------------------------------------------------------------- */

/* ---- parameter server ------------------------------------------------------------------------ */

/* ---- consistency ----------------------------------------------------------------------------- */

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
