/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Going on after a failure: the survivors agree on who is lost, make a communicator of their own,
 * and it works; even if more die on the way, and whatever those do that were left behind.
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

#define COUNT 50021

/* What the ranks tell each other, beside the library. */
struct shared {
	uint32_t lost[RANKS_MAX]; /* one bit a rank, as each survivor saw it; bit 31: it has */
	uint32_t ready, done;
	int64_t at;
};

static bool victim(uint32_t set, int rank)
{
	return set >> rank & 1;
}

/* ---- steps of the tests -------------------------------------------------------------------------
 */

static bool sums(rdt_comm *comm, float *v, size_t count)
{
	int n = rdt_comm_size(comm);

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < count; i++)
			v[i] = (float)(rdt_comm_rank(comm) + 1 + (int)(i % 7));
		if (rdt_allreduce(comm, v, v, count, RDT_FLOAT32, RDT_SUM))
			return false;
		for (size_t i = 0; i < count; i++)
			if (v[i] != (float)(n * (n + 1) / 2 + n * (int)(i % 7)))
				return false;
	}
	return true;
}

/* Does every survivor see the same? Waits for them. */
static bool agree_on_lost(struct shared *shared, rdt_comm *comm, int rank, int n, uint32_t dead)
{
	uint32_t mine = ranks_lost(comm) | 1u << 31;

	__atomic_store_n(&shared->lost[rank], mine, __ATOMIC_RELEASE);
	for (int r = 0; r < n; r++) {
		int64_t deadline = rdt_deadline(10);
		uint32_t theirs = 0;

		if (victim(dead, r))
			continue;
		while (!(theirs = __atomic_load_n(&shared->lost[r], __ATOMIC_ACQUIRE)))
			if (rdt_now() > deadline)
				return false;
		if (theirs != mine) {
			fprintf(stderr, "rank %d: lost 0x%x, rank %d: 0x%x\n", rank, mine, r,
				theirs);
			return false;
		}
	}
	return true;
}

/* The old ranks, in order, without the dead. */
static bool in_order(rdt_comm *comm, int rank, int n, uint32_t dead)
{
	int before = 0, all = 0;

	for (int r = 0; r < n; r++) {
		before += r < rank && !victim(dead, r);
		all += !victim(dead, r);
	}
	return rdt_comm_rank(comm) == before && rdt_comm_size(comm) == all;
}

static void die(struct shared *shared, int rank, int how)
{
	__atomic_store_n(&shared->at, rdt_now(), __ATOMIC_RELEASE);
	kill(ranks_pid(rank), how);
}

/* Who ends as: the dead by SIGKILL, the rest well. */
static void expect(int n, uint32_t dead, int (*fn)(int, int, void *), void *arg)
{
	struct ranks_result result;

	ranks_run_result(n, 60, fn, arg, &result);
	assert_false(result.timed_out);
	for (int r = 0; r < n; r++) {
		if (victim(dead, r))
			assert_true(WIFSIGNALED(result.status[r]) &&
				    WTERMSIG(result.status[r]) == SIGKILL);
		else
			assert_true(WIFEXITED(result.status[r]) &&
				    WEXITSTATUS(result.status[r]) == 0);
	}
}

/* ---- killed
 * ------------------------------------------------------------------------------------------- */

static int killed(int rank, int n, void *arg)
{
	uint32_t dead = *(uint32_t *)arg;
	struct shared *shared = ranks_shared();
	float *v = NULL;
	rdt_comm *comm, *rest;
	int status = 0;

	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_alloc(comm, COUNT * sizeof(*v), (void **)&v) == 0);
	RANK_CHECK(sums(comm, v, COUNT));
	RANK_CHECK(ranks_meet(&shared->ready, (uint32_t)n));
	if (victim(dead, rank)) {
		rdt_request *request;

		rdt_allreduce_start(comm, v, v, COUNT, RDT_FLOAT32, RDT_SUM, &request);
		die(shared, rank, SIGKILL);
	}
	while (status == 0)
		status = rdt_allreduce(comm, v, v, COUNT, RDT_FLOAT32, RDT_SUM);
	RANK_CHECK(status == RDT_ERR_PEER_LOST);
	RANK_CHECK((ranks_lost(comm) & ~dead) == 0 && ranks_lost(comm));
	RANK_CHECK(agree_on_lost(shared, comm, rank, n, dead));
	RANK_CHECK(rdt_comm_shrink(comm, &rest) == 0);
	RANK_CHECK(in_order(rest, rank, n, dead));
	RANK_CHECK(ranks_lost(rest) == 0);
	/* The old one is of no more use, and does no harm. */
	RANK_CHECK(rdt_barrier(comm) == RDT_ERR_PEER_LOST);
	memset(v, 0, COUNT * sizeof(*v));
	rdt_comm_destroy(comm);
	RANK_CHECK(rdt_alloc(rest, COUNT * sizeof(*v), (void **)&v) == 0);
	RANK_CHECK(sums(rest, v, COUNT));
	RANK_CHECK(sums(rest, v, 3));
	rdt_comm_destroy(rest);
	return 0;
}

static void survivors_of_killed_ranks_go_on_in_their_order(void **state)
{
	static const struct {
		int n;
		uint32_t dead;
	} cases[] = { { 2, 1 }, { 3, 2 }, { 5, 4 }, { 5, 1 | 8 }, { 6, 2 | 16 } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		expect(cases[i].n, cases[i].dead, killed, (void *)&cases[i].dead);
}

/* One dies; then another, on its way into the shrink or in it. */
static int killed_while_shrinking(int rank, int n, void *arg)
{
	int delay_us = *(int *)arg;
	struct shared *shared = ranks_shared();
	float v[1001];
	rdt_comm *comm, *rest;
	pid_t killer = 0;

	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(sums(comm, v, 1001));
	RANK_CHECK(ranks_meet(&shared->ready, (uint32_t)n));
	if (rank == 1)
		die(shared, rank, SIGKILL);
	while (rdt_allreduce(comm, v, v, 1001, RDT_FLOAT32, RDT_SUM) == 0)
		;
	RANK_CHECK(ranks_lost(comm) == 2);
	if (rank == 3) {
		killer = fork();
		if (killer == 0) {
			usleep((useconds_t)delay_us);
			kill(ranks_pid(3), SIGKILL);
			_exit(0);
		}
	}
	RANK_CHECK(rdt_comm_shrink(comm, &rest) == 0);
	rdt_comm_destroy(comm);
	if (rank == 3)
		sleep(30); /* it dies, in or after the shrink */
	/* It may have been there, and be lost to this one. */
	if (rdt_comm_size(rest) == n - 1) {
		int status = 0;

		while (!status)
			status = rdt_allreduce(rest, v, v, 1001, RDT_FLOAT32, RDT_SUM);
		RANK_CHECK(status == RDT_ERR_PEER_LOST);
		comm = rest;
		RANK_CHECK(rdt_comm_shrink(comm, &rest) == 0);
		rdt_comm_destroy(comm);
	}
	RANK_CHECK(in_order(rest, rank, n, 2 | 8));
	RANK_CHECK(sums(rest, v, 1001));
	rdt_comm_destroy(rest);
	return 0;
}

static void a_rank_killed_while_the_others_shrink_is_left_out_alike(void **state)
{
	static const int delays_us[] = { 0, 1000, 3000, 6000, 10000, 20000, 40000 };

	(void)state;
	for (size_t i = 0; i < sizeof(delays_us) / sizeof(delays_us[0]); i++)
		expect(5, 2 | 8, killed_while_shrinking, (void *)&delays_us[i]);
}

/* One after another, until one is left. */
static int until_one_is_left(int rank, int n, void *arg)
{
	struct shared *shared = ranks_shared();
	rdt_comm *comm, *rest;
	uint32_t met = 0;
	float v[77];

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (int left = n; left > 1; left--) {
		RANK_CHECK(rdt_comm_size(comm) == left);
		RANK_CHECK(sums(comm, v, 77));
		met += (uint32_t)left;
		RANK_CHECK(ranks_meet(&shared->ready, met));
		if (rank == left - 1)
			die(shared, rank, SIGKILL);
		while (rdt_allreduce(comm, v, v, 77, RDT_FLOAT32, RDT_SUM) == 0)
			;
		RANK_CHECK(ranks_lost(comm) == 1u << (left - 1));
		RANK_CHECK(rdt_comm_shrink(comm, &rest) == 0);
		rdt_comm_destroy(comm);
		comm = rest;
	}
	RANK_CHECK(sums(comm, v, 77));
	/* And one that is alone. */
	RANK_CHECK(rdt_comm_shrink(comm, &rest) == 0);
	RANK_CHECK(rdt_comm_size(rest) == 1);
	rdt_comm_destroy(comm);
	rdt_comm_destroy(rest);
	return 0;
}

static void a_shrunk_communicator_shrinks_again(void **state)
{
	(void)state;
	expect(4, 2 | 4 | 8, until_one_is_left, NULL);
}

/* ---- stopped
 * ------------------------------------------------------------------------------------------- */

/* Rank 1 stops in the middle of everything, and is woken when the others have gone on. */
static int stopped(int rank, int n, void *arg)
{
	struct shared *shared = ranks_shared();
	float *v = NULL, *w = NULL;
	rdt_comm *comm, *rest;
	int status = 0;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_alloc(comm, COUNT * sizeof(*v), (void **)&v) == 0);
	RANK_CHECK(sums(comm, v, COUNT));
	while (status == 0) {
		__atomic_store_n(&shared->at, rdt_now(), __ATOMIC_RELEASE);
		status = rdt_allreduce(comm, v, v, COUNT, RDT_FLOAT32, RDT_SUM);
		if (rank == 0 && __atomic_add_fetch(&shared->ready, 1, __ATOMIC_RELAXED) == 50)
			kill(ranks_pid(1), SIGSTOP);
	}
	RANK_CHECK(status == RDT_ERR_TIMEOUT);
	if (rank == 1) { /* woken: no damage done, and an error for all that it tries */
		RANK_CHECK(rdt_barrier(comm) == RDT_ERR_TIMEOUT);
		RANK_CHECK(rdt_comm_shrink(comm, &rest) == RDT_ERR_TIMEOUT);
		RANK_CHECK(rest == NULL && strstr(rdt_last_error(), "without it"));
		rdt_comm_destroy(comm);
		__atomic_store_n(&shared->done, 1, __ATOMIC_RELEASE);
		return 0;
	}
	RANK_CHECK(rdt_now() - shared->at < 2500000000);
	RANK_CHECK(strstr(rdt_last_error(), "rank 1"));
	RANK_CHECK(ranks_lost(comm) == 2);
	RANK_CHECK(agree_on_lost(shared, comm, rank, n, 2));
	RANK_CHECK(rdt_comm_shrink(comm, &rest) == 0);
	RANK_CHECK(in_order(rest, rank, n, 2));
	/* What is written to the old memory now stays. */
	memset(v, 0x55, COUNT * sizeof(*v));
	RANK_CHECK(rdt_alloc(rest, COUNT * sizeof(*w), (void **)&w) == 0);
	RANK_CHECK(sums(rest, w, COUNT));
	if (rdt_comm_rank(rest) == 0)
		kill(ranks_pid(1), SIGCONT);
	for (int32_t going = 1; going;) {
		RANK_CHECK(sums(rest, w, COUNT));
		going = !__atomic_load_n(&shared->done, __ATOMIC_ACQUIRE);
		RANK_CHECK(rdt_broadcast(rest, &going, 1, RDT_INT32, 0) == 0);
	}
	for (size_t i = 0; i < COUNT * sizeof(*v); i++)
		RANK_CHECK(((unsigned char *)v)[i] == 0x55);
	rdt_comm_destroy(comm);
	rdt_comm_destroy(rest);
	return 0;
}

static void a_stopped_rank_is_left_behind_and_gets_an_error_when_it_wakes(void **state)
{
	(void)state;
	setenv("RDTRAIN_TIMEOUT", "2", 1);
	expect(2, 0, stopped, NULL);
	expect(5, 0, stopped, NULL);
	unsetenv("RDTRAIN_TIMEOUT");
}

/* Late, but there: after a deadline a rank that comes to the shrink in time is a survivor. */
static int late(int rank, int n, void *arg)
{
	struct shared *shared = ranks_shared();
	rdt_comm *comm, *rest;
	float v[5];
	int status;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(sums(comm, v, 5));
	if (rank == 1) {
		while (__atomic_load_n(&shared->ready, __ATOMIC_ACQUIRE) < (uint32_t)n - 1)
			usleep(100);
	}
	/* For the late one the first may be complete: all others have given their part. */
	do
		status = rdt_allreduce(comm, v, v, 5, RDT_FLOAT32, RDT_SUM);
	while (status == 0);
	RANK_CHECK(status == RDT_ERR_TIMEOUT);
	__atomic_add_fetch(&shared->ready, 1, __ATOMIC_RELEASE);
	RANK_CHECK(ranks_lost(comm) == 2);
	RANK_CHECK(rdt_comm_shrink(comm, &rest) == 0);
	RANK_CHECK(in_order(rest, rank, n, 0));
	RANK_CHECK(sums(rest, v, 5));
	rdt_comm_destroy(comm);
	rdt_comm_destroy(rest);
	return 0;
}

static void a_rank_that_was_only_late_comes_along(void **state)
{
	(void)state;
	setenv("RDTRAIN_TIMEOUT", "1", 1);
	expect(3, 0, late, NULL);
	unsetenv("RDTRAIN_TIMEOUT");
}

/* Stopped when it has come to the shrink, or is about to. */
static int stopped_while_shrinking(int rank, int n, void *arg)
{
	int delay_us = *(int *)arg;
	struct shared *shared = ranks_shared();
	rdt_comm *comm, *rest;
	int64_t from;
	float v[1001];

	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(sums(comm, v, 1001));
	RANK_CHECK(ranks_meet(&shared->ready, (uint32_t)n));
	if (rank == 1)
		die(shared, rank, SIGKILL);
	while (rdt_allreduce(comm, v, v, 1001, RDT_FLOAT32, RDT_SUM) == 0)
		;
	if (rank == 3 && fork() == 0) {
		usleep((useconds_t)delay_us);
		kill(ranks_pid(3), SIGSTOP);
		/* And ended, when nobody waits for it any more. */
		for (int ms = 0; ms < 30000; ms++) {
			if (__atomic_load_n(&shared->done, __ATOMIC_ACQUIRE) >= (uint32_t)n - 2)
				break;
			usleep(1000);
		}
		kill(ranks_pid(3), SIGKILL);
		_exit(0);
	}
	from = rdt_now();
	RANK_CHECK(rdt_comm_shrink(comm, &rest) == 0);
	RANK_CHECK(rdt_now() - from < 4500000000);
	if (rank == 3)
		sleep(60);
	if (rdt_comm_size(rest) == n - 1) {
		RANK_CHECK(rdt_allreduce(rest, v, v, 1001, RDT_FLOAT32, RDT_SUM) ==
			   RDT_ERR_TIMEOUT);
		RANK_CHECK(ranks_lost(rest) == 4); /* rank 3 is rank 2 now */
		rdt_comm_destroy(comm);
		comm = rest;
		RANK_CHECK(rdt_comm_shrink(comm, &rest) == 0);
	}
	RANK_CHECK(in_order(rest, rank, n, 2 | 8));
	RANK_CHECK(sums(rest, v, 1001));
	__atomic_add_fetch(&shared->done, 1, __ATOMIC_RELEASE);
	rdt_comm_destroy(comm);
	rdt_comm_destroy(rest);
	return 0;
}

static void a_rank_stopped_while_the_others_shrink_is_left_out_in_time(void **state)
{
	static const int delays_us[] = { 0, 4000, 15000 };

	(void)state;
	setenv("RDTRAIN_TIMEOUT", "4", 1);
	for (size_t i = 0; i < sizeof(delays_us) / sizeof(delays_us[0]); i++)
		expect(5, 2 | 8, stopped_while_shrinking, (void *)&delays_us[i]);
	unsetenv("RDTRAIN_TIMEOUT");
}

/* ---- aborted, healthy, divided
 * --------------------------------------------------------------------------- */

static int aborted(int rank, int n, void *arg)
{
	rdt_comm *comm, *rest;
	float v[9];

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(sums(comm, v, 9));
	RANK_CHECK(rdt_barrier(comm) == 0 || rdt_comm_size(comm) == n);
	if (rank == n - 1)
		RANK_CHECK(rdt_comm_abort(comm) == 0);
	while (rdt_barrier(comm) == 0)
		;
	RANK_CHECK(rdt_barrier(comm) == RDT_ERR_ABORTED);
	RANK_CHECK(ranks_lost(comm) == 0);
	RANK_CHECK(rdt_comm_shrink(comm, &rest) == 0);
	RANK_CHECK(in_order(rest, rank, n, 0));
	RANK_CHECK(sums(rest, v, 9));
	rdt_comm_destroy(comm);
	/* One that is well ends for all who are in it, and goes on as another. */
	comm = rest;
	if (rank == 0) {
		RANK_CHECK(rdt_comm_shrink(comm, &rest) == 0);
	} else {
		while (rdt_barrier(comm) == 0)
			;
		RANK_CHECK(rdt_barrier(comm) == RDT_ERR_ABORTED);
		RANK_CHECK(rdt_comm_shrink(comm, &rest) == 0);
	}
	RANK_CHECK(in_order(rest, rank, n, 0));
	RANK_CHECK(sums(rest, v, 9));
	rdt_comm_destroy(comm);
	rdt_comm_destroy(rest);
	return 0;
}

static void after_an_abort_all_go_on(void **state)
{
	(void)state;
	expect(3, 0, aborted, NULL);
}

/* Parts of a communicator shrink on their own, and so does the whole. */
static int divided(int rank, int n, void *arg)
{
	struct shared *shared = ranks_shared();
	rdt_comm *comm, *part, *rest, *part_rest;
	int color = rank % 2;
	float v[33];

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_comm_split(comm, color, rank, &part) == 0);
	RANK_CHECK(sums(comm, v, 33));
	RANK_CHECK(sums(part, v, 33));
	RANK_CHECK(ranks_meet(&shared->ready, (uint32_t)n));
	if (rank == 1)
		die(shared, rank, SIGKILL);
	if (color == 1) {
		while (rdt_allreduce(part, v, v, 33, RDT_FLOAT32, RDT_SUM) == 0)
			;
		RANK_CHECK(ranks_lost(part) == 1);
		RANK_CHECK(rdt_comm_shrink(part, &part_rest) == 0);
		RANK_CHECK(rdt_comm_size(part_rest) == n / 2 - 1);
		rdt_comm_destroy(part);
		part = part_rest;
	}
	RANK_CHECK(sums(part, v, 33)); /* the other part has lost nobody */
	while (rdt_allreduce(comm, v, v, 33, RDT_FLOAT32, RDT_SUM) == 0)
		;
	RANK_CHECK(ranks_lost(comm) == 2);
	RANK_CHECK(rdt_comm_shrink(comm, &rest) == 0);
	RANK_CHECK(in_order(rest, rank, n, 2));
	RANK_CHECK(sums(rest, v, 33));
	RANK_CHECK(sums(part, v, 33));
	rdt_comm_destroy(part);
	rdt_comm_destroy(comm);
	rdt_comm_destroy(rest);
	return 0;
}

static void parts_of_a_communicator_shrink_on_their_own(void **state)
{
	(void)state;
	expect(6, 2, divided, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(survivors_of_killed_ranks_go_on_in_their_order),
		cmocka_unit_test(a_rank_killed_while_the_others_shrink_is_left_out_alike),
		cmocka_unit_test(a_shrunk_communicator_shrinks_again),
		cmocka_unit_test(a_stopped_rank_is_left_behind_and_gets_an_error_when_it_wakes),
		cmocka_unit_test(a_rank_that_was_only_late_comes_along),
		cmocka_unit_test(a_rank_stopped_while_the_others_shrink_is_left_out_in_time),
		cmocka_unit_test(after_an_abort_all_go_on),
		cmocka_unit_test(parts_of_a_communicator_shrink_on_their_own),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
