/* SPDX-License-Identifier: BSD-3-Clause */
/* What a communicator holds at most, and that it is whole when one has asked for more. */
#include "ranks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "values.h"

enum { PLANS = 254, IN_FLIGHT = 256 };

static int check_sum(rdt_comm *comm, int rank, int n, size_t count)
{
	int32_t v[64];

	test_fill(v, count, RDT_INT32, RDT_SUM, rank, 1);
	RANK_CHECK(rdt_allreduce(comm, v, v, count, RDT_INT32, RDT_SUM) == 0);
	RANK_CHECK(test_wrong(v, count, RDT_INT32, RDT_SUM, n, 1) == 0);
	return 0;
}

/* Plans of plain calls make room for the user's; when those are too many that is told. */
static int plans(int rank, int n, void *arg)
{
	static rdt_plan *all[PLANS];
	static int32_t v[PLANS + 1];
	size_t counts[2] = { 1, 1 };
	rdt_plan *more = NULL;
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (size_t count = 1; count <= 20; count++)
		RANK_CHECK(check_sum(comm, rank, n, count) == 0);
	for (int k = 0; k < PLANS - 1; k++)
		RANK_CHECK(rdt_allreduce_plan(comm, v, v, (size_t)k + 1, RDT_INT32, RDT_SUM,
					      &all[k]) == 0);
	/* This takes two: the lengths are exchanged. */
	RANK_CHECK(rdt_alltoallv_plan(comm, v, counts, v + 2, counts, RDT_INT32, &more) ==
		   RDT_ERR_NOMEM);
	RANK_CHECK(strstr(rdt_last_error(), "253 plans are alive") && !more);
	/* Plain calls of two shapes in turn, for which there is one slot. */
	for (int k = 0; k < 4; k++)
		RANK_CHECK(check_sum(comm, rank, n, k % 2 ? 30 : 31) == 0);
	RANK_CHECK(rdt_barrier_plan(comm, &all[PLANS - 1]) == 0);
	RANK_CHECK(rdt_barrier_plan(comm, &more) == RDT_ERR_NOMEM && !more);
	RANK_CHECK(strstr(rdt_last_error(), "254 plans are alive"));
	RANK_CHECK(rdt_allreduce(comm, v, v, 33, RDT_INT32, RDT_SUM) == RDT_ERR_NOMEM);
	/* None of this has done any harm. */
	RANK_CHECK(rdt_comm_lost(comm, NULL, 0) == 0);
	test_fill(v, 40, RDT_INT32, RDT_SUM, rank, 2);
	RANK_CHECK(rdt_plan_start(all[39]) == 0);
	RANK_CHECK(rdt_plan_wait(all[39]) == 0);
	RANK_CHECK(test_wrong(v, 40, RDT_INT32, RDT_SUM, n, 2) == 0);
	rdt_plan_destroy(all[PLANS - 1]);
	RANK_CHECK(check_sum(comm, rank, n, 33) == 0);
	for (int k = 0; k < PLANS - 1; k++)
		rdt_plan_destroy(all[k]);
	rdt_comm_destroy(comm);
	return 0;
}

static void plans_beyond_the_limit_are_told_and_do_no_harm(void **state)
{
	(void)state;
	assert_true(ranks_run(2, 120, plans, NULL));
}

/* All of them with lengths to exchange first; one more is refused and leaves no trace. */
static int in_flight(int rank, int n, void *arg)
{
	static int32_t in[IN_FLIGHT + 1][2], out[IN_FLIGHT + 1][2];
	static rdt_request *requests[IN_FLIGHT + 1];
	const size_t counts[2] = { 1, 1 };
	rdt_comm *comm;

	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (int k = 0; k <= IN_FLIGHT; k++)
		for (int to = 0; to < 2; to++)
			in[k][to] = k * 100 + rank * 10 + to;
	for (int k = 0; k < IN_FLIGHT; k++)
		RANK_CHECK(rdt_alltoallv_start(comm, in[k], counts, out[k], counts, RDT_INT32,
					       &requests[k]) == 0);
	RANK_CHECK(rdt_alltoallv_start(comm, in[IN_FLIGHT], counts, out[IN_FLIGHT], counts,
				       RDT_INT32, &requests[IN_FLIGHT]) == RDT_ERR_INVALID);
	RANK_CHECK(strstr(rdt_last_error(), "256 operations are in flight"));
	for (int k = IN_FLIGHT - 1; k >= 0; k--)
		RANK_CHECK(rdt_wait(requests[k]) == 0);
	for (int k = 0; k < IN_FLIGHT; k++)
		for (int from = 0; from < 2; from++)
			RANK_CHECK(out[k][from] == k * 100 + from * 10 + rank);
	RANK_CHECK(check_sum(comm, rank, 2, 5) == 0);
	rdt_comm_destroy(comm);
	return 0;
}

static void operations_beyond_the_limit_are_told_and_do_no_harm(void **state)
{
	(void)state;
	assert_true(ranks_run(2, 120, in_flight, NULL));
}

static int start_twice(int rank, int n, void *arg)
{
	int32_t v[8];
	rdt_plan *plan;
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_allreduce_plan(comm, v, v, 8, RDT_INT32, RDT_SUM, &plan) == 0);
	for (int round = 0; round < 3; round++) {
		test_fill(v, 8, RDT_INT32, RDT_SUM, rank, round);
		RANK_CHECK(rdt_plan_start(plan) == 0);
		/* Whether it is over by now or not. */
		RANK_CHECK(rdt_plan_start(plan) == RDT_ERR_INVALID);
		RANK_CHECK(rdt_plan_wait(plan) == 0);
		RANK_CHECK(test_wrong(v, 8, RDT_INT32, RDT_SUM, n, round) == 0);
	}
	rdt_plan_destroy(plan);
	rdt_comm_destroy(comm);
	return 0;
}

static void a_plan_that_was_not_waited_for_does_not_start_again(void **state)
{
	(void)state;
	assert_true(ranks_run(2, 60, start_twice, NULL));
}

/* An algorithm that was asked for and does not suit: told on all ranks, and no harm done. */
static int unsuitable(int rank, int n, void *arg)
{
	int32_t v[8] = { 0 };
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_allreduce(comm, v, v, 8, RDT_INT32, RDT_SUM) == RDT_ERR_INVALID);
	RANK_CHECK(strstr(rdt_last_error(), "\"hierarchical-ring\": it does not suit"));
	RANK_CHECK(rdt_broadcast(comm, v, 8, RDT_INT32, 0) == 0);
	RANK_CHECK(rdt_allreduce(comm, v, v, 8, RDT_INT32, RDT_SUM) == RDT_ERR_INVALID);
	(void)rank;
	(void)n;
	rdt_comm_destroy(comm);
	return 0;
}

static void an_algorithm_that_does_not_suit_is_told_and_does_no_harm(void **state)
{
	(void)state;
	setenv("RDTRAIN_ALLREDUCE", "hierarchical-ring", 1); /* there is one host */
	assert_true(ranks_run(3, 60, unsuitable, NULL));
	unsetenv("RDTRAIN_ALLREDUCE");
}

/* One that does suit, but not RDTRAIN_CHECK=1. */
static int uncheckable(int rank, int n, void *arg)
{
	int32_t v[8] = { 0 };
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_allreduce(comm, v, v, 8, RDT_INT32, RDT_SUM) == RDT_ERR_INVALID);
	RANK_CHECK(strstr(rdt_last_error(), "\"direct\": it reads in other ranks' memory, of which "
					    "RDTRAIN_CHECK=1 can check nothing; oneshot"));
	(void)rank;
	(void)n;
	rdt_comm_destroy(comm);
	return 0;
}

static void an_algorithm_that_cannot_be_checked_is_told(void **state)
{
	const char *transport = getenv("RDTRAIN_TRANSPORT");
	bool checked = ranks_checked();

	(void)state;
	if (transport && strcmp(transport, "verbs") == 0)
		skip(); /* it never suits */
	setenv("RDTRAIN_ALLREDUCE", "direct", 1);
	setenv("RDTRAIN_CHECK", "1", 1);
	assert_true(ranks_run(2, 60, uncheckable, NULL));
	unsetenv("RDTRAIN_ALLREDUCE");
	if (!checked)
		unsetenv("RDTRAIN_CHECK");
}

static int misspelt(int rank, int n, void *arg)
{
	rdt_comm *comm = NULL;

	(void)rank;
	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == RDT_ERR_INVALID && !comm);
	RANK_CHECK(strstr(rdt_last_error(), "RDTRAIN_ALLREDUCE=rink names no algorithm"));
	RANK_CHECK(strstr(rdt_last_error(), ", ring,"));
	return 0;
}

static void a_misspelt_algorithm_is_told_at_once(void **state)
{
	(void)state;
	setenv("RDTRAIN_ALLREDUCE", "rink", 1);
	assert_true(ranks_run(2, 20, misspelt, NULL));
	unsetenv("RDTRAIN_ALLREDUCE");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plans_beyond_the_limit_are_told_and_do_no_harm),
		cmocka_unit_test(operations_beyond_the_limit_are_told_and_do_no_harm),
		cmocka_unit_test(a_plan_that_was_not_waited_for_does_not_start_again),
		cmocka_unit_test(an_algorithm_that_does_not_suit_is_told_and_does_no_harm),
		cmocka_unit_test(an_algorithm_that_cannot_be_checked_is_told),
		cmocka_unit_test(a_misspelt_algorithm_is_told_at_once),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
