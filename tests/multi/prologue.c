/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Plain calls over memory that peers can reach: what each rank passes may change from call to call,
 * and no result may come of what a rank passed before.
 */
#include "ranks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "values.h"

#define COUNT 30011 /* large enough for everybody's buffers to be worth it, and odd */
#define BYTES (COUNT * sizeof(int32_t))

static bool on_verbs(void)
{
	const char *transport = getenv("RDTRAIN_TRANSPORT");

	return transport && strcmp(transport, "verbs") == 0;
}

static int sum_into(rdt_comm *comm, int rank, int n, const char *what, void *in, void *out,
		    size_t count, unsigned round)
{
	int status;

	test_fill(in, count, RDT_INT32, RDT_SUM, rank, round);
	status = rdt_allreduce(comm, in, out, count, RDT_INT32, RDT_SUM);
	if (status) {
		fprintf(stderr, "rank %d: %s: %s\n", rank, what, rdt_last_error());
		return 1;
	}
	if (test_wrong(out, count, RDT_INT32, RDT_SUM, n, round)) {
		fprintf(stderr, "rank %d: %s: wrong sums\n", rank, what);
		return 1;
	}
	return 0;
}

/* MiB of shareable memory that is mapped here, this rank's and its peers'. */
static size_t mapped_mib(void)
{
	unsigned long from, to, sum = 0;
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "re");

	while (maps && fgets(line, sizeof(line), maps))
		if (strstr(line, "memfd:rdtrain") && sscanf(line, "%lx-%lx", &from, &to) == 2)
			sum += to - from;
	if (maps)
		fclose(maps);
	return sum >> 20;
}

/* Memory of all kinds, in all places, different on each rank and in each round. */
static int mixed(int rank, int n, void *arg)
{
	unsigned seed = 1;
	char *alloc[4], *ordinary = malloc(2 * BYTES + 64);
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(ordinary && rdt_comm_create(NULL, &comm) == 0);
	for (int i = 0; i < 4; i++)
		RANK_CHECK(rdt_alloc(comm, 3 * BYTES + 64, (void **)&alloc[i]) == 0);
	for (unsigned round = 0; round < 60; round++) {
		/* In the first rounds all can be reached, so that there is a way to do so. */
		unsigned where = (seed = seed * 1103515245u + 12345u + (unsigned)rank) >> 16;
		char *base = round > 4 && where % 5 == 0 ? ordinary : alloc[where / 8 % 4];
		size_t shift = where / 64 % 16 * sizeof(int32_t);
		char *in = base + shift;
		char *out = where / 1024 % 2 ? in : base + shift + BYTES;

		if (sum_into(comm, rank, n, "mixed", in, out, COUNT, round))
			return 1;
	}
	rdt_comm_destroy(comm);
	free(ordinary);
	return 0;
}

/* Memory that is freed between calls, and other memory that takes its place, address and
 * descriptor. */
static int replaced(int rank, int n, void *arg)
{
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (unsigned round = 0; round < 40; round++) {
		size_t count = round % 3 ? COUNT : 1u << 20;
		void *memory;

		RANK_CHECK(rdt_alloc(comm, count * 4, &memory) == 0);
		if (sum_into(comm, rank, n, "replaced", memory, memory, count, round))
			return 1;
		RANK_CHECK(rdt_free(comm, memory) == 0);
		/* 4 MiB a round: kept, they would be (n - 1) * 52 in the end. */
		if (round > 30 && mapped_mib() > 24 + 12 * (size_t)n) {
			fprintf(stderr, "rank %d: %zu MiB are mapped in round %u\n", rank,
				mapped_mib(), round);
			return 1;
		}
	}
	rdt_comm_destroy(comm);
	return 0;
}

/* Many under way together, of one shape, each with memory of its own. */
static int together(int rank, int n, void *arg)
{
	enum { AT_ONCE = 12 };
	rdt_request *request[AT_ONCE];
	char *memory[AT_ONCE];
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (int i = 0; i < AT_ONCE; i++) {
		if (i % 4 == 3 && rank % 2)
			RANK_CHECK((memory[i] = malloc(BYTES)) != NULL);
		else
			RANK_CHECK(rdt_alloc(comm, BYTES, (void **)&memory[i]) == 0);
	}
	for (unsigned round = 0; round < 5; round++) {
		for (int i = 0; i < AT_ONCE; i++) {
			test_fill(memory[i], COUNT, RDT_INT32, RDT_SUM, rank,
				  round * 100 + (unsigned)i);
			RANK_CHECK(rdt_allreduce_start(comm, memory[i], memory[i], COUNT, RDT_INT32,
						       RDT_SUM, &request[i]) == 0);
		}
		for (int i = 0; i < AT_ONCE; i++) {
			int which = (i * 5 + rank) % AT_ONCE;

			RANK_CHECK(rdt_wait(request[which]) == 0);
			RANK_CHECK(test_wrong(memory[which], COUNT, RDT_INT32, RDT_SUM, n,
					      round * 100 + (unsigned)which) == 0);
		}
	}
	for (int i = 3; i < AT_ONCE && rank % 2; i += 4)
		free(memory[i]);
	rdt_comm_destroy(comm);
	return 0;
}

/* Small ones, on the board where there is one: all lengths, all forms, blocking calls among others
 * that are under way, and a rank that is late by turns. */
static int small(int rank, int n, void *arg)
{
	static uint8_t v[8][5000];
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (unsigned round = 0; round < (on_verbs() ? 100 : 400); round++) {
		size_t count = round < 200 ? round + 1 : (round * 7919u) % 5000 + 1;
		rdt_request *request[3];
		rdt_plan *plan = NULL;

		if (round % 50 == (unsigned)rank)
			for (volatile int i = 0; i < 3000000; i++)
				;
		for (int k = 0; k < 8; k++)
			test_fill(v[k], count, RDT_UINT8, RDT_MAX, rank, round + (unsigned)k);
		for (int k = 0; k < 3; k++)
			RANK_CHECK(rdt_allreduce_start(comm, v[k], v[k], count, RDT_UINT8, RDT_MAX,
						       &request[k]) == 0);
		if (round % 16 == 0) {
			RANK_CHECK(rdt_allreduce_plan(comm, v[7], v[7], count, RDT_UINT8, RDT_MAX,
						      &plan) == 0);
			RANK_CHECK(rdt_plan_start(plan) == 0);
		}
		for (int k = 3; k < 7; k++)
			RANK_CHECK(rdt_allreduce(comm, v[k], v[k], count, RDT_UINT8, RDT_MAX) == 0);
		for (int k = 2; k >= 0; k--)
			RANK_CHECK(rdt_wait(request[k]) == 0);
		if (plan)
			RANK_CHECK(rdt_plan_wait(plan) == 0);
		for (int k = 0; k < (plan ? 8 : 7); k++)
			RANK_CHECK(test_wrong(v[k], count, RDT_UINT8, RDT_MAX, n,
					      round + (unsigned)k) == 0);
		rdt_plan_destroy(plan);
	}
	rdt_comm_destroy(comm);
	return 0;
}

static void run_all(int (*fn)(int, int, void *))
{
	static const int sizes[] = { 1, 2, 3, 5, 7 };

	if (on_verbs()) { /* an emulated device: slow */
		assert_true(ranks_run(3, 200, fn, NULL));
		return;
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		assert_true(ranks_run(sizes[i], 100, fn, NULL));
}

static void test_mixed(void **state)
{
	(void)state;
	run_all(mixed);
}

static void test_replaced(void **state)
{
	(void)state;
	run_all(replaced);
}

static void test_together(void **state)
{
	(void)state;
	run_all(together);
}

static void test_small(void **state)
{
	(void)state;
	run_all(small);
}

/* By algorithms that work in others' memory, also where they would not be chosen. */
static void test_forced(void **state)
{
	static const char *const names[] = { "direct", "board", "oneshot", "ring" };

	(void)state;
	/* The first two are for ranks of one host, unchecked. */
	for (size_t i = on_verbs() || ranks_checked() ? 2 : 0; i < sizeof(names) / sizeof(names[0]);
	     i++) {
		setenv("RDTRAIN_ALLREDUCE", names[i], 1);
		assert_true(ranks_run(3, 100, mixed, NULL));
		assert_true(ranks_run(3, 100, small, NULL));
	}
	unsetenv("RDTRAIN_ALLREDUCE");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mixed),	 cmocka_unit_test(test_replaced),
		cmocka_unit_test(test_together), cmocka_unit_test(test_small),
		cmocka_unit_test(test_forced),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
