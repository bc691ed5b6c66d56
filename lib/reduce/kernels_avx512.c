/* SPDX-License-Identifier: BSD-3-Clause */
/* The kernels for AVX-512 (F, BW, DQ, VL): 64-byte vectors. Nothing here may run before dispatch.c
 * has asked the processor. */
#ifdef __x86_64__
#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "lib/reduce/kernels.h"

/* From here on only; the headers above hold no code that must run elsewhere. */
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c"))),   \
			     apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,f16c")
#endif

#define WIDTH 64
#define TABLE rdt_reduce_avx512
#define HALF_LOAD(p) ((f32v)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i_u *)(p))))
#define HALF_STORE(p, v)                                                                           \
	_mm256_storeu_si256((__m256i_u *)(p),                                                      \
			    _mm512_cvtps_ph((__m512)(v), _MM_FROUND_TO_NEAREST_INT))
#include "lib/reduce/kernels.inc.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
