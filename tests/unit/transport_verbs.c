/* SPDX-License-Identifier: BSD-3-Clause */
/* What of the verbs transport needs no device: filters, addresses, the copy ring, the words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/transport/verbs.h"

static void an_hca_filter_matches_whole_names(void **state)
{
	(void)state;
	assert_true(rdt_verbs_hca_allowed(NULL, "mlx5_1", 1));
	assert_true(rdt_verbs_hca_allowed("", "mlx5_1", 1));
	assert_true(rdt_verbs_hca_allowed("mlx5_1", "mlx5_1", 1));
	assert_false(rdt_verbs_hca_allowed("mlx5_1", "mlx5_10", 1));
	assert_false(rdt_verbs_hca_allowed("mlx5_10", "mlx5_1", 1));
	assert_true(rdt_verbs_hca_allowed("=mlx5_1", "mlx5_1", 1));
	assert_true(rdt_verbs_hca_allowed("mlx5_0,mlx5_1:2", "mlx5_1", 2));
	assert_false(rdt_verbs_hca_allowed("mlx5_0,mlx5_1:2", "mlx5_1", 1));
	assert_false(rdt_verbs_hca_allowed("mlx5_1:1", "mlx5_1", 11));
	assert_false(rdt_verbs_hca_allowed("^mlx5_1", "mlx5_1", 1));
	assert_true(rdt_verbs_hca_allowed("^mlx5_1", "mlx5_10", 1));
	assert_false(rdt_verbs_hca_allowed("^mlx5_0,mlx5_1", "mlx5_1", 1));
}

static void an_interface_filter_matches_prefixes(void **state)
{
	(void)state;
	assert_true(rdt_verbs_ifname_allowed(NULL, "eth0"));
	assert_true(rdt_verbs_ifname_allowed("eth", "eth0"));
	assert_false(rdt_verbs_ifname_allowed("eth", "veth0"));
	assert_false(rdt_verbs_ifname_allowed("=eth", "eth0"));
	assert_true(rdt_verbs_ifname_allowed("ib,=eth0", "eth0"));
	assert_false(rdt_verbs_ifname_allowed("ib,=eth0", "eth01"));
	assert_false(rdt_verbs_ifname_allowed("^docker,lo", "docker0"));
	assert_true(rdt_verbs_ifname_allowed("^docker,lo", "eth0"));
	assert_true(rdt_verbs_ifname_allowed("^=docker", "docker0"));
}

static struct rdt_verbs_addr v4(int a, int b, int c, int d)
{
	return (struct rdt_verbs_addr){ .family = 4,
					.port = 4711,
					.ip = { (uint8_t)a, (uint8_t)b, (uint8_t)c, (uint8_t)d } };
}

static void an_address_blob_is_read_as_it_was_written(void **state)
{
	unsigned char blob[RDT_ADDRESS_MAX];
	struct rdt_verbs_peer in = { .generation = 3,
				     .rank = 70000,
				     .link_layer = IBV_LINK_LAYER_ETHERNET,
				     .nonce_hash = 0x123456789abcdef0,
				     .device = "mlx5_0",
				     .n = RDT_VERBS_ADDRESSES },
			      out;
	size_t length;

	(void)state;
	for (int i = 0; i < in.n; i++)
		in.addr[i] = v4(10, 0, 0, i);
	in.addr[1].family = 6;
	length = rdt_verbs_address_pack(&in, blob);
	assert_true(length <= RDT_ADDRESS_MAX);
	assert_true(rdt_verbs_address_unpack(blob, length, &out));
	assert_int_equal(out.generation, 3);
	assert_int_equal(out.rank, 70000);
	assert_true(out.nonce_hash == in.nonce_hash);
	assert_string_equal(out.device, "mlx5_0");
	assert_int_equal(out.n, RDT_VERBS_ADDRESSES);
	assert_memory_equal(&out.addr[1], &in.addr[1], sizeof(in.addr[1]));
}

static void a_damaged_address_blob_is_refused_or_stays_in_its_bounds(void **state)
{
	unsigned char good[RDT_ADDRESS_MAX], *bad;
	struct rdt_verbs_peer in = { .n = 2, .addr = { v4(10, 0, 0, 1), v4(10, 0, 0, 2) } }, out;
	size_t length = rdt_verbs_address_pack(&in, good);

	(void)state;
	for (size_t cut = 0; cut < length; cut++) {
		bad = malloc(cut ? cut : 1); /* exactly as long as it is, for the sanitizer */
		assert_non_null(bad);
		memcpy(bad, good, cut);
		assert_false(rdt_verbs_address_unpack(bad, cut, &out));
		free(bad);
	}
	for (size_t i = 0; i < length * 8; i++) {
		good[i / 8] ^= (unsigned char)(1u << i % 8);
		if (rdt_verbs_address_unpack(good, length, &out)) {
			assert_true(out.n == 2);
			assert_non_null(memchr(out.device, 0, sizeof(out.device)));
		}
		good[i / 8] ^= (unsigned char)(1u << i % 8);
	}
	good[12 + 1] = 0; /* no address */
	assert_false(rdt_verbs_address_unpack(good, length, &out));
}

static void a_hello_is_known_by_its_mark(void **state)
{
	unsigned char bytes[64] = { 0 };
	struct rdt_verbs_hello in = { 7, 1, 2, "fifteen letters" }, out;

	(void)state;
	assert_false(rdt_verbs_hello_unpack(bytes, sizeof(bytes), &out));
	assert_false(rdt_verbs_hello_unpack(NULL, 0, &out));
	rdt_verbs_hello_pack(&in, bytes);
	assert_true(rdt_verbs_hello_unpack(bytes, sizeof(bytes), &out)); /* padded */
	assert_memory_equal(&in, &out, sizeof(in));
	assert_false(rdt_verbs_hello_unpack(bytes, RDT_VERBS_HELLO_BYTES - 1, &out));
}

static void neighbours_are_tried_before_what_a_router_joins(void **state)
{
	struct rdt_verbs_local local[3] = { { .addr = v4(10, 1, 0, 5), .prefix = 16 },
					    { .addr = v4(192, 168, 7, 5), .prefix = 25 },
					    { .addr = { .family = 6, .ip = { 0xfd } },
					      .prefix = 64 } };
	struct rdt_verbs_addr peer[2] = { v4(192, 168, 7, 100), v4(10, 1, 200, 1) };
	int pairs[RDT_VERBS_TRIES][2];

	(void)state;
	assert_int_equal(rdt_verbs_pairs(local, 3, peer, 2, pairs, RDT_VERBS_TRIES), 4);
	assert_true(pairs[0][0] == 0 && pairs[0][1] == 1);
	assert_true(pairs[1][0] == 1 && pairs[1][1] == 0);
	peer[0] = v4(192, 168, 7, 130); /* beyond the /25 */
	assert_int_equal(rdt_verbs_pairs(local, 3, peer, 2, pairs, RDT_VERBS_TRIES), 4);
	assert_true(pairs[0][0] == 0 && pairs[0][1] == 1);
	assert_false(pairs[1][0] == 1 && pairs[1][1] == 0);
	assert_int_equal(rdt_verbs_pairs(local, 3, peer, 2, pairs, 1), 1);
	assert_int_equal(rdt_verbs_pairs(&local[2], 1, peer, 2, pairs, RDT_VERBS_TRIES), 0);
}

static void the_copy_ring_gives_each_byte_to_one_put_at_a_time(void **state)
{
	struct rdt_verbs_bounce *b = calloc(1, sizeof(*b));
	struct {
		char *at;
		uint32_t length, segment;
	} held[64];
	unsigned n = 0, random = 1, taken = 0, refused = 0;

	(void)state;
	assert_non_null(b);
	b->size = 100 << 10;
	b->base = malloc(b->size);
	assert_non_null(b->base);
	for (int i = 0; i < 200000; i++) {
		random = random * 1664525 + 1013904223;
		if (n < 64 && (random >> 8) % 2) {
			uint32_t length = 1 + (random >> 10) % (40 << 10);
			char *at = rdt_verbs_bounce_take(b, length, &held[n].segment);

			if (!at) {
				refused++;
				assert_true(n > 0); /* never when it is empty */
				continue;
			}
			taken++;
			assert_true(at >= b->base && at + length <= b->base + b->size);
			for (unsigned k = 0; k < n; k++)
				assert_true(at + length <= held[k].at ||
					    held[k].at + held[k].length <= at);
			held[n].at = at;
			held[n++].length = length;
		} else if (n > 0) {
			unsigned k = (random >> 10) % n; /* in any order */

			rdt_verbs_bounce_give(b, held[k].segment);
			held[k] = held[--n];
		}
	}
	assert_true(taken > 1000 && refused > 1000);
	while (n > 0)
		rdt_verbs_bounce_give(b, held[--n].segment);
	assert_non_null(rdt_verbs_bounce_take(b, 100 << 10, &held[0].segment));
	assert_null(rdt_verbs_bounce_take(b, 1, &held[1].segment));
	free(b->base);
	free(b);
}

static void every_completion_status_has_a_name_and_a_meaning(void **state)
{
	(void)state;
	assert_string_equal(rdt_verbs_wc_name(IBV_WC_RETRY_EXC_ERR), "IBV_WC_RETRY_EXC_ERR");
	assert_int_equal(rdt_verbs_wc_class(IBV_WC_RETRY_EXC_ERR), RDT_ERR_PEER_LOST);
	assert_int_equal(rdt_verbs_wc_class(IBV_WC_LOC_PROT_ERR), RDT_ERR_SYSTEM);
	for (int s = 0; s < 64; s++) {
		assert_non_null(rdt_verbs_wc_name((enum ibv_wc_status)s));
		assert_true(strlen(rdt_verbs_wc_meaning((enum ibv_wc_status)s)) > 3);
		if (s > 0)
			assert_true(rdt_verbs_wc_class((enum ibv_wc_status)s) < 0);
	}
}

static void refusals_are_told_apart(void **state)
{
	unsigned char bytes[8];
	char text[200];

	(void)state;
	rdt_verbs_refusal_pack(RDT_REFUSED_STRANGER, bytes);
	rdt_verbs_cm_reason(RDMA_CM_EVENT_REJECTED, 28, bytes, sizeof(bytes), text, sizeof(text));
	assert_non_null(strstr(text, "another job"));
	rdt_verbs_refusal_pack(RDT_REFUSED_GENERATION, bytes);
	rdt_verbs_cm_reason(RDMA_CM_EVENT_REJECTED, 28, bytes, sizeof(bytes), text, sizeof(text));
	assert_non_null(strstr(text, "another generation"));
	rdt_verbs_cm_reason(RDMA_CM_EVENT_REJECTED, 28, "x", 1, text, sizeof(text));
	assert_non_null(strstr(text, "refused by the program"));
	rdt_verbs_cm_reason(RDMA_CM_EVENT_REJECTED, 8, NULL, 0, text, sizeof(text));
	assert_non_null(strstr(text, "nobody listens"));
	rdt_verbs_cm_reason(RDMA_CM_EVENT_UNREACHABLE, -110, NULL, 0, text, sizeof(text));
	assert_non_null(strstr(text, "4791"));
}

static void make(const char *root, const char *path, bool file)
{
	char full[512];
	FILE *f;

	snprintf(full, sizeof(full), "%s/%s", root, path);
	if (!file) {
		assert_int_equal(mkdir(full, 0700), 0);
		return;
	}
	f = fopen(full, "w");
	assert_non_null(f);
	fclose(f);
}

/* A machine is built up piece by piece; each time the next missing piece is named. */
static void what_the_machine_lacks_is_named_with_its_remedy(void **state)
{
	char root[] = "/tmp/rdtrain-verbs-XXXXXX", sys[64], dev[64], why[400], command[128];

	(void)state;
	assert_non_null(mkdtemp(root));
	snprintf(sys, sizeof(sys), "%s/sys", root);
	snprintf(dev, sizeof(dev), "%s/dev", root);
	assert_false(rdt_verbs_present(sys, dev, why, sizeof(why)));
	assert_non_null(strstr(why, "no RDMA support"));
	make(root, "sys", false);
	make(root, "sys/class", false);
	make(root, "sys/class/infiniband", false);
	make(root, "dev", false);
	assert_false(rdt_verbs_present(sys, dev, why, sizeof(why)));
	assert_non_null(strstr(why, "rdma link add"));
	make(root, "sys/class/infiniband/mlx5_0", false);
	assert_false(rdt_verbs_present(sys, dev, why, sizeof(why)));
	assert_non_null(strstr(why, "--device /dev/infiniband --ulimit memlock=-1"));
	assert_non_null(strstr(why, "mlx5_0"));
	make(root, "dev/infiniband", false);
	assert_false(rdt_verbs_present(sys, dev, why, sizeof(why)));
	assert_non_null(strstr(why, "ib_uverbs"));
	make(root, "dev/infiniband/uverbs0", true);
	assert_false(rdt_verbs_present(sys, dev, why, sizeof(why)));
	assert_non_null(strstr(why, "rdma_ucm"));
	make(root, "dev/infiniband/rdma_cm", true);
	assert_true(rdt_verbs_present(sys, dev, why, sizeof(why)));
	snprintf(command, sizeof(command), "rm -r %s", root);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_hca_filter_matches_whole_names),
		cmocka_unit_test(an_interface_filter_matches_prefixes),
		cmocka_unit_test(an_address_blob_is_read_as_it_was_written),
		cmocka_unit_test(a_damaged_address_blob_is_refused_or_stays_in_its_bounds),
		cmocka_unit_test(a_hello_is_known_by_its_mark),
		cmocka_unit_test(neighbours_are_tried_before_what_a_router_joins),
		cmocka_unit_test(the_copy_ring_gives_each_byte_to_one_put_at_a_time),
		cmocka_unit_test(every_completion_status_has_a_name_and_a_meaning),
		cmocka_unit_test(refusals_are_told_apart),
		cmocka_unit_test(what_the_machine_lacks_is_named_with_its_remedy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
