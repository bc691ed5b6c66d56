/* SPDX-License-Identifier: BSD-3-Clause */
#include "half.h"

#include <math.h>
#include <string.h>

static uint32_t bits_of(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

static float float_of(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static uint16_t to_bfloat(float value)
{
	uint32_t bits = bits_of(value);

	if (isnan(value))
		return (uint16_t)(bits >> 16 | 0x40);
	if (isinf(value))
		return (uint16_t)(bits >> 16);
	bits += 0x7fff + (bits >> 16 & 1);
	if ((bits & 0x7fffffff) >= 0x7f800000) /* rounded up to infinity */
		bits -= 0x10000;
	return (uint16_t)(bits >> 16);
}

static float from_bfloat(uint16_t half)
{
	return float_of((uint32_t)half << 16);
}

static uint16_t to_half(float value)
{
	uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;

	if (isnan(value))
		return (uint16_t)(sign | 0x7e00);
	if (isinf(value))
		return (uint16_t)(sign | 0x7c00);
	if (fabsf(value) > RDT_FLOAT16_MAX)
		return (uint16_t)(sign | 0x7bff);
	/* Below 2^-14 the steps are 2^-24, as those of a float between 0.5 and 1 are: the addition
	 * rounds. */
	if (size < 0x38800000)
		return (uint16_t)(sign | (bits_of(float_of(size) + 0.5f) - 0x3f000000));
	size += 0xfff + (size >> 13 & 1);
	return (uint16_t)(sign | (size - (112u << 23)) >> 13);
}

static float from_half(uint16_t half)
{
	uint32_t sign = (uint32_t)(half & 0x8000) << 16, size = half & 0x7fff;

	if (size >= 0x7c00)
		return float_of(sign | 0x7f800000 | (size & 0x3ff) << 13);
	if (size < 0x400)
		return float_of(sign | bits_of((float)size * 0x1p-24f));
	return float_of(sign | ((size << 13) + (112u << 23)));
}

void rdt_half_pack(enum rdt_type type, const float *value, float scale, float most, float *carry,
		   uint16_t *half, size_t n)
{
	float largest = type == RDT_FLOAT16 ? fminf(most, RDT_FLOAT16_MAX) : most;

	for (size_t i = 0; i < n; i++) {
		float wanted = carry ? scale * value[i] + carry[i] : scale * value[i];
		float sent = wanted;

		if (fabsf(wanted) > largest && isfinite(wanted))
			sent = copysignf(largest, wanted);
		half[i] = type == RDT_FLOAT16 ? to_half(sent) : to_bfloat(sent);
		if (!carry)
			continue;
		/* What is too large, or no number, stays one step's affair. */
		carry[i] = isfinite(wanted) && sent == wanted
				   ? wanted - (type == RDT_FLOAT16 ? from_half(half[i])
								   : from_bfloat(half[i]))
				   : 0;
	}
}

void rdt_half_unpack(enum rdt_type type, const uint16_t *half, float scale, float *value, size_t n)
{
	for (size_t i = 0; i < n; i++)
		value[i] =
			scale * (type == RDT_FLOAT16 ? from_half(half[i]) : from_bfloat(half[i]));
}
