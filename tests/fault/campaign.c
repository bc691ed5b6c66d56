/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * campaign [--runs N] [--seed S] [--transport shm|verbs|auto] [--only PHASE] ...: the kill
 * campaign, see campaign.h. Prints what was wrong with which run, and the distribution of the times
 * from the fault to the error. A run depends on the seed and its number only: `--first K --runs 1`
 * is run K again.
 */
#include "campaign.h"

#include <dirent.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "ranks.h"

#define OVER_S 0.5 /* how much later than a deadline a stopped rank may be noticed */
/* The latest notice of a killed rank, on shm and where there is verbs; shm: half of them. */
#define KILL_SHM_MAX_MS 1000.0
#define KILL_MAX_MS 3000.0
#define KILL_SHM_MEDIAN_MS 100.0
#define RECOVERY_S 8.0	   /* the latest sum among the survivors, with a deadline before it */
#define LINK_MAX_MS 3000.0 /* the latest notice of a host that is cut off */
#define SETTLE_S 3.0	   /* for the kernel to take back queue pairs of processes that are gone */

struct times {
	double *ms;
	size_t n, room;
};

struct campaign {
	struct campaign_options options;
	char log_dir[64];
	int bad;
	struct times killed[PHASES], stopped[PHASES];
	struct times cut_off[2]; /* by host */
	struct times recovered[PHASES][FAULTS];
	int runs[PHASES][FAULTS], unknown; /* unknown: killed before the ranks could meet */
};

static bool is_shm(const struct campaign_options *options)
{
	return strcmp(options->transport, "shm") == 0;
}

/* Must there be queue pairs to count? The choice on one host may be shm, on a machine that has
 * nothing to count them with. */
static bool needs_verbs(const struct campaign_options *options)
{
	return !is_shm(options) && (options->hosts > 1 || strcmp(options->transport, "auto") != 0);
}

/* ---- times ------------------------------------------------------------------------------------
 */

static void add(struct times *t, double ms)
{
	if (t->n == t->room) {
		t->room = t->room ? 2 * t->room : 64;
		t->ms = realloc(t->ms, t->room * sizeof(*t->ms));
		if (!t->ms)
			abort();
	}
	t->ms[t->n++] = ms;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The smallest that at least this part of them does not exceed. */
static double quantile(const struct times *t, double part)
{
	size_t k = (size_t)(part * (double)t->n + 0.999999);

	return t->ms[k ? k - 1 : 0];
}

static void print_times(const char *name, int runs, struct times *t)
{
	if (!t->n)
		return;
	qsort(t->ms, t->n, sizeof(*t->ms), compare);
	printf("  %-10s %5d %9zu %10.1f %10.1f %10.1f %10.1f %10.1f\n", name, runs, t->n, t->ms[0],
	       quantile(t, 0.5), quantile(t, 0.9), quantile(t, 0.99), t->ms[t->n - 1]);
}

static void print_table(const struct campaign *campaign, const char *title,
			struct times *of_phase[PHASES], int fault)
{
	struct times total = { 0 };
	int runs = 0;

	for (int p = 0; p < PHASES; p++)
		runs += campaign->runs[p][fault];
	if (!runs)
		return;
	printf("%s\n  %-10s %5s %9s %10s %10s %10s %10s %10s\n", title, "phase", "runs",
	       "survivors", "min", "median", "p90", "p99", "max");
	for (int p = 0; p < PHASES; p++) {
		print_times(campaign_phase_name(p), campaign->runs[p][fault], of_phase[p]);
		for (size_t i = 0; i < of_phase[p]->n; i++)
			add(&total, of_phase[p]->ms[i]);
	}
	print_times("all", runs, &total);
	free(total.ms);
}

/* ---- what is wrong with a run ----------------------------------------------------------------
 */

struct verdict {
	int problems;
	char text[2000];
};

static void __attribute__((format(printf, 2, 3))) wrong(struct verdict *v, const char *format, ...)
{
	size_t n = strlen(v->text);
	va_list args;

	v->problems++;
	n += (size_t)snprintf(v->text + n, sizeof(v->text) - n, "\n    ");
	if (n >= sizeof(v->text))
		return;
	va_start(args, format);
	vsnprintf(v->text + n, sizeof(v->text) - n, format, args);
	va_end(args);
}

/* How many ranks the rendezvous knew just after this moment. */
static int here_after(const struct campaign_case *c, const struct campaign_result *result,
		      int64_t at)
{
	int n = 0;

	for (int r = 0; r < c->n; r++) {
		const struct campaign_rank *rank = &result->rank[r];

		n += rank->joined_at && rank->joined_at <= at &&
		     (!rank->gone_at || rank->gone_at > at);
	}
	return n;
}

/* This rank came when the victim was gone, and with it all that knew of it: to a rendezvous where
 * the job had ended, and for which it was the first of another run. None but a deadline can tell
 * that the victim will not come. */
static bool came_too_late(const struct campaign_case *c, const struct campaign_result *result,
			  int rank)
{
	const struct campaign_rank *victim = &result->rank[c->victim];
	int64_t joined = result->rank[rank].joined_at;

	if (!victim->joined_at)
		return true;
	for (int r = 0; r < c->n; r++) {
		int64_t at = result->rank[r].gone_at;

		if (at && victim->gone_at && at >= victim->gone_at && at <= joined &&
		    here_after(c, result, at) == 0)
			return true;
	}
	return false;
}

static bool all_came_too_late(const struct campaign_case *c, const struct campaign_result *result)
{
	for (int r = 0; r < c->n; r++)
		if (r != c->victim && !came_too_late(c, result, r))
			return false;
	return true;
}

/* The class of the error that this survivor must see. */
static int expected_status(const struct campaign_case *c, const struct campaign_result *result,
			   int rank)
{
	const struct campaign_rank *r = &result->rank[rank];

	/* It has no link yet, and knows of nobody but that the rendezvous does not answer. */
	if (c->fault == FAULT_LINK && r->operations == 0 && r->status == RDT_ERR_UNREACHABLE &&
	    r->lost == 0)
		return RDT_ERR_UNREACHABLE;
	/* In the phase of shrink, the error is for the one that was killed first. */
	if (c->fault == FAULT_STOP && c->phase != PHASE_SHRINK)
		return RDT_ERR_TIMEOUT;
	if (c->phase == PHASE_START && came_too_late(c, result, rank))
		return RDT_ERR_TIMEOUT;
	return RDT_ERR_PEER_LOST;
}

static uint64_t ranks_of_host(const struct campaign *campaign, const struct campaign_case *c,
			      int host)
{
	uint64_t ranks = 0;

	for (int r = 0; r < c->n; r++)
		if (campaign_host_of(&campaign->options, c->n, r) == host)
			ranks |= 1ull << r;
	return ranks;
}

/* Does this rank name those that are lost? */
static bool names_the_lost(const struct campaign *campaign, const struct campaign_case *c, int rank,
			   uint64_t lost)
{
	int host = campaign_host_of(&campaign->options, c->n, rank);

	if (c->fault != FAULT_LINK)
		return lost == 1ull << (c->first >= 0 ? c->first : c->victim);
	return lost == ranks_of_host(campaign, c, !host);
}

/* The moment of the fault that the first error is for. */
static int64_t noticed(const struct campaign_case *c, const struct campaign_result *result)
{
	return c->first >= 0 ? result->first_at : result->fault_at;
}

static void judge_recovery(const struct campaign_case *c, const struct campaign_rank *r, int rank,
			   struct verdict *v)
{
	int left = c->n - (c->first >= 0 ? 2 : 1);

	if (r->next_status || r->next_size != left)
		wrong(v, "rank %d could not go on: '%s', %d ranks instead of %d (%s)", rank,
		      rdt_strerror(r->next_status), r->next_size, left, r->text);
	if (r->stale)
		wrong(v, "rank %d: its buffers were written to after rdt_comm_shrink", rank);
}

static void judge_survivor(const struct campaign *campaign, const struct campaign_case *c,
			   const struct campaign_result *result, int rank, struct verdict *v)
{
	const struct campaign_rank *r = &result->rank[rank];
	int expected = expected_status(c, result, rank);

	if (!r->error_at) {
		wrong(v, "rank %d has returned no error; it was %s for %.1f s (%d operations)",
		      rank, r->doing, (double)(rdt_now() - r->called_at) / 1e9, r->operations);
		return;
	}
	if (!WIFEXITED(r->exit_status) || WEXITSTATUS(r->exit_status) != 0)
		wrong(v, "rank %d ended with wait status 0x%x, after %s", rank, r->exit_status,
		      r->doing);
	if (r->status != expected)
		wrong(v, "rank %d: '%s' instead of '%s' (%s)", rank, rdt_strerror(r->status),
		      rdt_strerror(expected), r->text);
	if (r->again != r->status)
		wrong(v, "rank %d: '%s', and then '%s'", rank, rdt_strerror(r->status),
		      rdt_strerror(r->again));
	/* Without a communicator there is nobody to ask. */
	if (r->ready && expected != RDT_ERR_UNREACHABLE &&
	    !names_the_lost(campaign, c, rank, r->lost))
		wrong(v, "rank %d: names ranks 0x%llx as lost (%s)", rank,
		      (unsigned long long)r->lost, r->text);
	if (r->error_at < noticed(c, result))
		wrong(v, "rank %d: an error %.3f ms before the fault (%s)", rank,
		      (double)(noticed(c, result) - r->error_at) / 1e6, r->text);
	if (r->ready && c->fault != FAULT_LINK)
		judge_recovery(c, r, rank, v);
	if (r->input_changed)
		wrong(v, "rank %d: INPUT was changed by a call that failed", rank);
	if (r->fds_left)
		wrong(v, "rank %d: %d descriptors left open", rank, r->fds_left);
	if (r->qps_left > 0)
		wrong(v, "rank %d: %d queue pairs left", rank, r->qps_left);
	if (r->qps_left < 0 && needs_verbs(&campaign->options))
		wrong(v, "rank %d: its queue pairs cannot be counted ('rdma resource show qp')",
		      rank);
}

static void judge_rank(const struct campaign *campaign, const struct campaign_case *c,
		       const struct campaign_result *result, int rank, struct verdict *v)
{
	const struct campaign_rank *r = &result->rank[rank];
	bool killed = rank == c->first || c->fault == FAULT_KILL || c->wake == WAKE_NEVER;

	if (r->wrong)
		wrong(v, "rank %d: %u wrong elements in %u operations", rank, r->wrong,
		      r->operations);
	if ((rank != c->victim && rank != c->first) || c->fault == FAULT_LINK)
		judge_survivor(campaign, c, result, rank, v);
	else if (killed && !(WIFSIGNALED(r->exit_status) && WTERMSIG(r->exit_status) == SIGKILL))
		wrong(v, "the victim ended with wait status 0x%x", r->exit_status);
	else if (!killed && !(WIFEXITED(r->exit_status) && WEXITSTATUS(r->exit_status) == 0))
		wrong(v, "the stopped rank went on and ended with wait status 0x%x, after %s",
		      r->exit_status, r->doing);
	else if (!killed && c->first >= 0 && r->next_status >= 0)
		wrong(v, "the stopped rank went on and believes to be one of %d survivors",
		      r->next_size);
	else if (!killed && r->status >= 0)
		wrong(v, "the stopped rank went on and has seen no error");
}

/* Takes the times, and judges those that have a bound of their own. */
static void take_times(struct campaign *campaign, const struct campaign_case *c,
		       const struct campaign_result *result, struct verdict *v)
{
	double deadline = c->phase == PHASE_START ? campaign->options.start_deadline_s
						  : campaign->options.deadline_s;

	for (int rank = 0; rank < c->n; rank++) {
		const struct campaign_rank *r = &result->rank[rank];
		int64_t fault_at = noticed(c, result);
		int64_t from = fault_at > r->began_at ? fault_at : r->began_at;
		double ms = (double)(r->error_at - fault_at) / 1e6, recovery_ms;

		if (c->fault == FAULT_LINK && r->error_at) {
			int host = campaign_host_of(&campaign->options, c->n, rank);

			add(&campaign->cut_off[host], ms);
			if (ms > LINK_MAX_MS)
				wrong(v, "rank %d: %.1f ms after the link was cut", rank, ms);
			continue;
		}
		if (rank == c->victim || rank == c->first || !r->error_at)
			continue;
		if (r->recovered_at && !r->next_status) {
			recovery_ms = (double)(r->recovered_at - result->fault_at) / 1e6;
			add(&campaign->recovered[c->phase][c->fault], recovery_ms);
			if (recovery_ms > (RECOVERY_S + campaign->options.deadline_s) * 1e3)
				wrong(v, "rank %d: %.1f ms from the fault to the survivors' sum",
				      rank, recovery_ms);
		}
		if (r->status == RDT_ERR_PEER_LOST) {
			add(&campaign->killed[c->phase], ms);
			if (ms > (is_shm(&campaign->options) ? KILL_SHM_MAX_MS : KILL_MAX_MS))
				wrong(v, "rank %d: %.1f ms after a rank was killed", rank, ms);
		} else if (c->fault == FAULT_STOP) {
			/* An operation's deadline also ends what is left of the start. */
			if (r->ready)
				deadline = campaign->options.deadline_s;
			ms = (double)(r->error_at - from) / 1e6;
			add(&campaign->stopped[c->phase], ms);
			if (ms > (deadline + OVER_S) * 1e3)
				wrong(v, "rank %d: %.1f ms in a call whose deadline is %.0f", rank,
				      ms, deadline * 1e3);
		}
	}
}

/* ---- what is left on the machine -------------------------------------------------------------
 */

struct machine {
	int queue_pairs, shm_files;
	long shmem_kib;
};

static long shmem_kib(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	char line[128];
	long kib = -1;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Shmem: %ld", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib;
}

static int shm_files(void)
{
	DIR *dir = opendir("/dev/shm");
	struct dirent *entry;
	int n = 0;

	while (dir && (entry = readdir(dir)))
		n += strstr(entry->d_name, "rdt") != NULL;
	if (dir)
		closedir(dir);
	return n;
}

static void look(const struct campaign *campaign, struct machine *m)
{
	bool verbs = !is_shm(&campaign->options);

	m->queue_pairs = verbs && campaign->options.alone ? campaign_queue_pairs(0) : 0;
	m->shm_files = shm_files();
	m->shmem_kib = campaign->options.alone ? shmem_kib() : 0;
}

/* Only where the campaign has the machine for itself is all that is there its own. */
static void judge_machine(const struct campaign *campaign, const struct machine *before,
			  struct verdict *v)
{
	int64_t deadline = rdt_deadline(SETTLE_S);
	struct machine after;

	for (;;) {
		look(campaign, &after);
		if (after.queue_pairs <= before->queue_pairs || rdt_now() > deadline)
			break;
		usleep(50000);
	}
	if ((before->queue_pairs < 0 || after.queue_pairs < 0) && needs_verbs(&campaign->options))
		wrong(v, "queue pairs cannot be counted ('rdma resource show qp')");
	else if (after.queue_pairs > before->queue_pairs)
		wrong(v, "%d queue pairs are left, %d were there before", after.queue_pairs,
		      before->queue_pairs);
	if (after.shm_files > before->shm_files)
		wrong(v, "%d files in /dev/shm, %d were there before", after.shm_files,
		      before->shm_files);
	if (after.shmem_kib > before->shmem_kib + 1024)
		wrong(v, "%ld KiB of shared memory, %ld before", after.shmem_kib,
		      before->shmem_kib);
}

/* ---- the runs ---------------------------------------------------------------------------------
 */

static void show_logs(const struct campaign *campaign, int n)
{
	for (int r = -1; r < n; r++) {
		char path[128], line[1024];
		FILE *file;

		if (r < 0)
			snprintf(path, sizeof(path), "%s/service", campaign->log_dir);
		else
			snprintf(path, sizeof(path), "%s/rank%d", campaign->log_dir, r);
		file = fopen(path, "re");
		while (file && fgets(line, sizeof(line), file))
			printf("    [%s] %s", strrchr(path, '/') + 1, line);
		if (file)
			fclose(file);
	}
}

static void remove_logs(const struct campaign *campaign)
{
	char path[128];

	for (int r = -1; r < CAMPAIGN_RANKS; r++) {
		if (r < 0)
			snprintf(path, sizeof(path), "%s/service", campaign->log_dir);
		else
			snprintf(path, sizeof(path), "%s/rank%d", campaign->log_dir, r);
		unlink(path);
	}
}

static bool run_one(struct campaign *campaign, int number)
{
	struct campaign_result result;
	struct verdict verdict = { 0 };
	struct machine before;
	struct campaign_case c;
	char text[300];
	int64_t began = rdt_now();

	campaign_case_make(&campaign->options, number, &c);
	campaign_case_describe(&c, text, sizeof(text));
	look(campaign, &before);
	if (!campaign_run(&campaign->options, &c, campaign->log_dir, &result)) {
		printf("%s: the run could not be made\n", text);
		show_logs(campaign, c.n);
		return false;
	}
	campaign->runs[c.phase][c.fault]++;
	if (c.phase == PHASE_START && c.fault == FAULT_KILL && all_came_too_late(&c, &result))
		campaign->unknown++;
	for (int r = 0; r < c.n && result.timed_out; r++)
		if (!result.rank[r].ended)
			wrong(&verdict, "rank %d has not ended in time, last seen %s", r,
			      result.rank[r].doing);
	if (result.trouble[0])
		wrong(&verdict, "%s", result.trouble);
	if (result.left_behind[0])
		wrong(&verdict, "left behind: %s", result.left_behind);
	for (int r = 0; r < c.n; r++)
		judge_rank(campaign, &c, &result, r, &verdict);
	take_times(campaign, &c, &result, &verdict);
	judge_machine(campaign, &before, &verdict);
	if (verdict.problems) {
		campaign->bad++;
		printf("WRONG %s%s\n", text, verdict.text);
		show_logs(campaign, c.n);
	} else if (campaign->options.verbose) {
		printf("ok %s (%.2f s)\n", text, (double)(rdt_now() - began) / 1e9);
	}
	fflush(stdout);
	remove_logs(campaign);
	return true;
}

static void report_kinds(struct campaign *campaign)
{
	struct times *killed[PHASES], *stopped[PHASES], *after_kill[PHASES], *after_stop[PHASES];

	for (int p = 0; p < PHASES; p++) {
		killed[p] = &campaign->killed[p];
		stopped[p] = &campaign->stopped[p];
		after_kill[p] = &campaign->recovered[p][FAULT_KILL];
		after_stop[p] = &campaign->recovered[p][FAULT_STOP];
	}
	print_table(campaign, "SIGKILL to the survivors' error, ms", killed, FAULT_KILL);
	if (campaign->unknown)
		printf("  (%d of the runs of start: killed before anybody had met it, so that "
		       "the others could only wait for their deadline)\n",
		       campaign->unknown);
	print_table(campaign,
		    "SIGSTOP: length of the survivors' call, or of what the stop left of it, ms",
		    stopped, FAULT_STOP);
	print_table(campaign, "SIGKILL to a verified sum among the survivors, ms", after_kill,
		    FAULT_KILL);
	print_table(campaign, "SIGSTOP to a verified sum among the survivors, ms", after_stop,
		    FAULT_STOP);
}

static void report(struct campaign *campaign, int runs, double seconds)
{
	const struct campaign_options *o = &campaign->options;
	struct times killed = { 0 };

	printf("%d runs on %s, seed %llu, %.0f s: %d wrong\n", runs, o->transport,
	       (unsigned long long)o->seed, seconds, campaign->bad);
	report_kinds(campaign);
	if (campaign->cut_off[0].n) {
		printf("Link cut to the error, ms, at the host of the rendezvous and at the "
		       "other\n");
		print_times("host 0", runs, &campaign->cut_off[0]);
		print_times("host 1", runs, &campaign->cut_off[1]);
	}
	for (int p = 0; p < PHASES; p++)
		for (size_t i = 0; i < campaign->killed[p].n; i++)
			add(&killed, campaign->killed[p].ms[i]);
	if (killed.n && is_shm(o)) {
		qsort(killed.ms, killed.n, sizeof(*killed.ms), compare);
		if (quantile(&killed, 0.5) >= KILL_SHM_MEDIAN_MS) {
			printf("WRONG half of the survivors notice a killed rank too late\n");
			campaign->bad++;
		}
	}
	free(killed.ms);
}

static const struct option long_options[] = {
	{ "runs", 1, 0, 'r' },		 { "seed", 1, 0, 's' },
	{ "first", 1, 0, 'f' },		 { "transport", 1, 0, 't' },
	{ "only", 1, 0, 'o' },		 { "deadline", 1, 0, 'd' },
	{ "start-deadline", 1, 0, 'D' }, { "limit", 1, 0, 'l' },
	{ "pace", 1, 0, 'p' },		 { "max-count", 1, 0, 'c' },
	{ "alone", 0, 0, 'a' },		 { "verbose", 0, 0, 'v' },
	{ "host", 1, 0, 'h' },		 { "address", 1, 0, 'A' },
	{ "link", 1, 0, 'L' },		 { 0 }
};

static bool parse(struct campaign_options *o, int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (c) {
		case 'r': o->runs = atoi(optarg); break;
		case 's': o->seed = strtoull(optarg, NULL, 0); break;
		case 'f': o->first = atoi(optarg); break;
		case 't': o->transport = optarg; break;
		case 'o':
			for (o->only = 0; o->only < PHASES; o->only++)
				if (strcmp(campaign_phase_name(o->only), optarg) == 0)
					break;
			if (o->only == PHASES)
				return false;
			break;
		case 'd': o->deadline_s = atof(optarg); break;
		case 'D': o->start_deadline_s = atof(optarg); break;
		case 'l': o->limit_s = atof(optarg); break;
		case 'p': o->pace = atof(optarg); break;
		case 'c': o->max_count = strtoull(optarg, NULL, 0); break;
		case 'a': o->alone = true; break;
		case 'v': o->verbose = true; break;
		case 'h':
			o->host = atoi(optarg);
			o->hosts = 2;
			break;
		case 'A': o->address = optarg; break;
		case 'L': o->link = optarg; break;
		default: return false;
		}
	}
	return optind == argc && o->runs > 0 && o->host >= 0 && o->host < o->hosts;
}

int main(int argc, char **argv)
{
	struct campaign campaign = { .options = { .runs = 40,
						  .seed = 1,
						  .transport = "shm",
						  .only = -1,
						  .deadline_s = 2,
						  .start_deadline_s = 2,
						  .limit_s = 30,
						  .pace = 1,
						  .max_count = SIZE_MAX,
						  .hosts = 1,
						  .address = "127.0.0.1" } };
	struct campaign_options *o = &campaign.options;
	int64_t began = rdt_now();
	int done = 0;

	if (!parse(o, argc, argv)) {
		fprintf(stderr, "usage: campaign [--runs N] [--seed S] [--first K] [--transport T] "
				"[--only PHASE] [--deadline S] [--start-deadline S] [--limit S] "
				"[--pace X] [--max-count N] [--alone] [--verbose] "
				"[--host 0|1 --address ADDRESS_OF_HOST_0 [--link down|loss]]\n");
		return 2;
	}
	ranks_need_device();
	snprintf(campaign.log_dir, sizeof(campaign.log_dir), "/tmp/campaign.XXXXXX");
	if (!mkdtemp(campaign.log_dir)) {
		perror(campaign.log_dir);
		return 1;
	}
	printf("seed %llu, runs %d to %d\n", (unsigned long long)o->seed, o->first,
	       o->first + o->runs - 1);
	fflush(stdout);
	if (campaign_hosts_meet(o))
		while (done < o->runs && run_one(&campaign, o->first + done))
			done++;
	report(&campaign, done, (double)(rdt_now() - began) / 1e9);
	rmdir(campaign.log_dir);
	for (int i = 0; i < 2; i++)
		free(campaign.cut_off[i].ms);
	for (int p = 0; p < PHASES; p++) {
		free(campaign.killed[p].ms);
		free(campaign.stopped[p].ms);
		for (int f = 0; f < FAULTS; f++)
			free(campaign.recovered[p][f].ms);
	}
	return done < o->runs || campaign.bad;
}
