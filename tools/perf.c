/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdtrain perf: times a collective over a range of sizes and checks every result. Options, columns
 * and the meaning of the bandwidths are those of nccl-tests. Every rank runs the same loop over
 * types, operations and sizes; see perf.h for the parts.
 */
#include "tools/commands.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "tools/calibrate.h"
#include "tools/perf.h"
#include "tools/perf_overlap.h"

enum { OPTION_FORM = 256, OPTION_MEMORY, OPTION_IN_PLACE, OPTION_CALIBRATE, OPTION_OVERLAP };

static const struct argp_option options[] = {
	{ "minbytes", 'b', "SIZE", 0, "Smallest size; K, M and G are powers of 1024 (default 8)",
	  0 },
	{ "maxbytes", 'e', "SIZE", 0, "Largest size (default 64M)", 0 },
	{ "stepfactor", 'f', "FACTOR", 0, "From one size to the next (default 2)", 0 },
	{ "stepbytes", 'i', "SIZE", 0, "Add this much instead", 0 },
	{ "iters", 'n', "N", 0, "Iterations (default: 20, more or fewer by the time they take)",
	  0 },
	{ "warmup_iters", 'w', "N", 0, "Iterations before the clock starts (default 5)", 0 },
	{ "datatype", 'd', "TYPE,...", 0, "float32 (the default), or \"all\"", 0 },
	{ "op", 'o', "OP,...", 0, "sum (the default), avg, min, max, prod, or \"all\"", 0 },
	{ "check", 'c', "0|1", OPTION_ARG_OPTIONAL,
	  "Check every result (default 1; -c alone means 1)", 0 },
	{ "form", OPTION_FORM, "blocking|start|plan", 0,
	  "One call, a call and a wait, or a persistent plan (default plan)", 0 },
	{ "memory", OPTION_MEMORY, "alloc|register|malloc", 0,
	  "Buffers from rdt_alloc (the default), registered ones, or any", 0 },
	{ "in-place", OPTION_IN_PLACE, "0|1|both", 0,
	  "Separate buffers, one buffer, or one after the other (default both)", 0 },
	{ "json", 'J', "FILE", 0, "Write all numbers there too, with percentiles", 0 },
	{ "verbose", 'v', NULL, 0, "Add the 50th and 99th percentiles and the maximum to the table",
	  0 },
	{ "overlap", OPTION_OVERLAP, NULL, 0,
	  "Instead: how much of the allreduce hides behind a computation that takes as long", 1 },
	{ "calibrate", OPTION_CALIBRATE, "FILE", OPTION_ARG_OPTIONAL,
	  "Instead: measure the costs by which algorithms are chosen, and write them to FILE "
	  "(default "
	  "rdtrain.model)",
	  1 },
	{ 0 },
};

static const char doc[] =
	"Times a collective and checks its results on every rank. The collective is allreduce. "
	"Start "
	"it with `rdtrain run -n 4 -- rdtrain perf allreduce`, or with any other launcher; alone "
	"it "
	"is a job of one."
	"\v"
	"time is the mean over the iterations on the slowest rank; algbw is size / time; busbw is "
	"algbw * 2 (n-1) / n for n ranks, to be held against the speed of a link; #wrong counts "
	"wrong elements on all ranks, inputs that were changed and bytes written beside a buffer "
	"included. Percentiles are of each rank's iterations; the largest of all ranks is "
	"shown.\n\n"
	"--calibrate times all algorithms for some seconds, on two ranks or more, and fits the "
	"costs of "
	"a model to the times. With RDTRAIN_MODEL=FILE the library chooses by them.\n\n"
	"--overlap takes the time of the allreduce, of a computation, and of both at once, the "
	"computation "
	"without any call and with calls of rdt_plan_test; see RDTRAIN_PROGRESS.\n\n"
	"Exit status: 0; 1 when anything was wrong or failed; 2 for wrong usage.";

/* ---- options --------------------------------------------------------------------------------- */

static uint64_t size_option(struct argp_state *state, const char *name, const char *text)
{
	unsigned long long value;
	unsigned shift = 0;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	switch (*end) {
	case 'k':
	case 'K': shift = 10; break;
	case 'm':
	case 'M': shift = 20; break;
	case 'g':
	case 'G': shift = 30; break;
	default: break;
	}
	if (shift)
		end++;
	if (shift && (strcmp(end, "B") == 0 || strcmp(end, "iB") == 0))
		end = "";
	if (errno || *text < '0' || *text > '9' || *end || value == 0 ||
	    value > 1ull << 40 >> shift)
		argp_error(state, "--%s: \"%s\" is not a size from 1 to 1024G, like 8, 64K or 1M",
			   name, text);
	return value << shift;
}

static long count_option(struct argp_state *state, const char *name, const char *text, long low)
{
	long value;
	char *end;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < low || value > 10000000)
		argp_error(state, "--%s: \"%s\" is not a whole number from %ld to 10000000", name,
			   text, low);
	return value;
}

/* Which of these words it is. */
static unsigned word_option(struct argp_state *state, const char *name, const char *text,
			    const char *const words[3])
{
	for (unsigned i = 0; i < 3; i++)
		if (strcmp(text, words[i]) == 0)
			return i;
	argp_error(state, "--%s: \"%s\" is none of %s, %s, %s", name, text, words[0], words[1],
		   words[2]);
	return 0;
}

static const char *type_name(int i)
{
	return rdt_type_name((enum rdt_type)i);
}

static const char *op_name(int i)
{
	return rdt_op_name((enum rdt_op)i);
}

/* nccl-tests' words for the types. */
static const char *usual_name(const char *text)
{
	static const char *const others[][2] = {
		{ "float", "float32" },
		{ "double", "float64" },
		{ "half", "float16" },
	};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (strcmp(text, others[i][0]) == 0)
			return others[i][1];
	return text;
}

/* Marks what a list like "float32,int8" or "all" names. */
static void list_option(struct argp_state *state, const char *name, const char *text,
			const char *(*name_of)(int), bool *chosen, int n)
{
	char copy[256], *rest = copy, *word;

	memset(chosen, 0, (size_t)n * sizeof(*chosen));
	if (snprintf(copy, sizeof(copy), "%s", text) >= (int)sizeof(copy))
		argp_error(state, "--%s: the list is too long", name);
	while ((word = strsep(&rest, ",")) != NULL) {
		bool found = false;

		for (int i = 0; i < n; i++)
			if (strcmp(word, "all") == 0 || strcmp(usual_name(word), name_of(i)) == 0)
				chosen[i] = found = true;
		if (found)
			continue;
		snprintf(copy, sizeof(copy), "%s", name_of(0));
		for (int i = 1; i < n; i++)
			snprintf(copy + strlen(copy), sizeof(copy) - strlen(copy), ", %s",
				 name_of(i));
		argp_error(state, "--%s %s: the choice is among %s, or all", name, text, copy);
	}
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	static const char *const forms[] = { "blocking", "start", "plan" };
	static const char *const memories[] = { "alloc", "register", "malloc" };
	static const char *const places[] = { "0", "1", "both" };
	struct perf_settings *s = state->input;
	char *end;

	switch (key) {
	case 'b': s->begin = size_option(state, "minbytes", arg); break;
	case 'e': s->end = size_option(state, "maxbytes", arg); break;
	case 'i':
		s->step = size_option(state, "stepbytes", arg);
		s->factor = 0;
		break;
	case 'f':
		s->factor = strtod(arg, &end);
		if (end == arg || *end || !(s->factor > 1) || s->factor > 1e9)
			argp_error(state, "--stepfactor: \"%s\" is not a number above 1", arg);
		break;
	case 'n': s->iterations = count_option(state, "iters", arg, 1); break;
	case 'w': s->warmup = count_option(state, "warmup_iters", arg, 0); break;
	case 'd': list_option(state, "datatype", arg, type_name, s->types, PERF_TYPES); break;
	case 'o': list_option(state, "op", arg, op_name, s->ops, PERF_OPS); break;
	case 'c':
		/* nccl-tests' form "-c 1": an optional argument is not looked for there. */
		if (!arg && state->next < state->argc &&
		    (strcmp(state->argv[state->next], "0") == 0 ||
		     strcmp(state->argv[state->next], "1") == 0))
			arg = state->argv[state->next++];
		if (arg && strcmp(arg, "0") != 0 && strcmp(arg, "1") != 0)
			argp_error(state, "--check: \"%s\" is neither 0 nor 1", arg);
		s->check = !arg || *arg == '1';
		break;
	case OPTION_FORM: s->form = word_option(state, "form", arg, forms); break;
	case OPTION_MEMORY: s->memory = word_option(state, "memory", arg, memories); break;
	case OPTION_IN_PLACE: s->places = word_option(state, "in-place", arg, places) + 1; break;
	case 'J': s->json = arg; break;
	case 'v': s->verbose = true; break;
	case ARGP_KEY_ARG:
		if (s->collective)
			argp_error(state, "\"%s\" is one argument too many", arg);
		if (strcmp(arg, "allreduce") != 0)
			argp_error(state, "\"%s\" cannot be timed; allreduce can", arg);
		s->collective = arg;
		break;
	case OPTION_CALIBRATE: s->calibrate = arg ? arg : "rdtrain.model"; break;
	case OPTION_OVERLAP: s->overlap = true; break;
	case ARGP_KEY_END:
		if (!s->collective && !s->calibrate && !s->overlap)
			argp_error(state, "which collective? allreduce");
		if (s->end == 0)
			s->end = s->begin > 64u << 20 ? s->begin : 64u << 20;
		if (s->begin > s->end)
			argp_error(state, "--minbytes is larger than --maxbytes");
		break;
	default: return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

/* ---- running --------------------------------------------------------------------------------- */

static uint64_t next_size(const struct perf_settings *s, uint64_t bytes)
{
	double next = s->factor > 1 ? (double)bytes * s->factor : (double)bytes + (double)s->step;

	if (next > (double)s->end)
		return s->end + 1;
	return (uint64_t)next > bytes ? (uint64_t)next : bytes + 1;
}

/* All sizes of one type and operation. */
static int run_sizes(const struct perf_settings *s, const struct perf_buffers *buffers,
		     enum rdt_type type, enum rdt_op op, struct perf_report *report)
{
	rdt_comm *comm = buffers->comm;
	struct perf_data *data = perf_data_new(rdt_comm_rank(comm), rdt_comm_size(comm), type, op);
	size_t element = rdt_type_size(type);
	uint64_t last = 0;
	int status = 0;

	if (!data)
		return rdt_err(RDT_ERR_NOMEM, "no memory for the data");
	for (uint64_t bytes = s->begin; bytes <= s->end && !status; bytes = next_size(s, bytes)) {
		struct perf_result result = {
			.count = bytes < element ? 1 : bytes / element,
			.type = type,
			.op = op,
		};

		result.bytes = result.count * element;
		if (result.count == last)
			continue; /* a step smaller than an element */
		last = result.count;
		status = perf_time(s, buffers, data, &result);
		if (!status)
			status = perf_report_add(report, &result);
	}
	perf_data_free(data);
	return status;
}

static int run_all(const struct perf_settings *s, rdt_comm *comm, int64_t *wrong)
{
	struct perf_report *report = NULL;
	struct perf_buffers buffers;
	int status = perf_buffers_make(comm, s->memory, s->end < 8 ? 8 : s->end, &buffers);

	if (status)
		return status;
	status = perf_report_new(comm, s, &report);
	for (int type = 0; type < PERF_TYPES; type++)
		for (int op = 0; op < PERF_OPS; op++)
			if (!status && s->types[type] && s->ops[op])
				status = run_sizes(s, &buffers, (enum rdt_type)type,
						   (enum rdt_op)op, report);
	if (!status)
		status = perf_report_end(report, wrong);
	perf_report_free(report);
	perf_buffers_free(&buffers);
	return status;
}

int rdt_cmd_perf(int argc, char **argv)
{
	static const struct argp argp = { options, parse, "COLLECTIVE", doc, NULL, NULL, NULL };
	struct perf_settings settings = {
		.begin = 8,
		.factor = 2,
		.iterations = -1,
		.warmup = -1,
		.types[RDT_FLOAT32] = true,
		.ops[RDT_SUM] = true,
		.form = PERF_PLAN,
		.places = PERF_OUT_OF_PLACE | PERF_IN_PLACE,
		.check = true,
	};
	int64_t wrong = 0;
	rdt_comm *comm;
	bool usage;
	int status;

	argp_parse(&argp, argc, argv, 0, NULL, &settings);
	status = rdt_comm_create(NULL, &comm);
	if (status) {
		fprintf(stderr, "rdtrain perf: %s\n", rdt_last_error());
		return EXIT_FAILURE;
	}
	status = settings.calibrate ? perf_calibrate(comm, settings.calibrate)
		 : settings.overlap ? perf_overlap(&settings, comm)
				    : run_all(&settings, comm, &wrong);
	/* All ranks find out alike that they cannot calibrate. */
	usage = settings.calibrate && status == RDT_ERR_INVALID;
	if (status)
		fprintf(stderr, "rdtrain perf: rank %d: %s\n", rdt_comm_rank(comm),
			rdt_last_error());
	if (status && !usage)
		rdt_comm_abort(comm); /* nobody shall wait for this rank */
	rdt_comm_destroy(comm);
	if (usage)
		return 2;
	return status || wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
