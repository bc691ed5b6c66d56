/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who is not silent: members that compute, are stopped or do not read, while their systems answer
 * for them. All of them at once, for longer than a host may be silent (bootstrap_pulse.c).
 */
#include "bootstrap_service.h"

#define WORLD 3
#define VALUES 600 /* of the full size: more than a connection takes that nobody reads */
/* Seconds, at a limit of one: TCP asks a full window after 0.2, 0.6, 1.4, 3 and 6.2 of them. */
#define LOOKED 5.0

/* A member in a process of its own that is stopped. */
static pid_t stopped_member(const struct service *s, uint32_t rank)
{
	int ready[2], how;
	char c = 0;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct rdt_channel *member;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		member = raw_join(s, rank, WORLD);
		if (write(ready[1], "y", 1) != 1)
			_exit(1);
		raw_receive(member); /* goes on when it is told something */
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(waitpid(pid, &how, WUNTRACED), pid);
	assert_true(WIFSTOPPED(how));
	return pid;
}

static void who_computes_is_stopped_or_does_not_read_is_not_silent(void **state)
{
	static unsigned char value[RDT_BLOB_MAX];
	struct rdt_message put = { .type = RDT_MSG_PUT,
				   .number = 1,
				   .key = "k",
				   .value = value,
				   .length = sizeof(value) };
	struct rdt_message get = { .type = RDT_MSG_GET, .key = "k" }, m;
	struct rdt_channel *computes, *full;
	struct service *s;
	pid_t stopped;
	int how;

	(void)state;
	assert_int_equal(setenv("RDTRAIN_KEEPALIVE", "1", 1), 0);
	s = service_start((struct rdt_server_config){ 0 });
	stopped = stopped_member(s, 2);
	computes = raw_join(s, 0, WORLD);
	full = raw_join(s, 1, WORLD);
	raw_send(computes, put);
	assert_int_equal(raw_receive(computes).type, RDT_MSG_STORED);
	for (uint32_t i = 0; i < VALUES; i++) {
		get.number = i;
		raw_send(full, get);
	}
	poll(NULL, 0, (int)(LOOKED * 1000));
	for (uint32_t i = 0; i < VALUES; i++) {
		m = raw_receive(full);
		assert_int_equal(m.type, RDT_MSG_VALUE); /* and no event: nobody is lost */
		assert_int_equal(m.number, i);
		assert_int_equal(m.length, sizeof(value));
	}
	raw_settle(full);
	raw_settle(computes);
	raw_send(full, (struct rdt_message){ .type = RDT_MSG_BYE });
	assert_int_equal(kill(stopped, SIGCONT), 0);
	assert_int_equal(waitpid(stopped, &how, 0), stopped);
	assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
	raw_close(computes);
	raw_close(full);
	service_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_computes_is_stopped_or_does_not_read_is_not_silent),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
