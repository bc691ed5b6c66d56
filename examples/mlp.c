/* SPDX-License-Identifier: BSD-3-Clause */
/* The network of train_mlp: forward and backward; see mlp.h. Does no I/O. */
#include "mlp.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int mlp_init(struct mlp *m, const int *width, int n_layers, int max_rows)
{
	size_t widest = 0;

	*m = (struct mlp){ .n_layers = n_layers, .max_rows = max_rows };
	for (int l = 0; l <= n_layers; l++) {
		m->width[l] = width[l];
		if (l > 0)
			m->n_params += ((size_t)width[l - 1] + 1) * (size_t)width[l];
		if (l > 0 && (size_t)width[l] > widest)
			widest = (size_t)width[l];
	}
	m->params = calloc(m->n_params, sizeof(float));
	m->delta[0] = calloc((size_t)max_rows * widest, sizeof(float));
	m->delta[1] = calloc((size_t)max_rows * widest, sizeof(float));
	if (!m->params || !m->delta[0] || !m->delta[1])
		goto failed;
	for (int l = 1; l <= n_layers; l++) {
		m->out[l] = calloc((size_t)max_rows * (size_t)width[l], sizeof(float));
		if (!m->out[l])
			goto failed;
	}
	return 0;
failed:
	mlp_free(m);
	return -1;
}

void mlp_free(struct mlp *m)
{
	for (int l = 1; l <= m->n_layers; l++)
		free(m->out[l]);
	free(m->delta[0]);
	free(m->delta[1]);
	free(m->params);
	*m = (struct mlp){ 0 };
}

void mlp_randomise(struct mlp *m, uint64_t seed)
{
	float *p = m->params;

	for (int l = 0; l < m->n_layers; l++) {
		size_t weights = (size_t)m->width[l] * (size_t)m->width[l + 1];
		double bound = sqrt(6.0 / (m->width[l] + m->width[l + 1]));

		for (size_t i = 0; i < weights; i++) {
			double u = (double)(random_next(&seed) >> 11) * 0x1p-53; /* [0, 1) */

			*p++ = (float)(bound * (2 * u - 1));
		}
		for (int i = 0; i < m->width[l + 1]; i++)
			*p++ = 0;
	}
}

/* Fills out[1 .. n_layers]; the last holds the sums that softmax has yet to turn into chances. */
static void forward(struct mlp *m, const float *x, int rows)
{
	const float *in = x, *weights = m->params;

	for (int l = 0; l < m->n_layers; l++) {
		int n_in = m->width[l], n_out = m->width[l + 1];
		const float *biases = weights + (size_t)n_in * (size_t)n_out;
		float *out = m->out[l + 1];

		/* out = biases + in * weights, then tanh but for the last layer */
		for (int r = 0; r < rows; r++)
			memcpy(out + (size_t)r * (size_t)n_out, biases,
			       (size_t)n_out * sizeof(*out));
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, n_out, n_in, 1, in,
			    n_in, weights, n_out, 1, out, n_out);
		if (l < m->n_layers - 1)
			for (size_t i = 0; i < (size_t)rows * (size_t)n_out; i++)
				out[i] = tanhf(out[i]);
		in = out;
		weights = biases + n_out;
	}
}

/* From the last layer's sums: the loss of the rows, and its derivative times scale. */
static double cross_entropy(const float *sums, const int *y, int rows, int classes, float scale,
			    float *delta)
{
	double loss = 0;

	for (int r = 0; r < rows; r++, sums += classes, delta += classes) {
		float highest = sums[0];
		double total = 0;

		for (int c = 1; c < classes; c++)
			highest = sums[c] > highest ? sums[c] : highest;
		for (int c = 0; c < classes; c++)
			total += exp((double)(sums[c] - highest)); /* cannot overflow */
		loss += log(total) - (double)(sums[y[r]] - highest);
		for (int c = 0; c < classes; c++) {
			double chance = exp((double)(sums[c] - highest)) / total;

			delta[c] = scale * (float)(chance - (c == y[r]));
		}
	}
	return loss;
}

double mlp_gradient(struct mlp *m, const float *x, const int *y, int rows, float scale,
		    float *gradient)
{
	float *delta = m->delta[0], *below = m->delta[1], *swap;
	size_t end = m->n_params; /* of the layer's parameters; they are visited backwards */
	double loss;

	if (rows == 0) {
		memset(gradient, 0, m->n_params * sizeof(float));
		return 0;
	}
	forward(m, x, rows);
	loss = cross_entropy(m->out[m->n_layers], y, rows, m->width[m->n_layers], scale, delta);

	for (int l = m->n_layers - 1; l >= 0; l--) {
		int n_in = m->width[l], n_out = m->width[l + 1];
		size_t biases = end - (size_t)n_out,
		       weights = biases - (size_t)n_in * (size_t)n_out;
		const float *in = l > 0 ? m->out[l] : x;

		/* by the weights: transposed in * delta; by the biases: delta's column sums */
		cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n_in, n_out, rows, 1, in, n_in,
			    delta, n_out, 0, gradient + weights, n_out);
		for (int c = 0; c < n_out; c++) {
			double sum = 0;

			for (int r = 0; r < rows; r++)
				sum += (double)delta[(size_t)r * (size_t)n_out + (size_t)c];
			gradient[biases + (size_t)c] = (float)sum;
		}
		end = weights;
		if (l == 0)
			break;

		/* by the sums below: delta * transposed weights, times tanh' = 1 - tanh^2 */
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n_in, n_out, 1, delta,
			    n_out, m->params + weights, n_out, 0, below, n_in);
		for (size_t i = 0; i < (size_t)rows * (size_t)n_in; i++)
			below[i] *= 1 - in[i] * in[i];
		swap = delta;
		delta = below;
		below = swap;
	}
	return loss;
}

int mlp_correct(struct mlp *m, const float *x, const int *y, int rows)
{
	int classes = m->width[m->n_layers], correct = 0;
	const float *sums = m->out[m->n_layers];

	if (rows == 0)
		return 0;
	forward(m, x, rows);
	for (int r = 0; r < rows; r++, sums += classes) {
		int best = 0;

		for (int c = 1; c < classes; c++)
			if (sums[c] > sums[best])
				best = c;
		correct += best == y[r];
	}
	return correct;
}
