/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What starting an operation costs beside moving data: no allocation, and no system call. The
 * program runs under rdtrain run and strace too (tests/tools/system_calls.sh): its argument is then
 * how many operations each form does.
 */
#include "ranks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "values.h"

static unsigned long allocations;

/* The allocator's calls, counted: the program's own definitions come before the C library's. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_malloc(size_t size)
{
	allocations++;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	allocations++;
	return __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	allocations++;
	return __real_realloc(old, size);
}

static int operations(rdt_comm *comm, rdt_plan *plan, float *v, size_t count, int times)
{
	for (int i = 0; i < times; i++) {
		rdt_request *request;

		RANK_CHECK(rdt_allreduce(comm, v, v, count, RDT_FLOAT32, RDT_MAX) == 0);
		RANK_CHECK(rdt_allreduce_start(comm, v, v, count, RDT_FLOAT32, RDT_MAX, &request) ==
			   0);
		RANK_CHECK(rdt_wait(request) == 0);
		RANK_CHECK(rdt_plan_start(plan) == 0);
		RANK_CHECK(rdt_plan_wait(plan) == 0);
	}
	return 0;
}

static int started(int rank, int n, void *arg)
{
	static const size_t counts[] = { 2, 1000, 300001 };
	int times = *(int *)arg;
	rdt_comm *comm;

	(void)rank;
	(void)n;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		unsigned long before;
		rdt_plan *plan;
		void *v;

		RANK_CHECK(rdt_alloc(comm, counts[c] * sizeof(float), &v) == 0);
		RANK_CHECK(rdt_allreduce_plan(comm, v, v, counts[c], RDT_FLOAT32, RDT_MAX, &plan) ==
			   0);
		RANK_CHECK(operations(comm, plan, v, counts[c], 1) == 0);
		before = allocations;
		RANK_CHECK(operations(comm, plan, v, counts[c],
				      counts[c] > 100000 ? times / 10 : times) == 0);
		RANK_CHECK(allocations == before);
		rdt_plan_destroy(plan);
		RANK_CHECK(rdt_free(comm, v) == 0);
	}
	rdt_comm_destroy(comm);
	return 0;
}

static void starting_and_finishing_an_operation_allocates_nothing(void **state)
{
	int times = 50;

	(void)state;
	assert_true(ranks_run(2, 60, started, &times));
	assert_true(ranks_run(3, 60, started, &times));
}

static int traced(int rank, int n, void *arg)
{
	char path[64];
	int status;

	snprintf(path, sizeof(path), "/tmp/rdtrain_started_path_%d.json", (int)getpid());
	setenv("RDTRAIN_TRACE", "/tmp/rdtrain_started_path_%p.json", 1);
	status = started(rank, n, arg);
	RANK_CHECK(unlink(path) == 0);
	return status;
}

static void nor_does_it_while_a_timeline_is_recorded(void **state)
{
	int times = 50;

	(void)state;
	assert_true(ranks_run(3, 60, traced, &times));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starting_and_finishing_an_operation_allocates_nothing),
		cmocka_unit_test(nor_does_it_while_a_timeline_is_recorded),
	};

	if (argc > 1) {
		int times = atoi(argv[1]);

		return started(0, 0, &times);
	}
	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
