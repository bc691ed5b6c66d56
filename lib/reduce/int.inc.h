/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One integer type for one instruction set; see kernels.inc.h. The includer defines TYPE (suffix),
 * SIZE (bytes), SIGNED (0, 1), ELEMENT (the type), MODULAR (the unsigned type of its size, in which
 * sums and products wrap without undefined behaviour), WIDE (what it is divided in) and QUOTIENT.
 */
typedef MODULAR JOIN(acc, TYPE) __attribute__((vector_size(WIDTH)));
typedef ELEMENT JOIN(compared, TYPE) __attribute__((vector_size(WIDTH)));

INLINE JOIN(acc, TYPE) JOIN(load, TYPE)(const void *p)
{
	return (JOIN(acc, TYPE))load(p);
}

INLINE void JOIN(store, TYPE)(void *p, JOIN(acc, TYPE) a)
{
	store(p, (u32v)a);
}

INLINE JOIN(acc, TYPE) JOIN(combine, TYPE)(enum rdt_op op, JOIN(acc, TYPE) a, JOIN(acc, TYPE) b)
{
	JOIN(compared, TYPE) x = (JOIN(compared, TYPE))a, y = (JOIN(compared, TYPE))b;

	switch (op) {
	case RDT_MIN: return (JOIN(acc, TYPE))choose((u32v)(x < y), (u32v)a, (u32v)b);
	case RDT_MAX: return (JOIN(acc, TYPE))choose((u32v)(x > y), (u32v)a, (u32v)b);
	case RDT_PROD: return a * b;
	default: return a + b;
	}
}

/* Truncates towards zero: divides the magnitude, which unsigned also holds for the least value. Not
 * inline: it is long, and what it takes hides what a call costs. */
static OUTLINE void JOIN(quotients, TYPE)(ELEMENT *element, const struct divisor *by)
{
	for (int i = 0; i < WIDTH / SIZE; i++) {
		WIDE value = (WIDE)element[i];
		WIDE sign = SIGNED ? -(value >> (8 * sizeof(WIDE) - 1)) : 0;

		element[i] = (ELEMENT)((QUOTIENT((value ^ sign) - sign, by) ^ sign) - sign);
	}
}

INLINE JOIN(acc, TYPE) JOIN(divide, TYPE)(JOIN(acc, TYPE) a, const struct divisor *by)
{
	ELEMENT element[WIDTH / SIZE];

	memcpy(element, &a, WIDTH);
	JOIN(quotients, TYPE)(element, by);
	memcpy(&a, element, WIDTH);
	return a;
}

INLINE struct divisor JOIN(divisor, TYPE)(uint32_t n)
{
	return divisor_int(n);
}

#include "lib/reduce/loop.inc.h"
#undef SIGNED
#undef ELEMENT
#undef MODULAR
#undef WIDE
#undef QUOTIENT
