/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdtrain run: the workers of a job on this host, with a rendezvous service of their own.
 *
 * One event loop carries the service, the workers' output and their ends. The first worker that
 * fails decides the exit status; the others have a few seconds to notice through the library and to
 * say so, then they are ended. Nothing outlives this process: workers die with it.
 */
#include "tools/commands.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "lib/base/error.h"
#include "lib/bootstrap/bootstrap.h"
#include "lib/bootstrap/secret.h"
#include "lib/bootstrap/server.h"
#include "tools/output.h"

#define EXIT_TIMEOUT 124
#define EXIT_USAGE 2

/* After the first failure: how long the others may take to end by themselves, and then to obey
 * SIGTERM. */
static const struct timeval notice = { 3, 0 }, grace = { 5, 0 };

struct settings {
	long workers, nodes, node;
	const char *rendezvous, *secret_file, *transport, *job;
	double timeout;
	bool prefix, verbose;
	char **command;
};

struct worker {
	struct job *job;
	int rank, local_rank;
	pid_t pid; /* 0: not started, or reaped */
	struct output *out, *err;
};

struct job {
	const struct settings *settings;
	struct event_base *base;
	struct rdt_server *server;
	struct event *ends, *interrupt, *terminate, *timer, *deadline;
	struct worker *workers;
	int running;
	char rendezvous[256], secret[256];
	int status; /* exit status, once `decided` */
	bool decided;
	int terminated; /* 0: not yet, 1: SIGTERM sent, 2: SIGKILL sent */
};

/* ---- options
 * ------------------------------------------------------------------------------------- */

enum { OPTION_NODES = 256, OPTION_NODE, OPTION_RENDEZVOUS, OPTION_SECRET, OPTION_NO_PREFIX };

static const struct argp_option options[] = {
	{ "workers", 'n', "N", 0, "How many workers to start on this host (default 1)", 0 },
	{ "transport", 't', "auto|shm|verbs", 0, "How workers reach each other (RDTRAIN_TRANSPORT)",
	  0 },
	{ "timeout", 'T', "SECONDS", 0, "End the job after so long, with exit status 124", 0 },
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
	"the rank "
	"before it when there are several. Their standard input is empty."
	"\v"
	"Exit status: 0 when all workers end with 0; else that of the first that failed, or 128 "
	"plus its signal; "
	"124 at the time limit; 130 and 143 after SIGINT and SIGTERM; 127 when COMMAND is not "
	"found; 2 for "
	"wrong usage.\n\n"
	"When one worker fails the others get 3 seconds to end by themselves, then SIGTERM, 5 "
	"seconds later "
	"SIGKILL.";

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

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct settings *s = state->input;
	char *end;

	switch (key) {
	case 'n': s->workers = whole(state, "workers", arg, 1, 4096); break;
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
	case 'v': s->verbose = true; break;
	case 'j': s->job = arg; break;
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
	case ARGP_KEY_END:
		if (s->node >= s->nodes)
			argp_error(state, "--node %ld: with --nodes %ld it is 0 to %ld", s->node,
				   s->nodes, s->nodes - 1);
		if (s->nodes > 1 && !s->rendezvous)
			argp_error(
				state,
				"--nodes %ld needs --rendezvous ADDR:PORT, the same on all hosts",
				s->nodes);
		if (s->nodes * s->workers > RDT_WORLD_MAX)
			argp_error(state, "%ld workers are more than %d", s->nodes * s->workers,
				   RDT_WORLD_MAX);
		break;
	default: return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

/* ---- words
 * ------------------------------------------------------------------------------------------ */

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...)
{
	char line[512];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (n > 0)
		fprintf(stderr, "rdtrain run: %s\n", line);
}

static void service_log(void *arg, const char *line)
{
	(void)arg;
	say("rendezvous: %s", line);
}

static void service_silent(void *arg, const char *line)
{
	(void)arg;
	(void)line;
}

/* ---- ending
 * ----------------------------------------------------------------------------------------- */

static void signal_all(struct job *job, int signal)
{
	for (long i = 0; i < job->settings->workers; i++)
		if (job->workers[i].pid > 0)
			kill(-job->workers[i].pid, signal); /* its whole process group */
}

static void decide(struct job *job, int status)
{
	if (job->decided)
		return;
	job->decided = true;
	job->status = status;
}

static void terminate(struct job *job)
{
	if (job->terminated == 0) {
		job->terminated = 1;
		signal_all(job, SIGTERM);
		evtimer_add(job->timer, &grace);
	} else {
		job->terminated = 2;
		signal_all(job, SIGKILL);
	}
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct job *job = arg;

	(void)fd;
	(void)what;
	say(job->terminated ? "workers still run; killing them" : "workers still run; ending them");
	terminate(job);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct job *job = arg;

	(void)fd;
	(void)what;
	say("the time limit of %g s has passed; ending the workers", job->settings->timeout);
	decide(job, EXIT_TIMEOUT);
	terminate(job);
}

static void on_signal(evutil_socket_t signal, short what, void *arg)
{
	struct job *job = arg;

	(void)what;
	decide(job, 128 + (int)signal);
	say("%s: ending the workers%s", strsignal((int)signal),
	    job->terminated ? " at once" : " (once more: at once)");
	terminate(job);
}

static void on_worker_end(struct worker *worker, int status)
{
	struct job *job = worker->job;
	bool failed = !(WIFEXITED(status) && WEXITSTATUS(status) == 0);

	output_end(worker->out);
	output_end(worker->err);
	if (WIFSIGNALED(status))
		say("rank %d (pid %d) was killed by signal %d (%s)", worker->rank, (int)worker->pid,
		    WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (failed)
		say("rank %d (pid %d) exited with status %d", worker->rank, (int)worker->pid,
		    WEXITSTATUS(status));
	else if (job->settings->verbose)
		say("rank %d (pid %d) ended", worker->rank, (int)worker->pid);
	/* What it started and left behind goes with it. */
	kill(-worker->pid, SIGKILL);
	worker->pid = 0;
	job->running--;
	if (!failed)
		return;
	if (!job->decided && job->running > 0)
		evtimer_add(job->timer, &notice);
	decide(job, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

static void on_child(evutil_socket_t fd, short what, void *arg)
{
	struct job *job = arg;

	(void)fd;
	(void)what;
	for (;;) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid <= 0)
			break;
		for (long i = 0; i < job->settings->workers; i++)
			if (job->workers[i].pid == pid)
				on_worker_end(&job->workers[i], status);
	}
	if (job->running == 0)
		event_base_loopexit(job->base, NULL);
}

/* ---- starting
 * --------------------------------------------------------------------------------------- */

static void set_number(const char *name, long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", value);
	setenv(name, text, 1);
}

static void set_environment(const struct worker *worker)
{
	const struct job *job = worker->job;
	const struct settings *s = job->settings;
	cpu_set_t set;
	long cpus = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
	char threads[32];

	set_number("RDTRAIN_RANK", worker->rank);
	set_number("RDTRAIN_SIZE", s->workers * s->nodes);
	set_number("RDTRAIN_LOCAL_RANK", worker->local_rank);
	set_number("RDTRAIN_LOCAL_SIZE", s->workers);
	setenv("RDTRAIN_RENDEZVOUS", job->rendezvous, 1);
	setenv("RDTRAIN_SECRET", job->secret, 1);
	unsetenv("RDTRAIN_SECRET_FILE");
	setenv("RDTRAIN_JOB", s->job, 1);
	if (s->transport)
		setenv("RDTRAIN_TRANSPORT", s->transport, 1);
	/* Unless told otherwise, libraries with threads of their own share the processors out
	 * evenly. */
	snprintf(threads, sizeof(threads), "%ld", cpus / s->workers > 1 ? cpus / s->workers : 1);
	setenv("OMP_NUM_THREADS", threads, 0);
	setenv("OPENBLAS_NUM_THREADS", threads, 0);
}

/* The child's side; `failed` is closed by a successful exec, or says errno. */
static void become_worker(const struct worker *worker, pid_t parent, int out, int err, int failed)
{
	char **command = worker->job->settings->command;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), error;
	sigset_t none;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	set_environment(worker);
	if (dup2(null, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 &&
	    dup2(err, STDERR_FILENO) >= 0)
		execvp(command[0], command);
	error = errno;
	if (write(failed, &error, sizeof(error)) < 0)
		_exit(126);
	_exit(error == ENOENT ? 127 : 126);
}

static int start_worker(struct worker *worker)
{
	struct job *job = worker->job;
	pid_t parent = getpid();
	int out[2], err[2], failed[2], error = 0;
	char prefix[32] = "";

	if (job->settings->prefix && job->settings->workers * job->settings->nodes > 1)
		snprintf(prefix, sizeof(prefix), "[%d] ", worker->rank);
	if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC) || pipe2(failed, O_CLOEXEC)) {
		say("no pipe for rank %d: %s", worker->rank, strerror(errno));
		return 1;
	}
	fflush(NULL);
	worker->pid = fork();
	if (worker->pid == 0)
		become_worker(worker, parent, out[1], err[1], failed[1]);
	close(out[1]);
	close(err[1]);
	close(failed[1]);
	if (worker->pid < 0) {
		say("no process for rank %d: %s", worker->rank, strerror(errno));
		worker->pid = 0;
		return 1;
	}
	setpgid(worker->pid, worker->pid); /* also here: whoever comes first */
	worker->out = output_new(job->base, out[0], STDOUT_FILENO, prefix);
	worker->err = output_new(job->base, err[0], STDERR_FILENO, prefix);
	job->running++;
	if (!worker->out || !worker->err) {
		say("out of memory");
		return 1;
	}
	if (read(failed[0], &error, sizeof(error)) == (ssize_t)sizeof(error)) {
		say("%s: %s", job->settings->command[0], strerror(error));
		close(failed[0]);
		decide(job, error == ENOENT ? 127 : 126);
		return job->status;
	}
	close(failed[0]);
	return 0;
}

static int read_secret(struct job *job, const char *what, const char *path)
{
	if (rdt_secret_read(what, path, job->secret, sizeof(job->secret)) == 0)
		return 0;
	say("%s", rdt_last_error());
	return 1;
}

/* The secret: a file's or the environment's; on one host alone, random. */
static int find_secret(struct job *job)
{
	const struct settings *s = job->settings;
	unsigned char random[32];

	if (s->secret_file)
		return read_secret(job, "--secret-file", s->secret_file);
	if (s->nodes > 1) {
		const char *secret = getenv("RDTRAIN_SECRET"),
			   *file = getenv("RDTRAIN_SECRET_FILE");

		if (secret && *secret && strlen(secret) < sizeof(job->secret)) {
			strcpy(job->secret, secret);
			return 0;
		}
		if (file && *file)
			return read_secret(job, "RDTRAIN_SECRET_FILE", file);
		say("several hosts need a secret that they share: --secret-file FILE, "
		    "RDTRAIN_SECRET (of at most "
		    "255 characters) or RDTRAIN_SECRET_FILE");
		return 1;
	}
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
		say("no random bytes for the job's secret: %s", strerror(errno));
		return 1;
	}
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(job->secret + 2 * i, 3, "%02x", random[i]);
	return 0;
}

static int start_service(struct job *job)
{
	const struct settings *s = job->settings;
	struct rdt_server_config config = {
		.listen = s->rendezvous ? s->rendezvous : "127.0.0.1:0",
		.secret = job->secret,
		.log = s->verbose ? service_log : service_silent,
		.arg = job,
	};

	snprintf(job->rendezvous, sizeof(job->rendezvous), "%s",
		 s->rendezvous ? s->rendezvous : "");
	if (s->node != 0)
		return 0; /* node 0 has it */
	if (rdt_server_new(job->base, &config, &job->server)) {
		say("%s", rdt_last_error());
		return 1;
	}
	if (!s->rendezvous)
		snprintf(job->rendezvous, sizeof(job->rendezvous), "127.0.0.1:%d",
			 rdt_server_port(job->server));
	return 0;
}

static int prepare(struct job *job)
{
	job->base = event_base_new();
	job->workers = calloc((size_t)job->settings->workers, sizeof(*job->workers));
	if (!job->base || !job->workers) {
		say("out of memory");
		return 1;
	}
	if (find_secret(job) || start_service(job))
		return 1;
	job->ends = evsignal_new(job->base, SIGCHLD, on_child, job);
	job->interrupt = evsignal_new(job->base, SIGINT, on_signal, job);
	job->terminate = evsignal_new(job->base, SIGTERM, on_signal, job);
	job->timer = evtimer_new(job->base, on_timer, job);
	job->deadline = evtimer_new(job->base, on_deadline, job);
	if (!job->ends || !job->interrupt || !job->terminate || !job->timer || !job->deadline) {
		say("out of memory");
		return 1;
	}
	evsignal_add(job->ends, NULL);
	evsignal_add(job->interrupt, NULL);
	evsignal_add(job->terminate, NULL);
	if (job->settings->timeout > 0) {
		struct timeval limit = {
			.tv_sec = (time_t)job->settings->timeout,
			.tv_usec = (suseconds_t)((job->settings->timeout -
						  (double)(time_t)job->settings->timeout) *
						 1e6),
		};

		evtimer_add(job->deadline, &limit);
	}
	return 0;
}

static void release(struct job *job)
{
	struct event *events[] = { job->ends, job->interrupt, job->terminate, job->timer,
				   job->deadline };

	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		if (events[i])
			event_free(events[i]);
	for (long i = 0; job->workers && i < job->settings->workers; i++) {
		output_free(job->workers[i].out);
		output_free(job->workers[i].err);
	}
	free(job->workers);
	if (job->server)
		rdt_server_free(job->server);
	if (job->base)
		event_base_free(job->base);
	explicit_bzero(job->secret, sizeof(job->secret));
}

int rdt_cmd_run(int argc, char **argv)
{
	static const struct argp argp = {
		options, parse, "COMMAND [ARG...]", doc, NULL, NULL, NULL
	};
	struct settings settings = { .workers = 1, .nodes = 1, .prefix = true, .job = "default" };
	struct job job = { .settings = &settings };
	int status;

	argp_err_exit_status = EXIT_USAGE;
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &settings);
	signal(SIGPIPE, SIG_IGN); /* our reader may go away: output.c sees it */
	status = prepare(&job);
	for (long i = 0; status == 0 && i < settings.workers; i++) {
		job.workers[i] =
			(struct worker){ .job = &job,
					 .local_rank = (int)i,
					 .rank = (int)(settings.node * settings.workers + i) };
		status = start_worker(&job.workers[i]);
	}
	if (status) {
		decide(&job, status);
		signal_all(&job, SIGKILL);
	}
	if (job.running > 0)
		event_base_dispatch(job.base);
	release(&job);
	return job.decided ? job.status : 0;
}
