/* SPDX-License-Identifier: BSD-3-Clause */
/* What happens in a run; see campaign.h. The same on all hosts, so it depends on nothing else. */
#include "campaign.h"

#include <math.h>
#include <stdio.h>

static uint64_t next(uint64_t *state) /* splitmix64 */
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static int below(uint64_t *state, int n)
{
	return (int)(next(state) % (uint64_t)n);
}

static double fraction(uint64_t *state)
{
	return (double)(next(state) >> 11) * 0x1p-53;
}

const char *campaign_phase_name(int phase)
{
	static const char *const names[PHASES] = { "allreduce", "alltoall", "plan", "shrink",
						   "start" };

	return names[phase];
}

/* Early moments matter as much as late ones: what a first operation sets up is over soon. */
static double moment(uint64_t *state, enum campaign_phase phase)
{
	if (phase == PHASE_START)
		return 0.060 * fraction(state);
	return 50e-6 * pow(0.080 / 50e-6, fraction(state));
}

void campaign_case_make(const struct campaign_options *options, int number, struct campaign_case *c)
{
	static const size_t sizes[] = { 1, 63, 1025, 20011, 262147, 1500007 };
	static const size_t blocks[] = { 1, 63, 1025, 5003, 20011, 262147 };
	uint64_t state = options->seed * 1000003 + (uint64_t)number;

	next(&state);
	c->seed = options->seed;
	c->number = number;
	c->n = 2 + below(&state, CAMPAIGN_RANKS - 1);
	c->victim = below(&state, c->n);
	c->phase = (enum campaign_phase)below(&state, PHASES);
	if (options->only >= 0)
		c->phase = (enum campaign_phase)options->only;
	c->first = -1;
	if (c->phase == PHASE_SHRINK) {
		if (c->n == 2)
			c->n = 3;
		c->first = (c->victim + 1 + below(&state, c->n - 1)) % c->n;
	}
	c->form = (enum campaign_form)below(&state, FORMS);
	c->memory = (enum campaign_memory)below(&state, MEMORIES);
	c->fault = number % 5 == 4 ? FAULT_STOP : FAULT_KILL;
	if (options->link)
		c->fault = FAULT_LINK;
	c->wake = (enum campaign_wake)below(&state, WAKES);
	c->count = c->phase == PHASE_ALLTOALL ? blocks[below(&state, 6)] : sizes[below(&state, 6)];
	if (c->count > options->max_count)
		c->count = options->max_count;
	c->in_place = below(&state, 2);
	c->delay_s = moment(&state, c->phase) * options->pace;
}

void campaign_case_describe(const struct campaign_case *c, char *text, size_t size)
{
	static const char *const forms[FORMS] = { "blocking", "started", "plan" };
	static const char *const memories[MEMORIES] = { "alloc", "register", "malloc" };
	static const char *const wakes[WAKES] = { "", ", goes on afterwards",
						  ", goes on meanwhile" };

	static const char *const faults[FAULTS] = { "killed", "stopped", "cut off" };

	snprintf(text, size,
		 "--seed %llu --first %d: %s, %d ranks, %s of %zu, %s%s, rank %d %s after %.2f "
		 "ms%s",
		 (unsigned long long)c->seed, c->number, campaign_phase_name(c->phase), c->n,
		 forms[c->form], c->count, memories[c->memory], c->in_place ? ", in place" : "",
		 c->victim, faults[c->fault], c->delay_s * 1e3,
		 c->fault == FAULT_STOP ? wakes[c->wake] : "");
}
