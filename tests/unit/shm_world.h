/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For the tests of the shm transport: n forked ranks, each with an open transport, joined by
 * socketpairs over which they hand each other blobs. Everything has a deadline: a receive that
 * waits too long fails its rank, and a rank that does not end is killed and fails the run.
 */
#ifndef SHM_WORLD_H
#define SHM_WORLD_H

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/transport/shm.h"

#define WORLD_MAX 4
#define STEP_S 20.0 /* deadline of one step of a test */
#define RUN_S 120.0 /* deadline of a whole run; the slow ones are under sanitizers */

static const struct rdt_transport_ops *const ops = &rdt_shm_ops;

struct world {
	int rank, n;
	struct rdt_transport_config config;
	struct rdt_transport *transport;
	struct rdt_ep *eps[WORLD_MAX];
	int sockets[WORLD_MAX]; /* to each other rank; -1: to oneself */
	void *arg;
};

/* In a rank's function: fails the rank when the condition does not hold. */
#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: pid %d: %s does not hold (%s)\n", __FILE__,        \
				__LINE__, (int)getpid(), #condition, rdt_last_error());            \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

/* Fails the rank, with the place, when a function of this file has failed. */
#define TRY(call) CHECK((call) == 0)

static inline struct rdt_transport_config world_config(int rank, int n)
{
	return (struct rdt_transport_config){ .rank = rank,
					      .size = n,
					      .nonce = { 1, 2, 3 },
					      .generation = 7,
					      .ib_timeout = -1,
					      .ib_retry_cnt = -1,
					      .ib_tc = -1,
					      .ib_sl = -1,
					      .cma = true };
}

static inline int world_send(struct world *w, int peer, const void *blob, size_t length)
{
	return send(w->sockets[peer], blob, length, MSG_NOSIGNAL) == (ssize_t)length ? 0 : -1;
}

/* The length of what came; -1 when nothing came in time. */
static inline ssize_t world_receive(struct world *w, int peer, void *blob, size_t size)
{
	return recv(w->sockets[peer], blob, size, 0);
}

/* Nobody returns before everybody has come here. */
static inline int world_meet(struct world *w)
{
	char byte = 0;

	for (int p = 0; p < w->n; p++)
		if (p != w->rank && world_send(w, p, &byte, 1) < 0)
			return -1;
	for (int p = 0; p < w->n; p++)
		if (p != w->rank && world_receive(w, p, &byte, 1) != 1)
			return -1;
	return 0;
}

/* Opens this rank's transport and connects to all others. */
static inline int world_connect(struct world *w)
{
	unsigned char mine[RDT_ADDRESS_MAX], blob[RDT_ADDRESS_MAX];
	size_t length = sizeof(mine);

	TRY(ops->open(&w->config, &w->transport));
	TRY(ops->address(w->transport, mine, &length));
	for (int p = 0; p < w->n; p++)
		if (p != w->rank)
			TRY(world_send(w, p, mine, length));
	for (int p = 0; p < w->n; p++) {
		ssize_t n;

		if (p == w->rank)
			continue;
		n = world_receive(w, p, blob, sizeof(blob));
		CHECK(n > 0);
		TRY(ops->connect(w->transport, p, blob, (size_t)n, &w->eps[p]));
		CHECK(ops->connected(w->eps[p]) == 1);
	}
	return world_meet(w);
}

static inline uint32_t world_count(struct world *w, int peer, uint32_t channel)
{
	return __atomic_load_n(&rdt_ep_head(w->eps[peer])->counters[channel], __ATOMIC_ACQUIRE);
}

/* Until that many notifications have come, without sleeping. */
static inline int world_await(struct world *w, int peer, uint32_t channel, uint32_t count)
{
	int64_t deadline = rdt_deadline(STEP_S);

	while (!rdt_reached(world_count(w, peer, channel), count)) {
		if (rdt_now() > deadline)
			return -1;
		sched_yield();
	}
	return 0;
}

static inline int world_notify(struct world *w, int peer, uint32_t channel)
{
	struct rdt_put put = { .channel = channel };

	return ops->put(w->eps[peer], &put);
}

/* Memory that a rank offers: a file, or ordinary. */
struct world_memory {
	unsigned char *base;
	size_t length;
	int fd;
	struct rdt_region *region;
};

static inline int world_offer(struct world *w, struct world_memory *m, size_t length, bool shared)
{
	m->length = length;
	m->fd = -1;
	if (shared) {
		m->fd = memfd_create("offered", MFD_CLOEXEC);
		CHECK(m->fd >= 0 && ftruncate(m->fd, (off_t)length) == 0);
	}
	m->base = mmap(NULL, length, PROT_READ | PROT_WRITE,
		       shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, m->fd, 0);
	CHECK(m->base != MAP_FAILED);
	TRY(ops->mem_register(w->transport, m->base, length, m->fd, 0, &m->region));
	return 0;
}

static inline void world_withdraw(struct world_memory *m)
{
	ops->mem_deregister(m->region);
	munmap(m->base, m->length);
	if (m->fd >= 0)
		close(m->fd);
}

/* Sends the memory's description to a peer, and imports what that peer sends. */
static inline int world_swap(struct world *w, int peer, const struct world_memory *m,
			     struct rdt_remote **remote)
{
	unsigned char blob[RDT_EXPORT_MAX];
	size_t length = 0;
	ssize_t n;

	TRY(ops->mem_export(m->region, m->base, m->length, RDT_ACCESS_PUT | RDT_ACCESS_GET, blob,
			    &length));
	CHECK(length > 0 && length <= RDT_EXPORT_MAX);
	TRY(world_send(w, peer, blob, length));
	n = world_receive(w, peer, blob, sizeof(blob));
	CHECK(n > 0);
	TRY(ops->mem_import(w->eps[peer], blob, (size_t)n, remote));
	return 0;
}

/* Keeps this process on `n` of its processors, from the `first` on; on all when it has too few. */
static inline int world_pin(int first, int n)
{
	cpu_set_t all, some;
	int seen = 0;

	if (sched_getaffinity(0, sizeof(all), &all) < 0)
		return -1;
	if (CPU_COUNT(&all) < first + n)
		return 0;
	CPU_ZERO(&some);
	for (int c = 0; c < CPU_SETSIZE; c++)
		if (CPU_ISSET(c, &all) && seen++ >= first && seen <= first + n)
			CPU_SET(c, &some);
	return sched_setaffinity(0, sizeof(some), &some);
}

/* The body of a forked rank; does not return. */
static inline void world_rank(int rank, int n, int sockets[WORLD_MAX][WORLD_MAX],
			      int (*fn)(struct world *), void *arg)
{
	struct timeval patience = { .tv_sec = (time_t)STEP_S };
	struct world w = { .rank = rank, .n = n, .config = world_config(rank, n), .arg = arg };
	int status;

	for (int r = 0; r < n; r++)
		for (int p = 0; p < n; p++) {
			if (r == rank) {
				w.sockets[p] = sockets[r][p];
				if (r != p)
					setsockopt(sockets[r][p], SOL_SOCKET, SO_RCVTIMEO,
						   &patience, sizeof(patience));
			} else if (r != p) {
				close(sockets[r][p]);
			}
		}
	status = fn(&w);
	if (w.transport)
		ops->close(w.transport);
	fflush(NULL);
	exit(status); /* not _exit: the leak checker reports at exit */
}

/* Runs fn in n forked ranks. statuses: as from waitpid. A rank that has not ended at the deadline
 * is killed, and false is returned. */
static inline bool world_run_result(int n, int (*fn)(struct world *), void *arg, int *statuses)
{
	int sockets[WORLD_MAX][WORLD_MAX];
	int64_t deadline = rdt_deadline(RUN_S);
	pid_t pids[WORLD_MAX], parent = getpid();
	bool in_time = true;

	for (int r = 0; r < n; r++) {
		sockets[r][r] = -1;
		for (int p = r + 1; p < n; p++) {
			int pair[2];

			assert_int_equal(
				socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
			sockets[r][p] = pair[0];
			sockets[p][r] = pair[1];
		}
	}
	fflush(NULL);
	for (int r = 0; r < n; r++) {
		pids[r] = fork();
		assert_true(pids[r] >= 0);
		if (pids[r] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				_exit(1);
			world_rank(r, n, sockets, fn, arg);
		}
	}
	for (int r = 0; r < n; r++)
		for (int p = 0; p < n; p++)
			if (r != p)
				close(sockets[r][p]);
	for (int r = 0; r < n; r++) {
		while (waitpid(pids[r], &statuses[r], WNOHANG) == 0) {
			if (rdt_now() > deadline && in_time) {
				fprintf(stderr, "rank %d has not ended in time\n", r);
				in_time = false;
				for (int k = r; k < n; k++)
					kill(pids[k], SIGKILL);
			}
			usleep(200);
		}
	}
	return in_time;
}

static inline bool world_run(int n, int (*fn)(struct world *), void *arg)
{
	int statuses[WORLD_MAX];
	bool ok = world_run_result(n, fn, arg, statuses);

	for (int r = 0; r < n; r++)
		ok &= WIFEXITED(statuses[r]) && WEXITSTATUS(statuses[r]) == 0;
	return ok;
}

#endif
