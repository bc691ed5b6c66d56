/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For the tests of bootstrap: a real service in a child process, with its log to read, and members
 * of two kinds: through rdt_rendezvous_ops, and raw, which send what they like.
 */
#ifndef BOOTSTRAP_SERVICE_H
#define BOOTSTRAP_SERVICE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/bootstrap/bootstrap.h"
#include "lib/bootstrap/channel.h"
#include "lib/bootstrap/server.h"

#define SECRET "between us"
#define LONG 10.0 /* seconds: a deadline that a test in order never reaches */

#define ops (&rdt_rendezvous_ops)
#define assert_ok(call) assert_ok_at(call, #call, __FILE__, __LINE__)
#define assert_says(words) assert_says_at(rdt_last_error(), words, __FILE__, __LINE__)

static inline void assert_ok_at(int status, const char *call, const char *file, int line)
{
	if (!status)
		return;
	print_error("%s: %s (%s)\n", call, rdt_strerror(status), rdt_last_error());
	_fail(file, line);
}

static inline void assert_says_at(const char *text, const char *words, const char *file, int line)
{
	if (strstr(text, words))
		return;
	print_error("\"%s\" is not in \"%s\"\n", words, text);
	_fail(file, line);
}

struct service {
	pid_t pid;
	int port, log;
	char said[16384];
	size_t have;
	char line[1100]; /* the one that service_said() ended in */
};

static inline void service_log(void *arg, const char *line)
{
	dprintf(*(int *)arg, "%s\n", line);
}

static inline void service_child(struct rdt_server_config config, int report, int log)
{
	struct event_base *base = event_base_new();
	struct rdt_server *server;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	config.log = service_log;
	config.arg = &log;
	if (rdt_server_new(base, &config, &server)) {
		dprintf(report, "0 %s", rdt_last_error());
		_exit(1);
	}
	dprintf(report, "%d", rdt_server_port(server));
	close(report);
	event_base_dispatch(base);
	_exit(0);
}

static inline struct service *service_start(struct rdt_server_config config)
{
	struct service *s = calloc(1, sizeof(*s));
	int report[2], log[2];
	char text[512] = "";

	assert_non_null(s);
	if (!config.listen)
		config.listen = "127.0.0.1:0";
	if (!config.secret && !config.secret_file)
		config.secret = SECRET;
	assert_int_equal(pipe(report), 0);
	assert_int_equal(pipe(log), 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		close(report[0]);
		close(log[0]);
		service_child(config, report[1], log[1]);
	}
	close(report[1]);
	close(log[1]);
	assert_true(read(report[0], text, sizeof(text) - 1) > 0);
	close(report[0]);
	s->log = log[0];
	s->port = atoi(text);
	if (!s->port)
		print_error("the service did not start: %s\n", text);
	assert_true(s->port > 0);
	return s;
}

static inline void service_kill(struct service *s)
{
	if (s->pid > 0) {
		kill(s->pid, SIGKILL);
		waitpid(s->pid, NULL, 0);
	}
	s->pid = 0;
}

static inline void service_end(struct service *s)
{
	service_kill(s);
	close(s->log);
	free(s);
}

/* Asleep it waits for events, and there are none. */
static inline bool service_sleeps(const struct service *s)
{
	char path[64], state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)s->pid);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*d (%*[^)]) %c", &state), 1);
	fclose(f);
	return state == 'S';
}

/*
 * What is sent while the service is held reaches it together and in this order: it takes in all of
 * it before any of its timers, however slow the machine is. Connections that end meanwhile, it
 * takes in after what was said.
 */
static inline void service_hold(struct service *s)
{
	int64_t deadline = rdt_deadline(LONG);
	int how;

	while (!service_sleeps(s)) {
		assert_true(rdt_left_ms(deadline) > 0);
		poll(NULL, 0, 1);
	}
	assert_int_equal(kill(s->pid, SIGSTOP), 0);
	assert_int_equal(waitpid(s->pid, &how, WUNTRACED), s->pid);
	assert_true(WIFSTOPPED(how));
}

static inline void service_go_on(struct service *s)
{
	assert_int_equal(kill(s->pid, SIGCONT), 0);
}

/* Waits until the service has logged these words since the last such wait that they ended. */
static inline bool service_said(struct service *s, const char *words)
{
	int64_t deadline = rdt_deadline(LONG);

	for (;;) {
		struct pollfd p = { .fd = s->log, .events = POLLIN };
		char *at = strstr(s->said, words);
		ssize_t n;

		if (at) {
			char *from = at;

			while (from > s->said && from[-1] != '\n')
				from--;
			snprintf(s->line, sizeof(s->line), "%.*s", (int)strcspn(from, "\n"), from);
			at += strlen(words);
			s->have -= (size_t)(at - s->said);
			memmove(s->said, at, s->have + 1);
			return true;
		}
		if (s->have + 1 == sizeof(s->said) || poll(&p, 1, rdt_left_ms(deadline)) <= 0)
			break;
		n = read(s->log, s->said + s->have, sizeof(s->said) - 1 - s->have);
		if (n <= 0)
			break;
		s->have += (size_t)n;
		s->said[s->have] = 0;
	}
	print_error("the service did not say \"%s\" but: %s\n", words, s->said);
	return false;
}

static inline struct rdt_identity identity(const struct service *s, int rank, int world)
{
	struct rdt_identity id = { .rank = rank, .world = world, .job = "job", .secret = SECRET };

	snprintf(id.rendezvous, sizeof(id.rendezvous), "127.0.0.1:%d", s->port);
	return id;
}

static inline struct rdt_bootstrap *join_as(const struct rdt_identity *id)
{
	struct rdt_bootstrap *b = NULL;

	assert_ok(ops->open(id, rdt_deadline(LONG), &b));
	return b;
}

static inline struct rdt_bootstrap *join(const struct service *s, int rank, int world)
{
	struct rdt_identity id = identity(s, rank, world);

	return join_as(&id);
}

/* Polls fd() and calls watch() until there is an event. */
static inline struct rdt_bootstrap_event next_event(struct rdt_bootstrap *b)
{
	struct rdt_bootstrap_event event;
	int64_t deadline = rdt_deadline(LONG);

	while (!ops->watch(b, &event)) {
		struct pollfd p = { .fd = ops->fd(b), .events = POLLIN };

		assert_true(poll(&p, 1, rdt_left_ms(deadline)) > 0);
	}
	return event;
}

/* A connection with the key but without manners. */
static inline struct rdt_channel *raw_connect(const struct service *s, const char *job)
{
	struct rdt_channel *c = calloc(1, sizeof(*c));
	char port[16];
	bool again;

	assert_non_null(c);
	snprintf(port, sizeof(port), "%d", s->port);
	assert_ok(rdt_channel_init(c, job, SECRET));
	assert_ok(rdt_channel_connect(c, "127.0.0.1", port, rdt_deadline(LONG), &again));
	return c;
}

static inline void raw_send(struct rdt_channel *c, struct rdt_message m)
{
	assert_int_equal(rdt_channel_send(c, &m, rdt_deadline(LONG)), 0);
}

static inline struct rdt_message raw_receive(struct rdt_channel *c)
{
	struct rdt_message m;

	do
		if (rdt_channel_receive(c, &m, rdt_deadline(LONG))) {
			print_error("no message: %s\n", c->why);
			fail();
		}
	while (m.type == RDT_MSG_PULSE); /* which may come at any time */
	return m;
}

/* True when the service hangs up. */
static inline bool raw_hung_up(struct rdt_channel *c)
{
	struct rdt_message m;
	int status = 0;

	while (!status)
		status = rdt_channel_receive(c, &m, rdt_deadline(LONG));
	return status < 0;
}

static inline struct rdt_message hello(uint32_t rank, uint32_t world)
{
	return (struct rdt_message){ .type = RDT_MSG_HELLO,
				     .version = RDT_WIRE_VERSION,
				     .rank = rank,
				     .world = world,
				     .job = "job" };
}

static inline struct rdt_channel *raw_join(const struct service *s, uint32_t rank, uint32_t world)
{
	struct rdt_channel *c = raw_connect(s, "job");

	raw_send(c, hello(rank, world));
	assert_int_equal(raw_receive(c).type, RDT_MSG_WELCOME);
	return c;
}

/* Returns when the service has taken all that was sent before on this connection. */
static inline void raw_settle(struct rdt_channel *c)
{
	static unsigned n;
	struct rdt_message m = { .type = RDT_MSG_PUT, .number = 1000000 };

	snprintf(m.key, sizeof(m.key), "settle %u", n++);
	raw_send(c, m);
	m = raw_receive(c);
	assert_int_equal(m.type, RDT_MSG_STORED);
	assert_int_equal(m.status, RDT_OK);
}

/* The next message of that type, and of that kind if it is an event; others are passed over. */
static inline struct rdt_message raw_await(struct rdt_channel *c, enum rdt_message_type type,
					   uint8_t kind)
{
	struct rdt_message m;

	do
		m = raw_receive(c);
	while (m.type != type || (type == RDT_MSG_EVENT && m.kind != kind));
	return m;
}

static inline void raw_join_all(const struct service *s, struct rdt_channel **c, uint32_t world)
{
	for (uint32_t r = 0; r < world; r++)
		c[r] = raw_join(s, r, world);
}

static inline void raw_close(struct rdt_channel *c)
{
	rdt_channel_free(c);
	free(c);
}

/* A plain TCP connection; receives time out. */
/* From this address of this host. */
static inline int tcp_connect_from(const struct service *s, const char *ip)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)s->port) };
	struct sockaddr_in from = { .sin_family = AF_INET };
	struct timeval t = { .tv_sec = (time_t)LONG };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(inet_pton(AF_INET, ip, &from.sin_addr), 1);
	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

static inline int tcp_connect(const struct service *s)
{
	return tcp_connect_from(s, "127.0.0.1");
}

/* True when the service hangs up, whatever it says first. */
static inline bool tcp_hung_up(int fd)
{
	char bytes[256];
	ssize_t n;

	do
		n = recv(fd, bytes, sizeof(bytes), 0);
	while (n > 0);
	return n == 0 || errno == ECONNRESET;
}

#endif
