/* SPDX-License-Identifier: BSD-3-Clause */
/* The kernels for AVX2 with F16C: 32-byte vectors. Nothing here may run before dispatch.c has asked
 * the processor. */
#ifdef __x86_64__
#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "lib/reduce/kernels.h"

/* From here on only; the headers above hold no code that must run elsewhere. */
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,f16c")
#endif

#define WIDTH 32
#define TABLE rdt_reduce_avx2
#define HALF_LOAD(p) ((f32v)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i_u *)(p))))
#define HALF_STORE(p, v)                                                                           \
	_mm_storeu_si128((__m128i_u *)(p), _mm256_cvtps_ph((__m256)(v), _MM_FROUND_TO_NEAREST_INT))
#include "lib/reduce/kernels.inc.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
