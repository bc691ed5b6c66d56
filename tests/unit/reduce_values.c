/* SPDX-License-Identifier: BSD-3-Clause */
/* What the kernels of every instruction set make of the values that are easy to get wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/reduce/reduce.h"
#include "tests/unit/reduce_reference.h"

/* Long enough for a full vector of each set, and for a tail. */
#define COUNT 131

struct kernel {
	const char *isa;
	enum rdt_type type;
	enum rdt_op op;
};

/* The bits that `k` makes of these n_src elements; the same at every place of an array. */
static uint64_t result(struct kernel k, const uint64_t *element, int n_src, uint32_t divisor)
{
	static unsigned char room[4][COUNT * 8], out[COUNT * 8];
	size_t size = rdt_type_size(k.type);
	const void *src[4] = { room[0], room[1], room[2], room[3] };
	void *dst[] = { out };

	for (int s = 0; s < n_src; s++)
		for (size_t i = 0; i < COUNT; i++)
			memcpy(room[s] + i * size, &element[s], size);
	rdt_reduce_kernel_isa(k.isa, k.type, k.op)(dst, 1, src, n_src, COUNT, divisor);
	for (size_t i = 1; i < COUNT; i++)
		if (!same_element(k.type, element_bits(out, i, size), element_bits(out, 0, size)))
			fail_msg("%s %s %s: element %zu is not as element 0", k.isa,
				 rdt_type_name(k.type), rdt_op_name(k.op), i);
	return element_bits(out, 0, size);
}

static double float_result(struct kernel k, double a, double b, uint32_t divisor)
{
	const uint64_t element[] = { double_to_bits(k.type, a), double_to_bits(k.type, b) };
	uint64_t bits = result(k, element, 2, divisor);

	return element_double(k.type, &bits, 0);
}

static int64_t int_result(struct kernel k, int64_t a, int64_t b, uint32_t divisor)
{
	const uint64_t element[] = { (uint64_t)a, (uint64_t)b };
	int bits = (int)rdt_type_size(k.type) * 8;

	return (int64_t)wrap(result(k, element, 2, divisor), bits, type_is_signed(k.type));
}

#define EACH_SET(isa) for (const char *const *isa = rdt_reduce_isas(); *isa; isa++)
#define EACH_FLOAT(type)                                                                           \
	for (enum rdt_type type = RDT_FLOAT32; type <= RDT_BFLOAT16;                               \
	     type = (enum rdt_type)(type + 1))

static void a_nan_in_any_source_gives_a_nan(void **state)
{
	static const enum rdt_op ops[] = { RDT_SUM, RDT_AVG, RDT_MIN, RDT_MAX, RDT_PROD };
	static const double other[] = { 0.0, -1.0, INFINITY, -INFINITY, NAN };

	(void)state;
	EACH_SET(isa)
	EACH_FLOAT(type)
	for (int o = 0; o < 5; o++)
		for (int v = 0; v < 5; v++) {
			struct kernel k = { *isa, type, ops[o] };

			assert_true(isnan(float_result(k, NAN, other[v], 1)));
			assert_true(isnan(float_result(k, other[v], NAN, 1)));
			assert_true(isnan(float_result(k, other[v], NAN, 3)));
		}
}

/* The first and the last pattern of quiet and of signalling NaNs, of both signs. */
static void no_pattern_of_a_nan_is_rounded_to_a_number(void **state)
{
	static const uint16_t half[] = { 0x7c01, 0x7dff, 0x7e00, 0x7fff,
					 0xfc01, 0xfdff, 0xfe00, 0xffff };
	static const uint16_t bfloat[] = { 0x7f81, 0x7fbf, 0x7fc0, 0x7fff,
					   0xff81, 0xffbf, 0xffc0, 0xffff };

	(void)state;
	EACH_SET(isa)
	for (int op = RDT_SUM; op <= RDT_PROD; op++)
		for (int i = 0; i < 8; i++)
			for (uint32_t divisor = 1; divisor < 4; divisor++) {
				const uint64_t h[] = { half[i], half[7 - i] };
				const uint64_t b[] = { bfloat[i], bfloat[7 - i] };
				struct kernel k = { *isa, RDT_FLOAT16, (enum rdt_op)op };

				assert_true(
					isnan(half_to_double((uint16_t)result(k, h, 2, divisor))));
				k.type = RDT_BFLOAT16;
				assert_true(isnan(
					bfloat_to_double((uint16_t)result(k, b, 2, divisor))));
			}
}

static void infinities_add_up_or_cancel(void **state)
{
	(void)state;
	EACH_SET(isa)
	EACH_FLOAT(type)
	{
		struct kernel k = { *isa, type, RDT_SUM };

		assert_true(float_result(k, INFINITY, 1.0, 1) == INFINITY);
		assert_true(float_result(k, -INFINITY, -INFINITY, 3) == -INFINITY);
		assert_true(isnan(float_result(k, INFINITY, -INFINITY, 1)));
		k.op = RDT_MIN;
		assert_true(float_result(k, INFINITY, 1.0, 1) == 1.0);
		assert_true(float_result(k, 1.0, -INFINITY, 1) == -INFINITY);
		k.op = RDT_MAX;
		assert_true(float_result(k, INFINITY, 1.0, 1) == INFINITY);
	}
}

static void of_two_zeros_the_later_source_s_is_taken(void **state)
{
	(void)state;
	EACH_SET(isa)
	EACH_FLOAT(type)
	for (int op = RDT_MIN; op <= RDT_MAX; op++) {
		struct kernel k = { *isa, type, (enum rdt_op)op };

		assert_true(signbit(float_result(k, 0.0, -0.0, 1)));
		assert_false(signbit(float_result(k, -0.0, 0.0, 1)));
	}
}

static void small_floats_are_summed_in_float32_and_rounded_once(void **state)
{
	/* 2048 + 1 is a tie in float16 that goes back to 2048: rounded at every step, the sum would
	 * stay there. Likewise 256 in bfloat16. */
	const uint64_t half[] = { double_to_bits(RDT_FLOAT16, 2048), double_to_bits(RDT_FLOAT16, 1),
				  double_to_bits(RDT_FLOAT16, 1) };
	const uint64_t bfloat[] = { double_to_bits(RDT_BFLOAT16, 256),
				    double_to_bits(RDT_BFLOAT16, 1),
				    double_to_bits(RDT_BFLOAT16, 1) };

	(void)state;
	EACH_SET(isa)
	{
		struct kernel h = { *isa, RDT_FLOAT16, RDT_SUM };
		struct kernel b = { *isa, RDT_BFLOAT16, RDT_SUM };

		assert_true(half_to_double((uint16_t)result(h, half, 3, 1)) == 2050.0);
		assert_true(bfloat_to_double((uint16_t)result(b, bfloat, 3, 1)) == 258.0);
		assert_true(float_result(h, 2048, 1, 1) == 2048.0); /* ties go to even */
		assert_true(float_result(h, 2050, 1, 1) == 2052.0);
		assert_true(float_result(b, 256, 1, 1) == 256.0);
		assert_true(float_result(b, 258, 1, 1) == 260.0);
	}
}

static void a_sum_may_exceed_float16_before_it_is_divided(void **state)
{
	(void)state;
	EACH_SET(isa)
	{
		struct kernel k = { *isa, RDT_FLOAT16, RDT_SUM };

		assert_true(float_result(k, 65504, 65504, 2) == 65504.0);
		assert_true(float_result(k, 65504, 8, 1) == 65504.0);
		assert_true(float_result(k, 65504, 16, 1) ==
			    INFINITY); /* the tie above the largest */
		assert_true(float_result(k, -65504, -65504, 1) == -INFINITY);
	}
}

static void sums_and_products_of_integers_wrap_around(void **state)
{
	(void)state;
	EACH_SET(isa)
	{
		struct kernel k = { *isa, RDT_INT8, RDT_SUM };

		assert_int_equal(int_result(k, 127, 1, 1), -128);
		k.op = RDT_PROD;
		assert_int_equal(int_result(k, -128, -1, 1), -128);
		k = (struct kernel){ *isa, RDT_UINT8, RDT_SUM };
		assert_int_equal(int_result(k, 200, 100, 1), 44);
		k = (struct kernel){ *isa, RDT_INT32, RDT_SUM };
		assert_int_equal(int_result(k, INT32_MIN, -1, 1), INT32_MAX);
		k.op = RDT_PROD;
		assert_int_equal(int_result(k, 65536, 65536, 1), 0);
		k = (struct kernel){ *isa, RDT_INT64, RDT_SUM };
		assert_int_equal(int_result(k, INT64_MAX, 1, 1), INT64_MIN);
		k.op = RDT_PROD;
		assert_int_equal(int_result(k, INT64_MIN, -1, 1), INT64_MIN);
		assert_int_equal(int_result(k, 4294967297, 4294967299, 1), 4294967296 * 4 + 3);
	}
}

static void signed_and_unsigned_are_compared_as_what_they_are(void **state)
{
	static const enum rdt_type types[] = { RDT_INT8, RDT_INT32, RDT_INT64 };

	(void)state;
	EACH_SET(isa)
	for (int t = 0; t < 3; t++) {
		struct kernel k = { *isa, types[t], RDT_MIN };

		assert_int_equal(int_result(k, -1, 1, 1), -1);
		k.op = RDT_MAX;
		assert_int_equal(int_result(k, -1, 1, 1), 1);
		k.type = (enum rdt_type)(types[t] + 1); /* the unsigned type of its size */
		assert_true(int_result(k, -1, 1, 1) != 1);
		k.op = RDT_MIN;
		assert_int_equal(int_result(k, -1, 1, 1), 1);
	}
}

static void integer_averages_truncate_towards_zero(void **state)
{
	(void)state;
	EACH_SET(isa)
	{
		struct kernel k = { *isa, RDT_INT32, RDT_AVG };

		assert_int_equal(int_result(k, -4, -3, 2), -3);
		assert_int_equal(int_result(k, 4, 3, 2), 3);
		assert_int_equal(int_result(k, INT32_MIN, 0, 2), -1073741824);
		assert_int_equal(int_result(k, INT32_MIN, 0, 2147483648u), -1);
		assert_int_equal(int_result(k, INT32_MIN, 0, 2147483649u), 0);
		k.type = RDT_INT8;
		assert_int_equal(int_result(k, -100, -28, 3), -42);
		assert_int_equal(int_result(k, 100, 27, 300), 0); /* 300 is no int8 */
		k.type = RDT_INT64;
		assert_int_equal(int_result(k, INT64_MIN, 0, 3), -3074457345618258602);
		k.type = RDT_UINT64;
		assert_int_equal(int_result(k, -1, 0, 4294967295u), 4294967297);
	}
}

/* Dense where it is cheap; the quotients' ends, where a wrong one shows first, elsewhere. */
static void every_integer_is_divided_exactly(void **state)
{
	static const enum rdt_type types[] = { RDT_INT32, RDT_UINT32, RDT_INT64, RDT_UINT64 };
	static uint64_t in[512], out[512];
	const void *src[] = { in };
	void *dst[] = { out };

	(void)state;
	EACH_SET(isa)
	{
		for (uint32_t divisor = 2; divisor < 300; divisor++)
			for (int type = RDT_INT8; type <= RDT_UINT8; type++) {
				for (int i = 0; i < 256; i++)
					((unsigned char *)in)[i] = (unsigned char)i;
				rdt_reduce_kernel_isa(*isa, (enum rdt_type)type,
						      RDT_SUM)(dst, 1, src, 1, 256, divisor);
				for (size_t i = 0; i < 256; i++)
					assert_int_equal(element_bits(out, i, 1),
							 reference((enum rdt_type)type, RDT_SUM,
								   src, 1, i, divisor));
			}
		for (uint32_t step = 2; step < 5000; step++) {
			/* Small divisors, large ones, and the neighbours of powers of two. */
			uint32_t divisor = step < 2000	 ? step
					   : step < 4000 ? UINT32_MAX - step * 1000003u
							 : (1u << (step % 31 + 1)) + step % 3 - 1;

			if (divisor < 2)
				continue;
			for (int t = 0; t < 4; t++) {
				size_t size = rdt_type_size(types[t]);
				size_t count = 64 / size;

				for (size_t i = 0; i < count; i++) {
					uint64_t multiple =
						(~(uint64_t)0 >> (i * 7 % 60)) / divisor;
					uint64_t value = multiple * divisor - i % 2;

					memcpy((char *)in + i * size, &value, size);
				}
				rdt_reduce_kernel_isa(*isa, types[t], RDT_SUM)(dst, 1, src, 1,
									       count, divisor);
				for (size_t i = 0; i < count; i++)
					assert_int_equal(
						element_bits(out, i, size),
						reference(types[t], RDT_SUM, src, 1, i, divisor));
			}
		}
	}
}

static void one_source_is_copied_bit_by_bit(void **state)
{
	static unsigned char in[100003], out[3][100003];
	const void *src[] = { in };
	void *dst[] = { out[0], in, out[1], out[2] };

	(void)state;
	for (size_t i = 0; i < sizeof(in); i++) /* with signalling NaNs */
		in[i] = (unsigned char)(i * 151 >> 3);
	EACH_SET(isa)
	for (int type = 0; type <= RDT_UINT64; type++) {
		size_t size = rdt_type_size((enum rdt_type)type);
		size_t bytes = sizeof(in) / size * size;

		memset(out, 0, sizeof(out));
		rdt_reduce_kernel_isa(*isa, (enum rdt_type)type, RDT_SUM)(dst, 4, src, 1,
									  bytes / size, 0);
		for (int d = 0; d < 3; d++)
			assert_memory_equal(out[d], in, bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_nan_in_any_source_gives_a_nan),
		cmocka_unit_test(no_pattern_of_a_nan_is_rounded_to_a_number),
		cmocka_unit_test(infinities_add_up_or_cancel),
		cmocka_unit_test(of_two_zeros_the_later_source_s_is_taken),
		cmocka_unit_test(small_floats_are_summed_in_float32_and_rounded_once),
		cmocka_unit_test(a_sum_may_exceed_float16_before_it_is_divided),
		cmocka_unit_test(sums_and_products_of_integers_wrap_around),
		cmocka_unit_test(signed_and_unsigned_are_compared_as_what_they_are),
		cmocka_unit_test(integer_averages_truncate_towards_zero),
		cmocka_unit_test(every_integer_is_divided_exactly),
		cmocka_unit_test(one_source_is_copied_bit_by_bit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
