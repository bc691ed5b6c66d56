/* SPDX-License-Identifier: BSD-3-Clause */
/* The data of train_mlp; see samples.h. */
#include "samples.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <rdtrain/train.h>

#include "mlp.h"

#define CLASS_MAX 9999

static int complain(const char *sentence)
{
	fprintf(stderr, "train_mlp: %s\n", sentence);
	return -1;
}

static int read_table(struct samples *t, const char *path)
{
	const struct rdt_dataset_info *info;
	rdt_dataset *data = NULL;
	int status = -1;

	if (rdt_dataset_open(path, &data))
		return complain(rdt_last_error());
	info = rdt_dataset_info(data);
	t->rows = info->rows;
	t->features = info->columns - 1;
	t->x = calloc(t->rows * info->columns, sizeof(float));
	t->y = calloc(t->rows, sizeof(int));
	if (t->features == 0)
		complain("a row needs at least one feature, and then the class");
	else if (!t->x || !t->y)
		complain("out of memory for the data");
	else if (rdt_dataset_read(data, NULL, t->rows, 0, t->features, RDT_FLOAT32, t->x) ||
		 rdt_dataset_read(data, NULL, t->rows, t->features, 1, RDT_INT32, t->y))
		complain(rdt_last_error());
	else
		status = 0;
	rdt_dataset_close(data);
	for (size_t i = 0; i < t->rows && !status; i++) {
		if (t->y[i] < 0 || t->y[i] > CLASS_MAX) {
			fprintf(stderr, "train_mlp: %s, row %zu: %d is no class from 0 to %d\n",
				path, i + 1, t->y[i], CLASS_MAX);
			status = -1;
		} else if (t->y[i] >= t->classes) {
			t->classes = t->y[i] + 1;
		}
	}
	return status;
}

/* Fisher and Yates. */
static void shuffle(size_t *list, size_t n, uint64_t random)
{
	for (size_t i = n; i > 1; i--) {
		size_t j = (size_t)(random_next(&random) % i), swap = list[i - 1];

		list[i - 1] = list[j];
		list[j] = swap;
	}
}

/* Brings every feature to 0..1, by the range that it has in the training set. */
static void scale_features(struct samples *t)
{
	for (size_t f = 0; f < t->features; f++) {
		float low = INFINITY, high = -INFINITY, *x = t->x + f;

		for (size_t i = 0; i < t->n_train; i++) {
			low = fminf(low, x[t->order[i] * t->features]);
			high = fmaxf(high, x[t->order[i] * t->features]);
		}
		for (size_t row = 0; row < t->rows; row++) {
			float *value = &x[row * t->features];

			/* a feature that never changes tells nothing */
			*value = high > low ? (*value - low) / (high - low) : 0;
		}
	}
}

int samples_read(struct samples *t, const char *path, uint64_t seed, size_t most)
{
	if (read_table(t, path))
		return -1;
	if (t->rows < 5)
		return complain("the table has fewer than 5 rows: too few to train and to test");
	t->order = calloc(t->rows, sizeof(*t->order));
	t->gathered_x = calloc(most * t->features, sizeof(float));
	t->gathered_y = calloc(most, sizeof(int));
	if (!t->order || !t->gathered_x || !t->gathered_y)
		return complain("out of memory for the data");
	for (size_t i = 0; i < t->rows; i++)
		t->order[i] = i;
	shuffle(t->order, t->rows, seed);
	t->n_train = t->rows - t->rows / 5;
	scale_features(t);
	return 0;
}

void samples_free(struct samples *t)
{
	free(t->x);
	free(t->y);
	free(t->order);
	free(t->gathered_x);
	free(t->gathered_y);
}

void samples_gather(struct samples *t, size_t first, const uint64_t *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t row = t->order[first + (list ? list[i] : i)];

		memcpy(t->gathered_x + i * t->features, t->x + row * t->features,
		       t->features * sizeof(float));
		t->gathered_y[i] = t->y[row];
	}
}

uint64_t samples_digest(const struct samples *t)
{
	return XXH3_64bits_withSeed(t->x, t->rows * t->features * sizeof(float),
				    XXH3_64bits(t->y, t->rows * sizeof(int)));
}
