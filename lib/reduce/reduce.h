/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reduction kernels: n sources combined element by element, in the order given, and stored to m
 * destinations, in one pass over memory. Vectorised for AVX-512, AVX2 and the baseline; the table
 * is picked once, by what the processor has (RDTRAIN_CPU=baseline|avx2|avx512 forces a lower one).
 */
#ifndef RDT_REDUCE_H
#define RDT_REDUCE_H

#include <rdtrain/rdtrain.h>

/*
 * Pointers need no alignment beyond a byte's. A destination may equal a source exactly; any other
 * overlap is undefined. n_src, n_dst >= 1; with one source it is a copy (and division). float16 and
 * bfloat16 are combined in float32 and rounded to nearest even once, when stored. MIN and MAX give
 * a NaN when any source is one. Integers wrap. `divisor` 0 or 1: none; else each result is divided
 * by it before the store (integers truncate towards zero): the FINAL step of an average. Safe from
 * any thread.
 */
typedef void (*rdt_reduce_fn)(void *const *dst, int n_dst, const void *const *src, int n_src,
			      size_t count, uint32_t divisor);

/* The kernel of the best instruction set here; AVG's is SUM's. Never NULL for valid arguments. */
rdt_reduce_fn rdt_reduce_kernel(enum rdt_type type, enum rdt_op op);

/* For tests and `rdtrain info`: the sets this processor can run, best first, NULL-terminated. */
const char *const *rdt_reduce_isas(void);
/* The same kernel of a given set; NULL when the processor lacks it. */
rdt_reduce_fn rdt_reduce_kernel_isa(const char *isa, enum rdt_type type, enum rdt_op op);
/* The set in use. */
const char *rdt_reduce_isa(void);

#endif
