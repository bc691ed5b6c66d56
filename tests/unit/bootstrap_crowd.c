/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The service and a large job: all of its members are there at the same time, put, meet in a fence,
 * get a neighbour's value, and leave. Prints how long each took, and what the service needed.
 */
#include "bootstrap_service.h"

#include <sys/resource.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define N 256 /* what is looked for is found in a smaller crowd, too */
#else
#define N 4096
#endif
#define VALUE 1024

static struct rdt_channel *members[N];

static double seconds_since(int64_t *then)
{
	int64_t now = rdt_now();
	double s = (double)(now - *then) / 1e9;

	*then = now;
	return s;
}

/* Kilobytes of the process's resident memory at its largest. */
static long resident(pid_t pid)
{
	char path[64], line[256];
	long kib = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "VmHWM: %ld", &kib);
	fclose(f);
	return kib;
}

static void all_join(struct service *s)
{
	for (uint32_t r = 0; r < N; r++) {
		char words[64];

		members[r] = raw_join(s, r, N);
		snprintf(words, sizeof(words), "as rank %u of %u", r, N);
		assert_true(service_said(s, words)); /* and so its log is read */
	}
}

static void all_put(void)
{
	unsigned char value[VALUE];

	for (uint32_t r = 0; r < N; r++) {
		memset(value, (int)(r & 255), sizeof(value));
		raw_send(members[r], (struct rdt_message){ .type = RDT_MSG_PUT,
							   .number = 1,
							   .key = "address",
							   .value = value,
							   .length = VALUE });
	}
	for (uint32_t r = 0; r < N; r++)
		assert_int_equal(raw_receive(members[r]).type, RDT_MSG_STORED);
}

static void all_meet(void)
{
	for (uint32_t r = 0; r < N; r++)
		raw_send(members[r], (struct rdt_message){ .type = RDT_MSG_FENCE,
							   .number = 1,
							   .flags = r ? 3 : 1,
							   .signature = "create" });
	for (uint32_t r = 0; r < N; r++) {
		struct rdt_message m = raw_receive(members[r]);

		assert_int_equal(m.type, RDT_MSG_FENCED);
		assert_int_equal(m.status, 0);
		assert_int_equal(m.kind, 1);
		assert_int_equal(m.flags, 1);
	}
}

static void all_get(void)
{
	for (uint32_t r = 0; r < N; r++)
		raw_send(members[r], (struct rdt_message){ .type = RDT_MSG_GET,
							   .number = 2,
							   .rank = (r + 1) % N,
							   .key = "address" });
	for (uint32_t r = 0; r < N; r++) {
		struct rdt_message m = raw_receive(members[r]);

		assert_int_equal(m.type, RDT_MSG_VALUE);
		assert_int_equal(m.length, VALUE);
		assert_int_equal(*(const unsigned char *)m.value, (r + 1) % N & 255);
	}
}

static void all_leave(struct service *s)
{
	for (uint32_t r = 0; r < N; r++)
		raw_send(members[r], (struct rdt_message){ .type = RDT_MSG_BYE });
	for (uint32_t r = 0; r < N; r++) {
		assert_true(service_said(s, " left"));
		raw_close(members[r]);
	}
	assert_true(service_said(s, "job job is over"));
}

static void a_large_job_meets_and_leaves(void **state)
{
	struct service *s;
	int64_t then;
	double join_s, put_s, meet_s, get_s;

	(void)state;
	s = service_start((struct rdt_server_config){ 0 });
	then = rdt_now();
	all_join(s);
	join_s = seconds_since(&then);
	all_put();
	put_s = seconds_since(&then);
	all_meet();
	meet_s = seconds_since(&then);
	all_get();
	get_s = seconds_since(&then);
	all_leave(s);
	printf("%d members: joined in %.2f s, put %d bytes each in %.2f s, met in %.3f s, got in "
	       "%.2f s, left in %.2f s\n",
	       N, join_s, VALUE, put_s, meet_s, get_s, seconds_since(&then));
	printf("the service: %.1f KiB of memory a member at most\nis over%s",
	       (double)resident(s->pid) / N, s->said);
	service_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_large_job_meets_and_leaves) };
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
