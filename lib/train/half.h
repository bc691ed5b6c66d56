/* SPDX-License-Identifier: BSD-3-Clause */
/* float32 to and from float16 and bfloat16, many at a time. */
#ifndef RDT_TRAIN_HALF_H
#define RDT_TRAIN_HALF_H

#include <stddef.h>
#include <stdint.h>

#include <rdtrain/rdtrain.h>

#define RDT_FLOAT16_MAX 65504.0f

/*
 * half[i] = scale * value[i] + carry[i] rounded to `type` (RDT_FLOAT16 or RDT_BFLOAT16), to
 * nearest, ties to even; carry[i] becomes what the rounding lost. A finite number beyond `most`, or
 * beyond the type's largest, becomes that, and the rest of it is lost: kept, it could grow for
 * ever. carry NULL: nothing is added or kept.
 */
void rdt_half_pack(enum rdt_type type, const float *value, float scale, float most, float *carry,
		   uint16_t *half, size_t n);

/* value[i] = scale * half[i] */
void rdt_half_unpack(enum rdt_type type, const uint16_t *half, float scale, float *value, size_t n);

#endif
