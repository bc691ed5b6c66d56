/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the survivors see: a rank killed in the middle of an operation, a rank stopped, a rank that
 * leaves or aborts. Bounds here are deadlines that the design promises, not measurements of speed.
 */
#include "ranks.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/clock.h"
#include "values.h"

#define VICTIM 1

/* When the victim's end came, in rdt_now() time; 0 before. */
struct moment {
	int64_t at;
};

/* ---- killed
 * ------------------------------------------------------------------------------------------- */

enum form { BLOCKING, STARTED_AND_TESTED, PLANNED };

static int kill_in_the_middle(int rank, int n, void *arg)
{
	enum { COUNT = 500003 };
	enum form form = *(enum form *)arg;
	struct moment *killed = ranks_shared();
	float *v = calloc(COUNT, sizeof(float));
	int lost[RANKS_MAX], status = 0;
	rdt_plan *plan = NULL;
	rdt_comm *comm;
	char name[32];

	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	if (form == PLANNED)
		RANK_CHECK(rdt_allreduce_plan(comm, v, v, COUNT, RDT_FLOAT32, RDT_AVG, &plan) == 0);
	for (int round = 0; status == 0; round++) {
		if (rank == VICTIM && round == 5) {
			rdt_request *request;

			/* Killed with the operation under way: some of its data is out, the rest is
			 * not. */
			if (form == PLANNED)
				rdt_plan_start(plan);
			else
				rdt_allreduce_start(comm, v, v, COUNT, RDT_FLOAT32, RDT_AVG,
						    &request);
			__atomic_store_n(&killed->at, rdt_now(), __ATOMIC_RELEASE);
			kill(getpid(), SIGKILL);
		}
		if (form == BLOCKING) {
			status = rdt_allreduce(comm, v, v, COUNT, RDT_FLOAT32, RDT_AVG);
		} else if (form == PLANNED) {
			status = rdt_plan_start(plan);
			if (status == 0)
				status = rdt_plan_wait(plan);
		} else {
			rdt_request *request;

			status = rdt_allreduce_start(comm, v, v, COUNT, RDT_FLOAT32, RDT_AVG,
						     &request);
			for (int done = 0; status == 0 && !done;)
				status = rdt_test(request, &done);
		}
	}
	RANK_CHECK(status == RDT_ERR_PEER_LOST);
	printf("rank %d of %d: told after %.1f ms: %s\n", rank, n,
	       (double)(rdt_now() - __atomic_load_n(&killed->at, __ATOMIC_ACQUIRE)) / 1e6,
	       rdt_last_error());
	RANK_CHECK(rdt_now() - killed->at < 1000000000);
	snprintf(name, sizeof(name), "rank %d", VICTIM);
	RANK_CHECK(strstr(rdt_last_error(), name));
	RANK_CHECK(rdt_comm_lost(comm, lost, RANKS_MAX) == 1 && lost[0] == VICTIM);
	/* Every later call says the same. */
	RANK_CHECK(rdt_barrier(comm) == RDT_ERR_PEER_LOST);
	RANK_CHECK(rdt_allreduce(comm, v, v, 1, RDT_FLOAT32, RDT_SUM) == RDT_ERR_PEER_LOST);
	rdt_plan_destroy(plan);
	rdt_comm_destroy(comm);
	free(v);
	return 0;
}

/* All but the victim end well, and the victim by SIGKILL. */
static void expect_survivors(int n, int (*fn)(int, int, void *), void *arg)
{
	struct ranks_result result;

	ranks_run_result(n, 60, fn, arg, &result);
	assert_false(result.timed_out);
	for (int r = 0; r < n; r++) {
		if (r == VICTIM)
			assert_true(WIFSIGNALED(result.status[r]) &&
				    WTERMSIG(result.status[r]) == SIGKILL);
		else
			assert_true(WIFEXITED(result.status[r]) &&
				    WEXITSTATUS(result.status[r]) == 0);
	}
}

static void a_killed_rank_is_named_within_a_second(void **state)
{
	(void)state;
	for (enum form form = BLOCKING; form <= PLANNED; form++)
		for (int n = 2; n <= 5; n++)
			expect_survivors(n, kill_in_the_middle, &form);
}

/* Killed while the others make a plan or are about to connect. */
static int kill_before_plan(int rank, int n, void *arg)
{
	struct moment *killed = ranks_shared();
	float v[4] = { 0 };
	rdt_comm *comm;
	int status;

	(void)n;
	(void)arg;
	status = rdt_comm_create(NULL, &comm);
	if (rank == VICTIM) {
		__atomic_store_n(&killed->at, rdt_now(), __ATOMIC_RELEASE);
		kill(getpid(), SIGKILL);
	}
	/* It may come to its end before a slow rank is through with this. */
	if (status == RDT_ERR_PEER_LOST) {
		RANK_CHECK(strstr(rdt_last_error(), "rank 1"));
		return 0;
	}
	RANK_CHECK(status == 0);
	RANK_CHECK(rdt_allreduce(comm, v, v, 4, RDT_FLOAT32, RDT_SUM) == RDT_ERR_PEER_LOST);
	RANK_CHECK(strstr(rdt_last_error(), "rank 1"));
	if (__atomic_load_n(&killed->at, __ATOMIC_ACQUIRE))
		RANK_CHECK(rdt_now() - killed->at < 1000000000);
	rdt_comm_destroy(comm);
	return 0;
}

/* The plan is what the rank dies in. */
static int kill_in_plan(int rank, int n, void *arg)
{
	float v[4] = { 0 };
	int lost[RANKS_MAX];
	rdt_plan *plan;
	rdt_comm *comm;

	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_barrier(comm) == 0);
	if (rank == VICTIM)
		kill(getpid(), SIGKILL);
	plan = (rdt_plan *)comm; /* anything but NULL */
	RANK_CHECK(rdt_allreduce_plan(comm, v, v, 4, RDT_FLOAT32, RDT_SUM, &plan) ==
		   RDT_ERR_PEER_LOST);
	RANK_CHECK(plan == NULL);
	RANK_CHECK(rdt_comm_lost(comm, lost, RANKS_MAX) == 1 && lost[0] == VICTIM);
	rdt_plan_destroy(plan);
	rdt_comm_destroy(comm);
	return 0;
}

static void a_plan_that_could_not_be_made_is_null(void **state)
{
	(void)state;
	for (int n = 2; n <= 4; n++)
		expect_survivors(n, kill_in_plan, NULL);
}

static void a_rank_killed_while_a_plan_is_made_is_named_within_a_second(void **state)
{
	(void)state;
	expect_survivors(2, kill_before_plan, NULL);
	expect_survivors(4, kill_before_plan, NULL);
}

/* ---- stopped
 * ------------------------------------------------------------------------------------------- */

/* One that polls reads its peers' journals on verbs, again and again: that is no progress. */
static int poll_sum(rdt_comm *comm, float *v)
{
	rdt_request *request;
	int done = 0, status;

	status = rdt_allreduce_start(comm, v, v, 1000, RDT_FLOAT32, RDT_SUM, &request);
	while (!status && !done)
		status = rdt_test(request, &done);
	return status;
}

static int stopped(int rank, int n, void *arg)
{
	bool polls = *(bool *)arg;
	struct moment *stop = ranks_shared();
	float v[1000] = { 0 };
	int64_t from;
	rdt_comm *comm;
	int status;

	(void)n;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_allreduce(comm, v, v, 1000, RDT_FLOAT32, RDT_SUM) == 0);
	if (rank == VICTIM) {
		__atomic_store_n(&stop->at, rdt_now(), __ATOMIC_RELEASE);
		kill(getpid(), SIGSTOP);
		return 0;
	}
	from = rdt_now();
	status = polls ? poll_sum(comm, v) : rdt_allreduce(comm, v, v, 1000, RDT_FLOAT32, RDT_SUM);
	RANK_CHECK(status == RDT_ERR_TIMEOUT);
	RANK_CHECK(strstr(rdt_last_error(), "rank 1"));
	RANK_CHECK(rdt_now() - from < 3000000000);
	rdt_comm_destroy(comm);
	/* Nobody else wakes the victim; once it is told, it ends like the others. */
	kill(ranks_pid(VICTIM), SIGKILL);
	return 0;
}

static void a_stopped_rank_is_named_at_the_deadline(void **state)
{
	bool polls = false;

	(void)state;
	setenv("RDTRAIN_TIMEOUT", "2", 1);
	expect_survivors(2, stopped, &polls);
	expect_survivors(3, stopped, &polls);
	polls = true;
	expect_survivors(3, stopped, &polls);
	unsetenv("RDTRAIN_TIMEOUT");
}

/* ---- slow, leaving, aborting
 * --------------------------------------------------------------------------- */

static int slow(int rank, int n, void *arg)
{
	float v = 1;
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (int round = 0; round < 2; round++) {
		v = 1;
		/* Long enough for every one of the others to be asleep. */
		if (rank == round % n)
			sleep(3);
		RANK_CHECK(rdt_allreduce(comm, &v, &v, 1, RDT_FLOAT32, RDT_SUM) == 0);
		RANK_CHECK(v == (float)n);
	}
	rdt_comm_destroy(comm);
	return 0;
}

static void a_rank_that_computes_for_long_is_not_lost(void **state)
{
	(void)state;
	assert_true(ranks_run(3, 60, slow, NULL));
}

static int leaving(int rank, int n, void *arg)
{
	float v = 1;
	rdt_comm *comm;

	(void)n;
	(void)arg;
	/* The one that leaves waits for the others as long as one operation may take, here: less
	 * long. */
	if (rank == VICTIM)
		setenv("RDTRAIN_TIMEOUT", "1", 1);
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_allreduce(comm, &v, &v, 1, RDT_FLOAT32, RDT_SUM) == 0);
	if (rank != VICTIM) {
		RANK_CHECK(rdt_allreduce(comm, &v, &v, 1, RDT_FLOAT32, RDT_SUM) ==
			   RDT_ERR_PEER_LOST);
		RANK_CHECK(strstr(rdt_last_error(), "left"));
	}
	rdt_comm_destroy(comm);
	return 0;
}

static void a_rank_that_leaves_while_it_is_waited_for_is_an_error(void **state)
{
	(void)state;
	assert_true(ranks_run(2, 60, leaving, NULL));
}

static int aborting(int rank, int n, void *arg)
{
	uint32_t *through = ranks_shared();
	float v = 1;
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_allreduce(comm, &v, &v, 1, RDT_FLOAT32, RDT_SUM) == 0);
	__atomic_add_fetch(through, 1, __ATOMIC_RELEASE);
	/* Who is through is not sure that the others are: an abort would end this call for them. */
	while (rank == VICTIM && __atomic_load_n(through, __ATOMIC_ACQUIRE) < (uint32_t)n)
		usleep(100);
	if (rank == VICTIM)
		RANK_CHECK(rdt_comm_abort(comm) == 0);
	RANK_CHECK(rdt_allreduce(comm, &v, &v, 1, RDT_FLOAT32, RDT_SUM) == RDT_ERR_ABORTED);
	RANK_CHECK(strstr(rdt_last_error(), "rank 1 called rdt_comm_abort"));
	rdt_comm_destroy(comm);
	return 0;
}

static void an_abort_ends_the_calls_of_all_ranks(void **state)
{
	(void)state;
	assert_true(ranks_run(2, 60, aborting, NULL));
	assert_true(ranks_run(5, 60, aborting, NULL));
}

/* ---- starting
 * ------------------------------------------------------------------------------------------- */

static int alone(int rank, int n, void *arg)
{
	rdt_comm *comm;
	int64_t from = rdt_now();

	(void)n;
	(void)arg;
	if (rank == VICTIM)
		return 0; /* never comes */
	RANK_CHECK(rdt_comm_create(NULL, &comm) == RDT_ERR_TIMEOUT);
	RANK_CHECK(strstr(rdt_last_error(), "1"));
	RANK_CHECK(rdt_now() - from < 3000000000);
	return 0;
}

static void a_rank_that_never_starts_is_named_at_the_deadline(void **state)
{
	(void)state;
	setenv("RDTRAIN_START_TIMEOUT", "1", 1);
	assert_true(ranks_run(2, 60, alone, NULL));
	unsetenv("RDTRAIN_START_TIMEOUT");
}

static int wrong_secret(int rank, int n, void *arg)
{
	rdt_comm *comm;
	int64_t from = rdt_now();

	(void)rank;
	(void)n;
	(void)arg;
	setenv("RDTRAIN_SECRET", "another one", 1);
	RANK_CHECK(rdt_comm_create(NULL, &comm) == RDT_ERR_AUTH);
	RANK_CHECK(rdt_now() - from < 1000000000);
	RANK_CHECK(strlen(rdt_last_error()) > 20);
	unsetenv("RDTRAIN_SECRET");
	RANK_CHECK(rdt_comm_create(NULL, &comm) == RDT_ERR_AUTH);
	return 0;
}

static void a_wrong_or_missing_secret_is_refused_within_a_second(void **state)
{
	(void)state;
	assert_true(ranks_run(2, 60, wrong_secret, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_killed_rank_is_named_within_a_second),
		cmocka_unit_test(a_rank_killed_while_a_plan_is_made_is_named_within_a_second),
		cmocka_unit_test(a_plan_that_could_not_be_made_is_null),
		cmocka_unit_test(a_stopped_rank_is_named_at_the_deadline),
		cmocka_unit_test(a_rank_that_computes_for_long_is_not_lost),
		cmocka_unit_test(a_rank_that_leaves_while_it_is_waited_for_is_an_error),
		cmocka_unit_test(an_abort_ends_the_calls_of_all_ranks),
		cmocka_unit_test(a_rank_that_never_starts_is_named_at_the_deadline),
		cmocka_unit_test(a_wrong_or_missing_secret_is_refused_within_a_second),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
