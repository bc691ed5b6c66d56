/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernels of one element type for one instruction set: sum_T, min_T, max_T and prod_T. The
 * includer defines TYPE (suffix) and SIZE (bytes), undefined again here; see kernels.inc.h.
 *
 * One pass over memory: a group of a few vectors is read from every source, combined in registers
 * and written to every destination before the next group is looked at. So each byte is read and
 * written once, and a destination may be a source: all of a group is read before any is written.
 * No pointer is restrict, for that reason.
 */
#define VECTORS 4 /* in a group */

/* The elements at `at`, combined from all sources and divided: one vector of them. */
INLINE JOIN(acc, TYPE) JOIN(one, TYPE)(enum rdt_op op, const unsigned char *const *src, int n_src,
				       size_t at, const struct divisor *by)
{
	JOIN(acc, TYPE) a = JOIN(load, TYPE)(src[0] + at);

	for (int s = 1; s < n_src; s++)
		a = JOIN(combine, TYPE)(op, a, JOIN(load, TYPE)(src[s] + at));
	return by ? JOIN(divide, TYPE)(a, by) : a;
}

/* The same for a group, and stored. By name rather than as an array, which not every compiler keeps
 * in registers. */
INLINE void JOIN(group, TYPE)(enum rdt_op op, unsigned char *const *dst, int n_dst,
			      const unsigned char *const *src, int n_src, size_t at,
			      const struct divisor *by)
{
	const unsigned char *p = src[0] + at;
	JOIN(acc, TYPE) a = JOIN(load, TYPE)(p);
	JOIN(acc, TYPE) b = JOIN(load, TYPE)(p + WIDTH);
	JOIN(acc, TYPE) c = JOIN(load, TYPE)(p + 2 * WIDTH);
	JOIN(acc, TYPE) d = JOIN(load, TYPE)(p + 3 * WIDTH);

	for (int s = 1; s < n_src; s++) {
		p = src[s] + at;
		a = JOIN(combine, TYPE)(op, a, JOIN(load, TYPE)(p));
		b = JOIN(combine, TYPE)(op, b, JOIN(load, TYPE)(p + WIDTH));
		c = JOIN(combine, TYPE)(op, c, JOIN(load, TYPE)(p + 2 * WIDTH));
		d = JOIN(combine, TYPE)(op, d, JOIN(load, TYPE)(p + 3 * WIDTH));
	}
	if (by) {
		a = JOIN(divide, TYPE)(a, by);
		b = JOIN(divide, TYPE)(b, by);
		c = JOIN(divide, TYPE)(c, by);
		d = JOIN(divide, TYPE)(d, by);
	}
	for (int i = 0; i < n_dst; i++) {
		unsigned char *to = dst[i] + at;

		JOIN(store, TYPE)(to, a);
		JOIN(store, TYPE)(to + WIDTH, b);
		JOIN(store, TYPE)(to + 2 * WIDTH, c);
		JOIN(store, TYPE)(to + 3 * WIDTH, d);
	}
}

/*
 * From `at` to the end, vector by vector. One function for all operations, so that there is little
 * code; for what is short or rare. The last vector ends where the elements end and so may overlap
 * the one before. It is combined first, while a destination that is a source still holds the
 * source, and stored last.
 */
static OUTLINE void JOIN(rest, TYPE)(enum rdt_op op, unsigned char *const *dst, int n_dst,
				     const unsigned char *const *src, int n_src, size_t at,
				     size_t bytes, const struct divisor *by)
{
	JOIN(acc, TYPE) last = JOIN(one, TYPE)(op, src, n_src, bytes - WIDTH, by);

	for (; bytes - at > WIDTH; at += WIDTH) {
		JOIN(acc, TYPE) a = JOIN(one, TYPE)(op, src, n_src, at, by);

		for (int i = 0; i < n_dst; i++)
			JOIN(store, TYPE)(dst[i] + at, a);
	}
	for (int i = 0; i < n_dst; i++)
		JOIN(store, TYPE)(dst[i] + bytes - WIDTH, last);
}

/* At most a word at `at` of all sources, combined and divided as everything is, in a vector of
 * which the rest is zeros. */
INLINE uint64_t JOIN(word, TYPE)(enum rdt_op op, const unsigned char *const *src, int n_src,
				 size_t at, size_t bytes, const struct divisor *by)
{
	unsigned char padded[WIDTH];
	JOIN(acc, TYPE) acc;
	uint64_t word;

	store(padded, load_word(src[0] + at, bytes));
	acc = JOIN(load, TYPE)(padded);
	for (int s = 1; s < n_src; s++) {
		store(padded, load_word(src[s] + at, bytes));
		acc = JOIN(combine, TYPE)(op, acc, JOIN(load, TYPE)(padded));
	}
	if (by)
		acc = JOIN(divide, TYPE)(acc, by);
	JOIN(store, TYPE)(padded, acc);
	memcpy(&word, padded, sizeof(word));
	return word;
}

/* Less than a vector in all: word by word, the last one as in rest(). */
static OUTLINE void JOIN(few, TYPE)(enum rdt_op op, unsigned char *const *dst, int n_dst,
				    const unsigned char *const *src, int n_src, size_t bytes,
				    const struct divisor *by)
{
	uint64_t last;

	if (bytes < 8) {
		last = JOIN(word, TYPE)(op, src, n_src, 0, bytes, by);
		for (int d = 0; d < n_dst; d++)
			store_few(dst[d], last, bytes);
		return;
	}
	last = JOIN(word, TYPE)(op, src, n_src, bytes - 8, 8, by);
	for (size_t at = 0; bytes - at > 8; at += 8) {
		uint64_t word = JOIN(word, TYPE)(op, src, n_src, at, 8, by);

		for (int d = 0; d < n_dst; d++)
			memcpy(dst[d] + at, &word, 8);
	}
	for (int d = 0; d < n_dst; d++)
		memcpy(dst[d] + bytes - 8, &last, 8);
}

INLINE void JOIN(loop, TYPE)(enum rdt_op op, unsigned char *const *dst, int n_dst,
			     const unsigned char *const *src, int n_src, size_t bytes,
			     const struct divisor *by)
{
	size_t at = 0;

	if (bytes < WIDTH) {
		if (bytes)
			JOIN(few, TYPE)(op, dst, n_dst, src, n_src, bytes, by);
		return;
	}
	/* Leaves a vector at least, for the last one. */
	for (; bytes - at >= (VECTORS + 1) * WIDTH; at += VECTORS * WIDTH)
		JOIN(group, TYPE)(op, dst, n_dst, src, n_src, at, by);
	JOIN(rest, TYPE)(op, dst, n_dst, src, n_src, at, bytes, by);
}

INLINE void JOIN(reduce, TYPE)(enum rdt_op op, void *const *dst_list, int n_dst,
			       const void *const *src_list, int n_src, size_t count, uint32_t n)
{
	unsigned char *const *dst = (unsigned char *const *)dst_list;
	const unsigned char *const *src = (const unsigned char *const *)src_list;
	size_t bytes = count * SIZE;

	if (n > 1) {
		struct divisor by = JOIN(divisor, TYPE)(n);

		JOIN(loop, TYPE)(op, dst, n_dst, src, n_src, bytes, &by);
	} else if (n_src == 1) {
		copy(dst, n_dst, src[0], bytes);
	} else if (n_src == 2 && n_dst == 1) {
		/* A ring's step. Constant numbers and pointers of its own keep the inner loops
		 * away, and the compiler from fearing that a store changes the lists. */
		unsigned char *const to[] = { dst[0] };
		const unsigned char *const from[] = { src[0], src[1] };

		JOIN(loop, TYPE)(op, to, 1, from, 2, bytes, NULL);
	} else {
		JOIN(loop, TYPE)(op, dst, n_dst, src, n_src, bytes, NULL);
	}
}

static void JOIN(sum, TYPE)(void *const *dst, int n_dst, const void *const *src, int n_src,
			    size_t count, uint32_t divisor)
{
	JOIN(reduce, TYPE)(RDT_SUM, dst, n_dst, src, n_src, count, divisor);
}

static void JOIN(min, TYPE)(void *const *dst, int n_dst, const void *const *src, int n_src,
			    size_t count, uint32_t divisor)
{
	JOIN(reduce, TYPE)(RDT_MIN, dst, n_dst, src, n_src, count, divisor);
}

static void JOIN(max, TYPE)(void *const *dst, int n_dst, const void *const *src, int n_src,
			    size_t count, uint32_t divisor)
{
	JOIN(reduce, TYPE)(RDT_MAX, dst, n_dst, src, n_src, count, divisor);
}

static void JOIN(prod, TYPE)(void *const *dst, int n_dst, const void *const *src, int n_src,
			     size_t count, uint32_t divisor)
{
	JOIN(reduce, TYPE)(RDT_PROD, dst, n_dst, src, n_src, count, divisor);
}

#undef VECTORS
#undef TYPE
#undef SIZE
