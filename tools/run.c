/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdtrain run: the workers of a job on this host, with a rendezvous service of their own.
 *
 * One event loop carries the service, the workers' output and their ends. The first worker that
 * fails decides the exit status; the others have a few seconds to notice through the library and to
 * say so, then they are ended. Nothing outlives this process: workers die with it.
 */
#include "tools/commands.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "lib/base/error.h"
#include "lib/bootstrap/address.h"
#include "lib/bootstrap/server.h"
#include "tools/output.h"
#include "tools/run.h"

/* After the first failure: how long the others may take to end by themselves, and then to obey
 * SIGTERM. The second one is also how long the last output may take once the job was ended. */
static const struct timeval notice = { 3, 0 }, grace = { 5, 0 };

struct worker {
	struct job *job;
	int rank;      /* at the start; where it has been replaced, in name only */
	bool newcomer; /* it has been replaced */
	pid_t pid;     /* 0: not started, or reaped */
	struct output *out, *err;
};

enum stage {
	RUNNING,
	NOTICED,    /* a worker has failed; the others may end by themselves */
	TERMINATED, /* SIGTERM was sent */
	KILLED,	    /* SIGKILL was sent */
};

#define SIGNALS 4

struct job {
	struct run_settings settings;
	struct event_base *base;
	struct rdt_server *server;
	struct event *ends, *signals[SIGNALS], *timer, *deadline;
	struct outlet *out, *err;
	struct worker *workers;
	struct rlimit files;
	int running;
	long restarts;
	bool succeeded; /* a worker has ended well */
	bool started;	/* all workers have been */
	bool hurried;	/* by a signal or the time limit: do not wait for ever for our reader */
	enum stage stage;
	char rendezvous[320], secret[256];
	int status; /* exit status, once `decided` */
	bool decided;
};

/* ---- words ----------------------------------------------------------------------------------- */

/* In order with what the workers say. */
static void say(struct job *job, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct job *job, const char *format, ...)
{
	char line[1024] = "rdtrain run: ";
	size_t n = strlen(line);
	va_list args;

	va_start(args, format);
	vsnprintf(line + n, sizeof(line) - n - 1, format, args);
	va_end(args);
	strcat(line, "\n");
	if (job->err)
		outlet_write(job->err, line, strlen(line));
	else
		fputs(line, stderr);
}

static void service_log(void *arg, const char *line)
{
	say(arg, "rendezvous: %s", line);
}

static void service_silent(void *arg, const char *line)
{
	(void)arg;
	(void)line;
}

/* ---- ending ---------------------------------------------------------------------------------- */

/* The first one who decides the exit status does. */
static void decide(struct job *job, int status)
{
	if (job->decided)
		return;
	job->decided = true;
	job->status = status;
}

static void signal_all(struct job *job, int number)
{
	for (long i = 0; i < job->settings.workers; i++)
		if (job->workers[i].pid > 0)
			kill(-job->workers[i].pid, number); /* its whole process group */
}

static void move_to(struct job *job, enum stage stage)
{
	job->stage = stage;
	switch (stage) {
	case NOTICED: evtimer_add(job->timer, &notice); break;
	case TERMINATED:
		signal_all(job, SIGTERM);
		/* one that was stopped must go on to obey */
		signal_all(job, SIGCONT);
		evtimer_add(job->timer, &grace);
		break;
	case KILLED:
		signal_all(job, SIGKILL);
		evtimer_del(job->timer);
		break;
	default: break;
	}
}

/* The loop ends when the workers have and their output is out. */
static void end_when_done(void *arg)
{
	struct job *job = arg;

	if (!job->started || job->running > 0)
		return;
	if (outlet_empty(job->out) && outlet_empty(job->err))
		event_base_loopbreak(job->base);
	else if (job->hurried && !evtimer_pending(job->timer, NULL))
		evtimer_add(job->timer, &grace);
	else if (!job->hurried)
		evtimer_del(job->timer);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct job *job = arg;

	(void)fd;
	(void)what;
	if (job->running == 0) {
		event_base_loopbreak(job->base); /* nobody reads the output */
	} else if (job->stage == NOTICED) {
		say(job, "%d still running; ending them", job->running);
		move_to(job, TERMINATED);
	} else {
		say(job, "%d still running; killing them", job->running);
		move_to(job, KILLED);
	}
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct job *job = arg;

	(void)fd;
	(void)what;
	say(job, "the time limit of %g s has passed; ending the workers", job->settings.timeout);
	decide(job, RUN_EXIT_TIMEOUT);
	job->hurried = true;
	if (job->stage < TERMINATED)
		move_to(job, TERMINATED);
	end_when_done(job);
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
	struct job *job = arg;
	bool again = job->stage >= TERMINATED;

	(void)what;
	decide(job, 128 + (int)number);
	job->hurried = true;
	say(job, "%s: ending the workers%s", strsignal((int)number),
	    again ? " at once" : " (once more: at once)");
	move_to(job, again ? KILLED : TERMINATED);
	if (job->running == 0)
		event_base_loopbreak(job->base);
}

static int start_worker(struct worker *worker, int local_rank);

/* Nobody is there any more, or, if another host has the service, somebody has ended well. */
static bool is_over(const struct job *job)
{
	return job->succeeded || (job->server && !rdt_server_members(job->server));
}

/* Another one in its place. False: there is none to be. */
static bool replace(struct worker *worker)
{
	struct job *job = worker->job;
	int index = (int)(worker - job->workers);

	if (job->stage != RUNNING || is_over(job) || job->restarts == job->settings.restarts)
		return false;
	job->restarts++;
	output_free(worker->out);
	output_free(worker->err);
	worker->out = worker->err = NULL;
	worker->newcomer = true;
	if (start_worker(worker, index))
		return false;
	say(job, "pid %d takes its place (restart %ld of %ld)", (int)worker->pid, job->restarts,
	    job->settings.restarts);
	return true;
}

static void on_worker_end(struct worker *worker, const siginfo_t *end)
{
	struct job *job = worker->job;
	pid_t pid = worker->pid;
	int status = end->si_code == CLD_EXITED ? end->si_status : 128 + end->si_status;

	/* What it started and left behind goes with it; before it is reaped, its number is nobody
	 * else's. */
	kill(-pid, SIGKILL);
	waitpid(pid, NULL, 0);
	worker->pid = 0;
	job->running--;
	output_end(worker->out);
	output_end(worker->err);
	if (end->si_code != CLD_EXITED)
		say(job, "rank %d (pid %d) was killed by signal %d (%s)", worker->rank, (int)pid,
		    end->si_status, strsignal(end->si_status));
	else if (status != 0)
		say(job, "rank %d (pid %d) exited with status %d", worker->rank, (int)pid, status);
	else if (job->settings.verbose)
		say(job, "rank %d (pid %d) ended", worker->rank, (int)pid);
	if (status == 0) {
		job->succeeded = true;
		return;
	}
	/* The job has ended before it could admit this one. */
	if (worker->newcomer && is_over(job) && end->si_code == CLD_EXITED)
		return;
	if (replace(worker))
		return;
	decide(job, status);
	if (job->stage == RUNNING && job->running > 0)
		move_to(job, NOTICED);
}

static void on_child(evutil_socket_t fd, short what, void *arg)
{
	struct job *job = arg;

	(void)fd;
	(void)what;
	for (long i = 0; i < job->settings.workers; i++) {
		struct worker *worker = &job->workers[i];
		siginfo_t end = { 0 };

		/* looks only: the process stays as it is until on_worker_end */
		if (worker->pid > 0 &&
		    waitid(P_PID, (id_t)worker->pid, &end, WEXITED | WNOHANG | WNOWAIT) == 0 &&
		    end.si_pid == worker->pid)
			on_worker_end(worker, &end);
	}
	end_when_done(job);
}

/* ---- starting -------------------------------------------------------------------------------- */

static int start_worker(struct worker *worker, int local_rank)
{
	struct job *job = worker->job;
	struct run_place place = {
		.settings = &job->settings,
		.rank = worker->rank,
		.newcomer = worker->newcomer,
		.local_rank = local_rank,
		.rendezvous = job->rendezvous,
		.secret = job->secret,
		.files = job->files,
	};
	bool alone = job->settings.workers * job->settings.nodes == 1;
	char text[32] = "", *prefix = alone ? NULL : text; /* alone: bytes as they come */
	int out, err, status = run_start_worker(&place, &worker->pid, &out, &err);

	if (status) {
		say(job, "%s", rdt_last_error());
		return status;
	}
	job->running++;
	if (job->settings.prefix)
		snprintf(text, sizeof(text), "[%d] ", worker->rank);
	worker->out = output_new(job->base, out, job->out, prefix);
	worker->err = output_new(job->base, err, job->err, prefix);
	if (worker->out && worker->err)
		return 0;
	say(job, "out of memory");
	return EXIT_FAILURE;
}

static int start_service(struct job *job)
{
	const struct run_settings *s = &job->settings;
	struct rdt_server_config config = {
		.listen = s->rendezvous ? s->rendezvous : "127.0.0.1:0",
		.secret = job->secret,
		.log = s->verbose ? service_log : service_silent,
		.arg = job,
	};
	struct rdt_address address;
	const char *host;

	if (s->node != 0) { /* node 0 has it */
		snprintf(job->rendezvous, sizeof(job->rendezvous), "%s", s->rendezvous);
		return 0;
	}
	if (rdt_server_new(job->base, &config, &job->server) ||
	    !rdt_address_parse(config.listen, &address)) {
		say(job, "%s", rdt_last_error());
		return EXIT_FAILURE;
	}
	host = strcmp(address.host, "*") == 0 ? "127.0.0.1" : address.host;
	snprintf(job->rendezvous, sizeof(job->rendezvous), strchr(host, ':') ? "[%s]:%d" : "%s:%d",
		 host, rdt_server_port(job->server));
	return 0;
}

static bool watch_signals(struct job *job)
{
	static const int numbers[SIGNALS] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct sigaction old;

	job->ends = evsignal_new(job->base, SIGCHLD, on_child, job);
	if (!job->ends || evsignal_add(job->ends, NULL))
		return false;
	for (int i = 0; i < SIGNALS; i++) {
		/* nohup has reasons */
		if (numbers[i] == SIGHUP && sigaction(SIGHUP, NULL, &old) == 0 &&
		    old.sa_handler == SIG_IGN)
			continue;
		job->signals[i] = evsignal_new(job->base, numbers[i], on_signal, job);
		if (!job->signals[i] || evsignal_add(job->signals[i], NULL))
			return false;
	}
	return true;
}

static int prepare(struct job *job)
{
	const struct run_settings *s = &job->settings;
	double limit = s->timeout;
	struct timeval left = { .tv_sec = (time_t)limit,
				.tv_usec = (suseconds_t)((limit - (double)(time_t)limit) * 1e6) };

	job->base = event_base_new();
	job->workers = calloc((size_t)s->workers, sizeof(*job->workers));
	if (!job->base || !job->workers)
		goto no_memory;
	job->out = outlet_new(job->base, STDOUT_FILENO, end_when_done, job);
	job->err = outlet_new(job->base, STDERR_FILENO, end_when_done, job);
	job->timer = evtimer_new(job->base, on_timer, job);
	job->deadline = evtimer_new(job->base, on_deadline, job);
	if (!job->out || !job->err || !job->timer || !job->deadline || !watch_signals(job))
		goto no_memory;
	if (run_find_secret(s, job->secret, sizeof(job->secret))) {
		say(job, "%s", rdt_last_error());
		return EXIT_FAILURE;
	}
	if (start_service(job))
		return EXIT_FAILURE;
	if (limit > 0)
		evtimer_add(job->deadline, &left);
	if (s->verbose)
		say(job, "rendezvous at %s, %ld workers, OMP_NUM_THREADS %s%ld", job->rendezvous,
		    s->workers, getenv("OMP_NUM_THREADS") ? "is set, else " : "", run_threads(s));
	return 0;
no_memory:
	say(job, "out of memory");
	return EXIT_FAILURE;
}

static int start_workers(struct job *job)
{
	const struct run_settings *s = &job->settings;
	int status = 0;

	for (long i = 0; i < s->workers && !status; i++) {
		job->workers[i] =
			(struct worker){ .job = job, .rank = (int)(s->node * s->workers + i) };
		status = start_worker(&job->workers[i], (int)i);
	}
	return status;
}

static void release(struct job *job)
{
	struct event *events[] = { job->ends, job->timer, job->deadline };

	for (long i = 0; job->workers && i < job->settings.workers; i++) {
		output_free(job->workers[i].out);
		output_free(job->workers[i].err);
	}
	free(job->workers);
	if (job->server)
		rdt_server_free(job->server);
	outlet_free(job->out);
	outlet_free(job->err);
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		if (events[i])
			event_free(events[i]);
	for (int i = 0; i < SIGNALS; i++)
		if (job->signals[i])
			event_free(job->signals[i]);
	if (job->base)
		event_base_free(job->base);
	explicit_bzero(job->secret, sizeof(job->secret));
}

int rdt_cmd_run(int argc, char **argv)
{
	struct job job = { 0 };
	int status;

	run_parse(argc, argv, &job.settings);
	signal(SIGPIPE, SIG_IGN); /* our reader may go away: output.c sees it */
	run_raise_file_limit(&job.files);
	status = prepare(&job);
	if (!status) {
		status = start_workers(&job);
		if (status) {
			decide(&job, status);
			move_to(&job, KILLED);
		}
		job.started = true;
		if (job.running > 0 || !outlet_empty(job.out) || !outlet_empty(job.err))
			event_base_dispatch(job.base);
		status = job.decided ? job.status : 0;
	} else if (job.err && !outlet_empty(job.err)) {
		job.started = true;
		event_base_dispatch(job.base);
	}
	release(&job);
	return status;
}
