/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Windows: puts, gets and atomics reach memory whose owner is in no call, are exact under
 * contention, and go on for those that are left when a rank is killed.
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

#include <rdtrain/window.h>

#include "lib/base/clock.h"

/* Through the memory of the test itself, so that no rank needs to be in a call. */
static void arrive(unsigned which)
{
	__atomic_fetch_add((unsigned *)ranks_shared() + which, 1, __ATOMIC_SEQ_CST);
}

static bool wait_for(unsigned which, unsigned n)
{
	int64_t deadline = rdt_deadline(60);

	while (__atomic_load_n((unsigned *)ranks_shared() + which, __ATOMIC_SEQ_CST) < n) {
		if (rdt_now() > deadline)
			return false;
		usleep(200);
	}
	return true;
}

static unsigned char byte_of(int from, int to, size_t i)
{
	return (unsigned char)((size_t)from * 31 + (size_t)to * 7 + i * 13 + i / 251);
}

/* ---- put and get ----------------------------------------------------------------------------- */

/* Odd lengths and offsets; longer than a slot, longer than a piece. */
static const size_t lengths[] = { 1, 3, 8, 64, 257, 65537, 1200001 };
#define ROOM 1200200 /* for each rank that writes */

static int put_and_get(int rank, int n, void *arg)
{
	enum { AT = 77, BEFORE = 5003, BEYOND = 300001 };
	bool own_memory = *(bool *)arg;
	size_t bytes = (size_t)n * ROOM;
	unsigned char *mine = NULL, *in = malloc(ROOM), *out = malloc(ROOM);
	rdt_window *w;
	rdt_comm *comm;

	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	if (own_memory)
		RANK_CHECK(posix_memalign((void **)&mine, 64, bytes + BEYOND) == 0);
	RANK_CHECK(rdt_window_create(comm, mine, bytes, &w) == 0);
	if (own_memory)
		RANK_CHECK(rdt_window_base(w) == mine);
	mine = rdt_window_base(w);
	for (int r = 0; r < n; r++)
		RANK_CHECK(rdt_window_bytes(w, r) == bytes);
	for (size_t k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
		for (int r = 0; r < n; r++) {
			for (size_t i = 0; i < lengths[k]; i++)
				in[i] = byte_of(rank, r, i + k);
			RANK_CHECK(rdt_window_put(w, r, (size_t)rank * ROOM + AT, in, lengths[k]) ==
				   0);
			/* the buffer is ours again after this */
			RANK_CHECK(rdt_window_flush(w, r) == 0);
		}
		/* Read back, also what the rank put into itself. */
		for (int r = 0; r < n; r++) {
			memset(out, 0, lengths[k]);
			RANK_CHECK(rdt_window_get(w, r, (size_t)rank * ROOM + AT, out,
						  lengths[k]) == 0);
			RANK_CHECK(rdt_window_flush(w, -1) == 0);
			for (size_t i = 0; i < lengths[k]; i++)
				RANK_CHECK(out[i] == byte_of(rank, r, i + k));
		}
		arrive((unsigned)k);
		RANK_CHECK(wait_for((unsigned)k, (unsigned)n));
		/* What the others put here. */
		for (int r = 0; r < n; r++)
			for (size_t i = 0; i < lengths[k]; i++)
				RANK_CHECK(mine[(size_t)r * ROOM + AT + i] ==
					   byte_of(r, rank, i + k));
		arrive(100 + (unsigned)k);
		RANK_CHECK(wait_for(100 + (unsigned)k, (unsigned)n));
	}
	/* From and into the window's own memory: without a copy. */
	memset(mine + ROOM - 64, rank + 1, 32);
	RANK_CHECK(rdt_window_put(w, (rank + 1) % n, ROOM - 128, mine + ROOM - 64, 31) == 0);
	RANK_CHECK(rdt_window_flush(w, (rank + 1) % n) == 0);
	RANK_CHECK(rdt_window_get(w, (rank + 1) % n, ROOM - 128, mine + ROOM - 32, 31) == 0);
	RANK_CHECK(rdt_window_flush(w, -1) == 0);
	for (int i = 0; i < 31; i++)
		RANK_CHECK(mine[ROOM - 32 + i] == rank + 1);
	/* Into memory that begins in the window and ends beyond it. */
	if (own_memory) {
		unsigned char *to = mine + bytes - BEFORE;
		int peer = (rank + 1) % n;

		RANK_CHECK(rdt_window_get(w, peer, AT, to, BEFORE + BEYOND) == 0);
		RANK_CHECK(rdt_window_flush(w, peer) == 0);
		for (size_t i = 0; i < BEFORE + BEYOND; i++)
			RANK_CHECK(to[i] == byte_of(0, peer, i + 6));
	}
	rdt_window_destroy(w);
	if (own_memory)
		free(mine);
	rdt_comm_destroy(comm);
	free(in);
	free(out);
	return 0;
}

static void what_is_put_is_there_and_what_is_got_was_there(void **state)
{
	bool own_memory = false;

	(void)state;
	for (int n = 1; n <= 3; n++)
		assert_true(ranks_run(n, 120, put_and_get, &own_memory));
}

static void the_callers_own_memory_is_exposed_as_well(void **state)
{
	bool own_memory = true;

	(void)state;
	assert_true(ranks_run(3, 120, put_and_get, &own_memory));
}

/* The owner sleeps in no call of the library. */
static int owner_is_away(int rank, int n, void *arg)
{
	uint64_t word = 0, *mine;
	rdt_window *w;
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_window_create(comm, NULL, rank == 0 ? 64 : 0, &w) == 0);
	mine = rdt_window_base(w);
	if (rank == 0) {
		RANK_CHECK(wait_for(0, (unsigned)n - 1));
		RANK_CHECK(__atomic_load_n(mine, __ATOMIC_ACQUIRE) == 100 * (uint64_t)(n - 1));
	} else {
		RANK_CHECK(mine == NULL && rdt_window_bytes(w, 0) == 64);
		for (int i = 0; i < 100; i++)
			RANK_CHECK(rdt_window_fetch_add(w, 0, 0, 1, &word) == 0);
		word = 4711;
		RANK_CHECK(rdt_window_put(w, 0, 8 * (size_t)rank, &word, 8) == 0);
		word = 0;
		/* a get sees what the same rank has put */
		RANK_CHECK(rdt_window_get(w, 0, 8 * (size_t)rank, &word, 8) == 0);
		RANK_CHECK(rdt_window_flush(w, 0) == 0);
		RANK_CHECK(word == 4711);
		arrive(0);
	}
	rdt_window_destroy(w);
	rdt_comm_destroy(comm);
	return 0;
}

static void an_owner_that_is_in_no_call_is_reached(void **state)
{
	(void)state;
	assert_true(ranks_run(3, 60, owner_is_away, NULL));
}

/* ---- atomics --------------------------------------------------------------------------------- */

static int atomics(int rank, int n, void *arg)
{
	int rounds = *(int *)arg;
	uint64_t old, *olds = calloc((size_t)rounds, sizeof(*olds)), *mine;
	rdt_window *w;
	rdt_comm *comm;

	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_window_create(comm, NULL, 64, &w) == 0);
	mine = rdt_window_base(w);
	/* All ranks, the owner too, add to one word: by fetch-and-add, and by compare-and-swap. */
	for (int i = 0; i < rounds; i++) {
		RANK_CHECK(rdt_window_fetch_add(w, 0, 0, 1, &old) == 0);
		RANK_CHECK(old < (uint64_t)(rounds * n));
		for (uint64_t expected = old;; expected = old) {
			RANK_CHECK(rdt_window_compare_swap(w, 0, 8, expected, expected + 3, &old) ==
				   0);
			if (old == expected)
				break;
		}
	}
	arrive(0);
	RANK_CHECK(wait_for(0, (unsigned)n));
	if (rank == 0) {
		RANK_CHECK(__atomic_load_n(&mine[0], __ATOMIC_ACQUIRE) == (uint64_t)(rounds * n));
		RANK_CHECK(__atomic_load_n(&mine[1], __ATOMIC_ACQUIRE) ==
			   3 * (uint64_t)(rounds * n));
	}
	/* Without waiting: more than there are slots. Every value comes once. */
	for (int i = 0; i < rounds; i++)
		RANK_CHECK(rdt_window_fetch_add_start(w, n - 1, 16, 1, &olds[i]) == 0);
	RANK_CHECK(rdt_window_compare_swap_start(w, n - 1, 24, 0, (uint64_t)rank + 1, &old) == 0);
	RANK_CHECK(rdt_window_flush(w, n - 1) == 0);
	RANK_CHECK(old <= (uint64_t)n);
	for (int i = 1; i < rounds; i++)
		RANK_CHECK(olds[i] > olds[i - 1] && olds[i] < (uint64_t)(rounds * n));
	arrive(1);
	RANK_CHECK(wait_for(1, (unsigned)n));
	if (rank == n - 1) {
		RANK_CHECK(__atomic_load_n(&mine[2], __ATOMIC_ACQUIRE) == (uint64_t)(rounds * n));
		RANK_CHECK(mine[3] >= 1 && mine[3] <= (uint64_t)n);
	}
	/* An old value that nobody wants. */
	RANK_CHECK(rdt_window_fetch_add(w, 0, 32, UINT64_MAX, NULL) == 0);
	RANK_CHECK(rdt_window_fetch_add_start(w, 0, 32, 1, NULL) == 0);
	RANK_CHECK(rdt_window_flush(w, -1) == 0);
	arrive(2);
	RANK_CHECK(wait_for(2, (unsigned)n));
	if (rank == 0)
		RANK_CHECK(mine[4] == 0);
	rdt_window_destroy(w);
	rdt_comm_destroy(comm);
	free(olds);
	return 0;
}

static void atomics_of_all_ranks_on_one_word_are_exact(void **state)
{
	int rounds = 300;

	(void)state;
	assert_true(ranks_run(1, 60, atomics, &rounds));
	assert_true(ranks_run(4, 120, atomics, &rounds));
}

/* ---- wrong calls ----------------------------------------------------------------------------- */

static int wrong_calls(int rank, int n, void *arg)
{
	const char *transport = getenv("RDTRAIN_TRANSPORT");
	uint64_t word = 0, old, *mine = aligned_alloc(64, 64);
	rdt_window *w;
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_window_create(comm, (char *)mine + 4, 8, &w) == RDT_ERR_INVALID && !w);
	RANK_CHECK(rdt_window_create(comm, mine, 64, NULL) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_window_create(comm, mine, 64, &w) == 0);
	RANK_CHECK(rdt_window_put(w, n, 0, &word, 8) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_window_put(w, -1, 0, &word, 8) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_window_put(w, 0, 57, &word, 8) == RDT_ERR_INVALID);
	RANK_CHECK(strstr(rdt_last_error(), "exposes 64 bytes"));
	RANK_CHECK(rdt_window_put(w, 0, SIZE_MAX, &word, 8) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_window_get(w, 0, 0, NULL, 8) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_window_get(w, 0, 64, NULL, 0) == 0);
	RANK_CHECK(rdt_window_fetch_add(w, 0, 4, 1, &old) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_window_fetch_add(w, 0, 64, 1, &old) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_window_flush(w, n) == RDT_ERR_INVALID);
	/* The caller's memory is not mapped by peers of one host. */
	if (!transport || strcmp(transport, "verbs") != 0) {
		RANK_CHECK(rdt_window_fetch_add(w, (rank + 1) % n, 0, 1, &old) == RDT_ERR_INVALID);
		RANK_CHECK(strstr(rdt_last_error(), "rdt_alloc"));
	}
	/* and nothing of that has harmed it */
	RANK_CHECK(rdt_window_put(w, (rank + 1) % n, 8, &word, 8) == 0);
	RANK_CHECK(rdt_window_flush(w, -1) == 0);
	rdt_window_destroy(w);
	rdt_window_destroy(NULL);
	/* Ranks that do not all make a window. */
	if (rank == 0)
		RANK_CHECK(rdt_window_create(comm, NULL, 64, &w) == RDT_ERR_MISMATCH);
	else
		RANK_CHECK(rdt_barrier(comm) == RDT_ERR_MISMATCH);
	RANK_CHECK(strstr(rdt_last_error(), "rdt_window_create"));
	RANK_CHECK(rdt_window_create(comm, NULL, 64, &w) == RDT_ERR_MISMATCH);
	rdt_comm_destroy(comm);
	free(mine);
	return 0;
}

static void wrong_calls_are_told_and_harm_nothing(void **state)
{
	(void)state;
	assert_true(ranks_run(2, 60, wrong_calls, NULL));
}

/* ---- losses ---------------------------------------------------------------------------------- */

#define VICTIM 1

static int go_on_without(int rank, int n, void *arg)
{
	uint64_t old, word = 1;
	int lost[RANKS_MAX], status = 0, others = 0;
	rdt_window *w;
	rdt_comm *comm;
	void *memory;
	int64_t killed;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	/* what rdt_alloc of the communicator gave is mapped, too */
	RANK_CHECK(rdt_alloc(comm, 8192, &memory) == 0);
	RANK_CHECK(rdt_window_create(comm, (char *)memory + 64, 1024, &w) == 0);
	for (int r = 0; r < n; r++)
		RANK_CHECK(rdt_window_fetch_add(w, r, 0, 1, &old) == 0);
	arrive(0);
	RANK_CHECK(wait_for(0, (unsigned)n));
	if (rank == VICTIM)
		kill(getpid(), SIGKILL);
	/* The communicator ends. */
	RANK_CHECK(rdt_barrier(comm) == RDT_ERR_PEER_LOST);
	killed = rdt_now();
	/* The window names the lost one, and goes on with the others. */
	while (rdt_window_lost(w, lost, RANKS_MAX) == 0)
		RANK_CHECK(rdt_now() - killed < 2000000000);
	RANK_CHECK(rdt_window_lost(w, lost, RANKS_MAX) == 1 && lost[0] == VICTIM);
	status = rdt_window_put(w, VICTIM, 8, &word, 8);
	RANK_CHECK(status == RDT_ERR_PEER_LOST && strstr(rdt_last_error(), "rank 1"));
	RANK_CHECK(rdt_window_fetch_add(w, VICTIM, 0, 1, &old) == RDT_ERR_PEER_LOST);
	for (int r = 0; r < n; r++)
		if (r != VICTIM) {
			RANK_CHECK(rdt_window_fetch_add(w, r, 0, 1, &old) == 0);
			RANK_CHECK(rdt_window_put(w, r, 8 * ((size_t)rank + 1), &word, 8) == 0);
			RANK_CHECK(rdt_window_flush(w, r) == 0);
			others++;
		}
	RANK_CHECK(rdt_window_flush(w, -1) == 0);
	arrive(1);
	RANK_CHECK(wait_for(1, (unsigned)n - 1));
	RANK_CHECK(*(uint64_t *)rdt_window_base(w) == (uint64_t)(n + others));
	rdt_window_destroy(w);
	rdt_comm_destroy(comm);
	return 0;
}

static void a_killed_rank_is_lost_to_its_callers_and_the_others_go_on(void **state)
{
	struct ranks_result result;

	(void)state;
	ranks_run_result(4, 60, go_on_without, NULL, &result);
	assert_false(result.timed_out);
	for (int r = 0; r < 4; r++)
		assert_true(r == VICTIM ? WIFSIGNALED(result.status[r])
					: WIFEXITED(result.status[r]) &&
						  WEXITSTATUS(result.status[r]) == 0);
}

/* Killed with accesses of the others under way. */
static int killed_under_fire(int rank, int n, void *arg)
{
	static unsigned char buffer[300000];
	int status = 0;
	uint64_t old;
	rdt_window *w;
	rdt_comm *comm;
	int64_t began;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_window_create(comm, NULL, sizeof(buffer), &w) == 0);
	arrive(0);
	RANK_CHECK(wait_for(0, (unsigned)n));
	if (rank == VICTIM) {
		usleep(30000);
		kill(getpid(), SIGKILL);
	}
	began = rdt_now();
	for (int i = 0; !status; i++) {
		RANK_CHECK(rdt_now() - began < 20000000000);
		if (i % 3 == 0)
			status = rdt_window_put(w, VICTIM, 0, buffer, sizeof(buffer));
		else if (i % 3 == 1)
			status = rdt_window_get(w, VICTIM, 0, buffer, sizeof(buffer));
		else
			status = rdt_window_fetch_add_start(w, VICTIM, 8, 1, &old);
		if (!status && i % 7 == 0)
			status = rdt_window_flush(w, VICTIM);
		rdt_window_lost(w, NULL, 0);
	}
	RANK_CHECK(status == RDT_ERR_PEER_LOST);
	/* Nothing of it disturbs what is between the others. */
	for (int r = 0; r < n; r++)
		if (r != VICTIM)
			RANK_CHECK(rdt_window_get(w, r, 0, buffer, sizeof(buffer)) == 0);
	status = rdt_window_flush(w, -1);
	RANK_CHECK(status == 0 || status == RDT_ERR_PEER_LOST);
	RANK_CHECK(rdt_window_flush(w, -1) == 0);
	arrive(1);
	RANK_CHECK(wait_for(1, (unsigned)n - 1));
	rdt_window_destroy(w);
	rdt_comm_destroy(comm);
	return 0;
}

static void a_rank_killed_under_access_is_told_to_those_who_access_it(void **state)
{
	struct ranks_result result;

	(void)state;
	ranks_run_result(3, 60, killed_under_fire, NULL, &result);
	assert_false(result.timed_out);
	for (int r = 0; r < 3; r++)
		assert_true(r == VICTIM ? WIFSIGNALED(result.status[r])
					: WIFEXITED(result.status[r]) &&
						  WEXITSTATUS(result.status[r]) == 0);
}

/* ---- on several hosts ------------------------------------------------------------------------ */

/* One rank of a job that a launcher started, on whatever hosts. */
static int as_one_rank(void)
{
	enum { ROUNDS = 150, WORDS = 3 };
	unsigned char in[1001], out[1001];
	int rank, n, status;
	uint64_t old, *mine;
	rdt_window *w;
	rdt_comm *comm;

	status = rdt_comm_create(NULL, &comm);
	if (status) {
		fprintf(stderr, "%s\n", rdt_last_error());
		return 1;
	}
	rank = rdt_comm_rank(comm);
	n = rdt_comm_size(comm);
	RANK_CHECK(rdt_window_create(comm, NULL, 64 + (size_t)n * sizeof(in), &w) == 0);
	mine = rdt_window_base(w);
	/* Words of the first and the last rank: some are on their host, others on another. */
	for (int i = 0; i < ROUNDS; i++)
		for (int home = 0; home < n; home += n - 1) {
			RANK_CHECK(rdt_window_fetch_add(w, home, 0, 1, &old) == 0);
			for (uint64_t expected = old;; expected = old) {
				RANK_CHECK(rdt_window_compare_swap(w, home, 8, expected,
								   expected + WORDS, &old) == 0);
				if (old == expected)
					break;
			}
			if (n == 1)
				break;
		}
	memset(in, rank + 1, sizeof(in));
	for (int r = 0; r < n; r++)
		RANK_CHECK(rdt_window_put(w, r, 64 + (size_t)rank * sizeof(in), in, sizeof(in)) ==
			   0);
	RANK_CHECK(rdt_window_flush(w, -1) == 0);
	RANK_CHECK(rdt_barrier(comm) == 0);
	for (int r = 0; r < n; r++)
		for (size_t i = 0; i < sizeof(in); i++)
			RANK_CHECK(((unsigned char *)mine)[64 + (size_t)r * sizeof(in) + i] ==
				   r + 1);
	for (int r = 0; r < n; r++) {
		RANK_CHECK(rdt_window_get(w, r, 64, out, sizeof(out)) == 0);
		RANK_CHECK(rdt_window_flush(w, r) == 0);
		RANK_CHECK(out[0] == 1 && out[sizeof(out) - 1] == 1);
	}
	if (rank == 0 || rank == n - 1)
		RANK_CHECK(mine[0] == (uint64_t)(n * ROUNDS) &&
			   mine[1] == (uint64_t)(n * ROUNDS * WORDS));
	printf("rank %d of %d: the window is right\n", rank, n);
	rdt_window_destroy(w);
	rdt_comm_destroy(comm);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_is_there_and_what_is_got_was_there),
		cmocka_unit_test(the_callers_own_memory_is_exposed_as_well),
		cmocka_unit_test(an_owner_that_is_in_no_call_is_reached),
		cmocka_unit_test(atomics_of_all_ranks_on_one_word_are_exact),
		cmocka_unit_test(wrong_calls_are_told_and_harm_nothing),
		cmocka_unit_test(a_killed_rank_is_lost_to_its_callers_and_the_others_go_on),
		cmocka_unit_test(a_rank_killed_under_access_is_told_to_those_who_access_it),
	};

	if (getenv("RDTRAIN_RANK"))
		return as_one_rank();
	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
