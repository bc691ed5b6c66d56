/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verifier (see verify.h): emits the schedules of all ranks for several runs, executes them
 * together, and keeps the first fault. Who waits for whom, and the bounds, are here; what memory
 * holds is in symbolic.c, what may race in race.c, what needs no execution in wellformed.c.
 *
 * One execution stands for all: a schedule has no branches and each notification counter has one
 * consumer, so that which put satisfies which wait does not depend on timing; and where no two
 * accesses race, neither does what they read.
 */
#include "symbolic.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RANKS RDT_VERIFY_RANKS /* contributions are bits of a word */

/* Puts of one lane to one rank that have arrived and are not consumed, in order. */
struct channel {
	uint32_t first, last; /* events; 0: none */
	uint32_t pending;
};

struct lane_state {
	size_t step; /* the next */
	int depth;   /* of the longest chain of puts known here, in this run */
	bool over;
};

struct rank_state {
	int run; /* RDT_VERIFY_RUNS: through with all */
	int lanes_left;
	uint64_t bytes_put;
	uint32_t begun[RDT_VERIFY_RUNS]; /* tick of its first lane */
};

struct execution {
	struct rdt_verifier v;
	struct rdt_cost spent[RDT_VERIFY_RUNS];
	struct channel *channels;  /* [plan][thread][rank] */
	struct lane_state *states; /* [thread] */
	struct rank_state ranks[MAX_RANKS];
};

uint64_t rdt_buffer_bytes(const struct rdt_verifier *v, int run, int rank, enum rdt_buffer buffer)
{
	if (buffer == RDT_SCRATCH)
		return rdt_schedule_of(v, run, rank)->scratch_bytes;
	return rdt_meaning_bytes(rdt_shape_of(v, run, rank), v->c->size, rank, buffer);
}

int rdt_fault(const struct rdt_verifier *v, const struct rdt_place *at, const char *format, ...)
{
	char *fault = v->result->fault, step[160] = "";
	size_t size = sizeof(v->result->fault);
	int used = 0;
	va_list args;

	if (at && at->step >= 0) {
		const struct rdt_schedule *s = rdt_schedule_of(v, at->run, at->rank);

		rdt_step_format(step, sizeof(step), s, &s->lanes[at->lane].steps[at->step]);
		used = snprintf(fault, size, "rank %d, run %d, lane %d, step %d (%s): ", at->rank,
				at->run, at->lane, at->step, step);
	} else if (at) {
		used = snprintf(fault, size, "rank %d, %s run %d, the caller: ", at->rank,
				at->step == RDT_BEFORE_RUN ? "before" : "after", at->run);
	}
	va_start(args, format);
	vsnprintf(fault + used, size - (size_t)used, format, args);
	va_end(args);
	return 1;
}

/* ---- execution ----------------------------------------------------------------------------- */

static struct channel *channel_of(struct execution *x, int run, int from, int lane, int to)
{
	size_t rank = (size_t)rdt_plan_of(&x->v, run) * (size_t)x->v.c->size + (size_t)from;
	size_t thread = rank * (size_t)x->v.lanes + (size_t)lane;

	return &x->channels[thread * (size_t)x->v.c->size + (size_t)to];
}

static struct lane_state *lane_of(struct execution *x, int rank, int lane)
{
	return &x->states[(size_t)rank * (size_t)x->v.lanes + (size_t)lane];
}

static int begin_run(struct execution *x, int rank, int run)
{
	const struct rdt_verifier *v = &x->v;
	int status;

	x->ranks[rank].run = run;
	if (run == RDT_VERIFY_RUNS)
		return 0;
	x->ranks[rank].lanes_left = v->lanes;
	x->ranks[rank].bytes_put = 0;
	for (int l = 0; l < v->lanes; l++)
		*lane_of(x, rank, l) = (struct lane_state){ 0 };
	status = rdt_symbolic_begin(&x->v, rank, run);
	if (status)
		return status;
	x->ranks[rank].begun[run] = rdt_race_knows(&v->race, rank * v->lanes, rank * v->lanes);
	return 0;
}

/* Nobody leaves a barrier before everybody has come to it. */
static int check_barrier(const struct execution *x, int rank, int run)
{
	const struct rdt_verifier *v = &x->v;
	struct rdt_place at = { run, rank, -1, RDT_AFTER_RUN };

	for (int other = 0; other < v->c->size; other++) {
		uint32_t begun = x->ranks[other].begun[run];
		uint32_t known = rdt_race_knows(&v->race, rank * v->lanes, other * v->lanes);

		if (!begun || known < begun)
			return rdt_fault(v, &at,
					 "leaves the barrier without knowing that rank %d has come",
					 other);
	}
	return 0;
}

static int end_run(struct execution *x, int rank, int run)
{
	int status = rdt_symbolic_end(&x->v, rank, run);

	if (!status && rdt_shape_of(&x->v, run, rank)->collective == RDT_COLL_BARRIER)
		status = check_barrier(x, rank, run);
	if (status)
		return status;
	if (x->ranks[rank].bytes_put > x->spent[run].bytes)
		x->spent[run].bytes = x->ranks[rank].bytes_put;
	return begin_run(x, rank, run + 1);
}

static void post(struct execution *x, const struct rdt_place *at, const struct rdt_schedule *s,
		 const struct rdt_step *step, uint32_t event)
{
	struct channel *channel = channel_of(x, at->run, at->rank, at->lane, step->peer);
	struct rdt_event *put = &x->v.race.events[event];

	put->depth = lane_of(x, at->rank, at->lane)->depth + 1;
	if (put->depth > x->spent[at->run].rounds)
		x->spent[at->run].rounds = put->depth;
	x->spent[at->run].puts++;
	x->ranks[at->rank].bytes_put += rdt_step_src(s, step)->length;
	if (channel->pending++)
		x->v.race.events[channel->last].next = event;
	else
		channel->first = event;
	channel->last = event;
}

static void consume(struct execution *x, const struct rdt_place *at, const struct rdt_step *step,
		    uint32_t event)
{
	struct channel *channel = channel_of(x, at->run, step->peer, at->lane, at->rank);
	struct lane_state *lane = lane_of(x, at->rank, at->lane);

	for (uint32_t i = 0; i < step->count; i++) {
		uint32_t put = channel->first;

		rdt_race_consume(&x->v.race, event, put);
		if (x->v.race.events[put].depth > lane->depth)
			lane->depth = x->v.race.events[put].depth;
		channel->first = x->v.race.events[put].next;
		channel->pending--;
	}
}

static int execute(struct execution *x, const struct rdt_place *at, const struct rdt_schedule *s,
		   const struct rdt_step *step)
{
	int lanes = x->v.lanes;
	int receiver = step->kind == RDT_PUT ? step->peer * lanes + at->lane : -1;
	uint32_t event = rdt_race_event(&x->v.race, at->rank * lanes + at->lane, at->run, at->step,
					receiver);
	int status;

	if (!event)
		return -1;
	if (step->kind == RDT_WAIT) {
		consume(x, at, step, event);
		return 0;
	}
	status = rdt_symbolic_step(&x->v, at, event);
	if (!status && step->kind == RDT_PUT)
		post(x, at, s, step, event);
	return status;
}

/* Runs one lane as far as it goes. */
static int advance(struct execution *x, int rank, int l, bool *moved)
{
	int run = x->ranks[rank].run;
	const struct rdt_schedule *s;
	struct lane_state *lane = lane_of(x, rank, l);

	if (run == RDT_VERIFY_RUNS || lane->over)
		return 0;
	s = rdt_schedule_of(&x->v, run, rank);
	for (; lane->step < s->lanes[l].n_steps; lane->step++) {
		const struct rdt_step *step = &s->lanes[l].steps[lane->step];
		struct rdt_place at = { run, rank, l, (int)lane->step };
		int status;

		if (step->kind == RDT_WAIT &&
		    channel_of(x, run, step->peer, l, rank)->pending < step->count)
			return 0;
		*moved = true;
		status = execute(x, &at, s, step);
		if (status)
			return status;
	}
	lane->over = true;
	*moved = true;
	return --x->ranks[rank].lanes_left ? 0 : end_run(x, rank, run);
}

/* The step at which a rank is stuck; NULL when it is through. */
static const struct rdt_step *stuck_at(struct execution *x, int rank, struct rdt_place *at)
{
	for (int l = 0; l < x->v.lanes && x->ranks[rank].run < RDT_VERIFY_RUNS; l++) {
		const struct lane_state *lane = lane_of(x, rank, l);
		const struct rdt_schedule *s = rdt_schedule_of(&x->v, x->ranks[rank].run, rank);

		if (lane->over)
			continue;
		*at = (struct rdt_place){ x->ranks[rank].run, rank, l, (int)lane->step };
		return &s->lanes[l].steps[lane->step];
	}
	return NULL;
}

/* Nothing moves: says who waits for whom, round the circle. */
static int deadlock(struct execution *x)
{
	bool seen[MAX_RANKS] = { false };
	char chain[400] = "";
	size_t used = 0;
	struct rdt_place at;
	const struct rdt_step *step;
	int rank = 0;

	while (!stuck_at(x, rank, &at))
		rank++;
	for (; (step = stuck_at(x, rank, &at)) != NULL && !seen[rank]; rank = step->peer) {
		seen[rank] = true;
		if (used < sizeof(chain))
			used += (size_t)snprintf(
				chain + used, sizeof(chain) - used,
				"rank %d (run %d, lane %d, step %d) waits for rank %d; ", rank,
				at.run, at.lane, at.step, step->peer);
	}
	if (!step && used < sizeof(chain))
		snprintf(chain + used, sizeof(chain) - used, "rank %d is through; ", rank);
	return rdt_fault(&x->v, NULL, "deadlock: %s", chain);
}

static int run_all(struct execution *x)
{
	bool moved = true, over = true;
	int status;

	for (int rank = 0; rank < x->v.c->size; rank++) {
		status = begin_run(x, rank, 0);
		if (status)
			return status;
	}
	while (moved) {
		moved = false;
		for (int rank = 0; rank < x->v.c->size; rank++)
			for (int l = 0; l < x->v.lanes; l++) {
				status = advance(x, rank, l, &moved);
				if (status)
					return status;
			}
	}
	for (int rank = 0; rank < x->v.c->size; rank++)
		over = over && x->ranks[rank].run == RDT_VERIFY_RUNS;
	return over ? rdt_symbolic_leftovers(&x->v) : deadlock(x);
}

/* ---- before and after ------------------------------------------------------------------------ */

static int emit_one(struct rdt_verifier *v, int run, int rank, rdt_verify_tamper_fn tamper,
		    void *arg)
{
	const struct rdt_verify_case *c = v->c;
	struct rdt_schedule *s = rdt_schedule_of(v, run, rank);
	struct rdt_group group = { .rank = rank, .size = c->size };
	int plan = rdt_plan_of(v, run);
	uint64_t elements;

	if (rdt_verify_algorithm(c, run)->emit(&group, rdt_shape_of(v, run, rank), s))
		return -1;
	if (tamper)
		tamper(arg, rank, run, s);
	if (s->n_lanes < 1 || s->n_lanes > RDT_MAX_LANES || s->scratch_epochs < 1 ||
	    s->scratch_epochs > 2)
		return rdt_fault(v, NULL,
				 "rank %d, run %d: %d lanes and %d copies of scratch; 1 to %d and "
				 "1 or 2 are allowed",
				 rank, run, s->n_lanes, s->scratch_epochs, RDT_MAX_LANES);
	if (s->n_lanes > v->lanes)
		v->lanes = s->n_lanes;
	elements = (s->scratch_bytes + c->elem_size - 1) / c->elem_size;
	if (elements > v->scratch_elements[plan])
		v->scratch_elements[plan] = elements;
	if (run == plan && rank == 0)
		v->epochs[plan] = s->scratch_epochs;
	return 0;
}

static int emit_all(struct rdt_verifier *v, rdt_verify_tamper_fn tamper, void *arg)
{
	for (int run = 0; run < RDT_VERIFY_RUNS; run++)
		for (int rank = 0; rank < v->c->size; rank++) {
			int status = emit_one(v, run, rank, tamper, arg);

			if (status)
				return status;
		}
	return 0;
}

static int check_cost(const struct execution *x, int run)
{
	const struct rdt_verifier *v = &x->v;
	const struct rdt_cost *spent = &x->spent[run];
	const struct rdt_algorithm *algorithm = rdt_verify_algorithm(v->c, run);
	struct rdt_cost promised;

	if (!algorithm->cost)
		return 0;
	promised = algorithm->cost(v->c->size, rdt_shape_of(v, run, 0));
	if (spent->puts != promised.puts)
		return rdt_fault(v, NULL,
				 "run %d: %" PRIu64 " puts of all ranks instead of %" PRIu64, run,
				 spent->puts, promised.puts);
	if (spent->rounds > promised.rounds)
		return rdt_fault(v, NULL, "run %d: %d rounds instead of %d", run, spent->rounds,
				 promised.rounds);
	if (spent->bytes > promised.bytes)
		return rdt_fault(v, NULL,
				 "run %d: a rank puts %" PRIu64 " bytes instead of %" PRIu64, run,
				 spent->bytes, promised.bytes);
	return 0;
}

static int conclude(const struct execution *x)
{
	struct rdt_verify_result *result = x->v.result;
	int status = 0;

	result->max_bytes_put = x->spent[0].bytes;
	result->rounds = x->spent[0].rounds;
	result->puts = x->spent[0].puts;
	result->max_pending = rdt_race_most_pending(&x->v.race);
	if (result->max_pending == UINT32_MAX)
		return -1;
	for (int run = 0; run < RDT_VERIFY_RUNS && !status; run++)
		status = check_cost(x, run);
	return status;
}

static int check_case(const struct rdt_verifier *v)
{
	const struct rdt_verify_case *c = v->c;

	if (c->size < 1 || c->size > MAX_RANKS)
		return rdt_fault(v, NULL, "%d ranks: 1 to %d can be verified", c->size, MAX_RANKS);
	if (c->root < 0 || c->root >= c->size || c->elem_size == 0 || c->count > UINT32_MAX ||
	    c->next_count > UINT32_MAX)
		return rdt_fault(v, NULL,
				 "a case without a meaning: root %d of %d, elements of %u "
				 "bytes",
				 c->root, c->size, c->elem_size);
	return 0;
}

static int make_shapes(struct rdt_verifier *v)
{
	const struct rdt_verify_case *c = v->c;

	v->plans = c->next ? 2 : 1;
	v->shapes = malloc(2 * (size_t)c->size * sizeof(*v->shapes));
	if (!v->shapes)
		return -1;
	for (int run = 0; run < 2; run++)
		for (int rank = 0; rank < c->size; rank++)
			rdt_verify_shape(c, run, rank, &v->shapes[run * c->size + rank]);
	for (int run = 0; run < 2; run++)
		for (int rank = 0; rank < c->size; rank++)
			for (int b = RDT_INPUT; b <= RDT_OUTPUT; b++) {
				uint64_t bytes = rdt_buffer_bytes(v, run, rank, (enum rdt_buffer)b);

				if (bytes / c->elem_size > v->user_elements)
					v->user_elements = bytes / c->elem_size;
			}
	return 0;
}

int rdt_verify_tampered(const struct rdt_verify_case *c, rdt_verify_tamper_fn tamper, void *arg,
			struct rdt_verify_result *result)
{
	struct execution x = { .v = { .c = c, .result = result, .lanes = 1 } };
	struct rdt_verifier *v = &x.v;
	size_t n_schedules, threads;
	int status;

	*result = (struct rdt_verify_result){ 0 };
	status = check_case(v);
	if (!status)
		status = make_shapes(v);
	if (status)
		return status;

	n_schedules = RDT_VERIFY_RUNS * (size_t)c->size;
	v->schedules = malloc(n_schedules * sizeof(*v->schedules));
	if (!v->schedules) {
		free(v->shapes);
		return -1;
	}
	for (size_t i = 0; i < n_schedules; i++)
		rdt_schedule_init(&v->schedules[i]);
	status = emit_all(v, tamper, arg);
	if (!status)
		status = rdt_check_wellformed(v);
	if (status)
		goto out_schedules;

	threads = (size_t)c->size * (size_t)v->lanes;
	x.channels = calloc((size_t)v->plans * threads * (size_t)c->size, sizeof(*x.channels));
	x.states = calloc(threads, sizeof(*x.states));
	status = rdt_symbolic_init(v);
	if (!status)
		status = x.channels && x.states ? run_all(&x) : -1;
	if (!status)
		status = conclude(&x);
	rdt_symbolic_free(v);
	free(x.channels);
	free(x.states);
out_schedules:
	for (size_t i = 0; i < n_schedules; i++)
		rdt_schedule_free(&v->schedules[i]);
	free(v->schedules);
	free(v->shapes);
	return status;
}

int rdt_verify(const struct rdt_verify_case *c, struct rdt_verify_result *result)
{
	return rdt_verify_tampered(c, NULL, NULL, result);
}
