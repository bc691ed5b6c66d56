/* SPDX-License-Identifier: BSD-3-Clause */
/* RDTRAIN_PROGRESS=thread: operations go on while the caller does something else. */
#include "ranks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "values.h"

/* Ranks that wait for two communicators in opposite orders: each waits for what the other has
 * started and does not wait for yet. Nobody but the thread moves that on. */
static int crosswise(int rank, int n, void *arg)
{
	enum { COUNT = 100003 };
	rdt_comm *comm, *part;
	rdt_request *request[2];
	float *v[2];

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_comm_split(comm, 0, rank, &part) == 0);
	RANK_CHECK(rdt_alloc(comm, COUNT * sizeof(float), (void **)&v[0]) == 0);
	RANK_CHECK((v[1] = malloc(COUNT * sizeof(float))) != NULL);
	for (int round = 0; round < 20; round++) {
		for (int k = 0; k < 2; k++) {
			test_fill(v[k], COUNT, RDT_FLOAT32, RDT_SUM, rank, round + k);
			RANK_CHECK(rdt_allreduce_start(k ? part : comm, v[k], v[k], COUNT,
						       RDT_FLOAT32, RDT_SUM, &request[k]) == 0);
		}
		RANK_CHECK(rdt_wait(request[rank % 2]) == 0);
		RANK_CHECK(rdt_wait(request[1 - rank % 2]) == 0);
		for (int k = 0; k < 2; k++)
			RANK_CHECK(test_wrong(v[k], COUNT, RDT_FLOAT32, RDT_SUM, n, round + k) ==
				   0);
	}
	free(v[1]);
	rdt_comm_destroy(part);
	rdt_comm_destroy(comm);
	return 0;
}

/* Calls of all kinds between starts and waits, so that thread and caller meet everywhere. */
static int among_others(int rank, int n, void *arg)
{
	enum { COUNT = 5003, PLANS = 4 };
	rdt_plan *plans[PLANS];
	int32_t *v[PLANS];
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (int k = 0; k < PLANS; k++) {
		RANK_CHECK(rdt_alloc(comm, COUNT * sizeof(int32_t), (void **)&v[k]) == 0);
		RANK_CHECK(rdt_allreduce_plan(comm, v[k], v[k], COUNT, RDT_INT32, RDT_SUM,
					      &plans[k]) == 0);
	}
	for (int round = 0; round < 100; round++) {
		int32_t small[3];
		void *memory;
		int done = 0;

		for (int k = 0; k < PLANS; k++) {
			test_fill(v[k], COUNT, RDT_INT32, RDT_SUM, rank, round + k);
			RANK_CHECK(rdt_plan_start(plans[k]) == 0);
		}
		RANK_CHECK(rdt_alloc(comm, 10000, &memory) == 0);
		test_fill(small, 3, RDT_INT32, RDT_SUM, rank, round);
		RANK_CHECK(rdt_allreduce(comm, small, small, 3, RDT_INT32, RDT_SUM) == 0);
		RANK_CHECK(test_wrong(small, 3, RDT_INT32, RDT_SUM, n, round) == 0);
		if (round % 10 == rank)
			usleep(2000);
		while (!done)
			RANK_CHECK(rdt_plan_test(plans[0], &done) == 0);
		for (int k = 1; k < PLANS; k++)
			RANK_CHECK(rdt_plan_wait(plans[k]) == 0);
		for (int k = 0; k < PLANS; k++)
			RANK_CHECK(test_wrong(v[k], COUNT, RDT_INT32, RDT_SUM, n, round + k) == 0);
		RANK_CHECK(rdt_free(comm, memory) == 0);
	}
	for (int k = 0; k < PLANS; k++)
		rdt_plan_destroy(plans[k]);
	rdt_comm_destroy(comm);
	return 0;
}

/* A failure while the thread is at work. */
static int failing(int rank, int n, void *arg)
{
	rdt_request *request;
	int32_t v[4000] = { 0 };
	rdt_comm *comm;

	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_allreduce(comm, v, v, 4000, RDT_INT32, RDT_SUM) == 0);
	if (rank == 1) {
		usleep(20000);
		RANK_CHECK(rdt_comm_abort(comm) == 0);
	} else {
		RANK_CHECK(rdt_allreduce_start(comm, v, v, 4000, RDT_INT32, RDT_SUM, &request) ==
			   0);
		usleep(40000);
		RANK_CHECK(rdt_wait(request) == RDT_ERR_ABORTED);
	}
	RANK_CHECK(rdt_barrier(comm) == RDT_ERR_ABORTED);
	rdt_comm_destroy(comm);
	return 0;
}

static int misspelt(int rank, int n, void *arg)
{
	rdt_comm *comm = NULL;

	(void)rank;
	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == RDT_ERR_INVALID && !comm);
	RANK_CHECK(strstr(rdt_last_error(), "RDTRAIN_PROGRESS=tread is neither caller nor thread"));
	return 0;
}

static void run_on(int n, int (*fn)(int, int, void *))
{
	setenv("RDTRAIN_PROGRESS", "thread", 1);
	setenv("RDTRAIN_TIMEOUT", "60", 1);
	assert_true(ranks_run(n, 100, fn, NULL));
}

static void two_communicators_may_be_waited_for_crosswise(void **state)
{
	(void)state;
	run_on(2, crosswise);
	run_on(3, crosswise);
}

static void thread_and_caller_do_not_disturb_each_other(void **state)
{
	(void)state;
	run_on(1, among_others);
	run_on(2, among_others);
	run_on(5, among_others);
}

static void a_failure_reaches_who_waits(void **state)
{
	(void)state;
	run_on(3, failing);
}

static void a_wrong_word_is_told(void **state)
{
	(void)state;
	setenv("RDTRAIN_PROGRESS", "tread", 1);
	assert_true(ranks_run(1, 20, misspelt, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_communicators_may_be_waited_for_crosswise),
		cmocka_unit_test(thread_and_caller_do_not_disturb_each_other),
		cmocka_unit_test(a_failure_reaches_who_waits),
		cmocka_unit_test(a_wrong_word_is_told),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
