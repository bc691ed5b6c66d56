/* SPDX-License-Identifier: BSD-3-Clause */
/* The program `rdtrain`: finds the command and calls it. */
#include <argp.h>
#include <stdio.h>
#include <string.h>

#include <rdtrain/rdtrain.h>

#include "tools/commands.h"

static const struct {
	const char *name, *title, *what;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "run", "rdtrain run", "start the workers of a job on this host", rdt_cmd_run },
	{ "rendezvous", "rdtrain rendezvous", "the service where workers of several hosts meet",
	  rdt_cmd_rendezvous },
	{ "perf", "rdtrain perf", "time a collective and check its results", rdt_cmd_perf },
	{ "info", "rdtrain info", "devices, limits and settings, and what would be used here",
	  rdt_cmd_info },
	{ "verify", "rdtrain verify", "prove the schedules of all algorithms", rdt_cmd_verify },
	{ "simulate", "rdtrain simulate", "predict how long each algorithm takes",
	  rdt_cmd_simulate },
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *to)
{
	fprintf(to, "Usage: rdtrain COMMAND [OPTION...]\n\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].what);
	fprintf(to, "\n`rdtrain COMMAND --help` tells more; `rdtrain --version` the version.\n");
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
		usage(stdout);
		return 0;
	}
	if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
		printf("rdtrain %s\n", rdt_version());
		return 0;
	}
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(name, commands[i].name) == 0) {
			argp_err_exit_status = 2; /* wrong usage, for all commands */
			/* argp takes the command's name for help from argv[0]. */
			argv[1] = (char *)commands[i].title;
			return commands[i].run(argc - 1, argv + 1);
		}
	if (*name)
		fprintf(stderr, "rdtrain: there is no command \"%s\"\n\n", name);
	usage(stderr);
	return 2;
}
