/* SPDX-License-Identifier: BSD-3-Clause */
/* Ranks in a grid, and who has what. */
#include "ranks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <rdtrain/train.h>

static int grid_of(int rank, int n, void *arg)
{
	int parts = *(int *)arg, copies = n / parts;
	int64_t mine, sum;
	rdt_grid *grid;
	rdt_comm *comm;

	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_grid_create(comm, copies + 1, parts, &grid) == RDT_ERR_INVALID && !grid);
	RANK_CHECK(rdt_grid_create(comm, copies, parts, &grid) == 0);
	RANK_CHECK(rdt_comm_size(rdt_grid_data(grid)) == copies);
	RANK_CHECK(rdt_comm_size(rdt_grid_model(grid)) == parts);
	RANK_CHECK(rdt_comm_rank(rdt_grid_data(grid)) == rank / parts);
	RANK_CHECK(rdt_comm_rank(rdt_grid_model(grid)) == rank % parts);
	mine = INT64_C(1) << rank;
	RANK_CHECK(rdt_allreduce(rdt_grid_model(grid), &mine, &sum, 1, RDT_INT64, RDT_SUM) == 0);
	for (int r = 0; r < n; r++)
		RANK_CHECK((sum >> r & 1) == (r / parts == rank / parts));
	RANK_CHECK(rdt_allreduce(rdt_grid_data(grid), &mine, &sum, 1, RDT_INT64, RDT_SUM) == 0);
	for (int r = 0; r < n; r++)
		RANK_CHECK((sum >> r & 1) == (r % parts == rank % parts));
	rdt_grid_destroy(grid);
	rdt_comm_destroy(comm);
	return 0;
}

static void rows_are_copies_and_columns_are_parts(void **state)
{
	int parts = 2;

	(void)state;
	assert_true(ranks_run(4, 60, grid_of, &parts));
	parts = 3;
	assert_true(ranks_run(6, 60, grid_of, &parts));
	parts = 1;
	assert_true(ranks_run(3, 60, grid_of, &parts));
}

static void pieces_follow_each_other_and_differ_by_one_at_most(void **state)
{
	(void)state;
	for (size_t count = 0; count < 40; count++)
		for (int parts = 1; parts < 12; parts++) {
			size_t at = 0, first;

			for (int p = 0; p < parts; p++) {
				size_t n = rdt_part(count, parts, p, &first);

				assert_int_equal(first, at);
				assert_true(n == count / (size_t)parts ||
					    n == count / (size_t)parts + 1);
				at += n;
			}
			assert_int_equal(at, count);
		}
	assert_int_equal(rdt_part(SIZE_MAX, 2, 0, NULL), SIZE_MAX / 2 + 1);
}

static void outputs_of_columns_are_the_inputs_of_rows(void **state)
{
	static const int width[] = { 64, 33, 20, 10 };
	struct rdt_layer_part l[3];
	int at = 0;

	(void)state;
	for (int part = 0; part < 4; part++) {
		assert_int_equal(rdt_part_layers(width, 3, 4, part, l), 0);
		assert_true(l[0].split == RDT_SPLIT_COLUMNS && l[1].split == RDT_SPLIT_ROWS &&
			    l[2].split == RDT_SPLIT_NONE);
		assert_int_equal(l[0].n_in, 64);
		assert_int_equal(l[0].first_out, at);
		assert_int_equal(l[1].first_in, at);
		assert_int_equal(l[1].n_in, l[0].n_out);
		assert_int_equal(l[1].n_out, 20);
		assert_true(l[2].n_in == 20 && l[2].n_out == 10);
		at += l[0].n_out;
	}
	assert_int_equal(at, 33);
	assert_int_equal(rdt_part_layers(width, 3, 1, 0, l), 0);
	assert_true(l[0].split == RDT_SPLIT_NONE && l[0].n_out == 33);
	assert_int_equal(rdt_part_layers(width, 3, 34, 0, l), RDT_ERR_INVALID);
	assert_non_null(strstr(rdt_last_error(), "too narrow"));
	assert_int_equal(rdt_part_layers(width, 3, 2, 2, l), RDT_ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_copies_and_columns_are_parts),
		cmocka_unit_test(pieces_follow_each_other_and_differ_by_one_at_most),
		cmocka_unit_test(outputs_of_columns_are_the_inputs_of_rows),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
