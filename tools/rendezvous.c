/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdtrain rendezvous: the service where the workers of jobs meet (lib/bootstrap/server.h), as a
 * process of its own. Only options, signals and words are here.
 */
#include "tools/commands.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "lib/base/error.h"
#include "lib/bootstrap/address.h"
#include "lib/bootstrap/secret.h"
#include "lib/bootstrap/server.h"

#define DEFAULT_LISTEN "127.0.0.1:4711"

struct settings {
	const char *listen, *secret_file, *port_file;
	long parent;
	bool verbose, once;
	struct event_base *base;
};

enum { OPTION_ONCE = 256, OPTION_PARENT };

static const struct argp_option options[] = {
	{ "listen", 'l', "ADDR:PORT", 0,
	  "Listen there; * is all interfaces, port 0 any free one (default " DEFAULT_LISTEN
	  ", which only this host reaches)",
	  0 },
	{ "secret-file", 's', "FILE", 0,
	  "Lines \"JOB SECRET\", * for any job, # for comments; mode 600. Without it "
	  "RDTRAIN_SECRET, "
	  "or the first line of the file in RDTRAIN_SECRET_FILE, is the secret of every job",
	  0 },
	{ "port-file", 'p', "FILE", 0, "Write the port there once it is bound", 0 },
	{ "once", OPTION_ONCE, NULL, 0, "End when the last member of the first jobs has left", 0 },
	{ "parent", OPTION_PARENT, "PID", 0, "End when the parent process, PID, has ended", 0 },
	{ "verbose", 'v', NULL, 0,
	  "Say on stderr who joins and leaves, beside who is turned away and why", 0 },
	{ 0 },
};

static const char doc[] =
	"The service where the workers of a job meet. Start it on one host, then the workers "
	"with RDTRAIN_RENDEZVOUS=HOST:PORT and the same secret. It ends on SIGINT or SIGTERM. "
	"Make a secret of random bytes, as `openssl rand -hex 32` does: one that can be guessed "
	"can be "
	"found by who sees a handshake."
	"\v"
	"Limits: 65536 ranks a job; 4096 jobs, of which the parts and "
	"generations of one are 1024 at most; values of 16 KiB, 256 MiB of them a job; "
	"connections: as many as open files are allowed (ulimit -n, raised to its hard limit), "
	"4096 from one address, 256 not authenticated yet from one (IPv6: from one /64), and from "
	"all together no more than half of the connections; 5 s for TLS handshake and "
	"hello, 128 bytes for the hello, 17 KiB for a message; a member that leaves 16 MiB unread "
	"is dropped. Who is turned away for want of room tries again until RDTRAIN_START_TIMEOUT. "
	"On stderr: a line for each stranger that is turned away, 10 a second at most, and how "
	"many more there were.\n"
	"\n"
	"When the service ends before all ranks of a job have joined, and is started again at the "
	"same address, they join the new one by themselves. Jobs that had come together go on "
	"without it until they need it again, as for a new plan; then they get an error.";

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct settings *s = state->input;
	char *end;

	switch (key) {
	case 'l': s->listen = arg; return 0;
	case 's': s->secret_file = arg; return 0;
	case 'p': s->port_file = arg; return 0;
	case 'v': s->verbose = true; return 0;
	case OPTION_ONCE: s->once = true; return 0;
	case OPTION_PARENT:
		s->parent = strtol(arg, &end, 10);
		if (s->parent <= 0 || *end)
			argp_error(state, "--parent is '%s'; it must be a process number", arg);
		return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

static void print_line(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "rdtrain rendezvous: %s\n", line);
}

/* Ends the loop in a moment: what the last members are to hear goes out first. */
static void end_soon(struct settings *s)
{
	struct timeval t = { .tv_usec = 100000 };

	event_base_loopexit(s->base, &t);
}

static void on_empty(void *arg)
{
	struct settings *s = arg;

	if (s->once)
		end_soon(s);
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
	(void)number;
	(void)what;
	event_base_loopbreak(arg);
}

/* An orphan gets another parent. */
static void on_parent_check(evutil_socket_t fd, short what, void *arg)
{
	struct settings *s = arg;

	(void)fd;
	(void)what;
	if (getppid() != (pid_t)s->parent)
		end_soon(s);
}

/* Whoever waits for the file must find it whole: written beside, then renamed. */
static int write_port(const char *path, int port)
{
	char beside[4096];
	int n = snprintf(beside, sizeof(beside), "%s.%d", path, (int)getpid()), fd, bad;

	if (n < 0 || (size_t)n >= sizeof(beside))
		return rdt_err(RDT_ERR_INVALID, "the port file's name is too long");
	fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return rdt_err_errno(RDT_ERR_SYSTEM, "cannot write the port file %s", beside);
	bad = dprintf(fd, "%d\n", port) < 0;
	bad |= close(fd) != 0;
	if (!bad && !rename(beside, path))
		return RDT_OK;
	rdt_err_errno(RDT_ERR_SYSTEM, "cannot write the port file %s", path);
	unlink(beside);
	return RDT_ERR_SYSTEM;
}

static void raise_file_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files))
		return;
	files.rlim_cur = files.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &files); /* the service says when it runs out */
}

static int find_secret(const struct settings *s, struct rdt_server_config *config, char *secret,
		       size_t room)
{
	const char *text = getenv("RDTRAIN_SECRET"), *file = getenv("RDTRAIN_SECRET_FILE");

	if (s->secret_file) {
		config->secret_file = s->secret_file;
	} else if (text && *text) {
		config->secret = text;
	} else if (file && *file) {
		int status = rdt_secret_read("RDTRAIN_SECRET_FILE", file, secret, room);

		if (status)
			return status;
		config->secret = secret;
	}
	return RDT_OK;
}

static void announce(const struct settings *s, int port)
{
	struct rdt_address address;

	if (rdt_address_parse(s->listen, &address))
		printf(strchr(address.host, ':') ? "listening on [%s]:%d\n"
						 : "listening on %s:%d\n",
		       address.host, port);
	fflush(stdout);
}

static int serve(struct settings *s)
{
	struct rdt_server_config config = {
		.listen = s->listen,
		.log = print_line,
		.arg = s,
		.strangers_only = !s->verbose,
		.empty = on_empty,
	};
	struct timeval tenth = { .tv_usec = 100000 };
	struct event *on_int = NULL, *on_term = NULL, *check = NULL;
	struct rdt_server *server = NULL;
	char secret[256] = "";
	int status;

	s->base = event_base_new();
	if (!s->base)
		return rdt_err(RDT_ERR_SYSTEM, "cannot make an event loop");
	on_int = evsignal_new(s->base, SIGINT, on_signal, s->base);
	on_term = evsignal_new(s->base, SIGTERM, on_signal, s->base);
	check = event_new(s->base, -1, EV_PERSIST, on_parent_check, s);
	if (!on_int || !on_term || !check || event_add(on_int, NULL) || event_add(on_term, NULL) ||
	    (s->parent && event_add(check, &tenth))) {
		status = rdt_err(RDT_ERR_SYSTEM, "cannot watch for signals");
		goto free_all;
	}
	status = find_secret(s, &config, secret, sizeof(secret));
	if (!status)
		status = rdt_server_new(s->base, &config, &server);
	explicit_bzero(secret, sizeof(secret));
	if (!status && s->port_file)
		status = write_port(s->port_file, rdt_server_port(server));
	if (status)
		goto free_all;
	announce(s, rdt_server_port(server));
	if (event_base_dispatch(s->base) < 0)
		status = rdt_err_errno(RDT_ERR_SYSTEM, "the event loop failed");
free_all:
	rdt_server_free(server);
	if (check)
		event_free(check);
	if (on_term)
		event_free(on_term);
	if (on_int)
		event_free(on_int);
	event_base_free(s->base);
	return status;
}

int rdt_cmd_rendezvous(int argc, char **argv)
{
	static const struct argp argp = { options, parse, NULL, doc, NULL, NULL, NULL };
	struct settings s = { .listen = DEFAULT_LISTEN };

	argp_parse(&argp, argc, argv, 0, NULL, &s);
	signal(SIGPIPE, SIG_IGN); /* a reader of our one line may be gone by the next */
	raise_file_limit();
	if (serve(&s)) {
		fprintf(stderr, "rdtrain rendezvous: %s\n", rdt_last_error());
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
