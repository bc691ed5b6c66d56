/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Starts and ends the rendezvous service as a child process (service.h). The secret travels in the
 * child's environment, never on its command line, which every user of the host can read.
 *
 * The child watches this process by a pidfd (--parent) instead of PR_SET_PDEATHSIG: that signal
 * comes when the *thread* that forked ends, and a communicator may well be made by a short-lived
 * thread.
 */
#include "lib/bootstrap/service.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/bootstrap/address.h"

extern char **environ;

/* The environment of the child: ours, with the secret in place of whatever names one. Its first
 * entry is allocated, the others are shared with environ. */
static char **make_environment(const char *secret)
{
	static const char *const drop[] = { "RDTRAIN_SECRET=", "RDTRAIN_SECRET_FILE=" };
	size_t n = 0, at = 0;
	char **env;

	while (environ && environ[n])
		n++;
	env = calloc(n + 2, sizeof(*env));
	if (!env)
		return NULL;
	if (asprintf(&env[at++], "RDTRAIN_SECRET=%s", secret) < 0) {
		free(env);
		return NULL;
	}
	for (size_t i = 0; i < n; i++)
		if (strncmp(environ[i], drop[0], strlen(drop[0])) &&
		    strncmp(environ[i], drop[1], strlen(drop[1])))
			env[at++] = environ[i];
	return env;
}

/* Default signals and an own process group: Ctrl-C is for the workers, and the service outlives
 * them by a moment to tell the others. */
static int spawn(const char *program, const char *const *argv, char **env, int out, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int error;

	sigemptyset(&none);
	sigfillset(&all);
	error = posix_spawn_file_actions_init(&actions);
	if (error)
		return error;
	error = posix_spawnattr_init(&attributes);
	if (error)
		goto destroy_actions;
	error = posix_spawnattr_setsigmask(&attributes, &none);
	if (!error)
		error = posix_spawnattr_setsigdefault(&attributes, &all);
	if (!error)
		error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK |
								      POSIX_SPAWN_SETSIGDEF |
								      POSIX_SPAWN_SETPGROUP);
	if (!error)
		error = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	if (!error)
		error = posix_spawn_file_actions_adddup2(&actions, out, 1);
	if (!error)
		error = posix_spawn_file_actions_adddup2(&actions, out, 2);
	if (!error)
		error = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
	if (!error)
		error = posix_spawnp(pid, program, &actions, &attributes, (char **)argv, env);
	posix_spawnattr_destroy(&attributes);
destroy_actions:
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

/* Reads what the service says until it listens (0), ends, or the deadline passes; `said` is the
 * text without line ends. */
static int await_listening(int fd, int64_t deadline, char *said, size_t room)
{
	size_t have = 0;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int left = rdt_left_ms(deadline);
		ssize_t n;

		said[have] = 0;
		if (strstr(said, "listening on "))
			return 0;
		n = poll(&p, 1, left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || have + 1 >= room)
			return -1;
		n = read(fd, said + have, room - 1 - have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		for (ssize_t i = 0; i < n; i++)
			if (said[have + (size_t)i] == '\n' || !said[have + (size_t)i])
				said[have + (size_t)i] = ' ';
		have += (size_t)n;
	}
}

/*
 * Where to listen: the very address when it was given in numbers, else all interfaces, for this
 * host's own name often means loopback here (127.0.1.1) and the network elsewhere. Without the key
 * nobody gets further than the handshake on any of them.
 */
static bool listen_address(const char *rendezvous, char *text, size_t room)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *list;
	struct rdt_address address;
	bool exact;

	if (!rdt_address_parse(rendezvous, &address))
		return false;
	exact = !strcmp(address.host, "localhost");
	if (!getaddrinfo(address.host, address.port, &hints, &list)) {
		freeaddrinfo(list);
		exact = true;
	}
	if (exact)
		snprintf(text, room, "%s", rendezvous);
	else
		snprintf(text, room, "*:%s", address.port);
	return true;
}

int rdt_service_start(const struct rdt_identity *identity, int64_t deadline, pid_t *pid)
{
	const char *program = getenv("RDTRAIN_PROGRAM");
	char listen[sizeof(identity->rendezvous)], parent[16], said[512];
	const char *const argv[] = { "rdtrain", "rendezvous", "--listen", listen,
				     "--once",	"--parent",   parent,	  NULL };
	int fds[2], error, status = RDT_OK;
	char **env;

	if (!program || !*program)
		program = "rdtrain";
	if (!listen_address(identity->rendezvous, listen, sizeof(listen)))
		return rdt_err(RDT_ERR_INVALID, "the rendezvous '%s' is no HOST:PORT",
			       identity->rendezvous);
	snprintf(parent, sizeof(parent), "%d", (int)getpid());
	env = make_environment(identity->secret);
	if (!env)
		return rdt_err(RDT_ERR_NOMEM, "no memory to start the rendezvous service");
	if (pipe2(fds, O_CLOEXEC)) {
		status = rdt_err_errno(RDT_ERR_SYSTEM,
				       "cannot make a pipe to start the rendezvous service");
		goto free_env;
	}
	error = spawn(program, argv, env, fds[1], pid);
	close(fds[1]);
	if (error) {
		status = rdt_err(RDT_ERR_UNREACHABLE,
				 "rank 0 cannot start the rendezvous service, the program %s: %s; "
				 "install rdtrain in PATH or name it in RDTRAIN_PROGRAM",
				 program, strerrordesc_np(error));
	} else if (await_listening(fds[0], deadline, said, sizeof(said))) {
		rdt_service_stop(*pid);
		status = rdt_err(
			RDT_ERR_UNREACHABLE,
			"the rendezvous service that rank 0 started (%s rendezvous --listen "
			"%s) does not listen: %s; free the port or choose another with "
			"RDTRAIN_PORT",
			program, listen, said[0] ? said : "it said nothing");
	}
	close(fds[0]);
free_env:
	explicit_bzero(env[0], strlen(env[0]));
	free(env[0]);
	free(env);
	return status;
}

/* True once the child is gone: here, or because the host process has reaped it. */
static bool gone_by(pid_t pid, int64_t deadline)
{
	for (;;) {
		struct timespec pause = { .tv_nsec = 5000000 };
		pid_t n = waitpid(pid, NULL, WNOHANG);

		if (n == pid || (n < 0 && errno != EINTR))
			return true;
		if (!rdt_left_ms(deadline))
			return false;
		nanosleep(&pause, NULL);
	}
}

void rdt_service_finish(pid_t pid, int64_t deadline)
{
	if (!gone_by(pid, deadline))
		rdt_service_stop(pid);
}

void rdt_service_stop(pid_t pid)
{
	/* Asked first whether it is still ours: a reaped child's number may be another's by now. */
	if (gone_by(pid, 0))
		return;
	kill(pid, SIGTERM);
	if (gone_by(pid, rdt_deadline(1)))
		return;
	kill(pid, SIGKILL);
	(void)gone_by(pid, rdt_deadline(1));
}
