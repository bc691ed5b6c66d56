/* SPDX-License-Identifier: BSD-3-Clause */
/* Learning rates over the steps of a training run: pure functions of the step. */
#include <rdtrain/train.h>

#include <math.h>

double rdt_rate_at(const struct rdt_rate *rate, uint64_t step)
{
	double left;

	/* The first step already learns: 1 / warmup of the base, not 0. */
	if (step < rate->warmup)
		return rate->base * (double)(step + 1) / (double)rate->warmup;
	step -= rate->warmup;
	switch (rate->kind) {
	case RDT_RATE_STEP:
		if (rate->every == 0)
			break;
		return rate->base * pow(rate->factor, (double)(step / rate->every));
	case RDT_RATE_COSINE:
		if (step >= rate->every)
			return rate->least;
		left = 0.5 * (1 + cos(M_PI * (double)step / (double)rate->every));
		return rate->least + (rate->base - rate->least) * left;
	case RDT_RATE_CONSTANT: break;
	}
	return rate->base;
}
