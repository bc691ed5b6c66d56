/* SPDX-License-Identifier: BSD-3-Clause */
/* A strict reader of numeric CSV files; see csv.h. Knows nothing of training. */
#include "csv.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where the reader is, for its errors. */
struct place {
	const char *path;
	size_t line, column;
	char *error;
	size_t error_size;
};

static int fail(const struct place *at, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static int fail(const struct place *at, const char *format, ...)
{
	va_list args;
	int n;

	if (at->line)
		n = snprintf(at->error, at->error_size, "%s:%zu:%zu: ", at->path, at->line,
			     at->column);
	else
		n = snprintf(at->error, at->error_size, "%s: ", at->path);
	if (n >= 0 && (size_t)n < at->error_size) {
		va_start(args, format);
		vsnprintf(at->error + n, at->error_size - (size_t)n, format, args);
		va_end(args);
	}
	return -1;
}

/* A field as it may be shown on a terminal: cut short, and without control characters. */
static const char *shown(const char *field, size_t length, char text[48])
{
	size_t n = length < 40 ? length : 40;

	for (size_t i = 0; i < n; i++)
		text[i] = field[i] >= ' ' && field[i] <= '~' ? field[i] : '?';
	strcpy(text + n, n < length ? "..." : "");
	return text;
}

/* One field, which ends at a comma or at the end of the line. */
static int read_number(const struct place *at, const char *field, size_t length, float *value)
{
	char *end, text[48];

	if (length == 0)
		return fail(at, "an empty field");
	/* strtof also knows blanks, "nan", "inf" and hexadecimal; a table has no use for them. */
	if (strspn(field, "0123456789+-.eE") >= length) {
		*value = strtof(field, &end);
		if (end == field + length && isfinite(*value))
			return 0;
		if (end == field + length)
			return fail(at, "\"%s\" is too large for a float",
				    shown(field, length, text));
	}
	return fail(at, "\"%s\" is not a number%s", shown(field, length, text),
		    at->line == 1 ? " (the file must have no header line)" : "");
}

/* Makes room for one more row. The features are known once the first line has been counted. */
static int grow(const struct place *at, struct table *table, size_t *capacity)
{
	size_t more = *capacity ? *capacity * 2 : 1024;
	void *x, *y;

	if (table->rows < *capacity)
		return 0;
	x = reallocarray(table->x, more, table->features * sizeof(float));
	if (x)
		table->x = x;
	y = reallocarray(table->y, more, sizeof(int));
	if (y)
		table->y = y;
	if (!x || !y)
		return fail(at, "out of memory after %zu rows", table->rows);
	*capacity = more;
	return 0;
}

/* `line` has lost its line end. */
static int read_row(struct place *at, char *line, struct table *table)
{
	float *x = table->x + table->rows * table->features, class;
	char text[48];

	for (at->column = 1;; at->column++) {
		size_t length = strcspn(line, ",");
		int last = line[length] == '\0';

		if (at->column > table->features + 1)
			return fail(at, "more fields than the %zu of the first line",
				    table->features + 1);
		if (last && at->column <= table->features)
			return fail(at, "the line ends after %zu of %zu fields", at->column,
				    table->features + 1);
		if (read_number(at, line, length, last ? &class : &x[at->column - 1]))
			return -1;
		if (last)
			break;
		line += length + 1;
	}
	if (class < 0 || class > CSV_CLASS_MAX || class != floorf(class))
		return fail(at, "the class \"%s\" is not a whole number from 0 to %d",
			    shown(line, strlen(line), text), CSV_CLASS_MAX);
	table->y[table->rows++] = (int)class;
	if ((int)class >= table->classes)
		table->classes = (int)class + 1;
	return 0;
}

int table_read(const char *path, struct table *table, char *error, size_t error_size)
{
	struct place at = { .path = path, .error = error, .error_size = error_size };
	size_t line_size = 0, capacity = 0;
	char *line = NULL;
	ssize_t length;
	int status = -1;
	FILE *file;

	*table = (struct table){ 0 };
	file = fopen(path, "r");
	if (!file)
		return fail(&at, "%s", strerror(errno));

	errno = 0;
	while ((length = getline(&line, &line_size, file)) > 0) {
		at.line++;
		at.column = 1;
		if (line[length - 1] == '\n')
			line[--length] = '\0';
		if (length > 0 && line[length - 1] == '\r')
			line[--length] = '\0';
		if (length == 0) {
			fail(&at, "an empty line");
			goto out;
		}
		if (strlen(line) != (size_t)length) {
			fail(&at, "a zero byte; this is not a text file");
			goto out;
		}
		if (at.line == 1) {
			for (const char *c = line; *c; c++)
				table->features += *c == ',';
			if (table->features == 0) {
				fail(&at, "one field; a row needs at least one feature and then "
					  "the class, with commas between");
				goto out;
			}
		}
		if (grow(&at, table, &capacity) || read_row(&at, line, table))
			goto out;
	}
	if (ferror(file)) {
		at.line = 0;
		fail(&at, "%s", strerror(errno));
		goto out;
	}
	if (table->rows == 0) {
		fail(&at, "the file is empty");
		goto out;
	}
	status = 0;
out:
	if (status)
		table_free(table);
	free(line);
	fclose(file);
	return status;
}

void table_free(struct table *table)
{
	free(table->x);
	free(table->y);
	*table = (struct table){ 0 };
}
