/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The service under attack. Each test is one attack; while it goes on, two members of another job
 * meet in one fence after the other. It prints what the service logged, and what the running job
 * noticed: nothing.
 */
#include "bootstrap_service.h"

#include <stdatomic.h>

#include <fcntl.h>
#include <openssl/err.h>
#include <sys/mman.h>

#define STRANGERS 300

static struct service *service;

/* ---- the running job --------------------------------------------------------------------------
 */

struct running {
	_Atomic unsigned rounds, slowest_us;
	_Atomic bool stop;
};

static struct running *running;
static pid_t pids[2];

/* Rank 0's flags are the word for both. */
static void run_member(int rank)
{
	struct rdt_identity id = identity(service, rank, 2);
	struct rdt_bootstrap_event event;
	struct rdt_bootstrap *b;
	struct rdt_fence result = { .flags = 1 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	strcpy(id.job, "running");
	if (ops->open(&id, rdt_deadline(LONG), &b))
		_exit(1);
	while (result.flags) {
		int64_t began = rdt_now();
		unsigned took;

		if (ops->fence(b, "round", rank == 0 ? !running->stop : 1, &result,
			       rdt_deadline(LONG))) {
			fprintf(stderr, "rank %d of the running job: %s\n", rank, rdt_last_error());
			_exit(2);
		}
		/* After the last round the other may have left already. */
		if (result.flags && ops->watch(b, &event)) {
			fprintf(stderr, "rank %d of the running job heard of rank %d: %s\n", rank,
				event.rank, event.text);
			_exit(2);
		}
		took = (unsigned)((rdt_now() - began) / 1000);
		if (rank == 0) {
			if (took > running->slowest_us)
				running->slowest_us = took;
			running->rounds++;
		}
		usleep(200);
	}
	ops->close(b, true);
	_exit(0);
}

static void await_rounds(unsigned more)
{
	unsigned from = running->rounds;
	int64_t deadline = rdt_deadline(LONG);

	while (running->rounds - from < more) {
		assert_true(rdt_now() < deadline);
		usleep(1000);
	}
}

static int start_with(struct rdt_server_config config)
{
	service = service_start(config);
	running = mmap(NULL, sizeof(*running), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	assert_true(running != MAP_FAILED);
	fflush(NULL);
	for (int r = 0; r < 2; r++) {
		pids[r] = fork();
		assert_true(pids[r] >= 0);
		if (pids[r] == 0)
			run_member(r);
	}
	assert_true(service_said(service, "joined job running"));
	assert_true(service_said(service, "joined job running"));
	await_rounds(1);
	running->slowest_us = running->rounds = 0;
	return 0;
}

static int start(void **state)
{
	(void)state;
	return start_with((struct rdt_server_config){ 0 });
}

/* Strangers have a third of a second. */
static int start_impatient(void **state)
{
	(void)state;
	return start_with((struct rdt_server_config){ .handshake_s = 0.3 });
}

static int stop(void **state)
{
	(void)state;
	for (int r = 0; r < 2; r++) {
		if (pids[r] <= 0)
			continue;
		kill(pids[r], SIGKILL);
		waitpid(pids[r], NULL, 0);
	}
	munmap(running, sizeof(*running));
	service_end(service);
	return 0;
}

/* It goes on after the attack, and ends in good order when it is told to. */
static void running_job_was_not_disturbed(void)
{
	unsigned rounds, slowest;

	await_rounds(3);
	rounds = running->rounds;
	slowest = running->slowest_us;
	running->stop = true;
	for (int r = 0; r < 2; r++) {
		int status = -1;

		assert_int_equal(waitpid(pids[r], &status, 0), pids[r]);
		pids[r] = 0;
		assert_int_equal(status, 0);
	}
	assert_true(service_said(service, "job running is over: 2 of 2 ranks"));
	printf("  the running job met in %u fences meanwhile; the slowest took %.1f ms\n", rounds,
	       slowest / 1e3);
}

/* The service has said this, and that is printed. */
static void logged(const char *words)
{
	assert_true(service_said(service, words));
	printf("  the service: %s\n", service->line);
}

/* ---- strangers without the key ----------------------------------------------------------------
 */

static void wrong_secrets(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++) {
		struct rdt_identity id = identity(service, 0, 2);
		struct rdt_bootstrap *b;

		snprintf(id.secret, sizeof(id.secret), "guess %d", i);
		assert_int_equal(ops->open(&id, rdt_deadline(LONG), &b), RDT_ERR_AUTH);
	}
	logged("its secret for job job is wrong");
	running_job_was_not_disturbed();
}

static void garbage(void **state)
{
	static const char *const garbage[] = { "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01",
					       "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" };
	char noise[70000];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		int fd = tcp_connect(service);

		assert_true(send(fd, garbage[i], strlen(garbage[i]) + 1, MSG_NOSIGNAL) > 0);
		shutdown(fd, SHUT_WR);
		assert_true(tcp_hung_up(fd));
		close(fd);
		logged("dropped a stranger");
	}
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (char)(i * i >> 3);
	for (int i = 0; i < 20; i++) {
		int fd = tcp_connect(service);

		(void)!send(fd, noise + i, sizeof(noise) - 100, MSG_NOSIGNAL);
		assert_true(tcp_hung_up(fd));
		close(fd);
	}
	running_job_was_not_disturbed();
}

static void a_slow_loris_in_the_handshake(void **state)
{
	static const char begin[] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
	struct pollfd p[20];
	int left = 20;
	int64_t deadline = rdt_deadline(LONG);

	(void)state;
	for (int i = 0; i < 20; i++)
		p[i] = (struct pollfd){ .fd = tcp_connect(service), .events = POLLIN };
	/* A byte each, every 10 ms, for as long as the service lets them. */
	for (size_t at = 0; left; at++) {
		assert_true(rdt_now() < deadline);
		poll(NULL, 0, 10);
		assert_true(poll(p, 20, 0) >= 0);
		for (int i = 0; i < 20; i++) {
			if (p[i].fd < 0)
				continue;
			if (p[i].revents) {
				assert_true(tcp_hung_up(p[i].fd));
				close(p[i].fd);
				p[i].fd = -1;
				left--;
				continue;
			}
			(void)!send(p[i].fd, at < sizeof(begin) - 1 ? begin + at : "", 1,
				    MSG_NOSIGNAL);
		}
	}
	logged("no complete TLS handshake within 0.3 s");
	running_job_was_not_disturbed();
}

/* Opened and left: whether their owners are silent or gone, it looks the same from here. More than
 * one address may have: that one is full, and no other. */
static void half_open_connections(void **state)
{
	int fd[STRANGERS];
	struct rdt_bootstrap *b;

	(void)state;
	for (int i = 0; i < STRANGERS; i++)
		fd[i] = tcp_connect_from(service, "127.0.0.2");
	logged("too many from its address are not authenticated yet");
	b = join(service, 0, 1); /* from 127.0.0.1 */
	ops->close(b, true);
	for (int i = 0; i < STRANGERS; i++) {
		assert_true(tcp_hung_up(fd[i]));
		close(fd[i]);
	}
	logged("more in this second");
	fd[0] = tcp_connect_from(service, "127.0.0.2"); /* there is room again */
	assert_true(tcp_hung_up(fd[0]));
	close(fd[0]);
	logged("no complete TLS handshake within 0.3 s");
	running_job_was_not_disturbed();
}

/* The costly part of a handshake is the service's answer. Who repeats a hello that it has recorded
 * gets that far. */
static void handshakes_that_are_broken_off(void **state)
{
	struct rdt_channel c = { 0 };

	(void)state;
	assert_ok(rdt_channel_init(&c, "job", SECRET));
	for (int i = 0; i < 100; i++) {
		SSL *ssl = SSL_new(c.ctx);
		BIO *out = BIO_new(BIO_s_mem());
		char bytes[4096];
		int n, fd = tcp_connect(service);

		SSL_set_app_data(ssl, &c.psk);
		SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
		assert_int_not_equal(SSL_connect(ssl), 1);
		n = BIO_read(out, bytes, sizeof(bytes));
		assert_true(n > 0 && send(fd, bytes, (size_t)n, MSG_NOSIGNAL) == n);
		assert_true(recv(fd, bytes, 1, 0) == 1); /* the answer begins */
		ERR_clear_error();
		SSL_free(ssl);
		close(fd);
	}
	rdt_channel_free(&c);
	logged("in the TLS handshake");
	running_job_was_not_disturbed();
}

/* One line each, but ten a second at most, and the number of the others. */
static void a_flood_of_strangers_fills_no_log(void **state)
{
	unsigned lines = 0, more = 0, rest;
	const char *at;

	(void)state;
	for (int i = 0; i < STRANGERS; i++)
		close(tcp_connect(service));
	while (lines + more < STRANGERS) {
		assert_true(service_said(service, "\n"));
		if (strstr(service->line, "dropped a stranger"))
			lines++;
		at = strstr(service->line, "turned away ");
		if (at && sscanf(at, "turned away %u more", &rest) == 1) {
			more += rest;
			printf("  the service: %s\n", service->line);
		}
	}
	assert_int_equal(lines + more, STRANGERS);
	assert_true(lines >= 10 && more > 0);
	printf("  %d strangers: %u lines, and %u were counted\n", STRANGERS, lines, more);
	running_job_was_not_disturbed();
}

/* ---- a session that was recorded ---------------------------------------------------------------
 */

struct recording {
	int port;
	unsigned chunks;
	size_t end[256]; /* of each chunk that the member sent */
	char bytes[200000];
};

/* Between one member and the service; what the member says is kept. */
static void record(struct recording *r, int listener)
{
	int to, from = accept(listener, NULL, NULL);
	char bytes[4096];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	to = tcp_connect(service);
	for (;;) {
		struct pollfd p[2] = { { .fd = from, .events = POLLIN },
				       { .fd = to, .events = POLLIN } };
		size_t at = r->chunks ? r->end[r->chunks - 1] : 0;

		if (poll(p, 2, (int)(LONG * 1000)) <= 0)
			_exit(1);
		for (int i = 0; i < 2; i++) {
			ssize_t n = p[i].revents ? recv(p[i].fd, bytes, sizeof(bytes), 0) : -1;

			if (n == 0)
				_exit(0);
			if (n < 0)
				continue;
			if (send(p[!i].fd, bytes, (size_t)n, MSG_NOSIGNAL) != n)
				_exit(0);
			if (i == 0 && r->chunks < 256 && at + (size_t)n <= sizeof(r->bytes)) {
				memcpy(r->bytes + at, bytes, (size_t)n);
				r->end[r->chunks++] = at + (size_t)n;
			}
		}
	}
}

static void a_session_that_is_replayed(void **state)
{
	struct recording *r =
		mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct rdt_identity id = identity(service, 0, 1);
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t length = sizeof(in);
	struct rdt_fence result;
	struct rdt_bootstrap *b;
	int status, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t pid;

	(void)state;
	assert_true(r != MAP_FAILED);
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&in, &length), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		record(r, listener);
	close(listener);
	snprintf(id.rendezvous, sizeof(id.rendezvous), "127.0.0.1:%d", ntohs(in.sin_port));
	b = join_as(&id);
	assert_ok(ops->put(b, "key", "value", 5));
	assert_ok(ops->fence(b, "s", 0, &result, rdt_deadline(LONG)));
	ops->close(b, true);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	logged("joined job job as rank 0 of 1");
	assert_true(service_said(service, "job job is over"));
	assert_true(r->chunks > 3);
	/* All of it at once; and each piece when the service has answered the last. */
	for (int patient = 0; patient < 2; patient++) {
		int fd = tcp_connect(service);
		size_t from = 0;

		for (unsigned i = 0; i < r->chunks; i++) {
			struct pollfd p = { .fd = fd, .events = POLLIN };
			char answer[4096];

			(void)!send(fd, r->bytes + from, r->end[i] - from, MSG_NOSIGNAL);
			from = r->end[i];
			if (patient && poll(&p, 1, 100) > 0)
				(void)!recv(fd, answer, sizeof(answer), MSG_DONTWAIT);
		}
		assert_true(tcp_hung_up(fd));
		close(fd);
		logged("a replay, or bytes that were changed on the way");
		assert_null(strstr(service->said, "joined job job"));
	}
	printf("  %zu bytes of a member's session, replayed\n", r->end[r->chunks - 1]);
	munmap(r, sizeof(*r));
	running_job_was_not_disturbed();
}

/* ---- those who have the key, or a member's place ------------------------------------------------
 */

static void send_bytes(struct rdt_channel *c, const void *bytes, size_t length)
{
	memcpy(c->out + c->out_have, bytes, length);
	c->out_have += length;
	(void)rdt_channel_flush(c, rdt_deadline(LONG));
}

static void a_slow_loris_in_the_hello(void **state)
{
	struct rdt_message h = hello(0, 2);
	struct rdt_channel *c = raw_connect(service, "job");
	unsigned char frame[RDT_FRAME_MAX];
	size_t n = rdt_frame_encode(&h, frame, sizeof(frame));
	struct pollfd p = { .fd = c->fd, .events = POLLIN };

	(void)state;
	assert_true(n > 20);
	for (size_t i = 0; i + 1 < n && !c->dead && poll(&p, 1, 30) == 0; i++)
		send_bytes(c, frame + i, 1);
	assert_true(raw_hung_up(c));
	raw_close(c);
	logged("no complete hello within 0.3 s");
	running_job_was_not_disturbed();
}

static void oversized_frames(void **state)
{
	static const unsigned char huge[4] = { 0xff, 0xff, 0xff, 0xff };
	static const unsigned char stranger[4] = { RDT_HELLO_BODY_MAX + 1, 0, 0, 0 };
	struct rdt_channel *c = raw_connect(service, "job");

	(void)state;
	send_bytes(c, stranger, 4);
	assert_true(raw_hung_up(c));
	raw_close(c);
	logged("a frame of 129 bytes; the limit is 128");
	c = raw_join(service, 1, 2);
	send_bytes(c, huge, 4);
	assert_true(raw_hung_up(c));
	raw_close(c);
	logged("it sent a frame of 4294967295 bytes");
	running_job_was_not_disturbed();
}

static void duplicate_ranks(void **state)
{
	struct rdt_identity id = identity(service, 1, 2);
	struct rdt_bootstrap *first = join(service, 1, 2), *b;
	struct rdt_bootstrap_event event;

	(void)state;
	assert_int_equal(ops->open(&id, rdt_deadline(LONG), &b), RDT_ERR_INVALID);
	logged("rank 1 of job job is taken");
	strcpy(id.job, "running"); /* a rank of the running job, by who has its secret */
	assert_int_equal(ops->open(&id, rdt_deadline(LONG), &b), RDT_ERR_INVALID);
	logged("rank 1 of job running is taken");
	assert_int_equal(ops->watch(first, &event), 0);
	assert_ok(ops->put(first, "k", "", 0));
	ops->close(first, true);
	running_job_was_not_disturbed();
}

static void impossible_world_sizes(void **state)
{
	static const uint32_t worlds[] = { 0, RDT_WORLD_MAX + 1, 1u << 31, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct rdt_channel *c = raw_connect(service, "job");
		struct rdt_message m;

		raw_send(c, hello(1, worlds[i]));
		m = raw_receive(c);
		assert_int_equal(m.type, RDT_MSG_REFUSED);
		assert_int_equal(m.status, RDT_ERR_INVALID);
		raw_close(c);
		logged("is impossible");
	}
	running_job_was_not_disturbed();
}

static void a_member_of_one_job_at_the_door_of_another(void **state)
{
	struct rdt_channel *c = raw_connect(service, "mine");
	struct rdt_message m = hello(0, 2);

	(void)state;
	strcpy(m.job, "running");
	raw_send(c, m);
	m = raw_receive(c);
	assert_int_equal(m.type, RDT_MSG_REFUSED);
	assert_int_equal(m.status, RDT_ERR_AUTH);
	raw_close(c);
	logged("holds the secret of job mine and says hello to job running");
	running_job_was_not_disturbed();
}

static void a_member_that_never_reads(void **state)
{
	static char value[RDT_BLOB_MAX];
	struct rdt_bootstrap *b = join(service, 0, 2);
	struct rdt_channel *c = raw_join(service, 1, 2);
	struct rdt_message m = { .type = RDT_MSG_GET, .key = "k" };

	(void)state;
	assert_ok(ops->put(b, "k", value, sizeof(value)));
	for (int i = 0; !c->dead; i++) {
		assert_true(i < 1000000);
		m.number++;
		if (rdt_channel_send(c, &m, rdt_deadline(LONG)))
			break;
	}
	logged("it does not read");
	assert_int_equal(next_event(b).kind, RDT_EVENT_LOST);
	raw_close(c);
	ops->close(b, true);
	running_job_was_not_disturbed();
}

#define test_with(s, f) cmocka_unit_test_setup_teardown(f, s, stop)
#define test(f) test_with(start, f)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(wrong_secrets),
		test(garbage),
		test_with(start_impatient, a_slow_loris_in_the_handshake),
		test_with(start_impatient, a_slow_loris_in_the_hello),
		test_with(start_impatient, half_open_connections),
		test(handshakes_that_are_broken_off),
		test(a_flood_of_strangers_fills_no_log),
		test(a_session_that_is_replayed),
		test(oversized_frames),
		test(duplicate_ranks),
		test(impossible_world_sizes),
		test(a_member_of_one_job_at_the_door_of_another),
		test(a_member_that_never_reads),
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
