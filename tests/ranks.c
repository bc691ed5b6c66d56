/* SPDX-License-Identifier: BSD-3-Clause */
/* Several ranks on one machine, with a service and a deadline; see ranks.h. */
#include "ranks.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/bootstrap/server.h"
#include "lib/transport/transport.h"

#define SECRET "a secret for tests"
#define SHARED_BYTES 65536

struct shared {
	int port; /* 0: not up yet; -1: failed */
	pid_t pids[RANKS_MAX], service;
	_Alignas(64) char page[4096];
};

static struct shared *shared;

static void print_line(void *arg, const char *line)
{
	(void)arg;
	printf("%s\n", line);
}

bool ranks_checked(void)
{
	const char *check = getenv("RDTRAIN_CHECK");

	return check && strcmp(check, "1") == 0;
}

void ranks_need_device(void)
{
	const struct rdt_transport_config config = {
		.size = 1, .ib_timeout = -1, .ib_retry_cnt = -1, .ib_tc = -1, .ib_sl = -1
	};
	const char *transport = getenv("RDTRAIN_TRANSPORT"),
		   *require = getenv("RDTRAIN_TEST_REQUIRE_VERBS");
	int status = 0;
	pid_t pid;

	if (!transport || strcmp(transport, "verbs") != 0)
		return;
	/* In a process of its own: librdmacm keeps devices open, and a device opened before a fork
	 * is of no use after it. */
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		exit(!rdt_verbs_info(&config, print_line, NULL));
	if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return;
	exit(require && *require == '1' ? 1 : 77);
}

static void log_nothing(void *arg, const char *line)
{
	(void)arg;
	if (getenv("RDTRAIN_TEST_VERBOSE"))
		fprintf(stderr, "service: %s\n", line);
}

static void serve(void)
{
	struct rdt_server_config config = { .listen = "127.0.0.1:0",
					    .secret = SECRET,
					    .log = log_nothing };
	struct event_base *base = event_base_new();
	struct rdt_server *server;

	if (!base || rdt_server_new(base, &config, &server)) {
		fprintf(stderr, "the service does not start: %s\n", rdt_last_error());
		__atomic_store_n(&shared->port, -1, __ATOMIC_RELEASE);
		_exit(1);
	}
	__atomic_store_n(&shared->port, rdt_server_port(server), __ATOMIC_RELEASE);
	event_base_dispatch(base);
	_exit(0);
}

static pid_t spawn(void (*child)(void))
{
	pid_t parent = getpid(), pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		if (child)
			child();
	}
	return pid;
}

static void set_environment(int rank, int n)
{
	char text[64];

	snprintf(text, sizeof(text), "%d", rank);
	setenv("RDTRAIN_RANK", text, 1);
	snprintf(text, sizeof(text), "%d", n);
	setenv("RDTRAIN_SIZE", text, 1);
	setenv("RDTRAIN_LOCAL_SIZE", text, 1);
	snprintf(text, sizeof(text), "127.0.0.1:%d", shared->port);
	setenv("RDTRAIN_RENDEZVOUS", text, 1);
	setenv("RDTRAIN_SECRET", SECRET, 1);
}

/* Reaps until all n are gone or the deadline; then kills what is left. */
static bool reap(int n, int64_t deadline, struct ranks_result *result)
{
	bool ok = true;
	int left = n;

	while (left > 0) {
		int status, r;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid == 0) {
			if (rdt_now() > deadline && !result->timed_out) {
				result->timed_out = true;
				ok = false;
				for (r = 0; r < n; r++)
					if (shared->pids[r] > 0 && result->status[r] == -1) {
						fprintf(stderr, "rank %d has not ended in time\n",
							r);
						kill(shared->pids[r], SIGKILL);
					}
			}
			usleep(500);
			continue;
		}
		if (pid < 0)
			return false;
		for (r = 0; r < n && shared->pids[r] != pid; r++)
			;
		if (r == n)
			continue;
		result->status[r] = status;
		ok &= WIFEXITED(status) && WEXITSTATUS(status) == 0;
		left--;
	}
	return ok;
}

bool ranks_run_result(int n, double seconds, int (*fn)(int rank, int n, void *arg), void *arg,
		      struct ranks_result *result)
{
	int64_t deadline = rdt_deadline(seconds);
	pid_t service;
	bool ok = false;

	if (n < 1 || n > RANKS_MAX)
		return false;
	for (int r = 0; r < RANKS_MAX; r++)
		result->status[r] = -1;
	result->timed_out = false;
	shared =
		mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return false;
	service = spawn(serve);
	__atomic_store_n(&shared->service, service, __ATOMIC_RELEASE);
	while (__atomic_load_n(&shared->port, __ATOMIC_ACQUIRE) == 0 && rdt_now() < deadline)
		usleep(200);
	if (shared->port <= 0)
		goto out;
	for (int r = 0; r < n; r++) {
		pid_t pid = spawn(NULL);

		if (pid == 0) {
			set_environment(r, n);
			/* Ranks name each other, so all must be known before any starts. */
			while (__atomic_load_n(&shared->pids[n - 1], __ATOMIC_ACQUIRE) == 0)
				usleep(100);
			r = fn(r, n, arg);
			fflush(NULL);
			exit(r); /* not _exit: the leak checker reports at exit */
		}
		__atomic_store_n(&shared->pids[r], pid, __ATOMIC_RELEASE);
	}
	ok = reap(n, deadline, result);
out:
	/* It may have been killed and reaped. */
	if (service > 0 && waitpid(service, NULL, WNOHANG) == 0) {
		kill(service, SIGKILL);
		waitpid(service, NULL, 0);
	}
	munmap(shared, SHARED_BYTES);
	shared = NULL;
	return ok;
}

bool ranks_run(int n, double seconds, int (*fn)(int rank, int n, void *arg), void *arg)
{
	struct ranks_result result;

	return ranks_run_result(n, seconds, fn, arg, &result);
}

pid_t ranks_pid(int rank)
{
	return shared->pids[rank];
}

void ranks_kill_service(void)
{
	kill(shared->service, SIGKILL);
}

void *ranks_shared(void)
{
	return shared->page;
}

bool ranks_meet(uint32_t *counter, uint32_t total)
{
	int64_t deadline = rdt_deadline(30);

	__atomic_add_fetch(counter, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(counter, __ATOMIC_ACQUIRE) < total) {
		if (rdt_now() > deadline)
			return false;
		usleep(100);
	}
	return true;
}

int ranks_failed(const char *file, int line, const char *what)
{
	const char *rank = getenv("RDTRAIN_RANK");

	fprintf(stderr, "%s:%d: rank %s: %s does not hold (%s)\n", file, line, rank ? rank : "?",
		what, rdt_last_error());
	return 1;
}
