/* SPDX-License-Identifier: BSD-3-Clause */
/* The RDTRAIN_* table and its parser; see config.h. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collectives/algorithms.h"
#include "lib/base/error.h"
#include "lib/base/log.h"

static const struct {
	const char *name, *fallback, *what;
} table[] = {
	{ "RDTRAIN_RANK", "0", "this worker's rank" },
	{ "RDTRAIN_SIZE", "1", "how many workers there are" },
	{ "RDTRAIN_LOCAL_RANK", "", "this worker's rank among those of its host" },
	{ "RDTRAIN_LOCAL_SIZE", "", "how many workers run on this host" },
	{ "RDTRAIN_JOIN", "0",
	  "1: this worker has no rank yet, and waits until a job that runs admits it" },
	{ "RDTRAIN_RENDEZVOUS", "", "HOST:PORT of the rendezvous service" },
	{ "RDTRAIN_JOB", "default", "name of the job on that service" },
	{ "RDTRAIN_SECRET", "", "the job's secret" },
	{ "RDTRAIN_SECRET_FILE", "", "a file that holds the secret, readable by its owner only" },
	{ "RDTRAIN_PORT", "MASTER_PORT+1",
	  "port of the service that rank 0 starts under torchrun" },
	{ "RDTRAIN_PROGRAM", "rdtrain", "the program that rank 0 starts as that service" },
	{ "RDTRAIN_TRANSPORT", "auto", "auto, shm or verbs" },
	{ "RDTRAIN_TIMEOUT", "600", "deadline of one operation, in seconds" },
	{ "RDTRAIN_START_TIMEOUT", "60", "deadline for meeting the other workers, in seconds" },
	{ "RDTRAIN_KEEPALIVE", "1",
	  "seconds of silence on the connection to the rendezvous after which a host is lost, 1 to "
	  "3600 (for the service, too)" },
	{ "RDTRAIN_PROGRESS", "caller",
	  "who moves operations on: caller (while it waits or tests), or thread (one of the "
	  "library's, while the caller computes)" },
	{ "RDTRAIN_HOST_ID", "",
	  "workers with equal ids count as one host (default: the kernel's boot id)" },
	{ "RDTRAIN_SOCKET_IFNAME", "", "network interfaces to use: prefixes, =exact, ^not" },
	{ "RDTRAIN_IB_HCA", "", "RDMA devices to use: name or name:port, exact; ^not" },
	{ "RDTRAIN_IB_TIMEOUT", "", "local ACK timeout t of queue pairs, 4.096 us * 2^t, 1 to 31" },
	{ "RDTRAIN_IB_RETRY_CNT", "", "retries of queue pairs, 0 to 7" },
	{ "RDTRAIN_IB_TC", "", "traffic class, 0 to 255" },
	{ "RDTRAIN_IB_SL", "", "service level, 0 to 15" },
	{ "RDTRAIN_IB_RAILS", "4",
	  "devices used side by side at most, of those that are as fast as the first, 1 to 4" },
	{ "RDTRAIN_SHM_CMA", "1", "0: never write into a peer's memory with process_vm_writev" },
	{ "RDTRAIN_ALLREDUCE", "",
	  "use this algorithm for every allreduce (rank 0's value holds for all)" },
	{ "RDTRAIN_REDUCE_SCATTER", "",
	  "use this algorithm for every reduce_scatter (rank 0's value holds for all)" },
	{ "RDTRAIN_ALLGATHER", "",
	  "use this algorithm for every allgather (rank 0's value holds for all)" },
	{ "RDTRAIN_BROADCAST", "",
	  "use this algorithm for every broadcast (rank 0's value holds for all)" },
	{ "RDTRAIN_REDUCE", "",
	  "use this algorithm for every reduce (rank 0's value holds for all)" },
	{ "RDTRAIN_GATHER", "",
	  "use this algorithm for every gather (rank 0's value holds for all)" },
	{ "RDTRAIN_SCATTER", "",
	  "use this algorithm for every scatter (rank 0's value holds for all)" },
	{ "RDTRAIN_ALLTOALL", "",
	  "use this algorithm for every alltoall (rank 0's value holds for all)" },
	{ "RDTRAIN_BARRIER", "",
	  "use this algorithm for every barrier (rank 0's value holds for all)" },
	{ "RDTRAIN_MODEL", "by transport",
	  "costs by which algorithms are chosen: a built-in model, or a file made by rdtrain perf "
	  "--calibrate (rank 0's value holds for all)" },
	{ "RDTRAIN_RANK_ORDER", "0",
	  "1: sum in the order of ranks only: the same bits whatever the placement and the "
	  "algorithm (rank 0's value holds for all)" },
	{ "RDTRAIN_CHECK", "0",
	  "1: a hash travels with all data, and is compared before they are used (rank 0's value "
	  "holds for all)" },
	{ "RDTRAIN_WINDOW", "by size",
	  "bytes of one window, 4096 to 4194304 (rank 0's value holds for all)" },
	{ "RDTRAIN_TRACE", "",
	  "a file for the timeline of each worker, which Perfetto opens; %h is the host, %p the "
	  "process, %r the rank" },
	{ "RDTRAIN_CPU", "best", "instruction set of the reductions: baseline, avx2 or avx512" },
	{ "RDTRAIN_TERMINAL", "", "set by rdtrain run when its output goes to a terminal" },
	{ "RDTRAIN_DEBUG", "WARN", "NONE, WARN, INFO or TRACE" },
	{ "RDTRAIN_DEBUG_FILE", "stderr", "where to log; %h is the host, %p the process" },
};

#define TABLE_SIZE (sizeof(table) / sizeof(table[0]))

static const char *value_of(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

static int read_integer(const char *name, long low, long high, long *out)
{
	const char *value = value_of(name);
	char *end;
	long number;

	if (!value)
		return 0;
	errno = 0;
	number = strtol(value, &end, 10);
	if (errno || end == value || *end || number < low || number > high)
		return rdt_err(RDT_ERR_INVALID, "%s=%.64s is not a whole number from %ld to %ld",
			       name, value, low, high);
	*out = number;
	return 0;
}

static int read_int(const char *name, int low, int high, int *out)
{
	long number = *out;
	int status = read_integer(name, low, high, &number);

	*out = (int)number;
	return status;
}

/* A positive number of seconds: the option when it is set, else the variable, else the default. */
static int read_seconds(const char *name, double option, double fallback, double *out)
{
	const char *value = value_of(name);
	char *end;

	*out = fallback;
	if (option != 0) {
		if (!(option > 0) || !isfinite(option))
			return rdt_err(RDT_ERR_INVALID,
				       "rdt_options: %g is no number of seconds for %s", option,
				       name);
		*out = option;
	} else if (value) {
		*out = strtod(value, &end);
		if (end == value || *end || !(*out > 0) || !isfinite(*out))
			return rdt_err(RDT_ERR_INVALID,
				       "%s=%.64s is not a positive number of seconds", name, value);
	}
	if (*out > 1e8)
		*out = 1e8; /* three years: keeps nanoseconds in 64 bits */
	return 0;
}

static void list_algorithms(enum rdt_collective collective, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name && used < size; a++)
		if (a->collective == collective)
			used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "",
						 a->name);
}

/* RDTRAIN_ALLREDUCE, RDTRAIN_BROADCAST, ...: whether the algorithm suits a call is told when one
 * asks for it. */
static int read_algorithms(struct rdt_config *config)
{
	for (int c = 0; c < RDT_COLL_COUNT; c++) {
		char name[64] = "RDTRAIN_";
		const char *collective = rdt_collective_name((enum rdt_collective)c), *value;
		size_t n = strlen(name);

		for (; *collective; collective++)
			name[n++] = (char)toupper((unsigned char)*collective);
		name[n] = '\0';
		value = value_of(name);
		if (!value || c == RDT_COLL_SEND)
			continue;
		if (!rdt_algorithm_find((enum rdt_collective)c, value) ||
		    strlen(value) >= sizeof(config->algorithm[c])) {
			char known[256];

			list_algorithms((enum rdt_collective)c, known, sizeof(known));
			return rdt_err(RDT_ERR_INVALID, "%s=%.64s names no algorithm; there are %s",
				       name, value, known);
		}
		strcpy(config->algorithm[c], value);
	}
	return 0;
}

const char *rdt_transport_choice_name(enum rdt_transport_choice choice)
{
	static const char *const names[] = { "auto", "shm", "verbs" };

	return names[choice];
}

static int read_transport(const struct rdt_options *options, enum rdt_transport_choice *out)
{
	const char *value =
		options && options->transport ? options->transport : value_of("RDTRAIN_TRANSPORT");

	*out = RDT_TRANSPORT_AUTO;
	if (!value)
		return 0;
	for (int i = RDT_TRANSPORT_AUTO; i <= RDT_TRANSPORT_VERBS; i++)
		if (strcmp(value, rdt_transport_choice_name((enum rdt_transport_choice)i)) == 0) {
			*out = (enum rdt_transport_choice)i;
			return 0;
		}
	return rdt_err(
		RDT_ERR_INVALID, "transport \"%.64s\" is none of auto, shm, verbs (%s)", value,
		options && options->transport ? "rdt_options.transport" : "RDTRAIN_TRANSPORT");
}

static int read_progress(bool *thread)
{
	const char *value = value_of("RDTRAIN_PROGRESS");

	*thread = value && strcmp(value, "thread") == 0;
	if (!value || *thread || strcmp(value, "caller") == 0)
		return 0;
	return rdt_err(RDT_ERR_INVALID, "RDTRAIN_PROGRESS=%.64s is neither caller nor thread",
		       value);
}

int rdt_config_read(const struct rdt_options *options, struct rdt_config *config)
{
	int cma = 1, rank_order = 0, check = 0, status;
	long window = 0;

	*config = (struct rdt_config){
		.host_id = value_of("RDTRAIN_HOST_ID"),
		.ifname = value_of("RDTRAIN_SOCKET_IFNAME"),
		.ib_hca = value_of("RDTRAIN_IB_HCA"),
		.model = value_of("RDTRAIN_MODEL"),
		.trace = value_of("RDTRAIN_TRACE"),
		.ib_timeout = -1,
		.ib_retry_cnt = -1,
		.ib_tc = -1,
		.ib_sl = -1,
	};
	if ((status = read_transport(options, &config->transport)) ||
	    (status = read_seconds("RDTRAIN_TIMEOUT", options ? options->timeout_s : 0, 600,
				   &config->timeout_s)) ||
	    (status = read_seconds("RDTRAIN_START_TIMEOUT", options ? options->start_timeout_s : 0,
				   60, &config->start_timeout_s)) ||
	    (status = read_int("RDTRAIN_IB_TIMEOUT", 1, 31, &config->ib_timeout)) ||
	    (status = read_int("RDTRAIN_IB_RETRY_CNT", 0, 7, &config->ib_retry_cnt)) ||
	    (status = read_int("RDTRAIN_IB_TC", 0, 255, &config->ib_tc)) ||
	    (status = read_int("RDTRAIN_IB_SL", 0, 15, &config->ib_sl)) ||
	    (status = read_int("RDTRAIN_IB_RAILS", 1, 4, &config->ib_rails)) ||
	    (status = read_int("RDTRAIN_SHM_CMA", 0, 1, &cma)) ||
	    (status = read_int("RDTRAIN_LOCAL_SIZE", 1, INT_MAX, &config->local_size)) ||
	    (status = read_integer("RDTRAIN_WINDOW", 4096, 4 << 20, &window)) ||
	    (status = read_int("RDTRAIN_RANK_ORDER", 0, 1, &rank_order)) ||
	    (status = read_int("RDTRAIN_CHECK", 0, 1, &check)) ||
	    (status = read_progress(&config->progress_thread)) ||
	    (status = read_algorithms(config)))
		return status;
	/* torchrun's name for it; anything but a number is not ours to complain about. */
	if (!config->local_size && value_of("LOCAL_WORLD_SIZE"))
		config->local_size = atoi(value_of("LOCAL_WORLD_SIZE"));
	if (config->local_size < 0)
		config->local_size = 0;
	config->cma = cma;
	config->rank_order = rank_order;
	config->check = check;
	config->window = (uint64_t)window;
	return 0;
}

void rdt_config_warn_unknown(void)
{
	for (char **entry = environ; entry && *entry; entry++) {
		const char *equals = strchr(*entry, '=');
		size_t length = equals ? (size_t)(equals - *entry) : 0;
		bool known = false;

		if (strncmp(*entry, "RDTRAIN_", 8) != 0 ||
		    strncmp(*entry, "RDTRAIN_TEST_", 13) == 0)
			continue;
		for (size_t i = 0; i < TABLE_SIZE && !known; i++)
			known = strlen(table[i].name) == length &&
				strncmp(table[i].name, *entry, length) == 0;
		if (!known)
			rdt_warn("%.*s is no setting of this version and is ignored; `rdtrain "
				 "info` lists them",
				 (int)length, *entry);
	}
}

void rdt_config_print(FILE *to)
{
	for (size_t i = 0; i < TABLE_SIZE; i++) {
		const char *value = value_of(table[i].name);

		if (value && strcmp(table[i].name, "RDTRAIN_SECRET") == 0)
			value = "(set, not shown)";
		fprintf(to, "  %-24s %-16s %s\n", table[i].name, value ? value : table[i].fallback,
			table[i].what);
	}
}
