/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a reduction must give, worked out one element at a time and as plainly as can be: float16
 * and bfloat16 by way of double, rounding by rint, division by the language's own. Shares nothing
 * with the kernels.
 */
#ifndef REDUCE_REFERENCE_H
#define REDUCE_REFERENCE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <rdtrain/rdtrain.h>

/* A 16-bit float with `mantissa` bits after the point and exponents biased by `bias`. */
static inline double small_to_double(uint16_t bits, int mantissa, int bias)
{
	int exponent = (bits & 0x7fff) >> mantissa, all_ones = 0x7fff >> mantissa;
	double fraction = bits & ((1 << mantissa) - 1);
	double value;

	if (exponent == all_ones)
		value = fraction != 0 ? NAN : INFINITY;
	else if (exponent == 0)
		value = ldexp(fraction, 1 - bias - mantissa);
	else
		value = ldexp(fraction + (1 << mantissa), exponent - bias - mantissa);
	return bits & 0x8000 ? -value : value;
}

static inline uint16_t double_to_small(double value, int mantissa, int bias)
{
	uint16_t sign = signbit(value) ? 0x8000 : 0;
	uint16_t infinity = (uint16_t)(0x7fff >> mantissa << mantissa);
	double steps;
	int exponent;

	if (isnan(value))
		return infinity | 1;
	if (isinf(value))
		return sign | infinity;
	if (value == 0)
		return sign;
	value = fabs(value);
	exponent = ilogb(value);
	if (exponent < 1 - bias)
		exponent = 1 - bias;			 /* subnormal: the step no longer shrinks */
	steps = rint(ldexp(value, mantissa - exponent)); /* in the steps of this exponent */
	/* Steps from 2^mantissa up carry the hidden one, which is worth one of the exponent. */
	steps += ldexp(exponent + bias - 1, mantissa);
	return sign | (steps >= infinity ? infinity : (uint16_t)steps);
}

static inline double half_to_double(uint16_t h)
{
	return small_to_double(h, 10, 15);
}

static inline double bfloat_to_double(uint16_t b)
{
	return small_to_double(b, 7, 127);
}

/* Of two equal values, so of -0 and +0, the later is taken; a NaN stays. */
static inline double combine_double(enum rdt_op op, double a, double b)
{
	switch (op) {
	case RDT_PROD: return a * b;
	case RDT_MIN: return isnan(a) || a < b ? a : b;
	case RDT_MAX: return isnan(a) || a > b ? a : b;
	default: return a + b;
	}
}

/* A float32 operation may be done in double and rounded: double has more than twice the bits. */
static inline float combine_float(enum rdt_op op, float a, float b)
{
	return (float)combine_double(op, a, b);
}

/* Of `bits` bits, in 128: nothing overflows there but what wraps in the type. */
static inline __int128 wrap(unsigned __int128 value, int bits, bool is_signed)
{
	unsigned __int128 low = value & (((unsigned __int128)1 << bits) - 1);

	if (is_signed && low >> (bits - 1))
		return (__int128)low - ((__int128)1 << bits);
	return (__int128)low;
}

static inline __int128 combine_int(enum rdt_op op, __int128 a, __int128 b)
{
	switch (op) {
	case RDT_PROD: return (__int128)((unsigned __int128)a * (unsigned __int128)b);
	case RDT_MIN: return a < b ? a : b;
	case RDT_MAX: return a > b ? a : b;
	default: return a + b;
	}
}

static inline bool type_is_signed(enum rdt_type type)
{
	return type == RDT_INT8 || type == RDT_INT32 || type == RDT_INT64;
}

static inline bool type_is_float(enum rdt_type type)
{
	return type <= RDT_BFLOAT16;
}

static inline uint64_t element_bits(const void *array, size_t i, size_t size)
{
	uint64_t bits = 0; /* little-endian, like the kernels */

	memcpy(&bits, (const unsigned char *)array + i * size, size);
	return bits;
}

/* The value of element i of an array of any floating type. */
static inline double element_double(enum rdt_type type, const void *array, size_t i)
{
	uint64_t bits = element_bits(array, i, rdt_type_size(type));
	uint32_t bits32 = (uint32_t)bits;
	float f32;
	double f64;

	switch (type) {
	case RDT_FLOAT16: return half_to_double((uint16_t)bits);
	case RDT_BFLOAT16: return bfloat_to_double((uint16_t)bits);
	case RDT_FLOAT32: memcpy(&f32, &bits32, sizeof(f32)); return f32;
	default: memcpy(&f64, &bits, sizeof(f64)); return f64;
	}
}

static inline uint64_t double_to_bits(enum rdt_type type, double value)
{
	float f32 = (float)value;
	uint32_t bits32;
	uint64_t bits;

	switch (type) {
	case RDT_FLOAT16: return double_to_small(value, 10, 15);
	case RDT_BFLOAT16: return double_to_small(value, 7, 127);
	case RDT_FLOAT32: memcpy(&bits32, &f32, sizeof(f32)); return bits32;
	default: memcpy(&bits, &value, sizeof(bits)); return bits;
	}
}

static inline uint64_t reference_float(enum rdt_type type, enum rdt_op op, const void *const *src,
				       int n_src, size_t i, uint32_t divisor)
{
	bool is_double = type == RDT_FLOAT64;
	double value = element_double(type, src[0], i);

	for (int s = 1; s < n_src; s++) {
		double other = element_double(type, src[s], i);

		value = is_double ? combine_double(op, value, other)
				  : combine_float(op, (float)value, (float)other);
	}
	if (divisor > 1)
		value = is_double ? value / divisor : (float)(value / (float)divisor);
	return double_to_bits(type, value);
}

static inline uint64_t reference_int(enum rdt_type type, enum rdt_op op, const void *const *src,
				     int n_src, size_t i, uint32_t divisor)
{
	size_t size = rdt_type_size(type);
	int bits = (int)size * 8;
	bool is_signed = type_is_signed(type);
	__int128 value = wrap(element_bits(src[0], i, size), bits, is_signed);

	for (int s = 1; s < n_src; s++)
		value = wrap(
			(unsigned __int128)combine_int(
				op, value, wrap(element_bits(src[s], i, size), bits, is_signed)),
			bits, is_signed);
	if (divisor > 1)
		value /= divisor;
	return (uint64_t)wrap((unsigned __int128)value, bits, false);
}

/* The bits of element i of the result. */
static inline uint64_t reference(enum rdt_type type, enum rdt_op op, const void *const *src,
				 int n_src, size_t i, uint32_t divisor)
{
	return type_is_float(type) ? reference_float(type, op, src, n_src, i, divisor)
				   : reference_int(type, op, src, n_src, i, divisor);
}

/* The same bits, or a NaN both: a NaN's sign and payload are nobody's business. */
static inline bool same_element(enum rdt_type type, uint64_t a, uint64_t b)
{
	if (a == b)
		return true;
	return type_is_float(type) && isnan(element_double(type, &a, 0)) &&
	       isnan(element_double(type, &b, 0));
}

#endif
