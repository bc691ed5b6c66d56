/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every kernel of every instruction set that this processor runs, against the reference: all types
 * and operations, sources, destinations, lengths, alignments, in place or not. The sets give the
 * same bits as the reference, hence as each other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/reduce/reduce.h"
#include "tests/unit/reduce_reference.h"

#define MAX_SRC 9
#define MAX_DST 4
#define MAX_COUNT 4099
#define N_TYPES (RDT_UINT64 + 1)
#define N_OPS (RDT_PROD + 1)
#define GUARD 128
#define ROOM ((GUARD + 64 + MAX_COUNT * 8 + GUARD) / 64 * 64 + 64)

static const size_t counts[] = { 0,   1,   2,	3,   4,	  5,   7,   8,	 9,    11,  15,	 16,
				 17,  31,  32,	33,  47,  63,  64,  65,	 96,   97,  127, 128,
				 129, 160, 255, 256, 257, 319, 320, 321, 1000, 4099 };
#define N_COUNTS (sizeof(counts) / sizeof(counts[0]))

static uint64_t random_state = 1;

static uint64_t random_bits(void) /* xorshift64* */
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 2685821657736338717u;
}

static uint64_t random_float(enum rdt_type type)
{
	static const double special[] = { 0.0,	     -0.0,    1.0,     -1.0,	INFINITY,
					  -INFINITY, NAN,     65504.0, 65520.0, 6e-8,
					  6.2e-5,    -3.0e38, 1.7e308, 1.4e-45, 1e-310 };
	uint64_t dice = random_bits() % 8;

	if (dice == 0)
		return double_to_bits(type, special[random_bits() % 15]);
	if (dice < 3)
		return random_bits(); /* any pattern */
	return double_to_bits(type, ((double)(random_bits() >> 11) * 0x1p-52 - 1.0) * 8.0);
}

static void fill(enum rdt_type type, unsigned char *p, size_t count)
{
	size_t size = rdt_type_size(type);

	for (size_t i = 0; i < count; i++) {
		uint64_t bits = type_is_float(type) ? random_float(type) : random_bits();

		if (!type_is_float(type) && random_bits() % 8 == 0) /* the ends of the range */
			bits = ((uint64_t)1 << (size * 8 - 1)) - random_bits() % 2;
		memcpy(p + i * size, &bits, size);
	}
}

static unsigned char original[MAX_SRC][MAX_COUNT * 8]; /* the sources' values */
static unsigned char expected[MAX_COUNT * 8];
static _Alignas(64) unsigned char src_room[MAX_SRC][ROOM], dst_room[MAX_DST][ROOM];

static void expect(enum rdt_type type, enum rdt_op op, int n_src, uint32_t divisor)
{
	const void *src[MAX_SRC];
	size_t size = rdt_type_size(type);

	for (int s = 0; s < n_src; s++)
		src[s] = original[s];
	for (size_t i = 0; i < MAX_COUNT; i++) {
		uint64_t bits = reference(type, op, src, n_src, i, divisor);

		memcpy(expected + i * size, &bits, size);
	}
}

struct run {
	const char *isa;
	enum rdt_type type;
	enum rdt_op op;
	int n_src, n_dst;
	size_t count;
	uint32_t divisor;
	size_t misaligned; /* bytes; 0: all pointers are aligned to a cache line */
	int in_place;	   /* which source is the first destination; -1: none */
};

static void wrong(const struct run *r, const char *what, size_t i)
{
	fail_msg("%s %s %s, %d -> %d, count %zu, divisor %u, misaligned %zu, in place %d: %s (%zu)",
		 r->isa, rdt_type_name(r->type), rdt_op_name(r->op), r->n_src, r->n_dst, r->count,
		 r->divisor, r->misaligned, r->in_place, what, i);
}

static void check_result(const struct run *r, const unsigned char *at)
{
	size_t size = rdt_type_size(r->type), bytes = r->count * size;

	for (size_t i = 0; i < GUARD; i++)
		if (at[-1 - (ptrdiff_t)i] != 0xa5 || at[bytes + i] != 0xa5)
			wrong(r, "a byte beside a destination changed", i);
	if (!memcmp(at, expected, bytes))
		return;
	for (size_t i = 0; i < r->count; i++)
		if (!same_element(r->type, element_bits(at, i, size),
				  element_bits(expected, i, size)))
			wrong(r, "wrong element", i);
}

static void check_run(const struct run *r)
{
	rdt_reduce_fn kernel = rdt_reduce_kernel_isa(r->isa, r->type, r->op);
	size_t bytes = r->count * rdt_type_size(r->type);
	const void *src[MAX_SRC];
	void *dst[MAX_DST];

	for (int s = 0; s < r->n_src; s++) {
		unsigned char *p = src_room[s] + GUARD / 2 + (s + 1) * r->misaligned % 61;

		memset(p - GUARD / 2, 0xa5, GUARD / 2);
		memcpy(p, original[s], bytes);
		src[s] = p;
	}
	for (int d = 0; d < r->n_dst; d++) {
		unsigned char *p = dst_room[d] + GUARD + (d + 5) * r->misaligned % 59;

		memset(p - GUARD, 0xa5, GUARD + bytes + GUARD);
		dst[d] = p;
	}
	if (r->in_place >= 0) {
		/* Guarded as a destination; a second one is the next source. */
		for (int d = 0; d < r->n_dst && d < r->n_src; d++) {
			int s = (r->in_place + d) % r->n_src;

			memcpy(dst[d], original[s], bytes);
			src[s] = dst[d];
		}
	}
	kernel(dst, r->n_dst, src, r->n_src, r->count, r->divisor);
	for (int d = 0; d < r->n_dst; d++)
		check_result(r, dst[d]);
	for (int s = 0; s < r->n_src; s++) {
		bool overwritten = false;

		for (int d = 0; d < r->n_dst; d++)
			overwritten |= dst[d] == src[s];
		if (!overwritten && memcmp(src[s], original[s], bytes))
			wrong(r, "a source changed", (size_t)s);
	}
}

static void each_set(struct run r)
{
	for (const char *const *isa = rdt_reduce_isas(); *isa; isa++) {
		r.isa = *isa;
		check_run(&r);
	}
}

static void refill(enum rdt_type type)
{
	for (int s = 0; s < MAX_SRC; s++)
		fill(type, original[s], MAX_COUNT);
}

static void each_type_and_op(void (*check)(enum rdt_type, enum rdt_op))
{
	for (int type = 0; type < N_TYPES; type++) {
		refill((enum rdt_type)type);
		for (int op = 0; op < N_OPS; op++)
			check((enum rdt_type)type, (enum rdt_op)op);
	}
}

static void check_sources_and_destinations(enum rdt_type type, enum rdt_op op)
{
	static const size_t misaligned[] = { 0, 1, 24 };

	for (int n_src = 1; n_src <= MAX_SRC; n_src++) {
		expect(type, op, n_src, 1);
		for (int n_dst = 1; n_dst <= MAX_DST; n_dst++)
			for (size_t c = 0; c < N_COUNTS; c++)
				for (size_t m = 0; m < 3; m++)
					each_set((struct run){ NULL, type, op, n_src, n_dst,
							       counts[c], m % 2, misaligned[m],
							       -1 });
	}
}

static void any_number_of_sources_goes_to_any_number_of_destinations(void **state)
{
	(void)state;
	each_type_and_op(check_sources_and_destinations);
}

static void check_every_offset(enum rdt_type type, enum rdt_op op)
{
	expect(type, op, 2, 1);
	for (size_t misaligned = 0; misaligned < 64; misaligned++)
		for (size_t count = 30; count < 400; count += 61)
			each_set((struct run){ NULL, type, op, 2, 1, count, 1, misaligned, -1 });
}

static void pointers_may_have_any_byte_offset(void **state)
{
	(void)state;
	each_type_and_op(check_every_offset);
}

static void check_in_place(enum rdt_type type, enum rdt_op op)
{
	for (int n_src = 1; n_src <= MAX_SRC; n_src++) {
		expect(type, op, n_src, 1);
		for (int k = 0; k < n_src; k++)
			for (int n_dst = 1; n_dst <= 2; n_dst++)
				for (size_t c = 0; c < N_COUNTS; c++)
					each_set((struct run){ NULL, type, op, n_src, n_dst,
							       counts[c], 1, c % 2 * 5, k });
	}
}

static void a_destination_may_be_any_of_the_sources(void **state)
{
	(void)state;
	each_type_and_op(check_in_place);
}

static void check_division(enum rdt_type type, enum rdt_op op)
{
	static const uint32_t divisors[] = { 2,	  3,   4,     7,	   64,
					     100, 641, 65536, 3000000000u, UINT32_MAX };

	for (int n_src = 1; n_src <= 3; n_src++)
		for (size_t d = 0; d < sizeof(divisors) / sizeof(divisors[0]); d++) {
			expect(type, op, n_src, divisors[d]);
			for (size_t c = 0; c < N_COUNTS; c++)
				for (int in_place = -1; in_place < 1; in_place++)
					each_set((struct run){ NULL, type, op, n_src, 2, counts[c],
							       divisors[d], c % 3, in_place });
		}
}

static void the_divisor_divides_each_result_once(void **state)
{
	(void)state;
	each_type_and_op(check_division);
}

/* Pages that may be used between two that may not; the elements touch one or the other. */
static unsigned char *fenced(size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *p =
		mmap(NULL, bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	assert_int_equal(mprotect(p + page, bytes, PROT_READ | PROT_WRITE), 0);
	return p + page;
}

static void nothing_beyond_the_ends_is_touched(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *a = fenced(page), *b = fenced(page), *out = fenced(page);

	(void)state;
	for (int type = 0; type < N_TYPES; type++) {
		refill((enum rdt_type)type);
		expect((enum rdt_type)type, RDT_MAX, 2, 1);
		for (const char *const *isa = rdt_reduce_isas(); *isa; isa++)
			for (size_t c = 0; c < N_COUNTS && counts[c] <= 321; c++) {
				size_t bytes = counts[c] * rdt_type_size((enum rdt_type)type);

				for (int end = 0; end < 2; end++) {
					size_t shift = end ? page - bytes : 0;
					const void *src[] = { a + shift, b + shift };
					void *dst[] = { out + shift };
					struct run r = { *isa, (enum rdt_type)type, RDT_MAX, 2,
							 1,    counts[c],	    1,	     shift,
							 -1 };

					memcpy(a + shift, original[0], bytes);
					memcpy(b + shift, original[1], bytes);
					rdt_reduce_kernel_isa(*isa, (enum rdt_type)type, RDT_MAX)(
						dst, 1, src, 2, counts[c], 1);
					for (size_t i = 0; i < counts[c]; i++) {
						size_t size = rdt_type_size((enum rdt_type)type);

						if (!same_element((enum rdt_type)type,
								  element_bits(dst[0], i, size),
								  element_bits(expected, i, size)))
							wrong(&r, "wrong element", i);
					}
				}
			}
	}
	munmap(a - page, 3 * page);
	munmap(b - page, 3 * page);
	munmap(out - page, 3 * page);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_number_of_sources_goes_to_any_number_of_destinations),
		cmocka_unit_test(pointers_may_have_any_byte_offset),
		cmocka_unit_test(a_destination_may_be_any_of_the_sources),
		cmocka_unit_test(the_divisor_divides_each_result_once),
		cmocka_unit_test(nothing_beyond_the_ends_is_touched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
