/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The data of train_linear: one worker's rows and columns of a table, standardized, and the
 * closed-form solution to compare with. Knows nothing of workers.
 *
 * Column 0 of the table is the intercept's, all ones. Features are brought to mean 0 and standard
 * deviation 1, without which descent takes a step as small as the largest feature demands.
 */
#ifndef EXAMPLES_LINEAR_H
#define EXAMPLES_LINEAR_H

#include <stddef.h>
#include <stdint.h>

#include <rdtrain/train.h>

/* Where samples come from: a file whose last column is the target, or random numbers. */
struct source {
	rdt_dataset *file; /* NULL: random */
	uint64_t seed;
	size_t rows, columns; /* columns: the intercept's and the features' */
};

struct table {
	size_t first_row, n_rows, first_column, n_columns;
	double *x;		  /* [n_rows][n_columns] */
	double *y;		  /* [n_rows] */
	double *mean, *deviation; /* of the columns */
};

/* Opens FILE, or prepares "ROWSxFEATURES" of random samples. 0, or -1 with the sentence printed. */
int source_open(struct source *s, const char *file, const char *random, uint64_t seed);
void source_close(struct source *s);

/* Reads the rows and columns that `t` asks for. 0, or -1 with the sentence printed. table_free is
 * owed in either case. */
int table_read(const struct source *s, struct table *t);
void table_free(struct table *t);

/*
 * Standardizes the columns. `sum` adds a vector up over the workers that have other rows of the
 * same columns, and returns 0 or -1; `rows` is how many rows all of them have.
 */
int table_standardize(struct table *t, size_t rows, int (*sum)(void *arg, double *v, size_t n),
		      void *arg);

/* theta[columns] of the standardized features -> of the features as they are. All columns. */
void theta_restore(double *theta, const double *mean, const double *deviation, size_t columns);

/* The least-squares solution by LAPACK (dgels: QR), over the features as they are. 0 or -1. */
int closed_form(const struct source *s, double *theta);

#endif
