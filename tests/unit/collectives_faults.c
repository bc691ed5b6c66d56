/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every step of every algorithm is removed, doubled, swapped with the next and misplaced by one: on
 * all ranks, as a mistake in an emitter would, and on one rank alone. The verifier has to find each
 * of these faults, but for swaps that change nothing (two waits, two puts to different peers, a
 * step after a wait that does not concern it), and for changes to a copy that, in place, moves a
 * block to where it lies: those must come out right when they are run in many orders
 * (collectives_shaken.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "collectives_shaken.h"

enum change {
	REMOVED,
	DOUBLED,
	SWAPPED, /* with the next step */
	OTHER_PEER,
	DST_LATER,
	DST_EARLIER,
	SRC_LATER,
	SRC_EARLIER,
	SHORTER,
	NOT_FINAL,
	WAIT_MORE,
	WAIT_LESS,
	FINAL_SET,
	CHANGES
};

static const char *const change_names[] = { "removed",	     "doubled",	    "swapped",
					    "other peer",    "dst later",   "dst earlier",
					    "src later",     "src earlier", "shorter",
					    "without FINAL", "wait more",   "wait less",
					    "FINAL set" };

struct fault {
	const struct rdt_verify_case *c;
	enum change change;
	int rank; /* -1: on all */
	size_t step;
	int applied; /* to so many schedules */
	int idle;    /* in so many of them to a step that does nothing */
};

static void swap(struct rdt_step *a, struct rdt_step *b)
{
	struct rdt_step kept = *a;

	*a = *b;
	*b = kept;
}

static bool shift(struct rdt_span *span, const struct rdt_verify_case *c, int by)
{
	if (span->length == 0 || (by < 0 && span->offset == 0))
		return false; /* an empty span is nowhere */
	span->offset += by < 0 ? -(uint64_t)c->elem_size : c->elem_size;
	return true;
}

/* The next rank that is neither this one nor the right one. */
static bool send_elsewhere(struct rdt_schedule *s, struct rdt_step *step, int rank, int size)
{
	int peer = (step->peer + 1) % size;

	if (step->kind != RDT_PUT && step->kind != RDT_WAIT)
		return false;
	if (peer == rank)
		peer = (peer + 1) % size;
	if (peer == step->peer)
		return false;
	step->peer = peer;
	if (step->kind == RDT_PUT)
		s->spans[step->spans].rank = peer;
	return true;
}

/* In place, a rank's own block is where it belongs: whether it is copied onto itself, once, twice
 * or in part, makes no difference. */
static bool onto_itself(const struct rdt_verify_case *c, const struct rdt_schedule *s,
			const struct rdt_step *step)
{
	return step->kind == RDT_COPY && c->in_place &&
	       rdt_step_dst(s, step)->buffer == RDT_OUTPUT &&
	       rdt_step_src(s, step)->buffer == RDT_INPUT;
}

/* Plants the fault in one schedule; false when there is nothing to change. */
static bool plant(struct fault *f, int rank, struct rdt_schedule *s)
{
	struct rdt_lane *lane = &s->lanes[0];
	struct rdt_step *steps = lane->steps, *step = &steps[f->step];
	size_t after = lane->n_steps - f->step - 1;
	struct rdt_span *spans;
	int n_spans;

	if (f->step >= lane->n_steps)
		return false;
	spans = &s->spans[step->spans];
	n_spans = step->n_dst + step->n_src;
	if ((f->change == REMOVED || f->change == DOUBLED || f->change == SHORTER) &&
	    onto_itself(f->c, s, step))
		return false;
	switch (f->change) {
	case REMOVED:
		memmove(step, step + 1, after * sizeof(*step));
		lane->n_steps--;
		return true;
	case DOUBLED:
		if (lane->n_steps == lane->cap_steps) {
			steps = realloc(steps, 2 * lane->cap_steps * sizeof(*steps));
			assert_non_null(steps);
			lane->steps = steps;
			lane->cap_steps *= 2;
			step = &steps[f->step];
		}
		memmove(step + 1, step, (after + 1) * sizeof(*step));
		lane->n_steps++;
		return true;
	case SWAPPED:
		if (after == 0)
			return false;
		swap(step, step + 1);
		return true;
	case OTHER_PEER: return send_elsewhere(s, step, rank, f->c->size);
	case DST_LATER: return n_spans && shift(&spans[0], f->c, 1);
	case DST_EARLIER: return n_spans && shift(&spans[0], f->c, -1);
	case SRC_LATER: return n_spans && shift(&spans[n_spans - 1], f->c, 1);
	case SRC_EARLIER: return n_spans && shift(&spans[n_spans - 1], f->c, -1);
	case SHORTER:
		if (n_spans == 0 || spans[0].length == 0)
			return false;
		for (int i = 0; i < n_spans; i++)
			spans[i].length -= f->c->elem_size;
		return true;
	case NOT_FINAL:
		if (!(step->flags & RDT_STEP_FINAL))
			return false;
		step->flags = 0;
		return true;
	case WAIT_MORE: step->count++; return step->kind == RDT_WAIT;
	case WAIT_LESS: step->count--; return step->kind == RDT_WAIT;
	case FINAL_SET:
		if (step->kind != RDT_REDUCE || (step->flags & RDT_STEP_FINAL))
			return false;
		step->flags |= RDT_STEP_FINAL;
		return true;
	case CHANGES: break;
	}
	return false;
}

/* A copy of the caller's INPUT to OUTPUT, which is the same memory? */
static bool is_idle(const struct fault *f, int rank, int run, const struct rdt_schedule *s)
{
	const struct rdt_step *step = &s->lanes[0].steps[f->step];
	const struct rdt_span *dst, *src;
	struct rdt_case_shape shape;

	if (!f->c->in_place || f->step >= s->lanes[0].n_steps || step->kind != RDT_COPY)
		return false;
	dst = rdt_step_dst(s, step);
	src = rdt_step_src(s, step);
	rdt_verify_shape(f->c, run, rank, &shape);
	return dst->buffer == RDT_OUTPUT && src->buffer == RDT_INPUT && dst->rank == src->rank &&
	       (int64_t)dst->offset ==
		       (int64_t)src->offset + rdt_meaning_distance(&shape.shape, src->rank);
}

static void tamper(void *arg, int rank, int run, struct rdt_schedule *s)
{
	struct fault *f = arg;
	bool idle;

	if (f->rank >= 0 && f->rank != rank)
		return;
	idle = is_idle(f, rank, run, s);
	if (plant(f, rank, s)) {
		f->applied++;
		f->idle += idle;
	}
}

/* All schedules of a case, with the fault planted. */
static struct rdt_schedule schedules[SHAKEN_RUNS][64];

static void emit_all(struct fault *f)
{
	const struct rdt_verify_case *c = f->c;

	for (int run = 0; run < SHAKEN_RUNS; run++)
		for (int rank = 0; rank < c->size; rank++) {
			struct rdt_group group = { .rank = rank, .size = c->size };
			struct rdt_schedule *s = &schedules[run][rank];
			struct rdt_case_shape shape;

			rdt_verify_shape(c, run, rank, &shape);
			rdt_schedule_init(s);
			assert_int_equal(c->algorithm->emit(&group, &shape.shape, s), 0);
			tamper(f, rank, run, s);
		}
}

static void free_all(const struct rdt_verify_case *c)
{
	for (int run = 0; run < SHAKEN_RUNS; run++)
		for (int rank = 0; rank < c->size; rank++)
			rdt_schedule_free(&schedules[run][rank]);
}

static bool right_in_any_order(const struct rdt_verify_case *c, int seeds)
{
	bool right = true;

	for (int seed = 0; seed < seeds && right; seed++)
		right = shaken_run(c, schedules, (uint64_t)seed);
	return right;
}

static size_t most_steps(const struct rdt_verify_case *c, int rank)
{
	struct fault none = { .c = c, .change = CHANGES, .rank = rank };
	size_t most = 0;

	emit_all(&none);
	for (int run = 0; run < 2; run++)
		for (int r = 0; r < c->size; r++)
			if ((rank < 0 || rank == r) && schedules[run][r].lanes[0].n_steps > most)
				most = schedules[run][r].lanes[0].n_steps;
	free_all(c);
	return most;
}

struct tally {
	long planted[CHANGES], found[CHANGES];
};

static void explain(const struct fault *f, const char *what)
{
	const struct rdt_verify_case *c = f->c;

	print_error("%s, %d ranks, %d then %d elements, root %d%s%s: step %zu of rank %d, %s: %s\n",
		    c->algorithm->name, c->size, (int)c->count, (int)c->next_count, c->root,
		    c->in_place ? ", in place" : "", c->remote_output ? "" : ", staged", f->step,
		    f->rank, change_names[f->change], what);
}

static void plant_and_verify(struct fault *f, struct tally *tally)
{
	struct rdt_verify_result result;
	int status = rdt_verify_tampered(f->c, tamper, f, &result);

	assert_true(status >= 0);
	if (f->applied == 0) {
		assert_int_equal(status, 0);
		return;
	}
	if (status == 1) {
		assert_string_not_equal(result.fault, "");
		tally->planted[f->change]++;
		tally->found[f->change]++;
		return;
	}
	if (f->idle < f->applied)
		tally->planted[f->change]++;
	if (f->change != SWAPPED && f->idle < f->applied) {
		explain(f, "not found");
		fail();
	}
	emit_all(f);
	if (!right_in_any_order(f->c, 16)) {
		explain(f, "not found, but it goes wrong in some order");
		fail();
	}
	free_all(f->c);
}

/* Few cases of each algorithm: the kinds of faults do not depend on an element's size, and little
 * on roots and lengths. */
struct planting {
	struct tally tally;
	int cases;
};

static int plant_everywhere(void *arg, const struct rdt_verify_case *c)
{
	struct planting *planting = arg;

	if (c->elem_size != 4 || c->root > 1 || c->count < c->next_count ||
	    (c->size > 3 && (c->count == c->next_count || planting->cases > 24)))
		return 0;
	planting->cases++;
	for (int rank = -1; rank < c->size; rank++) {
		size_t steps = most_steps(c, rank);

		for (size_t step = 0; step < steps; step++)
			for (int change = 0; change < CHANGES; change++) {
				struct fault f = { .c = c,
						   .change = (enum change)change,
						   .rank = rank,
						   .step = step };

				plant_and_verify(&f, &planting->tally);
			}
	}
	return 0;
}

/* The sanitizers look at the verifier, not at the algorithms: they need fewer ranks. */
#ifdef __SANITIZE_ADDRESS__
#define LARGEST 3
#else
#define LARGEST 5
#endif

static void plant_in(const struct rdt_algorithm *a, struct tally *total)
{
	long planted = 0, found = 0;

	for (int size = 1; size <= LARGEST; size++) {
		struct planting planting = { .cases = 0 };

		assert_int_equal(rdt_verify_cases(a, size, plant_everywhere, &planting), 0);
		for (int change = 0; change < CHANGES; change++) {
			planted += planting.tally.planted[change];
			found += planting.tally.found[change];
			total->planted[change] += planting.tally.planted[change];
			total->found[change] += planting.tally.found[change];
		}
	}
	print_message("%s, %s: %ld planted, %ld found\n", rdt_collective_name(a->collective),
		      a->name, planted, found);
	assert_true(found > 0);
}

static void faults_in_every_algorithm_are_found(void **state)
{
	struct tally total = { 0 };

	(void)state;
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++)
		plant_in(a, &total);
	for (int change = 0; change < CHANGES; change++) {
		print_message("%s: %ld planted, %ld found\n", change_names[change],
			      total.planted[change], total.found[change]);
		assert_true(total.found[change] > 0);
		assert_true(change == SWAPPED || total.found[change] == total.planted[change]);
	}
}

/* ---- scratch --------------------------------------------------------------------------------- */

static void one_epoch(void *arg, int rank, int run, struct rdt_schedule *s)
{
	(void)arg;
	(void)rank;
	(void)run;
	s->scratch_epochs = 1;
}

static int count_races(void *arg, const struct rdt_verify_case *c)
{
	struct rdt_verify_result result;
	int *races = arg;

	if (!c->remote_output)
		*races += rdt_verify_tampered(c, one_epoch, NULL, &result) == 1 &&
			  strstr(result.fault, "data race") != NULL;
	return 0;
}

/* Where two copies of scratch are asked for, one is not enough. */
static void a_copy_of_scratch_less_is_found(void **state)
{
	(void)state;
	for (int size = 2; size <= 9; size++) {
		int oneshot = 0, ring = 0;

		rdt_verify_cases(rdt_algorithm_find(RDT_COLL_ALLREDUCE, "oneshot"), size,
				 count_races, &oneshot);
		rdt_verify_cases(rdt_algorithm_find(RDT_COLL_ALLREDUCE, "ring"), size, count_races,
				 &ring);
		assert_true(oneshot > 0);
		assert_true(ring > 0);
	}
}

static void less_scratch(void *arg, int rank, int run, struct rdt_schedule *s)
{
	(void)run;
	if (rank == *(int *)arg)
		s->scratch_bytes -= 4;
}

static void ranks_that_disagree_about_scratch_are_found(void **state)
{
	struct rdt_verify_case c = { .algorithm = rdt_algorithm_find(RDT_COLL_ALLREDUCE, "ring"),
				     .size = 3,
				     .count = 7,
				     .next_count = 7,
				     .elem_size = 4 };
	struct rdt_verify_result result;

	(void)state;
	for (int rank = 0; rank < 3; rank++)
		assert_int_equal(rdt_verify_tampered(&c, less_scratch, &rank, &result), 1);
}

/* ---- the second opinion ------------------------------------------------------------------------
 */

static int shake(void *arg, const struct rdt_verify_case *c)
{
	struct fault none = { .c = c, .change = CHANGES, .rank = -1 };

	(void)arg;
	if (c->elem_size != 4)
		return 0;
	emit_all(&none);
	if (!right_in_any_order(c, 12)) {
		explain(&none, "goes wrong in some order");
		fail();
	}
	free_all(c);
	return 0;
}

static void algorithms_come_out_right_in_any_order(void **state)
{
	(void)state;
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++)
		for (int size = 1; size <= 6; size++)
			assert_int_equal(rdt_verify_cases(a, size, shake, NULL), 0);
}

/* A put that does not wait for READY goes wrong in some order: the shaking does shake. */
static void shaking_finds_a_race_too(void **state)
{
	struct rdt_verify_case c = { .algorithm = rdt_algorithm_find(RDT_COLL_BROADCAST, "tree"),
				     .size = 4,
				     .count = 3,
				     .next_count = 3,
				     .elem_size = 4,
				     .remote_output = true };
	/* The root's WAIT and PUT, in the wrong order. */
	struct fault f = { .c = &c, .change = SWAPPED, .rank = 0, .step = 0 };

	(void)state;
	emit_all(&f);
	assert_false(right_in_any_order(&c, 200));
	free_all(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(faults_in_every_algorithm_are_found),
		cmocka_unit_test(a_copy_of_scratch_less_is_found),
		cmocka_unit_test(ranks_that_disagree_about_scratch_are_found),
		cmocka_unit_test(algorithms_come_out_right_in_any_order),
		cmocka_unit_test(shaking_finds_a_race_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
