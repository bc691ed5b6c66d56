/* SPDX-License-Identifier: BSD-3-Clause */
/* The cases for which algorithms are verified, and their shapes; see verify.h. Verifies nothing
 * itself. */
#include <string.h>

#include "meaning.h"
#include "verify.h"

/* ---- shapes ---------------------------------------------------------------------------------- */

/* Bytes of the block that goes from one rank to another; where it does not matter, `to` is 0. */
static uint64_t block_bytes(const struct rdt_verify_case *c, uint64_t count, int from, int to)
{
	uint64_t spread = (uint64_t)from * 3 + (uint64_t)to * 5;

	if (c->ragged)
		count = (count + spread) % (2 * count + 1);
	return count * c->elem_size;
}

/* Where block i begins: the blocks lie one after another, ragged ones with a gap between. */
static void lay_out(const struct rdt_verify_case *c, uint64_t *offset, const uint64_t *length)
{
	uint64_t at = 0;

	for (int i = 0; i < c->size; i++) {
		offset[i] = at;
		at += length[i] + (c->ragged ? c->elem_size : 0);
	}
}

void rdt_verify_shape(const struct rdt_verify_case *c, int run, int rank,
		      struct rdt_case_shape *out)
{
	enum rdt_collective collective = rdt_verify_algorithm(c, run)->collective;
	uint64_t count = run % 2 ? c->next_count : c->count;
	bool alltoall = collective == RDT_COLL_ALLTOALL;
	struct rdt_shape *shape = &out->shape;

	*shape = (struct rdt_shape){
		.collective = collective,
		.elem_size = c->elem_size,
		.root = c->root,
		.remote_output = c->remote_output,
		.in_place = c->in_place && alltoall,
		.ragged = c->ragged && rdt_collective_blocks(collective),
		.mapped = c->mapped,
		.host = c->host,
	};
	if (!rdt_collective_blocks(collective)) {
		shape->bytes = collective == RDT_COLL_BARRIER ? 0 : count * c->elem_size;
		return;
	}
	for (int i = 0; i < c->size; i++) {
		/* In place an all-to-all sends each rank as much as it gets from it. */
		int low = c->in_place && i < rank ? i : rank,
		    high = c->in_place && i < rank ? rank : i;

		out->in_length[i] =
			alltoall ? block_bytes(c, count, low, high) : block_bytes(c, count, i, 0);
		out->out_length[i] = !alltoall	   ? out->in_length[i]
				     : c->in_place ? out->in_length[i]
						   : block_bytes(c, count, i, rank);
	}
	for (int i = 0; i < c->size; i++)
		for (int k = 0; k < c->size; k++) {
			uint64_t bytes = block_bytes(c, count, i, alltoall ? k : 0);

			if (bytes > shape->max_block)
				shape->max_block = bytes;
		}
	lay_out(c, out->in_offset, out->in_length);
	lay_out(c, out->out_offset, out->out_length);
	if (collective == RDT_COLL_REDUCE_SCATTER || collective == RDT_COLL_SCATTER || alltoall)
		shape->in = (struct rdt_layout){ out->in_offset, out->in_length };
	if (collective == RDT_COLL_ALLGATHER || collective == RDT_COLL_GATHER || alltoall)
		shape->out = (struct rdt_layout){ out->out_offset, out->out_length };
}

/* ---- one plan -------------------------------------------------------------------------------- */

struct visitor {
	rdt_verify_visit_fn visit;
	void *arg;
	bool brief;	  /* large groups: fewer lengths */
	unsigned sampled; /* not 0: of the options only one, drawn by this number, */
	bool opposite;	  /* and its opposite */
};

enum { IN_PLACE = 1, REMOTE_OUTPUT = 2, BYTES = 4, RAGGED = 8, MAPPED = 16, OPTIONS = 32 };

/* The options that do not concern an algorithm stay off. */
static int options_of(const struct rdt_verify_case *c, bool brief)
{
	const struct rdt_algorithm *a = c->algorithm;
	int options = a->collective == RDT_COLL_BARRIER ? 0 : REMOTE_OUTPUT;

	if (rdt_collective_in_place(a->collective))
		options |= IN_PLACE;
	if (a->collective != RDT_COLL_BARRIER && !brief)
		options |= BYTES;
	if (rdt_collective_blocks(a->collective) && a->flags & RDT_ALG_RAGGED)
		options |= RAGGED;
	if (c->host)
		options |= MAPPED;
	return options;
}

static bool drawn(const struct visitor *to, int option, int options)
{
	int first = (int)(to->sampled * 2654435761u >> 16) & options;

	return option == first || (to->opposite && option == (options ^ first));
}

static int visit_options(const struct rdt_verify_case *base, const struct visitor *to)
{
	int options = options_of(base, to->brief);

	for (int option = 0; option < OPTIONS; option++) {
		struct rdt_verify_case c = *base;
		struct rdt_case_shape shape;
		int status;

		if (option & ~options || (to->sampled && !drawn(to, option, options)))
			continue;
		c.in_place = option & IN_PLACE;
		c.remote_output = option & REMOTE_OUTPUT;
		c.elem_size = option & BYTES ? 1 : 4;
		c.ragged = option & RAGGED;
		c.mapped = option & MAPPED;
		rdt_verify_shape(&c, 0, 0, &shape);
		if (!rdt_algorithm_applies(c.algorithm, c.size, &shape.shape))
			continue;
		status = to->visit(to->arg, &c);
		if (status)
			return status;
	}
	return 0;
}

static int visit_roots(const struct rdt_verify_case *base, const struct visitor *to)
{
	/* All roots of a small group, else the first, the second, a middle one and the last. */
	const int some[] = { 0, 1, base->size / 2, base->size - 1 };
	bool rooted = rdt_collective_rooted(base->algorithm->collective);
	int n = !rooted ? 1 : base->size <= 6 ? base->size : 4;

	for (int i = 0; i < n; i++) {
		struct rdt_verify_case c = *base;
		int status;

		c.root = base->size <= 6 ? i : some[i];
		status = visit_options(&c, to);
		if (status)
			return status;
	}
	return 0;
}

/* A run and the one that follows it, in turn. A tail is shorter; an algorithm that leans on the
 * place of a slot must not be deceived by one that is longer either. */
static int visit_counts(const struct rdt_verify_case *base, const struct visitor *to)
{
	const uint64_t n = (uint64_t)base->size;
	const uint64_t vectors[][2] = {
		{ n + 1, 1 },
		{ 3 * n - 1, 2 },
		{ 4 * n, 3 },
		{ 2 * n + 1, 2 * n + 2 },
		{ 0, 0 },
		{ 1, 0 },
		{ 2, n - 1 },
		{ n - 1, n + 1 },
		{ n, n },
		{ 2 * n + 1, n },
		{ n, 3 * n - 1 },
		{ 2, 3 * n - 1 },
		{ 3 * n - 1, 3 * n - 1 },
	};
	const uint64_t blocks[][2] = {
		{ 2, 1 }, { 1, 3 }, { 0, 0 }, { 1, 0 }, { 1, 1 }, { 3, 2 },
	};
	bool in_blocks = rdt_collective_blocks(base->algorithm->collective);
	size_t all = in_blocks ? sizeof(blocks) / sizeof(blocks[0])
			       : sizeof(vectors) / sizeof(vectors[0]);
	size_t some = in_blocks ? 1 : base->host ? 2 : 3;

	if (base->algorithm->collective == RDT_COLL_BARRIER)
		return visit_options(base, to);
	for (size_t i = 0; i < (to->brief ? some : all); i++) {
		struct rdt_verify_case c = *base;
		int status;

		c.count = in_blocks ? blocks[i][0] : vectors[i][0];
		c.next_count = in_blocks ? blocks[i][1] : vectors[i][1];
		status = visit_roots(&c, to);
		if (status)
			return status;
	}
	return 0;
}

/* ---- hosts ----------------------------------------------------------------------------------- */

/* Ranks in the order of hosts, or dealt out to them in turn. */
static void fill_hosts(int *host, const int *counts, int hosts, bool dealt)
{
	int left[4] = { counts[0], counts[1], counts[2], counts[3] }, rank = 0;

	for (int h = 0; !dealt && h < hosts; h++)
		for (int i = 0; i < counts[h]; i++)
			host[rank++] = h;
	for (bool more = dealt; more;) {
		more = false;
		for (int h = 0; h < hosts; h++)
			if (left[h]) {
				left[h]--;
				host[rank++] = h;
				more = true;
			}
	}
}

static int visit_layout(const struct rdt_verify_case *base, const int *counts, int hosts,
			const struct visitor *to)
{
	for (int dealt = 0; dealt < (hosts > 1 ? 2 : 1); dealt++) {
		struct visitor brief = { to->visit, to->arg, base->size > 6, 0, base->size <= 32 };
		struct rdt_verify_case c = *base;
		int host[RDT_VERIFY_RANKS], status;

		fill_hosts(host, counts, hosts, dealt);
		c.host = host;
		/* Above a dozen ranks there are thousands of layouts: every other one is dealt, and
		 * each has two of the options, or one, so that all meet all among similar layouts.
		 */
		if (base->size > 12 && hosts > 1 && dealt != (counts[0] & 1))
			continue;
		if (base->size > 12)
			brief.sampled = (unsigned)(counts[0] + 5 * counts[1] + 11 * counts[2] + 1);
		status = visit_counts(&c, &brief);
		if (status)
			return status;
	}
	return 0;
}

/* Every division of the ranks among up to four hosts, the largest first. */
static int visit_hosts(const struct rdt_verify_case *base, const struct visitor *to)
{
	int n = base->size;

	for (int a = n; a >= 1; a--)
		for (int b = n - a < a ? n - a : a; b >= 0; b--)
			for (int c = n - a - b < b ? n - a - b : b; c >= 0; c--) {
				int d = n - a - b - c, counts[4] = { a, b, c, d };
				int hosts = 1 + (b > 0) + (c > 0) + (d > 0), status;

				if (d > c)
					continue;
				status = visit_layout(base, counts, hosts, to);
				if (status)
					return status;
			}
	return 0;
}

int rdt_verify_cases(const struct rdt_algorithm *algorithm, int size, rdt_verify_visit_fn visit,
		     void *arg)
{
	struct rdt_verify_case base = { .algorithm = algorithm, .size = size, .elem_size = 4 };
	const struct visitor to = { visit, arg, size > 17, 0, false };

	if (algorithm->collective == RDT_COLL_SEND && size > 2)
		return 0; /* one sends, one receives */
	return algorithm->applies ? visit_hosts(&base, &to) : visit_counts(&base, &to);
}

/* ---- two plans in turn ----------------------------------------------------------------------- */

static int visit_pair(const struct rdt_verify_case *base, const struct visitor *to)
{
	for (int option = 0; option < 4; option++) {
		struct rdt_verify_case c = *base;
		struct rdt_case_shape first, second;
		int status;

		c.remote_output = option & 1;
		c.mapped = option & 2;
		rdt_verify_shape(&c, 0, 0, &first);
		rdt_verify_shape(&c, 1, 0, &second);
		if (!rdt_algorithm_applies(c.algorithm, c.size, &first.shape) ||
		    !rdt_algorithm_applies(c.next, c.size, &second.shape))
			continue;
		status = to->visit(to->arg, &c);
		if (status)
			return status;
	}
	return 0;
}

int rdt_verify_pairs(int size, rdt_verify_visit_fn visit, void *arg)
{
	const struct visitor to = { visit, arg, true, 0, false };
	int together[RDT_VERIFY_RANKS], halves[RDT_VERIFY_RANKS];

	for (int r = 0; r < size; r++) {
		together[r] = 0;
		halves[r] = r % 2;
	}
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++)
		for (const struct rdt_algorithm *b = rdt_algorithms; b->name; b++)
			for (int hosts = 0; hosts < 2; hosts++) {
				struct rdt_verify_case c = {
					.algorithm = a,
					.next = b,
					.size = size,
					.count = 3,
					.next_count = 3,
					.elem_size = 4,
					.root = size - 1,
					.host = hosts ? halves : together,
				};
				int status;

				if (size > 2 && (a->collective == RDT_COLL_SEND ||
						 b->collective == RDT_COLL_SEND))
					continue;
				status = visit_pair(&c, &to);
				if (status)
					return status;
			}
	return 0;
}
