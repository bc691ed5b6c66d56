/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One thing goes wrong at step k of one rank, for every k, until the operations end without having
 * come to step k: a lost put, a late one, a notification that comes twice, a completion with an
 * error, a death. No rank may wait past its deadline, and none may have a wrong result without an
 * error.
 *
 * A put that is lost without a trace, and a notification that comes twice, are what reliable
 * connections promise not to do; RDTRAIN_CHECK=1 finds them all the same, and they are tested with
 * it. Without it, only that they end by the deadline.
 */
#include "ranks.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/clock.h"
#include "operations.h"
#include "tests/fault.h"

#define RANKS 3
#define VICTIM 1
#define ROUNDS 2       /* operations with the fault somewhere in them */
#define MOST_STEPS 300 /* more than any of these operations has */

/* What the test and all ranks of a run share. */
struct board {
	uint32_t met, happened;
	uint32_t steps; /* that have been gone through */
	int32_t status[RANKS];
	uint32_t wrong; /* results that came without an error and were wrong */
};

static struct board *board;

struct sweep {
	enum fault_kind fault;
	enum kind kind;
	const char *algorithm; /* of an allreduce */
	size_t count;
	int check;
	uint64_t step; /* death: which */
};

/* All ranks are here. */
static void meet(int n)
{
	uint32_t mine = __atomic_fetch_add(&board->met, 1, __ATOMIC_ACQ_REL);
	uint32_t all = mine / (uint32_t)n * (uint32_t)n + (uint32_t)n;

	while ((int32_t)(__atomic_load_n(&board->met, __ATOMIC_ACQUIRE) - all) < 0)
		usleep(50);
}

static int rounds(struct operation *o, rdt_comm *comm, int rank, int n, uint8_t *const *right)
{
	int status = 0;

	for (int round = 0; round < ROUNDS && !status; round++) {
		operation_fill(o, rank, n, round);
		status = operation_run(o, comm, rank, n);
		if (!status && memcmp(right[round], o->out, operation_bytes(o, n)))
			__atomic_fetch_add(&board->wrong, 1, __ATOMIC_RELAXED);
	}
	return status ? status : rdt_barrier(comm);
}

/* A communicator's life, with a fault at this step of its victim. */
static int life(int rank, int n, const struct sweep *sweep, uint64_t step)
{
	struct operation o = { .kind = sweep->kind, .count = sweep->count };
	size_t bytes = operation_bytes(&o, n);
	uint8_t *right[ROUNDS];
	char job[32];
	int64_t from;
	rdt_comm *comm;
	int status;

	snprintf(job, sizeof(job), "step-%d", (int)step);
	setenv("RDTRAIN_JOB", job, 1);
	o.in = malloc(bytes);
	o.out = malloc(bytes);
	RANK_CHECK(o.in && o.out && rdt_comm_create(NULL, &comm) == 0);
	/* Backwards: no later operation finds in its half of scratch what it would put there. */
	for (int round = ROUNDS - 1; round >= 0; round--) {
		operation_fill(&o, rank, n, round);
		RANK_CHECK(operation_run(&o, comm, rank, n) == 0);
		right[round] = malloc(bytes);
		memcpy(right[round], o.out, bytes);
	}
	RANK_CHECK(rdt_barrier(comm) == 0);
	if (sweep->fault == FAULT_DROP)
		RANK_CHECK(rdt_comm_set_timeout(comm, 0.5) == 0);
	meet(n); /* the victim may be through with the barrier before the others are */
	if (rank == VICTIM)
		fault_arm(&(struct fault){ sweep->fault, step, step });
	from = rdt_now();
	status = rounds(&o, comm, rank, n, right);
	if (sweep->fault != FAULT_DEATH) {
		if (rank == VICTIM)
			board->happened = fault_happened();
		/* Who was through before is told now of what happened to the others. */
		meet(n);
		status = status ? status : rdt_barrier(comm);
		meet(n);
	}
	board->status[rank] = status;
	/* The deadline of an operation, of the next one, and some for a busy machine. */
	RANK_CHECK(rdt_now() - from < 5000000000);
	RANK_CHECK(!status || strlen(rdt_last_error()) > 20);
	if (rank == VICTIM)
		fault_arm(NULL);
	rdt_plan_destroy(o.plan);
	rdt_comm_destroy(comm);
	for (int round = 0; round < ROUNDS; round++)
		free(right[round]);
	free(o.in);
	free(o.out);
	return 0;
}

static void set_environment(const struct sweep *sweep)
{
	setenv("RDTRAIN_CHECK", sweep->check ? "1" : "0", 1);
	if (sweep->algorithm)
		setenv("RDTRAIN_ALLREDUCE", sweep->algorithm, 1);
	else
		unsetenv("RDTRAIN_ALLREDUCE");
	setenv("RDTRAIN_TIMEOUT", "20", 1);
}

/* ---- all who live through it: step by step within one run ------------------------------------ */

static bool suits(enum fault_kind fault, int status, int check)
{
	switch (fault) {
	case FAULT_DELAY: return status == 0;
	case FAULT_ERROR: return status == RDT_ERR_SYSTEM || status == RDT_ERR_ABORTED;
	case FAULT_DROP:
	case FAULT_DOUBLE:
		if (check && status == RDT_ERR_CORRUPT)
			return true;
		return status == 0 || status == RDT_ERR_TIMEOUT || status == RDT_ERR_PEER_LOST;
	default: return false;
	}
}

static bool anybody_failed(void)
{
	for (int r = 0; r < RANKS; r++)
		if (board->status[r])
			return true;
	return false;
}

static int every_step(int rank, int n, void *arg)
{
	const struct sweep *sweep = arg;

	for (uint64_t step = 0;; step++) {
		RANK_CHECK(life(rank, n, sweep, step) == 0);
		meet(n);
		if (!board->happened)
			return 0;
		if (!suits(sweep->fault, board->status[rank], sweep->check)) {
			fprintf(stderr, "rank %d, step %d of %s: status %d\n", rank, (int)step,
				kind_names[sweep->kind], board->status[rank]);
			return 1;
		}
		/* A lost message header takes nothing with it. */
		RANK_CHECK(board->wrong == 0 || (!sweep->check && anybody_failed()));
		RANK_CHECK(step < MOST_STEPS);
		if (rank == VICTIM)
			board->steps = (uint32_t)step + 1;
		meet(n);
	}
}

static void sweep_through(struct sweep sweep)
{
	memset(board, 0, sizeof(*board));
	set_environment(&sweep);
	assert_true(ranks_run(RANKS, 200, every_step, &sweep));
	assert_true(board->steps > 0);
	printf("%s, %s%s%s%s: %u steps, %u wrong results without an error\n",
	       fault_name(sweep.fault), kind_names[sweep.kind], sweep.algorithm ? ", " : "",
	       sweep.algorithm ? sweep.algorithm : "", sweep.check ? ", checked" : "", board->steps,
	       board->wrong);
}

/* Where a communicator takes long to make. */
static bool brief(void)
{
	return getenv("RDTRAIN_TEST_BRIEF");
}

static void sweep_kinds(enum fault_kind fault, int check)
{
	static const char *const algorithms[] = { "oneshot", "exchange", "circulant", "ring" };

	if (brief()) {
		sweep_through((struct sweep){ fault, ALLREDUCE, "ring", 4097, check, 0 });
		sweep_through((struct sweep){ fault, SEND_AROUND, NULL, 1001, check, 0 });
		return;
	}
	for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++)
		sweep_through((struct sweep){ fault, ALLREDUCE, algorithms[i], 1001, check, 0 });
	sweep_through((struct sweep){ fault, PLANNED, "ring", 4097, check, 0 });
	sweep_through((struct sweep){ fault, BROADCAST, NULL, 4097, check, 0 });
	sweep_through((struct sweep){ fault, ALLTOALLV, NULL, 77, check, 0 });
	sweep_through((struct sweep){ fault, SEND_AROUND, NULL, 1001, check, 0 });
}

static void a_late_put_does_no_harm(void **state)
{
	(void)state;
	sweep_kinds(FAULT_DELAY, 0);
	sweep_through((struct sweep){ FAULT_DELAY, ALLREDUCE, "ring", 1001, 1, 0 });
}

static void an_error_of_any_completion_ends_the_operation_on_all_ranks(void **state)
{
	(void)state;
	sweep_kinds(FAULT_ERROR, 0);
	sweep_through((struct sweep){ FAULT_ERROR, ALLREDUCE, "ring", 1001, 1, 0 });
}

static void a_notification_that_comes_twice_is_found(void **state)
{
	(void)state;
	sweep_kinds(FAULT_DOUBLE, 1);
}

static void a_lost_put_ends_at_the_deadline_at_the_latest(void **state)
{
	(void)state;
	sweep_through((struct sweep){ FAULT_DROP, ALLREDUCE, "oneshot", 1001, 1, 0 });
	sweep_through((struct sweep){ FAULT_DROP, ALLREDUCE, "ring", 1001, 1, 0 });
	sweep_through((struct sweep){ FAULT_DROP, SEND_AROUND, NULL, 1001, 1, 0 });
	if (brief())
		return;
	sweep_through((struct sweep){ FAULT_DROP, ALLREDUCE, "oneshot", 1001, 0, 0 });
	sweep_through((struct sweep){ FAULT_DROP, SEND_AROUND, NULL, 1001, 0, 0 });
}

/* ---- death: a run for each step -------------------------------------------------------------- */

static int last_life(int rank, int n, void *arg)
{
	const struct sweep *sweep = arg;

	return life(rank, n, sweep, sweep->step);
}

/* Did the victim die? */
static bool die_at(const struct sweep *sweep)
{
	struct ranks_result result;
	int told = 0;
	bool died;

	memset(board, 0, sizeof(*board));
	ranks_run_result(RANKS, 60, last_life, (void *)sweep, &result);
	assert_false(result.timed_out);
	died = WIFSIGNALED(result.status[VICTIM]) && WTERMSIG(result.status[VICTIM]) == SIGKILL;
	for (int r = 0; r < RANKS; r++) {
		if (died && r == VICTIM)
			continue;
		assert_int_equal(result.status[r], 0);
		/* In the last barrier one rank may have heard all that it waits for. */
		assert_true(board->status[r] == 0 || board->status[r] == RDT_ERR_PEER_LOST);
		told += board->status[r] == RDT_ERR_PEER_LOST;
	}
	assert_int_equal(board->wrong, 0);
	assert_true(died ? told > 0 : told == 0);
	return died;
}

static void a_death_at_any_step_is_told_to_the_others(void **state)
{
	struct sweep sweeps[] = { { FAULT_DEATH, ALLREDUCE, "oneshot", 1001, 0, 0 },
				  { FAULT_DEATH, ALLREDUCE, "ring", 1001, 0, 0 },
				  { FAULT_DEATH, SEND_AROUND, NULL, 1001, 0, 0 },
				  { FAULT_DEATH, PLANNED, "exchange", 4097, 1, 0 } };

	(void)state;
	for (size_t i = 0; i < sizeof(sweeps) / sizeof(sweeps[0]); i += brief() ? 2 : 1) {
		set_environment(&sweeps[i]);
		while (die_at(&sweeps[i]))
			assert_true(++sweeps[i].step < MOST_STEPS);
		assert_true(sweeps[i].step > 2);
		printf("death, %s: %d steps\n", kind_names[sweeps[i].kind], (int)sweeps[i].step);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_late_put_does_no_harm),
		cmocka_unit_test(an_error_of_any_completion_ends_the_operation_on_all_ranks),
		cmocka_unit_test(a_notification_that_comes_twice_is_found),
		cmocka_unit_test(a_lost_put_ends_at_the_deadline_at_the_latest),
		cmocka_unit_test(a_death_at_any_step_is_told_to_the_others),
	};

	ranks_need_device();
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (board == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
