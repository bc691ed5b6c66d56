/* SPDX-License-Identifier: BSD-3-Clause */
/* Learning-rate schedules, at the steps where they turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <cmocka.h>

#include <rdtrain/train.h>

static void expect(const struct rdt_rate *rate, uint64_t step, double value)
{
	assert_true(fabs(rdt_rate_at(rate, step) - value) <= 1e-15 * fabs(value));
}

static void constant_stays(void **state)
{
	struct rdt_rate rate = { .kind = RDT_RATE_CONSTANT, .base = 0.3 };

	(void)state;
	expect(&rate, 0, 0.3);
	expect(&rate, UINT64_MAX, 0.3);
}

static void warm_up_climbs_in_a_line_and_the_first_step_learns(void **state)
{
	struct rdt_rate rate = { .kind = RDT_RATE_CONSTANT, .base = 1, .warmup = 4 };

	(void)state;
	expect(&rate, 0, 0.25);
	expect(&rate, 1, 0.5);
	expect(&rate, 3, 1);
	expect(&rate, 4, 1);
}

static void step_falls_after_each_stretch(void **state)
{
	struct rdt_rate rate = {
		.kind = RDT_RATE_STEP, .base = 1, .warmup = 2, .every = 3, .factor = 0.5
	};

	(void)state;
	expect(&rate, 4, 1);
	expect(&rate, 5, 0.5);
	expect(&rate, 7, 0.5);
	expect(&rate, 8, 0.25);
	rate.every = 0;
	expect(&rate, 100, 1);
}

static void cosine_falls_to_the_least_and_stays(void **state)
{
	struct rdt_rate rate = { .kind = RDT_RATE_COSINE, .base = 1, .least = 0.2, .every = 100 };

	(void)state;
	expect(&rate, 0, 1);
	expect(&rate, 50, 0.6);
	expect(&rate, 100, 0.2);
	expect(&rate, 12345, 0.2);
	for (uint64_t step = 1; step <= 100; step++)
		assert_true(rdt_rate_at(&rate, step) < rdt_rate_at(&rate, step - 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(constant_stays),
		cmocka_unit_test(warm_up_climbs_in_a_line_and_the_first_step_learns),
		cmocka_unit_test(step_falls_after_each_stretch),
		cmocka_unit_test(cosine_falls_to_the_least_and_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
