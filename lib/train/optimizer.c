/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Optimizers over a flat vector: SGD, momentum (Polyak 1964), Adam (Kingma and Ba,
 * arXiv 1412.6980). An optimizer keeps the arrays of its state and nothing else: what depends on
 * the step is computed from the step, so that a checkpoint is the arrays.
 */
#include <rdtrain/train.h>

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "options.h"

#define STATES_MAX 2

struct rdt_optimizer {
	enum rdt_optimizer_kind kind;
	enum rdt_type type;
	size_t count;
	double momentum, beta1, beta2, epsilon;
	void *state[STATES_MAX];
};

#define REAL float
#define ROOT sqrtf
#define NAME(x) x##_float32
#include "optimizer.inc.h"
#undef REAL
#undef ROOT
#undef NAME
#define REAL double
#define ROOT sqrt
#define NAME(x) x##_float64
#include "optimizer.inc.h"

static const char *const state_names[][STATES_MAX] = {
	[RDT_SGD] = { NULL, NULL },
	[RDT_MOMENTUM] = { "velocity", NULL },
	[RDT_ADAM] = { "moment1", "moment2" },
};

static int check_factor(const char *name, double value)
{
	if (value >= 0 && value < 1)
		return 0;
	return rdt_set_error(RDT_ERR_INVALID, "an optimizer's %s of %g: 0 to less than 1", name,
			     value);
}

int rdt_optimizer_create(const struct rdt_optimizer_options *options, size_t count,
			 enum rdt_type type, rdt_optimizer **optimizer)
{
	struct rdt_optimizer_options given, *o = &given;
	rdt_optimizer *opt;
	int status;

	if (!optimizer)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_optimizer_create: optimizer is NULL");
	*optimizer = NULL;
	status = rdt_options_copy("rdt_optimizer_options", o, sizeof(*o), options);
	if (status)
		return status;
	if ((unsigned)o->kind > RDT_ADAM)
		return rdt_set_error(RDT_ERR_INVALID, "%d is no enum rdt_optimizer_kind",
				     (int)o->kind);
	if (type != RDT_FLOAT32 && type != RDT_FLOAT64)
		return rdt_set_error(RDT_ERR_INVALID,
				     "an optimizer works on float32 or float64, not on %s",
				     rdt_type_name(type) ? rdt_type_name(type) : "an unknown type");
	if (check_factor("momentum", o->momentum) || check_factor("beta1", o->beta1) ||
	    check_factor("beta2", o->beta2) || check_factor("epsilon", o->epsilon))
		return RDT_ERR_INVALID;
	opt = count <= PTRDIFF_MAX / rdt_type_size(type) ? calloc(1, sizeof(*opt)) : NULL;
	if (!opt)
		goto no_memory;
	opt->kind = o->kind;
	opt->type = type;
	opt->count = count;
	opt->momentum = o->momentum > 0 ? o->momentum : 0.9;
	opt->beta1 = o->beta1 > 0 ? o->beta1 : 0.9;
	opt->beta2 = o->beta2 > 0 ? o->beta2 : 0.999;
	opt->epsilon = o->epsilon > 0 ? o->epsilon : 1e-8;
	for (int i = 0; i < rdt_optimizer_states(opt); i++) {
		opt->state[i] = calloc(count ? count : 1, rdt_type_size(type));
		if (!opt->state[i])
			goto no_memory;
	}
	*optimizer = opt;
	return 0;
no_memory:
	rdt_optimizer_destroy(opt);
	return rdt_set_error(RDT_ERR_NOMEM, "no memory for an optimizer's state of %zu %s", count,
			     rdt_type_name(type));
}

void rdt_optimizer_destroy(rdt_optimizer *opt)
{
	if (!opt)
		return;
	for (int i = 0; i < STATES_MAX; i++)
		free(opt->state[i]);
	free(opt);
}

void rdt_optimizer_step(rdt_optimizer *opt, uint64_t step, double rate, void *params,
			const void *gradient)
{
	/* The powers in double: for float, beta2^t would be off in the first steps. */
	double unbias1 = 1 / (1 - pow(opt->beta1, (double)step + 1));
	double unbias2 = 1 / (1 - pow(opt->beta2, (double)step + 1));
	bool single = opt->type == RDT_FLOAT32;
	size_t n = opt->count;

	switch (opt->kind) {
	case RDT_SGD:
		if (single)
			sgd_float32(params, gradient, n, (float)rate);
		else
			sgd_float64(params, gradient, n, rate);
		return;
	case RDT_MOMENTUM:
		if (single)
			momentum_float32(params, gradient, opt->state[0], n, (float)rate,
					 (float)opt->momentum);
		else
			momentum_float64(params, gradient, opt->state[0], n, rate, opt->momentum);
		return;
	case RDT_ADAM:
		if (single)
			adam_float32(params, gradient, opt->state[0], opt->state[1], n, (float)rate,
				     (float)opt->beta1, (float)opt->beta2, (float)opt->epsilon,
				     (float)unbias1, (float)unbias2);
		else
			adam_float64(params, gradient, opt->state[0], opt->state[1], n, rate,
				     opt->beta1, opt->beta2, opt->epsilon, unbias1, unbias2);
		return;
	}
}

int rdt_optimizer_states(const rdt_optimizer *opt)
{
	int n = 0;

	while (n < STATES_MAX && state_names[opt->kind][n])
		n++;
	return n;
}

const char *rdt_optimizer_state_name(const rdt_optimizer *opt, int i)
{
	return i >= 0 && i < STATES_MAX ? state_names[opt->kind][i] : NULL;
}

void *rdt_optimizer_state(rdt_optimizer *opt, int i)
{
	return i >= 0 && i < STATES_MAX ? opt->state[i] : NULL;
}
