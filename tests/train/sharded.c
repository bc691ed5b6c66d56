/* SPDX-License-Identifier: BSD-3-Clause */
/* Optimizer state divided over ranks, against one that is not. */
#include "ranks.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <rdtrain/train.h>

#define COUNT 10007

/* Whole numbers: sums are exact, so that both ways give the same bits. */
static float gradient_at(int rank, int step, size_t i)
{
	return (float)((i * 5 + (size_t)(rank * 3 + step * 7)) % 9) - 4;
}

static int against_the_whole(int rank, int n, void *arg)
{
	struct rdt_optimizer_options adam = { .size = sizeof(adam),
					      .kind = *(enum rdt_optimizer_kind *)arg };
	struct rdt_sharded_options o = {
		.size = sizeof(o), .count = COUNT, .sum = 1, .optimizer = &adam
	};
	float *whole = calloc(COUNT, sizeof(float)), *sum = calloc(COUNT, sizeof(float)), *mine;
	rdt_optimizer *optimizer;
	size_t first, count;
	rdt_sharded *s;
	rdt_comm *comm;

	RANK_CHECK(whole && sum && rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_sharded_create(comm, &o, &s) == 0);
	RANK_CHECK(rdt_optimizer_create(&adam, COUNT, RDT_FLOAT32, &optimizer) == 0);
	mine = rdt_sharded_params(s);
	for (size_t i = 0; i < COUNT; i++)
		whole[i] = mine[i] = sinf((float)i);
	RANK_CHECK(rdt_sharded_optimizer(s, &first, &count) &&
		   count == rdt_part(COUNT, n, rank, NULL));
	for (int step = 0; step < 5; step++) {
		for (size_t i = 0; i < COUNT; i++) {
			((float *)rdt_sharded_gradient(s))[i] = gradient_at(rank, step, i);
			sum[i] = 0;
			for (int r = 0; r < n; r++)
				sum[i] += gradient_at(r, step, i);
		}
		RANK_CHECK(rdt_sharded_step(s, (uint64_t)step, 0.01) == 0);
		rdt_optimizer_step(optimizer, (uint64_t)step, 0.01, whole, sum);
		for (size_t i = 0; i < COUNT; i++)
			RANK_CHECK(mine[i] == whole[i]);
	}
	rdt_sharded_destroy(s);
	o.count = (size_t)n - 1;
	RANK_CHECK(rdt_sharded_create(comm, &o, &s) == RDT_ERR_INVALID && !s);
	rdt_optimizer_destroy(optimizer);
	rdt_comm_destroy(comm);
	free(whole);
	free(sum);
	return 0;
}

static void pieces_are_updated_as_the_whole_would_be(void **state)
{
	enum rdt_optimizer_kind kinds[] = { RDT_SGD, RDT_MOMENTUM, RDT_ADAM };

	(void)state;
	for (int k = 0; k < 3; k++)
		for (int n = 1; n <= 4; n++)
			assert_true(ranks_run(n, 60, against_the_whole, &kinds[k]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_are_updated_as_the_whole_would_be),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
