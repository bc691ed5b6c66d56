/* SPDX-License-Identifier: BSD-3-Clause */
/* The builder, the printer, blocks, and the table of algorithms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collectives/verify.h"
#include "collectives/blocks.h"
#include "collectives/verify.h"

static void blocks_cover_the_vector_exactly(void **state)
{
	(void)state;
	for (uint64_t n = 1; n <= 33; n++)
		for (uint64_t count = 0; count <= 3 * n; count++) {
			struct rdt_blocks b = { count, n, 4 };

			assert_int_equal(rdt_block_offset(&b, 0), 0);
			assert_int_equal(rdt_block_offset(&b, n), count * 4);
			for (uint64_t i = 0; i < n; i++) {
				assert_int_equal(rdt_block_offset(&b, i) % 4, 0);
				assert_int_equal(rdt_block_offset(&b, i) + rdt_block_bytes(&b, i),
						 rdt_block_offset(&b, i + 1));
				assert_true(rdt_block_bytes(&b, i) <= rdt_block_max(&b));
				assert_true(rdt_block_max(&b) - rdt_block_bytes(&b, i) <= 4);
			}
		}
}

static void blocks_of_huge_vectors_do_not_overflow(void **state)
{
	struct rdt_blocks b = { UINT64_C(1) << 58, 33, 8 };

	(void)state;
	assert_int_equal(rdt_block_offset(&b, 33), UINT64_C(1) << 61);
	assert_true(rdt_block_bytes(&b, 32) <= rdt_block_bytes(&b, 0));
}

/* What rdt_schedule_print writes; the caller frees it. */
static char *printed(const struct rdt_schedule *s)
{
	char *text = NULL;
	size_t size = 0;
	FILE *to = open_memstream(&text, &size);

	assert_non_null(to);
	rdt_schedule_print(to, s);
	assert_int_equal(fclose(to), 0);
	return text;
}

static void a_ring_of_two_prints_one_line_a_step(void **state)
{
	struct rdt_group group = { .rank = 0, .size = 2 };
	struct rdt_shape shape = {
		.collective = RDT_COLL_ALLREDUCE, .bytes = 16, .elem_size = 4, .remote_output = true
	};
	struct rdt_schedule s;
	char *text;

	(void)state;
	rdt_schedule_init(&s);
	assert_int_equal(rdt_emit_ring(&group, &shape, &s), 0);
	text = printed(&s);
	assert_string_equal(text, "lane 0 step 0: PUT INPUT@0[8..16) -> SCRATCH@1[0..8)\n"
				  "lane 0 step 1: WAIT 1 from 1\n"
				  "lane 0 step 2: REDUCE SCRATCH@0[0..8) INPUT@0[0..8) -> "
				  "OUTPUT@0[0..8) FINAL\n"
				  "lane 0 step 3: PUT OUTPUT@0[0..8) -> OUTPUT@1[0..8)\n"
				  "lane 0 step 4: WAIT 1 from 1\n");
	free(text);
	rdt_schedule_free(&s);
}

static void a_staged_broadcast_prints_its_copy_and_notifications(void **state)
{
	struct rdt_group group = { .rank = 1, .size = 2 };
	struct rdt_shape shape = { .collective = RDT_COLL_BROADCAST, .bytes = 3, .elem_size = 1 };
	struct rdt_schedule s;
	char *text;

	(void)state;
	rdt_schedule_init(&s);
	assert_int_equal(rdt_emit_tree_broadcast(&group, &shape, &s), 0);
	text = printed(&s);
	assert_string_equal(text, "lane 0 step 0: NOTIFY 0\n"
				  "lane 0 step 1: WAIT 1 from 0\n"
				  "lane 0 step 2: COPY SCRATCH@1[0..3) -> OUTPUT@1[0..3)\n");
	free(text);
	rdt_schedule_free(&s);
}

static void a_step_that_does_not_fit_is_cut_short(void **state)
{
	struct rdt_span span = rdt_span(RDT_OUTPUT, 0, 0, 8);
	struct rdt_schedule s;
	char text[12];

	(void)state;
	rdt_schedule_init(&s);
	rdt_copy(&s, 0, span, rdt_span(RDT_SCRATCH, 0, 8, 8));
	memset(text, 'x', sizeof(text));
	rdt_step_format(text, sizeof(text), &s, &s.lanes[0].steps[0]);
	assert_string_equal(text, "COPY SCRATC");
	rdt_schedule_free(&s);
}

static void scratch_covers_the_spans_of_all_owners(void **state)
{
	struct rdt_schedule s;

	(void)state;
	rdt_schedule_init(&s);
	rdt_put(&s, 0, 1, rdt_span(RDT_SCRATCH, 1, 40, 8), rdt_span(RDT_INPUT, 0, 0, 8));
	assert_int_equal(s.scratch_bytes, 48);
	rdt_copy(&s, 1, rdt_span(RDT_OUTPUT, 0, 0, 4), rdt_span(RDT_SCRATCH, 0, 60, 4));
	assert_int_equal(s.scratch_bytes, 64);
	rdt_put(&s, 1, 1, rdt_span(RDT_SCRATCH, 1, 1000, 0), rdt_span(RDT_INPUT, 0, 0, 0));
	assert_int_equal(s.scratch_bytes, 64);
	assert_int_equal(s.n_lanes, 2);
	assert_int_equal(rdt_schedule_finish(&s), 0);
	rdt_schedule_free(&s);
}

static void local_steps_of_nothing_are_left_out_but_notifications_stay(void **state)
{
	struct rdt_span nothing = rdt_span(RDT_OUTPUT, 0, 0, 0);
	struct rdt_schedule s;

	(void)state;
	rdt_schedule_init(&s);
	rdt_copy(&s, 0, nothing, nothing);
	rdt_reduce_to(&s, 0, RDT_STEP_FINAL, &nothing, 1, &nothing, 1);
	assert_int_equal(s.lanes[0].n_steps, 0);
	rdt_notify(&s, 0, 3);
	rdt_wait_for(&s, 0, 3, 2);
	assert_int_equal(s.lanes[0].n_steps, 2);
	assert_int_equal(rdt_schedule_waits(&s), 2);
	assert_int_equal(rdt_schedule_finish(&s), 0);
	rdt_schedule_free(&s);
}

static void a_lane_that_does_not_exist_fails_the_schedule_for_good(void **state)
{
	struct rdt_schedule s;

	(void)state;
	rdt_schedule_init(&s);
	rdt_notify(&s, RDT_MAX_LANES, 1);
	rdt_notify(&s, 0, 1);
	assert_int_equal(rdt_schedule_finish(&s), -1);
	rdt_schedule_free(&s);
}

static void a_group_is_mapped_to_ranks_of_the_communicator(void **state)
{
	const int map[] = { 7, 2, 9 }, apart[] = { 0, 1, 1 }, together[] = { 4, 4, 4 };
	struct rdt_verify_case c = { .size = 3, .count = 3, .next_count = 3, .elem_size = 4 };
	struct rdt_group group = { .rank = 1, .size = 3, .map = map };
	struct rdt_case_shape shape;
	struct rdt_schedule s;

	(void)state;
	for (c.algorithm = rdt_algorithms; c.algorithm->name; c.algorithm++) {
		if (c.algorithm->collective == RDT_COLL_SEND)
			continue;
		c.host = apart;
		rdt_verify_shape(&c, 0, 1, &shape);
		if (!rdt_algorithm_applies(c.algorithm, c.size, &shape.shape))
			shape.shape.host = together;
		rdt_schedule_init(&s);
		assert_int_equal(c.algorithm->emit(&group, &shape.shape, &s), 0);
		for (size_t i = 0; i < s.lanes[0].n_steps; i++) {
			const struct rdt_step *step = &s.lanes[0].steps[i];

			if (step->kind == RDT_PUT || step->kind == RDT_WAIT)
				assert_true(step->peer == 7 || step->peer == 9);
		}
		for (size_t i = 0; i < s.n_spans; i++)
			assert_true(s.spans[i].rank == 7 || s.spans[i].rank == 2 ||
				    s.spans[i].rank == 9);
		rdt_schedule_free(&s);
	}
}

static void an_appended_schedule_moves_to_other_memory(void **state)
{
	const struct rdt_span base[RDT_BUFFER_COUNT] = {
		[RDT_INPUT] = rdt_span(RDT_OUTPUT, 0, 100, 0),
		[RDT_OUTPUT] = rdt_span(RDT_OUTPUT, 0, 100, 0),
		[RDT_SCRATCH] = rdt_span(RDT_SCRATCH, 0, 1000, 0),
	};
	const struct rdt_group group = { .rank = 0, .size = 2 };
	const struct rdt_shape shape = {
		.collective = RDT_COLL_ALLREDUCE, .bytes = 16, .elem_size = 4, .remote_output = true
	};
	struct rdt_schedule part, s;
	char *text;

	(void)state;
	rdt_schedule_init(&part);
	rdt_schedule_init(&s);
	assert_int_equal(rdt_emit_ring(&group, &shape, &part), 0);
	rdt_notify(&s, 0, 3);
	rdt_schedule_append(&s, 0, &part, base);
	assert_int_equal(rdt_schedule_finish(&s), 0);
	assert_int_equal(s.scratch_bytes, 1008);
	text = printed(&s);
	assert_string_equal(text, "lane 0 step 0: NOTIFY 3\n"
				  "lane 0 step 1: PUT OUTPUT@0[108..116) -> SCRATCH@1[1000..1008)\n"
				  "lane 0 step 2: WAIT 1 from 1\n"
				  "lane 0 step 3: REDUCE SCRATCH@0[1000..1008) OUTPUT@0[100..108) "
				  "-> OUTPUT@0[100..108) FINAL\n"
				  "lane 0 step 4: PUT OUTPUT@0[100..108) -> OUTPUT@1[100..108)\n"
				  "lane 0 step 5: WAIT 1 from 1\n");
	free(text);
	rdt_schedule_free(&part);
	rdt_schedule_free(&s);
}

static void what_has_lanes_or_has_failed_is_not_appended(void **state)
{
	const struct rdt_span base[RDT_BUFFER_COUNT] = { { .buffer = RDT_INPUT } };
	struct rdt_schedule part, s;

	(void)state;
	rdt_schedule_init(&part);
	rdt_schedule_init(&s);
	rdt_notify(&part, 1, 1);
	rdt_schedule_append(&s, 0, &part, base);
	assert_int_equal(rdt_schedule_finish(&s), -1);
	rdt_schedule_free(&part);
	rdt_schedule_free(&s);

	rdt_notify(&part, RDT_MAX_LANES, 1);
	rdt_schedule_append(&s, 0, &part, base);
	assert_int_equal(rdt_schedule_finish(&s), -1);
	rdt_schedule_free(&part);
	rdt_schedule_free(&s);
}

static void one_shot_starts_with_the_right_neighbour(void **state)
{
	struct rdt_group group = { .rank = 2, .size = 4 };
	struct rdt_shape shape = { .collective = RDT_COLL_ALLREDUCE, .bytes = 8, .elem_size = 8 };
	const int order[] = { 3, 0, 1 };
	struct rdt_schedule s;

	(void)state;
	rdt_schedule_init(&s);
	assert_int_equal(rdt_emit_oneshot(&group, &shape, &s), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(s.lanes[0].steps[1 + i].kind, RDT_PUT);
		assert_int_equal(s.lanes[0].steps[1 + i].peer, order[i]);
	}
	rdt_schedule_free(&s);
}

static void algorithms_are_found_by_name_within_their_collective(void **state)
{
	(void)state;
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++) {
		assert_ptr_equal(rdt_algorithm_find(a->collective, a->name), a);
		assert_non_null(rdt_collective_name(a->collective));
		assert_non_null(a->summary);
	}
	assert_null(rdt_algorithm_find(RDT_COLL_BARRIER, "ring"));
	assert_null(rdt_algorithm_find(RDT_COLL_ALLREDUCE, "no such"));
	assert_null(rdt_collective_name(RDT_COLL_COUNT));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_cover_the_vector_exactly),
		cmocka_unit_test(blocks_of_huge_vectors_do_not_overflow),
		cmocka_unit_test(a_ring_of_two_prints_one_line_a_step),
		cmocka_unit_test(a_staged_broadcast_prints_its_copy_and_notifications),
		cmocka_unit_test(a_step_that_does_not_fit_is_cut_short),
		cmocka_unit_test(scratch_covers_the_spans_of_all_owners),
		cmocka_unit_test(local_steps_of_nothing_are_left_out_but_notifications_stay),
		cmocka_unit_test(a_lane_that_does_not_exist_fails_the_schedule_for_good),
		cmocka_unit_test(a_group_is_mapped_to_ranks_of_the_communicator),
		cmocka_unit_test(an_appended_schedule_moves_to_other_memory),
		cmocka_unit_test(what_has_lanes_or_has_failed_is_not_appended),
		cmocka_unit_test(one_shot_starts_with_the_right_neighbour),
		cmocka_unit_test(algorithms_are_found_by_name_within_their_collective),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
