/* SPDX-License-Identifier: BSD-3-Clause */
/* The cases for which algorithms are verified; see verify.h. Verifies nothing itself. */
#include "verify.h"

struct visitor {
	rdt_verify_visit_fn visit;
	void *arg;
};

/* The dimensions that do not concern a collective stay at one value. */
static int visit_counts(const struct rdt_verify_case *base, const struct visitor *to)
{
	bool reduces = base->algorithm->collective == RDT_COLL_ALLREDUCE;
	bool barrier = base->algorithm->collective == RDT_COLL_BARRIER;

	for (int option = 0; option < 8; option++) {
		struct rdt_verify_case c = *base;
		int status;

		c.in_place = option & 1;
		c.remote_output = option & 2;
		c.elem_size = option & 4 ? 1 : 4;
		if ((c.in_place && !reduces) || (barrier && option))
			continue;
		status = to->visit(to->arg, &c);
		if (status)
			return status;
	}
	return 0;
}

int rdt_verify_cases(const struct rdt_algorithm *algorithm, int size, rdt_verify_visit_fn visit,
		     void *arg)
{
	const uint64_t n = (uint64_t)size;
	/* A run and the one that follows it, in turn. A tail is shorter; an algorithm that leans on
	 * the place of a slot must not be deceived by one that is longer either. */
	const uint64_t counts[][2] = {
		{ 0, 0 },	  { 1, 0 },
		{ 2, n - 1 },	  { n - 1, n + 1 },
		{ n, n },	  { n + 1, 1 },
		{ 2 * n + 1, n }, { 3 * n - 1, 2 },
		{ n, 3 * n - 1 }, { 3 * n - 1, 3 * n - 1 },
		{ 2, 3 * n - 1 }, { 2 * n + 1, 2 * n + 2 },
	};
	const struct visitor to = { visit, arg };
	bool barrier = algorithm->collective == RDT_COLL_BARRIER;
	bool rooted = algorithm->collective == RDT_COLL_BROADCAST;
	/* All roots of a small group, else the first, the second, a middle one and the last. */
	const int some[] = { 0, 1, size / 2, size - 1 };
	int n_roots = !rooted ? 1 : size <= 8 ? size : 4;

	for (int i = 0; i < n_roots; i++)
		for (size_t k = 0; k < (barrier ? 1 : sizeof(counts) / sizeof(counts[0])); k++) {
			struct rdt_verify_case base = {
				.algorithm = algorithm,
				.size = size,
				.count = counts[k][0],
				.next_count = counts[k][1],
				.root = size <= 8 ? i : some[i],
			};
			int status = visit_counts(&base, &to);

			if (status)
				return status;
		}
	return 0;
}
