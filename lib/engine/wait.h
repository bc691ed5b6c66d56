/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How to wait: spin, then yield, then sleep, never beyond the deadline.
 *
 * Spinning is right when the answer is a microsecond away and the processor is ours; yielding, when
 * other ranks share it; sleeping, when the peer is away computing. A rank that sleeps has armed its
 * transports, so the next notification wakes it by a file descriptor; the same poll(2) watches for
 * dead peers and for the rendezvous.
 */
#ifndef RDT_WAIT_H
#define RDT_WAIT_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

/* What is waited on; all functions get `arg`. */
struct rdt_wait_hooks {
	/* One round: 0 nothing happened, positive something did, negative failed. */
	int (*progress)(void *arg);
	/* Is what we wait for there? */
	bool (*done)(void *arg, void *what);
	/* The descriptors to sleep on. */
	struct pollfd *(*fds)(void *arg, int *n);
	/* Ask for wake-ups; 1: something is there already, do not sleep. Negative: failed. */
	int (*arm)(void *arg);
	/* After poll(2): looks at revents. Negative: failed. */
	int (*woken)(void *arg, struct pollfd *fds, int n);
	/* When progress() wants to be called again at the latest (rdt_now() time). */
	int64_t (*wake_by)(void *arg);
};

/* How long to do what before the next, in nanoseconds. */
struct rdt_wait_policy {
	int64_t spin_ns, yield_ns;
	bool crowded; /* more ranks than processors */
};

/*
 * The policy for `ranks` workers on this host, which has so many processors for them: where there
 * are more ranks, spinning takes the processor from the very rank that is waited for.
 */
struct rdt_wait_policy rdt_wait_policy(int ranks, int processors);

/* 0 done; RDT_ERR_TIMEOUT (no sentence set: the caller knows whom it waited for); else the negative
 * value of a hook. */
int rdt_wait_until(const struct rdt_wait_hooks *hooks, void *arg, void *what,
		   const struct rdt_wait_policy *policy, int64_t deadline);

/* The same for the first few microseconds, in which no clock is read: where the kernel's is not
 * the processor's, reading it takes longer than a small operation. 1: done; 0: not yet. */
int rdt_wait_briefly(const struct rdt_wait_hooks *hooks, void *arg, void *what,
		     const struct rdt_wait_policy *policy);

/* A moment's pause between two looks at memory that a peer will write. */
void rdt_wait_relax(void);
/* Lets another process have the processor. */
void rdt_wait_yield(void);

/* Looks at the descriptors without sleeping, for callers that poll rdt_test. */
int rdt_wait_glance(const struct rdt_wait_hooks *hooks, void *arg);

#endif
