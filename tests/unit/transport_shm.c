/* SPDX-License-Identifier: BSD-3-Clause */
/* The shm transport between the processes of one host: who connects to whom, and how peers end.
 * Data is in transport_shm_memory.c, load in transport_shm_stress.c. */
#include "shm_world.h"

#include <dirent.h>
#include <fcntl.h>

/* Sleeps until the transport reports a failure; fills it in. */
static int await_failure(struct world *w, struct rdt_transport_failure *failure)
{
	struct pollfd fds[WORLD_MAX + 1];
	int64_t deadline = rdt_deadline(STEP_S);
	int status = 0;

	while (status == 0) {
		int n = ops->fds(w->transport, fds, WORLD_MAX + 1);

		CHECK(rdt_now() < deadline);
		CHECK(poll(fds, (nfds_t)n, rdt_left_ms(deadline)) > 0);
		status = ops->woken(w->transport, fds, n);
	}
	CHECK(status == RDT_ERR_PEER_LOST);
	CHECK(ops->progress(w->transport) == RDT_ERR_PEER_LOST);
	CHECK(ops->failure(w->transport, failure));
	return 0;
}

/* Waits until the process behind an endpoint is gone, without telling the transport. */
static int await_end(struct rdt_ep *ep)
{
	struct pollfd fd = { .fd = ep->pidfd, .events = POLLIN };

	return poll(&fd, 1, (int)(STEP_S * 1000)) == 1 ? 0 : -1;
}

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (dir && readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int count_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	int n = 0;

	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, "memfd:") != NULL;
	fclose(f);
	return n;
}

static bool killed(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static bool ended_well(int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- connecting ------------------------------------------------------------------------------ */

static int connect_all(struct world *w)
{
	TRY(world_connect(w));
	for (int p = 0; p < w->n; p++) {
		char text[256], pid[32];

		if (p == w->rank)
			continue;
		CHECK(rdt_ep_head(w->eps[p])->peer == p);
		CHECK(rdt_ep_head(w->eps[p])->transport == w->transport);
		ops->describe(w->eps[p], text, sizeof(text));
		snprintf(pid, sizeof(pid), "pid %d", (int)w->eps[p]->pid);
		CHECK(strstr(text, "shm") && strstr(text, pid));
		TRY(world_notify(w, p, (uint32_t)w->rank));
		TRY(ops->reserve(w->transport, 1000));
	}
	/* from each its own notification and no other */
	for (int p = 0; p < w->n; p++)
		if (p != w->rank) {
			TRY(world_await(w, p, (uint32_t)p, 1));
			CHECK(world_count(w, p, (uint32_t)p + 1) == 0);
		}
	CHECK(ops->progress(w->transport) == 0);
	return world_meet(w);
}

static void all_pairs_connect_at_once_and_notify_each_other(void **state)
{
	(void)state;
	for (int n = 2; n <= WORLD_MAX; n++)
		assert_true(world_run(n, connect_all, NULL));
}

/* Rank 0 opens as the test says, and rank 1, which expects world_config(), must refuse it. */
static int refuse_stranger(struct world *w)
{
	struct rdt_transport_config *strange = w->arg;
	unsigned char blob[RDT_ADDRESS_MAX];
	size_t length = sizeof(blob);
	struct rdt_ep *ep = NULL;

	if (w->rank == 0) {
		w->config = *strange;
		TRY(ops->open(&w->config, &w->transport));
		TRY(ops->address(w->transport, blob, &length));
		/* the address may lie; the segment tells */
		((struct rdt_shm_address *)(void *)blob)->rank = 0;
		TRY(world_send(w, 1, blob, length));
	} else {
		ssize_t n = world_receive(w, 0, blob, sizeof(blob));

		CHECK(n > 0);
		TRY(ops->open(&w->config, &w->transport));
		CHECK(ops->connect(w->transport, 0, blob, (size_t)n, &ep) == RDT_ERR_UNREACHABLE);
		CHECK(ep == NULL);
		CHECK(strstr(rdt_last_error(), "rank 0"));
		CHECK(strstr(rdt_last_error(), "pid"));
	}
	return world_meet(w);
}

static void a_process_of_another_job_generation_size_or_rank_is_refused(void **state)
{
	struct rdt_transport_config c;

	(void)state;
	c = world_config(0, 2);
	c.nonce[RDT_NONCE_BYTES - 1] ^= 1;
	assert_true(world_run(2, refuse_stranger, &c));
	c = world_config(0, 2);
	c.generation++;
	assert_true(world_run(2, refuse_stranger, &c));
	c = world_config(0, 1);
	assert_true(world_run(2, refuse_stranger, &c));
	c = world_config(0, 3);
	assert_true(world_run(2, refuse_stranger, &c));
	c = world_config(1, 2);
	assert_true(world_run(2, refuse_stranger, &c));
}

/* An address whose process is gone, and one whose descriptors are closed or something else. */
static int refuse_bad_addresses(struct world *w)
{
	struct rdt_shm_address good, bad;
	size_t length = sizeof(good);
	struct rdt_ep *ep = NULL;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	pid_t pid;

	CHECK(null >= 0);
	TRY(world_connect(w));
	TRY(ops->address(w->transport, &good, &length));
	CHECK(length == sizeof(good));
	for (size_t cut = 0; cut < length; cut++)
		CHECK(ops->connect(w->transport, w->rank, &good, cut, &ep) == RDT_ERR_INVALID);
	CHECK(ops->connect(w->transport, 1 - w->rank, &good, length, &ep) == RDT_ERR_INVALID);
	CHECK(ops->connect(w->transport, -1, &good, length, &ep) == RDT_ERR_INVALID);
	bad = good;
	bad.rank = w->n; /* beyond the counters */
	CHECK(ops->connect(w->transport, w->n, &bad, length, &ep) == RDT_ERR_INVALID);
	bad = good;
	memset(bad.host, 'x', sizeof(bad.host)); /* no end */
	CHECK(ops->connect(w->transport, w->rank, &bad, length, &ep) == RDT_ERR_INVALID);
	bad = good;
	bad.segment_fd = null;
	CHECK(ops->connect(w->transport, w->rank, &bad, length, &ep) == RDT_ERR_UNREACHABLE);
	bad = good;
	bad.segment_fd = 1000000;
	CHECK(ops->connect(w->transport, w->rank, &bad, length, &ep) == RDT_ERR_PEER_LOST);
	CHECK(strstr(rdt_last_error(), "has left"));
	/* a child that has inherited the descriptors, segment and all, is not the rank ... */
	pid = fork();
	if (pid == 0) {
		alarm((unsigned)STEP_S); /* should the test fail before it kills */
		pause();
		_exit(0);
	}
	CHECK(pid > 0);
	bad = good;
	bad.pid = pid;
	bad.start_time = rdt_shm_start_time(pid);
	CHECK(bad.start_time > 0);
	CHECK(ops->connect(w->transport, w->rank, &bad, length, &ep) == RDT_ERR_UNREACHABLE);
	CHECK(strstr(rdt_last_error(), "is not rank"));
	/* ... and if it began at another time, then the pid has passed from the rank to it */
	bad.start_time++;
	CHECK(ops->connect(w->transport, w->rank, &bad, length, &ep) == RDT_ERR_PEER_LOST);
	CHECK(strstr(rdt_last_error(), "another process has its pid now"));
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
	pid = fork();
	if (pid == 0)
		_exit(0);
	CHECK(pid > 0 && waitpid(pid, NULL, 0) == pid);
	bad = good;
	bad.pid = pid;
	CHECK(ops->connect(w->transport, w->rank, &bad, length, &ep) == RDT_ERR_PEER_LOST);
	CHECK(strstr(rdt_last_error(), "died"));
	CHECK(ep == NULL);
	close(null);
	return world_meet(w);
}

static void an_address_that_leads_nowhere_is_refused_with_a_sentence(void **state)
{
	(void)state;
	assert_true(world_run(2, refuse_bad_addresses, NULL));
}

static bool reaches(struct rdt_transport *t, const struct rdt_shm_address *a, const char *why)
{
	char text[160] = "";
	bool yes = ops->reachable(t, a, sizeof(*a), text, sizeof(text));

	assert_non_null(strstr(text, why));
	return yes;
}

static void only_a_process_of_the_same_host_namespaces_and_user_is_reachable(void **state)
{
	struct rdt_transport_config c = world_config(0, 2), elsewhere = world_config(1, 2);
	struct rdt_transport *here, *there;
	struct rdt_shm_address mine, other;
	char text[160], name[200];
	size_t length;

	(void)state;
	elsewhere.host_id = "another host";
	assert_int_equal(ops->open(&c, &here), 0);
	assert_int_equal(ops->open(&elsewhere, &there), 0);
	ops->address(here, &mine, &length);
	ops->address(there, &other, &length);
	assert_true(reaches(here, &mine, "same host"));
	assert_false(reaches(here, &other, "other host"));
	assert_false(reaches(there, &mine, "other host")); /* both sides say the same */
	assert_true(reaches(there, &other, "same host"));
	other = mine;
	other.pid_namespace++;
	assert_false(reaches(here, &other, "other pid namespace"));
	other = mine;
	other.user_namespace++;
	assert_false(reaches(here, &other, "other user namespace"));
	other = mine;
	other.user++;
	assert_false(reaches(here, &other, "other user"));
	assert_false(ops->reachable(here, &mine, sizeof(mine) - 1, text, sizeof(text)));
	ops->close(there);
	/* A name that does not fit is an error; cut off, it could look like another host's. */
	memset(name, 'h', sizeof(name));
	name[sizeof(mine.host)] = '\0';
	elsewhere.host_id = name;
	assert_int_equal(ops->open(&elsewhere, &there), RDT_ERR_INVALID);
	assert_non_null(strstr(rdt_last_error(), "RDTRAIN_HOST_ID"));
	name[sizeof(mine.host) - 1] = '\0';
	assert_int_equal(ops->open(&elsewhere, &there), 0);
	ops->close(there);
	ops->close(here);
	c.rank = 2;
	assert_int_equal(ops->open(&c, &here), RDT_ERR_INVALID);
}

/* ---- how peers end --------------------------------------------------------------------------- */

/* What the parent and the ranks of a run share. */
static struct {
	int64_t killed_at;
} * shared;

static int notice_a_kill(struct world *w)
{
	struct rdt_transport_failure failure;
	struct pollfd fds[WORLD_MAX + 1];
	char name[64];
	int n;

	TRY(world_connect(w));
	if (w->rank == 1) {
		__atomic_store_n(&shared->killed_at, rdt_now(), __ATOMIC_RELEASE);
		kill(getpid(), SIGKILL);
	}
	TRY(await_failure(w, &failure));
	printf("%d ranks: told after %.2f ms: %s\n", w->n,
	       (double)(rdt_now() - __atomic_load_n(&shared->killed_at, __ATOMIC_ACQUIRE)) / 1e6,
	       failure.text);
	CHECK(failure.status == RDT_ERR_PEER_LOST && failure.peer == 1);
	snprintf(name, sizeof(name), "rank 1 (pid %d on this host)", (int)w->eps[1]->pid);
	CHECK(strstr(failure.text, name));
	/* once */
	CHECK(!ops->failure(w->transport, &failure));
	CHECK(ops->progress(w->transport) == 0);
	n = ops->fds(w->transport, fds, WORLD_MAX + 1);
	CHECK(n == w->n && poll(fds, (nfds_t)n, 0) == 0);
	/* what is left of its memory can be written, and the others are well */
	for (int p = 0; p < w->n; p++)
		if (p != w->rank)
			TRY(world_notify(w, p, 9));
	for (int p = 0; p < w->n; p++)
		if (p != w->rank && p != 1)
			TRY(world_await(w, p, 9, 1));
	return 0;
}

static void a_killed_peer_is_noticed_and_named_once(void **state)
{
	(void)state;
	for (int n = 2; n <= WORLD_MAX; n++) {
		int statuses[WORLD_MAX];

		assert_true(world_run_result(n, notice_a_kill, NULL, statuses));
		for (int r = 0; r < n; r++)
			assert_true(r == 1 ? killed(statuses[r]) : ended_well(statuses[r]));
	}
}

/* Ranks 1 and 3 die before the others look. */
static int notice_two_kills(struct world *w)
{
	struct rdt_transport_failure failure;
	struct pollfd fds[WORLD_MAX + 1];
	bool seen[WORLD_MAX] = { false };
	int n;

	TRY(world_connect(w));
	if (w->rank % 2)
		kill(getpid(), SIGKILL);
	TRY(await_end(w->eps[1]));
	TRY(await_end(w->eps[3]));
	n = ops->fds(w->transport, fds, WORLD_MAX + 1);
	CHECK(poll(fds, (nfds_t)n, 0) == 2);
	CHECK(ops->woken(w->transport, fds, n) == RDT_ERR_PEER_LOST);
	CHECK(ops->woken(w->transport, fds, n) == RDT_ERR_PEER_LOST); /* the same once more */
	for (int i = 0; i < 2; i++) {
		CHECK(ops->progress(w->transport) == RDT_ERR_PEER_LOST);
		CHECK(ops->failure(w->transport, &failure));
		CHECK(failure.peer >= 0 && failure.peer < WORLD_MAX && !seen[failure.peer]);
		seen[failure.peer] = true;
	}
	CHECK(seen[1] && seen[3]);
	CHECK(!ops->failure(w->transport, &failure) && ops->progress(w->transport) == 0);
	/* the other survivor does not end before both have looked */
	TRY(world_notify(w, 2 - w->rank, 0));
	return world_await(w, 2 - w->rank, 0, 1);
}

static void two_peers_that_die_together_are_both_named(void **state)
{
	int statuses[WORLD_MAX];

	(void)state;
	assert_true(world_run_result(4, notice_two_kills, NULL, statuses));
	assert_true(ended_well(statuses[0]) && killed(statuses[1]));
	assert_true(ended_well(statuses[2]) && killed(statuses[3]));
}

/* Rank 1 is killed while it sleeps; the wake-up goes into a pipe that nobody reads any more. */
static int notify_the_dead(struct world *w)
{
	char byte;

	TRY(world_connect(w));
	if (w->rank == 1) {
		CHECK(ops->arm(w->transport) == 0);
		TRY(world_send(w, 0, "x", 1));
		kill(getpid(), SIGKILL);
	}
	CHECK(world_receive(w, 1, &byte, 1) == 1);
	TRY(await_end(w->eps[1]));
	TRY(world_notify(w, 1, 0));
	/* it was the first to find the sleeper, so it did write */
	CHECK(atomic_load(&w->eps[1]->segment->sleeping) == 0);
	return 0;
}

static void waking_a_peer_that_was_killed_in_its_sleep_does_no_harm(void **state)
{
	int statuses[WORLD_MAX];

	(void)state;
	assert_true(world_run_result(2, notify_the_dead, NULL, statuses));
	assert_true(ended_well(statuses[0]) && killed(statuses[1]));
}

/* Ordinary memory of a peer that has died (arg: without a good-bye). */
static int put_into_the_dead(struct world *w)
{
	bool lost = *(bool *)w->arg;
	struct rdt_put put = { .src = w, .length = 1 };
	struct rdt_transport_failure failure;
	struct rdt_remote *remote;
	struct world_memory m;

	TRY(world_connect(w));
	TRY(world_offer(w, &m, 4096, false));
	TRY(world_swap(w, 1 - w->rank, &m, &remote));
	TRY(world_meet(w));
	if (w->rank == 1) {
		if (!lost)
			ops->leave(w->transport);
		kill(getpid(), SIGKILL);
	}
	TRY(await_end(w->eps[1]));
	put.remote = remote;
	CHECK(ops->put(w->eps[1], &put) == RDT_ERR_PEER_LOST);
	CHECK(strstr(rdt_last_error(), "rank 1 (pid"));
	CHECK(strstr(rdt_last_error(), lost ? "has died" : "has left"));
	CHECK(ops->progress(w->transport) == (lost ? RDT_ERR_PEER_LOST : 0));
	CHECK(ops->failure(w->transport, &failure) == lost);
	if (lost)
		CHECK(failure.peer == 1 && strstr(failure.text, "rank 1"));
	/* Again the sentence, but no second failure; and a process that has got the pid since, as
	 * which this one stands in, is not written into. */
	memset(m.base, 0, m.length);
	remote->address = (uintptr_t)m.base;
	w->eps[1]->pid = getpid();
	put.src = "x";
	CHECK(ops->put(w->eps[1], &put) == RDT_ERR_PEER_LOST);
	CHECK(m.base[0] == 0);
	CHECK(!ops->failure(w->transport, &failure));
	world_withdraw(&m);
	return 0;
}

static void a_put_into_ordinary_memory_of_a_dead_peer_names_it(void **state)
{
	(void)state;
	if (rdt_shm_cma_refused())
		skip();
	for (int lost = 0; lost < 2; lost++) {
		int statuses[WORLD_MAX];

		assert_true(world_run_result(2, put_into_the_dead, &(bool){ lost == 1 }, statuses));
		assert_true(ended_well(statuses[0]) && killed(statuses[1]));
	}
}

/* An export whose owner dies before it is imported. */
static int import_from_the_dead(struct world *w)
{
	unsigned char blob[RDT_EXPORT_MAX];
	struct rdt_remote *remote = NULL;
	struct world_memory m;
	size_t length;
	ssize_t n;

	TRY(world_connect(w));
	if (w->rank == 1) {
		TRY(world_offer(w, &m, 4096, *(bool *)w->arg));
		TRY(ops->mem_export(m.region, m.base, 4096, RDT_ACCESS_PUT, blob, &length));
		TRY(world_send(w, 0, blob, length));
		kill(getpid(), SIGKILL);
	}
	n = world_receive(w, 1, blob, sizeof(blob));
	CHECK(n > 0);
	TRY(await_end(w->eps[1]));
	CHECK(ops->mem_import(w->eps[1], blob, (size_t)n, &remote) == RDT_ERR_PEER_LOST);
	CHECK(strstr(rdt_last_error(), "rank 1 (pid") && !remote);
	CHECK(strstr(rdt_last_error(), "has died"));
	return 0;
}

static void memory_of_a_dead_peer_is_not_imported(void **state)
{
	(void)state;
	for (int shared_memory = 0; shared_memory < 2; shared_memory++) {
		int statuses[WORLD_MAX];

		if (!shared_memory && rdt_shm_cma_refused())
			continue;
		assert_true(world_run_result(2, import_from_the_dead, &(bool){ shared_memory == 1 },
					     statuses));
		assert_true(ended_well(statuses[0]) && killed(statuses[1]));
	}
}

static int leave_early(struct world *w)
{
	struct rdt_transport_failure failure;
	struct pollfd fds[WORLD_MAX + 1];
	int n;

	TRY(world_connect(w));
	if (w->rank == 1) {
		ops->leave(w->transport);
		return 0; /* closes and exits */
	}
	TRY(await_end(w->eps[1]));
	n = ops->fds(w->transport, fds, WORLD_MAX + 1);
	CHECK(poll(fds, (nfds_t)n, 0) == 1);
	CHECK(ops->woken(w->transport, fds, n) == 0);
	CHECK(!ops->failure(w->transport, &failure));
	CHECK(ops->progress(w->transport) == 0);
	/* its end wakes nobody a second time */
	CHECK(ops->fds(w->transport, fds, WORLD_MAX + 1) == n);
	CHECK(poll(fds, (nfds_t)n, 0) == 0);
	for (int p = 0; p < w->n; p++)
		if (p != w->rank)
			TRY(world_notify(w, p, 3));
	/* nobody else ends before all have looked */
	for (int p = 0; p < w->n; p++)
		if (p != w->rank && p != 1)
			TRY(world_await(w, p, 3, 1));
	return 0;
}

static void a_peer_that_leaves_is_no_failure(void **state)
{
	(void)state;
	for (int n = 2; n <= WORLD_MAX; n++)
		assert_true(world_run(n, leave_early, NULL));
}

/* ---- tidiness -------------------------------------------------------------------------------- */

static int leak_nothing(struct world *w)
{
	int before = count_fds();

	for (int i = 0; i < 20; i++) {
		struct rdt_remote *remotes[2];
		struct world_memory m[2];

		TRY(world_connect(w));
		for (int k = 0; k < 2; k++)
			TRY(world_offer(w, &m[k], 65536, k == 0 || rdt_shm_cma_refused()));
		for (int p = 0; p < w->n; p++)
			for (int k = 0; k < 2 && p != w->rank; k++)
				TRY(world_swap(w, p, &m[k], &remotes[k]));
		TRY(world_meet(w));
		/* every other time close() finds them still there */
		if (i % 2) {
			ops->mem_release(remotes[0]);
			world_withdraw(&m[0]);
		}
		ops->leave(w->transport);
		ops->close(w->transport);
		w->transport = NULL;
		for (int k = i % 2; k < 2; k++) {
			munmap(m[k].base, m[k].length);
			if (m[k].fd >= 0)
				close(m[k].fd);
		}
		CHECK(count_fds() == before);
		CHECK(count_mappings() == 0);
		TRY(world_meet(w));
	}
	return 0;
}

static void closing_leaves_no_descriptor_and_no_mapping_behind(void **state)
{
	(void)state;
	assert_true(world_run(2, leak_nothing, NULL));
	assert_true(world_run(4, leak_nothing, NULL));
}

static void note_line(void *arg, const char *line)
{
	char *all = arg;

	printf("%s\n", line);
	assert_true(strlen(all) + strlen(line) + 1 < 4096);
	strcat(all, line);
	strcat(all, "\n");
}

static void info_says_what_works_here_and_opens_nothing_for_good(void **state)
{
	char all[4096] = "";
	int before = count_fds();

	(void)state;
	assert_true(rdt_shm_info(note_line, all));
	assert_non_null(strstr(all, "shm works"));
	assert_non_null(strstr(all, "process_vm_writev"));
	assert_non_null(strstr(all, rdt_shm_ptrace_scope() < 0 ? "no Yama" : "ptrace_scope"));
	assert_non_null(strstr(all, "huge pages"));
	assert_int_equal(count_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_pairs_connect_at_once_and_notify_each_other),
		cmocka_unit_test(a_process_of_another_job_generation_size_or_rank_is_refused),
		cmocka_unit_test(an_address_that_leads_nowhere_is_refused_with_a_sentence),
		cmocka_unit_test(only_a_process_of_the_same_host_namespaces_and_user_is_reachable),
		cmocka_unit_test(a_killed_peer_is_noticed_and_named_once),
		cmocka_unit_test(two_peers_that_die_together_are_both_named),
		cmocka_unit_test(waking_a_peer_that_was_killed_in_its_sleep_does_no_harm),
		cmocka_unit_test(a_put_into_ordinary_memory_of_a_dead_peer_names_it),
		cmocka_unit_test(memory_of_a_dead_peer_is_not_imported),
		cmocka_unit_test(a_peer_that_leaves_is_no_failure),
		cmocka_unit_test(closing_leaves_no_descriptor_and_no_mapping_behind),
		cmocka_unit_test(info_says_what_works_here_and_opens_nothing_for_good),
	};

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
