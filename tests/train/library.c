/* SPDX-License-Identifier: BSD-3-Clause */
/* The shared libraries together: there is one librdtrain in the process, and one sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <rdtrain/train.h>

#include "ranks.h"

static int sum(int rank, int n, void *arg)
{
	int64_t v[7];
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_comm_size(comm) == n);
	for (int i = 0; i < 7; i++)
		v[i] = rank + i;
	RANK_CHECK(rdt_allreduce(comm, v, v, 7, RDT_INT64, RDT_SUM) == 0);
	for (int i = 0; i < 7; i++)
		RANK_CHECK(v[i] == n * (n - 1) / 2 + n * i);
	RANK_CHECK(rdt_set_error(RDT_ERR_SYSTEM, "rank %d", 17) == RDT_ERR_SYSTEM);
	RANK_CHECK(strcmp(rdt_last_error(), "rank 17") == 0);
	RANK_CHECK(rdt_broadcast(comm, v, 7, RDT_INT64, n) == RDT_ERR_INVALID);
	RANK_CHECK(strstr(rdt_last_error(), "root") != NULL);
	rdt_comm_destroy(comm);
	return 0;
}

static void ranks_meet_through_the_shared_library(void **state)
{
	(void)state;
	assert_true(ranks_run(3, 60, sum, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranks_meet_through_the_shared_library),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
