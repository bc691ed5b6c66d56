/* SPDX-License-Identifier: BSD-3-Clause */
/* The service's limits and deadlines: what comes over its port harms its sender alone. */
#include "bootstrap_service.h"

static struct service *service;

/* A member that must not notice anything; it says so at the end. */
static struct rdt_bootstrap *bystander;

static int start_with(struct rdt_server_config config)
{
	service = service_start(config);
	return 0;
}

static int start(void **state)
{
	(void)state;
	return start_with((struct rdt_server_config){ 0 });
}

static int stop(void **state)
{
	(void)state;
	service_end(service);
	return 0;
}

static void bystander_joins(void)
{
	struct rdt_identity id = identity(service, 0, 1);

	strcpy(id.job, "bystander");
	bystander = join_as(&id);
}

static void bystander_noticed_nothing(void)
{
	struct rdt_bootstrap_event event;
	struct rdt_fence result;

	assert_int_equal(ops->watch(bystander, &event), 0);
	assert_ok(ops->put(bystander, "still here", "", 0));
	assert_ok(ops->fence(bystander, "s", 0, &result, rdt_deadline(LONG)));
	ops->close(bystander, true);
}

static void refused(const struct rdt_identity *id, int status, const char *words)
{
	struct rdt_bootstrap *b = (void *)&service;

	assert_int_equal(ops->open(id, rdt_deadline(LONG), &b), status);
	assert_says(words);
	assert_null(b);
}

/* ---- strangers and members without manners
 * -------------------------------------------------------- */

static void garbage_on_the_port_is_dropped(void **state)
{
	static const char *const garbage[] = { "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01",
					       "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" };
	char noise[70000];

	(void)state;
	bystander_joins();
	for (size_t i = 0; i < 3; i++) {
		int fd = tcp_connect(service);

		assert_true(send(fd, garbage[i], strlen(garbage[i]) + 1, MSG_NOSIGNAL) > 0);
		shutdown(fd, SHUT_WR);
		assert_true(tcp_hung_up(fd));
		close(fd);
		assert_true(service_said(service, "dropped a stranger"));
	}
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (char)(i * i >> 3);
	for (int i = 0; i < 20; i++) {
		int fd = tcp_connect(service);

		(void)!send(fd, noise + i, sizeof(noise) - 100, MSG_NOSIGNAL);
		assert_true(tcp_hung_up(fd));
		close(fd);
	}
	bystander_noticed_nothing();
}

static int start_impatient(void **state)
{
	(void)state;
	return start_with((struct rdt_server_config){ .handshake_s = 0.2 });
}

static void a_silent_connection_is_dropped_at_the_deadline(void **state)
{
	int fd = tcp_connect(service);

	(void)state;
	assert_true(tcp_hung_up(fd));
	assert_true(service_said(service, "no complete TLS handshake within 0.2 s"));
	close(fd);
}

static void a_trickle_of_bytes_does_not_put_the_deadline_off(void **state)
{
	static const char begin[] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
	int fd = tcp_connect(service);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int64_t deadline = rdt_deadline(LONG);
	size_t at = 0;

	(void)state;
	/* One byte whenever 20 ms have passed without the service hanging up. */
	while (poll(&p, 1, 20) == 0) {
		assert_true(rdt_now() < deadline);
		(void)!send(fd, at < sizeof(begin) - 1 ? begin + at : "", 1, MSG_NOSIGNAL);
		at++;
	}
	assert_true(at > 0);
	assert_true(service_said(service, "no complete TLS handshake"));
	close(fd);
}

static void who_holds_the_key_but_says_no_hello_is_dropped_at_the_deadline(void **state)
{
	struct rdt_channel *c = raw_connect(service, "job");

	(void)state;
	assert_true(raw_hung_up(c));
	assert_true(service_said(service, "no complete hello"));
	raw_close(c);
}

static void members_outlive_the_strangers_deadline(void **state)
{
	struct rdt_bootstrap *b = join(service, 0, 1);
	int fd = tcp_connect(service);

	(void)state;
	assert_true(tcp_hung_up(fd)); /* younger than the member, and dropped by now */
	assert_ok(ops->put(b, "k", "", 0));
	ops->close(b, true);
	close(fd);
}

static void send_bytes(struct rdt_channel *c, const void *bytes, size_t length)
{
	memcpy(c->out + c->out_have, bytes, length);
	c->out_have += length;
	assert_int_equal(rdt_channel_flush(c, rdt_deadline(LONG)), 0);
}

static void a_frame_over_the_limit_drops_its_sender_alone(void **state)
{
	static const unsigned char huge[4] = { 0xff, 0xff, 0xff, 0xff };
	static const unsigned char stranger[4] = { RDT_HELLO_BODY_MAX + 1, 0, 0, 0 };
	struct rdt_bootstrap *b = join(service, 0, 2);
	struct rdt_bootstrap_event event;
	struct rdt_channel *c;

	(void)state;
	c = raw_connect(service, "job"); /* before its hello it may send less */
	send_bytes(c, stranger, 4);
	assert_true(raw_hung_up(c));
	raw_close(c);
	assert_true(service_said(service, "a frame of 129 bytes; the limit is 128"));
	c = raw_join(service, 1, 2);
	send_bytes(c, huge, 4);
	assert_true(raw_hung_up(c));
	raw_close(c);
	event = next_event(b); /* it was a member: to the others it is lost */
	assert_int_equal(event.kind, RDT_EVENT_LOST);
	assert_int_equal(event.rank, 1);
	assert_says_at(event.text, "4294967295", __FILE__, __LINE__);
	ops->close(b, true);
}

static void messages_out_of_order_drop_their_sender(void **state)
{
	const struct rdt_message bad[] = {
		{ .type = RDT_MSG_WELCOME },
		{ .type = RDT_MSG_HELLO, .version = RDT_WIRE_VERSION, .world = 2, .job = "job" },
		{ .type = RDT_MSG_FENCE, .number = 2, .signature = "s" },
		{ .type = RDT_MSG_GET, .rank = 2, .key = "k" },
	};

	(void)state;
	bystander_joins();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct rdt_channel *c = raw_join(service, 0, 2);

		raw_send(c, bad[i]);
		assert_true(raw_hung_up(c));
		raw_close(c);
		assert_true(service_said(service, "job job is over"));
	}
	bystander_noticed_nothing();
}

static int start_small(void **state)
{
	(void)state;
	return start_with((struct rdt_server_config){ .max_connections = 6,
						      .max_strangers = 2,
						      .max_jobs = 2,
						      .max_store_bytes = 40000,
						      .max_output_bytes = 100000 });
}

static void strangers_of_one_address_are_limited_and_members_do_not_count(void **state)
{
	struct rdt_bootstrap *b = join(service, 0, 4), *c = join(service, 1, 4), *d;
	int fd[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		fd[i] = tcp_connect(service);
	assert_true(tcp_hung_up(fd[2]));
	assert_true(service_said(service, "not authenticated yet"));
	close(fd[0]);
	assert_true(service_said(service, "hung up"));
	d = join(service, 2, 4);
	close(fd[1]);
	close(fd[2]);
	ops->close(b, true);
	ops->close(c, true);
	ops->close(d, true);
}

static int tcp_connect_v6(void)
{
	struct sockaddr_in6 in = { .sin6_family = AF_INET6,
				   .sin6_port = htons((uint16_t)service->port),
				   .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct timeval t = { .tv_sec = (time_t)LONG };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

static bool host_has_v6(void)
{
	struct sockaddr_in6 in = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool has = fd >= 0 && !bind(fd, (struct sockaddr *)&in, sizeof(in));

	if (fd >= 0)
		close(fd);
	return has;
}

/* The members' own counters stay when the strangers' go. */
static void strangers_and_members_over_v6_are_counted_apart(void **state)
{
	struct rdt_bootstrap *b[2];
	struct rdt_identity id;
	int fd[3];

	(void)state;
	if (!host_has_v6())
		skip();
	service = service_start((struct rdt_server_config){
		.listen = "[::1]:0", .max_strangers = 2, .max_per_address = 4 });
	for (int i = 0; i < 2; i++) {
		id = identity(service, i, 2);
		snprintf(id.rendezvous, sizeof(id.rendezvous), "[::1]:%d", service->port);
		b[i] = join_as(&id);
	}
	for (int i = 0; i < 2; i++)
		fd[i] = tcp_connect_v6();
	fd[2] = tcp_connect_v6();
	assert_true(tcp_hung_up(fd[2]));
	assert_true(service_said(service, "the limit of connections from its address"));
	ops->close(b[0], true);
	assert_true(service_said(service, "rank 0 of job job"));
	close(fd[2]);
	fd[2] = tcp_connect_v6();
	assert_true(tcp_hung_up(fd[2]));
	assert_true(service_said(service, "too many from its address are not authenticated yet"));
	for (int i = 0; i < 3; i++)
		close(fd[i]);
	ops->close(b[1], true);
	service_end(service);
}

/* From wherever they come they leave half of the connections to members. */
static void all_strangers_together_are_limited(void **state)
{
	struct rdt_bootstrap *b;
	int fd[4];

	(void)state;
	fd[0] = tcp_connect_from(service, "127.0.0.2");
	fd[1] = tcp_connect_from(service, "127.0.0.2");
	fd[2] = tcp_connect_from(service, "127.0.0.3");
	fd[3] = tcp_connect_from(service, "127.0.0.4");
	assert_true(tcp_hung_up(fd[3]));
	assert_true(service_said(service, "too many from all addresses are not authenticated yet"));
	close(fd[0]);
	assert_true(service_said(service, "hung up"));
	b = join(service, 0, 1);
	ops->close(b, true);
	for (int i = 1; i < 4; i++)
		close(fd[i]);
}

static void connections_are_limited_and_a_worker_retries_until_there_is_room(void **state)
{
	struct rdt_bootstrap *b[6];
	struct rdt_identity id = identity(service, 6, 7);
	struct rdt_bootstrap *late;
	int status = -1;
	pid_t pid;

	(void)state;
	for (int i = 0; i < 6; i++)
		b[i] = join(service, i, 7);
	assert_int_equal(ops->open(&id, rdt_deadline(0.05), &late), RDT_ERR_UNREACHABLE);
	assert_true(service_said(service, "the limit of connections is reached"));
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(ops->open(&id, rdt_deadline(LONG), &late) ? 1 : 0);
	assert_true(service_said(service, "the limit of connections is reached"));
	ops->close(b[0], true);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (int i = 1; i < 6; i++)
		ops->close(b[i], true);
}

static void jobs_are_limited(void **state)
{
	struct rdt_identity id = identity(service, 0, 1);
	struct rdt_bootstrap *a, *b;

	(void)state;
	a = join_as(&id);
	strcpy(id.job, "two");
	b = join_as(&id);
	strcpy(id.job, "three");
	refused(&id, RDT_ERR_NOMEM, "three");
	ops->close(a, true);
	ops->close(join_as(&id), true);
	ops->close(b, true);
}

static int start_with_80_jobs(void **state)
{
	(void)state;
	return start_with((struct rdt_server_config){ .max_jobs = 80 });
}

/* Who holds the secret of one job takes no more than its share of them. */
static void parts_of_one_job_are_limited_and_others_find_room(void **state)
{
	struct rdt_bootstrap *b[64];
	struct rdt_identity id = identity(service, 0, 1);

	(void)state;
	b[0] = join_as(&id);
	for (int i = 1; i < 64; i++) {
		snprintf(id.job, sizeof(id.job), "job/%d", i);
		b[i] = join_as(&id);
	}
	strcpy(id.job, "job/64");
	refused(&id, RDT_ERR_NOMEM, "job job has 64 parts and generations");
	strcpy(id.job, "jobs"); /* another one, whatever its name begins with */
	ops->close(join_as(&id), true);
	strcpy(id.job, "job/64");
	ops->close(b[7], true);
	b[7] = join_as(&id);
	for (int i = 0; i < 64; i++)
		ops->close(b[i], true);
}

static void the_store_of_a_job_is_limited(void **state)
{
	static char value[RDT_BLOB_MAX];
	struct rdt_bootstrap *b = join(service, 0, 1);

	(void)state;
	bystander_joins();
	assert_ok(ops->put(b, "1", value, sizeof(value)));
	assert_ok(ops->put(b, "2", value, sizeof(value)));
	assert_int_equal(ops->put(b, "3", value, sizeof(value)), RDT_ERR_NOMEM);
	assert_says("'3'");
	assert_ok(ops->put(b, "4", "small", 5));
	assert_ok(ops->put(bystander, "big", value, sizeof(value)));
	bystander_noticed_nothing();
	ops->close(b, true);
}

static void a_member_that_never_reads_is_dropped(void **state)
{
	static char value[RDT_BLOB_MAX];
	struct rdt_bootstrap *b = join(service, 0, 2);
	struct rdt_channel *c = raw_join(service, 1, 2);
	struct rdt_message m = { .type = RDT_MSG_GET, .key = "k" };

	(void)state;
	assert_ok(ops->put(b, "k", value, sizeof(value)));
	/* Asks for 16 KiB again and again, until the service has had enough of it. */
	for (int i = 0; !c->dead; i++) {
		assert_true(i < 1000000);
		m.number++;
		if (rdt_channel_send(c, &m, rdt_deadline(LONG)))
			break;
	}
	assert_true(service_said(service, "it does not read"));
	assert_int_equal(next_event(b).kind, RDT_EVENT_LOST);
	raw_close(c);
	ops->close(b, true);
}

#define test_with(s, f) cmocka_unit_test_setup_teardown(f, s, stop)
#define test(f) test_with(start, f)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(garbage_on_the_port_is_dropped),
		test_with(start_impatient, a_silent_connection_is_dropped_at_the_deadline),
		test_with(start_impatient, a_trickle_of_bytes_does_not_put_the_deadline_off),
		test_with(start_impatient,
			  who_holds_the_key_but_says_no_hello_is_dropped_at_the_deadline),
		test_with(start_impatient, members_outlive_the_strangers_deadline),
		test(a_frame_over_the_limit_drops_its_sender_alone),
		test(messages_out_of_order_drop_their_sender),
		test_with(start_small,
			  strangers_of_one_address_are_limited_and_members_do_not_count),
		cmocka_unit_test(strangers_and_members_over_v6_are_counted_apart),
		test_with(start_small, all_strangers_together_are_limited),
		test_with(start_small,
			  connections_are_limited_and_a_worker_retries_until_there_is_room),
		test_with(start_small, jobs_are_limited),
		test_with(start_with_80_jobs, parts_of_one_job_are_limited_and_others_find_room),
		test_with(start_small, the_store_of_a_job_is_limited),
		test_with(start_small, a_member_that_never_reads_is_dropped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
