/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Without the rendezvous, whose service is killed under a communicator that is at work: links that
 * are up go on, and what ends one rank is still told to those of its host.
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

struct shared {
	uint32_t ready, done;
};

static int sum(rdt_comm *comm)
{
	int n = rdt_comm_size(comm), status;
	float v[1001];

	for (int i = 0; i < 1001; i++)
		v[i] = (float)(rdt_comm_rank(comm) + i % 7);
	status = rdt_allreduce(comm, v, v, 1001, RDT_FLOAT32, RDT_SUM);
	for (int i = 0; i < 1001 && !status; i++)
		if (v[i] != (float)(n * (n - 1) / 2 + n * (i % 7)))
			return RDT_ERR_CORRUPT;
	return status;
}

/* All are connected, and the service has gone. */
static int begin(int rank, int n, rdt_comm **comm)
{
	struct shared *shared = ranks_shared();

	RANK_CHECK(rdt_comm_create(NULL, comm) == 0);
	RANK_CHECK(sum(*comm) == 0);
	RANK_CHECK(ranks_meet(&shared->ready, (uint32_t)n));
	if (rank == 0)
		ranks_kill_service();
	RANK_CHECK(ranks_meet(&shared->ready, (uint32_t)(2 * n)));
	usleep(300000); /* to notice it */
	for (int i = 0; i < 20; i++)
		RANK_CHECK(sum(*comm) == 0);
	return ranks_meet(&shared->ready, (uint32_t)(3 * n)) ? 0 : 1;
}

static void expect(int n, int dead, int (*fn)(int, int, void *))
{
	struct ranks_result result;

	ranks_run_result(n, 60, fn, NULL, &result);
	assert_false(result.timed_out);
	for (int r = 0; r < n; r++) {
		if (r == dead)
			assert_true(WIFSIGNALED(result.status[r]) &&
				    WTERMSIG(result.status[r]) == SIGKILL);
		else
			assert_true(WIFEXITED(result.status[r]) &&
				    WEXITSTATUS(result.status[r]) == 0);
	}
}

static int killed(int rank, int n, void *arg)
{
	rdt_comm *comm;
	int status = 0;

	(void)arg;
	RANK_CHECK(begin(rank, n, &comm) == 0);
	if (rank == 1)
		kill(getpid(), SIGKILL);
	while (!status)
		status = sum(comm);
	RANK_CHECK(status == RDT_ERR_PEER_LOST);
	RANK_CHECK(ranks_lost(comm) == 2);
	rdt_comm_destroy(comm);
	return 0;
}

static void a_killed_rank_is_named_by_all(void **state)
{
	(void)state;
	expect(2, 1, killed);
	expect(3, 1, killed);
	expect(5, 1, killed);
}

/* One is late, the others' first deadline ends all of them, and who had it leaves at once. */
static int late(int rank, int n, void *arg)
{
	struct shared *shared = ranks_shared();
	rdt_comm *comm;
	int status;

	(void)arg;
	RANK_CHECK(begin(rank, n, &comm) == 0);
	if (rank == n - 1) {
		while (__atomic_load_n(&shared->done, __ATOMIC_ACQUIRE) < (uint32_t)n - 1)
			usleep(1000);
		rdt_comm_destroy(comm);
		return 0;
	}
	if (rank > 0)
		rdt_comm_set_timeout(comm, 30);
	status = sum(comm);
	RANK_CHECK(status == RDT_ERR_TIMEOUT);
	RANK_CHECK(ranks_lost(comm) & 1u << (n - 1));
	__atomic_add_fetch(&shared->done, 1, __ATOMIC_ACQ_REL);
	/* No good-bye: as after an error that ends the program. */
	if (rank == 0)
		_exit(0);
	rdt_comm_destroy(comm);
	return 0;
}

static void the_first_deadline_ends_all(void **state)
{
	(void)state;
	setenv("RDTRAIN_TIMEOUT", "1", 1);
	/* Of three, each waits for each other. */
	expect(3, -1, late);
	unsetenv("RDTRAIN_TIMEOUT");
}

/* The only call of all: a receive, from a rank that gives up. */
static int received(int rank, int n, void *arg)
{
	struct shared *shared = ranks_shared();
	rdt_comm *comm;
	int32_t v = 0;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	/* It opens the pair. */
	RANK_CHECK((rank ? rdt_recv(comm, &v, 1, RDT_INT32, 0)
			 : rdt_send(comm, &v, 1, RDT_INT32, 1)) == 0);
	RANK_CHECK(ranks_meet(&shared->ready, (uint32_t)n));
	if (rank == 0)
		ranks_kill_service();
	RANK_CHECK(ranks_meet(&shared->ready, (uint32_t)(2 * n)));
	if (rank == 0) {
		usleep(300000);
		RANK_CHECK(rdt_comm_abort(comm) == 0);
	} else {
		RANK_CHECK(rdt_recv(comm, &v, 1, RDT_INT32, 0) == RDT_ERR_ABORTED);
	}
	rdt_comm_destroy(comm);
	return 0;
}

static void a_receiver_hears_that_its_sender_has_given_up(void **state)
{
	(void)state;
	expect(2, -1, received);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_killed_rank_is_named_by_all),
		cmocka_unit_test(the_first_deadline_ends_all),
		cmocka_unit_test(a_receiver_hears_that_its_sender_has_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
