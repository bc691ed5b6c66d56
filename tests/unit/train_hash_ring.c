/* SPDX-License-Identifier: BSD-3-Clause */
/* Consistent hashing: even shares, and only the keys of a node that leaves or joins move. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <rdtrain/rdtrain.h>

#include "lib/train/hash_ring.h"

#define KEYS 100000
#define NODES 10

static void make(struct rdt_hash_ring *ring, size_t n, uint32_t without)
{
	uint32_t nodes[64];
	size_t count = 0;

	for (uint32_t i = 0; i < n; i++)
		if (i != without)
			nodes[count++] = i;
	assert_int_equal(rdt_hash_ring_make(ring, nodes, count, 0), 0);
}

static void a_node_that_leaves_moves_its_keys_and_no_others(void **state)
{
	struct rdt_hash_ring all, fewer;
	size_t kept[NODES] = { 0 }, least = KEYS, most = 0, worst = 0;

	(void)state;
	make(&all, NODES, UINT32_MAX);
	for (uint64_t key = 0; key < KEYS; key++)
		kept[rdt_hash_ring_owner(&all, rdt_hash_number(key))]++;
	for (uint32_t node = 0; node < NODES; node++) {
		size_t moved = 0;

		if (kept[node] < least)
			least = kept[node];
		if (kept[node] > most)
			most = kept[node];
		make(&fewer, NODES, node);
		for (uint64_t key = 0; key < KEYS; key++) {
			uint64_t hash = rdt_hash_number(key);
			uint32_t before = rdt_hash_ring_owner(&all, hash);
			uint32_t after = rdt_hash_ring_owner(&fewer, hash);

			assert_int_not_equal(after, node);
			if (before != node)
				assert_int_equal(after, before);
			moved += before != after;
		}
		assert_int_equal(moved, kept[node]);
		if (moved > worst)
			worst = moved;
		rdt_hash_ring_free(&fewer);
	}
	printf("%d keys on %d nodes, %d virtual nodes each: %zu to %zu keys a node (mean %d);\n"
	       "the removal of one moves %zu keys at most, %.2f %%\n",
	       KEYS, NODES, RDT_RING_VIRTUAL_NODES, least, most, KEYS / NODES, worst,
	       100.0 * (double)worst / KEYS);
	assert_true(worst <= KEYS * 11 / 100);
	assert_true(least >= KEYS / NODES * 9 / 10);
	assert_true(most <= KEYS / NODES * 11 / 10);
	rdt_hash_ring_free(&all);
}

static void a_node_that_joins_takes_keys_and_moves_no_others(void **state)
{
	(void)state;
	for (size_t n = 1; n <= 33; n += 4) {
		struct rdt_hash_ring before, after;
		size_t moved = 0;

		make(&before, n, UINT32_MAX);
		make(&after, n + 1, UINT32_MAX);
		for (uint64_t key = 0; key < KEYS / 10; key++) {
			uint64_t hash = rdt_hash_number(key);
			uint32_t owner = rdt_hash_ring_owner(&after, hash);

			if (owner == rdt_hash_ring_owner(&before, hash))
				continue;
			assert_int_equal(owner, n);
			moved++;
		}
		assert_true(moved > 0);
		/* its share, and the noise of a thousand keys */
		assert_true((double)moved < 1.3 * KEYS / 10 / (double)(n + 1));
		rdt_hash_ring_free(&before);
		rdt_hash_ring_free(&after);
	}
}

static void replicas_are_different_nodes_and_begin_with_the_owner(void **state)
{
	struct rdt_hash_ring ring;
	uint32_t nodes[8];

	(void)state;
	make(&ring, 5, UINT32_MAX);
	for (uint64_t key = 0; key < 1000; key++) {
		uint64_t hash = rdt_hash_bytes(&key, sizeof(key));
		unsigned seen = 0;

		for (size_t r = 1; r <= 8; r++) {
			size_t n = rdt_hash_ring_owners(&ring, hash, nodes, r);

			assert_int_equal(n, r < 5 ? r : 5);
			assert_int_equal(nodes[0], rdt_hash_ring_owner(&ring, hash));
		}
		for (size_t i = 0; i < 5; i++)
			seen |= 1u << nodes[i];
		assert_int_equal(seen, 31);
	}
	rdt_hash_ring_free(&ring);
}

static void the_order_of_nodes_does_not_matter(void **state)
{
	const uint32_t nodes[] = { 7, 3, 900, 12 }, turned[] = { 900, 12, 7, 3 };
	struct rdt_hash_ring a, b;

	(void)state;
	assert_int_equal(rdt_hash_ring_make(&a, nodes, 4, 100), 0);
	assert_int_equal(rdt_hash_ring_make(&b, turned, 4, 100), 0);
	for (uint64_t key = 0; key < 1000; key++)
		assert_int_equal(rdt_hash_ring_owner(&a, rdt_hash_number(key)),
				 rdt_hash_ring_owner(&b, rdt_hash_number(key)));
	/* the ends of the circle */
	assert_int_equal(rdt_hash_ring_owner(&a, 0), a.points[0].node);
	assert_int_equal(rdt_hash_ring_owner(&a, UINT64_MAX), a.points[0].node);
	assert_int_equal(rdt_hash_ring_owner(&a, a.points[17].hash), a.points[17].node);
	rdt_hash_ring_free(&a);
	rdt_hash_ring_free(&b);
}

static void wrong_nodes_are_refused(void **state)
{
	const uint32_t twice[] = { 1, 2, 1 };
	struct rdt_hash_ring ring;

	(void)state;
	assert_int_equal(rdt_hash_ring_make(&ring, NULL, 0, 0), RDT_ERR_INVALID);
	assert_int_equal(rdt_hash_ring_make(&ring, twice, 3, 0), RDT_ERR_INVALID);
	assert_non_null(strstr(rdt_last_error(), "node 1 is twice"));
	assert_int_equal(rdt_hash_ring_make(&ring, twice, 2, -1), RDT_ERR_INVALID);
	rdt_hash_ring_free(&ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_node_that_leaves_moves_its_keys_and_no_others),
		cmocka_unit_test(a_node_that_joins_takes_keys_and_moves_no_others),
		cmocka_unit_test(replicas_are_different_nodes_and_begin_with_the_owner),
		cmocka_unit_test(the_order_of_nodes_does_not_matter),
		cmocka_unit_test(wrong_nodes_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
