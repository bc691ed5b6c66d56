/* SPDX-License-Identifier: BSD-3-Clause */
/* Who may not join, how it is told, and that nobody else notices. */
#include "bootstrap_service.h"

#include <openssl/err.h>
#include <sys/stat.h>

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

/* ---- the secret -------------------------------------------------------------------------------
 */

static void a_wrong_secret_is_refused_within_a_second_and_the_service_says_so(void **state)
{
	struct rdt_identity id = identity(service, 0, 2);
	int64_t began = rdt_now();

	(void)state;
	bystander_joins();
	strcpy(id.secret, SECRET "?");
	refused(&id, RDT_ERR_AUTH, id.rendezvous);
	assert_says("job job");
	assert_says("RDTRAIN_SECRET");
	assert_true(rdt_now() - began < 1000000000);
	assert_true(service_said(service, "its secret for job job is wrong"));
	bystander_noticed_nothing();
}

static void a_missing_secret_is_an_error_before_anything_is_sent(void **state)
{
	struct rdt_identity id = { .world = 2, .rendezvous = "192.0.2.1:4711", .job = "job" };
	int64_t began = rdt_now();

	(void)state;
	refused(&id, RDT_ERR_AUTH, "RDTRAIN_SECRET_FILE");
	assert_true(rdt_now() - began < 1000000000);
}

/* What a file of secrets says; the service reads it at its start. */
static char secrets_path[64];

static int start_with_secrets(void **state)
{
	static const char lines[] =
		"# who may come\n\n  job \t" SECRET "  \nother another secret\n";
	int fd;

	(void)state;
	strcpy(secrets_path, "/tmp/rdtrain-secrets-XXXXXX");
	fd = mkstemp(secrets_path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, lines, sizeof(lines) - 1), sizeof(lines) - 1);
	close(fd);
	start_with((struct rdt_server_config){ .secret_file = secrets_path });
	unlink(secrets_path);
	return 0;
}

static void each_job_of_a_secret_file_has_its_own_secret(void **state)
{
	struct rdt_identity id = identity(service, 0, 1);

	(void)state;
	ops->close(join_as(&id), true);
	strcpy(id.job, "other");
	refused(&id, RDT_ERR_AUTH, "job other");
	strcpy(id.secret, "another secret");
	ops->close(join_as(&id), true);
	strcpy(id.job, "unknown");
	refused(&id, RDT_ERR_AUTH, "job unknown");
	assert_true(service_said(service, "it asked for job unknown, which has no secret here"));
}

static void bad_secret_files_are_refused(void **state)
{
	static const struct {
		const char *text;
		mode_t mode;
		const char *words;
	} bad[] = {
		{ "job s\n", 0640, "chmod 600" },      { "", 0600, "no secret" },
		{ "hunter2\n", 0600, ":1: one word" }, { "a 1\na 2\n", 0600, ":2: job a" },
		{ "\n\n\x01hunter2 s", 0600, ":3:" },
	};
	char path[] = "/tmp/rdtrain-secrets-XXXXXX";
	struct event_base *base = event_base_new();
	struct rdt_server_config config = { .listen = "127.0.0.1:0", .secret_file = path };
	struct rdt_server *server;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_true(pwrite(fd, bad[i].text, strlen(bad[i].text), 0) >= 0);
		assert_int_equal(fchmod(fd, bad[i].mode), 0);
		assert_int_equal(rdt_server_new(base, &config, &server), RDT_ERR_INVALID);
		assert_says(bad[i].words);
		assert_null(strstr(rdt_last_error(), "hunter2")); /* it may be the secret */
	}
	config.secret = "both";
	assert_int_equal(rdt_server_new(base, &config, &server), RDT_ERR_INVALID);
	config.secret = config.secret_file = NULL;
	assert_int_equal(rdt_server_new(base, &config, &server), RDT_ERR_AUTH);
	config.secret = "s";
	config.listen = "127.0.0.1";
	assert_int_equal(rdt_server_new(base, &config, &server), RDT_ERR_INVALID);
	assert_says("HOST:PORT");
	config.listen = "192.0.2.1:0"; /* not of this host */
	assert_int_equal(rdt_server_new(base, &config, &server), RDT_ERR_INVALID);
	assert_says("192.0.2.1:0");
	close(fd);
	unlink(path);
	event_base_free(base);
}

/* A TLS client without the key: whatever it offers ends in the handshake. */
static void tls_without_the_key_is_refused(int max_version)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(ctx);
	int fd = tcp_connect(service);

	assert_int_equal(SSL_set_max_proto_version(ssl, max_version), 1);
	SSL_set_fd(ssl, fd);
	assert_int_not_equal(SSL_connect(ssl), 1);
	assert_true(tcp_hung_up(fd));
	ERR_clear_error();
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	close(fd);
}

static void tls_without_the_key_or_older_than_1_3_is_refused(void **state)
{
	(void)state;
	bystander_joins();
	tls_without_the_key_is_refused(TLS1_3_VERSION);
	assert_true(service_said(service, "it does not speak TLS 1.3 with a job's key"));
	tls_without_the_key_is_refused(TLS1_2_VERSION);
	assert_true(service_said(service, "it does not speak TLS 1.3 with a job's key"));
	bystander_noticed_nothing();
}

/* A listener that answers TLS with a certificate of its own and accepts everything but the key must
 * not be taken for the service. */
static void a_server_without_the_key_is_not_joined(void **state)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t length = sizeof(in);
	struct rdt_identity id = identity(service, 0, 2);
	struct rdt_bootstrap *b;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t pid;

	(void)state;
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(listener, 4), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&in, &length), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		EVP_PKEY *key = EVP_EC_gen("P-256");
		SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
		X509 *cert = X509_new();
		SSL *ssl;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		X509_gmtime_adj(X509_getm_notBefore(cert), 0);
		X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
		X509_set_pubkey(cert, key);
		X509_sign(cert, key, EVP_sha256());
		SSL_CTX_use_certificate(ctx, cert);
		SSL_CTX_use_PrivateKey(ctx, key);
		ssl = SSL_new(ctx);
		SSL_set_fd(ssl, accept(listener, NULL, NULL));
		_exit(SSL_accept(ssl) == 1);
	}
	snprintf(id.rendezvous, sizeof(id.rendezvous), "127.0.0.1:%d", ntohs(in.sin_port));
	assert_int_not_equal(ops->open(&id, rdt_deadline(LONG), &b), RDT_OK);
	assert_null(b);
	assert_says(id.rendezvous);
	waitpid(pid, NULL, 0);
	close(listener);
}

/* ---- the hello ----------------------------------------------------------------------------------
 */

static void a_taken_rank_is_refused(void **state)
{
	struct rdt_bootstrap *b = join(service, 1, 2);
	struct rdt_identity id = identity(service, 1, 2);

	(void)state;
	refused(&id, RDT_ERR_INVALID, "rank 1 of job job is taken");
	assert_ok(ops->put(b, "k", "", 0));
	ops->close(b, true);
}

static void another_world_size_is_a_mismatch(void **state)
{
	struct rdt_bootstrap *b = join(service, 1, 2);
	struct rdt_identity id = identity(service, 0, 3);

	(void)state;
	refused(&id, RDT_ERR_MISMATCH, "3 ranks");
	assert_says("said 2");
	ops->close(b, true);
}

static void impossible_identities_are_refused_here(void **state)
{
	struct rdt_identity id = identity(service, 2, 2);

	(void)state;
	refused(&id, RDT_ERR_INVALID, "rank 2");
	id = identity(service, -1, 2);
	refused(&id, RDT_ERR_INVALID, "rank -1");
	id = identity(service, 0, RDT_WORLD_MAX + 1);
	refused(&id, RDT_ERR_INVALID, "65537");
	id = identity(service, 0, 2);
	strcpy(id.rendezvous, "nowhere");
	refused(&id, RDT_ERR_INVALID, "nowhere");
	id = identity(service, 0, 2);
	strcpy(id.job, "a b");
	refused(&id, RDT_ERR_INVALID, "a b");
}

static void nobody_joins_a_run_that_has_lost_a_member_until_it_is_over(void **state)
{
	struct rdt_bootstrap *a = join(service, 0, 2), *b = join(service, 1, 2);
	struct rdt_identity id = identity(service, 1, 2);

	(void)state;
	ops->close(b, false);
	assert_int_equal(next_event(a).kind, RDT_EVENT_LOST);
	refused(&id, RDT_ERR_PEER_LOST, "rank 1");
	ops->close(a, true);
	b = join_as(&id); /* a new run */
	ops->close(b, true);
}

static void a_member_that_left_early_joins_the_next_run_when_this_one_is_over(void **state)
{
	struct rdt_bootstrap *a = join(service, 0, 2), *b = join(service, 1, 2);
	struct rdt_identity id = identity(service, 1, 2);
	pid_t pid;
	int status = -1;

	(void)state;
	ops->close(b, true);
	assert_int_equal(next_event(a).kind, RDT_EVENT_LEFT);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int failed = ops->open(&id, rdt_deadline(LONG), &b);

		if (!failed)
			ops->close(b, true);
		_exit(failed ? 1 : 0);
	}
	assert_true(service_said(service, "rank 1 has left this run of job job"));
	ops->close(a, true);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void who_joins_late_hears_who_left_before(void **state)
{
	struct rdt_bootstrap *a = join(service, 0, 3), *b = join(service, 1, 3), *c;
	struct rdt_bootstrap_event event;

	(void)state;
	ops->close(b, true);
	assert_int_equal(next_event(a).kind, RDT_EVENT_LEFT);
	c = join(service, 2, 3);
	event = next_event(c);
	assert_int_equal(event.kind, RDT_EVENT_LEFT);
	assert_int_equal(event.rank, 1);
	ops->close(a, true);
	ops->close(c, true);
}

static void a_hello_for_another_job_than_the_key_s_is_refused(void **state)
{
	struct rdt_channel *c = raw_connect(service, "mine");
	struct rdt_message m;

	(void)state;
	raw_send(c, hello(0, 2)); /* says "job" */
	m = raw_receive(c);
	assert_int_equal(m.type, RDT_MSG_REFUSED);
	assert_int_equal(m.status, RDT_ERR_AUTH);
	raw_close(c);
}

static void a_hello_of_another_version_or_of_impossible_numbers_is_refused(void **state)
{
	struct rdt_message bad[4] = { hello(0, 2), hello(2, 2), hello(1, 0),
				      hello(0, RDT_WORLD_MAX + 1) };

	(void)state;
	bad[0].version = 99;
	for (int i = 0; i < 4; i++) {
		struct rdt_channel *c = raw_connect(service, "job");
		struct rdt_message m;

		raw_send(c, bad[i]);
		m = raw_receive(c);
		assert_int_equal(m.type, RDT_MSG_REFUSED);
		assert_int_equal(m.status, RDT_ERR_INVALID);
		if (i == 0)
			assert_says_at(m.text, "version 99", __FILE__, __LINE__);
		raw_close(c);
	}
}

/* ---- nobody there
 * ---------------------------------------------------------------------------------- */

static void nobody_there_is_unreachable_with_address_reason_and_remedy(void **state)
{
	struct rdt_identity id = identity(service, 0, 2);
	struct rdt_bootstrap *b;

	(void)state;
	service_kill(service);
	assert_int_equal(ops->open(&id, rdt_deadline(0.1), &b), RDT_ERR_UNREACHABLE);
	assert_says(id.rendezvous);
	assert_says("Connection refused");
	assert_says("rdtrain rendezvous --listen");
	strcpy(id.rendezvous, "no-such-host.invalid:4711");
	assert_int_equal(ops->open(&id, rdt_deadline(0.05), &b), RDT_ERR_UNREACHABLE);
	assert_says("no-such-host.invalid");
}

static void a_service_that_starts_later_is_met(void **state)
{
	struct rdt_identity id = identity(service, 0, 1);
	struct rdt_bootstrap *b;
	char listen[64];
	int status = -1, started[2];
	pid_t pid;
	char c;

	(void)state;
	service_kill(service);
	assert_int_equal(pipe(started), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		/* One attempt has failed for sure before the service starts. */
		if (ops->open(&id, rdt_deadline(0.01), &b) != RDT_ERR_UNREACHABLE)
			_exit(2);
		if (write(started[1], "x", 1) != 1)
			_exit(3);
		_exit(ops->open(&id, rdt_deadline(LONG), &b) ? 1 : 0);
	}
	assert_int_equal(read(started[0], &c, 1), 1);
	close(started[0]);
	close(started[1]);
	snprintf(listen, sizeof(listen), "127.0.0.1:%d", service->port);
	close(service->log);
	free(service);
	start_with((struct rdt_server_config){ .listen = listen });
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int start_v6(void **state)
{
	(void)state;
	return start_with((struct rdt_server_config){ .listen = "[::1]:0" });
}

static void ipv6_addresses_and_names_work(void **state)
{
	struct rdt_identity id = identity(service, 0, 1);

	(void)state;
	snprintf(id.rendezvous, sizeof(id.rendezvous), "[::1]:%d", service->port);
	ops->close(join_as(&id), true);
}

static void names_are_resolved_and_all_their_addresses_tried(void **state)
{
	struct rdt_identity id = identity(service, 0, 1);

	(void)state;
	/* ::1 comes first in most places, and nobody listens there. */
	snprintf(id.rendezvous, sizeof(id.rendezvous), "localhost:%d", service->port);
	ops->close(join_as(&id), true);
}

#define test_with(s, f) cmocka_unit_test_setup_teardown(f, s, stop)
#define test(f) test_with(start, f)

static bool have_v6(void)
{
	struct sockaddr_in6 in = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	bool can = fd >= 0 && !bind(fd, (struct sockaddr *)&in, sizeof(in));

	if (fd >= 0)
		close(fd);
	return can;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(a_wrong_secret_is_refused_within_a_second_and_the_service_says_so),
		test(a_missing_secret_is_an_error_before_anything_is_sent),
		test_with(start_with_secrets, each_job_of_a_secret_file_has_its_own_secret),
		test(bad_secret_files_are_refused),
		test(tls_without_the_key_or_older_than_1_3_is_refused),
		test(a_server_without_the_key_is_not_joined),
		test(a_taken_rank_is_refused),
		test(another_world_size_is_a_mismatch),
		test(impossible_identities_are_refused_here),
		test(nobody_joins_a_run_that_has_lost_a_member_until_it_is_over),
		test(a_member_that_left_early_joins_the_next_run_when_this_one_is_over),
		test(who_joins_late_hears_who_left_before),
		test(a_hello_for_another_job_than_the_key_s_is_refused),
		test(a_hello_of_another_version_or_of_impossible_numbers_is_refused),
		test(nobody_there_is_unreachable_with_address_reason_and_remedy),
		test(a_service_that_starts_later_is_met),
		test(names_are_resolved_and_all_their_addresses_tried),
	};
	const struct CMUnitTest v6[] = { test_with(start_v6, ipv6_addresses_and_names_work) };
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	if (have_v6())
		failed += cmocka_run_group_tests(v6, NULL, NULL);
	return failed;
}
