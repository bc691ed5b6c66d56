/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A data set, as its readers (csv.c, npy.c, idx.c) make it and dataset.c hands it out. A reader is
 * given the whole file in memory, trusts no byte of it, and says where it stopped.
 */
#ifndef RDT_TRAIN_DATASET_H
#define RDT_TRAIN_DATASET_H

#include <stdbool.h>

#include <rdtrain/train.h>

struct rdt_dataset {
	struct rdt_dataset_info info;
	char *name;		    /* for errors: the path */
	const unsigned char *bytes; /* the file */
	size_t n_bytes;
	bool mapped;
	/* The elements, row by row: in `bytes`, or in `values`, which a CSV file is read into. */
	const unsigned char *data;
	double *values;
	char kind;	/* of an element: f float, i signed, u unsigned */
	size_t element; /* its bytes */
	bool swapped;	/* it lies in the other byte order than this machine's */
};

int rdt_csv_parse(rdt_dataset *d);
int rdt_npy_parse(rdt_dataset *d);
int rdt_idx_parse(rdt_dataset *d);

/* Sets "NAME: byte OFFSET: ..." and returns INVALID. */
int rdt_dataset_bad(const rdt_dataset *d, size_t offset, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * For binary files: takes over type and dimensions, checks that from byte `offset` on there is just
 * what they need, and sets the rest. `dims_at` is where the dimensions stand, for errors.
 */
int rdt_dataset_shape(rdt_dataset *d, char kind, size_t element, bool big_endian, size_t dims_at,
		      size_t offset);

/* Text of a file as it may be shown on a terminal: cut short, and without control characters. */
const char *rdt_shown(const void *text, size_t length, char shown[48]);

#endif
