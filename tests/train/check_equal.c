/* SPDX-License-Identifier: BSD-3-Clause */
/* rdt_check_equal: replicas that agree pass, and those that do not are named, on every rank. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <rdtrain/train.h>

#include "ranks.h"

static int compare(int rank, int n, void *arg)
{
	unsigned char bytes[1001];
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	memset(bytes, rank, sizeof(bytes));
	RANK_CHECK(rdt_broadcast(comm, bytes, sizeof(bytes), RDT_UINT8, n - 1) == 0);
	RANK_CHECK(rdt_check_equal(comm, "w", bytes, sizeof(bytes)) == 0);
	RANK_CHECK(rdt_check_equal(comm, "nothing", NULL, 0) == 0);
	/* One bit, on one rank. */
	if (rank == 3)
		bytes[1000] ^= 1;
	RANK_CHECK(rdt_check_equal(comm, "w", bytes, sizeof(bytes)) == RDT_ERR_MISMATCH);
	RANK_CHECK(strcmp(rdt_last_error(),
			  "w: 4 of 5 ranks have equal bytes, rank 0 among them; these differ: rank "
			  "3") == 0);
	/* Rank 0 alone is no majority; lengths count. */
	if (rank == 3)
		bytes[1000] ^= 1;
	RANK_CHECK(rdt_check_equal(comm, "w", bytes, rank == 0 || rank == 2 ? 1000 : 1001) ==
		   RDT_ERR_MISMATCH);
	RANK_CHECK(strcmp(rdt_last_error(),
			  "w: 3 of 5 ranks have equal bytes, rank 1 among them; these differ, some "
			  "in length: rank 0, 2") == 0);
	/* The communicator goes on. */
	RANK_CHECK(rdt_check_equal(comm, "w", bytes, sizeof(bytes)) == 0);
	RANK_CHECK(rdt_check_equal(comm, NULL, bytes, 1) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_check_equal(comm, "w", NULL, 1) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_check_equal(NULL, "w", bytes, 1) == RDT_ERR_INVALID);
	rdt_comm_destroy(comm);
	return 0;
}

static void ranks_that_differ_are_named_on_every_rank(void **state)
{
	(void)state;
	assert_true(ranks_run(5, 60, compare, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranks_that_differ_are_named_on_every_rank),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
