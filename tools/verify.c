/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdtrain verify: proves the collective algorithms right for every size up to a limit
 * (collectives/verify.h says what is proved), or prints a schedule. Needs no other process and no
 * device.
 */
#include "tools/commands.h"

#include <argp.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collectives/verify.h"

#define MOST_RANKS 64

struct settings {
	int max_ranks, ranks, rank;
	uint64_t bytes;
	enum rdt_collective collective;
	bool one_collective, print, staged;
	const char *algorithm;
};

enum { OPTION_PRINT = 256, OPTION_RANKS, OPTION_BYTES, OPTION_RANK, OPTION_STAGED };

static const struct argp_option options[] = {
	{ "max-ranks", 'n', "N", 0, "Verify for 1 to N ranks (default 33, at most 64)", 0 },
	{ "collective", 'c', "NAME", 0, "Only this one: allreduce, broadcast or barrier", 0 },
	{ "algorithm", 'a', "NAME", 0, "Only this one", 0 },
	{ "print", OPTION_PRINT, NULL, 0, "Print a schedule instead of verifying", 1 },
	{ "ranks", OPTION_RANKS, "N", 0, "With --print: of a group of N ranks (default 4)", 1 },
	{ "bytes", OPTION_BYTES, "B", 0, "With --print: of a vector of B bytes (default 64)", 1 },
	{ "rank", OPTION_RANK, "R", 0, "With --print: only what rank R does", 1 },
	{ "staged", OPTION_STAGED, NULL, 0,
	  "With --print: for an OUTPUT that peers cannot write to", 1 },
	{ 0 },
};

static const char doc[] =
	"Executes the schedules of all ranks symbolically, four operations in a row: every output "
	"element holds each contribution exactly once, in the same order on all ranks; no "
	"deadlock; "
	"no data race, also against the next operation; rounds and bytes as promised."
	"\v"
	"Without --collective and --algorithm, all algorithms are verified. Exit status: 0 when "
	"all "
	"cases passed, 1 at the first fault, 2 when memory ran out.";

static uint64_t number(const struct argp_state *state, const char *name, const char *text,
		       uint64_t least, uint64_t most)
{
	char *end;
	unsigned long long value = strtoull(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || value < least || value > most)
		argp_error(state, "--%s is '%s'; it must be a number from %" PRIu64 " to %" PRIu64,
			   name, text, least, most);
	return value;
}

static enum rdt_collective collective(const struct argp_state *state, const char *name)
{
	for (int c = 0; c < RDT_COLL_COUNT; c++)
		if (strcmp(rdt_collective_name((enum rdt_collective)c), name) == 0)
			return (enum rdt_collective)c;
	argp_error(state, "--collective is '%s'; it must be allreduce, broadcast or barrier", name);
	return RDT_COLL_COUNT;
}

static bool wanted(const struct settings *s, const struct rdt_algorithm *a)
{
	return (!s->one_collective || a->collective == s->collective) &&
	       (!s->algorithm || strcmp(a->name, s->algorithm) == 0);
}

static void check(const struct argp_state *state, const struct settings *s)
{
	const struct rdt_algorithm *a = rdt_algorithms;

	while (a->name && !wanted(s, a))
		a++;
	if (!a->name)
		argp_error(state, "there is no algorithm '%s' for that collective", s->algorithm);
	if (s->rank >= s->ranks)
		argp_error(state, "--rank %d: the ranks are 0 to %d", s->rank, s->ranks - 1);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct settings *s = state->input;

	switch (key) {
	case 'n': s->max_ranks = (int)number(state, "max-ranks", arg, 1, MOST_RANKS); return 0;
	case 'c':
		s->collective = collective(state, arg);
		s->one_collective = true;
		return 0;
	case 'a': s->algorithm = arg; return 0;
	case OPTION_PRINT: s->print = true; return 0;
	case OPTION_RANKS: s->ranks = (int)number(state, "ranks", arg, 1, 4096); return 0;
	case OPTION_BYTES: s->bytes = number(state, "bytes", arg, 0, UINT64_C(1) << 40); return 0;
	case OPTION_RANK: s->rank = (int)number(state, "rank", arg, 0, 4095); return 0;
	case OPTION_STAGED: s->staged = true; return 0;
	case ARGP_KEY_END: check(state, s); return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

/* ---- printing ---------------------------------------------------------------------------- */

static int print_rank(const struct settings *s, const struct rdt_algorithm *a, int rank)
{
	struct rdt_group group = { .rank = rank, .size = s->ranks };
	struct rdt_shape shape = {
		.collective = a->collective,
		.bytes = a->collective == RDT_COLL_BARRIER ? 0 : s->bytes,
		.elem_size = s->bytes % 4 ? 1 : 4,
		.remote_output = !s->staged,
	};
	struct rdt_schedule schedule;
	int status;

	rdt_schedule_init(&schedule);
	status = a->emit(&group, &shape, &schedule);
	if (!status) {
		printf("rank %d of %d: %s by %s, %" PRIu64 " bytes, scratch %" PRIu64 " x %d\n",
		       rank, s->ranks, rdt_collective_name(a->collective), a->name, shape.bytes,
		       schedule.scratch_bytes, schedule.scratch_epochs);
		rdt_schedule_print(stdout, &schedule);
	}
	rdt_schedule_free(&schedule);
	return status;
}

static int print(const struct settings *s)
{
	const struct rdt_algorithm *a;

	if (s->algorithm) {
		for (a = rdt_algorithms; !wanted(s, a); a++)
			;
	} else {
		a = rdt_algorithm_select(s->one_collective ? s->collective : RDT_COLL_ALLREDUCE,
					 s->ranks, s->bytes);
	}
	for (int rank = 0; rank < s->ranks; rank++)
		if ((s->rank < 0 || s->rank == rank) && print_rank(s, a, rank)) {
			fprintf(stderr, "rdtrain verify: out of memory for the schedule\n");
			return 2;
		}
	return 0;
}

/* ---- verifying --------------------------------------------------------------------------- */

/* What one algorithm has shown so far. */
struct record {
	int max_ranks; /* the group in which bounds are compared */
	uint64_t cases;
	int rounds;	     /* the most, there */
	uint64_t bytes, put; /* there: the longest vector, and the most that a rank put for it */
	struct rdt_verify_case c;
	struct rdt_verify_result result;
};

static int visit(void *arg, const struct rdt_verify_case *c)
{
	struct record *r = arg;
	int status;

	r->c = *c;
	status = rdt_verify(c, &r->result);
	if (status)
		return status;
	r->cases++;
	if (c->size == r->max_ranks) {
		uint64_t bytes = c->count * c->elem_size;

		if (r->result.rounds > r->rounds)
			r->rounds = r->result.rounds;
		if (bytes > r->bytes)
			r->bytes = bytes;
		if (bytes == r->bytes && r->result.max_bytes_put > r->put)
			r->put = r->result.max_bytes_put;
	}
	return 0;
}

static int least_rounds(int ranks)
{
	int rounds = 0;

	for (int reached = 1; reached < ranks; reached *= 2)
		rounds++;
	return rounds;
}

/* The least that the busiest rank must put, in vectors: an allreduce where all put alike, a
 * broadcast that everybody takes part in. */
static double least_vectors(enum rdt_collective c, int ranks)
{
	switch (c) {
	case RDT_COLL_ALLREDUCE: return 2.0 * (ranks - 1) / ranks;
	case RDT_COLL_BROADCAST: return ranks > 1;
	default: return 0;
	}
}

static void print_row(const struct rdt_algorithm *a, const struct record *r)
{
	double vectors = r->bytes ? (double)r->put / (double)r->bytes : 0;
	char ranks[16];

	snprintf(ranks, sizeof(ranks), "1..%d", r->max_ranks);
	printf("%-10s  %-14s  %-6s  %6" PRIu64 "  %6d  %6d  %8.3f  %8.3f\n",
	       rdt_collective_name(a->collective), a->name, ranks, r->cases, r->rounds,
	       least_rounds(r->max_ranks), vectors, least_vectors(a->collective, r->max_ranks));
}

static int report_fault(const struct record *r)
{
	const struct rdt_verify_case *c = &r->c;

	printf("FAULT: %s by %s, %d ranks, %" PRIu64 " then %" PRIu64 " elements of %u bytes, root "
	       "%d%s%s:\n  %s\n",
	       rdt_collective_name(c->algorithm->collective), c->algorithm->name, c->size, c->count,
	       c->next_count, c->elem_size, c->root, c->in_place ? ", in place" : "",
	       c->remote_output ? "" : ", staged", r->result.fault);
	return 1;
}

static int verify_algorithm(const struct settings *s, const struct rdt_algorithm *a,
			    uint64_t *cases)
{
	struct record record = { .max_ranks = s->max_ranks };
	bool progress = isatty(STDERR_FILENO);
	int status = 0;

	for (int size = 1; size <= s->max_ranks && !status; size++) {
		if (progress)
			fprintf(stderr, "\r\033[K%s %s: %d ranks",
				rdt_collective_name(a->collective), a->name, size);
		status = rdt_verify_cases(a, size, visit, &record);
	}
	if (progress)
		fprintf(stderr, "\r\033[K");
	*cases += record.cases;
	if (status < 0)
		fprintf(stderr, "rdtrain verify: out of memory\n");
	if (status)
		return status < 0 ? 2 : report_fault(&record);
	print_row(a, &record);
	return 0;
}

static int verify(const struct settings *s)
{
	uint64_t cases = 0;

	printf("%-10s  %-14s  %-6s  %6s  %6s  %6s  %8s  %8s\n", "collective", "algorithm", "ranks",
	       "cases", "rounds", "log2", "vectors", "least");
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++) {
		int status = wanted(s, a) ? verify_algorithm(s, a, &cases) : 0;

		if (status)
			return status;
		fflush(stdout);
	}
	printf("rounds: longest chain of puts with %d ranks; log2: rounds when a rank puts to one "
	       "other at a time.\nvectors: what the busiest rank puts, in lengths of the vector; "
	       "least: the bound.\n%" PRIu64 " cases, all passed\n",
	       s->max_ranks, cases);
	return 0;
}

int rdt_cmd_verify(int argc, char **argv)
{
	static const struct argp argp = { options, parse, NULL, doc, NULL, NULL, NULL };
	struct settings s = { .max_ranks = 33, .ranks = 4, .rank = -1, .bytes = 64 };

	if (argp_parse(&argp, argc, argv, 0, NULL, &s))
		return 1;
	return s.print ? print(&s) : verify(&s);
}
