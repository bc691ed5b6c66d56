/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Test data whose reductions are exact in every type: small whole numbers that depend on rank,
 * index and round. A reference in plain loops, for one element at a time.
 */
#ifndef RDT_TEST_VALUES_H
#define RDT_TEST_VALUES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <rdtrain/rdtrain.h>

/* Small enough for the product of 8 ranks to fit into an int8, and exact in bfloat16. */
static inline int test_value(int rank, size_t i, int round, enum rdt_op op)
{
	size_t x = (size_t)rank * 7 + i * 3 + (size_t)round * 5 + (i >> 8);

	if (op == RDT_PROD)
		return x % 5 == 0 && rank < 6 ? 2 : 1;
	return (int)(x % 13);
}

static inline double test_expected(int n, size_t i, int round, enum rdt_op op, int floating)
{
	double result = op == RDT_PROD ? 1 : op == RDT_MIN ? 1e9 : op == RDT_MAX ? -1e9 : 0;

	for (int r = 0; r < n; r++) {
		double v = test_value(r, i, round, op);

		if (op == RDT_PROD)
			result *= v;
		else if (op == RDT_MIN)
			result = v < result ? v : result;
		else if (op == RDT_MAX)
			result = v > result ? v : result;
		else
			result += v;
	}
	if (op == RDT_AVG)
		result = floating ? result / n : trunc(result / n);
	return result;
}

/* Non-negative values that are whole or quotients; enough for tests. */
static inline uint16_t test_to_half(double v)
{
	int e;
	double m;

	if (v == 0)
		return 0;
	m = frexp(v, &e); /* v = m * 2^e, m in [0.5, 1) */
	m = nearbyint(ldexp(m, 11));
	if (m >= 2048) {
		m /= 2;
		e++;
	}
	return (uint16_t)(((e + 14) << 10) | ((int)m & 1023));
}

static inline double test_from_half(uint16_t h)
{
	return h ? ldexp((h & 1023) + 1024, (h >> 10) - 25) : 0;
}

static inline uint16_t test_to_bfloat(double v)
{
	float f = (float)v;
	uint32_t u;

	memcpy(&u, &f, sizeof(u));
	return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

static inline double test_from_bfloat(uint16_t b)
{
	uint32_t u = (uint32_t)b << 16;
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

static inline void test_store(void *buf, size_t i, enum rdt_type type, double v)
{
	char *at = (char *)buf + i * rdt_type_size(type);

#define STORE(ctype, value)                                                                        \
	do {                                                                                       \
		ctype stored = (ctype)(value);                                                     \
		memcpy(at, &stored, sizeof(stored));                                               \
	} while (0)
	switch (type) {
	case RDT_FLOAT32: STORE(float, v); break;
	case RDT_FLOAT64: STORE(double, v); break;
	case RDT_FLOAT16: STORE(uint16_t, test_to_half(v)); break;
	case RDT_BFLOAT16: STORE(uint16_t, test_to_bfloat(v)); break;
	case RDT_INT8: STORE(int8_t, v); break;
	case RDT_UINT8: STORE(uint8_t, v); break;
	case RDT_INT32: STORE(int32_t, v); break;
	case RDT_UINT32: STORE(uint32_t, v); break;
	case RDT_INT64: STORE(int64_t, v); break;
	case RDT_UINT64: STORE(uint64_t, v); break;
	}
#undef STORE
}

static inline double test_load(const void *buf, size_t i, enum rdt_type type)
{
	const char *at = (const char *)buf + i * rdt_type_size(type);

#define LOAD(ctype, convert)                                                                       \
	do {                                                                                       \
		ctype loaded;                                                                      \
		memcpy(&loaded, at, sizeof(loaded));                                               \
		return convert(loaded);                                                            \
	} while (0)
	switch (type) {
	case RDT_FLOAT32: LOAD(float, (double));
	case RDT_FLOAT64: LOAD(double, (double));
	case RDT_FLOAT16: LOAD(uint16_t, test_from_half);
	case RDT_BFLOAT16: LOAD(uint16_t, test_from_bfloat);
	case RDT_INT8: LOAD(int8_t, (double));
	case RDT_UINT8: LOAD(uint8_t, (double));
	case RDT_INT32: LOAD(int32_t, (double));
	case RDT_UINT32: LOAD(uint32_t, (double));
	case RDT_INT64: LOAD(int64_t, (double));
	case RDT_UINT64: LOAD(uint64_t, (double));
	}
#undef LOAD
	return NAN;
}

static inline int test_floating(enum rdt_type type)
{
	return type <= RDT_BFLOAT16;
}

/* How far a result may be from the reference: nothing but the rounding of one division. */
static inline double test_tolerance(enum rdt_type type, enum rdt_op op, double expected)
{
	double eps = type == RDT_FLOAT16    ? 0x1p-10
		     : type == RDT_BFLOAT16 ? 0x1p-7
		     : type == RDT_FLOAT32  ? 0x1p-23
					    : 0x1p-52;

	return test_floating(type) && op == RDT_AVG ? eps * fabs(expected) : 0;
}

static inline void test_fill(void *buf, size_t count, enum rdt_type type, enum rdt_op op, int rank,
			     int round)
{
	for (size_t i = 0; i < count; i++)
		test_store(buf, i, type, test_value(rank, i, round, op));
}

/* How many elements of an allreduce's result are wrong. */
static inline size_t test_wrong(const void *buf, size_t count, enum rdt_type type, enum rdt_op op,
				int n, int round)
{
	size_t wrong = 0;

	for (size_t i = 0; i < count; i++) {
		double expected = test_expected(n, i, round, op, test_floating(type));

		if (!(fabs(test_load(buf, i, type) - expected) <=
		      test_tolerance(type, op, expected)))
			wrong++;
	}
	return wrong;
}

#endif
