/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verifier's memory: every element holds the set of ranks whose contributions are summed in it.
 * Steps move and unite these sets; the caller's turns between runs fill INPUT and judge OUTPUT.
 *
 * It is strict about waste too: what a step stored must be read before it is overwritten or at the
 * end, so that a step done twice, or for nobody, is a fault and not merely slow.
 */
#include "symbolic.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const buffer_names[] = { "INPUT", "OUTPUT", "SCRATCH" };

/* ---- cells ------------------------------------------------------------------------------- */

/* Two buffers of the user, with room for each to lie before or behind the other in place. */
static uint64_t user_cells(const struct rdt_verifier *v)
{
	return 3 * v->user_elements;
}

static uint64_t scratch_cells(const struct rdt_verifier *v, int plan)
{
	return (uint64_t)v->epochs[plan] * v->scratch_elements[plan];
}

static uint64_t cells_of_a_rank(const struct rdt_verifier *v)
{
	return user_cells(v) + scratch_cells(v, 0) + scratch_cells(v, 1);
}

/* The first cell of a buffer. OUTPUT begins in the middle third of the user's cells; in place INPUT
 * lies over it. */
static size_t first_cell(const struct rdt_verifier *v, int rank, enum rdt_buffer buffer, int run)
{
	uint64_t cell = (uint64_t)rank * cells_of_a_rank(v);
	int plan = rdt_plan_of(v, run);
	uint64_t copy = (uint64_t)(run / v->plans % v->epochs[plan]);
	int64_t distance = rdt_meaning_distance(rdt_shape_of(v, run, rank), rank);

	switch (buffer) {
	case RDT_INPUT:
		if (!v->c->in_place)
			return (size_t)(cell + 2 * v->user_elements);
		return (size_t)((int64_t)(cell + v->user_elements) +
				distance / (int64_t)v->c->elem_size);
	case RDT_OUTPUT: return (size_t)(cell + v->user_elements);
	default:
		cell += user_cells(v) + (plan ? scratch_cells(v, 0) : 0);
		return (size_t)(cell + copy * v->scratch_elements[plan]);
	}
}

static size_t span_cell(const struct rdt_verifier *v, const struct rdt_span *span, int run)
{
	return first_cell(v, span->rank, span->buffer, run) +
	       (size_t)(span->offset / v->c->elem_size);
}

int rdt_symbolic_init(struct rdt_verifier *v)
{
	uint64_t cells = (uint64_t)v->c->size * cells_of_a_rank(v);

	v->values = calloc(cells + 1, sizeof(*v->values));
	v->agreed = calloc(RDT_VERIFY_RUNS * v->user_elements + 1, sizeof(*v->agreed));
	if (rdt_race_init(&v->race, v->c->size, v->lanes, RDT_VERIFY_RUNS, cells))
		return -1;
	return v->values && v->agreed ? 0 : -1;
}

void rdt_symbolic_free(struct rdt_verifier *v)
{
	rdt_race_free(&v->race);
	free(v->values);
	free(v->agreed);
}

/* ---- reading and writing ----------------------------------------------------------------- */

/* One access: whose step, which span, which element of it. */
struct access {
	const struct rdt_place *at;
	uint32_t event;
	const struct rdt_span *span;
	uint64_t element;
	size_t cell;
};

/* "OUTPUT@3[8]": the byte where the access begins. */
struct target {
	char name[64];
};

static struct target target_of(const struct rdt_verifier *v, const struct access *a)
{
	struct target target;

	snprintf(target.name, sizeof(target.name), "%s@%d[%" PRIu64 "]",
		 buffer_names[a->span->buffer], a->span->rank,
		 a->span->offset + a->element * v->c->elem_size);
	return target;
}

static int race_fault(const struct rdt_verifier *v, const struct access *a, bool writes,
		      struct rdt_conflict conflict)
{
	const struct rdt_event *other = &v->race.events[conflict.other];
	int rank = other->thread / v->lanes, lane = other->thread % v->lanes;
	const char *did = conflict.other_wrote ? "writes" : "reads";
	char who[96];

	if (other->step >= 0)
		snprintf(who, sizeof(who), "rank %d (run %d, lane %d, step %d)", rank, other->run,
			 lane, other->step);
	else
		snprintf(who, sizeof(who), "rank %d's caller (%s run %d)", rank,
			 other->step == RDT_BEFORE_RUN ? "before" : "after", other->run);
	return rdt_fault(v, a->at, "data race: %s %s while %s %s it, and nothing orders the two",
			 writes ? "writes" : "reads", target_of(v, a).name, who, did);
}

static int read_value(struct rdt_verifier *v, const struct access *a, struct rdt_value *out)
{
	struct rdt_value *value = &v->values[a->cell];
	struct rdt_conflict conflict = rdt_race_read(&v->race, a->event, a->cell);

	if (conflict.other)
		return race_fault(v, a, false, conflict);
	if (v->race.failed)
		return -1;
	if (value->ranks == 0 || value->run != a->at->run) {
		if (value->ranks == 0)
			return rdt_fault(v, a->at, "reads %s, where nothing was stored",
					 target_of(v, a).name);
		return rdt_fault(v, a->at, "reads %s, which is left over from run %d",
				 target_of(v, a).name, value->run);
	}
	value->unread = false;
	*out = *value;
	return 0;
}

static int write_value(struct rdt_verifier *v, const struct access *a,
		       const struct rdt_value *value)
{
	struct rdt_value *cell = &v->values[a->cell];
	struct rdt_conflict conflict =
		rdt_race_write(&v->race, a->event, a->cell, a->span->buffer == RDT_SCRATCH);

	if (conflict.other)
		return race_fault(v, a, true, conflict);
	if (cell->unread) {
		return rdt_fault(v, a->at, "overwrites %s before anybody read it",
				 target_of(v, a).name);
	}
	*cell = *value;
	cell->unread = true;
	return 0;
}

static struct access access_to(const struct rdt_verifier *v, const struct rdt_place *at,
			       uint32_t event, const struct rdt_span *span, uint64_t element)
{
	return (struct access){ at, event, span, element,
				span_cell(v, span, at->run) + (size_t)element };
}

static void next(struct access *a)
{
	a->element++;
	a->cell++;
}

/* ---- steps ------------------------------------------------------------------------------- */

/* PUT and COPY. A put's bytes may land at any time between its post and the WAIT; where nothing
 * races it makes no difference when, so here they land at the post. */
static int move(struct rdt_verifier *v, const struct rdt_place *at, uint32_t event,
		const struct rdt_span *dst, const struct rdt_span *src)
{
	uint64_t elements = src->length / v->c->elem_size;
	struct access from = access_to(v, at, event, src, 0);
	struct access to = access_to(v, at, event, dst, 0);
	int status = 0;

	for (uint64_t i = 0; i < elements && !status; i++) {
		struct rdt_value value;

		status = read_value(v, &from, &value);
		if (!status)
			status = write_value(v, &to, &value);
		next(&from);
		next(&to);
	}
	return status;
}

/* Terms of a + b; floating-point addition commutes but does not associate. */
static uint64_t add_terms(uint64_t a, uint64_t b)
{
	uint64_t low = a < b ? a : b, high = a < b ? b : a;
	uint64_t x = low * 0x9e3779b97f4a7c15u + (high ^ 0xc2b2ae3d27d4eb4fu);

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static int unite(const struct rdt_verifier *v, const struct access *a, struct rdt_value *sum,
		 const struct rdt_value *more)
{
	uint64_t twice = sum->ranks & more->ranks;

	if (sum->element != more->element)
		return rdt_fault(v, a->at, "adds element %u to element %u, from %s", more->element,
				 sum->element, target_of(v, a).name);
	if (twice)
		return rdt_fault(v, a->at, "adds the contribution of rank %d twice, from %s",
				 __builtin_ctzll(twice), target_of(v, a).name);
	sum->ranks |= more->ranks;
	sum->terms = add_terms(sum->terms, more->terms);
	return 0;
}

static uint64_t everybody(const struct rdt_verifier *v)
{
	return v->c->size == 64 ? UINT64_MAX : (UINT64_C(1) << v->c->size) - 1;
}

static int reduce_element(struct rdt_verifier *v, const struct rdt_place *at, uint32_t event,
			  const struct rdt_schedule *s, const struct rdt_step *step, uint64_t i)
{
	const struct rdt_span *dst = rdt_step_dst(s, step), *src = rdt_step_src(s, step);
	struct rdt_value sum = { 0 };
	int status;

	for (int k = 0; k < step->n_src; k++) {
		struct access from = access_to(v, at, event, &src[k], i);
		struct rdt_value value;

		status = read_value(v, &from, &value);
		if (status)
			return status;
		if (value.final)
			return rdt_fault(v, at, "reduces what is FINAL already");
		if (k == 0)
			sum = value;
		else
			status = unite(v, &from, &sum, &value);
		if (status)
			return status;
	}
	if (step->flags & RDT_STEP_FINAL) {
		if (sum.ranks != everybody(v))
			return rdt_fault(v, at,
					 "makes FINAL what lacks the contribution of rank %d",
					 __builtin_ctzll(~sum.ranks));
		sum.final = true;
	}
	for (int k = 0; k < step->n_dst; k++) {
		struct access to = access_to(v, at, event, &dst[k], i);

		status = write_value(v, &to, &sum);
		if (status)
			return status;
	}
	return 0;
}

int rdt_symbolic_step(struct rdt_verifier *v, const struct rdt_place *at, uint32_t event)
{
	const struct rdt_schedule *s = rdt_schedule_of(v, at->run, at->rank);
	const struct rdt_step *step = &s->lanes[at->lane].steps[at->step];
	uint64_t elements;

	if (step->kind != RDT_REDUCE)
		return move(v, at, event, rdt_step_dst(s, step), rdt_step_src(s, step));
	elements = rdt_step_dst(s, step)->length / v->c->elem_size;
	for (uint64_t i = 0; i < elements; i++) {
		int status = reduce_element(v, at, event, s, step, i);

		if (status)
			return status;
	}
	return 0;
}

/* ---- the caller --------------------------------------------------------------------------- */

static uint64_t own_terms(int rank, uint64_t element)
{
	return add_terms(((uint64_t)rank + 1) << 32, element + 1);
}

/* The caller fills one buffer: with its contributions, or with nothing that matters. */
static int fill(struct rdt_verifier *v, const struct rdt_place *at, uint32_t event,
		enum rdt_buffer buffer, bool contributes)
{
	uint64_t bytes = rdt_buffer_bytes(v, at->run, at->rank, buffer);
	struct rdt_span whole = rdt_span(buffer, at->rank, 0, bytes);

	for (uint64_t i = 0; i < bytes / v->c->elem_size; i++) {
		struct access to = access_to(v, at, event, &whole, i);
		struct rdt_value value = { 0 };
		int status;

		if (contributes)
			value = (struct rdt_value){
				.ranks = UINT64_C(1) << at->rank,
				.terms = own_terms(at->rank, i),
				.element = (uint32_t)i,
				.run = (int16_t)at->run,
			};
		status = write_value(v, &to, &value);
		if (status)
			return status;
		v->values[to.cell].unread = false; /* nobody is obliged to read it */
	}
	return 0;
}

int rdt_symbolic_begin(struct rdt_verifier *v, int rank, int run)
{
	struct rdt_place at = { run, rank, -1, RDT_BEFORE_RUN };
	uint32_t event = rdt_race_event(&v->race, rank * v->lanes, run, RDT_BEFORE_RUN, -1);
	const struct rdt_shape *shape = rdt_shape_of(v, run, rank);
	bool root = shape->collective == RDT_COLL_BROADCAST && rank == shape->root;
	int status;

	if (!event)
		return -1;
	/* In place, contributions come last and lie over what does not matter. */
	status = fill(v, &at, event, RDT_OUTPUT, root);
	if (!status)
		status = fill(v, &at, event, RDT_INPUT, true);
	rdt_race_join(&v->race, rank); /* the lanes begin after the caller */
	return status;
}

/* The terms of a sum formed in the order of ranks. */
static uint64_t terms_in_rank_order(const struct rdt_verifier *v, uint64_t element)
{
	uint64_t terms = own_terms(0, element);

	for (int r = 1; r < v->c->size; r++)
		terms = add_terms(terms, own_terms(r, element));
	return terms;
}

static int judge_order(const struct rdt_verifier *v, const struct access *a,
		       const struct rdt_value *value)
{
	uint64_t *agreed = &v->agreed[(uint64_t)a->at->run * v->user_elements + value->element];

	if (rdt_verify_algorithm(v->c, a->at->run)->flags & RDT_ALG_RANK_ORDER)
		*agreed = terms_in_rank_order(v, value->element);
	if (*agreed == 0)
		*agreed = value->terms;
	if (*agreed != value->terms)
		return rdt_fault(v, a->at,
				 "%s was summed in another order than %s: its bits differ",
				 target_of(v, a).name,
				 rdt_verify_algorithm(v->c, a->at->run)->flags & RDT_ALG_RANK_ORDER
					 ? "that of ranks, which its algorithm promises"
					 : "on the rank that was through first");
	return 0;
}

static int judge(struct rdt_verifier *v, const struct access *a, const struct rdt_meaning *meaning,
		 const struct rdt_value *value)
{
	bool reduces = rdt_collective_reduces(rdt_verify_algorithm(v->c, a->at->run)->collective);
	uint64_t expected = meaning->rank < 0 ? everybody(v) : UINT64_C(1) << meaning->rank;

	if (value->element != meaning->element)
		return rdt_fault(v, a->at, "%s holds element %u instead of %" PRIu64,
				 target_of(v, a).name, value->element, meaning->element);
	if (value->ranks != expected) {
		uint64_t missing = expected & ~value->ranks;
		uint64_t wrong = missing ? missing : value->ranks & ~expected;

		return rdt_fault(v, a->at, "%s %s the contribution of rank %d",
				 target_of(v, a).name, missing ? "lacks" : "has",
				 __builtin_ctzll(wrong));
	}
	if (value->final != reduces)
		return rdt_fault(v, a->at, "%s %s made FINAL", target_of(v, a).name,
				 reduces ? "was never" : "must not be");
	return reduces ? judge_order(v, a, value) : 0;
}

int rdt_symbolic_end(struct rdt_verifier *v, int rank, int run)
{
	struct rdt_place at = { run, rank, -1, RDT_AFTER_RUN };
	uint64_t bytes = rdt_buffer_bytes(v, run, rank, RDT_OUTPUT);
	struct rdt_span output = rdt_span(RDT_OUTPUT, rank, 0, bytes);
	const struct rdt_shape *shapes[RDT_VERIFY_RANKS];
	uint32_t event;

	for (int r = 0; r < v->c->size; r++)
		shapes[r] = rdt_shape_of(v, run, r);
	rdt_race_join(&v->race, rank);
	event = rdt_race_event(&v->race, rank * v->lanes, run, RDT_AFTER_RUN, -1);
	if (!event)
		return -1;
	for (uint64_t i = 0; i < bytes / v->c->elem_size; i++) {
		struct access from = access_to(v, &at, event, &output, i);
		struct rdt_meaning meaning;
		struct rdt_value value;
		int status;

		/* What lies between blocks is the caller's; a step that stored something there is
		 * found when the caller fills it again. */
		if (!rdt_meaning_of(shapes, v->c->size, rank, i, &meaning))
			continue;
		status = read_value(v, &from, &value);
		if (!status)
			status = judge(v, &from, &meaning, &value);
		if (status)
			return status;
	}
	return 0;
}

int rdt_symbolic_leftovers(const struct rdt_verifier *v)
{
	uint64_t cells = cells_of_a_rank(v);

	for (uint64_t cell = 0; cell < cells * (uint64_t)v->c->size; cell++)
		if (v->values[cell].unread)
			return rdt_fault(v, NULL,
					 "rank %d's %s holds an element of run %d that nobody has "
					 "read: a step too many",
					 (int)(cell / cells),
					 cell % cells < user_cells(v) ? "INPUT or OUTPUT"
								      : "SCRATCH",
					 v->values[cell].run);
	return 0;
}
