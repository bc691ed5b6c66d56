/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables of kernels, one for each instruction set; seen by dispatch.c and the sets alone. */
#ifndef RDT_KERNELS_H
#define RDT_KERNELS_H

#include "lib/reduce/reduce.h"

#define RDT_N_TYPES (RDT_UINT64 + 1)
#define RDT_N_OPS (RDT_PROD + 1)

typedef const rdt_reduce_fn rdt_reduce_table[RDT_N_TYPES][RDT_N_OPS];

extern rdt_reduce_table rdt_reduce_baseline;
#ifdef __x86_64__
extern rdt_reduce_table rdt_reduce_avx2;   /* AVX2 and F16C */
extern rdt_reduce_table rdt_reduce_avx512; /* AVX-512 F, BW, DQ, VL and F16C */
#endif

#endif
