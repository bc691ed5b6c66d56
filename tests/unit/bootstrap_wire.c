/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames: what goes in comes out, and nothing else is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "lib/bootstrap/address.h"
#include "lib/bootstrap/wire.h"

static struct rdt_message full(enum rdt_message_type type)
{
	static const char value[] = "a value\0with a zero";
	struct rdt_message m = { .type = type,
				 .version = RDT_WIRE_VERSION,
				 .number = 0x01020304,
				 .rank = 7,
				 .rank_b = 65535,
				 .world = 65536,
				 .status = RDT_ERR_AUTH,
				 .kind = 3,
				 .flags = 0xfedcba9876543210,
				 .nonce = "0123456789abcde",
				 .job = "job",
				 .key = "key",
				 .text = "some words",
				 .signature = "allreduce 8",
				 .signature_b = "allreduce 16",
				 .value = value,
				 .length = sizeof(value) };
	return m;
}

static void every_message_comes_out_as_it_went_in(void **state)
{
	unsigned char a[RDT_FRAME_MAX], b[RDT_FRAME_MAX];

	(void)state;
	for (int type = 1; type < RDT_MSG_TYPES; type++) {
		struct rdt_message m = full((enum rdt_message_type)type), got;
		size_t n = rdt_frame_encode(&m, a, sizeof(a));

		assert_true(n > RDT_FRAME_HEADER);
		assert_int_equal(rdt_frame_length(a), n - RDT_FRAME_HEADER);
		assert_true(rdt_frame_decode(a + RDT_FRAME_HEADER, n - RDT_FRAME_HEADER, &got));
		assert_int_equal(got.type, type);
		/* Decoded fields give the same bytes again, so none was changed. */
		assert_int_equal(rdt_frame_encode(&got, b, sizeof(b)), n);
		assert_memory_equal(a, b, n);
	}
}

static void fields_are_little_endian_and_in_their_places(void **state)
{
	struct rdt_message m = full(RDT_MSG_FENCE), got;
	static const unsigned char want[] = { 26,   0,	  0,	0,    RDT_MSG_FENCE, 4,
					      3,    2,	  1,	0x10, 0x32,	     0x54,
					      0x76, 0x98, 0xba, 0xdc, 0xfe,	     11,
					      0,    'a',  'l',	'l',  'r',	     'e',
					      'd',  'u',  'c',	'e',  ' ',	     '8' };
	unsigned char a[64];
	size_t n = rdt_frame_encode(&m, a, sizeof(a));

	(void)state;
	assert_int_equal(n, sizeof(want));
	assert_memory_equal(a, want, n);
	assert_true(rdt_frame_decode(a + 4, n - 4, &got));
	assert_int_equal(got.number, 0x01020304);
	assert_true(got.flags == 0xfedcba9876543210);
	assert_string_equal(got.signature, "allreduce 8");
}

static void a_frame_cut_short_or_with_a_tail_is_refused(void **state)
{
	unsigned char a[RDT_FRAME_MAX];

	(void)state;
	for (int type = 1; type < RDT_MSG_TYPES; type++) {
		struct rdt_message m = full((enum rdt_message_type)type), got;
		size_t n = rdt_frame_encode(&m, a, sizeof(a)) - RDT_FRAME_HEADER;

		for (size_t cut = 0; cut < n; cut++) {
			/* A block of exactly these bytes, so that a sanitizer sees any overrun. */
			unsigned char *block = malloc(cut ? cut : 1);

			assert_non_null(block);
			memcpy(block, a + RDT_FRAME_HEADER, cut);
			assert_false(rdt_frame_decode(block, cut, &got));
			free(block);
		}
		a[RDT_FRAME_HEADER + n] = 0;
		assert_false(rdt_frame_decode(a + RDT_FRAME_HEADER, n + 1, &got));
	}
}

static void frames_with_any_byte_changed_are_read_or_refused_but_never_overrun(void **state)
{
	unsigned char a[RDT_FRAME_MAX];

	(void)state;
	for (int type = 1; type < RDT_MSG_TYPES; type++) {
		struct rdt_message m = full((enum rdt_message_type)type), got;
		size_t n = rdt_frame_encode(&m, a, sizeof(a)) - RDT_FRAME_HEADER;
		unsigned char *block = malloc(n);

		assert_non_null(block);
		for (size_t i = 0; i < n; i++) {
			for (int value = 0; value < 256; value++) {
				memcpy(block, a + RDT_FRAME_HEADER, n);
				block[i] = (unsigned char)value;
				if (!rdt_frame_decode(block, n, &got))
					continue;
				assert_true(strlen(got.key) < sizeof(got.key));
				assert_true(strlen(got.text) < sizeof(got.text));
				assert_true(got.length <= RDT_BLOB_MAX);
				assert_true(!got.length ||
					    ((const unsigned char *)got.value >= block &&
					     (const unsigned char *)got.value + got.length <=
						     block + n));
			}
		}
		free(block);
	}
}

static void unknown_types_and_a_zero_byte_in_a_string_are_refused(void **state)
{
	struct rdt_message m = full(RDT_MSG_MISSING), got;
	unsigned char a[64], nothing[2] = { 0, 0 };
	size_t n = rdt_frame_encode(&m, a, sizeof(a));

	(void)state;
	a[n - 1] = 0;
	assert_false(rdt_frame_decode(a + 4, n - 4, &got));
	assert_false(rdt_frame_decode(nothing, 1, &got));
	nothing[0] = RDT_MSG_TYPES;
	assert_false(rdt_frame_decode(nothing, 1, &got));
	assert_false(rdt_frame_decode(nothing, 0, &got));
}

static void what_does_not_fit_is_not_encoded(void **state)
{
	static unsigned char value[RDT_BLOB_MAX + 1], a[RDT_FRAME_MAX];
	struct rdt_message m = full(RDT_MSG_PUT);

	(void)state;
	m.value = value;
	m.length = RDT_BLOB_MAX;
	assert_true(rdt_frame_encode(&m, a, sizeof(a)) > RDT_BLOB_MAX);
	assert_int_equal(rdt_frame_encode(&m, a, RDT_BLOB_MAX), 0);
	m.length = RDT_BLOB_MAX + 1;
	assert_int_equal(rdt_frame_encode(&m, a, sizeof(a)), 0);
	m.length = 1;
	memset(m.key, 'k', sizeof(m.key)); /* no terminator */
	assert_int_equal(rdt_frame_encode(&m, a, sizeof(a)), 0);
	for (size_t room = 0; room < 8; room++)
		assert_int_equal(rdt_frame_encode(&m, a, room), 0);
}

static void a_hello_of_another_version_still_says_which(void **state)
{
	struct rdt_message m = full(RDT_MSG_HELLO), got;
	unsigned char a[256];
	size_t n;

	(void)state;
	m.version = 99;
	n = rdt_frame_encode(&m, a, sizeof(a));
	assert_true(rdt_frame_decode(a + 4, n - 4, &got));
	assert_int_equal(got.version, 99);
	a[5] ^= 1; /* the magic */
	assert_false(rdt_frame_decode(a + 4, n - 4, &got));
}

static void the_largest_hello_is_within_what_a_stranger_may_send(void **state)
{
	struct rdt_message m = full(RDT_MSG_HELLO);
	unsigned char a[256];

	(void)state;
	memset(m.job, 'j', sizeof(m.job) - 1);
	assert_in_range(rdt_frame_encode(&m, a, sizeof(a)), 64,
			RDT_FRAME_HEADER + RDT_HELLO_BODY_MAX);
}

static void addresses_are_read_as_people_write_them(void **state)
{
	static const char *const bad[] = { "",		 "host",    ":1",	  "host:",
					   "host:65536", "host:-1", "host:+1",	  "host:1x",
					   "::1:4711",	 "[::1]",   "[]:1",	  "[::1:1",
					   "ho st:1",	 "host: 1", "host:000001" };
	struct rdt_address a;

	(void)state;
	assert_true(rdt_address_parse("10.0.0.1:4711", &a));
	assert_string_equal(a.host, "10.0.0.1");
	assert_string_equal(a.port, "4711");
	assert_true(rdt_address_parse("[fe80::1%eth0]:65535", &a));
	assert_string_equal(a.host, "fe80::1%eth0");
	assert_int_equal(a.port_number, 65535);
	assert_true(rdt_address_parse("node-7.cluster:0", &a));
	assert_int_equal(a.port_number, 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (rdt_address_parse(bad[i], &a))
			fail_msg("'%s' was taken for an address", bad[i]);
}

static struct in6_addr network_of(const char *ip)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in v4 = { .sin_family = AF_INET };

	if (strchr(ip, ':')) {
		assert_int_equal(inet_pton(AF_INET6, ip, &v6.sin6_addr), 1);
		return rdt_address_network((const struct sockaddr *)&v6);
	}
	assert_int_equal(inet_pton(AF_INET, ip, &v4.sin_addr), 1);
	return rdt_address_network((const struct sockaddr *)&v4);
}

static bool same_network(const char *a, const char *b)
{
	struct in6_addr na = network_of(a), nb = network_of(b);

	return !memcmp(&na, &nb, sizeof(na));
}

/* A host of IPv6 may take any address of its network. */
static void a_network_is_64_bits_of_ipv6_and_all_of_ipv4(void **state)
{
	(void)state;
	assert_true(same_network("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"));
	assert_false(same_network("2001:db8:1:2::1", "2001:db8:1:3::1"));
	assert_false(same_network("2001:db8:1:2::1", "2001:db9:1:2::1"));
	assert_true(same_network("192.0.2.1", "192.0.2.1"));
	assert_false(same_network("192.0.2.1", "192.0.2.2"));
	assert_true(same_network("192.0.2.1", "::ffff:192.0.2.1"));
	assert_false(same_network("::ffff:192.0.2.1", "::ffff:192.0.2.2"));
	assert_false(same_network("::ffff:0.0.0.0", "::1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message_comes_out_as_it_went_in),
		cmocka_unit_test(fields_are_little_endian_and_in_their_places),
		cmocka_unit_test(a_frame_cut_short_or_with_a_tail_is_refused),
		cmocka_unit_test(
			frames_with_any_byte_changed_are_read_or_refused_but_never_overrun),
		cmocka_unit_test(unknown_types_and_a_zero_byte_in_a_string_are_refused),
		cmocka_unit_test(what_does_not_fit_is_not_encoded),
		cmocka_unit_test(a_hello_of_another_version_still_says_which),
		cmocka_unit_test(the_largest_hello_is_within_what_a_stranger_may_send),
		cmocka_unit_test(addresses_are_read_as_people_write_them),
		cmocka_unit_test(a_network_is_64_bits_of_ipv6_and_all_of_ipv4),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
