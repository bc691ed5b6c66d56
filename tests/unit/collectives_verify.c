/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All algorithms pass the verifier; and small algorithms written here, each wrong in one way that
 * no alteration of a right one gives (several lanes, other orders), do not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "collectives/verify.h"

/* ---- what passes ------------------------------------------------------------------------- */

/* The most notifications that a rank waits for in one run of each of the case's plans. */
static uint64_t most_waits(const struct rdt_verify_case *c)
{
	uint64_t most[2] = { 0 };

	for (int run = 0; run < 2; run++)
		for (int rank = 0; rank < c->size; rank++) {
			struct rdt_group group = { .rank = rank, .size = c->size };
			uint64_t *plan = &most[c->next ? run : 0];
			struct rdt_case_shape shape;
			struct rdt_schedule s;
			uint64_t waits;

			rdt_verify_shape(c, run, rank, &shape);
			rdt_schedule_init(&s);
			assert_int_equal(
				rdt_verify_algorithm(c, run)->emit(&group, &shape.shape, &s), 0);
			waits = rdt_schedule_waits(&s);
			*plan = waits > *plan ? waits : *plan;
			rdt_schedule_free(&s);
		}
	return most[0] + most[1];
}

static int passes(void *arg, const struct rdt_verify_case *c)
{
	struct rdt_verify_result result;
	int *cases = arg;

	if (rdt_verify(c, &result)) {
		print_error("%s %s%s%s, %d ranks, %d then %d elements, root %d%s%s%s%s: %s\n",
			    rdt_collective_name(c->algorithm->collective), c->algorithm->name,
			    c->next ? " and " : "", c->next ? c->next->name : "", c->size,
			    (int)c->count, (int)c->next_count, c->root, c->ragged ? ", ragged" : "",
			    c->in_place ? ", in place" : "", c->remote_output ? "" : ", staged",
			    c->mapped ? ", mapped" : "", result.fault);
		return 1;
	}
	/* Receives are posted for two runs: one that is waited for, one by peers ahead. */
	if (result.max_pending > 2 * most_waits(c)) {
		print_error("%s, %d ranks: %u notifications can be pending\n", c->algorithm->name,
			    c->size, result.max_pending);
		return 1;
	}
	(*cases)++;
	return 0;
}

/* `rdtrain verify` goes on to 64 ranks. */
static void every_algorithm_passes_for_small_groups(void **state)
{
	int cases = 0;

	(void)state;
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++)
		for (int size = 1; size <= 9; size++)
			assert_int_equal(rdt_verify_cases(a, size, passes, &cases), 0);
	assert_true(cases > 1500);
}

static void every_algorithm_may_follow_every_other(void **state)
{
	int cases = 0;

	(void)state;
	for (int size = 1; size <= 5; size++)
		assert_int_equal(rdt_verify_pairs(size, passes, &cases), 0);
	assert_true(cases > 100);
}

static void sixty_four_ranks_can_be_verified_and_no_more(void **state)
{
	struct rdt_verify_case c = { .size = 64, .count = 65, .next_count = 3, .elem_size = 4 };
	struct rdt_verify_result result;

	(void)state;
	for (c.algorithm = rdt_algorithms; c.algorithm->name; c.algorithm++) {
		if (c.algorithm->collective == RDT_COLL_SEND || c.algorithm->applies)
			continue;
		c.size = 64;
		assert_int_equal(rdt_verify(&c, &result), 0);
		c.size = 65;
		assert_int_equal(rdt_verify(&c, &result), 1);
		assert_non_null(strstr(result.fault, "65 ranks"));
	}
}

static void verify_one(enum rdt_collective collective, const char *name, int size, uint64_t count,
		       struct rdt_verify_result *result)
{
	struct rdt_verify_case c = { .algorithm = rdt_algorithm_find(collective, name),
				     .size = size,
				     .count = count,
				     .next_count = count,
				     .elem_size = 4,
				     .remote_output = true };

	assert_int_equal(rdt_verify(&c, result), 0);
}

static void rounds_and_bytes_are_those_of_the_literature(void **state)
{
	struct rdt_verify_result result;

	(void)state;
	verify_one(RDT_COLL_ALLREDUCE, "ring", 8, 80, &result);
	assert_int_equal(result.rounds, 14);
	assert_int_equal(result.max_bytes_put, 2 * 7 * 320 / 8);
	assert_int_equal(result.puts, 8 * 14);
	verify_one(RDT_COLL_ALLREDUCE, "oneshot", 8, 10, &result);
	assert_int_equal(result.rounds, 1);
	assert_int_equal(result.max_bytes_put, 7 * 40);
	verify_one(RDT_COLL_BROADCAST, "tree", 8, 10, &result);
	assert_int_equal(result.rounds, 1 + 3);
	assert_int_equal(result.max_bytes_put, 3 * 40);
	verify_one(RDT_COLL_BARRIER, "dissemination", 33, 0, &result);
	assert_int_equal(result.rounds, 6);
	assert_int_equal(result.max_bytes_put, 0);
}

static void peers_can_be_one_operation_ahead_in_one_shot(void **state)
{
	struct rdt_verify_result result;

	(void)state;
	/* Each of the four others needs nothing but this rank's put of a run to begin the next. */
	verify_one(RDT_COLL_ALLREDUCE, "oneshot", 5, 3, &result);
	assert_int_equal(result.max_pending, 2 * 4);
}

/* ---- what does not ----------------------------------------------------------------------- */

static void expect_fault(struct rdt_algorithm algorithm, rdt_emit_fn emit, int size,
			 const char *words)
{
	struct rdt_verify_case c = { .algorithm = &algorithm,
				     .size = size,
				     .count = 4,
				     .next_count = 4,
				     .elem_size = 4,
				     .remote_output = true };
	struct rdt_verify_result result;

	algorithm.emit = emit;
	assert_int_equal(rdt_verify(&c, &result), 1);
	if (!strstr(result.fault, words)) {
		print_error("\"%s\" instead of \"%s\"\n", result.fault, words);
		fail();
	}
}

static const struct rdt_algorithm allreduce = { .name = "wrong", .collective = RDT_COLL_ALLREDUCE };
static const struct rdt_algorithm broadcast = { .name = "wrong", .collective = RDT_COLL_BROADCAST };
static const struct rdt_algorithm barrier = { .name = "wrong", .collective = RDT_COLL_BARRIER };

static int emit_circle_of_waits(const struct rdt_group *g, const struct rdt_shape *shape,
				struct rdt_schedule *s)
{
	(void)shape;
	rdt_wait_for(s, 0, rdt_group_shift(g, g->rank, -1), 1);
	rdt_notify(s, 0, rdt_group_shift(g, g->rank, 1));
	return rdt_schedule_finish(s);
}

static void a_circle_of_waits_is_a_deadlock_that_names_the_ranks(void **state)
{
	(void)state;
	expect_fault(barrier, emit_circle_of_waits, 3,
		     "deadlock: rank 0 (run 0, lane 0, step 0) waits for rank 2; "
		     "rank 2 (run 0, lane 0, step 0) waits for rank 1; "
		     "rank 1 (run 0, lane 0, step 0) waits for rank 0; ");
}

static int emit_neighbours(const struct rdt_group *g, const struct rdt_shape *shape,
			   struct rdt_schedule *s)
{
	(void)shape;
	rdt_notify(s, 0, rdt_group_shift(g, g->rank, 1));
	rdt_wait_for(s, 0, rdt_group_shift(g, g->rank, -1), 1);
	return rdt_schedule_finish(s);
}

static void a_barrier_of_neighbours_only_is_none(void **state)
{
	(void)state;
	expect_fault(barrier, emit_neighbours, 3, "without knowing that rank");
}

static int emit_nothing(const struct rdt_group *g, const struct rdt_shape *shape,
			struct rdt_schedule *s)
{
	(void)g;
	(void)shape;
	return rdt_schedule_finish(s);
}

static void an_output_that_nobody_wrote_is_found(void **state)
{
	(void)state;
	expect_fault(allreduce, emit_nothing, 1, "OUTPUT@0[0], where nothing was stored");
	expect_fault(broadcast, emit_nothing, 2, "OUTPUT@1[0], where nothing was stored");
}

/* The second lane reduces what the first one waits for; its own notification proves nothing. */
static int emit_unordered_lanes(const struct rdt_group *g, const struct rdt_shape *shape,
				struct rdt_schedule *s)
{
	int me = g->rank, peer = 1 - me;
	struct rdt_span in = rdt_span(RDT_INPUT, me, 0, shape->bytes);
	struct rdt_span out = rdt_span(RDT_OUTPUT, me, 0, shape->bytes);
	struct rdt_span slot = rdt_span(RDT_SCRATCH, me, 0, shape->bytes);
	struct rdt_span there = rdt_span(RDT_SCRATCH, peer, 0, shape->bytes);
	struct rdt_span both[] = { slot, in };

	s->scratch_epochs = 2;
	rdt_put(s, 0, peer, there, in);
	rdt_wait_for(s, 0, peer, 1);
	rdt_notify(s, 1, peer);
	rdt_wait_for(s, 1, peer, 1);
	rdt_reduce_to(s, 1, RDT_STEP_FINAL, &out, 1, both, 2);
	return rdt_schedule_finish(s);
}

static void lanes_that_nothing_orders_race(void **state)
{
	(void)state;
	expect_fault(allreduce, emit_unordered_lanes, 2, "data race: reads SCRATCH@");
}

/* Right, but for a rank that sums in an order of its own; three ranks, so that it matters. */
static int emit_own_order(const struct rdt_group *g, const struct rdt_shape *shape,
			  struct rdt_schedule *s)
{
	struct rdt_span out = rdt_span(RDT_OUTPUT, g->rank, 0, shape->bytes), slots[3];

	s->scratch_epochs = 2;
	for (int k = 0; k < g->size; k++) {
		int slot = rdt_group_shift(g, g->rank, k);

		slots[k] =
			rdt_span(RDT_SCRATCH, g->rank, (uint64_t)slot * shape->bytes, shape->bytes);
	}
	rdt_copy(s, 0, slots[0], rdt_span(RDT_INPUT, g->rank, 0, shape->bytes));
	for (int k = 1; k < g->size; k++) {
		struct rdt_span there = slots[0];

		there.rank = rdt_group_shift(g, g->rank, k);
		rdt_put(s, 0, there.rank, there, slots[0]);
	}
	for (int k = 1; k < g->size; k++)
		rdt_wait_for(s, 0, rdt_group_shift(g, g->rank, k), 1);
	rdt_reduce_to(s, 0, RDT_STEP_FINAL, &out, 1, slots, g->size);
	return rdt_schedule_finish(s);
}

static void sums_in_different_orders_are_found_since_their_bits_differ(void **state)
{
	(void)state;
	expect_fault(allreduce, emit_own_order, 3, "its bits differ");
}

/* The put of INPUT may still be reading when OUTPUT, the same memory, is written. */
static int emit_put_from_input(const struct rdt_group *g, const struct rdt_shape *shape,
			       struct rdt_schedule *s)
{
	int me = g->rank, peer = 1 - me;
	struct rdt_span in = rdt_span(RDT_INPUT, me, 0, shape->bytes);
	struct rdt_span out = rdt_span(RDT_OUTPUT, me, 0, shape->bytes);
	uint64_t bytes = shape->bytes;
	struct rdt_span slots[] = { rdt_span(RDT_SCRATCH, me, 0, bytes),
				    rdt_span(RDT_SCRATCH, me, bytes, bytes) };

	s->scratch_epochs = 2;
	s->scratch_bytes = 2 * bytes;
	rdt_put(s, 0, peer, rdt_span(RDT_SCRATCH, peer, (uint64_t)me * bytes, bytes), in);
	rdt_wait_for(s, 0, peer, 1);
	slots[me] = in;
	rdt_reduce_to(s, 0, RDT_STEP_FINAL, &out, 1, slots, 2);
	return rdt_schedule_finish(s);
}

static void overwriting_a_source_that_is_still_read_is_a_race_in_place_only(void **state)
{
	struct rdt_algorithm algorithm = allreduce;
	struct rdt_verify_case c = {
		.algorithm = &algorithm, .size = 2, .count = 4, .next_count = 4, .elem_size = 4
	};
	struct rdt_verify_result result;

	(void)state;
	algorithm.emit = emit_put_from_input;
	assert_int_equal(rdt_verify(&c, &result), 0);
	c.in_place = true;
	assert_int_equal(rdt_verify(&c, &result), 1);
	assert_non_null(strstr(result.fault, "data race: writes OUTPUT@"));
}

static int emit_write_input(const struct rdt_group *g, const struct rdt_shape *shape,
			    struct rdt_schedule *s)
{
	struct rdt_span in = rdt_span(RDT_INPUT, g->rank, 0, shape->bytes);
	struct rdt_span to[] = { rdt_span(RDT_OUTPUT, g->rank, 0, shape->bytes), in };

	rdt_reduce_to(s, 0, RDT_STEP_FINAL, to, 2, &in, 1);
	return rdt_schedule_finish(s);
}

static void writing_input_is_found(void **state)
{
	(void)state;
	expect_fault(allreduce, emit_write_input, 1, "it writes INPUT");
}

static int emit_read_neighbour(const struct rdt_group *g, const struct rdt_shape *shape,
			       struct rdt_schedule *s)
{
	rdt_copy(s, 0, rdt_span(RDT_OUTPUT, g->rank, 0, shape->bytes),
		 rdt_span(RDT_OUTPUT, (g->rank + 1) % g->size, 0, shape->bytes));
	return rdt_schedule_finish(s);
}

static void touching_a_neighbours_memory_is_found(void **state)
{
	(void)state;
	expect_fault(broadcast, emit_read_neighbour, 2, "is not mapped here");
}

static int emit_half_an_element(const struct rdt_group *g, const struct rdt_shape *shape,
				struct rdt_schedule *s)
{
	struct rdt_span in = rdt_span(RDT_INPUT, g->rank, 0, shape->bytes - 2);
	struct rdt_span out = rdt_span(RDT_OUTPUT, g->rank, 2, shape->bytes - 2);

	rdt_reduce_to(s, 0, RDT_STEP_FINAL, &out, 1, &in, 1);
	return rdt_schedule_finish(s);
}

static void half_an_element_is_found(void **state)
{
	(void)state;
	expect_fault(allreduce, emit_half_an_element, 1, "cuts an element");
}

static int emit_final_twice(const struct rdt_group *g, const struct rdt_shape *shape,
			    struct rdt_schedule *s)
{
	struct rdt_span in = rdt_span(RDT_INPUT, g->rank, 0, shape->bytes);
	struct rdt_span out = rdt_span(RDT_OUTPUT, g->rank, 0, shape->bytes);
	struct rdt_span scratch = rdt_span(RDT_SCRATCH, g->rank, 0, shape->bytes);

	rdt_reduce_to(s, 0, RDT_STEP_FINAL, &scratch, 1, &in, 1);
	rdt_reduce_to(s, 0, RDT_STEP_FINAL, &out, 1, &scratch, 1);
	return rdt_schedule_finish(s);
}

static void dividing_twice_is_found(void **state)
{
	(void)state;
	expect_fault(allreduce, emit_final_twice, 1, "FINAL already");
}

static int emit_for_nobody(const struct rdt_group *g, const struct rdt_shape *shape,
			   struct rdt_schedule *s)
{
	struct rdt_span in = rdt_span(RDT_INPUT, g->rank, 0, shape->bytes);
	struct rdt_span out = rdt_span(RDT_OUTPUT, g->rank, 0, shape->bytes);

	rdt_copy(s, 0, rdt_span(RDT_SCRATCH, g->rank, 0, shape->bytes), in);
	rdt_reduce_to(s, 0, RDT_STEP_FINAL, &out, 1, &in, 1);
	return rdt_schedule_finish(s);
}

static void storing_what_nobody_reads_is_found(void **state)
{
	(void)state;
	expect_fault(allreduce, emit_for_nobody, 1, "before anybody read it");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_algorithm_passes_for_small_groups),
		cmocka_unit_test(every_algorithm_may_follow_every_other),
		cmocka_unit_test(sixty_four_ranks_can_be_verified_and_no_more),
		cmocka_unit_test(rounds_and_bytes_are_those_of_the_literature),
		cmocka_unit_test(peers_can_be_one_operation_ahead_in_one_shot),
		cmocka_unit_test(a_circle_of_waits_is_a_deadlock_that_names_the_ranks),
		cmocka_unit_test(a_barrier_of_neighbours_only_is_none),
		cmocka_unit_test(an_output_that_nobody_wrote_is_found),
		cmocka_unit_test(lanes_that_nothing_orders_race),
		cmocka_unit_test(sums_in_different_orders_are_found_since_their_bits_differ),
		cmocka_unit_test(overwriting_a_source_that_is_still_read_is_a_race_in_place_only),
		cmocka_unit_test(writing_input_is_found),
		cmocka_unit_test(touching_a_neighbours_memory_is_found),
		cmocka_unit_test(half_an_element_is_found),
		cmocka_unit_test(dividing_twice_is_found),
		cmocka_unit_test(storing_what_nobody_reads_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
