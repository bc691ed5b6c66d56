/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All kernels of one instruction set, written once in the compilers' vector types and included by
 * kernels_baseline.c, kernels_avx2.c and kernels_avx512.c, which say how wide a vector is (WIDTH
 * bytes), what the table is called (TABLE) and, where the processor converts float16 itself, how
 * (HALF_LOAD, HALF_STORE). The sets must agree bit for bit (but for a NaN's payload): no product is
 * added to anything here, so there is nothing that one set could fuse and another not, and every
 * element is combined in the order of the sources whatever the vector's width.
 *
 * An element type is six names with its suffix: the accumulator acc_T (what WIDTH bytes in memory
 * become in registers), load_T, store_T, combine_T, divide_T and divisor_T, which works out once
 * for a call what divide_T needs. loop.inc.h makes the kernels of a type out of them. Everything is
 * inlined, so that the operation is a constant where it counts.
 */
#include <stdbool.h>
#include <string.h>

#include "lib/reduce/kernels.h"

#if __FINITE_MATH_ONLY__
#error "the kernels must see NaN: do not build with -ffast-math or -ffinite-math-only"
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "float16 and bfloat16 are taken apart in little-endian order"
#endif
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define OUTLINE __attribute__((noinline))
#else
#define OUTLINE __attribute__((noinline, noclone)) /* no copy for each constant argument */
#endif
#define COPY_PIECE 8192
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)

typedef float f32v __attribute__((vector_size(WIDTH)));
typedef double f64v __attribute__((vector_size(WIDTH)));
typedef int32_t i32v __attribute__((vector_size(WIDTH)));
typedef int64_t i64v __attribute__((vector_size(WIDTH)));
typedef uint32_t u32v __attribute__((vector_size(WIDTH)));
typedef uint64_t u64v __attribute__((vector_size(WIDTH)));
/* A vector in the user's memory: of any alignment, and of any type for all the compiler knows. */
typedef uint32_t memv __attribute__((vector_size(WIDTH), aligned(1), may_alias));

INLINE u32v load(const void *p)
{
	return *(const memv *)p;
}

INLINE void store(void *p, u32v v)
{
	*(memv *)p = v;
}

/* Lane by lane: a where the mask is all ones, b where it is zero. */
INLINE u32v choose(u32v mask, u32v a, u32v b)
{
	return (mask & a) | (~mask & b);
}

/*
 * What a result is divided by. A power of two is multiplied by its reciprocal, which gives the same
 * bits and takes a fraction of the time. Integers are divided by multiplication: q = (t + (n - t) /
 * 2) >> shift, where t is the high half of n * magic (Granlund and Montgomery, "Division by
 * Invariant Integers using Multiplication", PLDI 1994, figure 4.1). That is exact for every n.
 */
struct divisor {
	float f32;
	double f64;
	bool reciprocal; /* f32 and f64 are 1/n */
	uint32_t magic32;
	uint64_t magic64;
	int shift;
};

INLINE struct divisor divisor_float(uint32_t n)
{
	bool power = !(n & (n - 1));
	double value = power ? 1.0 / n : n;

	return (struct divisor){ .f32 = (float)value, .f64 = value, .reciprocal = power };
}

INLINE struct divisor divisor_int(uint32_t n) /* n >= 2 */
{
	int bits = 32 - __builtin_clz(n - 1); /* the least with n <= 1 << bits */
	uint64_t rest = ((uint64_t)1 << bits) - n;

	return (struct divisor){
		.magic32 = (uint32_t)((rest << 32) / n + 1),
		.magic64 = (uint64_t)(((unsigned __int128)rest << 64) / n + 1),
		.shift = bits - 1,
	};
}

INLINE uint32_t quotient32(uint32_t n, const struct divisor *by)
{
	uint32_t t = (uint32_t)((uint64_t)n * by->magic32 >> 32);

	return (t + ((n - t) >> 1)) >> by->shift;
}

INLINE uint64_t quotient64(uint64_t n, const struct divisor *by)
{
	uint64_t t = (uint64_t)((unsigned __int128)n * by->magic64 >> 64);

	return (t + ((n - t) >> 1)) >> by->shift;
}

/* One source, nothing to divide: whatever the type, bits. In pieces that stay in the first-level
 * cache, so that more destinations do not read the source from memory again. */
static OUTLINE void copy(unsigned char *const *dst, int n_dst, const unsigned char *src,
			 size_t bytes)
{
	size_t piece;

	for (size_t at = 0; at < bytes; at += piece) {
		piece = bytes - at;
		if (n_dst > 1 && piece > COPY_PIECE)
			piece = COPY_PIECE;
		/* A destination that is the source comes to no harm, but memcpy does not allow it.
		 */
		for (int d = 0; d < n_dst; d++)
			if (dst[d] != src)
				memcpy(dst[d] + at, src + at, piece);
	}
}

/* Fewer bytes than a word, as the low ones of it. */
INLINE uint64_t few_bytes(const unsigned char *from, size_t bytes)
{
	uint64_t word = 0;
	uint32_t low, high;
	uint16_t pair;

	if (bytes >= 4) {
		memcpy(&low, from, 4);
		memcpy(&high, from + bytes - 4, 4);
		return low | (uint64_t)high << 8 * (bytes - 4);
	}
	if (bytes & 1)
		word = from[bytes - 1];
	if (bytes >= 2) {
		memcpy(&pair, from, 2);
		word = word << 16 | pair;
	}
	return word;
}

/* A word, or less of one, and zeros behind it. */
INLINE u32v load_word(const unsigned char *from, size_t bytes)
{
	u64v v = { 0 };

	if (bytes == 8)
		memcpy(&v, from, 8);
	else
		v[0] = few_bytes(from, bytes);
	return (u32v)v;
}

/* Less than a word. */
INLINE void store_few(unsigned char *to, uint64_t word, size_t bytes)
{
	size_t at = 0;

	if (bytes & 4) {
		memcpy(to, &word, 4);
		word >>= 32;
		at = 4;
	}
	for (; at < bytes; at++, word >>= 8)
		to[at] = (unsigned char)word;
}

#include "lib/reduce/float.inc.h"
#include "lib/reduce/half.inc.h"

#define TYPE f32
#define SIZE 4
#include "lib/reduce/loop.inc.h"
#define TYPE f64
#define SIZE 8
#include "lib/reduce/loop.inc.h"
#define TYPE f16
#define SIZE 2
#include "lib/reduce/loop.inc.h"
#define TYPE bf16
#define SIZE 2
#include "lib/reduce/loop.inc.h"

#define TYPE i8
#define SIZE 1
#define SIGNED 1
#define ELEMENT int8_t
#define MODULAR uint8_t
#define QUOTIENT quotient32
#define WIDE uint32_t
#include "lib/reduce/int.inc.h"
#define TYPE u8
#define SIZE 1
#define SIGNED 0
#define ELEMENT uint8_t
#define MODULAR uint8_t
#define QUOTIENT quotient32
#define WIDE uint32_t
#include "lib/reduce/int.inc.h"
#define TYPE i32
#define SIZE 4
#define SIGNED 1
#define ELEMENT int32_t
#define MODULAR uint32_t
#define QUOTIENT quotient32
#define WIDE uint32_t
#include "lib/reduce/int.inc.h"
#define TYPE u32
#define SIZE 4
#define SIGNED 0
#define ELEMENT uint32_t
#define MODULAR uint32_t
#define QUOTIENT quotient32
#define WIDE uint32_t
#include "lib/reduce/int.inc.h"
#define TYPE i64
#define SIZE 8
#define SIGNED 1
#define ELEMENT int64_t
#define MODULAR uint64_t
#define QUOTIENT quotient64
#define WIDE uint64_t
#include "lib/reduce/int.inc.h"
#define TYPE u64
#define SIZE 8
#define SIGNED 0
#define ELEMENT uint64_t
#define MODULAR uint64_t
#define QUOTIENT quotient64
#define WIDE uint64_t
#include "lib/reduce/int.inc.h"

#define OPS_OF(type)                                                                               \
	{                                                                                          \
		[RDT_SUM] = sum_##type, [RDT_AVG] = sum_##type, [RDT_MIN] = min_##type,            \
		[RDT_MAX] = max_##type, [RDT_PROD] = prod_##type,                                  \
	}

rdt_reduce_table TABLE = {
	[RDT_FLOAT32] = OPS_OF(f32),   [RDT_FLOAT64] = OPS_OF(f64), [RDT_FLOAT16] = OPS_OF(f16),
	[RDT_BFLOAT16] = OPS_OF(bf16), [RDT_INT8] = OPS_OF(i8),	    [RDT_UINT8] = OPS_OF(u8),
	[RDT_INT32] = OPS_OF(i32),     [RDT_UINT32] = OPS_OF(u32),  [RDT_INT64] = OPS_OF(i64),
	[RDT_UINT64] = OPS_OF(u64),
};
