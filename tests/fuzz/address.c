/* SPDX-License-Identifier: BSD-3-Clause */
/* Addresses and names of jobs, as people write them. */
#include "fuzz.h"

#include "lib/bootstrap/address.h"
#include "lib/bootstrap/secret.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);
	struct rdt_address address;

	if (rdt_address_parse(text, &address)) {
		FUZZ_CHECK(address.port_number >= 0 && address.port_number <= 65535);
		FUZZ_CHECK(strlen(address.host) < sizeof(address.host));
		FUZZ_CHECK(strlen(text) > strlen(address.host));
	}
	if (rdt_job_name_ok(text))
		FUZZ_CHECK(strlen(text) >= 1 && strlen(text) <= 63);
	free(text);
	return 0;
}
