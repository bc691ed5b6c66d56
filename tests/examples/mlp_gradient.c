/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The example's mathematics: the gradient against finite differences of a second, plain
 * implementation in double precision; the sum over shares against the whole.
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

	assert_int_equal(mlp_init(&p->mlp, width, LAYERS, ROWS, NULL, NULL), 0);
	mlp_randomise(&p->mlp, 7);
	/* biases as well: zeros would hide a fault in them */
	for (size_t i = 0; i < p->mlp.n_params; i++)
		p->mlp.params[i] += (float)(random_next(&random) % 1000) * 1e-4f;
	for (int i = 0; i < ROWS * width[0]; i++)
		p->x[i] = (float)(random_next(&random) % 1000) * 1e-3f;
	for (int i = 0; i < ROWS; i++)
		p->y[i] = (int)(random_next(&random) % (uint64_t)width[LAYERS]);
}

/* Into one flat vector, laid out as the parameters. */
static double flat_gradient(struct mlp *m, const float *x, const int *y, int rows, float scale,
			    float *gradient)
{
	float *layers[MLP_LAYERS_MAX];

	for (int l = 0; l < m->n_layers; l++)
		layers[l] = gradient + m->offset[l];
	return mlp_gradient(m, x, y, rows, scale, layers);
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

	loss = flat_gradient(&p.mlp, p.x, p.y, ROWS, 1.0f / ROWS, gradient);
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
	loss = flat_gradient(&p.mlp, p.x, p.y, ROWS, 1.0f / ROWS, whole);
	for (int s = 0; s < 4; s++) {
		/* what the last share left there must not show through */
		for (size_t i = 0; i < p.mlp.n_params; i++)
			part[i] = NAN;
		loss_sum += flat_gradient(&p.mlp, p.x + cuts[s] * width[0], p.y + cuts[s],
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
	assert_int_equal(mlp_init(&m, two, 1, 3, NULL, NULL), 0);
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
	assert_int_equal(mlp_init(&m, two, 1, 1, NULL, NULL), 0);
	m.params[0] = m.params[3] = 1;
	loss = flat_gradient(&m, x, y, 1, 1, gradient);
	assert_true(fabs(loss - 1000) < 1e-3);
	for (int i = 0; i < 6; i++)
		assert_true(isfinite(gradient[i]));
	mlp_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_gradient_is_that_of_finite_differences),
		cmocka_unit_test(shares_of_any_size_add_up_to_the_whole_batch),
		cmocka_unit_test(rows_are_counted_when_the_highest_output_is_their_class),
		cmocka_unit_test(large_outputs_do_not_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
