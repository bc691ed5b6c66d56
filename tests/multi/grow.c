/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * New workers in a job that runs: they wait at the rendezvous, the members admit them, and the
 * larger communicator works. Also after a shrink, down to a single rank. And the deadlines that a
 * caller sets for itself.
 */
#include "ranks.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/clock.h"

#define COUNT 10007

static bool sums(rdt_comm *comm)
{
	int n = rdt_comm_size(comm);
	static float v[COUNT];

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < COUNT; i++)
			v[i] = (float)(rdt_comm_rank(comm) + 1 + (int)(i % 7));
		if (rdt_allreduce(comm, v, v, COUNT, RDT_FLOAT32, RDT_SUM))
			return false;
		for (size_t i = 0; i < COUNT; i++)
			if (v[i] != (float)(n * (n + 1) / 2 + n * (int)(i % 7)))
				return false;
	}
	return true;
}

static bool wait_for_newcomers(rdt_comm *comm, int n)
{
	int64_t deadline = rdt_deadline(20);

	while (rdt_comm_waiting(comm) != n) {
		if (rdt_now() > deadline)
			return false;
		usleep(1000);
	}
	return true;
}

/* A process that joins; for members too, which take its place in this file. */
static int newcomer(int size_then)
{
	rdt_comm *comm;

	setenv("RDTRAIN_JOIN", "1", 1);
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	unsetenv("RDTRAIN_JOIN");
	RANK_CHECK(rdt_comm_size(comm) == size_then);
	RANK_CHECK(rdt_comm_rank(comm) > 0);
	RANK_CHECK(sums(comm));
	rdt_comm_destroy(comm);
	return 0;
}

/* ---- the tests ----------------------------------------------------------------------------------
 */

static int grow(int rank, int n, void *arg)
{
	int members = *(int *)arg;
	rdt_comm *comm, *larger;
	char text[16];

	if (rank >= members)
		return newcomer(n);
	snprintf(text, sizeof(text), "%d", members);
	setenv("RDTRAIN_SIZE", text, 1);
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(sums(comm));
	RANK_CHECK(wait_for_newcomers(comm, n - members));
	RANK_CHECK(rdt_comm_grow(comm, &larger) == 0 && larger);
	RANK_CHECK(rdt_comm_rank(larger) == rank && rdt_comm_size(larger) == n);
	RANK_CHECK(sums(larger));
	/* The smaller one is as it was, and nobody waits any more. */
	RANK_CHECK(sums(comm));
	RANK_CHECK(wait_for_newcomers(comm, 0));
	rdt_comm_destroy(larger);
	RANK_CHECK(rdt_comm_grow(comm, &larger) == 0 && !larger);
	RANK_CHECK(sums(comm));
	rdt_comm_destroy(comm);
	return 0;
}

static void newcomers_get_the_last_ranks(void **state)
{
	static const int members[] = { 2, 3 };

	(void)state;
	assert_true(ranks_run(3, 60, grow, (void *)&members[0]));
	assert_true(ranks_run(6, 60, grow, (void *)&members[1]));
}

/* Rank 1 is killed; the survivor is alone; another takes its place. */
static int replaced(int rank, int n, void *arg)
{
	uint32_t *alone = ranks_shared();
	rdt_comm *comm, *rest, *larger;

	(void)n;
	(void)arg;
	if (rank == 2) {
		while (!__atomic_load_n(alone, __ATOMIC_ACQUIRE))
			usleep(1000);
		return newcomer(2);
	}
	setenv("RDTRAIN_SIZE", "2", 1);
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(sums(comm));
	if (rank == 1)
		kill(getpid(), SIGKILL);
	while (rdt_barrier(comm) == 0)
		;
	RANK_CHECK(rdt_comm_shrink(comm, &rest) == 0);
	rdt_comm_destroy(comm);
	RANK_CHECK(rdt_comm_size(rest) == 1 && rdt_comm_waiting(rest) == 0);
	__atomic_store_n(alone, 1, __ATOMIC_RELEASE);
	RANK_CHECK(wait_for_newcomers(rest, 1));
	RANK_CHECK(rdt_comm_grow(rest, &larger) == 0 && larger);
	rdt_comm_destroy(rest);
	RANK_CHECK(rdt_comm_size(larger) == 2);
	RANK_CHECK(sums(larger));
	rdt_comm_destroy(larger);
	return 0;
}

static void a_killed_rank_is_replaced(void **state)
{
	struct ranks_result result;

	(void)state;
	ranks_run_result(3, 60, replaced, NULL, &result);
	assert_false(result.timed_out);
	assert_true(WIFSIGNALED(result.status[1]));
	assert_int_equal(result.status[0], 0);
	assert_int_equal(result.status[2], 0);
}

/* A newcomer that dies while it waits, or is being admitted, holds nobody up. */
static int dying(int rank, int n, void *arg)
{
	int delay_us = *(int *)arg;
	rdt_comm *comm, *larger;

	if (rank == n - 1) {
		if (fork() == 0) {
			usleep((useconds_t)delay_us);
			kill(ranks_pid(n - 1), SIGKILL);
			_exit(0);
		}
		setenv("RDTRAIN_JOIN", "1", 1);
		if (rdt_comm_create(NULL, &comm) == 0)
			while (rdt_barrier(comm) == 0)
				;
		sleep(20);
		return 1;
	}
	setenv("RDTRAIN_SIZE", "2", 1);
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (int i = 0; i < 20; i++) {
		RANK_CHECK(rdt_comm_grow(comm, &larger) == 0);
		if (larger) { /* it was there for a moment */
			rdt_comm *rest;

			RANK_CHECK(rdt_comm_size(larger) == 3);
			while (rdt_barrier(larger) == 0)
				;
			RANK_CHECK(rdt_comm_shrink(larger, &rest) == 0);
			RANK_CHECK(rdt_comm_size(rest) == 2 && sums(rest));
			rdt_comm_destroy(larger);
			rdt_comm_destroy(rest);
		}
		RANK_CHECK(sums(comm));
		usleep(5000);
	}
	rdt_comm_destroy(comm);
	return 0;
}

static void a_newcomer_that_dies_holds_nobody_up(void **state)
{
	static const int delays_us[] = { 10000, 25000, 50000 };
	struct ranks_result result;

	(void)state;
	for (size_t i = 0; i < sizeof(delays_us) / sizeof(delays_us[0]); i++) {
		ranks_run_result(3, 60, dying, (void *)&delays_us[i], &result);
		assert_false(result.timed_out);
		assert_int_equal(result.status[0], 0);
		assert_int_equal(result.status[1], 0);
	}
}

static int unwanted(int rank, int n, void *arg)
{
	rdt_comm *comm;

	(void)n;
	(void)arg;
	if (rank == 2) {
		setenv("RDTRAIN_JOIN", "1", 1);
		RANK_CHECK(rdt_comm_create(NULL, &comm) == RDT_ERR_ABORTED);
		RANK_CHECK(strstr(rdt_last_error(), "has ended"));
		setenv("RDTRAIN_START_TIMEOUT", "0.3", 1);
		RANK_CHECK(rdt_comm_create(NULL, &comm) == RDT_ERR_TIMEOUT);
		RANK_CHECK(strstr(rdt_last_error(), "rdt_comm_grow"));
		setenv("RDTRAIN_JOIN", "yes", 1);
		RANK_CHECK(rdt_comm_create(NULL, &comm) == RDT_ERR_INVALID);
		setenv("RDTRAIN_JOIN", "1", 1);
		setenv("RDTRAIN_SECRET", "another one", 1);
		RANK_CHECK(rdt_comm_create(NULL, &comm) == RDT_ERR_AUTH);
		return 0;
	}
	setenv("RDTRAIN_SIZE", "2", 1);
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(wait_for_newcomers(comm, 1));
	RANK_CHECK(sums(comm));
	rdt_comm_destroy(comm);
	return 0;
}

static void a_newcomer_is_told_when_nobody_admits_it(void **state)
{
	(void)state;
	assert_true(ranks_run(3, 60, unwanted, NULL));
}

/* ---- deadlines of one's own ---------------------------------------------------------------------
 */

static int in_vain(int rank, int n, void *arg)
{
	int form = *(int *)arg;
	uint32_t *done = ranks_shared();
	rdt_request *request;
	rdt_plan *plan;
	rdt_comm *comm;
	int64_t from;
	int status;

	(void)n;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_barrier_plan(comm, &plan) == 0);
	RANK_CHECK(rdt_barrier(comm) == 0);
	RANK_CHECK(rdt_comm_set_timeout(comm, 0) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_comm_set_timeout(NULL, 1) == RDT_ERR_INVALID);
	if (rank == 1) { /* busy elsewhere */
		while (!__atomic_load_n(done, __ATOMIC_ACQUIRE))
			usleep(1000);
		RANK_CHECK(rdt_barrier(comm) == RDT_ERR_TIMEOUT || rdt_barrier(comm));
		rdt_comm_destroy(comm);
		return 0;
	}
	from = rdt_now();
	if (form == 0) {
		RANK_CHECK(rdt_comm_set_timeout(comm, 0.5) == 0);
		status = rdt_barrier(comm);
	} else if (form == 1) {
		RANK_CHECK(rdt_barrier_start(comm, &request) == 0);
		RANK_CHECK(rdt_wait_within(request, -1) == RDT_ERR_INVALID);
		status = rdt_wait_within(request, 0.5);
	} else {
		RANK_CHECK(rdt_plan_start(plan) == 0);
		status = rdt_plan_wait_within(plan, 0.5);
	}
	RANK_CHECK(status == RDT_ERR_TIMEOUT);
	RANK_CHECK(rdt_now() - from >= 490000000 && rdt_now() - from < 3000000000);
	RANK_CHECK(rdt_comm_lost(comm, NULL, 0) == 1);
	__atomic_store_n(done, 1, __ATOMIC_RELEASE);
	rdt_comm_destroy(comm);
	return 0;
}

static void a_call_ends_at_the_deadline_that_it_was_given(void **state)
{
	(void)state;
	for (int form = 0; form < 3; form++)
		assert_true(ranks_run(3, 60, in_vain, &form));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(newcomers_get_the_last_ranks),
		cmocka_unit_test(a_killed_rank_is_replaced),
		cmocka_unit_test(a_newcomer_that_dies_holds_nobody_up),
		cmocka_unit_test(a_newcomer_is_told_when_nobody_admits_it),
		cmocka_unit_test(a_call_ends_at_the_deadline_that_it_was_given),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
