/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Running a program: one switch over four kinds of step. A lane goes on until it has to wait for a
 * notification or for room in a queue; the caller moves the transports on and comes again.
 */
#include "engine.h"

#include <string.h>

#include "lib/base/error.h"

#include "board.h"
#include "check.h"
#include "step.h"

/* Enters slot `s` for `window`; windows of a slot only go up. */
static void enter_window(struct rdt_program *p, int s, uint64_t window)
{
	struct rdt_slot_state *slot = &p->slots[s];
	const struct rdt_bound_schedule *last = &p->schedules[p->n_schedules - 1];

	slot->window = window;
	while (slot->schedule < last && slot->schedule[1].first <= window)
		slot->schedule++;
}

static uint64_t windows_of(const struct rdt_program *p, int i)
{
	uint64_t end = i + 1 < p->n_schedules ? p->schedules[i + 1].first : p->n_windows;

	return end - p->schedules[i].first;
}

static void rewind_lanes(struct rdt_program *p, int s)
{
	for (int l = 0; l < p->n_lanes; l++)
		p->lanes[s * p->n_lanes + l] = (struct rdt_lane_state){ 0 };
}

void rdt_engine_start(struct rdt_program *p)
{
	if (p->board) {
		rdt_board_start(p);
		return;
	}
	for (int i = 0; i < p->n_links; i++) {
		struct rdt_link *link = &p->links[i];

		link->puts_left = 0;
		for (int k = 0; k < p->n_schedules; k++)
			link->puts_left += windows_of(p, k) * p->schedules[k].puts[i];
		link->quiet_at = 0;
	}
	p->slots_running = 0;
	for (int s = 0; s < p->n_slots; s++) {
		bool work = (uint64_t)s < p->n_windows;

		p->slots[s].schedule = p->schedules;
		enter_window(p, s, (uint64_t)s);
		p->slots[s].lanes_running = work ? p->n_lanes : 0;
		p->slots_running += work;
		rewind_lanes(p, s);
	}
	p->running = true;
}

static int put(struct rdt_program *p, int s, unsigned lane,
	       const struct rdt_bound_schedule *schedule, const struct rdt_bound_step *step)
{
	const struct rdt_bound_span *dst = &schedule->spans[step->spans];
	const struct rdt_bound_span *src = dst + 1;
	struct rdt_link *link = &p->links[step->link];
	struct rdt_put put = {
		.length = src->length,
		.channel = p->channel + lane,
		.flags = link->puts_left == 1 ? RDT_PUT_LAST : 0,
	};
	int status;

	if (put.length) {
		put.src = rdt_address(p, s, src);
		put.region = p->local[src->buffer].region[link->transport];
		put.remote = link->remote[dst->buffer];
		put.offset = link->offset[dst->buffer] + rdt_position(p, s, dst);
	}
	if (__builtin_expect(p->check != NULL, 0))
		status = rdt_check_put(p, step->link, lane, &put, dst->buffer,
				       put.length ? rdt_position(p, s, dst) : 0);
	else
		status = link->ops->put(link->ep, &put);
	if (status)
		return status;
	if (--link->puts_left == 0)
		link->quiet_at = rdt_ep_head(link->ep)->posted;
	return 0;
}

/* 1: the notifications are there; 0: not yet; negative: what they announce is not what was sent. */
static int notified(struct rdt_program *p, unsigned lane, const struct rdt_bound_step *step)
{
	const struct rdt_link *link = &p->links[step->link];
	uint32_t *consumed = &p->consumed[step->link * p->n_slots * p->n_lanes + lane];
	/* Acquire: what the peer wrote before it raised the counter is visible after this load. */
	uint32_t now = __atomic_load_n(&rdt_ep_head(link->ep)->counters[p->channel + lane],
				       __ATOMIC_ACQUIRE);

	if (!rdt_reached(now, *consumed + step->count))
		return 0;
	*consumed += step->count;
	if (__builtin_expect(p->check != NULL, 0)) {
		int status = rdt_check_arrived(p, step->link, lane, step->count);

		if (status)
			return status;
	}
	return 1;
}

static void copy(struct rdt_program *p, int s, const struct rdt_bound_schedule *schedule,
		 const struct rdt_bound_step *step)
{
	const struct rdt_bound_span *dst = &schedule->spans[step->spans];
	char *to = rdt_address(p, s, dst), *from = rdt_address(p, s, dst + 1);

	if (to != from)
		memcpy(to, from, dst->length);
}

/* Runs one lane of slot `s` as far as it goes: how many steps, or a negative status. */
static int run_lane(struct rdt_program *p, int s, int l)
{
	unsigned lane = (unsigned)(s * p->n_lanes + l);
	struct rdt_lane_state *state = &p->lanes[lane];
	const struct rdt_bound_schedule *schedule = p->slots[s].schedule;
	const struct rdt_bound_lane *steps = &schedule->lanes[l];
	int done = 0;

	for (; state->step < steps->n_steps; state->step++, done++) {
		const struct rdt_bound_step *step = &steps->steps[state->step];

		switch ((enum rdt_step_kind)step->kind) {
		case RDT_PUT: {
			int status = put(p, s, lane, schedule, step);

			if (status < 0)
				return status;
			if (status == RDT_AGAIN)
				return done;
			break;
		}
		case RDT_WAIT: {
			int there = notified(p, lane, step);

			if (there <= 0)
				return there ? there : done;
			break;
		}
		case RDT_REDUCE: rdt_step_reduce(p, s, schedule, step); break;
		case RDT_COPY: copy(p, s, schedule, step); break;
		}
	}
	p->slots[s].lanes_running--;
	state->over = true;
	return done + 1;
}

static bool quiet(const struct rdt_program *p)
{
	for (int i = 0; i < p->n_links; i++)
		if (rdt_ep_head(p->links[i].ep)->completed < p->links[i].quiet_at)
			return false;
	return true;
}

/* All lanes of the slot are through: on to its next window, if it has one. */
static void next_window(struct rdt_program *p, int s)
{
	struct rdt_slot_state *slot = &p->slots[s];

	slot->epoch++;
	slot->window += (uint64_t)p->n_slots;
	if (slot->window >= p->n_windows) {
		p->slots_running--;
		return;
	}
	enter_window(p, s, slot->window);
	slot->lanes_running = p->n_lanes;
	rewind_lanes(p, s);
}

int rdt_engine_advance(struct rdt_program *p)
{
	int done = 0;

	if (p->board)
		return p->running ? rdt_board_advance(p) : 0;
	for (int s = 0; s < p->n_slots && p->slots_running; s++) {
		struct rdt_slot_state *slot = &p->slots[s];

		for (int l = 0; l < p->n_lanes && slot->lanes_running; l++) {
			int n;

			if (p->lanes[s * p->n_lanes + l].over)
				continue;
			n = run_lane(p, s, l);
			if (n < 0)
				return n;
			done += n;
		}
		if (slot->window < p->n_windows && slot->lanes_running == 0)
			next_window(p, s);
	}
	if (p->running && p->slots_running == 0 && quiet(p)) {
		p->running = false;
		done++;
	}
	return done;
}

void rdt_engine_waits_for(const struct rdt_program *p, void (*tell)(void *arg, int peer), void *arg)
{
	if (!p->running)
		return;
	if (p->board) {
		rdt_board_waits_for(p, tell, arg);
		return;
	}
	for (int s = 0; s < p->n_slots; s++) {
		const struct rdt_slot_state *slot = &p->slots[s];

		if (slot->window >= p->n_windows || slot->lanes_running == 0)
			continue;
		for (int l = 0; l < p->n_lanes; l++) {
			const struct rdt_bound_lane *lane = &slot->schedule->lanes[l];
			uint32_t at = p->lanes[s * p->n_lanes + l].step;

			if (at < lane->n_steps &&
			    (lane->steps[at].kind == RDT_WAIT || lane->steps[at].kind == RDT_PUT))
				tell(arg, p->links[lane->steps[at].link].peer);
		}
	}
	for (int i = 0; i < p->n_links; i++)
		if (rdt_ep_head(p->links[i].ep)->completed < p->links[i].quiet_at)
			tell(arg, p->links[i].peer);
}
