/* SPDX-License-Identifier: BSD-3-Clause */
/* Consistent hashing with virtual nodes: a sorted array and a binary search; see hash_ring.h. */
#include "hash_ring.h"

#include <stdlib.h>

#include <rdtrain/rdtrain.h>
#include <xxhash.h>

uint64_t rdt_hash_bytes(const void *key, size_t bytes)
{
	return XXH3_64bits(key, bytes);
}

/* Little-endian, so that hosts of any byte order agree. */
static uint64_t hash_number(uint64_t number, uint64_t seed)
{
	unsigned char bytes[8];

	for (int i = 0; i < 8; i++)
		bytes[i] = (unsigned char)(number >> 8 * i);
	return XXH3_64bits_withSeed(bytes, sizeof(bytes), seed);
}

uint64_t rdt_hash_number(uint64_t key)
{
	return hash_number(key, 0);
}

/* With a seed of their own, lest a small key stand exactly where a node does. */
static uint64_t hash_point(uint32_t node, size_t k)
{
	return hash_number((uint64_t)node << 32 | k, 0x72646e6f646573);
}

/* By hash; where two points meet, by node, so that the order is the same for all. */
static int compare(const void *a, const void *b)
{
	const struct rdt_ring_point *p = a, *q = b;

	if (p->hash != q->hash)
		return p->hash < q->hash ? -1 : 1;
	return (p->node > q->node) - (p->node < q->node);
}

static int compare_nodes(const void *a, const void *b)
{
	uint32_t p = *(const uint32_t *)a, q = *(const uint32_t *)b;

	return (p > q) - (p < q);
}

static int check_nodes(const uint32_t *nodes, size_t n)
{
	uint32_t *sorted;
	int status = 0;

	if (!nodes || n == 0)
		return rdt_set_error(RDT_ERR_INVALID, "a hash ring without a node keeps nothing");
	sorted = malloc(n * sizeof(*sorted));
	if (!sorted)
		return rdt_set_error(RDT_ERR_NOMEM, "no memory for a hash ring of %zu nodes", n);
	for (size_t i = 0; i < n; i++)
		sorted[i] = nodes[i];
	qsort(sorted, n, sizeof(*sorted), compare_nodes);
	for (size_t i = 1; i < n && !status; i++)
		if (sorted[i] == sorted[i - 1])
			status = rdt_set_error(RDT_ERR_INVALID, "node %u is twice in a hash ring",
					       sorted[i]);
	free(sorted);
	return status;
}

int rdt_hash_ring_make(struct rdt_hash_ring *ring, const uint32_t *nodes, size_t n,
		       int virtual_nodes)
{
	size_t each = virtual_nodes ? (size_t)virtual_nodes : RDT_RING_VIRTUAL_NODES;
	int status;

	*ring = (struct rdt_hash_ring){ 0 };
	if (virtual_nodes < 0)
		return rdt_set_error(RDT_ERR_INVALID, "%d virtual nodes: pass 1 or more, or 0",
				     virtual_nodes);
	status = check_nodes(nodes, n);
	if (status)
		return status;
	ring->points = reallocarray(NULL, n, each * sizeof(*ring->points));
	if (!ring->points)
		return rdt_set_error(RDT_ERR_NOMEM,
				     "no memory for a hash ring of %zu nodes, %zu times each", n,
				     each);
	ring->n_nodes = n;
	ring->n_points = n * each;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < each; k++)
			ring->points[i * each + k] = (struct rdt_ring_point){
				.hash = hash_point(nodes[i], k),
				.node = nodes[i],
			};
	qsort(ring->points, ring->n_points, sizeof(*ring->points), compare);
	return 0;
}

void rdt_hash_ring_free(struct rdt_hash_ring *ring)
{
	free(ring->points);
	*ring = (struct rdt_hash_ring){ 0 };
}

/* The first point at or after `hash`; behind the last one the circle closes. */
static size_t find(const struct rdt_hash_ring *ring, uint64_t hash)
{
	size_t low = 0, high = ring->n_points;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (ring->points[middle].hash < hash)
			low = middle + 1;
		else
			high = middle;
	}
	return low == ring->n_points ? 0 : low;
}

uint32_t rdt_hash_ring_owner(const struct rdt_hash_ring *ring, uint64_t hash)
{
	return ring->points[find(ring, hash)].node;
}

size_t rdt_hash_ring_owners(const struct rdt_hash_ring *ring, uint64_t hash, uint32_t *nodes,
			    size_t max)
{
	size_t want = max < ring->n_nodes ? max : ring->n_nodes, have = 0;

	for (size_t at = find(ring, hash); have < want; at = (at + 1) % ring->n_points) {
		size_t k = 0;

		while (k < have && nodes[k] != ring->points[at].node)
			k++;
		if (k == have)
			nodes[have++] = ring->points[at].node;
	}
	return have;
}
