/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A lock between ranks: a ticket lock on the atomics of a window, with a lease.
 *
 * At the lock's home lie
 *
 *	next     the ticket that the next comer draws, by fetch-and-add
 *	state    the ticket that is served, and how often its holder has renewed (the low 16 bits)
 *	owner[]  by ticket, who drew it, for those who wait behind it
 *
 * Only compare-and-swaps change `state`, so of a holder that releases or renews and a waiter that
 * takes the lock away from it, one wins and the other learns of it. Whoever's turn it is must claim
 * it, which counts as a renewal. A waiter that has seen the same state for a lease serves the next
 * ticket; it does so at once where the rank that drew the ticket is lost or has given up. A holder
 * counts its lease from before its own claim or renewal, every waiter from when it saw that: so a
 * holder that minds its lease never holds the lock together with another.
 */
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include <rdtrain/train.h>

#include "clock.h"

#define NEXT 0
#define STATE 8
#define OWNERS 64
#define OWNER_BITS 16
#define GIVEN_UP 0xffffu
#define RENEWALS 0xffffu

#define LOOK_NS 2000000 /* a waiter looks for losses this often */
#define YIELDS 64

struct rdt_lock {
	rdt_window *window;
	int rank, size, home;
	size_t offset;
	int64_t lease;		/* ns */
	bool held, drawn;	/* drawn: `waiting` may still come to its turn */
	uint64_t waiting;	/* the ticket drawn last */
	uint64_t ticket, state; /* while it is held, the state that this rank has set */
	int *lost;
};

static size_t owners(int ranks)
{
	/* Each rank has one ticket that was not served yet, also when it gave up; the rest is so
	 * that one who signs late hardly ever meets the next round. */
	return 4 * (size_t)ranks;
}

size_t rdt_lock_bytes(int ranks)
{
	return ranks > 0 ? OWNERS + owners(ranks) * sizeof(uint64_t) : 0;
}

int rdt_lock_create(rdt_comm *comm, rdt_window *window, int home, size_t offset, double lease_s,
		    rdt_lock **out)
{
	int size = rdt_comm_size(comm);
	rdt_lock *lock;

	if (!out)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_lock_create: lock is NULL");
	*out = NULL;
	if (size < 1 || size >= (int)GIVEN_UP || !window || home < 0 || home >= size)
		return rdt_set_error(RDT_ERR_INVALID,
				     "rdt_lock_create: home %d of %d ranks%s; fewer than %u ranks "
				     "can share a lock",
				     home, size, window ? "" : ", no window", GIVEN_UP);
	if (offset % 8 || offset > rdt_window_bytes(window, home) ||
	    rdt_lock_bytes(size) > rdt_window_bytes(window, home) - offset)
		return rdt_set_error(RDT_ERR_INVALID,
				     "rdt_lock_create: a lock of %d ranks takes %zu bytes from a "
				     "multiple of 8; offset %zu of the %zu bytes of rank %d",
				     size, rdt_lock_bytes(size), offset,
				     rdt_window_bytes(window, home), home);
	if (!(lease_s > 0 && lease_s < 1e6))
		return rdt_set_error(RDT_ERR_INVALID,
				     "rdt_lock_create: a lease of %g s; more than 0 is needed",
				     lease_s);
	lock = calloc(1, sizeof(*lock));
	if (!lock || !(lock->lost = calloc((size_t)size, sizeof(int)))) {
		free(lock);
		return rdt_set_error(RDT_ERR_NOMEM, "out of memory for a lock");
	}
	lock->window = window;
	lock->rank = rdt_comm_rank(comm);
	lock->size = size;
	lock->home = home;
	lock->offset = offset;
	lock->lease = (int64_t)(lease_s * 1e9);
	*out = lock;
	return 0;
}

void rdt_lock_destroy(rdt_lock *lock)
{
	if (!lock)
		return;
	free(lock->lost);
	free(lock);
}

/* ---- the words ------------------------------------------------------------------------------- */

static int read_word(rdt_lock *lock, size_t at, uint64_t *word)
{
	int status = rdt_window_get(lock->window, lock->home, lock->offset + at, word, 8);

	return status ? status : rdt_window_flush(lock->window, lock->home);
}

static int swap(rdt_lock *lock, uint64_t from, uint64_t to, bool *done)
{
	uint64_t old;
	int status = rdt_window_compare_swap(lock->window, lock->home, lock->offset + STATE, from,
					     to, &old);

	*done = !status && old == from;
	return status;
}

static size_t owner_at(const rdt_lock *lock, uint64_t ticket)
{
	return OWNERS + ticket % owners(lock->size) * sizeof(uint64_t);
}

/* Tells those behind it who has this ticket. */
static int sign(rdt_lock *lock, uint64_t ticket, unsigned who)
{
	uint64_t word = (ticket + 1) << OWNER_BITS | who;

	return rdt_window_put(lock->window, lock->home, lock->offset + owner_at(lock, ticket),
			      &word, sizeof(word));
}

static uint64_t served(uint64_t state)
{
	return state >> OWNER_BITS;
}

static uint64_t renewed(uint64_t state)
{
	return (state & ~(uint64_t)RENEWALS) | ((state + 1) & RENEWALS);
}

static uint64_t passed_on(uint64_t state)
{
	return (served(state) + 1) << OWNER_BITS;
}

/* ---- waiting --------------------------------------------------------------------------------- */

static int draw(rdt_lock *lock)
{
	int status = rdt_window_fetch_add(lock->window, lock->home, lock->offset + NEXT, 1,
					  &lock->waiting);

	lock->drawn = !status;
	return status ? status : sign(lock, lock->waiting, (unsigned)lock->rank);
}

/* With the ticket that was given up, where its turn has not passed: else one more would lie there
 * for others to pass, each time. */
static int stand_in_line(rdt_lock *lock)
{
	uint64_t state;
	int status;

	if (!lock->drawn)
		return draw(lock);
	status = read_word(lock, STATE, &state);
	if (status)
		return status;
	if (served(state) > lock->waiting)
		return draw(lock);
	return sign(lock, lock->waiting, (unsigned)lock->rank);
}

/* Will nobody come for the ticket that is served? */
static int is_abandoned(rdt_lock *lock, uint64_t ticket, bool *abandoned)
{
	int n = rdt_window_lost(lock->window, lock->lost, lock->size);
	uint64_t word;
	int status = read_word(lock, owner_at(lock, ticket), &word);

	*abandoned = false;
	if (status || word >> OWNER_BITS != ticket + 1)
		return status; /* not signed yet, or too long ago: the lease decides */
	*abandoned = (word & GIVEN_UP) == GIVEN_UP;
	for (int i = 0; i < n && i < lock->size; i++)
		if ((uint64_t)lock->lost[i] == (word & GIVEN_UP))
			*abandoned = true;
	return 0;
}

/* The farther from its turn a rank is, the less often it asks. */
static void pause_a_little(unsigned round, uint64_t distance)
{
	long us = (long)(distance < 20 ? distance : 20) * 50;
	struct timespec t = { .tv_nsec = us * 1000 };

	if (round < YIELDS && distance <= 1)
		sched_yield();
	else
		nanosleep(&t, NULL);
}

static int claim(rdt_lock *lock, uint64_t state, bool *done)
{
	int status = swap(lock, state, renewed(state), done);

	if (*done) {
		lock->held = true;
		lock->drawn = false;
		lock->ticket = lock->waiting;
		lock->state = renewed(state);
	}
	return status;
}

/* Waits for its turn; 0 with the lock held. */
static int wait_for_turn(rdt_lock *lock, int64_t deadline)
{
	uint64_t state, seen = UINT64_MAX;
	int64_t since = 0, looked = 0;
	bool done = false;
	int status;

	for (unsigned round = 0;; round++) {
		int64_t now = rdt_train_now();

		status = read_word(lock, STATE, &state);
		if (status)
			return status;
		if (served(state) == lock->waiting) {
			status = claim(lock, state, &done);
			if (status || done)
				return status;
			continue;
		}
		if (served(state) > lock->waiting) { /* it came for longer than a lease, and went */
			status = draw(lock);
			if (status)
				return status;
			seen = UINT64_MAX;
			continue;
		}
		if (state != seen) {
			seen = state;
			since = looked = rdt_train_now();
			round = 0;
		} else if (now - looked > LOOK_NS) {
			bool abandoned;

			looked = now;
			status = is_abandoned(lock, served(state), &abandoned);
			if (!status && (abandoned || now - since > lock->lease))
				status = swap(lock, state, passed_on(state), &done);
			if (status)
				return status;
		}
		if (now > deadline)
			return rdt_set_error(RDT_ERR_TIMEOUT,
					     "rank %d waited for a lock until its deadline; ticket "
					     "%llu is served, its own is %llu",
					     lock->rank, (unsigned long long)served(state),
					     (unsigned long long)lock->waiting);
		pause_a_little(round, lock->waiting - served(state));
	}
}

int rdt_lock_acquire(rdt_lock *lock, double timeout_s)
{
	int status;

	if (!lock || lock->held || !(timeout_s > 0))
		return rdt_set_error(RDT_ERR_INVALID, "rdt_lock_acquire: %s",
				     !lock	  ? "lock is NULL"
				     : lock->held ? "this rank holds it already"
						  : "a timeout above 0 is needed");
	status = stand_in_line(lock);
	if (!status)
		status = wait_for_turn(lock, rdt_train_deadline(timeout_s));
	if (status == RDT_ERR_TIMEOUT && lock->drawn && sign(lock, lock->waiting, GIVEN_UP) == 0)
		rdt_window_flush(lock->window, lock->home);
	return status;
}

static int too_late(const rdt_lock *lock)
{
	return rdt_set_error(RDT_ERR_TIMEOUT,
			     "rank %d held a lock for longer than its lease of %g s, and another "
			     "rank has been served since: what was done under ticket %llu may "
			     "have met what that one did",
			     lock->rank, (double)lock->lease / 1e9,
			     (unsigned long long)lock->ticket);
}

int rdt_lock_renew(rdt_lock *lock)
{
	bool done;
	int status;

	if (!lock || !lock->held)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_lock_renew: %s",
				     lock ? "this rank does not hold it" : "lock is NULL");
	status = swap(lock, lock->state, renewed(lock->state), &done);
	if (status)
		return status;
	if (!done) {
		lock->held = false;
		return too_late(lock);
	}
	lock->state = renewed(lock->state);
	return 0;
}

int rdt_lock_release(rdt_lock *lock)
{
	bool done;
	int status, flushed;

	if (!lock || !lock->held)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_lock_release: %s",
				     lock ? "this rank does not hold it" : "lock is NULL");
	/* What was put under the lock is there before the next one gets it. */
	flushed = rdt_window_flush(lock->window, -1);
	lock->held = false;
	status = swap(lock, lock->state, passed_on(lock->state), &done);
	if (!status && !done)
		status = too_late(lock);
	return status ? status : flushed;
}

uint64_t rdt_lock_ticket(const rdt_lock *lock)
{
	return lock ? lock->ticket : 0;
}
