/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Consistent hashing: which node keeps a key. Each node stands at many places of a circle of 2^64
 * hash values (its virtual nodes), and a key belongs to the first node at or after its own hash. So
 * when a node leaves, only its keys move, and when one joins, only what becomes its own (Karger et
 * al., "Consistent Hashing and Random Trees", STOC 1997).
 *
 * A ring does not change: after a node has left, make one of those that stayed. It may be read by
 * any number of threads. All processes that pass the same nodes get the same ring.
 */
#ifndef RDT_TRAIN_HASH_RING_H
#define RDT_TRAIN_HASH_RING_H

#include <stddef.h>
#include <stdint.h>

/*
 * A node's share of the circle differs from the mean by about 1 / sqrt(virtual nodes) of it: 1.6 %
 * with these. 16 bytes each.
 */
#define RDT_RING_VIRTUAL_NODES 4096

struct rdt_ring_point {
	uint64_t hash;
	uint32_t node;
};

struct rdt_hash_ring {
	struct rdt_ring_point *points; /* ascending by hash */
	size_t n_points, n_nodes;
};

/*
 * `nodes` are n different numbers, in any order, of the caller's choice: ranks, or names that stay
 * when ranks are counted anew. `virtual_nodes` 0: the default. Errors: INVALID (no node, or one
 * twice), NOMEM. rdt_hash_ring_free is owed after 0 only, but allowed on a zeroed ring.
 */
int rdt_hash_ring_make(struct rdt_hash_ring *ring, const uint32_t *nodes, size_t n,
		       int virtual_nodes);
void rdt_hash_ring_free(struct rdt_hash_ring *ring);

/* Where keys stand: of a name (XXH3), and of a number. */
uint64_t rdt_hash_bytes(const void *key, size_t bytes);
uint64_t rdt_hash_number(uint64_t key);

/* The node that keeps the key with this hash. */
uint32_t rdt_hash_ring_owner(const struct rdt_hash_ring *ring, uint64_t hash);

/*
 * The owner and the next different nodes along the circle, for replicas: writes up to `max` of them
 * and returns how many, which is less only when there are fewer nodes.
 */
size_t rdt_hash_ring_owners(const struct rdt_hash_ring *ring, uint64_t hash, uint32_t *nodes,
			    size_t max);

#endif
