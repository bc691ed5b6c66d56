/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The lock: a plain counter is exact under it, it is fair, and it goes to the next when its holder
 * dies, sleeps beyond its lease, or a waiter gives up. RDTRAIN_TEST_INCREMENTS: how often each of
 * four ranks counts (10000).
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <rdtrain/train.h>

#include "ranks.h"

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* What lies at home: the counter, then the lock. */
#define COUNTER 0
#define LOCK 8

struct locked {
	rdt_comm *comm;
	rdt_window *window;
	rdt_lock *lock;
};

static int make(struct locked *l, int rank, int n, int home, double lease_s)
{
	RANK_CHECK(rdt_comm_create(NULL, &l->comm) == 0);
	RANK_CHECK(rdt_window_create(l->comm, NULL, rank == home ? LOCK + rdt_lock_bytes(n) : 0,
				     &l->window) == 0);
	RANK_CHECK(rdt_lock_create(l->comm, l->window, home, LOCK, lease_s, &l->lock) == 0);
	return 0;
}

static void unmake(struct locked *l)
{
	rdt_lock_destroy(l->lock);
	rdt_window_destroy(l->window);
	rdt_comm_destroy(l->comm);
}

/* No atomics: read, add, write. */
static int count(struct locked *l, int home)
{
	uint64_t value;

	RANK_CHECK(rdt_window_get(l->window, home, COUNTER, &value, 8) == 0);
	RANK_CHECK(rdt_window_flush(l->window, home) == 0);
	value++;
	RANK_CHECK(rdt_window_put(l->window, home, COUNTER, &value, 8) == 0);
	return 0;
}

static int value_of(struct locked *l, int home, uint64_t *value)
{
	RANK_CHECK(rdt_window_get(l->window, home, COUNTER, value, 8) == 0);
	RANK_CHECK(rdt_window_flush(l->window, home) == 0);
	return 0;
}

static int count_often(int rank, int n, void *arg)
{
	int times = *(int *)arg, home = n - 1;
	uint64_t value, last = 0;
	struct locked l;
	int64_t began;

	if (make(&l, rank, n, home, 30))
		return 1;
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	began = now();
	for (int i = 0; i < times; i++) {
		RANK_CHECK(rdt_lock_acquire(l.lock, 120) == 0);
		RANK_CHECK(i == 0 || rdt_lock_ticket(l.lock) > last);
		last = rdt_lock_ticket(l.lock);
		if (count(&l, home))
			return 1;
		RANK_CHECK(rdt_lock_release(l.lock) == 0);
	}
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	if (value_of(&l, home, &value))
		return 1;
	if (rank == 0)
		printf("%d ranks x %d increments under the lock: %llu, in %.2f s\n", n, times,
		       (unsigned long long)value, (double)(now() - began) / 1e9);
	RANK_CHECK(value == (uint64_t)times * (uint64_t)n);
	unmake(&l);
	return 0;
}

static void a_plain_counter_is_exact_under_it(void **state)
{
	const char *given = getenv("RDTRAIN_TEST_INCREMENTS"),
		   *transport = getenv("RDTRAIN_TRANSPORT");
	bool verbs = transport && strcmp(transport, "verbs") == 0;
	int times = given ? atoi(given) : verbs ? 250 : 10000;

	(void)state;
	assert_true(ranks_run(4, 280, count_often, &times));
	times = 100;
	assert_true(ranks_run(1, 60, count_often, &times));
}

/* ---- its end --------------------------------------------------------------------------------- */

struct moments {
	int64_t killed, got[RANKS_MAX];
	int order[RANKS_MAX], came;
};

#define HOLDER 1
#define LEASE_S 2.0

static int holder_dies(int rank, int n, void *arg)
{
	struct moments *m = arg; /* which the test reads afterwards */
	uint64_t value;
	struct locked l;

	if (make(&l, rank, n, 0, LEASE_S))
		return 1;
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	if (rank == HOLDER) {
		RANK_CHECK(rdt_lock_acquire(l.lock, 10) == 0);
		__atomic_store_n(&m->came, 1, __ATOMIC_SEQ_CST);
		usleep(200000); /* the others wait for it by now */
		__atomic_store_n(&m->killed, now(), __ATOMIC_SEQ_CST);
		kill(getpid(), SIGKILL);
	}
	while (!__atomic_load_n(&m->came, __ATOMIC_SEQ_CST))
		usleep(100);
	RANK_CHECK(rdt_lock_acquire(l.lock, 30) == 0);
	m->got[rank] = now();
	if (count(&l, 0))
		return 1;
	RANK_CHECK(rdt_lock_release(l.lock) == 0);
	RANK_CHECK(m->killed && m->got[rank] > m->killed);
	/* All that are left have it once. */
	__atomic_fetch_add(&m->came, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&m->came, __ATOMIC_SEQ_CST) < n)
		usleep(100);
	if (value_of(&l, 0, &value))
		return 1;
	RANK_CHECK(value == (uint64_t)n - 1);
	unmake(&l);
	return 0;
}

static void the_next_gets_it_within_the_lease_when_the_holder_is_killed(void **state)
{
	struct moments *m =
		mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct ranks_result result;
	int64_t first = INT64_MAX;

	(void)state;
	assert_true(m != MAP_FAILED);
	ranks_run_result(4, 60, holder_dies, m, &result);
	for (int r = 0; r < 4; r++) {
		assert_true(r == HOLDER ? WIFSIGNALED(result.status[r])
					: WIFEXITED(result.status[r]) &&
						  WEXITSTATUS(result.status[r]) == 0);
		if (r != HOLDER && m->got[r] < first)
			first = m->got[r];
	}
	printf("holder killed: the next has the lock after %.1f ms, the lease is %.0f ms\n",
	       (double)(first - m->killed) / 1e6, LEASE_S * 1e3);
	assert_true(first - m->killed <= (int64_t)(LEASE_S * 1e9));
	munmap(m, sizeof(*m));
}

/* A holder that is alive, but sleeps beyond its lease. */
static int holder_sleeps(int rank, int n, void *arg)
{
	struct moments *m = ranks_shared();
	struct locked l;

	(void)n;
	(void)arg;
	if (make(&l, rank, n, 0, 0.2))
		return 1;
	if (rank == 0) {
		RANK_CHECK(rdt_lock_acquire(l.lock, 10) == 0);
		RANK_CHECK(rdt_lock_acquire(l.lock, 10) == RDT_ERR_INVALID);
		RANK_CHECK(rdt_barrier(l.comm) == 0);
		/* As long as it renews it keeps it. */
		for (int i = 0; i < 20; i++) {
			usleep(20000);
			RANK_CHECK(rdt_lock_renew(l.lock) == 0);
		}
		RANK_CHECK(m->came == 0);
		while (!__atomic_load_n(&m->came, __ATOMIC_SEQ_CST))
			usleep(1000);
		RANK_CHECK(rdt_lock_renew(l.lock) == RDT_ERR_TIMEOUT);
		RANK_CHECK(rdt_lock_release(l.lock) == RDT_ERR_INVALID);
		RANK_CHECK(rdt_lock_acquire(l.lock, 10) == 0);
		RANK_CHECK(rdt_lock_release(l.lock) == 0);
	} else {
		RANK_CHECK(rdt_barrier(l.comm) == 0);
		RANK_CHECK(rdt_lock_acquire(l.lock, 10) == 0);
		__atomic_store_n(&m->came, 1, __ATOMIC_SEQ_CST);
		usleep(50000);
		RANK_CHECK(rdt_lock_release(l.lock) == 0);
	}
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	unmake(&l);
	return 0;
}

static void a_holder_that_sleeps_beyond_its_lease_loses_it_and_is_told(void **state)
{
	(void)state;
	assert_true(ranks_run(2, 60, holder_sleeps, NULL));
}

/* One that gives up does not hold up those behind it. */
static int one_gives_up(int rank, int n, void *arg)
{
	struct locked l;
	int64_t began;

	(void)arg;
	if (make(&l, rank, n, 0, 100))
		return 1;
	if (rank == 0)
		RANK_CHECK(rdt_lock_acquire(l.lock, 10) == 0);
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	if (rank == 1) {
		RANK_CHECK(rdt_lock_acquire(l.lock, 0.05) == RDT_ERR_TIMEOUT);
		RANK_CHECK(strstr(rdt_last_error(), "ticket"));
	}
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	began = now();
	if (rank == 0)
		RANK_CHECK(rdt_lock_release(l.lock) == 0);
	if (rank == 2) {
		RANK_CHECK(rdt_lock_acquire(l.lock, 50) == 0);
		RANK_CHECK(now() - began < 50000000000);
		RANK_CHECK(rdt_lock_release(l.lock) == 0);
	}
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	unmake(&l);
	return 0;
}

static void a_waiter_that_gives_up_holds_up_nobody(void **state)
{
	(void)state;
	assert_true(ranks_run(3, 60, one_gives_up, NULL));
}

/* One that tries again and again leaves no more than one place in line. */
static int one_tries_often(int rank, int n, void *arg)
{
	struct locked l;
	uint64_t next;

	(void)arg;
	if (make(&l, rank, n, 0, 100))
		return 1;
	if (rank == 0)
		RANK_CHECK(rdt_lock_acquire(l.lock, 10) == 0);
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	if (rank == 1) {
		for (int i = 0; i < 4 * n + 2; i++)
			RANK_CHECK(rdt_lock_acquire(l.lock, 0.001) == RDT_ERR_TIMEOUT);
		RANK_CHECK(rdt_window_get(l.window, 0, LOCK, &next, 8) == 0);
		RANK_CHECK(rdt_window_flush(l.window, 0) == 0);
		RANK_CHECK(next == 2);
	}
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	if (rank == 0)
		RANK_CHECK(rdt_lock_release(l.lock) == 0);
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	/* Past the place that was given up; then its owner comes back, with a new one. */
	if (rank == 2) {
		RANK_CHECK(rdt_lock_acquire(l.lock, 30) == 0);
		RANK_CHECK(rdt_lock_ticket(l.lock) == 2);
		RANK_CHECK(rdt_lock_release(l.lock) == 0);
	}
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	if (rank == 1) {
		RANK_CHECK(rdt_lock_acquire(l.lock, 30) == 0);
		RANK_CHECK(rdt_lock_ticket(l.lock) == 3);
		RANK_CHECK(rdt_lock_release(l.lock) == 0);
	}
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	unmake(&l);
	return 0;
}

/* And keeps it: when it is its turn meanwhile, it has the lock at once. */
static int one_comes_back(int rank, int n, void *arg)
{
	struct locked l;

	(void)arg;
	if (make(&l, rank, n, 0, 100))
		return 1;
	if (rank == 0)
		RANK_CHECK(rdt_lock_acquire(l.lock, 10) == 0);
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	if (rank == 1)
		RANK_CHECK(rdt_lock_acquire(l.lock, 0.001) == RDT_ERR_TIMEOUT);
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	if (rank == 0)
		RANK_CHECK(rdt_lock_release(l.lock) == 0);
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	if (rank == 1) {
		RANK_CHECK(rdt_lock_acquire(l.lock, 50) == 0);
		RANK_CHECK(rdt_lock_ticket(l.lock) == 1);
		RANK_CHECK(rdt_lock_release(l.lock) == 0);
	}
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	unmake(&l);
	return 0;
}

static void one_that_tries_often_holds_up_nobody(void **state)
{
	(void)state;
	assert_true(ranks_run(3, 60, one_tries_often, NULL));
	assert_true(ranks_run(2, 60, one_comes_back, NULL));
}

/* First come, first served. */
static int in_order(int rank, int n, void *arg)
{
	struct moments *m = ranks_shared();
	struct locked l;

	(void)arg;
	if (make(&l, rank, n, 0, 100))
		return 1;
	/* They come one after another, while the first holds it. */
	if (rank == n - 1)
		RANK_CHECK(rdt_lock_acquire(l.lock, 30) == 0);
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	if (rank != n - 1) {
		uint64_t next;

		/* a lower rank comes later: when those above it have drawn their tickets */
		do {
			RANK_CHECK(rdt_window_get(l.window, 0, LOCK, &next, 8) == 0);
			RANK_CHECK(rdt_window_flush(l.window, 0) == 0);
		} while (next < (uint64_t)(n - 1 - rank));
		RANK_CHECK(rdt_lock_acquire(l.lock, 30) == 0);
	} else {
		uint64_t next;

		do {
			RANK_CHECK(rdt_window_get(l.window, 0, LOCK, &next, 8) == 0);
			RANK_CHECK(rdt_window_flush(l.window, 0) == 0);
		} while (next < (uint64_t)n);
	}
	m->order[m->came++] = rank;
	RANK_CHECK(rdt_lock_ticket(l.lock) == (uint64_t)(n - 1 - rank));
	RANK_CHECK(rdt_lock_release(l.lock) == 0);
	RANK_CHECK(rdt_barrier(l.comm) == 0);
	for (int i = 0; i < n; i++)
		RANK_CHECK(m->order[i] == n - 1 - i);
	unmake(&l);
	return 0;
}

static void who_comes_first_is_served_first(void **state)
{
	(void)state;
	assert_true(ranks_run(5, 60, in_order, NULL));
}

static int wrong_calls(int rank, int n, void *arg)
{
	size_t bytes = LOCK + rdt_lock_bytes(n);
	struct locked l;
	rdt_lock *other;

	(void)arg;
	if (make(&l, rank, n, 0, 1))
		return 1;
	RANK_CHECK(rdt_lock_bytes(0) == 0);
	RANK_CHECK(rdt_lock_create(l.comm, l.window, n, 0, 1, &other) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_lock_create(l.comm, NULL, 0, 0, 1, &other) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_lock_create(l.comm, l.window, 0, 4, 1, &other) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_lock_create(l.comm, l.window, 0, bytes, 1, &other) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_lock_create(l.comm, l.window, 0, 16, 1, &other) == RDT_ERR_INVALID);
	RANK_CHECK(strstr(rdt_last_error(), "takes"));
	RANK_CHECK(rdt_lock_create(l.comm, l.window, 0, LOCK, 0, &other) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_lock_release(l.lock) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_lock_renew(l.lock) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_lock_acquire(l.lock, 0) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_lock_acquire(NULL, 1) == RDT_ERR_INVALID);
	rdt_lock_destroy(NULL);
	unmake(&l);
	return 0;
}

static void wrong_calls_are_told(void **state)
{
	(void)state;
	assert_true(ranks_run(2, 60, wrong_calls, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_plain_counter_is_exact_under_it),
		cmocka_unit_test(who_comes_first_is_served_first),
		cmocka_unit_test(the_next_gets_it_within_the_lease_when_the_holder_is_killed),
		cmocka_unit_test(a_holder_that_sleeps_beyond_its_lease_loses_it_and_is_told),
		cmocka_unit_test(a_waiter_that_gives_up_holds_up_nobody),
		cmocka_unit_test(one_that_tries_often_holds_up_nobody),
		cmocka_unit_test(wrong_calls_are_told),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
