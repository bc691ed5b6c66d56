/* SPDX-License-Identifier: BSD-3-Clause */
/* Headers of safetensors files: entries that lie within the file, or a reason. */
#include "fuzz.h"

#include "lib/train/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *bytes = malloc(size ? size : 1);
	struct rdt_header header;

	FUZZ_CHECK(bytes);
	memcpy(bytes, data, size);
	if (rdt_header_parse("a file", bytes, size, size, &header)) {
		FUZZ_CHECK(*rdt_last_error());
	} else {
		for (size_t i = 0; i < header.n; i++) {
			const struct rdt_entry *e = &header.entries[i];

			FUZZ_CHECK(e->begin <= e->end && header.data_at + e->end <= size);
			FUZZ_CHECK(rdt_header_find(&header, e->name));
		}
		rdt_header_metadata(&header, "format");
		rdt_header_free(&header);
	}
	free(bytes);
	return 0;
}
