/* SPDX-License-Identifier: BSD-3-Clause */
/* The shm transport under load: no notification is lost, and no wake-up of a sleeper. */
#include "shm_world.h"

static unsigned next(unsigned *random)
{
	*random = *random * 1664525 + 1013904223;
	return *random >> 8;
}

/* ---- counting -------------------------------------------------------------------------------- */

enum { NOTIFICATIONS = 100000, CHANNELS = 7 };

static uint32_t channel_of(unsigned k)
{
	/* the first, the last, and some between */
	return k == 0 ? 0 : k == 1 ? RDT_CHANNELS - 1 : rdt_channel(k * 31, k);
}

static int count_notifications(struct world *w)
{
	TRY(world_connect(w));
	for (int p = 0; p < w->n; p++) {
		unsigned random = (unsigned)(w->rank * w->n + p);

		for (int i = 0; p != w->rank && i < NOTIFICATIONS; i++)
			TRY(world_notify(w, p, channel_of(next(&random) % CHANNELS)));
	}
	for (int p = 0; p < w->n; p++) {
		unsigned random = (unsigned)(p * w->n + w->rank);
		uint32_t expected[CHANNELS] = { 0 }, seen = 0;

		if (p == w->rank)
			continue;
		for (int i = 0; i < NOTIFICATIONS; i++)
			expected[next(&random) % CHANNELS]++;
		for (unsigned k = 0; k < CHANNELS; k++)
			TRY(world_await(w, p, channel_of(k), expected[k]));
		TRY(world_meet(w)); /* nobody sends any more */
		for (unsigned k = 0; k < CHANNELS; k++)
			CHECK(world_count(w, p, channel_of(k)) == expected[k]);
		for (uint32_t c = 0; c < RDT_CHANNELS; c++)
			seen += world_count(w, p, c);
		CHECK(seen == NOTIFICATIONS);
		CHECK(rdt_ep_head(w->eps[p])->posted == NOTIFICATIONS);
		CHECK(rdt_ep_head(w->eps[p])->completed == NOTIFICATIONS);
	}
	return 0;
}

static void a_hundred_thousand_notifications_on_mixed_channels_are_counted_exactly(void **state)
{
	(void)state;
	for (int n = 2; n <= WORLD_MAX; n++)
		assert_true(world_run(n, count_notifications, NULL));
}

/* ---- sleeping -------------------------------------------------------------------------------- */

struct sleeps {
	long slept, early; /* sleeps, and those that ended before the notification was there */
};

/* Waits as the wait policy does, but sleeps at once: arm, look again, poll. */
static int sleep_until(struct world *w, int peer, uint32_t channel, uint32_t count,
		       struct sleeps *sleeps)
{
	struct pollfd fds[WORLD_MAX + 1];

	while (!rdt_reached(world_count(w, peer, channel), count)) {
		int n, ready;

		CHECK(ops->arm(w->transport) == 0);
		if (rdt_reached(world_count(w, peer, channel), count))
			break;
		n = ops->fds(w->transport, fds, WORLD_MAX + 1);
		CHECK(n == w->n);
		do
			ready = poll(fds, (nfds_t)n, (int)(STEP_S * 1000));
		while (ready < 0 && errno == EINTR);
		CHECK(ready > 0); /* else a wake-up was lost */
		CHECK(ops->woken(w->transport, fds, n) == 0);
		sleeps->slept++;
		sleeps->early += !rdt_reached(world_count(w, peer, channel), count);
	}
	return 0;
}

struct rounds {
	int rounds, cpus;
	bool idle; /* now and then lets the others fall asleep for certain */
};

/* In each round everybody notifies everybody, in a changing order, and waits for all. */
static int sleep_and_wake(struct world *w)
{
	const struct rounds *r = w->arg;
	struct sleeps sleeps = { 0 };
	unsigned random = (unsigned)w->rank;

	TRY(world_pin(0, r->cpus));
	TRY(world_connect(w));
	for (int i = 1; i <= r->rounds; i++) {
		uint32_t channel = (uint32_t)i % 3;
		uint32_t count = (uint32_t)(i / 3 + (channel ? 1 : 0));

		if (w->n == 2 && w->rank == 1) /* ping-pong */
			TRY(sleep_until(w, 0, channel, count, &sleeps));
		if (r->idle && next(&random) % 16 == 0)
			sched_yield();
		for (int k = 1, shift = (int)(next(&random) % 8); k < w->n; k++)
			TRY(world_notify(w, (w->rank + 1 + (k + shift) % (w->n - 1)) % w->n,
					 channel));
		for (int p = 0; p < w->n; p++)
			if (p != w->rank)
				TRY(sleep_until(w, p, channel, count, &sleeps));
	}
	printf("rank %d of %d on %d processors: %d rounds, %ld sleeps, %ld ended early\n", w->rank,
	       w->n, r->cpus, r->rounds, sleeps.slept, sleeps.early);
	CHECK(sleeps.slept > 0);
	return world_meet(w);
}

static void no_wake_up_is_lost_when_two_ranks_ping_pong_and_sleep_at_once(void **state)
{
	(void)state;
	assert_true(world_run(2, sleep_and_wake, &(struct rounds){ 20000, 2, false }));
	assert_true(world_run(2, sleep_and_wake, &(struct rounds){ 20000, 2, true }));
	assert_true(world_run(2, sleep_and_wake, &(struct rounds){ 20000, 1, false }));
}

static void no_wake_up_is_lost_when_four_ranks_share_two_processors(void **state)
{
	(void)state;
	assert_true(world_run(3, sleep_and_wake, &(struct rounds){ 10000, 2, true }));
	assert_true(world_run(4, sleep_and_wake, &(struct rounds){ 20000, 2, false }));
	assert_true(world_run(4, sleep_and_wake, &(struct rounds){ 10000, 1, true }));
}

/* Sees a notification within nanoseconds if the peer runs, and lets it run if it does not. */
static int spin_until(struct world *w, int peer, uint32_t channel, uint32_t count)
{
	for (int i = 0; i < 20000; i++)
		if (rdt_reached(world_count(w, peer, channel), count))
			return 0;
	return world_await(w, peer, channel, count);
}

/*
 * The race itself: rank 0 puts in the very moment in which rank 1 arms. A third channel lines both
 * up, and a changing delay moves the one past the other, so that in many rounds they coincide and a
 * missing fence on either side shows as a sleep from which nobody wakes.
 */
static int put_while_arming(struct world *w)
{
	enum { GO = 0, DATA = 1, DONE = 2 };
	int rounds = *(int *)w->arg;
	struct sleeps sleeps = { 0 };
	unsigned random = 1;

	/* Together on one processor they would never meet. */
	TRY(world_pin(w->rank, 1));
	TRY(world_connect(w));
	for (uint32_t i = 1; i <= (uint32_t)rounds; i++) {
		if (w->rank == 0) {
			TRY(spin_until(w, 1, GO, i));
			TRY(world_notify(w, 1, DATA));
			TRY(spin_until(w, 1, DONE, i));
		} else {
			volatile unsigned delay = next(&random) % 768;

			TRY(world_notify(w, 0, GO));
			while (delay)
				delay--;
			TRY(sleep_until(w, 0, DATA, i, &sleeps));
			TRY(world_notify(w, 0, DONE));
		}
	}
	if (w->rank == 1)
		printf("%d rounds, %ld slept\n", rounds, sleeps.slept);
	return world_meet(w);
}

static void no_wake_up_is_lost_when_a_put_and_an_arm_coincide(void **state)
{
	(void)state;
	assert_true(world_run(2, put_while_arming, &(int){ 200000 }));
}

/* ---- data under load ------------------------------------------------------------------------- */

enum { RING = 8, ROUNDS = 3000, LONGEST = 20011 };

/* Each rank streams blocks of changing length into a window of the next one's memory, which checks
 * each byte and gives the place back by a notification. */
static int stream(struct world *w)
{
	int to = (w->rank + 1) % w->n, from = (w->rank + w->n - 1) % w->n;
	bool mapped = *(bool *)w->arg;
	unsigned char blob[RDT_EXPORT_MAX], *window, *source = malloc(LONGEST);
	unsigned out = (unsigned)to, in = (unsigned)w->rank;
	struct rdt_region *region;
	struct rdt_remote *remote;
	size_t length = RING * LONGEST, bytes;
	int sent = 0, seen = 0, fd = -1;
	int64_t deadline = rdt_deadline(RUN_S);

	CHECK(source);
	TRY(world_connect(w));
	if (mapped) {
		fd = memfd_create("window", MFD_CLOEXEC);
		CHECK(fd >= 0 && ftruncate(fd, (off_t)length) == 0);
	}
	window = mmap(NULL, length, PROT_READ | PROT_WRITE,
		      mapped ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
	CHECK(window != MAP_FAILED);
	TRY(ops->mem_register(w->transport, window, length, fd, 0, &region));
	TRY(ops->mem_export(region, window, length, RDT_ACCESS_PUT, blob, &bytes));
	TRY(world_send(w, from, blob, bytes));
	CHECK(world_receive(w, to, blob, sizeof(blob)) == (ssize_t)bytes);
	TRY(ops->mem_import(w->eps[to], blob, bytes, &remote));
	CHECK((ops->mem_map(remote) != NULL) == mapped);

	while (sent < ROUNDS || seen < ROUNDS) {
		CHECK(rdt_now() < deadline);
		/* free places: what I sent less what the next one has given back */
		if (sent < ROUNDS && (uint32_t)sent - world_count(w, to, 1) < RING) {
			struct rdt_put put = { .src = source,
					       .remote = remote,
					       .offset = (uint64_t)(sent % RING) * LONGEST,
					       .length = 1 + next(&out) % LONGEST };

			memset(source, sent & 0xff, put.length);
			TRY(ops->put(w->eps[to], &put));
			sent++;
		}
		if (seen < ROUNDS && world_count(w, from, 0) - (uint32_t)seen > 0) {
			size_t n = 1 + next(&in) % LONGEST;
			const unsigned char *at = window + (size_t)(seen % RING) * LONGEST;

			CHECK(at[0] == (seen & 0xff) && memcmp(at, at + 1, n - 1) == 0);
			seen++;
			TRY(world_notify(w, from, 1));
		} else {
			sched_yield();
		}
	}
	TRY(world_meet(w));
	ops->mem_release(remote);
	ops->mem_deregister(region);
	munmap(window, length);
	if (fd >= 0)
		close(fd);
	free(source);
	return 0;
}

static void whoever_sees_the_count_sees_the_data(void **state)
{
	(void)state;
	for (int n = 2; n <= WORLD_MAX; n++) {
		assert_true(world_run(n, stream, &(bool){ true }));
		if (!rdt_shm_cma_refused())
			assert_true(world_run(n, stream, &(bool){ false }));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_hundred_thousand_notifications_on_mixed_channels_are_counted_exactly),
		cmocka_unit_test(no_wake_up_is_lost_when_two_ranks_ping_pong_and_sleep_at_once),
		cmocka_unit_test(no_wake_up_is_lost_when_four_ranks_share_two_processors),
		cmocka_unit_test(no_wake_up_is_lost_when_a_put_and_an_arm_coincide),
		cmocka_unit_test(whoever_sees_the_count_sees_the_data),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
