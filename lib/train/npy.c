/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reader of NumPy's .npy files, versions 1 to 3 (NumPy Enhancement Proposal 1): a magic string, the
 * version, the header's length (2 bytes, from version 2 on 4, little-endian), the header, which is
 * the text of a Python dict with descr, fortran_order and shape, and then the elements.
 */
#include "dataset.h"

#include <string.h>

#define MAGIC "\x93NUMPY"

struct text {
	rdt_dataset *d;
	size_t at, end; /* offsets in the file */
};

static void skip_blanks(struct text *t)
{
	while (t->at < t->end && strchr(" \t\r\n", t->d->bytes[t->at]) && t->d->bytes[t->at])
		t->at++;
}

/* Is `c` next? Then it is taken. */
static bool take(struct text *t, char c)
{
	skip_blanks(t);
	if (t->at == t->end || t->d->bytes[t->at] != (unsigned char)c)
		return false;
	t->at++;
	return true;
}

static int need(struct text *t, char c, const char *where)
{
	return take(t, c) ? 0 : rdt_dataset_bad(t->d, t->at, "no '%c' %s", c, where);
}

/* A string in either kind of quotes, without escapes: nothing that is known here needs one. */
static int read_string(struct text *t, const char *what, const char **string, size_t *length)
{
	const unsigned char *bytes = t->d->bytes;
	size_t begin;
	char quote = '\'';

	if (!take(t, quote)) {
		quote = '"';
		if (!take(t, quote))
			return rdt_dataset_bad(t->d, t->at, "%s is not a string%s", what,
					       t->at < t->end && bytes[t->at] == '['
						       ? "; arrays of records cannot be read"
						       : "");
	}
	begin = t->at;
	while (t->at < t->end && bytes[t->at] != (unsigned char)quote)
		t->at++;
	if (t->at == t->end)
		return rdt_dataset_bad(t->d, begin, "a string without an end");
	*string = (const char *)bytes + begin;
	*length = t->at - begin;
	t->at++;
	return 0;
}

static int read_type(struct text *t, char *kind, size_t *element, bool *big_endian)
{
	size_t length, at;
	const char *s;
	char shown[48];
	int status;

	skip_blanks(t);
	at = t->at;
	status = read_string(t, "descr", &s, &length);
	if (status)
		return status;
	if (length == 3 && memchr("<>|=", s[0], 4) && memchr("fiub", s[1], 4)) {
		*kind = s[1];
		*element = (size_t)(s[2] - '0');
		*big_endian =
			s[0] == '>' || (s[0] == '=' && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
		if ((*kind == 'f' && (*element == 4 || *element == 8)) ||
		    ((*kind == 'i' || *kind == 'u') &&
		     (*element == 1 || *element == 2 || *element == 4 || *element == 8)))
			return 0;
		if (*kind == 'b' && *element == 1) {
			*kind = 'u';
			return 0;
		}
	}
	return rdt_dataset_bad(t->d, at,
			       "type '%s' cannot be read: f4, f8, i1 to i8, u1 to u8 and b1 can",
			       rdt_shown(s, length, shown));
}

static int read_order(struct text *t, bool *fortran)
{
	const char *at;

	skip_blanks(t);
	at = (const char *)t->d->bytes + t->at;
	*fortran = t->end - t->at >= 4 && memcmp(at, "True", 4) == 0;
	if (!*fortran && (t->end - t->at < 5 || memcmp(at, "False", 5) != 0))
		return rdt_dataset_bad(t->d, t->at, "fortran_order is neither True nor False");
	t->at += *fortran ? 4 : 5;
	return 0;
}

static int read_shape(struct text *t)
{
	struct rdt_dataset_info *info = &t->d->info;
	const unsigned char *b = t->d->bytes;
	int status = need(t, '(', "before the shape");
	bool comma = true;

	while (!status && !take(t, ')')) {
		uint64_t n = 0;
		size_t begin = t->at;

		if (!comma)
			return rdt_dataset_bad(t->d, t->at, "no ',' within the shape");
		while (t->at < t->end && b[t->at] >= '0' && b[t->at] <= '9') {
			if (n > (UINT64_MAX - 9) / 10)
				return rdt_dataset_bad(t->d, begin, "a dimension beyond 64 bits");
			n = n * 10 + b[t->at++] - '0';
		}
		if (t->at == begin)
			return rdt_dataset_bad(t->d, t->at, "a dimension is not a whole number");
		if (info->n_dims == RDT_DIMS_MAX)
			return rdt_dataset_bad(t->d, begin, "more than %d dimensions",
					       RDT_DIMS_MAX);
		info->dims[info->n_dims++] = n;
		comma = take(t, ',');
	}
	return status;
}

static int read_header(struct text *t, char *kind, size_t *element, bool *big_endian,
		       size_t *shape_at)
{
	static const char *const keys[] = { "descr", "fortran_order", "shape" };
	unsigned seen = 0;
	bool fortran = false, comma = true;
	size_t order_at = t->at;
	int status = need(t, '{', "at the start of the header");

	while (!status && !take(t, '}')) {
		const char *key;
		size_t length, at = t->at;
		char shown[48];
		unsigned k = 0;

		if (!comma)
			return rdt_dataset_bad(t->d, at, "no ',' between the header's entries");
		status = read_string(t, "a key of the header", &key, &length);
		if (status)
			return status;
		while (k < 3 && (strlen(keys[k]) != length || memcmp(keys[k], key, length) != 0))
			k++;
		if (k == 3 || seen & 1u << k)
			return rdt_dataset_bad(t->d, at, "the key \"%s\" is %s",
					       rdt_shown(key, length, shown),
					       k == 3 ? "unknown" : "there twice");
		seen |= 1u << k;
		status = need(t, ':', "behind a key");
		if (status)
			return status;
		if (k == 0) {
			status = read_type(t, kind, element, big_endian);
		} else if (k == 1) {
			order_at = t->at;
			status = read_order(t, &fortran);
		} else {
			*shape_at = t->at;
			status = read_shape(t);
		}
		comma = take(t, ',');
	}
	if (status)
		return status;
	for (unsigned k = 0; k < 3; k++)
		if (!(seen & 1u << k))
			return rdt_dataset_bad(t->d, t->at, "the header has no \"%s\"", keys[k]);
	skip_blanks(t);
	if (t->at < t->end)
		return rdt_dataset_bad(t->d, t->at, "something behind the header's dict");
	if (fortran && t->d->info.n_dims > 1)
		return rdt_dataset_bad(t->d, order_at,
				       "the array lies column by column; save it with "
				       "numpy.ascontiguousarray");
	return 0;
}

int rdt_npy_parse(rdt_dataset *d)
{
	const unsigned char *b = d->bytes;
	size_t element = 0, shape_at = 0, prefix, length = 0;
	struct text t = { .d = d };
	bool big_endian = false;
	char kind = 0;
	int status;

	if (d->n_bytes < 10 || memcmp(b, MAGIC, 6) != 0)
		return rdt_dataset_bad(d, 0, "a .npy file begins with \\x93NUMPY and its version");
	if (b[6] < 1 || b[6] > 3)
		return rdt_dataset_bad(d, 6, "version %d of the format; 1 to 3 can be read", b[6]);
	prefix = b[6] == 1 ? 10 : 12;
	if (d->n_bytes < prefix)
		return rdt_dataset_bad(d, d->n_bytes, "the file ends within the header's length");
	for (size_t i = prefix; i > 8; i--)
		length = length << 8 | b[i - 1];
	if (length > d->n_bytes - prefix)
		return rdt_dataset_bad(d, 8, "a header of %zu bytes in a file of %zu", length,
				       d->n_bytes);
	t.at = prefix;
	t.end = prefix + length;
	status = read_header(&t, &kind, &element, &big_endian, &shape_at);
	if (status)
		return status;
	d->info.format = "npy";
	return rdt_dataset_shape(d, kind, element, big_endian, shape_at, t.end);
}
