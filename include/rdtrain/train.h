/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The training layer of librdtrain: data, optimizers, checkpoints, gradients, parameters. It is a
 * library of its own (librdtrain-train) on the public interface of librdtrain, and so one way to
 * use that, not the only one.
 *
 * Statuses, sentences and thread rules are those of <rdtrain/rdtrain.h>. An object here is used by
 * one thread at a time; different objects are independent, as long as they do not share a
 * communicator. Structs of options begin with their size: set `size` to sizeof, and the rest to
 * zero where the default is meant.
 */
#ifndef RDTRAIN_TRAIN_H
#define RDTRAIN_TRAIN_H

#include <rdtrain/rdtrain.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* ---- data ------------------------------------------------------------------------------------ */

/*
 * A table of numbers in a file: rows are samples. The format is told from the file itself:
 *   csv   plain decimal numbers between commas, no header, all lines equally many fields
 *   npy   NumPy's, versions 1 to 3, C order: f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1, either byte order
 *   idx   MNIST's, all its types
 * npy and idx are mapped, so that only what is read costs memory; the file must not be cut short
 * while it is open. csv is read into memory as float64. Files are not trusted: what is wrong with
 * one is INVALID, and the sentence begins with "FILE:LINE:COLUMN: " (csv; column counts fields from
 * 1) or "FILE: byte OFFSET: ".
 */
typedef struct rdt_dataset rdt_dataset;

#define RDT_DIMS_MAX 8

struct rdt_dataset_info {
	const char *format;	     /* "csv", "npy" or "idx" */
	uint64_t rows, columns;	     /* columns: the elements of a row, whatever its dimensions */
	int n_dims;		     /* 1 to RDT_DIMS_MAX */
	uint64_t dims[RDT_DIMS_MAX]; /* dims[0] is rows */
	enum rdt_type type;	     /* of the elements; 16-bit integers count as int32 */
	/* All elements, row by row, as `type`; NULL where the file has them in another byte order
	 * or size, so that rdt_dataset_read must convert. Valid until rdt_dataset_close. */
	const void *data;
};

/* Errors: INVALID, NOMEM, SYSTEM (the file cannot be opened or mapped). */
int rdt_dataset_open(const char *path, rdt_dataset **dataset);
/*
 * The same from `n` bytes in memory, which must stay until rdt_dataset_close; `name` stands for the
 * path in errors, and its ending tells the format where the bytes do not.
 */
int rdt_dataset_parse(const char *name, const void *bytes, size_t n, rdt_dataset **dataset);
/* NULL is allowed. */
void rdt_dataset_close(rdt_dataset *dataset);

/* Valid until rdt_dataset_close. */
const struct rdt_dataset_info *rdt_dataset_info(const rdt_dataset *dataset);

/*
 * Copies `columns` elements from column `first` on of the `n` rows that `rows` lists (NULL: rows 0
 * to n-1) to `out`, row after row, converted to `type`: float32, float64, int32, int64 or uint8. A
 * value that does not fit the type (no whole number, out of range) is INVALID and named with its
 * place; out is undefined then. May be called from several threads at once.
 */
int rdt_dataset_read(const rdt_dataset *dataset, const uint64_t *rows, size_t n, size_t first,
		     size_t columns, enum rdt_type type, void *out);

/* ---- optimizers ------------------------------------------------------------------------------ */

enum rdt_rate_kind {
	RDT_RATE_CONSTANT, /* base */
	RDT_RATE_STEP,	   /* base, times `factor` after each `every` steps */
	RDT_RATE_COSINE, /* from base to `least` along half a cosine of `every` steps, then least */
};

/*
 * A learning rate over the steps of a run. The first `warmup` steps climb in a line, from
 * base / warmup to base; the kind counts its steps from there.
 */
struct rdt_rate {
	enum rdt_rate_kind kind;
	double base;
	uint64_t warmup, every;
	double factor, least;
};

/* The learning rate of step 0, 1, ... */
double rdt_rate_at(const struct rdt_rate *rate, uint64_t step);

/* ---- checkpoints ----------------------------------------------------------------------------- */

/* ---- reducer --------------------------------------------------------------------------------- */

/* ---- model parallelism ----------------------------------------------------------------------- */

/* ---- parameter server ------------------------------------------------------------------------ */

/* ---- consistency ----------------------------------------------------------------------------- */

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
