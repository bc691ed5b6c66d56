/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line of `rdtrain run`. */
#include "tools/run.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/bootstrap/address.h"
#include "lib/bootstrap/bootstrap.h"
#include "lib/bootstrap/secret.h"

#define WORKERS_MAX 4096

enum {
	OPTION_NODES = 256,
	OPTION_NODE,
	OPTION_RENDEZVOUS,
	OPTION_SECRET,
	OPTION_NO_PREFIX,
	OPTION_RESTARTS
};

static const struct argp_option options[] = {
	{ "workers", 'n', "N", 0, "How many workers to start on this host (default 1)", 0 },
	{ "transport", 't', "auto|shm|verbs", 0, "How workers reach each other (RDTRAIN_TRANSPORT)",
	  0 },
	{ "timeout", 'T', "SECONDS", 0, "End the job after so long, with exit status 124", 0 },
	{ "restarts", OPTION_RESTARTS, "N", 0,
	  "Replace workers that fail, N in all, by new ones that the job may admit "
	  "(RDTRAIN_JOIN=1), and leave the others running",
	  0 },
	{ "no-prefix", OPTION_NO_PREFIX, NULL, 0,
	  "Do not put \"[RANK] \" before each line of output", 0 },
	{ "verbose", 'v', NULL, 0, "Say who joins and leaves, and how workers end", 0 },
	{ NULL, 0, NULL, 0, "Several hosts, `run` started on each:", 1 },
	{ "nodes", OPTION_NODES, "M", 0, "How many hosts there are (default 1)", 1 },
	{ "node", OPTION_NODE, "I", 0, "Which of them this is, 0 to M-1; ranks are I*N to I*N+N-1",
	  1 },
	{ "rendezvous", OPTION_RENDEZVOUS, "ADDR:PORT", 0,
	  "Where they meet: node 0 listens there, the others connect", 1 },
	{ "secret-file", OPTION_SECRET, "FILE", 0,
	  "The job's secret, the same on all hosts (else RDTRAIN_SECRET or RDTRAIN_SECRET_FILE)",
	  1 },
	{ "job", 'j', "NAME", 0, "The job's name at the rendezvous", 1 },
	{ 0 },
};

static const char doc[] =
	"Starts N workers running COMMAND on this host and waits for them. Each finds its place in "
	"RDTRAIN_RANK, RDTRAIN_SIZE and so on; their output is passed through line by line, with "
	"the rank before it when there are several. Their standard input is empty."
	"\v"
	"Exit status: 0 when all workers end with 0; else that of the first that failed, or 128 "
	"plus its signal; 124 at the time limit; 130 and 143 after SIGINT and SIGTERM; 127 when "
	"COMMAND is not found, 126 when it cannot be executed; 1 when the job cannot be started; 2 "
	"for wrong usage.\n\n"
	"With --restarts the status is that of the workers that have not been replaced; a new one "
	"that the job no longer admits does not count.\n\n"
	"When one worker fails the others get 3 seconds to end by themselves, then SIGTERM, 5 "
	"seconds later SIGKILL.";

static long whole(struct argp_state *state, const char *name, const char *text, long low, long high)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < low || value > high)
		argp_error(state, "--%s: \"%s\" is not a whole number from %ld to %ld", name, text,
			   low, high);
	return value;
}

/* What only the whole command line can tell. */
static void check(struct argp_state *state, const struct run_settings *s)
{
	struct rdt_address address;

	if (s->node >= s->nodes)
		argp_error(state, "--node %ld: with --nodes %ld it is 0 to %ld", s->node, s->nodes,
			   s->nodes - 1);
	if (s->nodes * s->workers > RDT_WORLD_MAX)
		argp_error(state, "%ld workers are more than %d", s->nodes * s->workers,
			   RDT_WORLD_MAX);
	if (s->rendezvous && !rdt_address_parse(s->rendezvous, &address))
		argp_error(state, "--rendezvous: \"%s\" is not ADDR:PORT", s->rendezvous);
	if (s->nodes == 1)
		return;
	if (!s->rendezvous)
		argp_error(state, "--nodes %ld needs --rendezvous ADDR:PORT, the same on all hosts",
			   s->nodes);
	if (strcmp(address.host, "*") == 0 || address.port_number == 0)
		argp_error(state,
			   "--rendezvous %s: other hosts need an address of node 0 and a port",
			   s->rendezvous);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct run_settings *s = state->input;
	char *end;

	switch (key) {
	case 'n': s->workers = whole(state, "workers", arg, 1, WORKERS_MAX); break;
	case 't':
		if (strcmp(arg, "auto") != 0 && strcmp(arg, "shm") != 0 &&
		    strcmp(arg, "verbs") != 0)
			argp_error(state, "--transport: \"%s\" is none of auto, shm, verbs", arg);
		s->transport = arg;
		break;
	case 'T':
		s->timeout = strtod(arg, &end);
		if (end == arg || *end || !(s->timeout > 0) || s->timeout > 1e8)
			argp_error(state, "--timeout: \"%s\" is not a number of seconds", arg);
		break;
	case OPTION_RESTARTS: s->restarts = whole(state, "restarts", arg, 0, 1000000); break;
	case 'v': s->verbose = true; break;
	case 'j':
		if (!rdt_job_name_ok(arg))
			argp_error(state, "--job: \"%s\": " RDT_JOB_NAME_RULE, arg);
		s->job = arg;
		break;
	case OPTION_NO_PREFIX: s->prefix = false; break;
	case OPTION_NODES: s->nodes = whole(state, "nodes", arg, 1, RDT_WORLD_MAX); break;
	case OPTION_NODE: s->node = whole(state, "node", arg, 0, RDT_WORLD_MAX - 1); break;
	case OPTION_RENDEZVOUS: s->rendezvous = arg; break;
	case OPTION_SECRET: s->secret_file = arg; break;
	case ARGP_KEY_ARG:
		/* The command, and everything after it, is the worker's. */
		s->command = &state->argv[state->next - 1];
		state->next = state->argc;
		break;
	case ARGP_KEY_NO_ARGS: argp_error(state, "which command shall the workers run?"); break;
	case ARGP_KEY_END: check(state, s); break;
	default: return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

void run_parse(int argc, char **argv, struct run_settings *settings)
{
	static const struct argp argp = {
		options, parse, "COMMAND [ARG...]", doc, NULL, NULL, NULL
	};

	*settings =
		(struct run_settings){ .workers = 1, .nodes = 1, .prefix = true, .job = "default" };
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, settings);
}
