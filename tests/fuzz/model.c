/* SPDX-License-Identifier: BSD-3-Clause */
/* Model files (RDTRAIN_MODEL): a model, and then the same one when it is printed and read again, or
 * a reason. */
#include "fuzz.h"

#include "collectives/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), error[256] = "", *printed = NULL;
	struct rdt_model model, again;
	size_t length;

	if (rdt_model_parse(&model, "a file", text, error, sizeof(error))) {
		FUZZ_CHECK(*error);
	} else {
		FILE *to = open_memstream(&printed, &length);

		FUZZ_CHECK(to);
		rdt_model_print(to, &model);
		fclose(to);
		FUZZ_CHECK(rdt_model_parse(&again, "printed", printed, error, sizeof(error)) == 0);
		free(printed);
	}
	free(text);
	return 0;
}
