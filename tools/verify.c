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
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collectives/meaning.h"
#include "collectives/verify.h"

struct settings {
	int max_ranks, ranks, rank;
	int hosts, jobs;
	uint64_t bytes;
	enum rdt_collective collective;
	bool one_collective, print, staged, mapped;
	const char *algorithm;
};

enum {
	OPTION_PRINT = 256,
	OPTION_RANKS,
	OPTION_BYTES,
	OPTION_RANK,
	OPTION_STAGED,
	OPTION_HOSTS,
	OPTION_MAPPED
};

static const struct argp_option options[] = {
	{ "max-ranks", 'n', "N", 0, "Verify for 1 to N ranks (default 33, at most 64)", 0 },
	{ "jobs", 'j', "N", 0, "Work in N processes (default: one for each processor)", 0 },
	{ "collective", 'c', "NAME", 0, "Only this one: allreduce, alltoall, ...", 0 },
	{ "algorithm", 'a', "NAME", 0, "Only this one", 0 },
	{ "print", OPTION_PRINT, NULL, 0, "Print a schedule instead of verifying", 1 },
	{ "ranks", OPTION_RANKS, "N", 0, "With --print: of a group of N ranks (default 4)", 1 },
	{ "bytes", OPTION_BYTES, "B", 0,
	  "With --print: of a vector, or of blocks, of B bytes (default 64)", 1 },
	{ "rank", OPTION_RANK, "R", 0, "With --print: only what rank R does", 1 },
	{ "staged", OPTION_STAGED, NULL, 0,
	  "With --print: for an OUTPUT that peers cannot write to", 1 },
	{ "hosts", OPTION_HOSTS, "H", 0,
	  "With --print: ranks on H hosts, as many on each as fit (default: each on its own)", 1 },
	{ "mapped", OPTION_MAPPED, NULL, 0,
	  "With --print: INPUT and OUTPUT mapped by the ranks of a host", 1 },
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
	argp_error(state, "--collective is '%s'; the table that `rdtrain verify` prints lists them",
		   name);
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
	case 'n':
		s->max_ranks = (int)number(state, "max-ranks", arg, 1, RDT_VERIFY_RANKS);
		return 0;
	case 'c':
		s->collective = collective(state, arg);
		s->one_collective = true;
		return 0;
	case 'a': s->algorithm = arg; return 0;
	case OPTION_PRINT: s->print = true; return 0;
	case OPTION_RANKS:
		s->ranks = (int)number(state, "ranks", arg, 1, RDT_VERIFY_RANKS);
		return 0;
	case OPTION_BYTES: s->bytes = number(state, "bytes", arg, 0, UINT64_C(1) << 40); return 0;
	case OPTION_RANK: s->rank = (int)number(state, "rank", arg, 0, 4095); return 0;
	case OPTION_STAGED: s->staged = true; return 0;
	case OPTION_HOSTS:
		s->hosts = (int)number(state, "hosts", arg, 1, RDT_VERIFY_RANKS);
		return 0;
	case OPTION_MAPPED: s->mapped = true; return 0;
	case 'j': s->jobs = (int)number(state, "jobs", arg, 1, 64); return 0;
	case ARGP_KEY_END: check(state, s); return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

/* ---- printing ---------------------------------------------------------------------------- */

static struct rdt_verify_case printed_case(const struct settings *s, const struct rdt_algorithm *a,
					   int *host)
{
	uint32_t elem = s->bytes % 4 ? 1 : 4;

	for (int r = 0; r < s->ranks; r++)
		host[r] = r * s->hosts / s->ranks;
	return (struct rdt_verify_case){
		.algorithm = a,
		.size = s->ranks,
		.count = s->bytes / elem,
		.elem_size = elem,
		.remote_output = !s->staged,
		.mapped = s->mapped,
		.host = s->hosts ? host : NULL,
	};
}

static int print_rank(const struct rdt_verify_case *c, int rank)
{
	const struct rdt_algorithm *a = c->algorithm;
	struct rdt_group group = { .rank = rank, .size = c->size };
	struct rdt_case_shape shape;
	struct rdt_schedule schedule;
	int status;

	rdt_verify_shape(c, 0, rank, &shape);
	rdt_schedule_init(&schedule);
	status = a->emit(&group, &shape.shape, &schedule);
	if (!status) {
		printf("rank %d of %d: %s by %s, %" PRIu64 " bytes, scratch %" PRIu64 " x %d\n",
		       rank, c->size, rdt_collective_name(a->collective), a->name,
		       c->count * c->elem_size, schedule.scratch_bytes, schedule.scratch_epochs);
		rdt_schedule_print(stdout, &schedule);
	}
	rdt_schedule_free(&schedule);
	return status;
}

static int print(const struct settings *s)
{
	const struct rdt_algorithm *a = rdt_algorithms;
	int host[RDT_VERIFY_RANKS];
	struct rdt_verify_case c;
	struct rdt_case_shape shape;

	while (!wanted(s, a))
		a++;
	c = printed_case(s, a, host);
	rdt_verify_shape(&c, 0, 0, &shape);
	if (!rdt_algorithm_applies(a, c.size, &shape.shape) ||
	    (a->collective == RDT_COLL_SEND && c.size > 2)) {
		fprintf(stderr,
			"rdtrain verify: %s by %s does not apply to %d ranks%s; try other --ranks "
			"and --hosts\n",
			rdt_collective_name(a->collective), a->name, c.size,
			s->hosts ? " on these hosts" : ", each on a host of its own");
		return 1;
	}
	for (int rank = 0; rank < s->ranks; rank++)
		if ((s->rank < 0 || s->rank == rank) && print_rank(&c, rank)) {
			fprintf(stderr, "rdtrain verify: out of memory for the schedule\n");
			return 2;
		}
	return 0;
}

/* ---- verifying --------------------------------------------------------------------------- */

/* What one algorithm has shown so far; shared by the processes that work on it. */
struct record {
	uint64_t cases;
	int rounds; /* the most, in the largest group */
	/* There: the longest vector, if possible one that the ranks divide evenly, so that a bound
	 * can be met exactly, and the most that a rank put for it. */
	bool even;
	uint64_t bytes, put;
	int status; /* of rdt_verify; not 0: `text` says what */
	char text[1024];
};

/* One process' part of the work: every jobs-th case. */
struct worker {
	struct record *record;
	int number, jobs, max_ranks;
	uint64_t next;
};

static void describe(const struct rdt_verify_case *c, const char *fault, char *text, size_t size)
{
	char hosts[160] = "", after[64] = "";

	for (int r = 0; r < c->size && c->host; r++)
		snprintf(hosts + strlen(hosts), sizeof(hosts) - strlen(hosts), "%s%d",
			 r ? "," : ", hosts ", c->host[r]);
	if (c->next)
		snprintf(after, sizeof(after), " and %s by %s in turn",
			 rdt_collective_name(c->next->collective), c->next->name);
	snprintf(text, size,
		 "%s by %s%s, %d ranks, %" PRIu64 " then %" PRIu64
		 " elements of %u bytes, root %d%s%s%s%s%s:\n  %s",
		 rdt_collective_name(c->algorithm->collective), c->algorithm->name, after, c->size,
		 c->count, c->next_count, c->elem_size, c->root, c->ragged ? ", ragged" : "",
		 c->in_place ? ", in place" : "", c->remote_output ? "" : ", staged",
		 c->mapped ? ", mapped" : "", hosts, fault);
}

/* What an algorithm's traffic is measured by: a vector, or all blocks together. */
static uint64_t vector_elements(const struct rdt_verify_case *c)
{
	bool blocks = rdt_collective_blocks(c->algorithm->collective);

	return c->count * (blocks ? (uint64_t)c->size : 1);
}

/* Takes over what another record has of rounds and bytes. */
static void note(struct record *r, const struct record *other)
{
	if (other->rounds > r->rounds)
		r->rounds = other->rounds;
	if (other->even < r->even || (other->even == r->even && other->bytes < r->bytes))
		return;
	if (other->even > r->even || other->bytes > r->bytes || other->put > r->put)
		r->put = other->put;
	r->even = other->even;
	r->bytes = other->bytes;
}

static int visit(void *arg, const struct rdt_verify_case *c)
{
	struct worker *w = arg;
	struct record *r = w->record;
	struct rdt_verify_result result;

	if (w->next++ % (uint64_t)w->jobs != (uint64_t)w->number)
		return 0;
	r->status = rdt_verify(c, &result);
	if (r->status) {
		describe(c, result.fault, r->text, sizeof(r->text));
		return r->status;
	}
	r->cases++;
	if (c->size == w->max_ranks && !c->ragged)
		note(r, &(struct record){ .rounds = result.rounds,
					  .even = vector_elements(c) % (uint64_t)c->size == 0,
					  .bytes = vector_elements(c) * c->elem_size,
					  .put = result.max_bytes_put });
	return 0;
}

static int work(struct worker *w, const struct rdt_algorithm *a)
{
	bool progress = isatty(STDERR_FILENO) && w->number == 0;
	int status = 0;

	for (int size = 1; size <= w->max_ranks && !status; size++) {
		if (progress)
			fprintf(stderr, "\r\033[K%s: %d ranks", a ? a->name : "pairs", size);
		status = a ? rdt_verify_cases(a, size, visit, w) : rdt_verify_pairs(size, visit, w);
	}
	if (progress)
		fprintf(stderr, "\r\033[K");
	return status;
}

/* Merges what the others found into the first record. */
static void merge(struct record *all, int jobs)
{
	for (int j = 1; j < jobs; j++) {
		struct record *sum = &all[0], *r = &all[j];

		sum->cases += r->cases;
		note(sum, r);
		if (r->status && !sum->status) {
			sum->status = r->status;
			memcpy(sum->text, r->text, sizeof(sum->text));
		}
	}
}

/* Divides the cases of an algorithm (NULL: the pairs) among processes; 0, 1 a fault, 2 trouble. */
static int verify_in_parallel(const struct settings *s, const struct rdt_algorithm *a,
			      int max_ranks, struct record *records)
{
	pid_t children[64] = { 0 };
	int trouble = 0;

	memset(records, 0, sizeof(*records) * (size_t)s->jobs);
	for (int j = 0; j < s->jobs; j++) {
		struct worker w = { &records[j], j, s->jobs, max_ranks, 0 };

		children[j] = fork();
		if (children[j] == 0)
			_exit(work(&w, a) < 0 ? 2 : 0);
		if (children[j] < 0)
			trouble = 2;
	}
	for (int j = 0; j < s->jobs; j++) {
		int how = 0;

		if (children[j] > 0 && (waitpid(children[j], &how, 0) < 0 || how != 0))
			trouble = 2;
	}
	merge(records, s->jobs);
	if (records->status > 0) {
		printf("FAULT: %s\n", records->text);
		return 1;
	}
	if (trouble)
		fprintf(stderr, "rdtrain verify: out of memory, or of processes\n");
	return trouble;
}

static int least_rounds(enum rdt_collective collective, int ranks)
{
	int rounds = 0;

	for (int reached = 1; reached < ranks; reached *= 2)
		rounds++;
	return collective == RDT_COLL_SEND ? ranks > 1 : rounds;
}

/* The least that the busiest rank must put, in vectors: an allreduce where all put alike, a
 * broadcast that everybody takes part in. */
static double least_vectors(enum rdt_collective c, int ranks)
{
	double others = (double)(ranks - 1) / ranks;

	switch (c) {
	case RDT_COLL_ALLREDUCE: return 2 * others;
	case RDT_COLL_BROADCAST:
	case RDT_COLL_REDUCE:
	case RDT_COLL_SEND: return ranks > 1;
	case RDT_COLL_REDUCE_SCATTER:
	case RDT_COLL_ALLGATHER:
	case RDT_COLL_SCATTER:
	case RDT_COLL_ALLTOALL: return others;
	case RDT_COLL_GATHER: return ranks > 1 ? 1.0 / ranks : 0;
	default: return 0;
	}
}

static void print_row(const struct rdt_algorithm *a, int ranks, const struct record *r)
{
	double vectors = r->bytes ? (double)r->put / (double)r->bytes : 0;
	char range[16];

	snprintf(range, sizeof(range), "1..%d", ranks);
	printf("%-14s  %-22s  %-6s  %6" PRIu64 "  %6d  %6d  %8.3f  %8.3f\n",
	       rdt_collective_name(a->collective), a->name, range, r->cases, r->rounds,
	       least_rounds(a->collective, ranks), vectors, least_vectors(a->collective, ranks));
}

#define PAIRS_RANKS 8 /* groups in which every algorithm is run after every other */

static int verify_all(const struct settings *s, struct record *records)
{
	uint64_t cases = 0;
	int status;

	printf("%-14s  %-22s  %-6s  %6s  %6s  %6s  %8s  %8s\n", "collective", "algorithm", "ranks",
	       "cases", "rounds", "log2", "vectors", "least");
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++) {
		int ranks = a->collective == RDT_COLL_SEND && s->max_ranks > 2 ? 2 : s->max_ranks;

		if (!wanted(s, a))
			continue;
		status = verify_in_parallel(s, a, ranks, records);
		if (status)
			return status;
		cases += records->cases;
		print_row(a, ranks, records);
		fflush(stdout);
	}
	if (!s->one_collective && !s->algorithm) {
		int ranks = s->max_ranks < PAIRS_RANKS ? s->max_ranks : PAIRS_RANKS;

		status = verify_in_parallel(s, NULL, ranks, records);
		if (status)
			return status;
		cases += records->cases;
		printf("every one after every other, two plans over the same buffers, 1..%d ranks: "
		       "%" PRIu64 " cases\n",
		       ranks, records->cases);
	}
	printf("rounds: longest chain of puts in the largest group, with the notifications that "
	       "allow them; log2: ceil(log2 n).\nvectors: what the busiest rank puts, in lengths "
	       "of "
	       "the vector or of all blocks together; least: the bound.\n%" PRIu64
	       " cases, all passed\n",
	       cases);
	return 0;
}

static int verify(const struct settings *s)
{
	size_t bytes = sizeof(struct record) * (size_t)s->jobs;
	struct record *records =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;

	if (records == MAP_FAILED) {
		fprintf(stderr, "rdtrain verify: out of memory\n");
		return 2;
	}
	fflush(stdout);
	status = verify_all(s, records);
	munmap(records, bytes);
	return status;
}

int rdt_cmd_verify(int argc, char **argv)
{
	static const struct argp argp = { options, parse, NULL, doc, NULL, NULL, NULL };
	struct settings s = { .max_ranks = 33, .ranks = 4, .rank = -1, .bytes = 64 };
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	s.jobs = processors < 1 ? 1 : processors > 64 ? 64 : (int)processors;

	if (argp_parse(&argp, argc, argv, 0, NULL, &s))
		return 1;
	return s.print ? print(&s) : verify(&s);
}
