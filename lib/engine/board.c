/* SPDX-License-Identifier: BSD-3-Clause */
/* Small allreduces among ranks of one host; see board.h and collectives/board.c. */
#include "board.h"

#include <string.h>

#include "collectives/algorithms.h"

#include "step.h"

/* The schedule is COPY, notifications, waits, REDUCE; these two are all that is left to do. */
static const struct rdt_bound_step *first_step(const struct rdt_program *p)
{
	return &p->schedules[0].lanes[0].steps[0];
}

static const struct rdt_bound_step *last_step(const struct rdt_program *p)
{
	const struct rdt_bound_lane *lane = &p->schedules[0].lanes[0];

	return &lane->steps[lane->n_steps - 1];
}

/* The word at the beginning of a board in the copy of scratch that this run uses; of this rank, or
 * of the one behind a link. */
static uint32_t *number_on(const struct rdt_program *p, char *scratch)
{
	return (uint32_t *)(scratch + p->slots[0].epoch % 2 * p->scratch_stride);
}

/* Runs are counted from 1: a new board is all zeros. No rank can be two runs ahead of another, so
 * what stands there is this run's number or an older one. */
static bool is_there(const struct rdt_program *p, const struct rdt_link *link)
{
	/* acquire: who sees the number sees the vector */
	return __atomic_load_n(number_on(p, link->mapped[RDT_SCRATCH]), __ATOMIC_ACQUIRE) ==
	       p->slots[0].epoch + 1;
}

/* Goes on to the first vector that is not there; true when all are. */
static bool look(struct rdt_program *p)
{
	while (p->links_seen < p->n_links && is_there(p, &p->links[p->links_seen]))
		p->links_seen++;
	return p->links_seen == p->n_links;
}

bool rdt_board_suits(const struct rdt_program *p)
{
	if (p->n_windows != 1 || p->n_links == 0)
		return false;
	for (int i = 0; i < p->n_links; i++)
		if (!p->links[i].mapped[RDT_SCRATCH] || !p->links[i].ops->nudge)
			return false;
	return true;
}

/* Word by word where a call would cost more, and in pieces for which memcpy does not turn to string
 * instructions: those are slow at lines that another processor holds. */
static void copy(char *to, const char *from, size_t bytes)
{
	if (bytes <= 32 && bytes % 8 == 0) {
		for (size_t at = 0; at < bytes; at += 8)
			memcpy(to + at, from + at, 8);
		return;
	}
	for (; bytes > 1024; to += 1024, from += 1024, bytes -= 1024)
		memcpy(to, from, 1024);
	memcpy(to, from, bytes);
}

void rdt_board_start(struct rdt_program *p)
{
	const struct rdt_bound_schedule *schedule = &p->schedules[0];
	const struct rdt_bound_span *mine = &schedule->spans[first_step(p)->spans];

	p->slots[0].window = 0;
	copy(rdt_address(p, 0, mine), rdt_address(p, 0, mine + 1), mine->length);
	__atomic_store_n(number_on(p, p->local[RDT_SCRATCH].base), p->slots[0].epoch + 1,
			 __ATOMIC_RELEASE);
	/* Fetching the peers' lines meanwhile: the fence waits until this rank's line is its own.
	 */
	p->links_seen = 0;
	look(p);
	/* Between the store and the look at whether a peer sleeps: see rdt_shm_arm. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (int i = 0; i < p->n_links; i++)
		p->links[i].ops->nudge(p->links[i].ep);
	p->running = true;
}

int rdt_board_advance(struct rdt_program *p)
{
	if (!look(p))
		return 0;
	rdt_step_reduce(p, 0, &p->schedules[0], last_step(p));
	p->slots[0].epoch++;
	p->running = false;
	return 1;
}

void rdt_board_waits_for(const struct rdt_program *p, void (*tell)(void *arg, int peer), void *arg)
{
	for (int i = p->links_seen; i < p->n_links; i++)
		if (!is_there(p, &p->links[i]))
			tell(arg, p->links[i].peer);
}
