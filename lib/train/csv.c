/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A strict reader of numeric CSV files: plain decimal numbers between commas, no header, all rows
 * equally long, lines that end with LF or CRLF. What is not understood is an error with its line
 * and column, never a guess.
 */
#include "dataset.h"

#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longer than any double needs to be told from all others. */
#define FIELD_MAX 127

struct reader {
	rdt_dataset *d;
	locale_t c_locale;   /* a decimal point is a point, whatever the program's locale */
	size_t line, column; /* where it is; from 1, columns are fields */
	size_t capacity;     /* rows that there is room for */
};

static int bad(const struct reader *r, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static int bad(const struct reader *r, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return rdt_set_error(RDT_ERR_INVALID, "%s:%zu:%zu: %s", r->d->name, r->line, r->column,
			     text);
}

static int read_number(const struct reader *r, const char *field, size_t length, double *value)
{
	char text[FIELD_MAX + 1], shown[48], *end;

	if (length == 0)
		return bad(r, "an empty field");
	if (length > FIELD_MAX)
		return bad(r, "a field of %zu characters; a number has at most %d", length,
			   FIELD_MAX);
	memcpy(text, field, length);
	text[length] = '\0';
	/* strtod also knows blanks, "nan", "inf" and hexadecimal; a table has no use for them. */
	if (strspn(text, "0123456789+-.eE") == length) {
		*value = strtod_l(text, &end, r->c_locale);
		if (end == text + length && isfinite(*value))
			return 0;
		if (end == text + length)
			return bad(r, "\"%s\" is too large for a double",
				   rdt_shown(field, length, shown));
	}
	return bad(r, "\"%s\" is not a number%s", rdt_shown(field, length, shown),
		   r->line == 1 ? " (the file must have no header line)" : "");
}

/* Makes room for one more row. */
static int grow(struct reader *r)
{
	rdt_dataset *d = r->d;
	size_t more = r->capacity ? r->capacity * 2 : 64, row = d->info.columns * sizeof(double);
	double *values;

	if (d->info.rows < r->capacity)
		return 0;
	values = more > r->capacity ? reallocarray(d->values, more, row) : NULL;
	if (!values)
		return rdt_set_error(RDT_ERR_NOMEM, "%s: out of memory after %zu rows", d->name,
				     (size_t)d->info.rows);
	d->values = values;
	r->capacity = more;
	return 0;
}

/* One line, without its end. */
static int read_row(struct reader *r, const char *line, size_t length)
{
	rdt_dataset *d = r->d;
	const char *end = line + length;
	size_t columns = d->info.columns;
	double *row = d->values + d->info.rows * columns;

	for (r->column = 1;; r->column++) {
		const char *comma = memchr(line, ',', (size_t)(end - line));
		size_t field = (size_t)((comma ? comma : end) - line);
		int status;

		if (r->column > columns)
			return bad(r, "more fields than the %zu of the first line", columns);
		if (!comma && r->column < columns)
			return bad(r, "the line ends after %zu of %zu fields", r->column, columns);
		status = read_number(r, line, field, &row[r->column - 1]);
		if (status)
			return status;
		if (!comma)
			break;
		line = comma + 1;
	}
	d->info.rows++;
	return 0;
}

static int read_rows(struct reader *r)
{
	const char *at = (const char *)r->d->bytes, *end = at + r->d->n_bytes;
	int status = 0;

	while (at < end && !status) {
		const char *feed = memchr(at, '\n', (size_t)(end - at)),
			   *next = feed ? feed + 1 : end;
		size_t length = (size_t)((feed ? feed : end) - at);

		r->line++;
		r->column = 1;
		if (length > 0 && at[length - 1] == '\r')
			length--;
		if (length == 0)
			return bad(r, "an empty line");
		if (memchr(at, '\0', length))
			return bad(r, "a zero byte; this is not a text file");
		if (r->line == 1) {
			r->d->info.columns = 1;
			for (size_t i = 0; i < length; i++)
				r->d->info.columns += at[i] == ',';
		}
		status = grow(r);
		if (!status)
			status = read_row(r, at, length);
		at = next;
	}
	return status;
}

int rdt_csv_parse(rdt_dataset *d)
{
	struct reader r = { .d = d };
	int status;

	r.c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (!r.c_locale)
		return rdt_set_error(RDT_ERR_NOMEM, "%s: no memory for a locale", d->name);
	status = read_rows(&r);
	freelocale(r.c_locale);
	if (status)
		return status;
	d->info.format = "csv";
	d->info.type = RDT_FLOAT64;
	d->info.n_dims = 2;
	d->info.dims[0] = d->info.rows;
	d->info.dims[1] = d->info.columns;
	d->kind = 'f';
	d->element = sizeof(double);
	d->data = (const unsigned char *)d->values;
	return 0;
}
