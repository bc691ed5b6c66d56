/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The example's mathematics and its reader: the gradient against finite differences of a second,
 * plain implementation in double precision; the sum over shares against the whole; CSV faults.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "examples/csv.h"
#include "examples/mlp.h"

#define ROWS 11
#define WIDEST 16

static const int width[] = { 5, 7, 6, 4 };
#define LAYERS 3

struct problem {
	struct mlp mlp;
	float x[ROWS * 5];
	int y[ROWS];
};

static void problem_init(struct problem *p)
{
	uint64_t random = 42;

	assert_int_equal(mlp_init(&p->mlp, width, LAYERS, ROWS), 0);
	mlp_randomise(&p->mlp, 7);
	/* biases as well: zeros would hide a fault in them */
	for (size_t i = 0; i < p->mlp.n_params; i++)
		p->mlp.params[i] += (float)(random_next(&random) % 1000) * 1e-4f;
	for (int i = 0; i < ROWS * width[0]; i++)
		p->x[i] = (float)(random_next(&random) % 1000) * 1e-3f;
	for (int i = 0; i < ROWS; i++)
		p->y[i] = (int)(random_next(&random) % (uint64_t)width[LAYERS]);
}

/* The same network, one row and one product at a time; returns the summed loss. */
static double plain_loss(const double *params, const float *x, const int *y, int rows)
{
	double loss = 0;

	for (int r = 0; r < rows; r++) {
		double in[WIDEST], out[WIDEST] = { 0 }, total = 0;
		const double *weights = params;

		for (int i = 0; i < width[0]; i++)
			in[i] = (double)x[r * width[0] + i];
		for (int l = 0; l < LAYERS; l++) {
			const double *biases = weights + width[l] * width[l + 1];

			for (int o = 0; o < width[l + 1]; o++) {
				out[o] = biases[o];
				for (int i = 0; i < width[l]; i++)
					out[o] += in[i] * weights[i * width[l + 1] + o];
			}
			for (int o = 0; o < width[l + 1]; o++)
				in[o] = tanh(out[o]);
			weights = biases + width[l + 1];
		}
		for (int c = 0; c < width[LAYERS]; c++)
			total += exp(out[c]);
		loss += log(total) - out[y[r]];
	}
	return loss;
}

static void the_gradient_is_that_of_finite_differences(void **state)
{
	struct problem p;
	double *params, loss, step = 1e-5, largest = 0;
	float *gradient;
	size_t n;

	(void)state;
	problem_init(&p);
	n = p.mlp.n_params;
	assert_int_equal(n, 5 * 7 + 7 + 7 * 6 + 6 + 6 * 4 + 4);
	params = calloc(n, sizeof(*params));
	gradient = calloc(n, sizeof(*gradient));
	assert_true(params && gradient);
	for (size_t i = 0; i < n; i++)
		params[i] = (double)p.mlp.params[i];

	loss = mlp_gradient(&p.mlp, p.x, p.y, ROWS, 1.0f / ROWS, gradient);
	assert_true(fabs(loss - plain_loss(params, p.x, p.y, ROWS)) < 1e-5 * loss);

	for (size_t i = 0; i < n; i++) {
		double middle = params[i], up, down, slope;

		params[i] = middle + step;
		up = plain_loss(params, p.x, p.y, ROWS);
		params[i] = middle - step;
		down = plain_loss(params, p.x, p.y, ROWS);
		params[i] = middle;
		slope = (up - down) / (2 * step) / ROWS;
		if (fabs(slope - (double)gradient[i]) > 1e-6 + 1e-5 * fabs(slope))
			fail_msg("parameter %zu: gradient %.9g, finite difference %.9g", i,
				 (double)gradient[i], slope);
		largest = fmax(largest, fabs(slope));
	}
	assert_true(largest > 1e-2); /* not all of it lies under the tolerance */
	free(params);
	free(gradient);
	mlp_free(&p.mlp);
}

static void shares_of_any_size_add_up_to_the_whole_batch(void **state)
{
	static const int cuts[] = { 0, 4, 4, 9, ROWS }; /* the second share is empty */
	struct problem p;
	float *whole, *part, *sum;
	double loss, loss_sum = 0;

	(void)state;
	problem_init(&p);
	whole = calloc(p.mlp.n_params, sizeof(float));
	part = calloc(p.mlp.n_params, sizeof(float));
	sum = calloc(p.mlp.n_params, sizeof(float));
	assert_true(whole && part && sum);
	loss = mlp_gradient(&p.mlp, p.x, p.y, ROWS, 1.0f / ROWS, whole);
	for (int s = 0; s < 4; s++) {
		/* what the last share left there must not show through */
		for (size_t i = 0; i < p.mlp.n_params; i++)
			part[i] = NAN;
		loss_sum += mlp_gradient(&p.mlp, p.x + cuts[s] * width[0], p.y + cuts[s],
					 cuts[s + 1] - cuts[s], 1.0f / ROWS, part);
		for (size_t i = 0; i < p.mlp.n_params; i++) {
			if (cuts[s] == cuts[s + 1])
				assert_true(part[i] == 0);
			sum[i] += part[i];
		}
	}
	assert_true(fabs(loss_sum - loss) < 1e-6 * loss);
	for (size_t i = 0; i < p.mlp.n_params; i++)
		assert_true(fabsf(sum[i] - whole[i]) < 1e-6f);
	free(whole);
	free(part);
	free(sum);
	mlp_free(&p.mlp);
}

static void rows_are_counted_when_the_highest_output_is_their_class(void **state)
{
	/* no hidden layer, weights the identity: the highest input is the answer */
	static const float x[] = { 1, 0, 0, 0, 3, 1, 2, 2, 5 };
	static const int two[] = { 3, 3 }, y[] = { 0, 1, 1 };
	struct mlp m;

	(void)state;
	assert_int_equal(mlp_init(&m, two, 1, 3), 0);
	for (int i = 0; i < 3; i++)
		m.params[i * 3 + i] = 1;
	assert_int_equal(mlp_correct(&m, x, y, 3), 2);
	assert_int_equal(mlp_correct(&m, x, y, 0), 0);
	mlp_free(&m);
}

static void large_outputs_do_not_overflow(void **state)
{
	static const float x[] = { 500, -500 };
	static const int two[] = { 2, 2 }, y[] = { 1 };
	float gradient[6];
	struct mlp m;
	double loss;

	(void)state;
	assert_int_equal(mlp_init(&m, two, 1, 1), 0);
	m.params[0] = m.params[3] = 1;
	loss = mlp_gradient(&m, x, y, 1, 1, gradient);
	assert_true(fabs(loss - 1000) < 1e-3);
	for (int i = 0; i < 6; i++)
		assert_true(isfinite(gradient[i]));
	mlp_free(&m);
}

/* ---- the reader --------------------------------------------------------------------------------
 */

static char path[] = "/tmp/mlp_gradient_XXXXXX";

static int read_text(const char *text, size_t length, struct table *table, char *error,
		     size_t error_size)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
	return table_read(path, table, error, error_size);
}

static void a_table_is_read_with_either_line_end(void **state)
{
	static const char *const texts[] = { "1.5,-2,0\n3e1,4,2\n", "1.5,-2,0\r\n3e1,4,2\r\n",
					     "1.5,-2,0\n3e1,4,2", "1.5,-2,0\n3e1,4,2.0e0\n" };
	char error[256];
	struct table t;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(read_text(texts[i], strlen(texts[i]), &t, error, sizeof(error)),
				 0);
		assert_int_equal(t.rows, 2);
		assert_int_equal(t.features, 2);
		assert_int_equal(t.classes, 3);
		assert_true(t.x[0] == 1.5f && t.x[1] == -2 && t.x[2] == 30 && t.x[3] == 4);
		assert_true(t.y[0] == 0 && t.y[1] == 2);
		table_free(&t);
	}
}

static void a_long_table_is_read_to_its_end(void **state)
{
	enum { N = 5000 };
	char error[256], *text = NULL;
	size_t length = 0;
	struct table t;
	FILE *to = open_memstream(&text, &length);

	(void)state;
	assert_non_null(to);
	for (int i = 0; i < N; i++)
		fprintf(to, "%d,%d,%d\n", i, -i, i % 10);
	assert_int_equal(fclose(to), 0);
	assert_int_equal(read_text(text, length, &t, error, sizeof(error)), 0);
	assert_int_equal(t.rows, N);
	for (int i = 0; i < N; i++)
		assert_true(t.x[2 * i] == (float)i && t.x[2 * i + 1] == (float)-i &&
			    t.y[i] == i % 10);
	table_free(&t);
	free(text);
}

static void a_fault_is_told_with_line_and_column(void **state)
{
	static const struct {
		const char *text, *place, *words;
	} faults[] = {
		{ "1,2,0\n3,x4,1\n", ":2:2: ", "\"x4\" is not a number" },
		{ "age,sex,class\n", ":1:1: ", "no header line" },
		{ "1,2,0\n3,,1\n", ":2:2: ", "empty field" },
		{ "1,2,0\n3,4,\n", ":2:3: ", "empty field" },
		{ "1,nan,0\n", ":1:2: ", "not a number" },
		{ "1,0x10,0\n", ":1:2: ", "not a number" },
		{ "1, 2,0\n", ":1:2: ", "not a number" },
		{ "1,1e99,0\n", ":1:2: ", "too large" },
		{ "1,-,0\n", ":1:2: ", "not a number" },
		{ "1,2,0\n1,2,0\n3,1\n", ":3:2: ", "ends after 2 of 3 fields" },
		{ "1,2,0\n3,4,5,1\n", ":2:4: ", "more fields than the 3" },
		{ "1,2,0\n\n3,4,1\n", ":2:1: ", "empty line" },
		{ "1,2,0.5\n", ":1:3: ", "\"0.5\" is not a whole number" },
		{ "1,2,-1\n", ":1:3: ", "\"-1\" is not a whole number" },
		{ "1,2,10000\n", ":1:3: ", "not a whole number from 0 to 9999" },
		{ "7\n", ":1:1: ", "one field" },
		{ "1,\x1b[31m,0\n", ":1:2: ", "\"?[31m\" is not a number" },
		{ "", ": ", "the file is empty" },
	};
	char expected[128], error[256];
	struct table t;

	(void)state;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		int status =
			read_text(faults[i].text, strlen(faults[i].text), &t, error, sizeof(error));

		if (status != -1)
			fail_msg("accepted: %s", faults[i].text);
		snprintf(expected, sizeof(expected), "%s%s", path, faults[i].place);
		if (strncmp(error, expected, strlen(expected)) != 0 ||
		    !strstr(error, faults[i].words))
			fail_msg("\"%s\" gave \"%s\"", faults[i].text, error);
	}
}

static void a_zero_byte_is_no_end_of_line(void **state)
{
	char error[256];
	struct table t;

	(void)state;
	assert_int_equal(read_text("1,2\0,0\n", 7, &t, error, sizeof(error)), -1);
	assert_non_null(strstr(error, "zero byte"));
}

static void a_file_that_cannot_be_read_is_told_by_name(void **state)
{
	char error[256];
	struct table t;

	(void)state;
	assert_int_equal(table_read("/nonexistent/t.csv", &t, error, sizeof(error)), -1);
	assert_string_equal(error, "/nonexistent/t.csv: No such file or directory");
	assert_int_equal(table_read("/", &t, error, sizeof(error)), -1);
	assert_string_equal(error, "/: Is a directory");
}

static int make_file(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_gradient_is_that_of_finite_differences),
		cmocka_unit_test(shares_of_any_size_add_up_to_the_whole_batch),
		cmocka_unit_test(rows_are_counted_when_the_highest_output_is_their_class),
		cmocka_unit_test(large_outputs_do_not_overflow),
		cmocka_unit_test(a_table_is_read_with_either_line_end),
		cmocka_unit_test(a_long_table_is_read_to_its_end),
		cmocka_unit_test(a_fault_is_told_with_line_and_column),
		cmocka_unit_test(a_zero_byte_is_no_end_of_line),
		cmocka_unit_test(a_file_that_cannot_be_read_is_told_by_name),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
