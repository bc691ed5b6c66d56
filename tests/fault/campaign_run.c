/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One run of the campaign: a service and this host's ranks in a process group of their own, the
 * fault at its moment, and everybody's end by a deadline. Whatever the run forks ends with it: the
 * campaign is their reaper, and they end when it does.
 */
#include "campaign.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/bootstrap/server.h"

#define SECRET "the secret of the campaign"

/* How long the link stays cut: longer than all may take to notice. */
#define LINK_NS 5000000000

/* How long the service may take to end, with the leak checker's look. */
#define SERVICE_END_S 10.0

struct run {
	const struct campaign_options *options;
	const struct campaign_case *c;
	struct campaign_shared *shared;
	const char *log_dir;
	pid_t service;
	bool service_ended;
	int service_status;
	int64_t began, limit, first_at, fault_at;
	bool timed_out;
	char trouble[200]; /* the first */
};

static void __attribute__((format(printf, 2, 3))) trouble(struct run *run, const char *format, ...)
{
	va_list args;

	if (run->trouble[0])
		return;
	va_start(args, format);
	vsnprintf(run->trouble, sizeof(run->trouble), format, args);
	va_end(args);
}

int campaign_host_of(const struct campaign_options *options, int n, int rank)
{
	return rank * options->hosts / n;
}

static bool is_mine(const struct run *run, int rank)
{
	return campaign_host_of(run->options, run->c->n, rank) == run->options->host;
}

int campaign_queue_pairs(pid_t pid)
{
	FILE *pipe = popen("rdma resource show qp 2>/dev/null", "r");
	char line[512], text[32];
	int n = 0;

	if (!pipe)
		return -1;
	snprintf(text, sizeof(text), " pid %d ", (int)pid);
	/* Those of the kernel have a comm in brackets. */
	while (fgets(line, sizeof(line), pipe))
		n += pid ? strstr(line, text) != NULL : strstr(line, "comm [") == NULL;
	return pclose(pipe) == 0 ? n : -1;
}

/* ---- processes -------------------------------------------------------------------------------
 */

/* Their output goes to a file each, to be shown when something is wrong. */
static void redirect(const struct run *run, const char *name)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", run->log_dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		_exit(1);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	close(fd);
}

static pid_t spawn(const struct run *run, const char *name)
{
	pid_t parent = getpid(), pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		redirect(run, name);
	}
	return pid;
}

static void note(struct campaign_shared *shared, int rank, bool joined)
{
	int64_t *at;

	if (rank < 0 || rank >= CAMPAIGN_RANKS)
		return;
	at = joined ? &shared->rank[rank].joined_at : &shared->rank[rank].gone_at;
	if (!*at)
		__atomic_store_n(at, rdt_now(), __ATOMIC_RELEASE);
}

/* "... joined job campaign as rank 3 of 4", "rank 3 of job campaign (...) is lost: ...": for the
 * faults that come before the ranks have met. */
static void take_log(void *arg, const char *line)
{
	struct campaign_shared *shared = arg;
	const char *joined = strstr(line, " joined job campaign as rank ");
	int rank;

	printf("%.6f %s\n", (double)rdt_now() / 1e9, line);
	fflush(stdout);
	if (joined && sscanf(joined, " joined job campaign as rank %d", &rank) == 1)
		note(shared, rank, true);
	else if ((strstr(line, " is lost: ") || strstr(line, " left: ")) &&
		 sscanf(line, "rank %d", &rank) == 1)
		note(shared, rank, false);
}

static void on_term(evutil_socket_t number, short what, void *base)
{
	(void)number;
	(void)what;
	event_base_loopbreak(base);
}

/* Until SIGTERM. What it has not freed then, the leak checker reports at exit. */
static void serve(const struct run *run)
{
	char listen[64];
	struct rdt_server_config config = {
		.listen = listen, .secret = SECRET, .log = take_log, .arg = run->shared
	};
	struct event_base *base = event_base_new();
	struct event *term = base ? evsignal_new(base, SIGTERM, on_term, base) : NULL;
	struct rdt_server *server = NULL;
	int port = -1;

	snprintf(listen, sizeof(listen), "%s:0", run->options->address);
	if (!term || event_add(term, NULL))
		printf("the service does not start: no event loop, or no signal in it\n");
	else if (rdt_server_new(base, &config, &server) == 0)
		port = rdt_server_port(server);
	else
		printf("the service does not start: %s\n", rdt_last_error());
	fflush(stdout);
	__atomic_store_n(&run->shared->port, port, __ATOMIC_RELEASE);
	if (port <= 0)
		_exit(1);
	if (event_base_dispatch(base) < 0 || !event_base_got_break(base))
		_exit(1);
	rdt_server_free(server);
	event_free(term);
	event_base_free(base);
	fflush(NULL);
	exit(0); /* not _exit: the leak checker reports at exit */
}

static bool start_service(struct run *run)
{
	int port = 0, ports[2];

	if (run->options->host == 0) {
		run->service = spawn(run, "service");
		if (run->service == 0)
			serve(run);
		while (run->service > 0 && rdt_now() < run->limit &&
		       (port = __atomic_load_n(&run->shared->port, __ATOMIC_ACQUIRE)) == 0)
			usleep(100);
	}
	ports[0] = port;
	if (!campaign_hosts_exchange(&ports[0], &ports[1], sizeof(ports[0])))
		return false;
	run->shared->port = ports[0] ? ports[0] : ports[1];
	return run->shared->port > 0;
}

static bool start_ranks(struct run *run)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", run->c->n);
	if (run->options->hosts == 1)
		setenv("RDTRAIN_LOCAL_SIZE", text, 1);
	setenv("RDTRAIN_DEBUG", "INFO", 0);
	for (int r = 0; r < run->c->n; r++) {
		pid_t pid;

		if (!is_mine(run, r))
			continue;
		snprintf(text, sizeof(text), "rank%d", r);
		pid = spawn(run, text);
		if (pid < 0)
			return false;
		if (pid == 0)
			campaign_rank_main(run->options, run->c, run->shared, r);
		run->shared->rank[r].pid = pid;
	}
	return true;
}

/* Takes who has ended, without waiting. */
static void reap(struct run *run)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == run->service) {
			run->service_status = status;
			run->service_ended = true;
		}
		for (int r = 0; r < run->c->n; r++)
			if (run->shared->rank[r].pid == pid) {
				run->shared->rank[r].exit_status = status;
				run->shared->rank[r].ended = 1;
			}
	}
}

static bool is_ready(const struct campaign_rank *r)
{
	return __atomic_load_n(&r->ready, __ATOMIC_ACQUIRE) || r->ended;
}

static bool has_error(const struct campaign_rank *r)
{
	return __atomic_load_n(&r->error_at, __ATOMIC_ACQUIRE) || r->ended;
}

static bool has_ended(const struct campaign_rank *r)
{
	return r->ended;
}

static bool is_victim(const struct campaign_case *c, int rank)
{
	return rank == c->victim || rank == c->first;
}

/* Of this host's ranks all, or all but the victim. */
static bool all(const struct run *run, bool (*is)(const struct campaign_rank *r), bool survivors)
{
	for (int r = 0; r < run->c->n; r++)
		if (is_mine(run, r) && !(survivors && is_victim(run->c, r)) &&
		    !is(&run->shared->rank[r]))
			return false;
	return true;
}

/* For who hangs: where in the kernel, if there. */
static void show_kernel_stacks(const struct run *run)
{
	for (int r = 0; r < run->c->n; r++) {
		char path[64], line[160];
		FILE *file;

		if (!is_mine(run, r) || run->shared->rank[r].ended)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/stack", (int)run->shared->rank[r].pid);
		file = fopen(path, "re");
		while (file && fgets(line, sizeof(line), file))
			printf("  rank %d in the kernel: %s", r, line);
		if (file)
			fclose(file);
	}
}

static bool wait_for(struct run *run, bool (*is)(const struct campaign_rank *r), bool survivors)
{
	while (!all(run, is, survivors)) {
		if (rdt_now() > run->limit) {
			run->timed_out = true;
			show_kernel_stacks(run);
			return false;
		}
		usleep(200);
		reap(run);
	}
	return true;
}

static void kill_first(struct run *run)
{
	int first = run->c->first;

	if (!is_mine(run, first))
		return;
	run->first_at = rdt_now();
	kill(run->shared->rank[first].pid, SIGKILL);
}

/* Host 1 cuts itself off, or ends that: by its cable (ci/soft-roce), or by dropping all that comes
 * and goes. */
static void cut_link(struct run *run, bool cut)
{
	bool down = strcmp(run->options->link, "down") == 0;
	const char *command = down && cut ? "/run/soft-roce/cable down"
			      : down	  ? "/run/soft-roce/cable up"
			      : cut	  ? "tc qdisc replace dev eth0 root netem loss 100% && "
					    "tc qdisc add dev eth0 ingress && "
					    "tc filter add dev eth0 ingress matchall action drop"
					  : "tc qdisc del dev eth0 root; root=$?; "
					    "tc qdisc del dev eth0 ingress && exit $root";

	if (run->options->host == 1 && system(command) != 0)
		trouble(run, "the link could not be %s", cut ? "cut" : "restored");
}

static void strike(struct run *run)
{
	const struct campaign_case *c = run->c;
	int64_t at =
		(c->phase == PHASE_START ? run->began : rdt_now()) + (int64_t)(c->delay_s * 1e9);
	int64_t left;

	if (c->fault == FAULT_LINK ? run->options->host != 1 : !is_mine(run, c->victim))
		return;
	while ((left = at - rdt_now()) > 0)
		if (left > 200000)
			usleep((useconds_t)((left - 100000) / 1000));
	run->fault_at = rdt_now();
	if (c->fault == FAULT_LINK) {
		cut_link(run, true);
		return;
	}
	kill(run->shared->rank[c->victim].pid, c->fault == FAULT_KILL ? SIGKILL : SIGSTOP);
}

static void resume(const struct run *run, int signal)
{
	if (is_mine(run, run->c->victim) && !run->shared->rank[run->c->victim].ended)
		kill(run->shared->rank[run->c->victim].pid, signal);
}

static bool everybody(bool mine)
{
	int here = mine, there;

	return campaign_hosts_exchange(&here, &there, sizeof(here)) && here && there;
}

static void play(struct run *run)
{
	const struct campaign_case *c = run->c;

	if (c->phase != PHASE_START && !everybody(wait_for(run, is_ready, false)))
		return;
	if (c->phase == PHASE_SHRINK) {
		kill_first(run);
		if (!everybody(wait_for(run, has_error, false)))
			return;
	}
	strike(run);
	if (c->fault == FAULT_LINK) {
		/* The other host cannot say when its ranks have ended. */
		bool ended;

		while (rdt_now() < run->fault_at + LINK_NS)
			usleep(10000);
		ended = wait_for(run, has_ended, false);
		cut_link(run, false);
		if (everybody(ended))
			return;
	}
	if (c->fault == FAULT_STOP && c->wake == WAKE_DURING && c->phase != PHASE_SHRINK) {
		if (!everybody(wait_for(run, has_error, true)))
			return;
		resume(run, SIGCONT);
	}
	if (!everybody(wait_for(run, has_ended, true)))
		return;
	if (c->fault == FAULT_STOP)
		resume(run, c->wake == WAKE_NEVER ? SIGKILL : SIGCONT);
	wait_for(run, has_ended, false);
}

/* The service ends by a signal, and well: not before, and with nothing to report. Takes nobody
 * else's end, so that who is left behind is counted. */
static void end_service(struct run *run)
{
	int64_t deadline = rdt_deadline(SERVICE_END_S);
	int status = 0;
	pid_t pid = 0;

	if (run->service <= 0)
		return;
	if (!run->service_ended && waitpid(run->service, &status, WNOHANG) == run->service) {
		run->service_status = status;
		run->service_ended = true;
	}
	if (run->service_ended) {
		trouble(run, "the service has ended before its time, with wait status 0x%x",
			run->service_status);
		return;
	}
	kill(run->service, SIGTERM);
	while ((pid = waitpid(run->service, &status, WNOHANG)) == 0 && rdt_now() < deadline)
		usleep(200);
	if (pid == 0) {
		trouble(run, "the service has not ended %.0f s after SIGTERM", SERVICE_END_S);
		kill(run->service, SIGKILL);
	} else if (pid < 0 || status != 0) {
		trouble(run, "the service ended with wait status 0x%x after SIGTERM",
			pid < 0 ? -1 : status);
	}
}

/* Ends what is still there, and notes what should not have been. */
static void clean_up(struct run *run, struct campaign_result *result)
{
	int status, left = 0;
	pid_t pid;

	for (int r = 0; r < run->c->n; r++)
		if (run->shared->rank[r].pid && !run->shared->rank[r].ended)
			kill(run->shared->rank[r].pid, SIGKILL);
	end_service(run);
	/* What a rank forked and left is ours now. */
	while ((pid = waitpid(-1, &status, 0)) > 0 || errno == EINTR) {
		bool known = pid == run->service;

		for (int r = 0; r < run->c->n; r++)
			known |= run->shared->rank[r].pid == pid;
		left += !known;
	}
	if (left)
		snprintf(result->left_behind, sizeof(result->left_behind), "%d processes", left);
}

/* The other host's ranks, on this host's clock. */
static bool merge(struct run *run, struct campaign_result *result)
{
	struct {
		int64_t first_at, fault_at;
		bool timed_out;
		char left_behind[sizeof(result->left_behind)];
		char trouble[sizeof(result->trouble)];
		struct campaign_rank rank[CAMPAIGN_RANKS];
	} mine = { .first_at = run->first_at,
		   .fault_at = run->fault_at,
		   .timed_out = run->timed_out },
	  theirs;
	int64_t ahead;

	memcpy(mine.rank, run->shared->rank, sizeof(mine.rank));
	memcpy(mine.left_behind, result->left_behind, sizeof(mine.left_behind));
	memcpy(mine.trouble, run->trouble, sizeof(mine.trouble));
	if (!campaign_hosts_clock(run->options, &ahead) ||
	    !campaign_hosts_exchange(&mine, &theirs, sizeof(mine)))
		return false;
	result->timed_out = mine.timed_out || theirs.timed_out;
	result->first_at = mine.first_at ? mine.first_at : theirs.first_at - ahead;
	result->fault_at = mine.fault_at ? mine.fault_at : theirs.fault_at - ahead;
	if (!result->left_behind[0])
		memcpy(result->left_behind, theirs.left_behind, sizeof(mine.left_behind));
	memcpy(result->trouble, mine.trouble[0] ? mine.trouble : theirs.trouble,
	       sizeof(mine.trouble));
	for (int r = 0; r < run->c->n; r++) {
		struct campaign_rank *rank = &result->rank[r];
		/* host 0 runs the service, which sees the joining */
		const struct campaign_rank *seen =
			run->options->host ? &theirs.rank[r] : &mine.rank[r];
		int64_t joined = seen->joined_at, gone = seen->gone_at;

		*rank = is_mine(run, r) ? mine.rank[r] : theirs.rank[r];
		if (!is_mine(run, r)) {
			rank->called_at -= ahead;
			rank->began_at -= ahead;
			rank->error_at -= rank->error_at ? ahead : 0;
			rank->recovered_at -= rank->recovered_at ? ahead : 0;
		}
		rank->joined_at = joined ? joined - (run->options->host ? ahead : 0) : 0;
		rank->gone_at = gone ? gone - (run->options->host ? ahead : 0) : 0;
	}
	return true;
}

bool campaign_run(const struct campaign_options *options, const struct campaign_case *c,
		  const char *log_dir, struct campaign_result *result)
{
	struct run run = { .options = options, .c = c, .log_dir = log_dir };
	bool ok;

	memset(result, 0, sizeof(*result));
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	run.shared = mmap(NULL, sizeof(*run.shared), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (run.shared == MAP_FAILED)
		return false;
	run.limit = rdt_deadline(options->limit_s + options->start_deadline_s);
	ok = start_service(&run);
	run.began = rdt_now();
	if (ok)
		ok = start_ranks(&run);
	if (ok)
		play(&run);
	clean_up(&run, result);
	if (ok)
		ok = merge(&run, result);
	munmap(run.shared, sizeof(*run.shared));
	return ok;
}
