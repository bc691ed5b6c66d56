/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * float32 and float64 for one instruction set; see kernels.inc.h. A minimum or maximum with a NaN
 * is a NaN; of two equal values the later source's is taken, so of -0 and +0 too.
 */
typedef f32v acc_f32;
typedef f64v acc_f64;

INLINE f32v load_f32(const void *p)
{
	return (f32v)load(p);
}

INLINE void store_f32(void *p, f32v a)
{
	store(p, (u32v)a);
}

INLINE f32v combine_f32(enum rdt_op op, f32v a, f32v b)
{
	/* A NaN in b fails both comparisons and so is taken with the rest of b. */
	switch (op) {
	case RDT_MIN: return (f32v)choose((u32v)(a < b) | (u32v)(a != a), (u32v)a, (u32v)b);
	case RDT_MAX: return (f32v)choose((u32v)(a > b) | (u32v)(a != a), (u32v)a, (u32v)b);
	case RDT_PROD: return a * b;
	default: return a + b;
	}
}

INLINE f32v divide_f32(f32v a, const struct divisor *by)
{
	return by->reciprocal ? a * by->f32 : a / by->f32;
}

INLINE struct divisor divisor_f32(uint32_t n)
{
	return divisor_float(n);
}

INLINE f64v load_f64(const void *p)
{
	return (f64v)load(p);
}

INLINE void store_f64(void *p, f64v a)
{
	store(p, (u32v)a);
}

INLINE f64v combine_f64(enum rdt_op op, f64v a, f64v b)
{
	switch (op) {
	case RDT_MIN: return (f64v)choose((u32v)(a < b) | (u32v)(a != a), (u32v)a, (u32v)b);
	case RDT_MAX: return (f64v)choose((u32v)(a > b) | (u32v)(a != a), (u32v)a, (u32v)b);
	case RDT_PROD: return a * b;
	default: return a + b;
	}
}

INLINE f64v divide_f64(f64v a, const struct divisor *by)
{
	return by->reciprocal ? a * by->f64 : a / by->f64;
}

INLINE struct divisor divisor_f64(uint32_t n)
{
	return divisor_float(n);
}
