/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command `rdtrain rendezvous`, and the service that rank 0 starts under torchrun. This program
 * stands in for rdtrain: called as "PROGRAM rendezvous ..." it runs that command.
 */
#include "bootstrap_service.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "lib/bootstrap/service.h"

#include "tools/rendezvous.c"

static char self_path[4096];
static char folder[] = "/tmp/rdtrain-program-XXXXXX";

/* ---- the command
 * --------------------------------------------------------------------------------- */

struct running {
	pid_t pid;
	int out;
	char said[8192];
};

static struct running run_command(const char *const *arguments)
{
	struct running c = { 0 };
	const char *argv[16] = { "rdtrain", "rendezvous" };
	int fds[2], n = 2;

	while (*arguments)
		argv[n++] = *arguments++;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	c.pid = fork();
	assert_true(c.pid >= 0);
	if (c.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(fds[1], 1);
		dup2(fds[1], 2);
		execv(self_path, (char **)argv);
		_exit(127);
	}
	close(fds[1]);
	c.out = fds[0];
	return c;
}

/* Reads until the words are there, or the program closes its output. */
static bool command_said(struct running *c, const char *words)
{
	size_t have = strlen(c->said);

	while (!strstr(c->said, words)) {
		struct pollfd p = { .fd = c->out, .events = POLLIN };
		ssize_t n;

		if (poll(&p, 1, (int)(LONG * 1000)) <= 0)
			return false;
		n = read(c->out, c->said + have, sizeof(c->said) - 1 - have);
		if (n <= 0)
			return false;
		have += (size_t)n;
		c->said[have] = 0;
	}
	return true;
}

static int command_status(struct running *c)
{
	int status = -1;

	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	close(c->out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void the_command_listens_writes_its_port_and_ends_with_0_on_a_signal(void **state)
{
	static const int signals[] = { SIGINT, SIGTERM };
	char path[sizeof(folder) + 8], text[16] = "", line[64];

	(void)state;
	snprintf(path, sizeof(path), "%s/port", folder);
	setenv("RDTRAIN_SECRET", SECRET, 1);
	for (int i = 0; i < 2; i++) {
		const char *const arguments[] = { "--listen", "127.0.0.1:0", "--port-file",
						  path,	      "-v",	     NULL };
		struct running c = run_command(arguments);
		struct service s = { 0 };
		struct rdt_bootstrap *b;
		int fd;

		assert_true(command_said(&c, "\n"));
		fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		assert_true(read(fd, text, sizeof(text) - 1) > 0);
		close(fd);
		s.port = atoi(text);
		snprintf(line, sizeof(line), "listening on 127.0.0.1:%d\n", s.port);
		assert_string_equal(c.said, line);
		b = join(&s, 0, 1); /* who is still there does not keep it */
		kill(c.pid, signals[i]);
		assert_int_equal(command_status(&c), 0);
		assert_int_equal(next_event(b).kind, RDT_EVENT_SERVICE);
		ops->close(b, true);
		unlink(path);
	}
	unsetenv("RDTRAIN_SECRET");
}

static void the_command_takes_its_secret_from_a_file_too(void **state)
{
	char path[sizeof(folder) + 8];
	const char *const by_option[] = { "--listen", "127.0.0.1:0", "--secret-file", path, NULL };
	const char *const by_variable[] = { "--listen", "127.0.0.1:0", NULL };
	struct running c;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/secret", folder);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(dprintf(fd, "job " SECRET "\n") > 0);
	for (int i = 0; i < 2; i++) {
		struct service s = { 0 };
		struct rdt_identity id;

		if (i)
			setenv("RDTRAIN_SECRET_FILE", path, 1);
		c = run_command(i ? by_variable : by_option);
		assert_true(command_said(&c, "\n"));
		s.port = atoi(strrchr(c.said, ':') + 1);
		id = identity(&s, 0, 1);
		if (i) /* there the whole line is the secret */
			strcpy(id.secret, "job " SECRET);
		ops->close(join_as(&id), true);
		kill(c.pid, SIGTERM);
		assert_int_equal(command_status(&c), 0);
	}
	assert_int_equal(fchmod(fd, 0644), 0);
	c = run_command(by_variable);
	assert_true(command_said(&c, "chmod 600"));
	assert_int_equal(command_status(&c), 1);
	unsetenv("RDTRAIN_SECRET_FILE");
	close(fd);
	unlink(path);
}

static void the_command_without_a_secret_or_with_a_bad_address_fails_and_says_why(void **state)
{
	const char *const arguments[] = { "--listen", "nowhere", NULL };
	struct running c = run_command(arguments);

	(void)state;
	assert_true(command_said(&c, "RDTRAIN_SECRET"));
	assert_int_equal(command_status(&c), 1);
	setenv("RDTRAIN_SECRET", SECRET, 1);
	c = run_command(arguments);
	assert_true(command_said(&c, "HOST:PORT"));
	assert_int_equal(command_status(&c), 1);
	unsetenv("RDTRAIN_SECRET");
}

static void help_names_the_default_address_and_the_limits(void **state)
{
	const char *const arguments[] = { "--help", NULL };
	struct running c = run_command(arguments);

	(void)state;
	assert_true(command_said(&c, "127.0.0.1:4711"));
	assert_true(command_said(&c, "65536 ranks"));
	assert_int_equal(command_status(&c), 0);
}

/* ---- the service of rank 0
 * ------------------------------------------------------------------------ */

/* A port that was free a moment ago. */
static int free_port(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t length = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &length), 0);
	close(fd);
	return ntohs(in.sin_port);
}

static struct rdt_identity torchrun_identity(int rank, int world)
{
	struct service s = { .port = free_port() };
	struct rdt_identity id = identity(&s, rank, world);

	id.start_service = rank == 0;
	return id;
}

static void rank_0_starts_the_service_and_ends_it_when_all_have_left(void **state)
{
	struct rdt_identity zero = torchrun_identity(0, 2), one = zero;
	struct rdt_bootstrap *b = join_as(&zero);
	pid_t pid;
	int status = -1;
	char value[8];
	size_t length = sizeof(value);

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct rdt_bootstrap *c;

		one.rank = 1;
		one.start_service = false;
		if (ops->open(&one, rdt_deadline(LONG), &c) || ops->put(c, "k", "v", 1) ||
		    ops->get(c, 0, "done", value, &length, rdt_deadline(LONG)))
			_exit(1);
		/* Rank 0 is in close() now, or soon; the service still serves us. */
		while (next_event(c).kind != RDT_EVENT_LEFT)
			;
		if (ops->put(c, "late", "v", 1))
			_exit(2);
		ops->close(c, true);
		_exit(0);
	}
	assert_ok(ops->get(b, 1, "k", value, &length, rdt_deadline(LONG)));
	assert_ok(ops->put(b, "done", "", 0));
	ops->close(b, true);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left behind */
	assert_int_equal(errno, ECHILD);
	b = join_as(&zero); /* and the port is free for the next run */
	ops->close(b, true);
}

static void the_service_serves_until_the_last_that_rests_on_it_is_closed(void **state)
{
	struct rdt_identity first = torchrun_identity(0, 1), second = first;
	struct rdt_bootstrap *b, *next;
	int64_t from = rdt_now();

	(void)state;
	b = join_as(&first);
	second.start_service = false;
	snprintf(second.job, sizeof(second.job), "%.40s/2", first.job);
	next = join_as(&second);
	ops->bequeath(b, next);
	ops->close(next, true);
	assert_ok(ops->put(b, "k", "", 0));
	ops->close(b, true);
	assert_true(rdt_now() - from < 9000000000);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void a_service_started_under_a_name_listens_on_all_interfaces(void **state)
{
	struct rdt_identity id = torchrun_identity(0, 1);
	const char *port = strrchr(id.rendezvous, ':') + 1;
	struct service s = { .port = atoi(port) };
	char name[200] = "";
	pid_t pid;

	(void)state;
	assert_int_equal(gethostname(name, sizeof(name) - 1), 0);
	snprintf(id.rendezvous, sizeof(id.rendezvous), "%s:%d", name, s.port);
	assert_ok(rdt_service_start(&id, rdt_deadline(LONG), &pid));
	ops->close(join(&s, 0, 1), true); /* by 127.0.0.1, whatever the name means */
	rdt_service_finish(pid, rdt_deadline(LONG));
}

static void the_service_ends_with_its_parent_and_the_others_hear_of_both(void **state)
{
	struct rdt_identity id = torchrun_identity(0, 2);
	struct rdt_bootstrap_event event;
	struct rdt_bootstrap *b;
	pid_t pid;
	int out[2];
	char c;

	(void)state;
	assert_int_equal(pipe(out), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (ops->open(&id, rdt_deadline(LONG), &b) || write(out[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(out[1]);
	assert_int_equal(read(out[0], &c, 1), 1);
	id.rank = 1;
	id.start_service = false;
	b = join_as(&id);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	event = next_event(b);
	assert_int_equal(event.kind, RDT_EVENT_LOST);
	assert_int_equal(event.rank, 0);
	event = next_event(b);
	assert_int_equal(event.kind, RDT_EVENT_SERVICE);
	ops->close(b, true);
	close(out[0]);
}

struct opening {
	struct rdt_identity id;
	struct rdt_bootstrap *b;
};

static void *open_in_thread(void *arg)
{
	struct opening *o = arg;

	if (ops->open(&o->id, rdt_deadline(LONG), &o->b))
		o->b = NULL;
	return NULL;
}

static void the_service_outlives_the_thread_that_started_it(void **state)
{
	struct opening o = { .id = torchrun_identity(0, 1) };
	pthread_t thread;
	struct rdt_bootstrap *b;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, open_in_thread, &o), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	b = o.b;
	assert_non_null(b);
	for (int i = 0; i < 20; i++) {
		char key[16];

		snprintf(key, sizeof(key), "k%d", i);
		assert_ok(ops->put(b, key, "", 0));
	}
	ops->close(b, true);
}

static void a_service_that_cannot_listen_is_an_error_with_its_own_words(void **state)
{
	struct service *taken = service_start((struct rdt_server_config){ 0 });
	struct rdt_identity id = identity(taken, 0, 2);
	struct rdt_bootstrap *b;

	(void)state;
	id.start_service = true;
	assert_int_equal(ops->open(&id, rdt_deadline(LONG), &b), RDT_ERR_UNREACHABLE);
	assert_says("Address already in use");
	assert_says("RDTRAIN_PORT");
	setenv("RDTRAIN_PROGRAM", "/nonexistent/rdtrain", 1);
	assert_int_equal(ops->open(&id, rdt_deadline(LONG), &b), RDT_ERR_UNREACHABLE);
	assert_says("/nonexistent/rdtrain");
	setenv("RDTRAIN_PROGRAM", self_path, 1);
	service_end(taken);
}

static int group_start(void **state)
{
	(void)state;
	setenv("RDTRAIN_PROGRAM", self_path, 1);
	unsetenv("RDTRAIN_SECRET");
	unsetenv("RDTRAIN_SECRET_FILE");
	return mkdtemp(folder) ? 0 : -1;
}

static int group_end(void **state)
{
	(void)state;
	return rmdir(folder);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_command_listens_writes_its_port_and_ends_with_0_on_a_signal),
		cmocka_unit_test(the_command_takes_its_secret_from_a_file_too),
		cmocka_unit_test(
			the_command_without_a_secret_or_with_a_bad_address_fails_and_says_why),
		cmocka_unit_test(help_names_the_default_address_and_the_limits),
		cmocka_unit_test(rank_0_starts_the_service_and_ends_it_when_all_have_left),
		cmocka_unit_test(the_service_serves_until_the_last_that_rests_on_it_is_closed),
		cmocka_unit_test(a_service_started_under_a_name_listens_on_all_interfaces),
		cmocka_unit_test(the_service_ends_with_its_parent_and_the_others_hear_of_both),
		cmocka_unit_test(the_service_outlives_the_thread_that_started_it),
		cmocka_unit_test(a_service_that_cannot_listen_is_an_error_with_its_own_words),
	};
	ssize_t n = readlink("/proc/self/exe", self_path, sizeof(self_path) - 1);

	if (n <= 0)
		return 1;
	if (argc > 1 && !strcmp(argv[1], "rendezvous"))
		return rdt_cmd_rendezvous(argc - 1, argv + 1);
	return cmocka_run_group_tests(tests, group_start, group_end);
}
