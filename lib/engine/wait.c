/* SPDX-License-Identifier: BSD-3-Clause */
/* The wait policy; see wait.h. No allocation; no system call until spinning has failed. */
#include "wait.h"

#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"

/* While waiting without sleep, look for dead peers this often. */
#define GLANCE_NS 50000000

/* Rounds without a clock and without a pause: a round through transports and programs is pause
 * enough, and an emulated processor leaves its loop at every pause. Where each round gives the
 * processor away, fewer. */
#define BRIEFLY 200
#define BRIEFLY_CROWDED 16

void rdt_wait_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

struct rdt_wait_policy rdt_wait_policy(int ranks, int processors)
{
	if (ranks <= processors)
		/* Not for long, either: the scheduler may have put the peer on this processor, and
		 * where it has not, yielding costs a fraction of a microsecond. */
		return (struct rdt_wait_policy){ .spin_ns = 5000, .yield_ns = 500000 };
	return (struct rdt_wait_policy){ .spin_ns = 0, .yield_ns = 200000, .crowded = true };
}

void rdt_wait_yield(void)
{
	sched_yield();
}

int rdt_wait_glance(const struct rdt_wait_hooks *hooks, void *arg)
{
	int n;
	struct pollfd *fds = hooks->fds(arg, &n);

	if (poll(fds, (nfds_t)n, 0) <= 0)
		return 0;
	return hooks->woken(arg, fds, n);
}

static int sleep_once(const struct rdt_wait_hooks *hooks, void *arg, void *what, int64_t deadline)
{
	struct pollfd *fds;
	int64_t wake_by = hooks->wake_by(arg);
	int n, status, slept;

	if (wake_by > deadline)
		wake_by = deadline;
	status = hooks->arm(arg);
	if (status)
		return status < 0 ? status : 0;
	fds = hooks->fds(arg, &n);
	/* A notification may have come before the transports were armed: look again, then sleep. */
	status = hooks->progress(arg);
	if (status < 0)
		return status;
	slept = status == 0 && !hooks->done(arg, what) ? poll(fds, (nfds_t)n, rdt_left_ms(wake_by))
						       : 0;
	if (slept < 0 && errno != EINTR)
		return rdt_err_errno(RDT_ERR_SYSTEM,
				     "poll of %d descriptors failed while waiting for peers", n);
	/* Nothing to read, time is up, or a signal came: the transports still learn that it is
	 * over. */
	for (int i = 0; slept <= 0 && i < n; i++)
		fds[i].revents = 0;
	return hooks->woken(arg, fds, n);
}

int rdt_wait_briefly(const struct rdt_wait_hooks *hooks, void *arg, void *what,
		     const struct rdt_wait_policy *policy)
{
	int rounds = policy->crowded ? BRIEFLY_CROWDED : BRIEFLY;

	for (int round = 0; round < rounds; round++) {
		int status = hooks->progress(arg);

		if (status < 0)
			return status;
		if (hooks->done(arg, what))
			return 1;
		if (status == 0 && policy->crowded)
			sched_yield();
	}
	return 0;
}

int rdt_wait_until(const struct rdt_wait_hooks *hooks, void *arg, void *what,
		   const struct rdt_wait_policy *policy, int64_t deadline)
{
	int64_t quiet_since = 0, glanced = 0;
	unsigned round = 0;

	for (;;) {
		int status = hooks->progress(arg);
		int64_t now;

		if (status < 0)
			return status;
		if (hooks->done(arg, what))
			return 0;
		if (status > 0)
			quiet_since = 0;
		else if (policy->crowded)
			sched_yield(); /* at once: the peer may be waiting for this processor */
		else
			rdt_wait_relax();
		/* Asking for the time costs more than a look at a counter. */
		if (++round % 16)
			continue;
		now = rdt_now();
		if (!quiet_since)
			quiet_since = now;
		if (!glanced)
			glanced = now;
		if (now >= deadline)
			return RDT_ERR_TIMEOUT;
		if (now - glanced > GLANCE_NS) {
			glanced = now;
			status = rdt_wait_glance(hooks, arg);
			if (status < 0)
				return status;
		}
		if (now - quiet_since <= policy->spin_ns)
			continue;
		if (now - quiet_since <= policy->spin_ns + policy->yield_ns) {
			sched_yield();
			continue;
		}
		status = sleep_once(hooks, arg, what, deadline);
		if (status < 0)
			return status;
	}
}
