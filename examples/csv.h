/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads a table of numbers whose last column is a class. Strict: what is not understood is an error
 * with its place, never a guess.
 */
#ifndef EXAMPLES_CSV_H
#define EXAMPLES_CSV_H

#include <stddef.h>

#define CSV_CLASS_MAX 9999

struct table {
	size_t rows, features; /* features: the columns before the class */
	int classes;	       /* the largest class, plus one */
	float *x;	       /* rows * features values, row by row */
	int *y;		       /* the class of each row */
};

/*
 * The file has no header; fields are plain decimal numbers between commas, all rows have equally
 * many, the last is a whole number from 0 to CSV_CLASS_MAX. Lines end with LF or CRLF.
 * Returns 0, or -1 with a sentence in `error` that begins "FILE:LINE:COLUMN: ", where COLUMN counts
 * fields from 1. table_free is owed only after 0.
 */
int table_read(const char *path, struct table *table, char *error, size_t error_size);
void table_free(struct table *table);

#endif
