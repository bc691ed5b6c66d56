/* SPDX-License-Identifier: BSD-3-Clause */
/* Headers of safetensors files that break a rule of the format; lists of parts; boxes of tensors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/train/checkpoint.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A file of this header and `data` bytes, in memory of just that size. */
static int parse(const char *json, size_t data, struct rdt_header *h)
{
	size_t length = strlen(json), n = 8 + length + data;
	unsigned char *bytes = calloc(1, n);
	int status;

	assert_non_null(bytes);
	for (int i = 0; i < 8; i++)
		bytes[i] = (unsigned char)(length >> 8 * i);
	memcpy(bytes + 8, json, length);
	status = rdt_header_parse("f", bytes, n, n, h);
	free(bytes);
	return status;
}

#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"

static void a_header_by_the_rules_is_read(void **state)
{
	struct rdt_header h;

	(void)state;
	assert_int_equal(
		parse("{" A ",\"s\":{\"shape\":[],\"data_offsets\":[24,32],\"dtype\":\"I64\"},"
		      "\"none\":{\"dtype\":\"U8\",\"shape\":[0,7],\"data_offsets\":[32,32]},"
		      "\"__metadata__\":{\"k\":\"v\"}}   \n",
		      32, &h),
		0);
	assert_int_equal(h.n, 3);
	assert_int_equal(rdt_header_find(&h, "a")->dims[1], 3);
	assert_int_equal(rdt_header_find(&h, "s")->n_dims, 0);
	assert_int_equal(rdt_header_find(&h, "s")->begin, 24);
	assert_null(rdt_header_find(&h, "b"));
	assert_string_equal(rdt_header_metadata(&h, "k"), "v");
	assert_null(rdt_header_metadata(&h, "a"));
	rdt_header_free(&h);
	assert_int_equal(parse("{}", 0, &h), 0);
	assert_null(rdt_header_metadata(&h, "k"));
	rdt_header_free(&h);
}

static void a_header_that_breaks_a_rule_is_refused(void **state)
{
	static const struct {
		const char *json;
		size_t data;
		const char *words;
	} faults[] = {
		{ "", 0, "does not begin with '{'" },
		{ " {}", 0, "does not begin with '{'" },
		{ "{\"a\":", 0, "no JSON" },
		{ "{" A "," A "}", 24, "no JSON: duplicate" },
		{ "{" A "}x", 24, "no JSON" },
		{ "{\"a\":3}", 24, "not just dtype" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[6]}}", 24, "not just dtype" },
		{ "{\"a\":{\"dtype\":\"C64\",\"shape\":[3],\"data_offsets\":[0,24]}}", 24,
		  "dtype cannot be read" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[-6],\"data_offsets\":[0,24]}}", 24,
		  "whole numbers" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[6.0],\"data_offsets\":[0,24]}}", 24,
		  "whole numbers" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[0,24]}}", 24,
		  "do not fit" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[24,0]}}", 24,
		  "ascending" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0,24,48]}}", 24,
		  "not just dtype" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],"
		  "\"data_offsets\":[0,24]}}",
		  24, "larger than all memory" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}",
		  1, "more than 8 dimensions" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],"
		  "\"data_offsets\":[0,24]}}",
		  24, "no JSON" },
		{ "{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[25,29]}}", 29,
		  "a hole or an overlap before \"b\"" },
		{ "{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[23,27]}}", 27,
		  "a hole or an overlap before \"b\"" },
		{ "{\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}", 8,
		  "a hole or an overlap before \"b\"" },
		{ "{" A "}", 23, "cut short: 23 bytes of data, not 24" },
		{ "{" A "}", 25, "1 bytes behind the data" },
		{ "{\"__metadata__\":7}", 0, "not an object" },
		{ "{\"__metadata__\":{\"k\":7}}", 0, "\"k\" is not a string" },
		{ "{\"\xff\":7}", 0, "no JSON" },
	};
	struct rdt_header h;

	(void)state;
	for (size_t i = 0; i < COUNT(faults); i++) {
		if (parse(faults[i].json, faults[i].data, &h) != RDT_ERR_INVALID)
			fail_msg("accepted: %s", faults[i].json);
		if (strncmp(rdt_last_error(), "f: byte ", 8) != 0 ||
		    !strstr(rdt_last_error(), faults[i].words))
			fail_msg("%s: \"%s\"", faults[i].json, rdt_last_error());
	}
	assert_int_equal(rdt_header_parse("f", "1234567", 7, 7, &h), RDT_ERR_INVALID);
	assert_int_equal(rdt_header_parse("f", "\0\0\0\0\0\0\0\1{}", 10, 10, &h), RDT_ERR_INVALID);
	assert_non_null(strstr(rdt_last_error(), "the most is 100000000"));
	assert_int_equal(rdt_header_parse("f", "\3\0\0\0\0\0\0\0{}", 10, 10, &h), RDT_ERR_INVALID);
	assert_non_null(strstr(rdt_last_error(), "cut short within its header"));
}

static void what_is_written_can_be_read(void **state)
{
	const struct rdt_entry entries[] = {
		{ .name = "w", .type = RDT_FLOAT64, .n_dims = 2, .dims = { 2, 3 }, .end = 48 },
		{ .name = "quote\"d \xe2\x82\xac",
		  .type = RDT_INT8,
		  .n_dims = 1,
		  .dims = { 5 },
		  .begin = 48,
		  .end = 53 },
	};
	const char *const metadata[][2] = { { "one", "1" }, { "two", "\n" } };
	struct rdt_header h;
	unsigned char *bytes;
	size_t n;

	(void)state;
	assert_int_equal(rdt_header_write(entries, 2, metadata, 2, &bytes, &n), 0);
	assert_int_equal(n % 64, 0);
	assert_int_equal(rdt_header_parse("f", bytes, n, n + 53, &h), 0);
	assert_int_equal(h.data_at, n);
	assert_int_equal(h.n, 2);
	assert_int_equal(rdt_header_find(&h, entries[1].name)->type, RDT_INT8);
	assert_string_equal(rdt_header_metadata(&h, "two"), "\n");
	rdt_header_free(&h);
	free(bytes);
}

static void lists_of_parts_are_read_back_or_refused(void **state)
{
	static const char *const faults[] = {
		"",
		"0 0,0 2,3 0000000000000001",
		"0 0,0 2,3 0000000000000001;x",
		"0 0,0 2,3 0000000000000001;0 0,0 2,3 0000000000000001;",
		"0 0,0 2,2 0000000000000001;",
		"0 0,0 3,2 0000000000000001;",
		"0 1,0 2,3 0000000000000001;",
		"1 0,0 2,3 0000000000000001;",
		"-1 0,0 2,3 0000000000000001;",
		"0 0 6 0000000000000001;",
		"0 0,0 2,99999999999999999999 0000000000000001;",
		"0 0,0 2,18446744073709551615 0000000000000001;",
		"0 - - 0000000000000001;",
		";",
	};
	struct rdt_part *parts, part = { .slab = { .start = { 0, 0 }, .count = { 2, 3 } },
					 .sum = 0xfedcba9876543210u };
	struct rdt_header h;
	char *text;
	size_t n;

	(void)state;
	assert_int_equal(parse("{" A "}", 24, &h), 0);
	text = rdt_parts_write(&part, 1, h.entries);
	assert_string_equal(text, "0 0,0 2,3 fedcba9876543210;");
	assert_int_equal(rdt_parts_read("f", text, &h, &parts, &n), 0);
	assert_int_equal(n, 1);
	assert_memory_equal(&parts[0].slab, &part.slab, sizeof(part.slab));
	assert_true(parts[0].sum == part.sum);
	free(parts);
	free(text);
	for (size_t i = 0; i < COUNT(faults); i++) {
		if (rdt_parts_read("f", faults[i], &h, &parts, &n) != RDT_ERR_INVALID)
			fail_msg("accepted: %s", faults[i]);
		assert_null(parts);
	}
	rdt_header_free(&h);
}

/* Each run marks its elements: all of the box, once, in order. */
struct marks {
	unsigned char seen[4 * 5 * 6];
	uint64_t next;
	int runs;
};

static int mark(void *arg, uint64_t whole, uint64_t part, uint64_t n)
{
	struct marks *m = arg;

	assert_int_equal(part, m->next);
	m->next += n;
	m->runs++;
	for (uint64_t i = 0; i < n; i++)
		m->seen[whole + i]++;
	return 0;
}

static void runs_are_the_box(void **state)
{
	const uint64_t dims[] = { 4, 5, 6 };

	(void)state;
	for (uint64_t c = 0; c < 4 * 5 * 6 * 4 * 5 * 6; c++) {
		struct rdt_slab slab = { .start = { c % 4, c / 4 % 5, c / 20 % 6 },
					 .count = { c / 120 % 4 + 1, c / 480 % 5 + 1,
						    c / 2400 % 6 + 1 } };
		struct marks m = { 0 };

		if (!rdt_slab_fits(&slab, 3, dims))
			continue;
		assert_int_equal(rdt_slab_runs(&slab, 3, dims, mark, &m), 0);
		assert_int_equal(m.next, rdt_slab_elements(&slab, 3));
		for (uint64_t i = 0; i < 120; i++) {
			bool in = i / 30 - slab.start[0] < slab.count[0] &&
				  i / 6 % 5 - slab.start[1] < slab.count[1] &&
				  i % 6 - slab.start[2] < slab.count[2];

			assert_int_equal(m.seen[i], in);
		}
		if (slab.count[1] == 5 && slab.count[2] == 6)
			assert_int_equal(m.runs, 1);
	}
}

static void boxes_meet_when_they_share_an_element(void **state)
{
	(void)state;
	for (uint64_t c = 0; c < 4096; c++) {
		struct rdt_slab a = { .start = { c & 3, c >> 2 & 3 }, .count = { c >> 4 & 3, 2 } },
				b = { .start = { 2, c >> 6 & 3 },
				      .count = { c >> 8 & 3, c >> 10 & 3 } };
		bool shared = false;

		for (uint64_t i = 0; i < 64; i++)
			shared |= i / 8 - a.start[0] < a.count[0] &&
				  i % 8 - a.start[1] < a.count[1] &&
				  i / 8 - b.start[0] < b.count[0] &&
				  i % 8 - b.start[1] < b.count[1];
		assert_int_equal(rdt_slabs_meet(&a, &b, 2), shared);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_header_by_the_rules_is_read),
		cmocka_unit_test(a_header_that_breaks_a_rule_is_refused),
		cmocka_unit_test(what_is_written_can_be_read),
		cmocka_unit_test(lists_of_parts_are_read_back_or_refused),
		cmocka_unit_test(runs_are_the_box),
		cmocka_unit_test(boxes_meet_when_they_share_an_element),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
