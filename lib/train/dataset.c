/* SPDX-License-Identifier: BSD-3-Clause */
/* Data sets: opens and maps files, tells their formats apart, hands out rows in the caller's type.
 */
#include "dataset.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- for the readers --------------------------------------------------------------------- */

int rdt_dataset_bad(const rdt_dataset *d, size_t offset, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return rdt_set_error(RDT_ERR_INVALID, "%s: byte %zu: %s", d->name, offset, text);
}

const char *rdt_shown(const void *text, size_t length, char shown[48])
{
	const unsigned char *c = text;
	size_t n = length < 40 ? length : 40;

	for (size_t i = 0; i < n; i++)
		shown[i] = c[i] >= ' ' && c[i] <= '~' ? (char)c[i] : '?';
	strcpy(shown + n, n < length ? "..." : "");
	return shown;
}

/* The type without loss; 16 bits have no type of their own in this library. */
static enum rdt_type type_of(char kind, size_t element)
{
	if (kind == 'f')
		return element == 4 ? RDT_FLOAT32 : RDT_FLOAT64;
	switch (element) {
	case 1: return kind == 'i' ? RDT_INT8 : RDT_UINT8;
	case 2: return RDT_INT32;
	case 4: return kind == 'i' ? RDT_INT32 : RDT_UINT32;
	default: return kind == 'i' ? RDT_INT64 : RDT_UINT64;
	}
}

int rdt_dataset_shape(rdt_dataset *d, char kind, size_t element, bool big_endian, size_t dims_at,
		      size_t offset)
{
	struct rdt_dataset_info *info = &d->info;
	size_t there = d->n_bytes - offset, bytes = element;
	bool aligned;

	if (info->n_dims == 0)
		return rdt_dataset_bad(d, dims_at, "a single value; a data set has rows");
	info->columns = 1;
	for (int i = 0; i < info->n_dims; i++) {
		if (info->dims[i] == 0)
			return rdt_dataset_bad(d, dims_at, "dimension %d is 0: no data", i);
		if (__builtin_mul_overflow(bytes, info->dims[i], &bytes))
			return rdt_dataset_bad(d, dims_at, "dimensions beyond all memory");
		if (i > 0)
			info->columns *= info->dims[i];
	}
	if (bytes > there)
		return rdt_dataset_bad(d, d->n_bytes,
				       "the file is cut short: %zu bytes of data, not %zu", there,
				       bytes);
	if (bytes < there)
		return rdt_dataset_bad(d, offset + bytes, "%zu bytes behind the data",
				       there - bytes);
	info->rows = info->dims[0];
	info->type = type_of(kind, element);
	d->kind = kind;
	d->element = element;
	d->swapped = element > 1 && big_endian != (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
	d->data = d->bytes + offset;
	aligned = (uintptr_t)d->data % element == 0;
	if (!d->swapped && aligned && element == rdt_type_size(info->type))
		info->data = d->data;
	return 0;
}

/* ---- opening ----------------------------------------------------------------------------- */

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), k = strlen(end);

	return n >= k && strcmp(name + n - k, end) == 0;
}

/* By what is in the file; a name that promises a format gets the errors of that one. */
static int parse(rdt_dataset *d)
{
	if (d->n_bytes == 0)
		return rdt_set_error(RDT_ERR_INVALID, "%s: the file is empty", d->name);
	if (d->bytes[0] == 0x93 || ends_with(d->name, ".npy"))
		return rdt_npy_parse(d);
	if (d->bytes[0] == 0 || ends_with(d->name, "-ubyte") || ends_with(d->name, ".idx"))
		return rdt_idx_parse(d);
	return rdt_csv_parse(d);
}

static void unmap(rdt_dataset *d)
{
	if (d->mapped)
		munmap((void *)(uintptr_t)d->bytes, d->n_bytes);
	d->mapped = false;
	d->bytes = NULL;
}

static int map(rdt_dataset *d)
{
	int fd = open(d->name, O_RDONLY | O_CLOEXEC), status = 0;
	struct stat stat;
	void *bytes;

	if (fd < 0 || fstat(fd, &stat)) {
		status = rdt_set_error(RDT_ERR_SYSTEM, "%s: %s", d->name, strerror(errno));
	} else if (!S_ISREG(stat.st_mode)) {
		status = rdt_set_error(RDT_ERR_INVALID, "%s: not a regular file", d->name);
	} else if (stat.st_size > 0) {
		bytes = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (bytes == MAP_FAILED) {
			status = rdt_set_error(RDT_ERR_SYSTEM, "%s: cannot be mapped: %s", d->name,
					       strerror(errno));
		} else {
			d->bytes = bytes;
			d->n_bytes = (size_t)stat.st_size;
			d->mapped = true;
		}
	}
	if (fd >= 0)
		close(fd);
	return status;
}

static int make(const char *name, const void *bytes, size_t n, bool is_file, rdt_dataset **dataset)
{
	rdt_dataset *d;
	int status;

	if (!dataset)
		return rdt_set_error(RDT_ERR_INVALID, "no place for the data set: dataset is NULL");
	*dataset = NULL;
	if (!name || (!is_file && n && !bytes))
		return rdt_set_error(RDT_ERR_INVALID, "a data set without %s",
				     name ? "its bytes" : "a name");
	d = calloc(1, sizeof(*d));
	if (d)
		d->name = strdup(name);
	if (!d || !d->name) {
		free(d);
		return rdt_set_error(RDT_ERR_NOMEM, "%s: no memory for a data set", name);
	}
	d->bytes = bytes;
	d->n_bytes = n;
	status = is_file ? map(d) : 0;
	if (!status)
		status = parse(d);
	if (status) {
		rdt_dataset_close(d);
		return status;
	}
	if (d->values) /* all that is needed was taken out of the file */
		unmap(d);
	if (d->values)
		d->info.data = d->values;
	*dataset = d;
	return 0;
}

int rdt_dataset_open(const char *path, rdt_dataset **dataset)
{
	return make(path, NULL, 0, true, dataset);
}

int rdt_dataset_parse(const char *name, const void *bytes, size_t n, rdt_dataset **dataset)
{
	return make(name, bytes, n, false, dataset);
}

void rdt_dataset_close(rdt_dataset *d)
{
	if (!d)
		return;
	unmap(d);
	free(d->values);
	free(d->name);
	free(d);
}

const struct rdt_dataset_info *rdt_dataset_info(const rdt_dataset *d)
{
	return &d->info;
}

/* ---- reading ----------------------------------------------------------------------------- */

/* One element, as a number of either kind. */
struct number {
	bool is_float;
	double real;
	int64_t whole; /* of u64 beyond int64_t: the bits, with `huge` */
	bool huge;
};

static uint64_t load_bits(const rdt_dataset *d, const unsigned char *p)
{
	switch (d->element) {
	case 1: return *p;
	case 2: {
		uint16_t v;

		memcpy(&v, p, 2);
		return d->swapped ? __builtin_bswap16(v) : v;
	}
	case 4: {
		uint32_t v;

		memcpy(&v, p, 4);
		return d->swapped ? __builtin_bswap32(v) : v;
	}
	default: {
		uint64_t v;

		memcpy(&v, p, 8);
		return d->swapped ? __builtin_bswap64(v) : v;
	}
	}
}

static struct number load(const rdt_dataset *d, const unsigned char *p)
{
	uint64_t bits = load_bits(d, p);
	struct number v = { .is_float = d->kind == 'f' };
	uint32_t half = (uint32_t)bits;
	float single;

	if (v.is_float && d->element == 4) {
		memcpy(&single, &half, 4);
		v.real = (double)single;
	} else if (v.is_float) {
		memcpy(&v.real, &bits, 8);
	} else if (d->kind == 'u') {
		v.whole = (int64_t)bits;
		v.huge = bits > INT64_MAX;
		v.real = (double)bits;
	} else {
		int unused = 64 - 8 * (int)d->element;

		v.whole = (int64_t)(bits << unused) >> unused;
		v.real = (double)v.whole;
	}
	return v;
}

/* False when the type cannot hold it. */
static bool store_whole(struct number v, int64_t low, int64_t high, int64_t *out)
{
	if (v.is_float) {
		/* 2^63 is a double, INT64_MAX is not. */
		if (v.real != floor(v.real) || !(v.real >= -0x1p63 && v.real < 0x1p63))
			return false;
		v.whole = (int64_t)v.real;
	}
	*out = v.whole;
	return !v.huge && v.whole >= low && v.whole <= high;
}

static bool store(struct number v, enum rdt_type type, unsigned char *out)
{
	int64_t whole = 0;
	bool ok = true;

	switch (type) {
	case RDT_FLOAT32: {
		float single = (float)v.real;

		ok = isfinite(single) || !isfinite(v.real);
		memcpy(out, &single, 4);
		return ok;
	}
	case RDT_FLOAT64: memcpy(out, &v.real, 8); return true;
	case RDT_UINT8:
		ok = store_whole(v, 0, UINT8_MAX, &whole);
		*out = (unsigned char)whole;
		return ok;
	case RDT_INT32: {
		int32_t narrow;

		ok = store_whole(v, INT32_MIN, INT32_MAX, &whole);
		narrow = (int32_t)whole;
		memcpy(out, &narrow, 4);
		return ok;
	}
	default:
		ok = store_whole(v, INT64_MIN, INT64_MAX, &whole);
		memcpy(out, &whole, 8);
		return ok;
	}
}

static int misfit(const rdt_dataset *d, size_t row, size_t column, double value, enum rdt_type type)
{
	const char *name = rdt_type_name(type);

	/* A CSV file has no empty lines, so a row is a line. */
	if (d->values)
		return rdt_set_error(RDT_ERR_INVALID, "%s:%zu:%zu: %.17g does not fit %s", d->name,
				     row + 1, column + 1, value, name);
	return rdt_dataset_bad(
		d, (size_t)(d->data - d->bytes) + (row * d->info.columns + column) * d->element,
		"%.17g (row %zu, column %zu) does not fit %s", value, row, column, name);
}

static int read_row(const rdt_dataset *d, size_t row, size_t first, size_t columns,
		    enum rdt_type type, unsigned char *out)
{
	const unsigned char *p = d->data + (row * d->info.columns + first) * d->element;
	size_t size = rdt_type_size(type);

	if (d->info.data && type == d->info.type) {
		memcpy(out, p, columns * size);
		return 0;
	}
	for (size_t c = 0; c < columns; c++) {
		struct number v = load(d, p + c * d->element);

		if (!store(v, type, out + c * size))
			return misfit(d, row, first + c, v.real, type);
	}
	return 0;
}

int rdt_dataset_read(const rdt_dataset *d, const uint64_t *rows, size_t n, size_t first,
		     size_t columns, enum rdt_type type, void *out)
{
	size_t bytes = columns * rdt_type_size(type);

	if (!d || (n && columns && !out))
		return rdt_set_error(RDT_ERR_INVALID, "rdt_dataset_read: %s is NULL",
				     d ? "out" : "the data set");
	if (type != RDT_FLOAT32 && type != RDT_FLOAT64 && type != RDT_INT32 && type != RDT_INT64 &&
	    type != RDT_UINT8)
		return rdt_set_error(RDT_ERR_INVALID,
				     "rdt_dataset_read: type %d; it reads into float32, float64, "
				     "int32, int64 and uint8",
				     (int)type);
	if (first > d->info.columns || columns > d->info.columns - first)
		return rdt_set_error(RDT_ERR_INVALID,
				     "%s: columns %zu to %zu were asked for, it has %zu", d->name,
				     first, first + columns, (size_t)d->info.columns);
	for (size_t i = 0; i < n; i++) {
		uint64_t row = rows ? rows[i] : i;
		int status;

		if (row >= d->info.rows)
			return rdt_set_error(RDT_ERR_INVALID,
					     "%s: row %zu was asked for, it has %zu", d->name,
					     (size_t)row, (size_t)d->info.rows);
		status = read_row(d, row, first, columns, type, (unsigned char *)out + i * bytes);
		if (status)
			return status;
	}
	return 0;
}
