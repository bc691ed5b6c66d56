/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verbs transport on a real device: a few processes on this host, connected through it, each
 * test in processes of its own. Skipped (77) where there is no device, unless
 * RDTRAIN_TEST_REQUIRE_VERBS is set: then that is a failure.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cmocka.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/transport/transport.h"
#include "lib/transport/verbs.h"

#define RANKS_MAX 4
#define WAIT_S 30.0

static const struct rdt_transport_ops *const verbs = &rdt_verbs_ops;

/* One process's view of a test. */
struct world {
	int rank, size;
	int socket[RANKS_MAX]; /* to each other rank */
	pid_t *pids;	       /* shared by all; filled by the runner */
	struct rdt_transport_config config;
	struct rdt_transport *t;
	struct rdt_ep *ep[RANKS_MAX];
	struct rdt_region *region;
	char *memory;
	struct rdt_remote *remote[RANKS_MAX];
};

static int me; /* this process's rank, for messages */

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "rank %d: %s:%d: %s\n  last error: %s\n", me, __FILE__,    \
				__LINE__, #condition, rdt_last_error());                           \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

/* ---- between the processes, beside the transport ----------------------------------------------
 */

static void tell(struct world *w, int peer, const void *bytes, size_t length)
{
	uint32_t n = (uint32_t)length;

	CHECK(write(w->socket[peer], &n, sizeof(n)) == sizeof(n));
	CHECK(length == 0 || write(w->socket[peer], bytes, length) == (ssize_t)length);
}

static size_t hear(struct world *w, int peer, void *bytes, size_t room)
{
	struct pollfd fd = { .fd = w->socket[peer], .events = POLLIN };
	uint32_t n;

	CHECK(poll(&fd, 1, (int)(WAIT_S * 1000)) == 1);
	CHECK(recv(w->socket[peer], &n, sizeof(n), MSG_WAITALL) == sizeof(n));
	CHECK(n <= room);
	CHECK(n == 0 || recv(w->socket[peer], bytes, n, MSG_WAITALL) == (ssize_t)n);
	return n;
}

static void meet(struct world *w)
{
	for (int r = 0; r < w->size; r++)
		if (r != w->rank)
			tell(w, r, NULL, 0);
	for (int r = 0; r < w->size; r++)
		if (r != w->rank)
			hear(w, r, NULL, 0);
}

typedef void (*body_fn)(struct world *w);

/* Runs `body` in `size` processes; every one that is not in `killed` must end with 0. */
static void run(int size, body_fn body, unsigned killed)
{
	int pair[RANKS_MAX][RANKS_MAX][2];
	pid_t *pids = mmap(NULL, sizeof(pid_t) * RANKS_MAX, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(pids != MAP_FAILED);
	for (int a = 0; a < size; a++)
		for (int b = a + 1; b < size; b++)
			assert_int_equal(
				socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair[a][b]), 0);
	fflush(NULL);
	for (int r = 0; r < size; r++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid != 0) {
			pids[r] = pid;
			continue;
		}
		struct world w = { .rank = r, .size = size, .pids = pids };

		me = r;
		alarm(120); /* the last resort; every wait has its own deadline */
		for (int a = 0; a < size; a++) {
			for (int b = a + 1; b < size; b++) {
				if (r == a)
					w.socket[b] = pair[a][b][0];
				else
					close(pair[a][b][0]);
				if (r == b)
					w.socket[a] = pair[a][b][1];
				else
					close(pair[a][b][1]);
			}
		}
		w.config = (struct rdt_transport_config){
			.rank = r,
			.size = size,
			.nonce = "a test's nonce!",
			.generation = 7,
			.host_id = "this host",
			.ib_timeout = -1,
			.ib_retry_cnt = -1,
			.ib_tc = -1,
			.ib_sl = -1,
		};
		body(&w);
		fflush(NULL);
#ifdef __SANITIZE_ADDRESS__
		if (__lsan_do_recoverable_leak_check()) /* which _exit would pass over */
			_exit(1);
#endif
		_exit(0);
	}
	for (int a = 0; a < size; a++) {
		for (int b = a + 1; b < size; b++) {
			close(pair[a][b][0]);
			close(pair[a][b][1]);
		}
	}
	bool good = true;

	for (int r = 0; r < size; r++) {
		int status;

		assert_int_equal(waitpid(pids[r], &status, 0), pids[r]);
		if (killed & 1u << r)
			good = good && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
		else
			good = good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
		if (!WIFEXITED(status) && !(killed & 1u << r))
			fprintf(stderr, "rank %d ended by signal %d\n", r, WTERMSIG(status));
	}
	munmap(pids, sizeof(pid_t) * RANKS_MAX);
	assert_true(good);
}

/* ---- the usual steps ---------------------------------------------------------------------------
 */

static void begin(struct world *w)
{
	CHECK(verbs->open(&w->config, &w->t) == 0);
}

static void connect_to(struct world *w, int peer)
{
	char blob[RDT_ADDRESS_MAX], why[256];
	size_t length;

	CHECK(verbs->address(w->t, blob, &length) == 0);
	CHECK(length <= RDT_ADDRESS_MAX);
	tell(w, peer, blob, length);
	length = hear(w, peer, blob, sizeof(blob));
	CHECK(verbs->reachable(w->t, blob, length, why, sizeof(why)));
	CHECK(verbs->connect(w->t, peer, blob, length, &w->ep[peer]) == 0);
}

/* Sleeps until something happens, as a caller would. */
static void doze(struct world *w, int ms)
{
	struct pollfd fds[4];
	int n = verbs->fds(w->t, fds, 4), rc = verbs->arm(w->t);

	CHECK(rc >= 0);
	if (rc == 0 && poll(fds, (nfds_t)n, ms) > 0)
		verbs->woken(w->t, fds, n);
}

static void until_up(struct world *w)
{
	int64_t deadline = rdt_deadline(WAIT_S);

	for (int r = 0; r < w->size; r++) {
		int up = 0;

		while (w->ep[r] && up == 0) {
			CHECK(verbs->progress(w->t) >= 0);
			up = verbs->connected(w->ep[r]);
			CHECK(up >= 0);
			CHECK(rdt_left_ms(deadline) > 0);
			if (!up)
				doze(w, 100);
		}
	}
}

static void connect_all(struct world *w)
{
	begin(w);
	for (int r = 0; r < w->size; r++)
		if (r != w->rank)
			connect_to(w, r);
	until_up(w);
}

/* Makes `bytes` of memory that every peer may write to. */
static void share(struct world *w, size_t bytes)
{
	char blob[RDT_EXPORT_MAX];
	size_t length;

	w->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(w->memory != MAP_FAILED);
	CHECK(verbs->mem_register(w->t, w->memory, bytes, -1, 0, &w->region) == 0);
	CHECK(verbs->mem_exportable(w->region));
	CHECK(verbs->mem_export(w->region, w->memory, bytes, RDT_ACCESS_PUT, blob, &length) == 0);
	for (int r = 0; r < w->size; r++)
		if (r != w->rank)
			tell(w, r, blob, length);
	for (int r = 0; r < w->size; r++) {
		if (r == w->rank)
			continue;
		length = hear(w, r, blob, sizeof(blob));
		CHECK(verbs->mem_import(w->ep[r], blob, length, &w->remote[r]) == 0);
	}
}

static void put(struct world *w, int peer, const struct rdt_put *p)
{
	int64_t deadline = rdt_deadline(WAIT_S);
	int rc;

	while ((rc = verbs->put(w->ep[peer], p)) == RDT_AGAIN) {
		CHECK(verbs->progress(w->t) >= 0);
		CHECK(rdt_left_ms(deadline) > 0);
	}
	CHECK(rc == 0);
}

static void notify(struct world *w, int peer, uint32_t channel)
{
	put(w, peer, &(struct rdt_put){ .channel = channel, .flags = RDT_PUT_LAST });
}

static uint32_t count(const struct world *w, int peer, uint32_t channel)
{
	return __atomic_load_n(&rdt_ep_head(w->ep[peer])->counters[channel], __ATOMIC_ACQUIRE);
}

static void await(struct world *w, int peer, uint32_t channel, uint32_t target)
{
	int64_t deadline = rdt_deadline(WAIT_S);

	while (!rdt_reached(count(w, peer, channel), target)) {
		CHECK(verbs->progress(w->t) >= 0);
		CHECK(rdt_left_ms(deadline) > 0);
	}
}

static void quiet(struct world *w, int peer)
{
	int64_t deadline = rdt_deadline(WAIT_S);

	while (rdt_ep_head(w->ep[peer])->posted != rdt_ep_head(w->ep[peer])->completed) {
		CHECK(verbs->progress(w->t) >= 0);
		CHECK(rdt_left_ms(deadline) > 0);
	}
}

static void end(struct world *w)
{
	meet(w);
	verbs->leave(w->t);
	verbs->close(w->t);
}

/* A hardware counter of the device, -1 where it is not kept. */
static long device_counter(const struct world *w, const char *name)
{
	const struct rdt_verbs *t = rdt_verbs(w->t);
	char path[256];
	long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/ports/%d/hw_counters/%s",
		 t->choice.device, t->choice.port, name);
	f = fopen(path, "re");
	if (f) {
		if (fscanf(f, "%ld", &value) != 1)
			value = -1;
		fclose(f);
	}
	return value;
}

/* ---- connections -------------------------------------------------------------------------------
 */

static void four_connect_body(struct world *w)
{
	char text[256];

	connect_all(w);
	CHECK(verbs->reserve(w->t, 3 * 10) == 0);
	meet(w);
	for (int i = 0; i < 10; i++)
		for (int r = 0; r < w->size; r++)
			if (r != w->rank)
				notify(w, r, rdt_channel((unsigned)w->rank, (unsigned)r));
	for (int r = 0; r < w->size; r++) {
		if (r == w->rank)
			continue;
		await(w, r, rdt_channel((unsigned)r, (unsigned)w->rank), 10);
		quiet(w, r);
		CHECK(rdt_ep_head(w->ep[r])->posted == 10);
		verbs->describe(w->ep[r], text, sizeof(text));
		CHECK(strstr(text, "verbs ") && strstr(text, "mtu ") && strstr(text, " -> "));
		if (w->rank == 0 && r == 1)
			printf("# %s\n", text);
	}
	meet(w);
	for (int r = 0; r < w->size; r++)
		for (uint32_t c = 0; r != w->rank && c < RDT_CHANNELS; c++)
			CHECK(count(w, r, c) ==
			      (c == rdt_channel((unsigned)r, (unsigned)w->rank) ? 10 : 0));
	end(w);
}

static void four_ranks_connect_in_all_pairs_and_notify_each_other(void **state)
{
	(void)state;
	run(4, four_connect_body, 0);
}

/* Rank 1 sees the request long before it calls connect(). */
static void early_request_body(struct world *w)
{
	char blob[RDT_ADDRESS_MAX];
	struct pollfd fds[4];
	size_t length;

	begin(w);
	CHECK(verbs->address(w->t, blob, &length) == 0);
	tell(w, !w->rank, blob, length);
	length = hear(w, !w->rank, blob, sizeof(blob));
	if (w->rank == 1) {
		int64_t deadline = rdt_deadline(WAIT_S);

		while (rdt_verbs(w->t)->npending == 0) {
			int n = verbs->fds(w->t, fds, 4);

			CHECK(rdt_left_ms(deadline) > 0);
			CHECK(poll(fds, (nfds_t)n, 1000) >= 0);
			CHECK(verbs->woken(w->t, fds, n) == 0);
		}
	}
	CHECK(verbs->connect(w->t, !w->rank, blob, length, &w->ep[!w->rank]) == 0);
	until_up(w);
	end(w);
}

static void a_request_that_comes_before_our_connect_is_kept(void **state)
{
	(void)state;
	run(2, early_request_body, 0);
}

static void wrong_nonce_body(struct world *w)
{
	int64_t deadline = rdt_deadline(WAIT_S);
	char blob[RDT_ADDRESS_MAX], why[256];
	size_t length;
	int up;

	if (w->rank == 1)
		w->config.nonce[3] ^= 1;
	begin(w);
	CHECK(verbs->address(w->t, blob, &length) == 0);
	tell(w, !w->rank, blob, length);
	length = hear(w, !w->rank, blob, sizeof(blob));
	CHECK(!verbs->reachable(w->t, blob, length, why, sizeof(why)));
	CHECK(verbs->connect(w->t, !w->rank, blob, length, &w->ep[!w->rank]) == 0);
	if (w->rank == 0) {
		struct rdt_transport_failure failure;

		while ((up = verbs->connected(w->ep[1])) == 0) {
			CHECK(rdt_left_ms(deadline) > 0);
			verbs->progress(w->t);
		}
		CHECK(up == RDT_ERR_UNREACHABLE);
		CHECK(strstr(rdt_last_error(), "another job"));
		CHECK(strstr(rdt_last_error(), "rank 1"));
		CHECK(verbs->progress(w->t) == RDT_ERR_UNREACHABLE);
		CHECK(verbs->failure(w->t, &failure));
		CHECK(failure.status == RDT_ERR_UNREACHABLE && failure.peer == 1);
		CHECK(!verbs->failure(w->t, &failure));
		tell(w, 1, NULL, 0);
	} else {
		struct pollfd fd = { .fd = w->socket[0], .events = POLLIN };

		while (poll(&fd, 1, 1) == 0) {
			CHECK(verbs->progress(w->t) >= 0);
			CHECK(verbs->connected(w->ep[0]) == 0);
		}
		CHECK(verbs->connected(w->ep[0]) == 0);
		hear(w, 0, NULL, 0);
	}
	end(w);
}

static void who_does_not_know_the_nonce_is_turned_down(void **state)
{
	(void)state;
	run(2, wrong_nonce_body, 0);
}

/* The peer's address with others put before it, on which nobody listens. */
static size_t spoil(char *blob, size_t length, bool keep)
{
	struct rdt_verbs_peer peer;

	CHECK(rdt_verbs_address_unpack(blob, length, &peer));
	if (keep)
		peer.addr[peer.n++] = peer.addr[0];
	peer.addr[0].port ^= 1; /* the right host, the wrong door */
	return rdt_verbs_address_pack(&peer, blob);
}

static void bad_address_body(struct world *w)
{
	int64_t deadline = rdt_deadline(WAIT_S);
	char blob[RDT_ADDRESS_MAX];
	size_t length;
	int up;

	begin(w);
	CHECK(verbs->address(w->t, blob, &length) == 0);
	tell(w, !w->rank, blob, length);
	length = hear(w, !w->rank, blob, sizeof(blob));
	if (w->size == 2 && w->rank == 0) {
		length = spoil(blob, length, true);
		CHECK(verbs->connect(w->t, 1, blob, length, &w->ep[1]) == 0);
		until_up(w);
	} else {
		CHECK(verbs->connect(w->t, !w->rank, blob, length, &w->ep[!w->rank]) == 0);
		until_up(w);
	}
	end(w);

	/* and once more, with no good address at all */
	begin(w);
	CHECK(verbs->address(w->t, blob, &length) == 0);
	tell(w, !w->rank, blob, length);
	length = hear(w, !w->rank, blob, sizeof(blob));
	if (w->rank == 0) {
		length = spoil(blob, length, false);
		CHECK(verbs->connect(w->t, 1, blob, length, &w->ep[1]) == 0);
		while ((up = verbs->connected(w->ep[1])) == 0) {
			CHECK(rdt_left_ms(deadline) > 0);
			verbs->progress(w->t);
		}
		CHECK(up == RDT_ERR_UNREACHABLE);
		CHECK(strstr(rdt_last_error(), "nobody listens there"));
		CHECK(strstr(rdt_last_error(), " -> ") && strstr(rdt_last_error(), " port "));
	}
	end(w);
}

static void the_next_address_is_tried_and_all_failures_are_named(void **state)
{
	(void)state;
	run(2, bad_address_body, 0);
}

/* ---- puts --------------------------------------------------------------------------------------
 */

#define LONGEST ((9u << 20) + 5)

static char pattern(size_t i, unsigned seed)
{
	return (char)((i * 2654435761u >> 13) + seed);
}

static void lengths_body(struct world *w)
{
	static const struct {
		size_t length;
		bool registered;
	} puts[] = {
		{ 0, true },
		{ 1, true },
		{ 7, true },
		{ 64, true },
		{ 1, false },
		{ 7, false },
		{ 4096, true },
		{ 4096, false },
		{ (1u << 20) + 3, true },
		{ LONGEST, true },
		{ 1, true },
		{ (1u << 20) + 3, false },
		{ LONGEST, true },
		{ RDT_PUT_BOUNCE_MAX, false },
		{ 300, false },
		{ 257, true },
	};
	enum { N = sizeof(puts) / sizeof(puts[0]) };
	char *source = NULL;

	connect_all(w);
	CHECK(verbs->reserve(w->t, N + 2) == 0);
	share(w, 2 * (size_t)LONGEST); /* the first half is the target, the second the source */
	source = malloc(RDT_PUT_BOUNCE_MAX);
	CHECK(source);
	if (w->rank == 0) {
		for (unsigned i = 0; i < N; i++) {
			char *from = puts[i].registered ? w->memory + LONGEST : source;

			for (size_t k = 0; k < puts[i].length; k++)
				from[k] = pattern(k, i);
			put(w, 1,
			    &(struct rdt_put){
				    .src = from,
				    .region = puts[i].registered ? w->region : NULL,
				    .remote = puts[i].length ? w->remote[1] : NULL,
				    .offset = LONGEST - puts[i].length,
				    .length = puts[i].length,
				    .channel = i,
				    .flags = RDT_PUT_LAST,
			    });
			if (!puts[i].registered) /* it was copied */
				memset(source, 0x55, puts[i].length);
			await(w, 1, i, 1); /* the answer: looked at */
			quiet(w, 1);
		}
	} else {
		for (unsigned i = 0; i < N; i++) {
			char *at = w->memory + LONGEST - puts[i].length;
			size_t wrong = 0;

			await(w, 0, i, 1);
			for (size_t k = 0; k < puts[i].length; k++)
				wrong += at[k] != pattern(k, i);
			if (wrong)
				fprintf(stderr, "put %u of %zu bytes: %zu wrong\n", i,
					puts[i].length, wrong);
			CHECK(wrong == 0);
			notify(w, 0, i);
		}
		quiet(w, 0);
	}
	free(source);
	end(w);
}

static void puts_of_every_length_arrive_whole(void **state)
{
	(void)state;
	run(2, lengths_body, 0);
}

#define ROUND 1000u
#define ROUNDS 100u
#define SPREAD 37u

/* Both sides send ROUND puts on interleaved channels, then wait for the other's ROUND, so that
 * never more than two rounds are outstanding. The counters start just before they wrap around. */
static void many_body(struct world *w)
{
	const uint32_t base = UINT32_MAX - 500;
	int peer = !w->rank;
	uint32_t sent[SPREAD] = { 0 };
	long sent_rnr, received_rnr;

	connect_all(w);
	for (uint32_t c = 0; c < RDT_CHANNELS; c++)
		rdt_verbs_ep(w->ep[peer])->counters[c] = base;
	CHECK(verbs->reserve(w->t, 2 * ROUND) == 0);
	share(w, 8192);
	received_rnr = device_counter(w, "rcvd_rnr_err");
	sent_rnr = device_counter(w, "send_rnr_err");
	meet(w);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		for (uint32_t i = 0; i < ROUND; i++) {
			uint32_t c = (round * ROUND + i) * 11 % SPREAD;
			uint32_t length = i % 3 == 0 ? 0 : i % 97;

			put(w, peer,
			    &(struct rdt_put){
				    .src = w->memory + 4096,
				    .region = i % 2 ? w->region : NULL,
				    .remote = w->remote[peer],
				    .offset = i % 1000,
				    .length = length,
				    .channel = c * 110,
				    .flags = i + 1 == ROUND ? RDT_PUT_LAST : 0,
			    });
			sent[c]++;
		}
		for (uint32_t c = 0; c < SPREAD; c++)
			await(w, peer, c * 110, base + sent[c]);
	}
	quiet(w, peer);
	CHECK(rdt_ep_head(w->ep[peer])->posted == (uint64_t)ROUND * ROUNDS);
	meet(w);
	CHECK(verbs->progress(w->t) >= 0);
	for (uint32_t c = 0; c < RDT_CHANNELS; c++) {
		uint32_t expected = c % 110 == 0 && c / 110 < SPREAD ? sent[c / 110] : 0;

		CHECK(count(w, peer, c) == base + expected);
	}
	CHECK(device_counter(w, "send_rnr_err") == sent_rnr);
	CHECK(device_counter(w, "rcvd_rnr_err") == received_rnr);
	if (w->rank == 0)
		printf("# %u puts each way; the device counts receiver-not-ready: %s\n",
		       ROUND * ROUNDS, sent_rnr < 0 ? "no such counter" : "none");
	end(w);
}

static void a_hundred_thousand_puts_are_counted_exactly(void **state)
{
	(void)state;
	run(2, many_body, 0);
}

static void full_body(struct world *w)
{
	unsigned posted = 0;
	int rc = 0;

	connect_all(w);
	CHECK(verbs->reserve(w->t, 2000) == 0);
	share(w, 1 << 20);
	meet(w);
	if (w->rank == 0) {
		char *loose = calloc(1, RDT_PUT_BOUNCE_MAX);
		struct rdt_put p = { .src = w->memory,
				     .region = w->region,
				     .remote = w->remote[1],
				     .length = 1 << 20,
				     .channel = 5 };
		struct rdt_put big;
		uint64_t before;

		CHECK(loose);
		/* no progress, and never LAST: the queue fills up all the same */
		while (posted < 1999 && (rc = verbs->put(w->ep[1], &p)) == 0)
			posted++;
		CHECK(rc == RDT_AGAIN);
		CHECK(posted > 16 && posted < 1024);
		before = rdt_ep_head(w->ep[1])->posted;
		CHECK(before == posted);
		CHECK(verbs->put(w->ep[1], &p) == RDT_AGAIN);
		CHECK(rdt_ep_head(w->ep[1])->posted == before);
		p.flags = RDT_PUT_LAST;
		put(w, 1, &p); /* progress alone makes room */
		quiet(w, 1);

		/* the copy ring fills up as well */
		big = (struct rdt_put){
			.src = loose, .remote = w->remote[1], .length = 1 << 20, .channel = 6
		};
		posted = 0;
		while (posted < 100 && (rc = verbs->put(w->ep[1], &big)) == 0)
			posted++;
		CHECK(rc == RDT_AGAIN);
		CHECK(posted == RDT_VERBS_BOUNCE >> 20);
		big.flags = RDT_PUT_LAST;
		put(w, 1, &big);
		quiet(w, 1);
		tell(w, 1, &before, sizeof(before));
		tell(w, 1, &posted, sizeof(posted));
		free(loose);
	} else {
		uint64_t first;

		hear(w, 0, &first, sizeof(first));
		hear(w, 0, &posted, sizeof(posted));
		await(w, 0, 5, (uint32_t)first + 1);
		await(w, 0, 6, posted + 1);
		CHECK(count(w, 0, 5) == first + 1);
		CHECK(count(w, 0, 6) == posted + 1);
	}
	end(w);
}

static void a_full_queue_says_again_and_recovers(void **state)
{
	(void)state;
	run(2, full_body, 0);
}

static void bounds_body(struct world *w)
{
	struct rdt_remote *bogus;
	char small[16] = { 0 };

	connect_all(w);
	share(w, 4096);
	if (w->rank == 0) {
		struct rdt_put p = { .src = w->memory,
				     .region = w->region,
				     .remote = w->remote[1],
				     .offset = 4000,
				     .length = 97 };

		CHECK(verbs->put(w->ep[1], &p) == RDT_ERR_INVALID);
		p.offset = UINT64_MAX;
		CHECK(verbs->put(w->ep[1], &p) == RDT_ERR_INVALID);
		p.offset = 0;
		p.src = w->memory + 4090;
		CHECK(verbs->put(w->ep[1], &p) == RDT_ERR_INVALID);
		p.src = w->memory - 1;
		CHECK(verbs->put(w->ep[1], &p) == RDT_ERR_INVALID);
		p.src = w->memory;
		p.channel = RDT_CHANNELS;
		CHECK(verbs->put(w->ep[1], &p) == RDT_ERR_INVALID);
		p.channel = 0;
		p.remote = NULL;
		CHECK(verbs->put(w->ep[1], &p) == RDT_ERR_INVALID);
		CHECK(verbs->mem_import(w->ep[1], small, sizeof(small), &bogus) == RDT_ERR_INVALID);
		CHECK(rdt_ep_head(w->ep[1])->posted == 0);
		CHECK(verbs->reserve(w->t, -1) == RDT_ERR_INVALID);
	}
	end(w);
}

static void a_put_outside_its_bounds_is_refused(void **state)
{
	(void)state;
	run(2, bounds_body, 0);
}

static void reserve_body(struct world *w)
{
	int before;

	connect_all(w);
	before = rdt_verbs(w->t)->cq->cqe;
	CHECK(verbs->reserve(w->t, 1 << 30) == RDT_ERR_NOMEM);
	CHECK(strstr(rdt_last_error(), "1073741824") && strstr(rdt_last_error(), "holds"));
	CHECK(verbs->reserve(w->t, 20000) == 0);
	CHECK(rdt_verbs(w->t)->cq->cqe > before); /* the completion queue has grown */
	meet(w);
	for (int i = 0; i < 9000; i++) /* more than fitted before */
		put(w, !w->rank,
		    &(struct rdt_put){ .channel = 9, .flags = i == 8999 ? RDT_PUT_LAST : 0 });
	await(w, !w->rank, 9, 9000);
	quiet(w, !w->rank);
	CHECK(verbs->reserve(w->t, -20000) == 0);
	end(w);
}

static void reserving_grows_the_queues_up_to_the_device_s_limit(void **state)
{
	(void)state;
	run(2, reserve_body, 0);
}

/* ---- sleeping ----------------------------------------------------------------------------------
 */

static void sleep_body(struct world *w)
{
	connect_all(w);
	CHECK(verbs->reserve(w->t, 4) == 0);
	meet(w);
	for (uint32_t round = 1; round <= 200; round++) {
		if (w->rank == 0) {
			hear(w, 1, NULL, 0); /* it is armed */
			notify(w, 1, 3);
			quiet(w, 1);
			continue;
		}
		struct pollfd fds[4];
		int n = verbs->fds(w->t, fds, 4);

		CHECK(n == 2);
		while (verbs->arm(w->t) == 1)
			CHECK(verbs->progress(w->t) >= 0);
		CHECK(count(w, 0, 3) == round - 1);
		tell(w, 0, NULL, 0);
		while (count(w, 0, 3) == round - 1) {
			CHECK(poll(fds, (nfds_t)n, (int)(WAIT_S * 1000)) > 0);
			CHECK(verbs->woken(w->t, fds, n) >= 0);
			CHECK(verbs->progress(w->t) >= 0);
			if (count(w, 0, 3) == round - 1)
				while (verbs->arm(w->t) == 1)
					CHECK(verbs->progress(w->t) >= 0);
		}
	}
	end(w);
}

static void a_sleeper_is_woken_by_a_put(void **state)
{
	(void)state;
	run(2, sleep_body, 0);
}

static void on_system_call(int signal, siginfo_t *info, void *context)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "rank %d made system call %d\n", me, info->si_syscall);

	(void)signal;
	(void)context;
	if (write(STDERR_FILENO, text, (size_t)n) != n)
		_exit(2);
	_exit(1);
}

/* Anything but leaving the process, and writing to standard error, is now the end. */
static void forbid_system_calls(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sigaltstack, 3, 0), /* asan, at _exit */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, STDERR_FILENO, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };
	struct sigaction action = { .sa_sigaction = on_system_call, .sa_flags = SA_SIGINFO };

	CHECK(sigaction(SIGSYS, &action, NULL) == 0);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void idle_body(struct world *w)
{
	connect_all(w);
	meet(w);
	verbs->leave(w->t);
	meet(w);
	while (verbs->progress(w->t) > 0)
		;
	forbid_system_calls();
	for (int i = 0; i < 10000; i++)
		if (verbs->progress(w->t) != 0)
			_exit(1);
	_exit(0);
}

static void progress_makes_no_system_call_when_nothing_happens(void **state)
{
	(void)state;
	run(2, idle_body, 0);
}

/* ---- ends --------------------------------------------------------------------------------------
 */

static void leave_body(struct world *w)
{
	int64_t deadline = rdt_deadline(WAIT_S);

	connect_all(w);
	CHECK(verbs->reserve(w->t, 8) == 0);
	meet(w);
	if (w->rank == 1) {
		notify(w, 0, 1);
		verbs->leave(w->t);
		verbs->close(w->t);
		return; /* and its process ends */
	}
	while (rdt_verbs_ep(w->ep[1])->state == RDT_EP_UP) {
		doze(w, 100);
		CHECK(verbs->progress(w->t) >= 0);
		CHECK(rdt_left_ms(deadline) > 0);
	}
	CHECK(rdt_verbs_ep(w->ep[1])->state == RDT_EP_LEFT);
	CHECK(count(w, 1, 1) == 1);
	struct rdt_transport_failure failure;

	CHECK(!verbs->failure(w->t, &failure));
	CHECK(verbs->put(w->ep[1], &(struct rdt_put){ 0 }) == RDT_ERR_PEER_LOST);
	CHECK(strstr(rdt_last_error(), "has left"));
	verbs->close(w->t);
}

static void a_peer_that_leaves_in_good_order_is_not_lost(void **state)
{
	(void)state;
	run(2, leave_body, 0);
}

/* Rank 2 dies; the others sleep, or (rank 0 with `busy`) keep writing to it. */
static void killed_body(struct world *w, bool busy)
{
	struct rdt_transport_failure failure;
	int64_t start = 0, deadline;
	int rc = 0;

	connect_all(w);
	CHECK(verbs->reserve(w->t, 20000) == 0);
	share(w, 1 << 20);
	meet(w);
	if (w->rank == 2) {
		for (;;) {
			verbs->progress(w->t);
			usleep(1000);
		}
	}
	if (w->rank == 0) {
		for (int i = 0; busy && i < 100; i++)
			put(w, 2,
			    &(struct rdt_put){ .src = w->memory,
					       .region = w->region,
					       .remote = w->remote[2],
					       .length = 65536,
					       .channel = 4 });
		CHECK(w->pids[2] > 0 && kill(w->pids[2], SIGKILL) == 0);
		tell(w, 1, NULL, 0);
	} else {
		hear(w, 0, NULL, 0);
	}
	start = rdt_now();
	deadline = rdt_deadline(5);
	while (!verbs->failure(w->t, &failure)) {
		CHECK(rdt_left_ms(deadline) > 0);
		if (busy && w->rank == 0) {
			rc = verbs->put(w->ep[2], &(struct rdt_put){ .src = w->memory,
								     .region = w->region,
								     .remote = w->remote[2],
								     .length = 4096,
								     .channel = 4,
								     .flags = RDT_PUT_LAST });
			CHECK(rc == 0 || rc == RDT_AGAIN || rc == RDT_ERR_PEER_LOST);
			doze(w, 1);
		} else {
			doze(w, 1000);
		}
		verbs->progress(w->t);
	}
	printf("# rank %d, %s, noticed after %.1f ms: %s\n", w->rank,
	       busy && w->rank == 0 ? "writing to it" : "asleep", (double)(rdt_now() - start) / 1e6,
	       failure.text);
	CHECK(failure.status == RDT_ERR_PEER_LOST && failure.peer == 2);
	CHECK(strstr(failure.text, "rank 2"));
	CHECK(rdt_now() - start < 1000000000);
	/* once, and the other connection still works */
	CHECK(verbs->progress(w->t) >= 0);
	notify(w, !w->rank, 1);
	await(w, !w->rank, 1, 1);
	CHECK(!verbs->failure(w->t, &failure));
	CHECK(verbs->put(w->ep[2], &(struct rdt_put){ 0 }) == RDT_ERR_PEER_LOST);
	tell(w, !w->rank, NULL, 0);
	hear(w, !w->rank, NULL, 0);
	verbs->shutdown(w->t);
	verbs->close(w->t);
}

static void killed_asleep_body(struct world *w)
{
	killed_body(w, false);
}

static void killed_busy_body(struct world *w)
{
	killed_body(w, true);
}

static void a_killed_peer_is_named_within_a_second_by_sleepers(void **state)
{
	(void)state;
	run(3, killed_asleep_body, 1u << 2);
}

static void a_killed_peer_is_named_within_a_second_by_writers(void **state)
{
	(void)state;
	run(3, killed_busy_body, 1u << 2);
}

static void shutdown_body(struct world *w)
{
	struct rdt_transport_failure failure;
	int64_t deadline = rdt_deadline(WAIT_S);

	w->config.ib_retry_cnt = 7; /* which must not be for ever, not even on soft-RoCE */
	connect_all(w);
	CHECK(verbs->reserve(w->t, 8) == 0);
	share(w, 4096);
	if (w->rank == 1)
		verbs->shutdown(w->t);
	meet(w);
	if (w->rank == 0) {
		int64_t start = rdt_now();

		memset(w->memory, 0x77, 4096);
		CHECK(verbs->put(w->ep[1], &(struct rdt_put){ .src = w->memory,
							      .region = w->region,
							      .remote = w->remote[1],
							      .length = 4096,
							      .flags = RDT_PUT_LAST }) == 0);
		while (!verbs->failure(w->t, &failure)) {
			CHECK(rdt_left_ms(deadline) > 0);
			doze(w, 1000);
			verbs->progress(w->t);
		}
		printf("# a dead queue pair is noticed after %.0f ms: %s\n",
		       (double)(rdt_now() - start) / 1e6, failure.text);
		CHECK(failure.peer == 1 && failure.status == RDT_ERR_PEER_LOST);
		CHECK(strstr(failure.text, "IBV_WC_RETRY_EXC_ERR"));
		CHECK(strstr(failure.text, "rank 1"));
		CHECK(verbs->connected(w->ep[1]) == RDT_ERR_PEER_LOST);
		meet(w);
	} else {
		CHECK(verbs->put(w->ep[0], &(struct rdt_put){ 0 }) == RDT_ERR_ABORTED);
		meet(w);
		for (int i = 0; i < 4096; i++)
			CHECK(w->memory[i] == 0);
	}
	verbs->close(w->t);
}

static void nothing_lands_after_shutdown_and_the_writer_is_told(void **state)
{
	(void)state;
	run(2, shutdown_body, 0);
}

static void stale_key_body(struct world *w)
{
	struct rdt_transport_failure failure;
	int64_t deadline = rdt_deadline(WAIT_S);

	connect_all(w);
	CHECK(verbs->reserve(w->t, 8) == 0);
	share(w, 4096);
	if (w->rank == 1)
		verbs->mem_deregister(w->region);
	meet(w);
	if (w->rank == 0) {
		CHECK(verbs->put(w->ep[1], &(struct rdt_put){ .src = w->memory,
							      .region = w->region,
							      .remote = w->remote[1],
							      .length = 4096,
							      .flags = RDT_PUT_LAST }) == 0);
		while (!verbs->failure(w->t, &failure)) {
			CHECK(rdt_left_ms(deadline) > 0);
			doze(w, 1000);
			verbs->progress(w->t);
		}
		CHECK(failure.peer == 1 && failure.status == RDT_ERR_SYSTEM);
		CHECK(strstr(failure.text, "IBV_WC_REM_ACCESS_ERR"));
		CHECK(strstr(failure.text, "deregistered while a plan still used it"));
	}
	meet(w);
	verbs->shutdown(w->t);
	verbs->close(w->t);
}

static void a_write_to_memory_that_is_gone_is_explained(void **state)
{
	(void)state;
	run(2, stale_key_body, 0);
}

/* ---- published memory, which peers read -------------------------------------------------------
 */

static void get(struct world *w, int peer, struct rdt_remote *from, uint64_t offset, void *dst,
		uint64_t length)
{
	int64_t deadline = rdt_deadline(WAIT_S);
	int rc;

	while ((rc = verbs->get(w->ep[peer], from, offset, dst, w->region, length)) == RDT_AGAIN) {
		CHECK(verbs->progress(w->t) >= 0);
		CHECK(rdt_left_ms(deadline) > 0);
	}
	CHECK(rc == 0);
}

/* Rank 1 publishes; rank 0 reads all of it in odd pieces, more of them than a queue holds. */
static void published_body(struct world *w)
{
	enum { BYTES = 40009, PIECE = 13 };
	struct rdt_transport_failure failure;
	int64_t deadline = rdt_deadline(WAIT_S);
	char blob[RDT_EXPORT_MAX];
	struct rdt_region *region;
	struct rdt_remote *from;
	unsigned char *bytes;
	size_t length;

	connect_all(w);
	share(w, BYTES);
	bytes = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(bytes != MAP_FAILED);
	for (size_t i = 0; i < BYTES; i++)
		bytes[i] = (unsigned char)(i * 7 + i / 251);
	if (w->rank == 1) {
		CHECK(verbs->mem_register(w->t, bytes, BYTES, -1, 0, &region) == 0);
		CHECK(verbs->mem_export(region, bytes, BYTES, RDT_ACCESS_GET, blob, &length) == 0);
		tell(w, 0, blob, length);
		meet(w);
		/* nothing was written: neither by the reads nor by the put that was turned down */
		for (size_t i = 0; i < BYTES; i++)
			CHECK(bytes[i] == (unsigned char)(i * 7 + i / 251));
	} else {
		struct rdt_put put = { .src = w->memory, .region = w->region, .length = 64 };

		length = hear(w, 1, blob, sizeof(blob));
		CHECK(verbs->mem_import(w->ep[1], blob, length, &from) == 0);
		CHECK(verbs->get(w->ep[1], from, BYTES - 8, w->memory, w->region, 9) ==
		      RDT_ERR_INVALID);
		CHECK(verbs->get(w->ep[1], from, UINT64_MAX, w->memory, w->region, 1) ==
		      RDT_ERR_INVALID);
		CHECK(verbs->get(w->ep[1], from, 0, w->memory + BYTES - 8, w->region, 9) ==
		      RDT_ERR_INVALID);
		CHECK(verbs->get(w->ep[1], NULL, 0, w->memory, w->region, 1) == RDT_ERR_INVALID);
		CHECK(rdt_ep_head(w->ep[1])->posted == 0);
		for (size_t done = 0; done < BYTES; done += PIECE)
			get(w, 1, from, done, w->memory + done,
			    BYTES - done < PIECE ? BYTES - done : PIECE);
		quiet(w, 1);
		CHECK(memcmp(w->memory, bytes, BYTES) == 0);
		/* what is published is no place to put to: the device itself says so */
		put.remote = from;
		put.flags = RDT_PUT_LAST;
		CHECK(verbs->put(w->ep[1], &put) == 0);
		while (!verbs->failure(w->t, &failure)) {
			CHECK(rdt_left_ms(deadline) > 0);
			doze(w, 1000);
			verbs->progress(w->t);
		}
		CHECK(failure.peer == 1 && strstr(failure.text, "IBV_WC_REM_ACCESS_ERR"));
		meet(w);
	}
	verbs->shutdown(w->t);
	verbs->close(w->t);
}

static void published_memory_is_read_and_never_written(void **state)
{
	(void)state;
	run(2, published_body, 0);
}

/* What rank 0 tries on memory of rank 1, and what that was exported for (0: not at all). */
static struct {
	enum { TRY_PUT, TRY_GET, TRY_ADD } attempt;
	unsigned access;
	bool allowed;
} privilege;

static void add_one(struct world *w, const struct rdt_verbs_exported *e)
{
	struct ibv_sge sge = { (uintptr_t)w->memory, 8,
			       ((struct rdt_verbs_region *)w->region)->local->lkey };
	struct ibv_send_wr *bad, wr = { .sg_list = &sge,
					.num_sge = 1,
					.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD,
					.send_flags = IBV_SEND_SIGNALED };
	struct rdt_verbs_ep *ep = rdt_verbs_ep(w->ep[1]);

	/* As verbs_put.c would number it. */
	wr.wr_id = (uint64_t)(ep->index + 1) << 32 | (uint32_t)ep->wr_posted;
	ep->sent[ep->wr_posted & (rdt_verbs(w->t)->sq_depth - 1)] =
		(struct rdt_verbs_sent){ .puts = ++ep->head.posted };
	wr.wr.atomic.remote_addr = le64toh(e->addr);
	wr.wr.atomic.rkey = le32toh(e->rkey);
	wr.wr.atomic.compare_add = 1;
	CHECK(ibv_post_send(ep->qp, &wr, &bad) == 0);
	ep->wr_signalled = ++ep->wr_posted;
}

static void attempt(struct world *w, const struct rdt_verbs_exported *e)
{
	struct rdt_put put = { .src = w->memory, .region = w->region, .length = 8 };
	struct rdt_transport_failure failure;
	int64_t deadline = rdt_deadline(WAIT_S);
	struct rdt_remote *remote;

	CHECK(verbs->mem_import(w->ep[1], e, sizeof(*e), &remote) == 0);
	put.remote = remote;
	put.flags = RDT_PUT_LAST;
	w->memory[0] = 1;
	if (privilege.attempt == TRY_PUT)
		CHECK(verbs->put(w->ep[1], &put) == 0);
	else if (privilege.attempt == TRY_GET)
		CHECK(verbs->get(w->ep[1], remote, 0, w->memory, w->region, 8) == 0);
	else
		add_one(w, e);
	if (privilege.allowed) {
		quiet(w, 1);
		return;
	}
	while (!verbs->failure(w->t, &failure)) {
		CHECK(rdt_left_ms(deadline) > 0);
		doze(w, 1000);
		verbs->progress(w->t);
	}
	CHECK(failure.peer == 1);
	if (!strstr(failure.text, "IBV_WC_REM_ACCESS_ERR") &&
	    !strstr(failure.text, "IBV_WC_REM_INV_REQ_ERR")) {
		fprintf(stderr, "%s\n", failure.text);
		_exit(1);
	}
}

static void privilege_body(struct world *w)
{
	struct rdt_verbs_exported e;
	struct rdt_region *region;
	uint64_t *target;
	size_t length;

	connect_all(w);
	CHECK(verbs->reserve(w->t, 2) == 0);
	share(w, 4096);
	target = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(target != MAP_FAILED);
	if (w->rank == 1) {
		CHECK(verbs->mem_register(w->t, target, 4096, -1, 0, &region) == 0);
		CHECK(verbs->mem_export(region, target, 8, 0, &e, &length) == RDT_ERR_INVALID);
		if (privilege.access) {
			CHECK(verbs->mem_export(region, target, 8, privilege.access, &e, &length) ==
			      0);
		} else { /* the key that our own work requests use, as if it had leaked */
			const struct ibv_mr *mr = ((struct rdt_verbs_region *)region)->local;

			e = (struct rdt_verbs_exported){ htole32(RDT_VERBS_EXPORT_MAGIC),
							 htole32(mr->lkey),
							 htole64((uintptr_t)target), htole64(8) };
		}
		tell(w, 0, &e, sizeof(e));
		meet(w);
		CHECK(*target == (privilege.allowed && privilege.attempt != TRY_GET ? 1 : 0));
	} else {
		hear(w, 1, &e, sizeof(e));
		attempt(w, &e);
		meet(w);
	}
	verbs->shutdown(w->t);
	verbs->close(w->t);
}

static void memory_is_open_to_what_it_was_exported_for_and_to_nothing_else(void **state)
{
	(void)state;
	for (unsigned access = 0; access <= RDT_ACCESS_ALL; access++)
		for (int what = TRY_PUT; what <= TRY_ADD; what++) {
			privilege.attempt = what;
			privilege.access = access;
			privilege.allowed = access >> what & 1;
			run(2, privilege_body, 0);
		}
}

/* ---- strangers ---------------------------------------------------------------------------------
 */

static enum rdma_cm_event_type next_cm_event(struct rdma_event_channel *events)
{
	struct pollfd fd = { .fd = events->fd, .events = POLLIN };
	struct rdma_cm_event *event;
	enum rdma_cm_event_type type;

	CHECK(poll(&fd, 1, (int)(WAIT_S * 1000)) == 1);
	CHECK(rdma_get_cm_event(events, &event) == 0);
	type = event->event;
	rdma_ack_cm_event(event);
	return type;
}

/* Knocks at the listener of rank 1 with these bytes. What came of it. */
static enum rdma_cm_event_type knock(const struct rdt_verbs_addr *addr, const void *bytes,
				     size_t length)
{
	struct rdma_event_channel *events = rdma_create_event_channel();
	struct ibv_qp_init_attr attr = {
		.cap = { .max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1 },
		.qp_type = IBV_QPT_RC,
	};
	struct rdma_conn_param param = { .private_data = bytes,
					 .private_data_len = (uint8_t)length,
					 .responder_resources = 1,
					 .initiator_depth = 1 };
	enum rdma_cm_event_type type;
	struct sockaddr_storage dst;
	struct rdma_cm_id *id;

	CHECK(events && rdma_create_id(events, &id, NULL, RDMA_PS_TCP) == 0);
	rdt_verbs_sockaddr(addr, true, &dst);
	CHECK(rdma_resolve_addr(id, NULL, (struct sockaddr *)&dst, 2000) == 0);
	CHECK(next_cm_event(events) == RDMA_CM_EVENT_ADDR_RESOLVED);
	CHECK(rdma_resolve_route(id, 2000) == 0);
	CHECK(next_cm_event(events) == RDMA_CM_EVENT_ROUTE_RESOLVED);
	CHECK(rdma_create_qp(id, NULL, &attr) == 0);
	CHECK(rdma_connect(id, &param) == 0);
	type = next_cm_event(events);
	rdma_destroy_qp(id);
	rdma_destroy_id(id);
	rdma_destroy_event_channel(events);
	return type;
}

#define KNOCKS 30

/* Rank 2 is the stranger: it knows where rank 1 listens and what hellos look like, and not the
 * nonce. Ranks 0 and 1 notify each other all the while, and connect to each other among it all. */
static void stranger_body(struct world *w)
{
	struct rdt_verbs_hello hello = { .generation = 7, .from = 0, .to = 1 };
	unsigned char bytes[RDT_VERBS_HELLO_BYTES];
	char blob[RDT_ADDRESS_MAX];
	struct rdt_verbs_peer peer;
	struct pollfd fd = { .events = POLLIN };
	uint32_t rounds = 0;
	size_t length;

	if (w->rank == 2) {
		length = hear(w, 1, blob, sizeof(blob));
		CHECK(rdt_verbs_address_unpack(blob, length, &peer));
		rdt_verbs_hello_pack(&hello, bytes); /* the nonce is zeros */
		for (int i = 0; i < KNOCKS; i++) {
			/* everything right but the nonce; cut off; noise; nothing */
			static const unsigned char noise[56] = "\xff\x01\x80 let me in";
			const void *said = i % 4 < 2 ? bytes : noise;
			size_t n = i % 4 == 0	? sizeof(bytes)
				   : i % 4 == 1 ? 20
				   : i % 4 == 2 ? 56
						: 0;

			CHECK(knock(&peer.addr[0], said, n) == RDMA_CM_EVENT_REJECTED);
		}
		tell(w, 0, NULL, 0);
		tell(w, 1, NULL, 0);
		return;
	}
	begin(w);
	CHECK(verbs->reserve(w->t, 4) == 0);
	CHECK(verbs->address(w->t, blob, &length) == 0);
	if (w->rank == 1)
		tell(w, 2, blob, length);
	connect_to(w, !w->rank);
	until_up(w);
	fd.fd = w->socket[2];
	/* rank 0 leads; rank 1 answers until it hears the end on another channel */
	if (w->rank == 0) {
		while (poll(&fd, 1, 0) == 0) {
			notify(w, 1, 0);
			await(w, 1, 0, ++rounds);
		}
		notify(w, 1, 1);
	} else {
		while (!count(w, 0, 1)) {
			CHECK(verbs->progress(w->t) >= 0);
			if (rdt_reached(count(w, 0, 0), rounds + 1)) {
				notify(w, 0, 0);
				rounds++;
			} else {
				doze(w, 100); /* strangers are looked at in idle moments */
			}
		}
	}
	hear(w, 2, NULL, 0);
	CHECK(rounds > KNOCKS);
	quiet(w, !w->rank);
	if (w->rank == 1) {
		CHECK(rdt_verbs(w->t)->npending == 0 && rdt_verbs(w->t)->neps == 1);
		CHECK(rdt_verbs(w->t)->strangers == KNOCKS);
		printf("# %d strangers turned down while %u notifications went each way\n", KNOCKS,
		       rounds);
		tell(w, 0, NULL, 0);
		hear(w, 0, NULL, 0);
	} else {
		hear(w, 1, NULL, 0);
		tell(w, 1, NULL, 0);
	}
	verbs->leave(w->t);
	verbs->close(w->t);
}

static void strangers_at_the_listener_are_turned_down_and_disturb_nobody(void **state)
{
	(void)state;
	run(3, stranger_body, 0);
}

/* Three connections of a rank: their numbers are no row. */
static void numbers_body(struct world *w)
{
	uint32_t psn[RANKS_MAX] = { 0 };

	connect_all(w);
	for (int r = 0; r < w->size; r++) {
		struct ibv_qp_init_attr init;
		struct ibv_qp_attr attr;

		if (r == w->rank)
			continue;
		CHECK(ibv_query_qp(rdt_verbs_ep(w->ep[r])->qp, &attr, IBV_QP_SQ_PSN, &init) == 0);
		psn[r] = attr.sq_psn;
		printf("# rank %d -> %d: queue pair %u, first packet %#08x\n", w->rank, r,
		       rdt_verbs_ep(w->ep[r])->qp->qp_num, psn[r]);
		for (int s = 0; s < r; s++)
			CHECK(s == w->rank || ((psn[r] - psn[s] + 256) & 0xffffff) > 512);
	}
	end(w);
}

static void packet_numbers_do_not_begin_in_a_row(void **state)
{
	(void)state;
	run(4, numbers_body, 0);
}

/* ---- the machine -------------------------------------------------------------------------------
 */

static void drop_ipc_lock(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	CHECK(syscall(SYS_capget, &header, data) == 0);
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	data[0].permitted &= ~(1u << CAP_IPC_LOCK);
	CHECK(syscall(SYS_capset, &header, data) == 0);
}

static void memlock_body(struct world *w)
{
	struct rlimit low = { 1 << 20, 1 << 20 };
	char *memory =
		mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct rdt_region *region;

	begin(w);
	CHECK(setrlimit(RLIMIT_MEMLOCK, &low) == 0);
	/* exempt as long as it has the capability */
	if (geteuid() == 0) {
		CHECK(verbs->mem_register(w->t, memory, 4 << 20, -1, 0, &region) == 0);
		verbs->mem_deregister(region);
	}
	drop_ipc_lock();
	CHECK(verbs->mem_register(w->t, memory, 4 << 20, -1, 0, &region) == RDT_ERR_MEMLOCK);
	CHECK(strstr(rdt_last_error(), "4096 KiB"));
	CHECK(strstr(rdt_last_error(), "allows 1024 KiB"));
	CHECK(strstr(rdt_last_error(), "ulimit -l unlimited"));
	/* what fits is given, and counts */
	CHECK(verbs->mem_register(w->t, memory, 512 << 10, -1, 0, &region) == 0);
	CHECK(verbs->mem_register(w->t, memory + (1 << 20), 1 << 20, -1, 0, &region) ==
	      RDT_ERR_MEMLOCK);
	CHECK(strstr(rdt_last_error(), "512 KiB are locked"));
	verbs->close(w->t);
}

static void a_low_memlock_limit_is_named_with_its_remedy(void **state)
{
	(void)state;
	run(1, memlock_body, 0);
}

static void filters_body(struct world *w)
{
	struct rdt_transport *t;
	char hca[160], name[64];

	begin(w);
	snprintf(name, sizeof(name), "%s", rdt_verbs(w->t)->choice.device);
	verbs->close(w->t);

	snprintf(hca, sizeof(hca), "%s0", name); /* rxe0 is not rxe00 */
	w->config.ib_hca = hca;
	CHECK(verbs->open(&w->config, &t) == RDT_ERR_NO_DEVICE);
	CHECK(strstr(rdt_last_error(), "RDTRAIN_IB_HCA"));
	snprintf(hca, sizeof(hca), "nothing,%s:1", name);
	CHECK(verbs->open(&w->config, &t) == 0);
	verbs->close(t);
	w->config.ib_hca = NULL;
	w->config.ifname = "nosuch";
	CHECK(verbs->open(&w->config, &t) == RDT_ERR_NO_DEVICE);
	CHECK(strstr(rdt_last_error(), "RDTRAIN_SOCKET_IFNAME"));
	w->config.ifname = NULL;
	w->config.ib_timeout = 0;
	CHECK(verbs->open(&w->config, &t) == RDT_ERR_INVALID);
}

static void the_filters_choose_among_devices_and_interfaces(void **state)
{
	(void)state;
	run(1, filters_body, 0);
}

static void print_line(void *arg, const char *line)
{
	++*(int *)arg;
	printf("# %s\n", line);
}

static void info_body(struct world *w)
{
	int lines = 0;

	(void)w;
	CHECK(rdt_verbs_info(NULL, print_line, &lines));
	CHECK(lines >= 4);
}

/* In a process of its own like all: a device that was opened before fork() is of no use after it.
 */
static void info_says_what_would_be_used(void **state)
{
	(void)state;
	run(1, info_body, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(info_says_what_would_be_used),
		cmocka_unit_test(the_filters_choose_among_devices_and_interfaces),
		cmocka_unit_test(four_ranks_connect_in_all_pairs_and_notify_each_other),
		cmocka_unit_test(a_request_that_comes_before_our_connect_is_kept),
		cmocka_unit_test(who_does_not_know_the_nonce_is_turned_down),
		cmocka_unit_test(the_next_address_is_tried_and_all_failures_are_named),
		cmocka_unit_test(puts_of_every_length_arrive_whole),
		cmocka_unit_test(a_hundred_thousand_puts_are_counted_exactly),
		cmocka_unit_test(a_full_queue_says_again_and_recovers),
		cmocka_unit_test(a_put_outside_its_bounds_is_refused),
		cmocka_unit_test(reserving_grows_the_queues_up_to_the_device_s_limit),
		cmocka_unit_test(a_sleeper_is_woken_by_a_put),
		cmocka_unit_test(progress_makes_no_system_call_when_nothing_happens),
		cmocka_unit_test(a_peer_that_leaves_in_good_order_is_not_lost),
		cmocka_unit_test(a_killed_peer_is_named_within_a_second_by_sleepers),
		cmocka_unit_test(a_killed_peer_is_named_within_a_second_by_writers),
		cmocka_unit_test(nothing_lands_after_shutdown_and_the_writer_is_told),
		cmocka_unit_test(a_write_to_memory_that_is_gone_is_explained),
		cmocka_unit_test(published_memory_is_read_and_never_written),
		cmocka_unit_test(memory_is_open_to_what_it_was_exported_for_and_to_nothing_else),
		cmocka_unit_test(strangers_at_the_listener_are_turned_down_and_disturb_nobody),
		cmocka_unit_test(packet_numbers_do_not_begin_in_a_row),
		cmocka_unit_test(a_low_memlock_limit_is_named_with_its_remedy),
	};
	char why[400];

	if (argc > 1)
		cmocka_set_test_filter(argv[1]); /* "*killed*" */
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!rdt_verbs_present("/sys", "/dev", why, sizeof(why))) {
		bool required = getenv("RDTRAIN_TEST_REQUIRE_VERBS") != NULL;

		printf("%s: %s\n", required ? "failed" : "skipped", why);
		return required ? 1 : 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
