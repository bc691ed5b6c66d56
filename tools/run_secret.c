/* SPDX-License-Identifier: BSD-3-Clause */
/* The secret of a job that `rdtrain run` starts. It reaches the workers through their environment
 * only. */
#include "tools/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/base/error.h"
#include "lib/bootstrap/secret.h"

/* One host alone: nobody else needs to know it. */
static int make_secret(char *secret, size_t room)
{
	unsigned char random[32];
	size_t have = 0;

	while (have < sizeof(random)) {
		ssize_t n = getrandom(random + have, sizeof(random) - have, 0);

		if (n < 0 && errno != EINTR)
			return rdt_err_errno(RDT_ERR_SYSTEM, "no random bytes for the secret");
		have += n > 0 ? (size_t)n : 0;
	}
	for (size_t i = 0; i < sizeof(random) && 2 * i + 2 < room; i++)
		snprintf(secret + 2 * i, 3, "%02x", random[i]);
	explicit_bzero(random, sizeof(random));
	return 0;
}

int run_find_secret(const struct run_settings *s, char *secret, size_t room)
{
	const char *text = getenv("RDTRAIN_SECRET"), *file = getenv("RDTRAIN_SECRET_FILE");

	if (s->secret_file)
		return rdt_secret_read("--secret-file", s->secret_file, secret, room);
	if (s->nodes == 1)
		return make_secret(secret, room);
	if (text && *text) {
		if (strlen(text) >= room)
			return rdt_err(RDT_ERR_INVALID, "RDTRAIN_SECRET is longer than %zu bytes",
				       room - 1);
		strcpy(secret, text);
		return 0;
	}
	if (file && *file)
		return rdt_secret_read("RDTRAIN_SECRET_FILE", file, secret, room);
	return rdt_err(RDT_ERR_AUTH,
		       "several hosts need a secret that they share: give each the same file with "
		       "--secret-file FILE (or RDTRAIN_SECRET, or RDTRAIN_SECRET_FILE); `openssl "
		       "rand -hex 32` makes one");
}
