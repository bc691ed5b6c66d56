/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdtrain simulate: predicts how long each algorithm of a collective takes on a machine that is
 * described by a model (collectives/model.h), for any number of ranks. Needs no other process and
 * no device.
 */
#include "tools/commands.h"
#include "tools/simulate.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include <rdtrain/rdtrain.h>

#include "collectives/select.h"

#define MOST_RANKS 65536
#define MOST_POINTS 40 /* of a plot, on its x axis */

struct settings {
	enum rdt_collective collective;
	bool given; /* a collective was named */
	int ranks, ranks_per_host;
	uint64_t bytes;
	uint32_t elem_size;
	bool staged, in_order, mapped, checked;
	const char *algorithm, *model_name, *json, *plot;
	bool over_ranks, print_model, list_models;
	struct rdt_model model;
};

enum {
	OPTION_RANKS = 256,
	OPTION_BYTES,
	OPTION_PER_HOST,
	OPTION_ELEMENT,
	OPTION_STAGED,
	OPTION_MAPPED,
	OPTION_CHECKED,
	OPTION_IN_ORDER,
	OPTION_MODEL,
	OPTION_PRINT_MODEL,
	OPTION_LIST_MODELS,
	OPTION_PLOT,
	OPTION_OVER,
};

static const struct argp_option options[] = {
	{ "ranks", OPTION_RANKS, "N", 0, "Ranks, up to 65536 (default 8)", 0 },
	{ "ranks-per-host", OPTION_PER_HOST, "N", 0,
	  "Consecutive ranks on each host, sharing its network interfaces (default 1)", 0 },
	{ "bytes", OPTION_BYTES, "SIZE", 0,
	  "Bytes of the vector, or of the blocks of all ranks together; K, M and G are powers of "
	  "1024 (default 1M)",
	  0 },
	{ "element", OPTION_ELEMENT, "BYTES", 0, "Bytes of one element (default 4)", 0 },
	{ "algorithm", 'a', "NAME", 0, "Only this one", 0 },
	{ "in-order", OPTION_IN_ORDER, NULL, 0,
	  "Only algorithms that sum in the order of ranks, so that bits do not depend on the "
	  "choice",
	  0 },
	{ "staged", OPTION_STAGED, NULL, 0, "For results that peers cannot write to directly", 0 },
	{ "mapped", OPTION_MAPPED, NULL, 0,
	  "For buffers that the ranks of a host have mapped (from rdt_alloc)", 0 },
	{ "checked", OPTION_CHECKED, NULL, 0, "With RDTRAIN_CHECK=1", 0 },
	{ "model", OPTION_MODEL, "NAME|FILE", 0,
	  "The machine: a built-in model, or a file of \"name = value\" lines (default "
	  "infiniband-edr)",
	  1 },
	{ "list-models", OPTION_LIST_MODELS, NULL, 0, "List the built-in models", 1 },
	{ "print-model", OPTION_PRINT_MODEL, NULL, 0,
	  "Print the model in the form of such a file, to begin a new one with", 1 },
	{ "json", 'J', "FILE", 0,
	  "Write all numbers there too; - is standard output, without the "
	  "table",
	  2 },
	{ "plot", OPTION_PLOT, "FILE.svg", 0, "Draw times as curves; needs gnuplot", 2 },
	{ "over", OPTION_OVER, "size|ranks", 0,
	  "With --plot: from 8 bytes to 1 GiB, or from 2 to 16384 ranks (default size)", 2 },
	{ 0 },
};

static const char doc[] =
	"Predicts how long the algorithms of a collective take, by running the same schedules that "
	"the library runs through a model of the machine. COLLECTIVE is allreduce, reduce_scatter, "
	"allgather, broadcast, reduce, gather, scatter, alltoall, barrier or send."
	"\v"
	"  rdtrain simulate allreduce --ranks 1000 --ranks-per-host 8 --bytes 64M\n"
	"  rdtrain simulate allreduce --ranks 64 --plot curve.svg --over size\n"
	"  rdtrain simulate allreduce --print-model > my.model   (edit it)\n"
	"  rdtrain simulate allreduce --ranks 48 --model my.model\n"
	"  rdtrain simulate --step-time 120 --gradient-bytes 100M   (a training step; --help "
	"too)\n\n"
	"rounds is the longest chain of puts that wait for one another; bytes what the busiest "
	"rank puts; puts those of all ranks together. local and remote are how many ranks of its "
	"own and of other hosts the rank with the most has to be connected with (remote: queue "
	"pairs); scratch is the memory that is registered for it, in bytes. The fastest comes "
	"first.\n\n"
	"Exit status: 0; 1 when nothing could be predicted or a file not written; 2 for wrong "
	"usage.";

/* ---- options ------------------------------------------------------------------------------ */

uint64_t rdt_simulate_size(const struct argp_state *state, const char *name, const char *text)
{
	static const char units[] = "KMG";
	unsigned long long value;
	unsigned shift = 0;
	const char *unit;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	unit = *end ? strchr(units, *end >= 'a' ? *end - 'a' + 'A' : *end) : NULL;
	if (unit) {
		shift = 10 * (unsigned)(unit - units + 1);
		end++;
		if (strcmp(end, "B") == 0 || strcmp(end, "iB") == 0)
			end = "";
	}
	if (errno || *text < '0' || *text > '9' || *end || value > 1ull << 40 >> shift)
		argp_error(state, "--%s: \"%s\" is not a size from 0 to 1024G, like 8, 64K or 1M",
			   name, text);
	return value << shift;
}

int rdt_simulate_number(const struct argp_state *state, const char *name, const char *text,
			int least, int most)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < least || value > most)
		argp_error(state, "--%s: \"%s\" is not a whole number from %d to %d", name, text,
			   least, most);
	return (int)value;
}

static enum rdt_collective collective(const struct argp_state *state, const char *name)
{
	for (int c = 0; c < RDT_COLL_COUNT; c++)
		if (strcmp(rdt_collective_name((enum rdt_collective)c), name) == 0)
			return (enum rdt_collective)c;
	argp_error(state, "there is no collective \"%s\"; --help lists them", name);
	return RDT_COLL_COUNT;
}

/* Names the algorithms there are when the wanted one is not. */
static void check_algorithm(const struct argp_state *state, const struct settings *s)
{
	char names[256] = "";
	const char *c = rdt_collective_name(s->collective);

	if (!s->algorithm || rdt_algorithm_find(s->collective, s->algorithm))
		return;
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++)
		if (a->collective == s->collective) {
			if (*names)
				strncat(names, ", ", sizeof(names) - strlen(names) - 1);
			strncat(names, a->name, sizeof(names) - strlen(names) - 1);
		}
	argp_error(state, "there is no algorithm \"%s\" for %s; there are: %s", s->algorithm, c,
		   *names ? names : "none");
}

static void check(const struct argp_state *state, struct settings *s)
{
	if (!s->given && !s->print_model && !s->list_models)
		argp_error(state, "name a collective, like \"rdtrain simulate allreduce\"");
	if (s->over_ranks && !s->plot)
		argp_error(state, "--over says what to plot over: give --plot FILE.svg, too");
	if (s->collective == RDT_COLL_BARRIER) {
		if (s->plot && !s->over_ranks)
			argp_error(state, "a barrier has no size to plot over: give --over ranks");
		s->bytes = 0;
	}
	check_algorithm(state, s);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct settings *s = state->input;

	switch (key) {
	case OPTION_RANKS:
		s->ranks = rdt_simulate_number(state, "ranks", arg, 1, MOST_RANKS);
		return 0;
	case OPTION_PER_HOST:
		s->ranks_per_host =
			rdt_simulate_number(state, "ranks-per-host", arg, 1, MOST_RANKS);
		return 0;
	case OPTION_BYTES: s->bytes = rdt_simulate_size(state, "bytes", arg); return 0;
	case OPTION_ELEMENT:
		s->elem_size = (uint32_t)rdt_simulate_number(state, "element", arg, 1, 4096);
		return 0;
	case 'a': s->algorithm = arg; return 0;
	case OPTION_IN_ORDER: s->in_order = true; return 0;
	case OPTION_STAGED: s->staged = true; return 0;
	case OPTION_MAPPED: s->mapped = true; return 0;
	case OPTION_CHECKED: s->checked = true; return 0;
	case OPTION_MODEL: s->model_name = arg; return 0;
	case OPTION_PRINT_MODEL: s->print_model = true; return 0;
	case OPTION_LIST_MODELS: s->list_models = true; return 0;
	case 'J': s->json = arg; return 0;
	case OPTION_PLOT: s->plot = arg; return 0;
	case OPTION_OVER:
		s->over_ranks = strcmp(arg, "ranks") == 0;
		if (!s->over_ranks && strcmp(arg, "size"))
			argp_error(state, "--over: \"%s\" is neither size nor ranks", arg);
		return 0;
	case ARGP_KEY_ARG:
		if (s->given)
			argp_error(state, "one collective at a time; \"%s\" is too much", arg);
		s->collective = collective(state, arg);
		s->given = true;
		return 0;
	case ARGP_KEY_END: check(state, s); return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

/* ---- the model ---------------------------------------------------------------------------- */

int rdt_simulate_complain(const char *what, const char *file)
{
	fprintf(stderr, "rdtrain simulate: cannot %s %s: %s\n", what, file, strerror(errno));
	return 1;
}

static int read_model(const char *file, struct rdt_model *model)
{
	char text[16384], error[1024];
	FILE *from = fopen(file, "re");
	size_t n;

	if (!from) {
		if (errno == ENOENT)
			fprintf(stderr,
				"rdtrain simulate: there is neither a model nor a file \"%s\"; "
				"--list-models shows the models\n",
				file);
		else
			rdt_simulate_complain("read", file);
		return 2;
	}
	n = fread(text, 1, sizeof(text) - 1, from);
	if (ferror(from)) {
		rdt_simulate_complain("read", file);
		fclose(from);
		return 1;
	}
	fclose(from);
	text[n] = '\0';
	if (rdt_model_parse(model, file, text, error, sizeof(error))) {
		fprintf(stderr, "rdtrain simulate: %s\n", error);
		return 2;
	}
	return 0;
}

int rdt_simulate_model(const char *name, struct rdt_model *model)
{
	const struct rdt_model *builtin = name ? rdt_model_builtin(name) : rdt_models[0];

	if (!builtin)
		return read_model(name, model);
	*model = *builtin;
	return 0;
}

/* ---- predicting --------------------------------------------------------------------------- */

static struct rdt_simulation simulation(const struct settings *s)
{
	return (struct rdt_simulation){
		.model = &s->model,
		.ranks = s->ranks,
		.ranks_per_host = s->ranks_per_host,
		.bytes = s->bytes,
		.elem_size = s->elem_size,
		.remote_output = !s->staged,
		.mapped = s->mapped,
		.checked = s->checked,
	};
}

/* As rdt_predict, or of the one that was asked for. */
static int predict(const struct settings *s, struct rdt_candidate out[RDT_CANDIDATES])
{
	struct rdt_simulation what = simulation(s);

	if (!s->algorithm)
		return rdt_predict(&what, s->collective, s->in_order, out);
	out[0] = (struct rdt_candidate){
		.algorithm = rdt_algorithm_find(s->collective, s->algorithm),
	};
	out[0].outcome = rdt_simulate(out[0].algorithm, &what, &out[0].prediction);
	return out[0].outcome == RDT_SIMULATE_NO_MEMORY ? -1 : 1;
}

static double microseconds(const struct rdt_candidate *c)
{
	return (double)c->prediction.time_ps / 1e6;
}

static void print_table(const struct settings *s, const struct rdt_candidate *c, int n)
{
	printf("# rdtrain %s simulate %s: ranks %d, %d on a host, bytes %" PRIu64 ", model %s\n",
	       rdt_version(), rdt_collective_name(s->collective), s->ranks, s->ranks_per_host,
	       s->bytes, s->model.name);
	printf("# %-23s %14s %8s %14s %12s %6s %6s %12s\n", "algorithm", "time (us)", "rounds",
	       "bytes/rank", "puts", "local", "remote", "scratch");
	for (int i = 0; i < n; i++) {
		const struct rdt_prediction *p = &c[i].prediction;

		if (c[i].outcome == RDT_SIMULATED)
			printf("  %-23s %14.2f %8d %14" PRIu64 " %12" PRIu64 " %6d %6d %12" PRIu64
			       "\n",
			       c[i].algorithm->name, microseconds(&c[i]), p->rounds, p->bytes,
			       p->puts, p->peers_host, p->peers_net, p->scratch);
		else
			printf("  %-23s %14s %s\n", c[i].algorithm->name, "-",
			       rdt_simulated_text(c[i].outcome));
	}
}

static json_t *candidate_json(const struct rdt_candidate *c)
{
	const struct rdt_prediction *p = &c->prediction;

	if (c->outcome != RDT_SIMULATED)
		return json_pack("{s:s s:s s:n}", "algorithm", c->algorithm->name, "outcome",
				 rdt_simulated_text(c->outcome), "time_us");
	return json_pack(
		"{s:s s:s s:f s:i s:I s:I s:I s:i s:i s:I}", "algorithm", c->algorithm->name,
		"outcome", rdt_simulated_text(c->outcome), "time_us", microseconds(c), "rounds",
		p->rounds, "bytes_per_rank", (json_int_t)p->bytes, "puts", (json_int_t)p->puts,
		"steps", (json_int_t)p->steps, "peers_on_host", p->peers_host,
		"peers_on_other_hosts", p->peers_net, "scratch_bytes", (json_int_t)p->scratch);
}

static int write_json(const struct settings *s, const struct rdt_candidate *c, int n)
{
	bool to_stdout = strcmp(s->json, "-") == 0;
	json_t *list = json_array(), *root;
	FILE *to = to_stdout ? stdout : fopen(s->json, "we");
	int bad;

	if (!to) {
		json_decref(list);
		return rdt_simulate_complain("write", s->json);
	}
	for (int i = 0; i < n; i++)
		json_array_append_new(list, candidate_json(&c[i]));
	root = json_pack("{s:s s:s s:i s:i s:I s:i s:s s:o}", "version", rdt_version(),
			 "collective", rdt_collective_name(s->collective), "ranks", s->ranks,
			 "ranks_per_host", s->ranks_per_host, "bytes", (json_int_t)s->bytes,
			 "element", (int)s->elem_size, "model", s->model.name, "results", list);
	errno = ENOMEM;
	bad = !root || json_dumpf(root, to, JSON_INDENT(2)) || fputc('\n', to) == EOF;
	bad |= to_stdout ? fflush(to) != 0 : fclose(to) != 0;
	json_decref(root);
	return bad ? rdt_simulate_complain("write", s->json) : 0;
}

/* ---- plotting ----------------------------------------------------------------------------- */

/* A point of every algorithm's curve, in the order of the table of algorithms. */
struct column {
	uint64_t x;
	double us[RDT_CANDIDATES]; /* negative: not predicted */
};

static int curves(const struct settings *s, const struct rdt_algorithm *of[RDT_CANDIDATES])
{
	int n = 0;

	for (const struct rdt_algorithm *a = rdt_algorithms; a->name && n < RDT_CANDIDATES; a++)
		if (a->collective == s->collective &&
		    (!s->algorithm || strcmp(a->name, s->algorithm) == 0))
			of[n++] = a;
	return n;
}

static int plot_columns(const struct settings *s, const struct rdt_algorithm **of, int n_of,
			struct column *columns)
{
	int first = s->over_ranks ? 1 : 3, last = s->over_ranks ? 14 : 30, n = 0;

	for (int i = first; i <= last; i++, n++) {
		struct settings at = *s;
		struct rdt_candidate c[RDT_CANDIDATES];
		int found;

		columns[n].x = UINT64_C(1) << i;
		if (s->over_ranks)
			at.ranks = 1 << i;
		else
			at.bytes = UINT64_C(1) << i;
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "\r\033[K%s %" PRIu64, s->over_ranks ? "ranks" : "bytes",
				columns[n].x);
		found = predict(&at, c);
		if (found < 0)
			return -1;
		for (int k = 0; k < n_of; k++) {
			columns[n].us[k] = -1;
			for (int m = 0; m < found; m++)
				if (c[m].algorithm == of[k] && c[m].outcome == RDT_SIMULATED)
					columns[n].us[k] = microseconds(&c[m]);
		}
	}
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K");
	return n;
}

/* Leaves out the algorithms of which nothing could be predicted. Returns how many are left. */
static int drop_empty(const struct rdt_algorithm **of, int n_of, struct column *columns, int n)
{
	int left = 0;

	for (int k = 0; k < n_of; k++) {
		bool any = false;

		for (int i = 0; i < n; i++) {
			columns[i].us[left] = columns[i].us[k];
			any |= columns[i].us[k] >= 0;
		}
		of[left] = of[k];
		left += any;
	}
	return left;
}

/* gnuplot's string: between single quotes, which are doubled inside. */
static void quote(FILE *to, const char *text)
{
	fputc('\'', to);
	for (; *text; text++) {
		if (*text == '\'')
			fputc('\'', to);
		fputc(*text, to);
	}
	fputc('\'', to);
}

static void write_gnuplot(FILE *to, const struct settings *s, const struct rdt_algorithm **of,
			  int n_of, const struct column *columns, int n)
{
	const char *name = rdt_collective_name(s->collective);

	fprintf(to, "set terminal svg size 900,600 background 'white' noenhanced\nset output ");
	quote(to, s->plot);
	fprintf(to, "\nset logscale x 2\nset logscale y\nset grid\nset key left top\n"
		    "set ylabel 'microseconds'\nset title ");
	if (s->over_ranks)
		fprintf(to, "\"%s of %" PRIu64 " bytes, %d ranks on a host, model %s\"\n", name,
			s->bytes, s->ranks_per_host, s->model.name);
	else
		fprintf(to, "\"%s among %d ranks, %d on a host, model %s\"\n", name, s->ranks,
			s->ranks_per_host, s->model.name);
	if (!s->over_ranks)
		fprintf(to, "set format x '%%.0b%%B'\n");
	fprintf(to, "set xlabel '%s'\nset datafile missing '?'\n$times << EOD\n",
		s->over_ranks ? "ranks" : "bytes");
	for (int i = 0; i < n; i++) {
		fprintf(to, "%" PRIu64, columns[i].x);
		for (int k = 0; k < n_of; k++)
			if (columns[i].us[k] < 0)
				fprintf(to, " ?");
			else
				fprintf(to, " %.3f", columns[i].us[k]);
		fprintf(to, "\n");
	}
	fprintf(to, "EOD\nplot ");
	for (int k = 0; k < n_of; k++)
		fprintf(to, "%s$times using 1:%d with linespoints title '%s'", k ? ", " : "", k + 2,
			of[k]->name);
	fprintf(to, "\n");
}

int rdt_simulate_gnuplot(const char *script)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		execlp("gnuplot", "gnuplot", script, (char *)NULL);
		if (errno == ENOENT)
			fprintf(stderr, "rdtrain simulate: there is no gnuplot here to draw the "
					"plot; install it (Debian: apt install gnuplot-nox)\n");
		else
			rdt_simulate_complain("run", "gnuplot");
		_exit(127);
	}
	if (pid < 0)
		return rdt_simulate_complain("run", "gnuplot");
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return rdt_simulate_complain("wait for", "gnuplot");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 127)
		fprintf(stderr, "rdtrain simulate: gnuplot could not draw the plot\n");
	return 1;
}

static int plot(const struct settings *s)
{
	const struct rdt_algorithm *of[RDT_CANDIDATES];
	struct column columns[MOST_POINTS];
	char script[] = "/tmp/rdtrain-plot-XXXXXX";
	int n_of = curves(s, of), n, fd, status = 1;
	FILE *to;

	n = plot_columns(s, of, n_of, columns);
	if (n < 0) {
		fprintf(stderr, "rdtrain simulate: out of memory\n");
		return 1;
	}
	n_of = drop_empty(of, n_of, columns, n);
	if (n_of == 0) {
		fprintf(stderr, "rdtrain simulate: nothing could be predicted, so there is nothing "
				"to draw\n");
		return 1;
	}
	fd = mkstemp(script);
	if (fd < 0)
		return rdt_simulate_complain("make", script);
	to = fdopen(fd, "w");
	if (!to) {
		close(fd);
		rdt_simulate_complain("write", script);
	} else {
		write_gnuplot(to, s, of, n_of, columns, n);
		status = fclose(to) ? rdt_simulate_complain("write", script)
				    : rdt_simulate_gnuplot(script);
	}
	unlink(script);
	return status;
}

/* ---- the command -------------------------------------------------------------------------- */

static int simulate(const struct settings *s)
{
	struct rdt_candidate candidates[RDT_CANDIDATES];
	int n = predict(s, candidates), status = 0;

	if (n < 0) {
		fprintf(stderr, "rdtrain simulate: out of memory\n");
		return 1;
	}
	if (!s->json || strcmp(s->json, "-"))
		print_table(s, candidates, n);
	if (s->json)
		status = write_json(s, candidates, n);
	if (s->plot && !status)
		status = plot(s);
	if (!status && (n == 0 || candidates[0].outcome != RDT_SIMULATED)) {
		fprintf(stderr, "rdtrain simulate: no algorithm of %s could be simulated: %s\n",
			rdt_collective_name(s->collective),
			n ? rdt_simulated_text(candidates[0].outcome) : "there is none");
		status = 1;
	}
	return status;
}

int rdt_cmd_simulate(int argc, char **argv)
{
	static const struct argp argp = { options, parse, "COLLECTIVE", doc, NULL, NULL, NULL };
	struct settings s = {
		.ranks = 8,
		.ranks_per_host = 1,
		.bytes = 1 << 20,
		.elem_size = 4,
	};
	int status;

	for (int i = 1; i < argc; i++)
		if (strncmp(argv[i], "--step-time", strlen("--step-time")) == 0)
			return rdt_simulate_step(argc, argv);
	if (argp_parse(&argp, argc, argv, 0, NULL, &s))
		return 2;
	if (s.list_models) {
		for (int i = 0; rdt_models[i]; i++)
			printf("%s\n", rdt_models[i]->name);
		return 0;
	}
	status = rdt_simulate_model(s.model_name, &s.model);
	if (status)
		return status;
	if (s.print_model) {
		rdt_model_print(stdout, &s.model);
		return 0;
	}
	return simulate(&s);
}
