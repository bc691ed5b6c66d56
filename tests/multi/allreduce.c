/* SPDX-License-Identifier: BSD-3-Clause */
/* Allreduce among 1, 2, 3, 5 and 7 ranks: all types and operations, odd counts, all kinds of
 * memory, all three forms, in place and not, one algorithm or the other. */
#include "ranks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "values.h"

static const int sizes[] = { 1, 2, 3, 5, 7 };
#define EACH_SIZE(n)                                                                               \
	for (size_t i_ = 0, n = 0;                                                                 \
	     i_ < sizeof(sizes) / sizeof(sizes[0]) && (n = (size_t)sizes[i_]); i_++)

enum memory { PLAIN, REGISTERED, ALLOCATED };

struct buffer {
	enum memory kind;
	void *base;
	rdt_mem *mem;
};

static int buffer_new(rdt_comm *comm, enum memory kind, size_t bytes, struct buffer *b)
{
	*b = (struct buffer){ .kind = kind };
	if (kind == ALLOCATED)
		return rdt_alloc(comm, bytes, &b->base);
	b->base = malloc(bytes + 1);
	return kind == REGISTERED ? rdt_mem_register(comm, b->base, bytes + 1, &b->mem) : 0;
}

static void buffer_free(rdt_comm *comm, struct buffer *b)
{
	if (b->kind == ALLOCATED) {
		rdt_free(comm, b->base);
		return;
	}
	rdt_mem_deregister(b->mem);
	free(b->base);
}

/* ---- every type and operation
 * ------------------------------------------------------------------------ */

static int types_and_operations(int rank, int n, void *arg)
{
	enum { COUNT = 1003 };
	char in[COUNT * 8], out[COUNT * 8];
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_comm_rank(comm) == rank && rdt_comm_size(comm) == n);
	for (enum rdt_type type = RDT_FLOAT32; type <= RDT_UINT64; type++)
		for (enum rdt_op op = RDT_SUM; op <= RDT_PROD; op++) {
			test_fill(in, COUNT, type, op, rank, 1);
			RANK_CHECK(rdt_allreduce(comm, in, out, COUNT, type, op) == 0);
			RANK_CHECK(test_wrong(out, COUNT, type, op, n, 1) == 0);
			for (size_t i = 0; i < COUNT; i++)
				RANK_CHECK(test_load(in, i, type) == test_value(rank, i, 1, op));
			RANK_CHECK(rdt_allreduce(comm, in, in, COUNT, type, op) == 0);
			RANK_CHECK(memcmp(in, out, COUNT * rdt_type_size(type)) == 0);
		}
	rdt_comm_destroy(comm);
	return 0;
}

static void every_type_and_operation_is_right(void **state)
{
	(void)state;
	EACH_SIZE(n)
	assert_true(ranks_run((int)n, 120, types_and_operations, NULL));
}

/* ---- every count and memory
 * --------------------------------------------------------------------------- */

static const size_t counts[] = { 0, 1, 2, 3, 7, 64, 1000, 4097, 65537, 1000003 };

static int one_case(rdt_comm *comm, int rank, int n, enum memory kind, size_t count, int in_place)
{
	struct buffer in, out;
	size_t bytes = count * sizeof(float);
	rdt_request *request;
	rdt_plan *plan;
	void *from;

	RANK_CHECK(buffer_new(comm, kind, bytes, &in) == 0);
	RANK_CHECK(buffer_new(comm, kind, bytes, &out) == 0);
	from = in_place ? out.base : in.base;

	for (int round = 0; round < 2; round++) {
		test_fill(from, count, RDT_FLOAT32, RDT_SUM, rank, round);
		RANK_CHECK(rdt_allreduce(comm, from, out.base, count, RDT_FLOAT32, RDT_SUM) == 0);
		RANK_CHECK(test_wrong(out.base, count, RDT_FLOAT32, RDT_SUM, n, round) == 0);
	}

	test_fill(from, count, RDT_FLOAT32, RDT_SUM, rank, 3);
	RANK_CHECK(rdt_allreduce_start(comm, from, out.base, count, RDT_FLOAT32, RDT_SUM,
				       &request) == 0);
	if (rank % 2)
		RANK_CHECK(rdt_wait(request) == 0);
	else
		for (int done = 0; !done;)
			RANK_CHECK(rdt_test(request, &done) == 0);
	RANK_CHECK(test_wrong(out.base, count, RDT_FLOAT32, RDT_SUM, n, 3) == 0);

	RANK_CHECK(rdt_allreduce_plan(comm, from, out.base, count, RDT_FLOAT32, RDT_SUM, &plan) ==
		   0);
	for (int round = 4; round < (count > 100000 ? 6 : 9); round++) {
		int done = 0;

		test_fill(from, count, RDT_FLOAT32, RDT_SUM, rank, round);
		RANK_CHECK(rdt_plan_start(plan) == 0);
		if (rank % 2)
			RANK_CHECK(rdt_plan_wait(plan) == 0);
		while (!done)
			RANK_CHECK(rdt_plan_test(plan, &done) == 0);
		RANK_CHECK(test_wrong(out.base, count, RDT_FLOAT32, RDT_SUM, n, round) == 0);
		if (!in_place)
			for (size_t i = 0; i < count; i++)
				RANK_CHECK(test_load(from, i, RDT_FLOAT32) ==
					   test_value(rank, i, round, RDT_SUM));
	}
	rdt_plan_destroy(plan);
	buffer_free(comm, &in);
	buffer_free(comm, &out);
	return 0;
}

static int counts_and_memory(int rank, int n, void *arg)
{
	const char *transport = getenv("RDTRAIN_TRANSPORT");
	/* An emulated machine takes minutes for what is longer. */
	size_t largest = transport && strcmp(transport, "verbs") == 0 ? 65537 : 1000003;
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]) && counts[c] <= largest; c++)
		for (enum memory kind = PLAIN; kind <= ALLOCATED; kind++)
			for (int in_place = 0; in_place < 2; in_place++)
				RANK_CHECK(one_case(comm, rank, n, kind, counts[c], in_place) == 0);
	rdt_comm_destroy(comm);
	return 0;
}

static void every_count_memory_and_form_is_right(void **state)
{
	(void)state;
	EACH_SIZE(n)
	assert_true(ranks_run((int)n, 240, counts_and_memory, NULL));
}

static void each_algorithm_is_right_when_forced(void **state)
{
	static const char *const names[] = { "oneshot", "exchange", "radix4", "circulant", "ring" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		setenv("RDTRAIN_ALLREDUCE", names[i], 1);
		setenv("RDTRAIN_WINDOW", "4096", 1);
		assert_true(ranks_run(3, 120, types_and_operations, NULL));
		assert_true(ranks_run(5, 120, types_and_operations, NULL));
		unsetenv("RDTRAIN_WINDOW");
	}
	unsetenv("RDTRAIN_ALLREDUCE");
}

/* Plain and registered memory on different ranks: what one rank has, the others cannot know. */
static int mixed_memory(int rank, int n, void *arg)
{
	enum { COUNT = 100003 };
	struct buffer b;
	rdt_comm *comm;
	rdt_plan *plan;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (int shift = 0; shift < 3; shift++) {
		RANK_CHECK(buffer_new(comm, (enum memory)((rank + shift) % 3), COUNT * 8, &b) == 0);
		test_fill(b.base, COUNT, RDT_INT64, RDT_SUM, rank, shift);
		RANK_CHECK(rdt_allreduce(comm, b.base, b.base, COUNT, RDT_INT64, RDT_SUM) == 0);
		RANK_CHECK(test_wrong(b.base, COUNT, RDT_INT64, RDT_SUM, n, shift) == 0);

		RANK_CHECK(rdt_allreduce_plan(comm, b.base, b.base, COUNT, RDT_INT64, RDT_SUM,
					      &plan) == 0);
		test_fill(b.base, COUNT, RDT_INT64, RDT_SUM, rank, shift + 7);
		RANK_CHECK(rdt_plan_start(plan) == 0);
		RANK_CHECK(rdt_plan_wait(plan) == 0);
		RANK_CHECK(test_wrong(b.base, COUNT, RDT_INT64, RDT_SUM, n, shift + 7) == 0);
		rdt_plan_destroy(plan);
		buffer_free(comm, &b);
	}
	rdt_comm_destroy(comm);
	return 0;
}

static void ranks_may_pass_different_kinds_of_memory(void **state)
{
	(void)state;
	assert_true(ranks_run(3, 120, mixed_memory, NULL));
	assert_true(ranks_run(4, 120, mixed_memory, NULL));
}

/* Unaligned pointers and neighbours that must not be touched. */
static int misaligned(int rank, int n, void *arg)
{
	enum { COUNT = 30011 };
	char *raw = malloc(COUNT * 4 + 64);
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (size_t offset = 1; offset < 8; offset += 3) {
		memset(raw, 0x5a, COUNT * 4 + 64);
		test_fill(raw + offset, COUNT, RDT_FLOAT32, RDT_MAX, rank, 2);
		RANK_CHECK(rdt_allreduce(comm, raw + offset, raw + offset, COUNT, RDT_FLOAT32,
					 RDT_MAX) == 0);
		RANK_CHECK(test_wrong(raw + offset, COUNT, RDT_FLOAT32, RDT_MAX, n, 2) == 0);
		for (size_t i = 0; i < offset; i++)
			RANK_CHECK(raw[i] == 0x5a);
		for (size_t i = offset + COUNT * 4; i < COUNT * 4 + 64; i++)
			RANK_CHECK(raw[i] == 0x5a);
	}
	rdt_comm_destroy(comm);
	free(raw);
	return 0;
}

static void misaligned_buffers_work_and_neighbours_stay_untouched(void **state)
{
	(void)state;
	assert_true(ranks_run(3, 60, misaligned, NULL));
}

/* Floating-point sums in different orders differ; every rank must still hold the same bits. */
static int same_bits(int rank, int n, void *arg)
{
	enum { COUNT = 50021 };
	float *v = malloc(COUNT * sizeof(float));
	uint64_t hash[2] = { 1469598103934665603u, 0 }, low[2], high[2];
	rdt_comm *comm;

	(void)arg;
	(void)n;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (int small = 0; small < 2; small++) {
		size_t count = small ? 301 : COUNT;

		for (int again = 0; again < 2; again++) {
			hash[again] = 1469598103934665603u;
			for (size_t i = 0; i < count; i++)
				v[i] = 1.0f / (float)(1 + rank * 31 + (int)i);
			RANK_CHECK(rdt_allreduce(comm, v, v, count, RDT_FLOAT32, RDT_AVG) == 0);
			for (size_t i = 0; i < count * sizeof(float); i++)
				hash[again] =
					(hash[again] ^ ((unsigned char *)v)[i]) * 1099511628211u;
		}
		RANK_CHECK(hash[0] == hash[1]);
		RANK_CHECK(rdt_allreduce(comm, hash, low, 2, RDT_UINT64, RDT_MIN) == 0);
		RANK_CHECK(rdt_allreduce(comm, hash, high, 2, RDT_UINT64, RDT_MAX) == 0);
		RANK_CHECK(low[0] == high[0]);
	}
	rdt_comm_destroy(comm);
	free(v);
	return 0;
}

static void results_are_bitwise_equal_on_all_ranks_and_from_run_to_run(void **state)
{
	(void)state;
	EACH_SIZE(n)
	assert_true(ranks_run((int)n, 60, same_bits, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_and_operation_is_right),
		cmocka_unit_test(every_count_memory_and_form_is_right),
		cmocka_unit_test(each_algorithm_is_right_when_forced),
		cmocka_unit_test(ranks_may_pass_different_kinds_of_memory),
		cmocka_unit_test(misaligned_buffers_work_and_neighbours_stay_untouched),
		cmocka_unit_test(results_are_bitwise_equal_on_all_ranks_and_from_run_to_run),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
