/* SPDX-License-Identifier: BSD-3-Clause */
/* Data files of any format (CSV, .npy, IDX): a data set whose every row can be read, or a reason.
 */
#include "fuzz.h"

#include <rdtrain/train.h>

static void read_all(const rdt_dataset *dataset)
{
	const struct rdt_dataset_info *info = rdt_dataset_info(dataset);
	double *row = calloc(info->columns + 1, sizeof(*row));

	FUZZ_CHECK(info->n_dims >= 1 && info->n_dims <= RDT_DIMS_MAX && row);
	FUZZ_CHECK(info->rows == info->dims[0]);
	/* Rows without columns take no bytes, and there may be very many. */
	for (uint64_t r = 0; info->columns && r < info->rows; r++) {
		if (rdt_dataset_read(dataset, &r, 1, 0, info->columns, RDT_FLOAT64, row))
			FUZZ_CHECK(*rdt_last_error());
		/* Refused: there is no such column. */
		FUZZ_CHECK(rdt_dataset_read(dataset, &r, 1, 1, info->columns, RDT_FLOAT64, row));
	}
	free(row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *bytes = malloc(size ? size : 1);
	rdt_dataset *dataset;

	FUZZ_CHECK(bytes);
	memcpy(bytes, data, size);
	if (rdt_dataset_parse("a file", bytes, size, &dataset)) {
		FUZZ_CHECK(*rdt_last_error());
	} else {
		read_all(dataset);
		rdt_dataset_close(dataset);
	}
	free(bytes);
	return 0;
}
