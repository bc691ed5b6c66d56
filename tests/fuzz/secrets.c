/* SPDX-License-Identifier: BSD-3-Clause */
/* Files of secrets: a worker's, of one line, and the service's, of many jobs. */
#include "fuzz.h"

#include "lib/base/error.h"
#include "lib/bootstrap/secret.h"
#include "lib/bootstrap/server_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *path = fuzz_file(data, size);
	struct rdt_server_config config = { .secret_file = path };
	struct srv_secrets *secrets;
	char secret[64];

	if (rdt_secret_read("a test", path, secret, sizeof(secret)) == 0)
		FUZZ_CHECK(*secret && strlen(secret) < sizeof(secret));
	else
		FUZZ_CHECK(*rdt_last_error());
	if (rdt_srv_secrets_new(&config, &secrets) == 0) {
		struct rdt_psk psk = { .job = "default" };

		rdt_srv_secrets_find(secrets, &psk);
		rdt_srv_secrets_free(secrets);
	} else {
		FUZZ_CHECK(*rdt_last_error());
	}
	return 0;
}
