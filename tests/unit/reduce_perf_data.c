/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The data of `rdtrain perf`: right results pass, in whatever order the operands were combined, and
 * faults are seen. It stands here because the kernels are what it is held against.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/reduce/reduce.h"
#include "tools/perf_data.c"

#define COUNT (2 * PERIOD + 77)
#define RANKS 5

/* What `rank` brings. As perf_data_new and perf_data_fill, without the result. */
static void *contribution(int rank, int size, enum rdt_type type, enum rdt_op op, uint64_t count,
			  uint64_t seed)
{
	size_t element = rdt_type_size(type);
	struct perf_data data = {
		.type = type, .op = op, .element = element, .mine = malloc(PERIOD * element)
	};
	void *buffer = malloc(count * element);

	assert_non_null(data.mine);
	assert_non_null(buffer);
	for (size_t i = 0; i < PERIOD; i++)
		make_mine(&data, rank, size, i);
	perf_data_fill(&data, buffer, count, seed);
	assert_int_equal(perf_data_changed(&data, buffer, count, seed), 0);
	free(data.mine);
	return buffer;
}

/* One operand after the other, rank `first` first, each partial result stored. */
static void *chain(int size, int first, enum rdt_type type, enum rdt_op op, uint64_t count,
		   uint64_t seed)
{
	rdt_reduce_fn kernel = rdt_reduce_kernel(type, op);
	void *sum = contribution(first, size, type, op, count, seed);

	for (int i = 1; i < size || i == 1; i++) {
		void *next =
			size == 1 ? NULL
				  : contribution((first + i) % size, size, type, op, count, seed);
		const void *sources[] = { sum, next };
		bool last = i >= size - 1;

		kernel(&sum, 1, sources, next ? 2 : 1, count,
		       last && op == RDT_AVG ? (uint32_t)size : 0);
		free(next);
	}
	return sum;
}

static void expect_right(int size, enum rdt_type type, enum rdt_op op, uint64_t count)
{
	struct perf_data *data = perf_data_new(0, size, type, op);

	assert_non_null(data);
	for (int first = 0; first<size; first += size> 3 ? size - 2 : 1) {
		void *result = chain(size, first, type, op, count, 3);
		uint64_t wrong = perf_data_wrong(data, result, count, 3);

		if (wrong)
			print_error("%s %s, %d ranks from %d on\n", rdt_type_name(type),
				    rdt_op_name(op), size, first);
		assert_int_equal(wrong, 0);
		free(result);
	}
	perf_data_free(data);
}

static void right_results_pass(void **state)
{
	static const int sizes[] = { 1, 2, 3, 4, 7, 16 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (int type = 0; type < PERF_TYPES; type++)
			for (int op = 0; op < PERF_OPS; op++)
				expect_right(sizes[i], type, op, i < 4 ? COUNT : 500);
}

static void sums_of_many_ranks_stay_exact(void **state)
{
	(void)state;
	expect_right(300, RDT_BFLOAT16, RDT_SUM, 100);
	expect_right(300, RDT_BFLOAT16, RDT_PROD, 100);
	expect_right(300, RDT_FLOAT16, RDT_PROD, 100);
	expect_right(300, RDT_FLOAT16, RDT_AVG, 100);
}

static void expect_wrong(const char *what, const struct perf_data *data, const void *buffer,
			 uint64_t seed)
{
	uint64_t wrong = perf_data_wrong(data, buffer, COUNT, seed);

	if (wrong == 0)
		print_error("not seen with %s %s: %s\n", rdt_type_name(data->type),
			    rdt_op_name(data->op), what);
	assert_true(wrong > 0);
}

static void faults_are_seen(void **state)
{
	(void)state;
	for (int type = 0; type < PERF_TYPES; type++)
		for (int op = 0; op < PERF_OPS; op++) {
			struct perf_data *data = perf_data_new(1, RANKS, type, op);
			rdt_reduce_fn kernel = rdt_reduce_kernel(type, op);
			size_t element = rdt_type_size(type);
			char *right = chain(RANKS, 0, type, op, COUNT, 5);
			char *bad = malloc(COUNT * element);
			void *one = contribution(1, RANKS, type, op, COUNT, 5);
			const void *twice[] = { right, one };
			void *to = bad;

			assert_non_null(data);
			assert_non_null(bad);
			/* of another operation */
			expect_wrong("the operation before", data, right, 6);
			/* moved by an element, by a period */
			memcpy(bad, right + element, (COUNT - 1) * element);
			memcpy(bad + (COUNT - 1) * element, right + (COUNT - 1) * element, element);
			expect_wrong("moved by one", data, bad, 5);
			memcpy(bad, right, COUNT * element);
			memcpy(bad + PERIOD * element, right, 64 * element);
			expect_wrong("moved by a period", data, bad, 5);
			/* a contribution twice, which a minimum or maximum does not mind */
			kernel(&to, 1, twice, 2, COUNT, 0);
			if (op != RDT_MIN && op != RDT_MAX)
				expect_wrong("one contribution twice", data, bad, 5);
			/* nothing but one contribution */
			expect_wrong("one contribution alone", data, one, 5);
			/* one bit, in the last element: exactly one is wrong */
			memcpy(bad, right, COUNT * element);
			bad[COUNT * element - 1] ^= 0x20;
			assert_int_equal(perf_data_wrong(data, bad, COUNT, 5), 1);
			assert_int_equal(perf_data_wrong(data, bad, COUNT - 1, 5), 0);
			/* an input that was written to */
			((char *)one)[element] ^= 1;
			assert_int_equal(perf_data_changed(data, one, COUNT, 5), 1);
			/* never written at all */
			memset(bad, 0xff, COUNT * element);
			assert_true(perf_data_wrong(data, bad, COUNT, 5) > COUNT / 2);
			free(right);
			free(bad);
			free(one);
			perf_data_free(data);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(right_results_pass),
		cmocka_unit_test(sums_of_many_ranks_stay_exact),
		cmocka_unit_test(faults_are_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
