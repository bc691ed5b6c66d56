/* SPDX-License-Identifier: BSD-3-Clause */
/* The data of train_linear; see linear.h. */
#include "linear.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mlp.h" /* random_next */

/* LAPACK's least squares, from OpenBLAS: column by column, b becomes the solution. */
void dgels_(const char *trans, const int *m, const int *n, const int *nrhs, double *a,
	    const int *lda, double *b, const int *ldb, double *work, const int *lwork, int *info);

static int complain(const char *sentence)
{
	fprintf(stderr, "train_linear: %s\n", sentence);
	return -1;
}

int source_open(struct source *s, const char *file, const char *random, uint64_t seed)
{
	char more;

	*s = (struct source){ .seed = seed };
	if (file) {
		if (rdt_dataset_open(file, &s->file))
			return complain(rdt_last_error());
		s->rows = rdt_dataset_info(s->file)->rows;
		s->columns =
			rdt_dataset_info(s->file)->columns; /* the target makes room for ones */
	} else {
		if (sscanf(random, "%zux%zu%c", &s->rows, &s->columns, &more) != 2 ||
		    s->rows > 100000000 || s->columns < 1 || s->columns > 100000)
			return complain("--random wants ROWSxFEATURES, like 10000x100");
		s->columns++;
	}
	if (s->columns < 2 || s->rows < s->columns)
		return complain(
			"a sample has a feature and a target, and there must be more samples "
			"than features");
	return 0;
}

void source_close(struct source *s)
{
	rdt_dataset_close(s->file);
}

/* A normal number that only depends on its place (Box and Muller). */
static double normal_at(uint64_t seed, size_t row, size_t column)
{
	uint64_t state = seed * 0x2545f4914f6cdd1d + row * 0x100000001b3 + column;
	double a = (double)(random_next(&state) >> 11) * 0x1p-53;
	double b = (double)(random_next(&state) >> 11) * 0x1p-53;

	return sqrt(-2 * log(1 - a)) * cos(2 * M_PI * b);
}

/* What a random sample's target is: a plane, and noise. */
static double target_at(const struct source *s, size_t row)
{
	double y = normal_at(s->seed, SIZE_MAX, 0);

	for (size_t c = 1; c < s->columns; c++)
		y += normal_at(s->seed, SIZE_MAX, c) * normal_at(s->seed, row, c);
	return y + 0.1 * normal_at(s->seed, row, s->columns);
}

static int read_file(const struct source *s, struct table *t)
{
	size_t from = t->first_column ? t->first_column - 1 : 0, skip = t->first_column == 0;
	size_t n = t->n_columns - skip; /* features of the file */
	uint64_t *rows = calloc(t->n_rows, sizeof(*rows));
	double *x = calloc(t->n_rows * n + 1, sizeof(*x));
	int status = -1;

	if (!rows || !x) {
		complain("out of memory");
		goto out;
	}
	for (size_t i = 0; i < t->n_rows; i++)
		rows[i] = t->first_row + i;
	if (rdt_dataset_read(s->file, rows, t->n_rows, from, n, RDT_FLOAT64, x) ||
	    rdt_dataset_read(s->file, rows, t->n_rows, s->columns - 1, 1, RDT_FLOAT64, t->y)) {
		complain(rdt_last_error());
		goto out;
	}
	for (size_t i = 0; i < t->n_rows; i++) {
		t->x[i * t->n_columns] = 1;
		memcpy(t->x + i * t->n_columns + skip, x + i * n, n * sizeof(*x));
	}
	status = 0;
out:
	free(rows);
	free(x);
	return status;
}

int table_read(const struct source *s, struct table *t)
{
	t->x = calloc(t->n_rows * t->n_columns + 1, sizeof(*t->x));
	t->y = calloc(t->n_rows + 1, sizeof(*t->y));
	t->mean = calloc(t->n_columns + 1, sizeof(*t->mean));
	t->deviation = calloc(t->n_columns + 1, sizeof(*t->deviation));
	if (!t->x || !t->y || !t->mean || !t->deviation)
		return complain("out of memory");
	if (s->file)
		return t->n_rows && t->n_columns ? read_file(s, t) : 0;
	for (size_t i = 0; i < t->n_rows; i++) {
		for (size_t c = 0; c < t->n_columns; c++)
			t->x[i * t->n_columns + c] =
				t->first_column + c
					? normal_at(s->seed, t->first_row + i, t->first_column + c)
					: 1;
		t->y[i] = target_at(s, t->first_row + i);
	}
	return 0;
}

void table_free(struct table *t)
{
	free(t->x);
	free(t->y);
	free(t->mean);
	free(t->deviation);
}

int table_standardize(struct table *t, size_t rows, int (*sum)(void *arg, double *v, size_t n),
		      void *arg)
{
	size_t n = t->n_columns;
	bool ones = t->first_column == 0 && n > 0;

	for (size_t i = 0; i < t->n_rows; i++)
		for (size_t c = 0; c < n; c++)
			t->mean[c] += t->x[i * n + c] / (double)rows;
	if (sum(arg, t->mean, n))
		return -1;
	for (size_t i = 0; i < t->n_rows; i++)
		for (size_t c = 0; c < n; c++)
			t->deviation[c] += pow(t->x[i * n + c] - t->mean[c], 2) / (double)rows;
	if (sum(arg, t->deviation, n))
		return -1;
	for (size_t c = 0; c < n; c++)
		t->deviation[c] = t->deviation[c] > 0 ? sqrt(t->deviation[c]) : 1;
	if (ones) {
		t->mean[0] = 0;
		t->deviation[0] = 1;
	}
	for (size_t i = 0; i < t->n_rows; i++)
		for (size_t c = 0; c < n; c++)
			t->x[i * n + c] = (t->x[i * n + c] - t->mean[c]) / t->deviation[c];
	return 0;
}

void theta_restore(double *theta, const double *mean, const double *deviation, size_t columns)
{
	for (size_t c = 1; c < columns; c++) {
		theta[c] /= deviation[c];
		theta[0] -= theta[c] * mean[c];
	}
}

int closed_form(const struct source *s, double *theta)
{
	struct table t = { .n_rows = s->rows, .n_columns = s->columns };
	int m = (int)s->rows, n = (int)s->columns, one = 1, size = -1, info = 0, status = -1;
	double *by_column = calloc(s->rows * s->columns, sizeof(*by_column)), wanted = 0,
	       *work = NULL;

	if (!by_column || table_read(s, &t))
		goto out;
	for (size_t i = 0; i < s->rows; i++)
		for (size_t c = 0; c < s->columns; c++)
			by_column[c * s->rows + i] = t.x[i * s->columns + c];
	dgels_("N", &m, &n, &one, by_column, &m, t.y, &m, &wanted, &size, &info);
	size = (int)wanted;
	work = calloc((size_t)size, sizeof(*work));
	if (!work)
		goto out;
	dgels_("N", &m, &n, &one, by_column, &m, t.y, &m, work, &size, &info);
	if (info)
		goto out;
	memcpy(theta, t.y, s->columns * sizeof(*theta));
	status = 0;
out:
	if (status)
		complain(info ? "the features depend on each other: there is no one solution"
			      : "out of memory for the closed-form solution");
	table_free(&t);
	free(by_column);
	free(work);
	return status;
}
