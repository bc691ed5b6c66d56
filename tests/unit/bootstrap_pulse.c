/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which connection is that of a silent host: over a loopback device of this test's own (a network
 * namespace), which is taken down. Skipped where no namespace may be made; ci/test runs it in the
 * soft-RoCE machine, too, where one can.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/clock.h"
#include "lib/bootstrap/address.h"
#include "lib/bootstrap/pulse.h"

static bool set_loopback(bool up)
{
	struct ifreq request = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool ok = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0;

	request.ifr_flags = (short)(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
	ok = ok && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
	close(fd);
	return ok;
}

struct pair {
	int near, far;
};

static void connect_pair(struct pair *pair)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t length = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(set_loopback(true));
	assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &length), 0);
	pair->near = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	rdt_socket_tune(pair->near);
	assert_int_equal(connect(pair->near, (struct sockaddr *)&at, sizeof(at)), 0);
	pair->far = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(pair->far >= 0);
	close(listener);
}

static void close_pair(struct pair *pair)
{
	close(pair->near);
	close(pair->far);
	assert_true(set_loopback(true));
}

/* Looks for so long, as one does who waits: the silence that was found, or 0. */
static uint32_t look_for(const struct pair *pair, double seconds)
{
	int64_t deadline = rdt_deadline(seconds);
	struct rdt_pulse pulse = { 0 };

	while (rdt_now() < deadline) {
		switch (rdt_pulse_look(&pulse, pair->near, rdt_now())) {
		case RDT_PULSE_WELL: break;
		case RDT_PULSE_ASK: (void)send(pair->near, "?", 1, MSG_NOSIGNAL); break;
		case RDT_PULSE_SILENT: return pulse.silent_ms;
		}
		usleep(10000);
	}
	return 0;
}

static void who_answers_is_there_however_long_it_says_nothing(void **state)
{
	struct pair pair;

	(void)state;
	connect_pair(&pair);
	assert_int_equal(look_for(&pair, 3.5), 0);
	close_pair(&pair);
}

/* Found after RDTRAIN_KEEPALIVE, which is one second, and not before it has been asked. */
static void expect_silence(const struct pair *pair)
{
	int64_t from = rdt_now();
	uint32_t silent = look_for(pair, 4);
	double seconds = (double)(rdt_now() - from) / 1e9;

	printf("silent for %u ms, found after %.2f s\n", silent, seconds);
	assert_true(silent >= 1000);
	assert_true(seconds > 0.9 && seconds < 2.5);
}

static void a_silent_host_is_found_while_nothing_is_sent(void **state)
{
	struct pair pair;

	(void)state;
	connect_pair(&pair);
	assert_true(set_loopback(false));
	expect_silence(&pair);
	close_pair(&pair);
}

static void a_silent_host_is_found_while_something_waits_to_be_sent(void **state)
{
	struct pair pair;

	(void)state;
	connect_pair(&pair);
	assert_true(set_loopback(false));
	assert_int_equal(send(pair.near, "x", 1, MSG_NOSIGNAL), 1);
	expect_silence(&pair);
	close_pair(&pair);
}

static void who_does_not_read_is_there(void **state)
{
	static char bytes[65536];
	struct pair pair;

	(void)state;
	connect_pair(&pair);
	assert_int_equal(fcntl(pair.near, F_SETFL, O_NONBLOCK), 0);
	while (send(pair.near, bytes, sizeof(bytes), MSG_NOSIGNAL) > 0)
		;
	assert_int_equal(look_for(&pair, 4), 0);
	close_pair(&pair);
}

/* Once the link is back the count begins again. */
static void a_host_that_answers_in_time_stays(void **state)
{
	struct rdt_pulse pulse = { 0 };
	struct pair pair;

	(void)state;
	connect_pair(&pair);
	for (int i = 0; i < 3; i++) {
		int64_t deadline = rdt_deadline(0.8);

		assert_true(set_loopback(false));
		while (rdt_now() < deadline) {
			assert_int_equal(rdt_pulse_look(&pulse, pair.near, rdt_now()),
					 RDT_PULSE_WELL);
			usleep(10000);
		}
		assert_true(set_loopback(true));
		assert_int_equal(send(pair.far, "y", 1, MSG_NOSIGNAL), 1);
		usleep(300000);
		assert_int_equal(rdt_pulse_look(&pulse, pair.near, rdt_now()), RDT_PULSE_WELL);
	}
	close_pair(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_answers_is_there_however_long_it_says_nothing),
		cmocka_unit_test(a_silent_host_is_found_while_nothing_is_sent),
		cmocka_unit_test(a_silent_host_is_found_while_something_waits_to_be_sent),
		cmocka_unit_test(who_does_not_read_is_there),
		cmocka_unit_test(a_host_that_answers_in_time_stays),
	};
	const char *require = getenv("RDTRAIN_TEST_REQUIRE_VERBS");

	if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET)) {
		perror("no network namespace for this test");
		return require && *require == '1' ? 1 : 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
