/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The service and a large job: all of its members are there at the same time, put, meet in a fence,
 * get a neighbour's value, and leave. Prints how long each took, and what the service needed.
 */
#include "bootstrap_service.h"

#include <fcntl.h>
#include <pthread.h>

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

/* ---- all at once -------------------------------------------------------------------------------
 */

#define PROCESSES 16
#define START_S 120.0 /* each client's deadline, which the slowest machine must not reach */

struct starter {
	pthread_t thread;
	int rank, status;
	char why[512];
};

static struct service *busy;

/* A worker as it is: the library's client, which tries again when it is turned away. */
static void *start_up(void *arg)
{
	struct starter *me = arg;
	struct rdt_identity id = identity(busy, me->rank, N);
	struct rdt_bootstrap *b = NULL;
	int64_t deadline = rdt_deadline(START_S);
	struct rdt_fence result;

	me->status = ops->open(&id, deadline, &b);
	if (!me->status)
		me->status = ops->fence(b, "create", 1, &result, deadline);
	if (!me->status && (!result.equal || result.flags != 1))
		me->status = 1;
	if (me->status)
		snprintf(me->why, sizeof(me->why), "%s", rdt_last_error());
	ops->close(b, true);
	return NULL;
}

/* A share of the clients, each a thread. */
static void start_share(int process)
{
	static struct starter starters[N / PROCESSES];
	pthread_attr_t attr;
	int failed = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 512 << 10);
	for (int i = 0; i < N / PROCESSES; i++) {
		starters[i].rank = process + i * PROCESSES;
		if (pthread_create(&starters[i].thread, &attr, start_up, &starters[i]))
			_exit(2);
	}
	for (int i = 0; i < N / PROCESSES; i++) {
		pthread_join(starters[i].thread, NULL);
		if (starters[i].status && failed++ == 0)
			fprintf(stderr, "rank %d: %s (%s)\n", starters[i].rank,
				rdt_strerror(starters[i].status), starters[i].why);
	}
	_exit(failed ? 1 : 0);
}

/* Reads what the service has logged, so that it can go on; how many it has turned away. */
static unsigned read_log(const struct service *s)
{
	static char text[65536];
	unsigned turned_away = 0, n;
	ssize_t length = read(s->log, text, sizeof(text) - 1);

	if (length <= 0)
		return 0;
	text[length] = 0;
	for (char *at = text; (at = strstr(at, "dropped a stranger")); at++)
		turned_away++;
	for (char *at = text; (at = strstr(at, "turned away ")); at++)
		if (sscanf(at, "turned away %u", &n) == 1)
			turned_away += n;
	return turned_away;
}

/* From one address, of which 256 at a time may be strangers: the others are turned away and come
 * again. */
static void all_clients_of_a_large_job_start_at_once(void **state)
{
	pid_t pids[PROCESSES];
	unsigned turned_away = 0;
	int left = PROCESSES;
	int64_t began = rdt_now();
	double took;

	(void)state;
	busy = service_start((struct rdt_server_config){ .strangers_only = true });
	assert_int_equal(fcntl(busy->log, F_SETFL, O_NONBLOCK), 0);
	fflush(NULL);
	for (int p = 0; p < PROCESSES; p++) {
		pids[p] = fork();
		assert_true(pids[p] >= 0);
		if (pids[p] == 0)
			start_share(p);
	}
	while (left) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		turned_away += read_log(busy);
		if (pid == 0) {
			usleep(1000);
			continue;
		}
		for (int p = 0; p < PROCESSES; p++) {
			if (pids[p] != pid)
				continue;
			assert_int_equal(status, 0);
			left--;
		}
	}
	took = (double)(rdt_now() - began) / 1e9;
	usleep(1100000); /* the last second's sum */
	turned_away += read_log(busy);
	printf("%d clients that start at once, from one address: all met in a fence and left "
	       "within %.2f s; %u attempts were turned away before\n",
	       N, took, turned_away);
	printf("the service: %ld KiB of memory at most, %.1f KiB a client\n", resident(busy->pid),
	       (double)resident(busy->pid) / N);
	service_end(busy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_large_job_meets_and_leaves),
		cmocka_unit_test(all_clients_of_a_large_job_start_at_once),
	};
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
