/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * float16 and bfloat16 for one instruction set; see kernels.inc.h. WIDTH bytes of them are two
 * vectors of float32 in registers; they are rounded to nearest even once, when stored. A NaN stays
 * one. Where bits are taken apart here, a 32-bit lane holds two neighbours, and one vector gets the
 * even elements and the other the odd ones: no lane ever crosses to another.
 */
struct pair {
	f32v a, b;
};
typedef struct pair acc_f16;
typedef struct pair acc_bf16;

#define F32_SIGN 0x80000000u
#define F32_INF 0x7f800000u

INLINE struct pair combine_pair(enum rdt_op op, struct pair x, struct pair y)
{
	return (struct pair){ combine_f32(op, x.a, y.a), combine_f32(op, x.b, y.b) };
}

INLINE struct pair divide_pair(struct pair x, const struct divisor *by)
{
	return (struct pair){ divide_f32(x.a, by), divide_f32(x.b, by) };
}

/* ---- bfloat16: the upper half of a float32 ---- */

INLINE struct pair load_bf16(const void *p)
{
	u32v v = load(p);

	return (struct pair){ (f32v)(v << 16), (f32v)(v & 0xffff0000u) };
}

/*
 * The result is in the upper half of each lane; the lower half is rubbish. A NaN needs no care: its
 * payload comes from a bfloat16, so the bits that are rounded away are zero and nothing is carried
 * into its exponent or sign.
 */
INLINE u32v round_bf16(f32v f)
{
	u32v v = (u32v)f;

	return v + 0x7fff + ((v >> 16) & 1);
}

INLINE void store_bf16(void *p, struct pair x)
{
	store(p, (round_bf16(x.a) >> 16) | (round_bf16(x.b) & 0xffff0000u));
}

INLINE struct pair combine_bf16(enum rdt_op op, struct pair x, struct pair y)
{
	return combine_pair(op, x, y);
}

INLINE struct pair divide_bf16(struct pair x, const struct divisor *by)
{
	return divide_pair(x, by);
}

INLINE struct divisor divisor_bf16(uint32_t n)
{
	return divisor_float(n);
}

/* ---- float16: 5 bits of exponent (bias 15), 10 of mantissa ---- */

#ifdef HALF_LOAD

INLINE struct pair load_f16(const void *p)
{
	const unsigned char *c = p;

	return (struct pair){ HALF_LOAD(c), HALF_LOAD(c + WIDTH / 2) };
}

INLINE void store_f16(void *p, struct pair x)
{
	unsigned char *c = p;

	HALF_STORE(c, x.a);
	HALF_STORE(c + WIDTH / 2, x.b);
}

#else

#define BIAS_DIFFERENCE (112u << 23) /* between the exponents of float32 and float16 */

INLINE f32v widen_f16(u32v h) /* the lower 16 bits of each lane, the rest zero */
{
	const u32v two_to_minus_14 = (u32v){ 0 } + 0x38800000u;
	u32v exponent = h & 0x7c00;
	u32v wide = (h & 0x7fff) << 13;
	u32v normal = wide + BIAS_DIFFERENCE;
	/* No hidden one: put one in, as 2^-14, and take it out again. Exact, and also right where
	 * the processor is told to treat float32's own subnormals as zero. */
	f32v tiny = (f32v)(wide + two_to_minus_14) - (f32v)two_to_minus_14;

	/* Infinity and NaN: the exponent becomes 255. */
	normal += (u32v)(exponent == 0x7c00) & BIAS_DIFFERENCE;
	wide = choose((u32v)(exponent == 0), (u32v)tiny, normal);
	return (f32v)(wide | (h & 0x8000) << 16);
}

INLINE u32v round_f16(f32v f) /* to the lower 16 bits of each lane, the rest zero */
{
	const u32v half = (u32v){ 0 } + 0x3f000000u;
	u32v sign = (u32v)f & F32_SIGN;
	u32v v = (u32v)f ^ sign;
	/* Adding 0.5 shifts a value below 2^-14 until its last bit is worth 2^-24, float16's
	 * smallest step, and the addition itself rounds it to nearest even there. */
	u32v tiny = (u32v)((f32v)v + (f32v)half) - half;
	/* A carry goes from the mantissa into the exponent, and from the largest value to infinity,
	 * as it should. */
	u32v normal = (v - BIAS_DIFFERENCE + 0xfff + ((v >> 13) & 1)) >> 13;
	u32v nan = 0x7e00 | ((v >> 13) & 0x3ff);
	u32v h;

	/* All of these are non-negative as signed numbers, which every set can compare. */
	h = choose((u32v)((i32v)v < 0x38800000), tiny, normal);
	h = choose((u32v)((i32v)v >= 0x47800000), (u32v){ 0 } + 0x7c00, h); /* 65536 and up */
	h = choose((u32v)((i32v)v > (int32_t)F32_INF), nan, h);
	return h | sign >> 16;
}

INLINE struct pair load_f16(const void *p)
{
	u32v v = load(p);

	return (struct pair){ widen_f16(v & 0xffff), widen_f16(v >> 16) };
}

INLINE void store_f16(void *p, struct pair x)
{
	store(p, round_f16(x.a) | round_f16(x.b) << 16);
}

#endif

INLINE struct pair combine_f16(enum rdt_op op, struct pair x, struct pair y)
{
	return combine_pair(op, x, y);
}

INLINE struct pair divide_f16(struct pair x, const struct divisor *by)
{
	return divide_pair(x, by);
}

INLINE struct divisor divisor_f16(uint32_t n)
{
	return divisor_float(n);
}
