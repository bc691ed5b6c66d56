/* SPDX-License-Identifier: BSD-3-Clause */
/* A job's keys and values: a hash table that grows and is freed as a whole. */
#include "lib/bootstrap/server_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a. Only members of the job choose keys, so that nobody gains by collisions. */
static size_t hash(uint32_t rank, const char *key)
{
	uint64_t h = (14695981039346656037ull ^ rank) * 1099511628211ull;

	for (; *key; key++)
		h = (h ^ (unsigned char)*key) * 1099511628211ull;
	return (size_t)(h ^ h >> 32);
}

static bool grow(struct srv_store *s)
{
	size_t n = s->n_buckets ? 2 * s->n_buckets : 64;
	struct srv_entry **buckets = calloc(n, sizeof(struct srv_entry *));

	if (!buckets)
		return false;
	for (size_t i = 0; i < s->n_buckets; i++) {
		while (s->buckets[i]) {
			struct srv_entry *e = s->buckets[i];
			size_t at = hash(e->rank, e->key) & (n - 1);

			s->buckets[i] = e->next;
			e->next = buckets[at];
			buckets[at] = e;
		}
	}
	free(s->buckets);
	s->buckets = buckets;
	s->n_buckets = n;
	return true;
}

const struct srv_entry *rdt_srv_store_get(const struct srv_store *s, uint32_t rank, const char *key)
{
	const struct srv_entry *e;

	if (!s->n_buckets)
		return NULL;
	e = s->buckets[hash(rank, key) & (s->n_buckets - 1)];
	while (e && (e->rank != rank || strcmp(e->key, key)))
		e = e->next;
	return e;
}

int rdt_srv_store_put(struct srv_store *s, size_t limit, uint32_t rank,
		      const struct rdt_message *put, char text[RDT_TEXT_MAX])
{
	size_t bytes = sizeof(struct srv_entry) + put->length;
	struct srv_entry *e;
	size_t at;

	if (rdt_srv_store_get(s, rank, put->key)) {
		snprintf(text, RDT_TEXT_MAX, "rank %u has put '%s' before; a key is put once", rank,
			 put->key);
		return RDT_ERR_INVALID;
	}
	if (bytes > limit - s->bytes) {
		snprintf(text, RDT_TEXT_MAX,
			 "the rendezvous holds %zu bytes of this job, and '%s' of rank %u would go "
			 "over the limit of %zu",
			 s->bytes, put->key, rank, limit);
		return RDT_ERR_NOMEM;
	}
	if (s->n_entries >= s->n_buckets && !grow(s))
		goto no_memory;
	e = malloc(bytes);
	if (!e)
		goto no_memory;
	e->rank = rank;
	e->length = put->length;
	memcpy(e->key, put->key, sizeof(e->key));
	if (put->length)
		memcpy(e->value, put->value, put->length);
	at = hash(rank, e->key) & (s->n_buckets - 1);
	e->next = s->buckets[at];
	s->buckets[at] = e;
	s->n_entries++;
	s->bytes += bytes;
	return RDT_OK;

no_memory:
	snprintf(text, RDT_TEXT_MAX, "the rendezvous service has no memory for '%s' of rank %u",
		 put->key, rank);
	return RDT_ERR_NOMEM;
}

void rdt_srv_store_drop(struct srv_store *s, uint32_t rank, const char *key)
{
	struct srv_entry **at, *e;

	if (!s->n_buckets)
		return;
	at = &s->buckets[hash(rank, key) & (s->n_buckets - 1)];
	while (*at && ((*at)->rank != rank || strcmp((*at)->key, key)))
		at = &(*at)->next;
	e = *at;
	if (!e)
		return;
	*at = e->next;
	s->n_entries--;
	s->bytes -= sizeof(*e) + e->length;
	free(e);
}

void rdt_srv_store_free(struct srv_store *s)
{
	for (size_t i = 0; i < s->n_buckets; i++) {
		while (s->buckets[i]) {
			struct srv_entry *e = s->buckets[i];

			s->buckets[i] = e->next;
			free(e);
		}
	}
	free(s->buckets);
	memset(s, 0, sizeof(*s));
}
