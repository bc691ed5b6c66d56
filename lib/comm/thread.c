/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The progress thread; see thread.h.
 *
 * One lock for all of a communicator. The caller's functions hold it, also while they wait, since
 * they move everything on themselves; the thread takes it only when it is free, for a round at a
 * time. Without anything to do it sleeps: on the descriptors of what is in flight, and on its own,
 * by which a caller that leaves work behind wakes it.
 */
#include "thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/clock.h"

struct rdt_thread {
	pthread_t thread;
	pthread_mutex_t mutex;
	int depth;	   /* how deep the caller's functions are nested; under the mutex */
	int wake;	   /* eventfd */
	atomic_int wanted; /* callers that want the mutex, or have it */
	atomic_int state;
	atomic_int stop;
	struct pollfd *fds; /* [comm->fds_capacity + 1] */
};

enum {
	AWAKE,
	ASLEEP,	 /* or about to be: on the descriptors that were armed, and its own */
	GAVE_UP, /* a caller had the mutex; on its own descriptor only */
};

static void wake(struct rdt_thread *t)
{
	const uint64_t one = 1;
	ssize_t n = write(t->wake, &one, sizeof(one)); /* full is as good */

	(void)n;
}

void rdt_thread_lock(rdt_comm *comm)
{
	atomic_fetch_add(&comm->thread->wanted, 1);
	pthread_mutex_lock(&comm->thread->mutex);
	comm->thread->depth++;
}

void rdt_thread_unlock(rdt_comm *comm)
{
	struct rdt_thread *t = comm->thread;
	bool busy = --t->depth == 0 && comm->active, unwatched = comm->unwatched;
	int state;

	pthread_mutex_unlock(&t->mutex);
	atomic_fetch_sub(&t->wanted, 1);
	/* Sequentially consistent, like the other side in take(): either the thread gets the mutex
	 * that has just become free, or it is seen to have given up. */
	state = atomic_load(&t->state);
	if (busy && (state == GAVE_UP || (state == ASLEEP && unwatched)))
		wake(t);
}

/* Sleeps until a caller or one of `n` descriptors in t->fds wakes it, or the time has come. */
static void sleep_until(struct rdt_thread *t, int n, int64_t wake_by)
{
	int timeout = wake_by == INT64_MAX ? -1 : rdt_left_ms(wake_by);
	uint64_t count;

	t->fds[n] = (struct pollfd){ .fd = t->wake, .events = POLLIN };
	if (!atomic_load(&t->stop) && poll(t->fds, (nfds_t)n + 1, timeout) > 0 && t->fds[n].revents)
		while (read(t->wake, &count, sizeof(count)) < 0 && errno == EINTR)
			;
	atomic_store(&t->state, AWAKE);
}

/* The mutex; or false, after a sleep: a caller has it, and moves everything on meanwhile. */
static bool take(struct rdt_thread *t)
{
	atomic_store(&t->state, GAVE_UP);
	if (atomic_load(&t->wanted) == 0 && pthread_mutex_trylock(&t->mutex) == 0) {
		atomic_store(&t->state, AWAKE);
		return true;
	}
	sleep_until(t, 0, INT64_MAX);
	return false;
}

/* Until somebody starts something. Has the mutex, and gives it back; so does doze. */
static void rest(struct rdt_thread *t)
{
	atomic_store(&t->state, ASLEEP);
	pthread_mutex_unlock(&t->mutex);
	sleep_until(t, 0, INT64_MAX);
}

/* Nothing has moved for a while: sleeps on the descriptors of what is in flight. */
static void doze(rdt_comm *comm)
{
	const struct rdt_wait_hooks *hooks = &rdt_progress_hooks;
	struct rdt_thread *t = comm->thread;
	const struct pollfd *fds;
	int64_t wake_by;
	int n;

	/* A failure is the communicator's; whoever waits for the operation hears of it. And what
	 * came before the transports were armed wakes nobody. */
	if (hooks->arm(comm) || rdt_progress(comm) || !comm->active) {
		pthread_mutex_unlock(&t->mutex);
		return;
	}
	fds = hooks->fds(comm, &n);
	memcpy(t->fds, fds, (size_t)n * sizeof(*fds));
	wake_by = hooks->wake_by(comm);
	comm->unwatched = false;
	atomic_store(&t->state, ASLEEP);
	pthread_mutex_unlock(&t->mutex);
	sleep_until(t, n, wake_by);
}

static void *run(void *arg)
{
	rdt_comm *comm = arg;
	struct rdt_thread *t = comm->thread;
	int64_t quiet_since = 0;
	bool woken = false;

	while (!atomic_load(&t->stop)) {
		int n;

		if (!take(t)) {
			quiet_since = 0;
			continue;
		}
		if (comm->failed || !comm->active) {
			rest(t);
			quiet_since = 0;
			continue;
		}
		if (woken)
			rdt_progress_glance(comm);
		woken = false;
		n = rdt_progress(comm);
		if (n || !quiet_since)
			quiet_since = rdt_now();
		if (n == 0 && rdt_now() - quiet_since > comm->policy.spin_ns) {
			doze(comm);
			woken = true;
			continue;
		}
		pthread_mutex_unlock(&t->mutex);
		if (n == 0)
			rdt_wait_relax();
	}
	return NULL;
}

/* ---- life ------------------------------------------------------------------------------------ */

static int make_mutex(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attributes;
	int error = pthread_mutexattr_init(&attributes);

	if (!error)
		error = pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
	if (!error)
		error = pthread_mutex_init(mutex, &attributes);
	return error;
}

/* The caller's signals are not for this thread. */
static int spawn(rdt_comm *comm)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&comm->thread->thread, NULL, run, comm);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!error)
		pthread_setname_np(comm->thread->thread, "rdtrain");
	return error;
}

int rdt_thread_start(rdt_comm *comm)
{
	struct rdt_thread *t;
	int error;

	if (!comm->config.progress_thread || comm->size == 1)
		return 0;
	t = calloc(1, sizeof(*t));
	if (!t)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for a progress thread");
	t->fds = calloc((size_t)comm->fds_capacity + 1, sizeof(*t->fds));
	t->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	error = !t->fds ? ENOMEM : t->wake < 0 ? errno : make_mutex(&t->mutex);
	comm->thread = t;
	if (!error)
		error = spawn(comm);
	if (!error)
		return 0;
	comm->thread = NULL;
	if (t->wake >= 0)
		close(t->wake);
	free(t->fds);
	free(t);
	errno = error;
	return rdt_err_errno(RDT_ERR_SYSTEM, "the progress thread (RDTRAIN_PROGRESS=thread) cannot "
					     "be started");
}

void rdt_thread_stop(rdt_comm *comm)
{
	struct rdt_thread *t = comm->thread;

	if (!t)
		return;
	/* A forked child has a copy of everything but the thread. */
	if (comm->owner == getpid()) {
		atomic_store(&t->stop, 1);
		wake(t);
		pthread_join(t->thread, NULL);
	}
	comm->thread = NULL;
	pthread_mutex_destroy(&t->mutex);
	close(t->wake);
	free(t->fds);
	free(t);
}
