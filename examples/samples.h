/* SPDX-License-Identifier: BSD-3-Clause */
/* The data of train_mlp: a table of features and classes, divided into training and test. */
#ifndef EXAMPLES_SAMPLES_H
#define EXAMPLES_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

struct samples {
	size_t rows, features;
	int classes;	/* the largest class, plus one */
	float *x;	/* rows * features values, row by row */
	int *y;		/* the class of each row */
	size_t *order;	/* a shuffled list of the rows: first those to train on */
	size_t n_train; /* the rest is for testing */
	/* what samples_gather collected */
	float *gathered_x;
	int *gathered_y;
};

/*
 * Every column but the last is a feature, the last is the class. One row of five is for testing;
 * `seed` decides which. Features are brought to 0..1. At most `most` rows are gathered at a time.
 * Returns 0, or -1 with the sentence printed to stderr; samples_free is owed in either case.
 */
int samples_read(struct samples *s, const char *path, uint64_t seed, size_t most);
void samples_free(struct samples *s);

/* Makes n rows contiguous in gathered_x and gathered_y: list[i] counts in `order` from `first`;
 * list NULL: the n rows from `first` on. */
void samples_gather(struct samples *s, size_t first, const uint64_t *list, size_t n);

/* A number for all of the data, to see whether workers read the same. */
uint64_t samples_digest(const struct samples *s);

#endif
