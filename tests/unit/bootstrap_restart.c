/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The service ends, and another begins at the same place, while the members of a job come together.
 * Before all have joined nobody is worse off than late; afterwards everybody is told.
 */
#include "bootstrap_service.h"

#include <sys/mman.h>

#define RANKS 5

static struct service *service;

static int start(void **state)
{
	(void)state;
	service = service_start((struct rdt_server_config){ 0 });
	return 0;
}

static int stop(void **state)
{
	(void)state;
	service_end(service);
	return 0;
}

/* Killed, and begun again on the same port. */
static void restart(void)
{
	char listen[64];

	snprintf(listen, sizeof(listen), "127.0.0.1:%d", service->port);
	service_end(service);
	service = service_start((struct rdt_server_config){ .listen = listen });
}

/* What each rank came to. */
struct outcome {
	int status;
	unsigned char nonce[RDT_JOB_NONCE_BYTES];
	char text[512];
};

static struct outcome *outcomes;

/* Joins, meets the others in a fence, gets a neighbour's value and leaves. */
static void member(int rank, double seconds)
{
	struct rdt_identity id = identity(service, rank, RANKS);
	struct outcome *o = &outcomes[rank];
	int64_t deadline = rdt_deadline(seconds);
	struct rdt_fence result;
	struct rdt_bootstrap *b;
	unsigned char value = (unsigned char)rank;
	size_t length = 1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	o->status = ops->open(&id, deadline, &b);
	if (!o->status)
		o->status = ops->fence(b, "all", 3, &result, deadline);
	if (!o->status) {
		ops->nonce(b, o->nonce);
		o->status = ops->put(b, "k", &value, 1);
	}
	if (!o->status)
		o->status = ops->get(b, (rank + 1) % RANKS, "k", &value, &length, deadline);
	if (!o->status && (value != (rank + 1) % RANKS || !result.equal || result.flags != 3))
		o->status = 1;
	if (!o->status)
		o->status = ops->fence(b, "done", 0, &result, deadline);
	snprintf(o->text, sizeof(o->text), "%s", o->status ? rdt_last_error() : "");
	_exit(0);
}

static pid_t spawn(int rank, double seconds)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		member(rank, seconds);
	return pid;
}

static void map_outcomes(void)
{
	outcomes = mmap(NULL, RANKS * sizeof(*outcomes), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(outcomes != MAP_FAILED);
}

/* One more rank before each of several restarts: the early ones go through all of them. */
static void restarts_are_survived_until_all_have_joined(void **state)
{
	pid_t pids[RANKS];

	(void)state;
	map_outcomes();
	for (int r = 0; r < RANKS; r++) {
		pids[r] = spawn(r, LONG);
		/* all that are there have joined this service */
		for (int n = 0; n <= r; n++)
			assert_true(service_said(service, "joined job job"));
		if (r < RANKS - 1)
			restart();
	}
	for (int r = 0; r < RANKS; r++) {
		assert_int_equal(waitpid(pids[r], NULL, 0), pids[r]);
		if (outcomes[r].status)
			print_error("rank %d: %s\n", r, outcomes[r].text);
		assert_int_equal(outcomes[r].status, 0);
		assert_memory_equal(outcomes[r].nonce, outcomes[0].nonce, RDT_JOB_NONCE_BYTES);
	}
	munmap(outcomes, RANKS * sizeof(*outcomes));
}

static void a_service_that_does_not_come_back_is_an_error_at_the_deadline(void **state)
{
	int64_t began = rdt_now();
	pid_t pid;

	(void)state;
	map_outcomes();
	pid = spawn(2, 1);
	assert_true(service_said(service, "joined job job"));
	service_kill(service);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_true(rdt_now() - began > 900000000);
	assert_int_equal(outcomes[2].status, RDT_ERR_UNREACHABLE);
	assert_says_at(outcomes[2].text, "rank 2 cannot join job job", __FILE__, __LINE__);
	munmap(outcomes, RANKS * sizeof(*outcomes));
}

/* Two have passed the first fence: what they have put is gone with the service. */
static void after_all_have_joined_every_member_is_told(void **state)
{
	struct rdt_bootstrap *b = join(service, 0, 1);
	struct rdt_bootstrap_event event;
	struct rdt_fence result;

	(void)state;
	assert_ok(ops->fence(b, "all", 0, &result, rdt_deadline(LONG)));
	restart();
	assert_int_equal(ops->fence(b, "second", 0, &result, rdt_deadline(LONG)),
			 RDT_ERR_UNREACHABLE);
	event = next_event(b);
	assert_int_equal(event.kind, RDT_EVENT_SERVICE);
	assert_int_equal(ops->put(b, "k", "", 0), RDT_ERR_UNREACHABLE);
	ops->close(b, true);
	ops->close(join(service, 0, 1), true); /* a new run */
}

#define test(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(restarts_are_survived_until_all_have_joined),
		test(a_service_that_does_not_come_back_is_an_error_at_the_deadline),
		test(after_all_have_joined_every_member_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
