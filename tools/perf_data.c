/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What goes into a timed allreduce and what must come out of it. The arithmetic here is its own, so
 * that it cannot agree with a fault of the library's kernels.
 *
 * Both are patterns of PERIOD elements, made once for a type and an operation. Element i of the
 * operation number s is element (i + i / PERIOD * SHIFT + s * SHIFT) of the pattern, modulo PERIOD:
 * a block that lands in the wrong place, or in the wrong operation, is seen, and yet filling and
 * checking run at the speed of memory.
 *
 * The contributions are chosen so that the result does not depend on the order of the operands:
 * integers may be anything, since they wrap; a sum of floats has small integers, a product powers
 * of two, few enough for the type. Only the average of floats may be off, by its one division.
 */
#include "tools/perf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PERIOD 16381 /* prime: no power of two is near a multiple of it */
#define SHIFT 5081

struct perf_data {
	enum rdt_type type;
	enum rdt_op op;
	size_t element;
	unsigned char *mine, *expected; /* PERIOD elements each */
	double *exact;			/* the average of floats before rounding, else NULL */
	double tolerance;		/* relative */
};

/* How a type of floating point numbers is laid out. */
struct format {
	int fraction_bits, lowest_exponent;
	double largest_sum; /* integers up to this one are exact */
	int largest_power;  /* powers of two from 2^-p to 2^p are exact */
};

static bool is_float(enum rdt_type type)
{
	return type == RDT_FLOAT32 || type == RDT_FLOAT64 || type == RDT_FLOAT16 ||
	       type == RDT_BFLOAT16;
}

static struct format format_of(enum rdt_type type)
{
	switch (type) {
	case RDT_FLOAT16: return (struct format){ 10, -14, 2048, 14 };
	case RDT_BFLOAT16: return (struct format){ 7, -126, 256, 120 };
	case RDT_FLOAT32: return (struct format){ 23, -126, 0x1p24, 120 };
	default: return (struct format){ 52, -1022, 0x1p53, 1000 };
	}
}

/* A finite number in the 16 bits of a half type, rounded to nearest even. Rounding up to the next
 * power of two carries into the exponent by itself. */
static uint16_t encode16(double x, struct format f)
{
	int e = x == 0 ? f.lowest_exponent : ilogb(x);
	double magnitude;

	if (e < f.lowest_exponent)
		e = f.lowest_exponent;
	magnitude = nearbyint(ldexp(fabs(x), f.fraction_bits - e));
	return (uint16_t)((signbit(x) ? 0x8000 : 0) + ((e - f.lowest_exponent) << f.fraction_bits) +
			  (int)magnitude);
}

static double decode16(uint16_t bits, struct format f)
{
	int e = (bits & 0x7fff) >> f.fraction_bits;
	int fraction = bits & ((1 << f.fraction_bits) - 1);
	double x;

	if (e == (0x7fff >> f.fraction_bits))
		x = fraction ? NAN : INFINITY;
	else if (e == 0)
		x = ldexp(fraction, f.lowest_exponent - f.fraction_bits);
	else
		x = ldexp(fraction + (1 << f.fraction_bits),
			  e - 1 + f.lowest_exponent - f.fraction_bits);
	return bits & 0x8000 ? -x : x;
}

static void store_float(const struct perf_data *d, void *to, size_t i, double x)
{
	float narrow = (float)x;
	uint16_t half;

	switch (d->type) {
	case RDT_FLOAT64: memcpy((char *)to + 8 * i, &x, 8); break;
	case RDT_FLOAT32: memcpy((char *)to + 4 * i, &narrow, 4); break;
	default:
		/* the halves are computed in float32 and rounded when stored */
		half = encode16(narrow, format_of(d->type));
		memcpy((char *)to + 2 * i, &half, 2);
	}
}

static double load_float(const struct perf_data *d, const void *from, size_t i)
{
	uint16_t half;
	float narrow;
	double x;

	switch (d->type) {
	case RDT_FLOAT64: memcpy(&x, (const char *)from + 8 * i, 8); return x;
	case RDT_FLOAT32: memcpy(&narrow, (const char *)from + 4 * i, 4); return narrow;
	default:
		memcpy(&half, (const char *)from + 2 * i, 2);
		return decode16(half, format_of(d->type));
	}
}

/* Sixty-four well mixed bits (the finaliser of SplitMix64). */
static uint64_t mix(uint64_t rank, uint64_t i)
{
	uint64_t x = (rank << 32 | i) + 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* A whole number from -limit to limit. */
static double between(uint64_t bits, double limit)
{
	uint64_t values = 2 * (uint64_t)limit + 1;

	return (double)(bits % values) - limit;
}

/* One rank's contribution of floats to pattern element i. */
static double contribution_float(enum rdt_op op, struct format f, int size, uint64_t rank,
				 uint64_t i)
{
	uint64_t bits = mix(rank, i), share;
	double limit;

	if (op == RDT_MIN || op == RDT_MAX)
		return between(bits, f.largest_sum < 1000 ? f.largest_sum : 1000);
	/* In a large job only every share-th rank brings more than the neutral element, so that
	 * the result is within bounds whatever the order. */
	if (op == RDT_PROD) {
		share = (uint64_t)(size / f.largest_power) + 1;
		return ldexp(bits & 4 ? 1 : -1,
			     (rank + i) % share == 0 ? (int)(bits >> 8 & 0xff) % 3 - 1 : 0);
	}
	share = (uint64_t)(size / (int)fmin(f.largest_sum, 0x1p24)) + 1;
	if ((rank + i) % share != 0)
		return 0;
	limit = floor(f.largest_sum / ceil((double)size / (double)share));
	return between(bits, limit < 1000 ? limit : 1000);
}

static double expected_float(enum rdt_type type, enum rdt_op op, int size, uint64_t i)
{
	struct format f = format_of(type);
	double x = contribution_float(op, f, size, 0, i);

	for (int r = 1; r < size; r++) {
		double y = contribution_float(op, f, size, (uint64_t)r, i);

		switch (op) {
		case RDT_MIN: x = y < x ? y : x; break;
		case RDT_MAX: x = y > x ? y : x; break;
		case RDT_PROD: x *= y; break;
		default: x += y;
		}
	}
	return op == RDT_AVG ? x / size : x;
}

/* The value of an integer type that has these low bits, as a signed or unsigned 64-bit number. */
static uint64_t widen(enum rdt_type type, uint64_t bits)
{
	switch (type) {
	case RDT_INT8: return (uint64_t)(int64_t)(int8_t)bits;
	case RDT_UINT8: return (uint8_t)bits;
	case RDT_INT32: return (uint64_t)(int64_t)(int32_t)bits;
	case RDT_UINT32: return (uint32_t)bits;
	default: return bits;
	}
}

/* Odd factors only: else a product of many is 0 nearly everywhere, whoever is left out. */
static uint64_t contribution_integer(enum rdt_op op, uint64_t rank, uint64_t i)
{
	return mix(rank, i) | (op == RDT_PROD ? 1 : 0);
}

static uint64_t expected_integer(enum rdt_type type, enum rdt_op op, int size, uint64_t i)
{
	bool is_signed = type == RDT_INT8 || type == RDT_INT32 || type == RDT_INT64;
	uint64_t x = widen(type, contribution_integer(op, 0, i));

	for (int r = 1; r < size; r++) {
		uint64_t y = widen(type, contribution_integer(op, (uint64_t)r, i));
		bool less = is_signed ? (int64_t)y < (int64_t)x : y < x;

		switch (op) {
		case RDT_MIN: x = less ? y : x; break;
		case RDT_MAX: x = less ? x : y; break;
		case RDT_PROD: x *= y; break;
		default: x += y;
		}
	}
	x = widen(type, x);
	if (op == RDT_AVG)
		x = is_signed ? (uint64_t)((int64_t)x / size) : x / (uint64_t)size;
	return x;
}

/* Pattern element i: this rank's contribution, and the result. The low bytes of an integer are its
 * first: this library is for little-endian machines alone. */
static void make_mine(const struct perf_data *d, int rank, int size, size_t i)
{
	uint64_t x;

	if (is_float(d->type)) {
		store_float(d, d->mine, i,
			    contribution_float(d->op, format_of(d->type), size, (uint64_t)rank, i));
	} else {
		x = contribution_integer(d->op, (uint64_t)rank, i);
		memcpy(d->mine + i * d->element, &x, d->element);
	}
}

static void make_expected(const struct perf_data *d, int size, size_t i)
{
	double real;
	uint64_t x;

	if (is_float(d->type)) {
		real = expected_float(d->type, d->op, size, i);
		if (d->exact)
			d->exact[i] = real;
		store_float(d, d->expected, i, real);
	} else {
		x = expected_integer(d->type, d->op, size, i);
		memcpy(d->expected + i * d->element, &x, d->element);
	}
}

struct perf_data *perf_data_new(int rank, int size, enum rdt_type type, enum rdt_op op)
{
	struct perf_data *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->type = type;
	d->op = op;
	d->element = rdt_type_size(type);
	d->mine = malloc(PERIOD * d->element);
	d->expected = malloc(PERIOD * d->element);
	if (is_float(type) && op == RDT_AVG) {
		d->exact = malloc(PERIOD * sizeof(*d->exact));
		/* one division, rounded, perhaps by way of the reciprocal, and one more rounding */
		d->tolerance = ldexp(1, 1 - format_of(type).fraction_bits);
	}
	if (!d->mine || !d->expected || (d->tolerance > 0 && !d->exact)) {
		perf_data_free(d);
		return NULL;
	}
	for (size_t i = 0; i < PERIOD; i++) {
		make_mine(d, rank, size, i);
		make_expected(d, size, i);
	}
	return d;
}

void perf_data_free(struct perf_data *d)
{
	if (!d)
		return;
	free(d->mine);
	free(d->expected);
	free(d->exact);
	free(d);
}

/* ---- laying the pattern over a buffer -------------------------------------------------------- */

/* A run of elements that follow one another in the pattern as well. */
struct run {
	uint64_t at, length; /* in the buffer */
	size_t from;	     /* in the pattern */
};

/* The run that begins at element `at`. */
static struct run run_at(uint64_t at, uint64_t count, uint64_t seed)
{
	uint64_t block = at / PERIOD, in_block = at % PERIOD;
	size_t from = (size_t)((in_block + (block + seed) % PERIOD * SHIFT) % PERIOD);
	uint64_t length = PERIOD - (from > in_block ? from : in_block);

	return (struct run){ at, length < count - at ? length : count - at, from };
}

void perf_data_fill(const struct perf_data *d, void *buffer, uint64_t count, uint64_t seed)
{
	for (uint64_t at = 0; at < count;) {
		struct run r = run_at(at, count, seed);

		memcpy((char *)buffer + at * d->element, d->mine + r.from * d->element,
		       r.length * d->element);
		at += r.length;
	}
}

/* Only for runs that differ somewhere, so it may be slow. */
static uint64_t differing(const struct perf_data *d, const char *got, const unsigned char *pattern,
			  struct run r, bool rounded)
{
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < r.length; i++) {
		size_t from = r.from + (size_t)i;

		if (memcmp(got + i * d->element, pattern + from * d->element, d->element) == 0)
			continue;
		if (rounded && fabs(load_float(d, got, i) - d->exact[from]) <=
				       d->tolerance * fabs(d->exact[from]))
			continue;
		wrong++;
	}
	return wrong;
}

static uint64_t compare(const struct perf_data *d, const void *buffer, uint64_t count,
			uint64_t seed, const unsigned char *pattern, bool rounded)
{
	uint64_t wrong = 0;

	for (uint64_t at = 0; at < count;) {
		struct run r = run_at(at, count, seed);
		const char *got = (const char *)buffer + at * d->element;

		if (memcmp(got, pattern + r.from * d->element, r.length * d->element) != 0)
			wrong += differing(d, got, pattern, r, rounded);
		at += r.length;
	}
	return wrong;
}

uint64_t perf_data_changed(const struct perf_data *d, const void *buffer, uint64_t count,
			   uint64_t seed)
{
	return compare(d, buffer, count, seed, d->mine, false);
}

uint64_t perf_data_wrong(const struct perf_data *d, const void *buffer, uint64_t count,
			 uint64_t seed)
{
	return compare(d, buffer, count, seed, d->expected, d->exact != NULL);
}
