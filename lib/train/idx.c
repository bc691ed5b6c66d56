/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reader of IDX files, the format of MNIST (Y. LeCun, C. Cortes, C. Burges, "The MNIST database"):
 * two zero bytes, the type, the number of dimensions, each dimension in 4 bytes, then the elements;
 * all numbers big-endian.
 */
#include "dataset.h"

static const struct {
	unsigned char code;
	char kind;
	unsigned char element;
} types[] = {
	{ 0x08, 'u', 1 }, { 0x09, 'i', 1 }, { 0x0b, 'i', 2 },
	{ 0x0c, 'i', 4 }, { 0x0d, 'f', 4 }, { 0x0e, 'f', 8 },
};

int rdt_idx_parse(rdt_dataset *d)
{
	const unsigned char *b = d->bytes;
	size_t t = 0;
	int n_dims;

	if (d->n_bytes < 4 || b[0] || b[1])
		return rdt_dataset_bad(d, 0,
				       "an IDX file begins with two zero bytes, a type and "
				       "the number of dimensions");
	while (t < sizeof(types) / sizeof(*types) && types[t].code != b[2])
		t++;
	if (t == sizeof(types) / sizeof(*types))
		return rdt_dataset_bad(d, 2, "0x%02x is no type of IDX (8, 9, 0xb to 0xe)", b[2]);
	n_dims = b[3];
	if (n_dims < 1 || n_dims > RDT_DIMS_MAX)
		return rdt_dataset_bad(d, 3, "%d dimensions; 1 to %d can be read", n_dims,
				       RDT_DIMS_MAX);
	if ((d->n_bytes - 4) / 4 < (size_t)n_dims)
		return rdt_dataset_bad(d, d->n_bytes, "the file ends within its %d dimensions",
				       n_dims);
	d->info.n_dims = n_dims;
	for (int i = 0; i < n_dims; i++) {
		const unsigned char *p = b + 4 + 4 * i;

		d->info.dims[i] = (uint64_t)p[0] << 24 | (uint64_t)p[1] << 16 |
				  (uint64_t)p[2] << 8 | (uint64_t)p[3];
	}
	d->info.format = "idx";
	return rdt_dataset_shape(d, types[t].kind, types[t].element, true, 4,
				 4 + 4 * (size_t)n_dims);
}
