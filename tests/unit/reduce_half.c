/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * float16 and bfloat16, exhaustively: all 65536 values read and written, and combined with partners
 * that put the result on, above and below every kind of boundary.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/reduce/reduce.h"
#include "tests/unit/reduce_reference.h"

#define ALL 65536

static uint16_t all[ALL], partner[ALL], out[ALL];

static void check(enum rdt_type type, enum rdt_op op, uint32_t divisor)
{
	const void *src[] = { all, partner };
	void *dst[] = { out };
	static uint16_t expected[ALL];

	for (size_t i = 0; i < ALL; i++)
		expected[i] = (uint16_t)reference(type, op, src, 2, i, divisor);
	for (const char *const *isa = rdt_reduce_isas(); *isa; isa++) {
		memset(out, 0x5a, sizeof(out));
		rdt_reduce_kernel_isa(*isa, type, op)(dst, 1, src, 2, ALL, divisor);
		for (size_t i = 0; i < ALL; i++)
			if (!same_element(type, out[i], expected[i]))
				fail_msg("%s %s %s of %#x and %#x divided by %u: %#x, not %#x",
					 *isa, rdt_type_name(type), rdt_op_name(op), all[i],
					 partner[i], divisor, out[i], expected[i]);
	}
}

static void set_partner(enum rdt_type type, double value)
{
	for (size_t i = 0; i < ALL; i++)
		partner[i] = (uint16_t)double_to_bits(type, value);
}

static void every_value_survives_the_way_through_float32(void **state)
{
	(void)state;
	for (int type = RDT_FLOAT16; type <= RDT_BFLOAT16; type++) {
		set_partner((enum rdt_type)type, -0.0); /* adding it changes nothing */
		check((enum rdt_type)type, RDT_SUM, 1);
		for (size_t i = 0; i < ALL; i++)
			assert_true(same_element((enum rdt_type)type, out[i], all[i]));
	}
}

static void every_value_is_rounded_to_nearest_even(void **state)
{
	static const double partners[] = { 0.0,		1.0,	 -1.0,	  0x1p-24,  0x1p-14,
					   0x1.008p-14, 0.5,	 3.0,	  1.0 / 3,  0x1p-10,
					   2048.0,	65504.0, -16.0,	  0x1p-126, 0x1p-133,
					   0x1.04p-8,	3.3e38,	 INFINITY };

	(void)state;
	for (int type = RDT_FLOAT16; type <= RDT_BFLOAT16; type++)
		for (size_t p = 0; p < sizeof(partners) / sizeof(partners[0]); p++) {
			set_partner((enum rdt_type)type, partners[p]);
			check((enum rdt_type)type, RDT_SUM, 1);
			check((enum rdt_type)type, RDT_SUM, 3);
			check((enum rdt_type)type, RDT_SUM, 4);
			check((enum rdt_type)type, RDT_PROD, 1);
			check((enum rdt_type)type, RDT_MIN, 1);
			check((enum rdt_type)type, RDT_MAX, 1);
		}
}

static void every_value_meets_many_others(void **state)
{
	(void)state;
	for (int type = RDT_FLOAT16; type <= RDT_BFLOAT16; type++)
		for (uint32_t round = 0; round < 8; round++) {
			for (uint32_t i = 0; i < ALL; i++)
				partner[i] = (uint16_t)((i + round) * 40503u);
			check((enum rdt_type)type, RDT_SUM, round);
			check((enum rdt_type)type, RDT_PROD, 1);
			/* Near ones, so that most of the sum cancels or stays. */
			for (uint32_t i = 0; i < ALL; i++)
				partner[i] = (uint16_t)((i + round * 700) ^ (round & 1) << 15);
			check((enum rdt_type)type, RDT_SUM, round);
			check((enum rdt_type)type, RDT_MAX, 1);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_value_survives_the_way_through_float32),
		cmocka_unit_test(every_value_is_rounded_to_nearest_even),
		cmocka_unit_test(every_value_meets_many_others),
	};

	for (size_t i = 0; i < ALL; i++)
		all[i] = (uint16_t)i;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
