/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The updates, for one type: REAL, named by NAME(x), with square root ROOT. Each element is
 * computed for itself and in this order, so that a shard gives the bits that the whole vector
 * would.
 */

static void NAME(sgd)(REAL *p, const REAL *g, size_t n, REAL rate)
{
	for (size_t i = 0; i < n; i++)
		p[i] -= rate * g[i];
}

static void NAME(momentum)(REAL *restrict p, const REAL *restrict g, REAL *restrict v, size_t n,
			   REAL rate, REAL momentum)
{
	for (size_t i = 0; i < n; i++) {
		v[i] = momentum * v[i] + g[i];
		p[i] -= rate * v[i];
	}
}

/* `unbias1` and `unbias2` are 1 / (1 - beta^t), by which the moments make up for starting at 0. */
static void NAME(adam)(REAL *restrict p, const REAL *restrict g, REAL *restrict m, REAL *restrict v,
		       size_t n, REAL rate, REAL beta1, REAL beta2, REAL epsilon, REAL unbias1,
		       REAL unbias2)
{
	for (size_t i = 0; i < n; i++) {
		m[i] = beta1 * m[i] + (1 - beta1) * g[i];
		v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
		p[i] -= rate * (m[i] * unbias1) / (ROOT(v[i] * unbias2) + epsilon);
	}
}
