/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RDTRAIN_CHECK=1 against a link that changes data: one bit of one put, in any operation, of any
 * length, at any step, is found before a rank has used it, and all ranks are told which way it
 * came. RDTRAIN_TEST_CASES says how many bits are flipped (default 200).
 */
#include "ranks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "operations.h"
#include "tests/fault.h"

/* What all ranks of a run share. */
struct board {
	uint32_t steps[RANKS_MAX];
	uint32_t met, caught;
};

struct cases {
	int from, to;
};

static const char *const algorithms[][7] = {
	[ALLREDUCE] = { "oneshot", "exchange", "radix2", "radix4", "circulant", "ring" },
	[REDUCE_SCATTER] = { "exchange", "circulant", "ring" },
	[ALLGATHER] = { "exchange", "circulant", "ring" },
	[BROADCAST] = { "tree", "linear" },
	[REDUCE] = { "tree", "linear" },
	[ALLTOALL] = { "pairwise", "bruck" },
	[BARRIER] = { "dissemination", "dissemination4" },
	[PLANNED] = { "oneshot", "exchange", "radix2", "radix8", "circulant", "ring" },
};

static const char *const settings[] = {
	[ALLREDUCE] = "RDTRAIN_ALLREDUCE", [REDUCE_SCATTER] = "RDTRAIN_REDUCE_SCATTER",
	[ALLGATHER] = "RDTRAIN_ALLGATHER", [BROADCAST] = "RDTRAIN_BROADCAST",
	[REDUCE] = "RDTRAIN_REDUCE",	   [ALLTOALL] = "RDTRAIN_ALLTOALL",
	[BARRIER] = "RDTRAIN_BARRIER",	   [PLANNED] = "RDTRAIN_ALLREDUCE",
};

/* The settings of this case; the algorithms take turns. */
static void set_environment(enum kind kind, uint64_t *dice, int number)
{
	char job[32];
	int n = 0;

	snprintf(job, sizeof(job), "case-%d", number);
	setenv("RDTRAIN_JOB", job, 1);
	for (int k = 0; k < KINDS; k++)
		if ((size_t)k < sizeof(settings) / sizeof(settings[0]) && settings[k])
			unsetenv(settings[k]);
	if ((size_t)kind < sizeof(settings) / sizeof(settings[0]) && settings[kind]) {
		while (algorithms[kind][n])
			n++;
		setenv(settings[kind], algorithms[kind][fault_dice(dice, (uint64_t)n)], 1);
	}
	if (fault_dice(dice, 3) == 0)
		setenv("RDTRAIN_WINDOW", "4096", 1);
	else
		unsetenv("RDTRAIN_WINDOW");
}

static size_t count_of(enum kind kind, uint64_t *dice)
{
	static const size_t counts[] = { 1, 3, 8, 13, 100, 1001, 4097, 20003, 65537 };

	return kind == BARRIER ? 1 : counts[fault_dice(dice, sizeof(counts) / sizeof(counts[0]))];
}

/* The fault of the victim, and what this rank sees of it. */
static int strike(struct operation *o, rdt_comm *comm, int rank, int n, uint64_t *dice)
{
	struct board *board = ranks_shared();
	size_t bytes = operation_bytes(o, n);
	uint8_t *right = malloc(bytes);
	char name[32];
	int victim, status;

	RANK_CHECK(right);
	memcpy(right, o->out, bytes);
	victim = (int)fault_dice(dice, (uint64_t)n);
	while (board->steps[victim] == 0) /* it only receives */
		victim = (victim + 1) % n;
	operation_fill(o, rank, n, 1);
	if (rank == victim)
		fault_arm(&(struct fault){ FAULT_FLIP, fault_dice(dice, board->steps[victim]),
					   fault_dice(dice, UINT64_MAX) });
	status = operation_run(o, comm, rank, n);
	/* Who ends before the bit is found was not touched by it. */
	RANK_CHECK(status == RDT_ERR_CORRUPT || (status == 0 && !memcmp(right, o->out, bytes)));
	RANK_CHECK(rdt_barrier(comm) == RDT_ERR_CORRUPT);
	RANK_CHECK(rank != victim || fault_happened());
	fault_arm(NULL);
	snprintf(name, sizeof(name), "rank %d to rank", victim);
	RANK_CHECK(strstr(rdt_last_error(), name));
	RANK_CHECK(strstr(rdt_last_error(), "shared memory") || strstr(rdt_last_error(), "verbs"));
	free(right);
	return 0;
}

static int one_case(int rank, int n, int first, int number)
{
	uint64_t dice = (uint64_t)number * 1000 + (uint64_t)n;
	struct board *board = ranks_shared();
	struct operation o = { .kind = (enum kind)(number % KINDS) };
	bool alloc;
	rdt_comm *comm;

	set_environment(o.kind, &dice, number);
	o.count = count_of(o.kind, &dice);
	alloc = fault_dice(&dice, 2);
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	if (alloc) {
		RANK_CHECK(rdt_alloc(comm, operation_bytes(&o, n), (void **)&o.in) == 0);
		RANK_CHECK(rdt_alloc(comm, operation_bytes(&o, n), (void **)&o.out) == 0);
	} else {
		o.in = malloc(operation_bytes(&o, n));
		o.out = malloc(operation_bytes(&o, n));
	}
	/* The first makes the plan, the second is like the one that will be struck. */
	for (int i = 0; i < 2; i++) {
		operation_fill(&o, rank, n, 1);
		fault_arm(NULL);
		RANK_CHECK(operation_run(&o, comm, rank, n) == 0);
		board->steps[rank] = (uint32_t)fault_steps();
	}
	/* Nobody goes on before all are through with what still goes well. */
	RANK_CHECK(rdt_barrier(comm) == 0);
	__atomic_fetch_add(&board->met, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&board->met, __ATOMIC_ACQUIRE) <
	       (uint32_t)(n * (number - first + 1)))
		usleep(50);
	RANK_CHECK(strike(&o, comm, rank, n, &dice) == 0);
	if (rank == 0)
		board->caught++;
	rdt_plan_destroy(o.plan);
	rdt_comm_destroy(comm);
	if (!alloc) {
		free(o.in);
		free(o.out);
	}
	return 0;
}

static int many(int rank, int n, void *arg)
{
	const struct cases *cases = arg;

	for (int i = cases->from; i < cases->to; i++)
		if (one_case(rank, n, cases->from, i)) {
			fprintf(stderr, "case %d of %d ranks (%s)\n", i, n, kind_names[i % KINDS]);
			return 1;
		}
	return 0;
}

static int wanted(void)
{
	const char *text = getenv("RDTRAIN_TEST_CASES");

	return text ? atoi(text) : 200;
}

static void a_flipped_bit_is_always_found(void **state)
{
	int total = wanted();

	(void)state;
	for (int n = 2; n <= 5; n++) {
		struct cases cases = { total * (n - 2) / 4, total * (n - 1) / 4 };

		assert_true(ranks_run(n, 600, many, &cases));
	}
	printf("a flipped bit was caught in %d of %d cases\n", total, total);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_flipped_bit_is_always_found),
	};

	ranks_need_device();
	setenv("RDTRAIN_CHECK", "1", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
