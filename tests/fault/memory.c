/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * No memory, at the k-th time that this process asks for some, for every k: making a communicator,
 * memory, a plan and a plain operation either goes on or returns an error, and is undone without a
 * crash; the leak checker of the sanitizer build says whether all was given back. One process alone
 * first, then one of two, of which the other is told.
 */
#include "ranks.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MOST 20000 /* allocations: more than any of these lives needs */

static bool counting;
static unsigned long asked, fails_at;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);

/* The sentence of the error that ended a life. */
static char said[1024];

/* Once, and then there is memory again. */
static bool refused(void)
{
	return counting && asked++ == fails_at;
}

void *__wrap_malloc(size_t size)
{
	return refused() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return refused() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return refused() ? NULL : __real_realloc(old, size);
}

/* What a program does with a communicator; the first error ends it. */
static int life(int rank, int n)
{
	enum { COUNT = 3001 };
	rdt_comm *comm = NULL, *half = NULL;
	rdt_plan *plan = NULL;
	rdt_request *request;
	void *v = NULL;
	int status = rdt_comm_create(NULL, &comm);

	snprintf(said, sizeof(said), "%s", rdt_last_error());
	if (status)
		return status;
	status = rdt_alloc(comm, COUNT, &v);
	if (!status)
		status = rdt_allreduce_plan(comm, v, v, COUNT, RDT_UINT8, RDT_MAX, &plan);
	if (!status)
		status = rdt_plan_start(plan);
	if (!status)
		status = rdt_plan_wait(plan);
	if (!status)
		status = rdt_allreduce(comm, v, v, COUNT, RDT_UINT8, RDT_MAX);
	if (!status && n > 1) {
		status = rank == 0 ? rdt_send_start(comm, v, 7, RDT_UINT8, 1, &request)
				   : rdt_recv_start(comm, v, 7, RDT_UINT8, 0, &request);
		if (!status)
			status = rdt_wait(request);
	}
	if (!status)
		status = rdt_comm_split(comm, 0, rank, &half);
	if (!status)
		status = rdt_barrier(half);
	snprintf(said, sizeof(said), "%s", status ? rdt_last_error() : "");
	if (status)
		rdt_comm_abort(comm);
	rdt_comm_destroy(half);
	rdt_plan_destroy(plan);
	rdt_comm_destroy(comm);
	return status;
}

/* Whether it came to the refusal. */
static bool with_refusal(int rank, int n, unsigned long k, int *status)
{
	asked = 0;
	fails_at = k;
	counting = true;
	*status = life(rank, n);
	counting = false;
	return asked > k;
}

static int alone(int rank, int n, void *arg)
{
	unsigned long k = 0;
	int status;

	(void)arg;
	signal(SIGSEGV, SIG_DFL); /* the test library would go on with the test in here */
	for (; with_refusal(rank, n, k, &status); k++) {
		RANK_CHECK(k < MOST);
		RANK_CHECK(status == 0 || status == RDT_ERR_NOMEM);
		RANK_CHECK(status == 0 || strstr(said, "memory"));
	}
	RANK_CHECK(status == 0);
	printf("alone: %lu allocations, each refused once\n", k);
	return 0;
}

/* What both ranks of a run share. */
struct board {
	uint32_t met;
	int32_t status[2];
	uint32_t refused;
};

static void meet(struct board *board)
{
	uint32_t mine = __atomic_fetch_add(&board->met, 1, __ATOMIC_ACQ_REL);

	while (__atomic_load_n(&board->met, __ATOMIC_ACQUIRE) < mine / 2 * 2 + 2)
		usleep(50);
}

static int beside_another(int rank, int n, void *arg)
{
	struct board *board = ranks_shared();
	unsigned long k = 0;
	bool going = true;

	(void)arg;
	signal(SIGSEGV, SIG_DFL);
	for (; going; k++) {
		char job[32];
		int status;

		RANK_CHECK(k < MOST);
		snprintf(job, sizeof(job), "refusal-%lu", k);
		setenv("RDTRAIN_JOB", job, 1);
		if (rank == 1)
			board->refused = with_refusal(rank, n, k, &status);
		else
			status = life(rank, n);
		board->status[rank] = status;
		meet(board);
		going = board->refused;
		if (rank == 1)
			RANK_CHECK(status == 0 || status == RDT_ERR_NOMEM);
		/* Well with one is well with both. */
		RANK_CHECK(board->status[1] != 0 || board->status[0] == 0);
		RANK_CHECK(board->status[1] == 0 || board->status[0] != 0);
		meet(board);
	}
	if (rank == 1)
		printf("beside another: %lu allocations, each refused once\n", k - 1);
	return 0;
}

static void no_memory_is_an_error_and_is_cleaned_up(void **state)
{
	(void)state;
	assert_true(ranks_run(1, 100, alone, NULL));
}

static void no_memory_at_one_rank_is_told_to_the_other(void **state)
{
	(void)state;
	assert_true(ranks_run(2, 200, beside_another, NULL));
}

/* With an argument: one life, under rdtrain run (tests/fault/valgrind.sh). */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_memory_is_an_error_and_is_cleaned_up),
		cmocka_unit_test(no_memory_at_one_rank_is_told_to_the_other),
	};

	(void)argv;
	if (argc > 1)
		return life(atoi(getenv("RDTRAIN_RANK")), atoi(getenv("RDTRAIN_SIZE"))) != 0;
	ranks_need_device();
	setenv("RDTRAIN_START_TIMEOUT", "1", 1);
	setenv("RDTRAIN_TIMEOUT", "2", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
