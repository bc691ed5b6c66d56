/* SPDX-License-Identifier: BSD-3-Clause */
/* The network of train_mlp: forward and backward; see mlp.h. Does no I/O. */
#include "mlp.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct rdt_layer_part part_of(const int *width, const struct rdt_layer_part *layers, int l)
{
	return layers ? layers[l]
		      : (struct rdt_layer_part){ .n_in = width[l], .n_out = width[l + 1] };
}

size_t mlp_count(const int *width, int n_layers, const struct rdt_layer_part *layers)
{
	size_t count = 0;

	for (int l = 0; l < n_layers; l++) {
		struct rdt_layer_part part = part_of(width, layers, l);

		count += ((size_t)part.n_in + 1) * (size_t)part.n_out;
	}
	return count;
}

int mlp_init(struct mlp *m, const int *width, int n_layers, int max_rows,
	     const struct rdt_layer_part *layers, float *params)
{
	size_t widest = 0;

	*m = (struct mlp){ .n_layers = n_layers, .max_rows = max_rows };
	m->width[0] = width[0];
	for (int l = 0; l < n_layers; l++) {
		m->width[l + 1] = width[l + 1];
		m->layer[l] = part_of(width, layers, l);
		m->offset[l + 1] =
			m->offset[l] + ((size_t)m->layer[l].n_in + 1) * (size_t)m->layer[l].n_out;
		if ((size_t)width[l + 1] > widest)
			widest = (size_t)width[l + 1];
	}
	m->n_params = m->offset[n_layers];
	m->own = params ? NULL : calloc(m->n_params, sizeof(float));
	m->params = params ? params : m->own;
	m->delta[0] = calloc((size_t)max_rows * widest, sizeof(float));
	m->delta[1] = calloc((size_t)max_rows * widest, sizeof(float));
	if (!m->params || !m->delta[0] || !m->delta[1])
		goto failed;
	for (int l = 1; l <= n_layers; l++) {
		m->out[l] = calloc((size_t)max_rows * (size_t)m->layer[l - 1].n_out, sizeof(float));
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
	free(m->own);
	*m = (struct mlp){ 0 };
}

void mlp_randomise(struct mlp *m, uint64_t seed)
{
	for (int l = 0; l < m->n_layers; l++) {
		const struct rdt_layer_part *p = &m->layer[l];
		double bound = sqrt(6.0 / (m->width[l] + m->width[l + 1]));
		float *weights = m->params + m->offset[l];

		for (int i = 0; i < m->width[l]; i++)
			for (int o = 0; o < m->width[l + 1]; o++) {
				double u =
					(double)(random_next(&seed) >> 11) * 0x1p-53; /* [0, 1) */
				int in = i - p->first_in, out = o - p->first_out;

				if (in >= 0 && in < p->n_in && out >= 0 && out < p->n_out)
					weights[in * p->n_out + out] = (float)(bound * (2 * u - 1));
			}
		memset(weights + p->n_in * p->n_out, 0, (size_t)p->n_out * sizeof(float));
	}
}

static void sum_over_parts(struct mlp *m, float *v, size_t n)
{
	if (!m->failed && m->sum)
		m->failed = m->sum(m->arg, v, n) != 0;
}

/* Fills out[1 .. n_layers]; the last holds the sums that softmax has yet to turn into chances. */
static void forward(struct mlp *m, const float *x, int rows)
{
	const float *in = x;

	for (int l = 0; l < m->n_layers; l++) {
		int n_in = m->layer[l].n_in, n_out = m->layer[l].n_out;
		const float *weights = m->params + m->offset[l];
		const float *biases = weights + (size_t)n_in * (size_t)n_out;
		size_t n = (size_t)rows * (size_t)n_out;
		float *out = m->out[l + 1];

		/* out = in * weights, added up where others have the rest of the inputs; then the
		 * biases, and tanh but for the last layer */
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, n_out, n_in, 1, in,
			    n_in, weights, n_out, 0, out, n_out);
		if (m->layer[l].split == RDT_SPLIT_ROWS)
			sum_over_parts(m, out, n);
		for (size_t i = 0; i < n; i++)
			out[i] += biases[i % (size_t)n_out];
		if (l < m->n_layers - 1)
			for (size_t i = 0; i < n; i++)
				out[i] = tanhf(out[i]);
		in = out;
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

static void ready(struct mlp *m, int layer)
{
	if (!m->failed && m->ready)
		m->failed = m->ready(m->arg, layer) != 0;
}

/* By the weights: transposed in * delta; by the biases: delta's column sums. */
static void layer_gradient(const struct rdt_layer_part *p, const float *in, const float *delta,
			   int rows, float *gradient)
{
	cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, p->n_in, p->n_out, rows, 1, in,
		    p->n_in, delta, p->n_out, 0, gradient, p->n_out);
	gradient += (size_t)p->n_in * (size_t)p->n_out;
	for (int c = 0; c < p->n_out; c++) {
		double sum = 0;

		for (int r = 0; r < rows; r++)
			sum += (double)delta[(size_t)r * (size_t)p->n_out + (size_t)c];
		gradient[c] = (float)sum;
	}
}

static void no_rows(struct mlp *m, float *const *gradient)
{
	for (int l = m->n_layers - 1; l >= 0; l--) {
		memset(gradient[l], 0, (m->offset[l + 1] - m->offset[l]) * sizeof(float));
		ready(m, l);
	}
}

double mlp_gradient(struct mlp *m, const float *x, const int *y, int rows, float scale,
		    float *const *gradient)
{
	float *delta = m->delta[0], *below = m->delta[1], *swap;
	double loss;

	if (rows == 0) { /* alike in all parts: nobody waits for a sum */
		no_rows(m, gradient);
		return 0;
	}
	forward(m, x, rows);
	loss = cross_entropy(m->out[m->n_layers], y, rows, m->width[m->n_layers], scale, delta);

	for (int l = m->n_layers - 1; l >= 0; l--) {
		const struct rdt_layer_part *p = &m->layer[l];
		const float *in = l > 0 ? m->out[l] : x;
		size_t n = (size_t)rows * (size_t)p->n_in;

		layer_gradient(p, in, delta, rows, gradient[l]);
		ready(m, l);
		if (l == 0)
			break;

		/* by the sums below: delta * transposed weights, added up where others have the
		 * rest of the outputs, times tanh' = 1 - tanh^2 */
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, p->n_in, p->n_out, 1,
			    delta, p->n_out, m->params + m->offset[l], p->n_out, 0, below, p->n_in);
		if (p->split == RDT_SPLIT_COLUMNS)
			sum_over_parts(m, below, n);
		for (size_t i = 0; i < n; i++)
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
