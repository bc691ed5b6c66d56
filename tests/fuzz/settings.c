/* SPDX-License-Identifier: BSD-3-Clause */
/* The environment: lines whose first byte says which variable, with the rest for its value. What a
 * launcher or a user sets gives an identity and settings, or a sentence. */
#include "fuzz.h"

#include "lib/base/error.h"
#include "lib/bootstrap/bootstrap.h"
#include "lib/comm/config.h"

/* Not those that name files which are written, or read from. */
static const char *const names[] = {
	"RDTRAIN_RANK",
	"RDTRAIN_SIZE",
	"RDTRAIN_LOCAL_RANK",
	"RDTRAIN_LOCAL_SIZE",
	"RDTRAIN_RENDEZVOUS",
	"RDTRAIN_JOB",
	"RDTRAIN_SECRET",
	"RDTRAIN_PORT",
	"RDTRAIN_TRANSPORT",
	"RDTRAIN_TIMEOUT",
	"RDTRAIN_START_TIMEOUT",
	"RDTRAIN_PROGRESS",
	"RDTRAIN_IB_TIMEOUT",
	"RDTRAIN_IB_RETRY_CNT",
	"RDTRAIN_IB_TC",
	"RDTRAIN_IB_SL",
	"RDTRAIN_IB_RAILS",
	"RDTRAIN_SHM_CMA",
	"RDTRAIN_ALLREDUCE",
	"RDTRAIN_BARRIER",
	"RDTRAIN_RANK_ORDER",
	"RDTRAIN_CHECK",
	"RDTRAIN_WINDOW",
	"RDTRAIN_KEEPALIVE",
	"RANK",
	"WORLD_SIZE",
	"LOCAL_RANK",
	"LOCAL_WORLD_SIZE",
	"MASTER_ADDR",
	"MASTER_PORT",
	"TORCHELASTIC_RUN_ID",
	"OMPI_COMM_WORLD_RANK",
	"OMPI_COMM_WORLD_SIZE",
	"PMI_RANK",
	"PMI_SIZE",
	"SLURM_PROCID",
	"SLURM_NTASKS",
	"SLURM_JOB_ID",
};

#define NAMES (sizeof(names) / sizeof(names[0]))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), *save = NULL, *entries[NAMES] = { NULL };
	struct rdt_identity identity;
	struct rdt_config config;
	int status;

	/* Not setenv, which keeps every value for ever. */
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		size_t i = (unsigned char)line[0] % NAMES;

		unsetenv(names[i]);
		free(entries[i]);
		FUZZ_CHECK(asprintf(&entries[i], "%s=%s", names[i], line + 1) > 0);
		putenv(entries[i]);
	}
	status = rdt_identity_find(NULL, &identity);
	FUZZ_CHECK(status == 0 || *rdt_last_error());
	if (status == 0)
		FUZZ_CHECK(identity.world >= 1 && identity.rank < identity.world);
	status = rdt_config_read(NULL, &config);
	FUZZ_CHECK(status == 0 || *rdt_last_error());
	if (status == 0)
		FUZZ_CHECK(config.timeout_s > 0 && config.start_timeout_s > 0);
	for (size_t i = 0; i < NAMES; i++) {
		unsetenv(names[i]);
		free(entries[i]);
	}
	free(text);
	return 0;
}
