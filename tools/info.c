/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdtrain info: what this machine offers, what each transport would do here and why not, and the
 * settings in effect. It meets no other worker.
 */
#include "tools/commands.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "lib/base/memlock.h"
#include "lib/bootstrap/bootstrap.h"
#include "lib/comm/config.h"
#include "lib/reduce/reduce.h"
#include "lib/transport/transport.h"

struct settings {
	const char *transport;
};

static const struct argp_option options[] = {
	{ "transport", 't', "auto|shm|verbs", 0,
	  "Exit with 1 unless this one would work here (auto: at least one of them)", 0 },
	{ 0 },
};

static const char doc[] =
	"Shows what librdtrain finds on this machine: limits, devices, ports and addresses, what "
	"each transport would do here or why it would not work, and all settings with their "
	"values."
	"\v"
	"Exit status: 0; 1 when the transport asked for would not work here, or a setting is "
	"wrong; "
	"2 for wrong usage.";

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct settings *s = state->input;

	switch (key) {
	case 't':
		if (strcmp(arg, "auto") != 0 && strcmp(arg, "shm") != 0 &&
		    strcmp(arg, "verbs") != 0)
			argp_error(state, "--transport: \"%s\" is none of auto, shm, verbs", arg);
		s->transport = arg;
		return 0;
	case ARGP_KEY_ARG: argp_error(state, "\"%s\" is one argument too many", arg); return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

static void print_line(void *arg, const char *line)
{
	(void)arg;
	printf("  %s\n", line);
}

/* The first line of a small file; "" when there is none. */
static void read_line(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "re");

	text[0] = '\0';
	if (!file)
		return;
	if (!fgets(text, (int)size, file))
		text[0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	fclose(file);
}

static void print_program(void)
{
	const char *const *isas = rdt_reduce_isas();

	printf("Program\n  rdtrain %s, built with %s%s\n", rdt_version(),
#ifdef __clang__
	       "",
#else
	       "gcc ",
#endif
	       __VERSION__);
	printf("  reductions use %s; this processor has:", rdt_reduce_isa());
	for (size_t i = 0; isas[i]; i++)
		printf(" %s", isas[i]);
	printf("\n");
}

/* The number behind "HugePages_Total:" and the like. */
static unsigned long meminfo(const char *name)
{
	FILE *file = fopen("/proc/meminfo", "re");
	unsigned long value = 0;
	char line[256];

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, name, strlen(name)) == 0)
			value = strtoul(line + strlen(name), NULL, 10);
	fclose(file);
	return value;
}

static void print_machine(void)
{
	struct rdt_memlock memlock;
	struct utsname machine;
	char huge[128];

	printf("\nMachine\n");
	if (uname(&machine) == 0)
		printf("  host %s, %s %s %s\n", machine.nodename, machine.sysname, machine.release,
		       machine.machine);
	printf("  processors online: %ld, memory: %lu MiB\n", sysconf(_SC_NPROCESSORS_ONLN),
	       meminfo("MemTotal:") / 1024);
	rdt_memlock_read(&memlock);
	if (memlock.limit == UINT64_MAX)
		printf("  locked memory (RLIMIT_MEMLOCK): unlimited\n");
	else
		printf("  locked memory (RLIMIT_MEMLOCK): %llu KiB%s\n",
		       (unsigned long long)memlock.limit >> 10,
		       memlock.exempt ? ", not enforced for this process (CAP_IPC_LOCK)" : "");
	read_line("/sys/kernel/mm/transparent_hugepage/enabled", huge, sizeof(huge));
	printf("  transparent huge pages: %s\n", *huge ? huge : "not in this kernel");
	printf("  reserved huge pages: %lu of %lu KiB, %lu free\n", meminfo("HugePages_Total:"),
	       meminfo("Hugepagesize:"), meminfo("HugePages_Free:"));
}

static void print_launcher(void)
{
	struct rdt_identity id;

	printf("\nLauncher\n");
	if (rdt_identity_find(NULL, &id))
		printf("  cannot be used: %s\n", rdt_last_error());
	else if (id.world == 1 && !id.rendezvous[0])
		printf("  %s: a job of one worker\n", id.source);
	else
		printf("  %s: rank %d of %d, job %s, rendezvous %s, secret %s\n", id.source,
		       id.rank, id.world, id.job, id.rendezvous[0] ? id.rendezvous : "none",
		       id.secret[0] ? "given" : "missing");
	explicit_bzero(&id, sizeof(id));
}

/* What the setting would do here, in words. */
static void print_choice(enum rdt_transport_choice choice, bool shm, bool verbs)
{
	printf("\nTransport %s would\n", rdt_transport_choice_name(choice));
	if (choice != RDT_TRANSPORT_VERBS)
		printf("  reach workers of this host through shm%s\n",
		       shm ? "" : ", which does not work here: rdt_comm_create fails");
	if (choice == RDT_TRANSPORT_SHM)
		printf("  reach no worker of another host: shm is one host's memory\n");
	else if (choice == RDT_TRANSPORT_AUTO)
		printf("  reach workers of other hosts through verbs%s\n",
		       verbs ? "" : ", which does not work here: such a job fails at its start");
	else
		printf("  reach every worker through verbs, also those of this host%s\n",
		       verbs ? "" : "; it does not work here: rdt_comm_create fails");
}

/* Would the job that is asked for find what it needs on this host? */
static bool works_here(enum rdt_transport_choice choice, bool shm, bool verbs)
{
	switch (choice) {
	case RDT_TRANSPORT_SHM: return shm;
	case RDT_TRANSPORT_VERBS: return verbs;
	default: return shm || verbs;
	}
}

static int show(const struct settings *s)
{
	const struct rdt_options asked = { .size = sizeof(asked), .transport = s->transport };
	struct rdt_transport_config for_verbs = {
		.size = 1, .ib_timeout = -1, .ib_retry_cnt = -1, .ib_tc = -1, .ib_sl = -1
	};
	struct rdt_config config;
	bool wrong, shm, verbs;

	print_program();
	print_machine();
	wrong = rdt_config_read(&asked, &config) != 0;
	if (!wrong) {
		for_verbs.ifname = config.ifname;
		for_verbs.ib_hca = config.ib_hca;
		for_verbs.ib_timeout = config.ib_timeout;
		for_verbs.ib_retry_cnt = config.ib_retry_cnt;
		for_verbs.ib_tc = config.ib_tc;
		for_verbs.ib_sl = config.ib_sl;
	} else {
		printf("\nA setting is wrong, and every job would fail with this\n  %s\n",
		       rdt_last_error());
	}
	printf("\nTransport shm\n");
	shm = rdt_shm_info(print_line, NULL);
	printf("\nTransport verbs\n");
	verbs = rdt_verbs_info(&for_verbs, print_line, NULL);
	if (!wrong)
		print_choice(config.transport, shm, verbs);
	print_launcher();
	printf("\nSettings\n");
	rdt_config_print(stdout);
	if (wrong)
		return EXIT_FAILURE;
	return !s->transport || works_here(config.transport, shm, verbs) ? EXIT_SUCCESS
									 : EXIT_FAILURE;
}

int rdt_cmd_info(int argc, char **argv)
{
	static const struct argp argp = { options, parse, NULL, doc, NULL, NULL, NULL };
	struct settings settings = { 0 };

	argp_parse(&argp, argc, argv, 0, NULL, &settings);
	return show(&settings);
}
