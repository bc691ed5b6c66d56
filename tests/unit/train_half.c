/* SPDX-License-Identifier: BSD-3-Clause */
/* Rounding to 16 bits and back: every half, and every neighbour of one. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib/train/half.h"

static float unpack(enum rdt_type type, uint32_t half)
{
	uint16_t h = (uint16_t)half;
	float value;

	rdt_half_unpack(type, &h, 1, &value, 1);
	return value;
}

static uint16_t pack(enum rdt_type type, float value)
{
	uint16_t half;

	rdt_half_pack(type, &value, 1, FLT_MAX, NULL, &half, 1);
	return half;
}

static const enum rdt_type types[] = { RDT_FLOAT16, RDT_BFLOAT16 };

static void every_half_survives_the_way_there_and_back(void **state)
{
	(void)state;
	assert_true(unpack(RDT_FLOAT16, 0x3c00) == 1 && unpack(RDT_BFLOAT16, 0x3f80) == 1);
	assert_true(unpack(RDT_FLOAT16, 0x7bff) == 65504 && unpack(RDT_FLOAT16, 1) == 0x1p-24f);
	assert_true(unpack(RDT_FLOAT16, 0xc500) == -5 && unpack(RDT_BFLOAT16, 0xc0a0) == -5);
	for (int t = 0; t < 2; t++)
		for (uint32_t h = 0; h < 65536; h++) {
			float value = unpack(types[t], h);

			if (isnan(value))
				assert_true(isnan(unpack(types[t], pack(types[t], value))));
			else
				assert_int_equal(pack(types[t], value), h);
		}
}

/* Between a half and the next: below the middle the one, above it the other, at it the even. */
static void what_lies_between_goes_to_the_nearest(void **state)
{
	(void)state;
	for (int t = 0; t < 2; t++)
		for (uint32_t h = 0; isfinite(unpack(types[t], h + 1)); h++) {
			float low = unpack(types[t], h), high = unpack(types[t], h + 1);
			float middle = (float)(((double)low + (double)high) / 2);

			assert_int_equal(pack(types[t], middle), h % 2 ? h + 1 : h);
			assert_int_equal(pack(types[t], nextafterf(middle, 0)), h);
			assert_int_equal(pack(types[t], nextafterf(middle, INFINITY)), h + 1);
			assert_int_equal(pack(types[t], -nextafterf(middle, 0)), h | 0x8000);
		}
}

static void what_is_too_large_becomes_the_largest_and_the_rest_is_lost(void **state)
{
	float value = 1e6f, carry = 0;
	uint16_t half;

	(void)state;
	rdt_half_pack(RDT_FLOAT16, &value, 1, FLT_MAX, &carry, &half, 1);
	assert_int_equal(half, 0x7bff);
	assert_true(carry == 0);
	rdt_half_pack(RDT_FLOAT16, &value, -0.5f, 8192, &carry, &half, 1);
	assert_true(unpack(RDT_FLOAT16, half) == -8192 && carry == 0);
	value = 8;
	carry = 1;
	rdt_half_pack(RDT_FLOAT16, &value, 0.25f, 8192, &carry, &half, 1);
	assert_true(unpack(RDT_FLOAT16, half) == 3 && carry == 0);
	assert_int_equal(pack(RDT_BFLOAT16, 3.402823466e38f), 0x7f7f);
	value = INFINITY;
	rdt_half_pack(RDT_FLOAT16, &value, 1, FLT_MAX, &carry, &half, 1);
	assert_int_equal(half, 0x7c00);
	assert_true(carry == 0);
	value = 1 + 0x1p-12f;
	rdt_half_pack(RDT_FLOAT16, &value, 1, FLT_MAX, &carry, &half, 1);
	assert_int_equal(half, 0x3c00);
	assert_true(carry == 0x1p-12f);
	value = 1 + 0x1p-12f; /* with what was carried half a step: to even */
	rdt_half_pack(RDT_FLOAT16, &value, 1, FLT_MAX, &carry, &half, 1);
	assert_int_equal(half, 0x3c00);
	assert_true(carry == 0x1p-11f);
	rdt_half_pack(RDT_FLOAT16, &value, 1, FLT_MAX, &carry, &half, 1);
	assert_int_equal(half, 0x3c01);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_half_survives_the_way_there_and_back),
		cmocka_unit_test(what_lies_between_goes_to_the_nearest),
		cmocka_unit_test(what_is_too_large_becomes_the_largest_and_the_rest_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
