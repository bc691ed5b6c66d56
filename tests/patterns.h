/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Contents of buffers that are a function of (who, element, round), and a reference in plain loops
 * for what a collective makes of them. Elements look random: one that lands in the wrong place, or
 * comes from the wrong rank or round, is seen.
 *
 * Integers fill their type and wrap around, but for averages. Floating-point numbers are either
 * small whole numbers, all of whose sums are exact, or `rough`: their sums depend on the order, and
 * are right within a bound.
 */
#ifndef RDT_TEST_PATTERNS_H
#define RDT_TEST_PATTERNS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <rdtrain/rdtrain.h>

#include "values.h"

struct pattern {
	enum rdt_type type;
	enum rdt_op op;
	bool reduces; /* else the elements are moved only, and are any bits */
	bool rough;
	bool in_order; /* rough sums have to be those of the order of ranks, bit for bit */
	uint32_t salt;
};

static inline uint32_t pattern_bits(const struct pattern *p, int who, size_t i, int round)
{
	uint32_t x = (uint32_t)i * 2654435761u;

	x ^= (uint32_t)((uint64_t)i >> 32) * 0xc2b2ae3du;
	x ^= p->salt + (uint32_t)who * 0x9e3779b1u + (uint32_t)round * 0x85ebca77u;
	x ^= x >> 16;
	x *= 0x7feb352du;
	x ^= x >> 15;
	x *= 0x846ca68bu;
	return x ^ x >> 16;
}

static inline uint64_t pattern_integer(const struct pattern *p, int who, size_t i, int round)
{
	uint32_t x = pattern_bits(p, who, i, round);

	/* The sum of nine fits into an int8, and so has an average. */
	if (p->reduces && p->op == RDT_AVG)
		return x % 14;
	return x * 0x9e3779b97f4a7c15u ^ x >> 7;
}

static inline uint16_t pattern_to_half(double v)
{
	return (uint16_t)(test_to_half(fabs(v)) | (signbit(v) ? 0x8000 : 0));
}

static inline double pattern_from_half(uint16_t h)
{
	int e = h >> 10 & 31;
	double v = e ? ldexp((h & 1023) + 1024, e - 25) : ldexp(h & 1023, -24);

	return h & 0x8000 ? -v : v;
}

/* What the type holds of v. */
static inline double pattern_rounded(enum rdt_type type, double v)
{
	switch (type) {
	case RDT_FLOAT32: return (float)v;
	case RDT_FLOAT16: return pattern_from_half(pattern_to_half(v));
	case RDT_BFLOAT16: return test_from_bfloat(test_to_bfloat(v));
	default: return v;
	}
}

static inline double pattern_real(const struct pattern *p, int who, size_t i, int round)
{
	static const double factors[] = { 1, -1, 2, 0.5, -2, -0.5, 1, 1 };
	uint32_t x = pattern_bits(p, who, i, round);
	double v;

	if (!p->rough)
		return p->op == RDT_PROD ? factors[x % 8] : (double)(x % 31) - 15;
	/* Nothing in between that a float16 would have to denormalize. */
	v = 0.5 + (double)(x >> 1) * 0x1.23456789abcdp-31;
	if (p->op == RDT_PROD)
		return pattern_rounded(p->type, v);
	return pattern_rounded(p->type, x & 1 ? -7 * v : 7 * v);
}

static inline double pattern_load(const void *at, enum rdt_type type)
{
	uint16_t h;

	if (type != RDT_FLOAT16)
		return test_load(at, 0, type);
	memcpy(&h, at, sizeof(h));
	return pattern_from_half(h);
}

/* Elements first .. first + count - 1 of who's contribution, stored from `buf` on. */
static inline void pattern_fill(const struct pattern *p, void *buf, size_t first, size_t count,
				int who, int round)
{
	size_t elem = rdt_type_size(p->type);
	char *at = buf;

	for (size_t i = first; i < first + count; i++, at += elem) {
		uint64_t bits;

		if (p->reduces && p->type == RDT_FLOAT16) {
			bits = pattern_to_half(pattern_real(p, who, i, round));
		} else if (p->reduces && test_floating(p->type)) {
			test_store(at, 0, p->type, pattern_real(p, who, i, round));
			continue;
		} else {
			bits = pattern_integer(p, who, i, round);
		}
		memcpy(at, &bits, elem); /* little-endian, as all that the library runs on */
	}
}

/* The first element that is not who's; `count` when all are. */
static inline size_t pattern_check(const struct pattern *p, const void *buf, size_t first,
				   size_t count, int who, int round)
{
	enum { CHUNK = 512 };
	size_t elem = rdt_type_size(p->type);
	char expected[CHUNK * 8];

	for (size_t done = 0; done < count; done += CHUNK) {
		size_t n = count - done < CHUNK ? count - done : CHUNK;
		const char *at = (const char *)buf + done * elem;

		pattern_fill(p, expected, first + done, n, who, round);
		for (size_t i = 0; i < n && memcmp(at, expected, n * elem) != 0; i++)
			if (memcmp(at + i * elem, expected + i * elem, elem) != 0)
				return done + i;
	}
	return count;
}

/* ---- sums ------------------------------------------------------------------------------------ */

#define PATTERN_INTEGERS(T)                                                                        \
	do {                                                                                       \
		T sum = 0, got;                                                                    \
		for (int r = 0; r < n; r++) {                                                      \
			T v = (T)pattern_integer(p, r, i, round);                                  \
			if (r == 0)                                                                \
				sum = v;                                                           \
			else if (p->op == RDT_MIN)                                                 \
				sum = v < sum ? v : sum;                                           \
			else if (p->op == RDT_MAX)                                                 \
				sum = v > sum ? v : sum;                                           \
			else if (p->op == RDT_PROD)                                                \
				sum = (T)((uint64_t)sum * (uint64_t)v);                            \
			else                                                                       \
				sum = (T)((uint64_t)sum + (uint64_t)v);                            \
		}                                                                                  \
		if (p->op == RDT_AVG)                                                              \
			sum = (T)(sum / (T)n);                                                     \
		memcpy(&got, at, sizeof(got));                                                     \
		return got == sum;                                                                 \
	} while (0)

/* One addition after the other in float32 (or float64), rounded once. */
static inline double pattern_in_order(const struct pattern *p, size_t i, int n, int round)
{
	double wide = 0;
	float narrow = 0;

	for (int r = 0; r < n; r++) {
		double v = pattern_real(p, r, i, round);
		float f = (float)v;

		wide = r == 0 ? v : p->op == RDT_PROD ? wide * v : wide + v;
		narrow = r == 0 ? f : p->op == RDT_PROD ? narrow * f : narrow + f;
	}
	return p->type == RDT_FLOAT64 ? wide : pattern_rounded(p->type, (double)narrow);
}

static inline bool pattern_right_real(const struct pattern *p, const char *at, size_t i, int n,
				      int round)
{
	long double sum = 0, size = 0;
	double got = pattern_load(at, p->type), eps, bound;

	if (p->rough && p->in_order && (p->op == RDT_SUM || p->op == RDT_PROD))
		return got == pattern_in_order(p, i, n, round);
	for (int r = 0; r < n; r++) {
		long double v = pattern_real(p, r, i, round);

		if (p->op == RDT_MIN)
			sum = r == 0 || v < sum ? v : sum;
		else if (p->op == RDT_MAX)
			sum = r == 0 || v > sum ? v : sum;
		else if (p->op == RDT_PROD)
			sum = r == 0 ? v : sum * v;
		else
			sum += v;
		size += fabsl(v);
	}
	if (p->op == RDT_PROD)
		size = fabsl(sum);
	if (p->op == RDT_AVG) {
		sum /= n;
		size /= n;
	}
	eps = test_tolerance(p->type, RDT_AVG, 1);
	/* Each of n roundings is half an eps of a partial sum, which is no larger than `size`. */
	bound = p->op == RDT_MIN || p->op == RDT_MAX ? 0
		: p->rough			     ? n * eps * (double)size
		: p->op == RDT_AVG		     ? eps * (double)fabsl(sum)
						     : 0;
	return fabsl(got - sum) <= bound;
}

static inline bool pattern_right(const struct pattern *p, const char *at, size_t i, int n,
				 int round)
{
	switch (p->type) {
	case RDT_INT8: PATTERN_INTEGERS(int8_t);
	case RDT_UINT8: PATTERN_INTEGERS(uint8_t);
	case RDT_INT32: PATTERN_INTEGERS(int32_t);
	case RDT_UINT32: PATTERN_INTEGERS(uint32_t);
	case RDT_INT64: PATTERN_INTEGERS(int64_t);
	case RDT_UINT64: PATTERN_INTEGERS(uint64_t);
	default: return pattern_right_real(p, at, i, n, round);
	}
}

/* The first element that is not what n ranks' contributions combine to; `count` when all are. */
static inline size_t pattern_check_sum(const struct pattern *p, const void *buf, size_t first,
				       size_t count, int n, int round)
{
	size_t elem = rdt_type_size(p->type);

	for (size_t i = 0; i < count; i++)
		if (!pattern_right(p, (const char *)buf + i * elem, first + i, n, round))
			return i;
	return count;
}

#endif
