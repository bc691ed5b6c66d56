/* SPDX-License-Identifier: BSD-3-Clause */
/* Headers of safetensors files; see safetensors.h. */
#include "safetensors.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64 /* of the data in the file: for those who map it */

static const char *const dtypes[] = {
	[RDT_FLOAT32] = "F32",	 [RDT_FLOAT64] = "F64", [RDT_FLOAT16] = "F16",
	[RDT_BFLOAT16] = "BF16", [RDT_INT8] = "I8",	[RDT_UINT8] = "U8",
	[RDT_INT32] = "I32",	 [RDT_UINT32] = "U32",	[RDT_INT64] = "I64",
	[RDT_UINT64] = "U64",
};

#define N_DTYPES (sizeof(dtypes) / sizeof(*dtypes))

/* ---- reading ----------------------------------------------------------------------------- */

static int bad(const char *name, uint64_t offset, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int bad(const char *name, uint64_t offset, const char *format, ...)
{
	char text[400];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return rdt_set_error(RDT_ERR_INVALID, "%s: byte %llu: %s", name, (unsigned long long)offset,
			     text);
}

/* A whole number from 0 on. */
static int get_number(const json_t *value, uint64_t *number)
{
	json_int_t n = json_integer_value(value);

	*number = (uint64_t)n;
	return json_is_integer(value) && n >= 0 ? 0 : -1;
}

/* Says what is wrong with an entry, or NULL; its place is checked with the others'. */
static const char *read_entry(const json_t *value, struct rdt_entry *e)
{
	const char *dtype = json_string_value(json_object_get(value, "dtype"));
	const json_t *shape = json_object_get(value, "shape");
	const json_t *offsets = json_object_get(value, "data_offsets");
	uint64_t bytes;
	size_t t = 0;

	if (json_object_size(value) != 3 || !dtype || !json_is_array(shape) ||
	    json_array_size(offsets) != 2)
		return "it has not just dtype, shape and data_offsets";
	while (t < N_DTYPES && strcmp(dtypes[t], dtype) != 0)
		t++;
	if (t == N_DTYPES)
		return "its dtype cannot be read";
	e->type = (enum rdt_type)t;
	if (json_array_size(shape) > RDT_DIMS_MAX)
		return "it has more than 8 dimensions";
	e->n_dims = (int)json_array_size(shape);
	bytes = rdt_type_size(e->type);
	for (int i = 0; i < e->n_dims; i++) {
		if (get_number(json_array_get(shape, (size_t)i), &e->dims[i]))
			return "its shape is not made of whole numbers";
		if (__builtin_mul_overflow(bytes, e->dims[i], &bytes))
			return "it is larger than all memory";
	}
	if (get_number(json_array_get(offsets, 0), &e->begin) ||
	    get_number(json_array_get(offsets, 1), &e->end) || e->begin > e->end)
		return "its data_offsets are not two whole numbers, ascending";
	if (e->end - e->begin != bytes)
		return "its data_offsets do not fit its shape and dtype";
	return NULL;
}

static int compare(const void *a, const void *b)
{
	const struct rdt_entry *p = a, *q = b;

	if (p->begin != q->begin)
		return p->begin < q->begin ? -1 : 1;
	return (p->end > q->end) - (p->end < q->end);
}

static int read_entries(const char *name, uint64_t data_bytes, struct rdt_header *h)
{
	uint64_t at = 0;
	const char *key, *label, *wrong;
	json_t *value, *text;

	json_object_foreach(h->json, key, value)
	{
		if (strcmp(key, "__metadata__") != 0) {
			struct rdt_entry *e = &h->entries[h->n++];

			e->name = key;
			wrong = read_entry(value, e);
			if (wrong)
				return bad(name, 8, "tensor \"%.80s\": %s", key, wrong);
			continue;
		}
		if (!json_is_object(value))
			return bad(name, 8, "__metadata__ is not an object");
		json_object_foreach(value, label, text)
		{
			if (json_is_string(text))
				continue;
			return bad(name, 8, "__metadata__: \"%.80s\" is not a string", label);
		}
	}
	qsort(h->entries, h->n, sizeof(*h->entries), compare);
	for (size_t i = 0; i < h->n; at = h->entries[i++].end)
		if (h->entries[i].begin != at)
			return bad(name, h->data_at + at, "a hole or an overlap before \"%.80s\"",
				   h->entries[i].name);
	if (at > data_bytes)
		return bad(name, h->data_at + data_bytes,
			   "the file is cut short: %llu bytes of data, not %llu",
			   (unsigned long long)data_bytes, (unsigned long long)at);
	if (at < data_bytes)
		return bad(name, h->data_at + at, "%llu bytes behind the data",
			   (unsigned long long)(data_bytes - at));
	return 0;
}

int rdt_header_parse(const char *name, const void *bytes, size_t n, uint64_t file_bytes,
		     struct rdt_header *h)
{
	const unsigned char *b = bytes;
	json_error_t error;
	uint64_t length = 0;
	int status;

	*h = (struct rdt_header){ 0 };
	if (n < 8)
		return bad(name, n, "the file ends within the header's length");
	for (int i = 8; i > 0; i--)
		length = length << 8 | b[i - 1];
	if (length > RDT_HEADER_MAX)
		return bad(name, 0, "a header of %llu bytes; the most is %d",
			   (unsigned long long)length, RDT_HEADER_MAX);
	if (length > file_bytes - 8 || length > n - 8)
		return bad(name, file_bytes,
			   "the file is cut short within its header of %llu bytes",
			   (unsigned long long)length);
	if (length == 0 || b[8] != '{')
		return bad(name, 8, "the header does not begin with '{'");
	h->data_at = 8 + length;
	h->json = json_loadb((const char *)b + 8, length, JSON_REJECT_DUPLICATES, &error);
	if (!h->json)
		return bad(name, 8 + (uint64_t)(error.position > 0 ? error.position : 0),
			   "the header is no JSON: %s", error.text);
	h->entries = calloc(json_object_size(h->json) + 1, sizeof(*h->entries));
	if (!h->entries)
		status = rdt_set_error(RDT_ERR_NOMEM, "%s: no memory for its header", name);
	else
		status = read_entries(name, file_bytes - h->data_at, h);
	if (status)
		rdt_header_free(h);
	return status;
}

void rdt_header_free(struct rdt_header *h)
{
	json_decref(h->json);
	free(h->entries);
	*h = (struct rdt_header){ 0 };
}

const struct rdt_entry *rdt_header_find(const struct rdt_header *h, const char *name)
{
	for (size_t i = 0; i < h->n; i++)
		if (strcmp(h->entries[i].name, name) == 0)
			return &h->entries[i];
	return NULL;
}

const char *rdt_header_metadata(const struct rdt_header *h, const char *key)
{
	return json_string_value(json_object_get(json_object_get(h->json, "__metadata__"), key));
}

/* ---- writing ----------------------------------------------------------------------------- */

static json_t *write_entry(const struct rdt_entry *e)
{
	json_t *shape = json_array();

	for (int i = 0; i < e->n_dims; i++)
		json_array_append_new(shape, json_integer((json_int_t)e->dims[i]));
	return json_pack("{s:s, s:o, s:[I,I]}", "dtype", dtypes[e->type], "shape", shape,
			 "data_offsets", (json_int_t)e->begin, (json_int_t)e->end);
}

int rdt_header_write(const struct rdt_entry *entries, size_t n, const char *const (*metadata)[2],
		     size_t n_metadata, unsigned char **bytes, size_t *n_bytes)
{
	json_t *root = json_object(), *pairs = json_object();
	size_t length, total;
	char *text = NULL;
	int wrong = 0;

	*bytes = NULL;
	for (size_t i = 0; i < n_metadata; i++)
		wrong |= json_object_set_new(pairs, metadata[i][0], json_string(metadata[i][1]));
	wrong |= json_object_set_new(root, "__metadata__", pairs);
	for (size_t i = 0; i < n; i++)
		wrong |= json_object_set_new(root, entries[i].name, write_entry(&entries[i]));
	if (!wrong)
		text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	if (!text)
		return rdt_set_error(RDT_ERR_INVALID,
				     "no header of %zu tensors: a name is not UTF-8, or there is "
				     "no memory",
				     n);
	length = strlen(text);
	total = (8 + length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	*bytes = malloc(total);
	if (*bytes) {
		for (int i = 0; i < 8; i++)
			(*bytes)[i] = (unsigned char)((uint64_t)(total - 8) >> 8 * i);
		memcpy(*bytes + 8, text, length);
		memset(*bytes + 8 + length, ' ', total - 8 - length);
		*n_bytes = total;
	}
	free(text);
	return *bytes ? 0
		      : rdt_set_error(RDT_ERR_NOMEM, "no memory for a header of %zu tensors", n);
}
