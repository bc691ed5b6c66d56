/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A multi-layer perceptron in float32: hidden layers of tanh, softmax and cross-entropy at the end.
 * The matrix products are OpenBLAS'. It may be a part of a network that is divided over workers, of
 * which it knows nothing: what has to be added up over the parts goes through a hook.
 *
 * Why tanh and not ReLU: another number of workers rounds the sums otherwise. Where ReLU has its
 * kink, a sum that is rounded to the other side of 0 changes the gradient by more than rounding,
 * and the runs part; tanh is smooth, so that their losses can be compared.
 */
#ifndef EXAMPLES_MLP_H
#define EXAMPLES_MLP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rdtrain/train.h>

#define MLP_LAYERS_MAX 16

struct mlp {
	int n_layers;		       /* of weights */
	int width[MLP_LAYERS_MAX + 1]; /* of the whole network: inputs, hidden layers, classes */
	struct rdt_layer_part layer[MLP_LAYERS_MAX]; /* what is here of each layer */
	size_t offset[MLP_LAYERS_MAX + 1];	     /* of each layer's parameters */
	size_t n_params;			     /* here, of all layers */
	float *params, *own;		/* layer by layer: weights [in][out], then biases [out] */
	int max_rows;			/* the most rows of one call */
	float *out[MLP_LAYERS_MAX + 1]; /* what each layer gave; out[0] is not used */
	float *delta[2];		/* derivative by a layer's sums, and by the one's below */

	/* Adds v up over the parts of a network that is divided; returns 0 or -1. */
	int (*sum)(void *arg, float *v, size_t n);
	/* The gradient of a layer is complete; the layers below follow. NULL: nobody asks. */
	int (*ready)(void *arg, int layer);
	void *arg;
	bool failed; /* a hook did: what was computed is worthless */
};

/*
 * width[0 .. n_layers]; layers: what is here of the network, NULL: all of it. params: where its
 * parameters are to be, mlp_count of them, NULL: in memory of its own. Returns 0, or -1 when memory
 * ran out; mlp_free is owed only after 0.
 */
int mlp_init(struct mlp *m, const int *width, int n_layers, int max_rows,
	     const struct rdt_layer_part *layers, float *params);
void mlp_free(struct mlp *m);

/* How many parameters that makes. */
size_t mlp_count(const int *width, int n_layers, const struct rdt_layer_part *layers);

/* Weights uniform in +-sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010), biases 0. The same
 * seed gives the same weights, also in parts. */
void mlp_randomise(struct mlp *m, uint64_t seed);

/*
 * The loss summed over `rows` rows, and gradient[layer], laid out as the layer's parameters, =
 * `scale` times its derivative. No rows: 0, and gradients of zeros.
 */
double mlp_gradient(struct mlp *m, const float *x, const int *y, int rows, float scale,
		    float *const *gradient);

/* How many of the rows are classified right. */
int mlp_correct(struct mlp *m, const float *x, const int *y, int rows);

/* The next number of a random sequence (SplitMix64; Steele, Lea and Flood, OOPSLA 2014). */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

#endif
