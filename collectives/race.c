/* SPDX-License-Identifier: BSD-3-Clause */
/* Vector clocks, the accesses of every cell, and the bound on receives; see race.h. Knows nothing
 * of schedules and of what cells hold. */
#include "race.h"

#include <stdlib.h>
#include <string.h>

/* The last write of a cell and the reads since. */
struct rdt_shadow {
	uint32_t writer; /* event; 0: none */
	uint32_t readers;
};

struct rdt_reader {
	uint32_t event, next;
};

int rdt_race_init(struct rdt_race *r, int ranks, int lanes, int runs, size_t cells)
{
	size_t n = (size_t)ranks * (size_t)lanes;

	*r = (struct rdt_race){ .n_threads = (int)n, .lanes = lanes, .runs = runs };
	r->clocks = calloc(n * n, sizeof(*r->clocks));
	r->over = calloc((size_t)ranks * (size_t)runs, sizeof(*r->over));
	r->shadow = calloc(cells + 1, sizeof(*r->shadow));
	/* Number 0 of events and readers means "none". */
	r->n_events = r->n_readers = 1;
	return r->clocks && r->over && r->shadow ? 0 : -1;
}

void rdt_race_free(struct rdt_race *r)
{
	free(r->clocks);
	free(r->over);
	free(r->events);
	free(r->posts);
	free(r->shadow);
	free(r->readers);
}

static bool room(void **array, size_t *capacity, size_t needed, size_t size)
{
	size_t more = *capacity ? 2 * *capacity : 256;
	void *grown;

	if (needed <= *capacity)
		return true;
	grown = realloc(*array, more * size);
	if (!grown)
		return false;
	*array = grown;
	*capacity = more;
	return true;
}

static uint32_t *clock_of(const struct rdt_race *r, int thread)
{
	return &r->clocks[(size_t)thread * (size_t)r->n_threads];
}

/* What an event knows: a put what its lane knew at the post, all others what their lane knows now,
 * for their accesses follow at once. */
static const uint32_t *knowledge(const struct rdt_race *r, const struct rdt_event *event)
{
	return event->receiver < 0 ? clock_of(r, event->thread)
				   : &r->posts[event->clock * (size_t)r->n_threads];
}

uint32_t rdt_race_event(struct rdt_race *r, int thread, int run, int step, int receiver)
{
	size_t width = (size_t)r->n_threads;
	struct rdt_event *event;

	if (!room((void **)&r->events, &r->cap_events, r->n_events + 1, sizeof(*r->events)) ||
	    (receiver >= 0 &&
	     !room((void **)&r->posts, &r->cap_posts, r->n_posts + 1, width * sizeof(*r->posts)))) {
		r->failed = true;
		return 0;
	}
	event = &r->events[r->n_events];
	*event = (struct rdt_event){
		.tick = ++clock_of(r, thread)[thread],
		.thread = thread,
		.run = run,
		.step = step,
		.receiver = receiver,
	};
	if (receiver >= 0) {
		event->clock = r->n_posts++;
		memcpy(&r->posts[event->clock * width], clock_of(r, thread),
		       width * sizeof(*r->posts));
	}
	if (step == RDT_AFTER_RUN)
		r->over[thread / r->lanes * r->runs + run] = event->tick;
	return (uint32_t)r->n_events++;
}

static void learn(uint32_t *clock, const uint32_t *other, int n)
{
	for (int i = 0; i < n; i++)
		clock[i] = other[i] > clock[i] ? other[i] : clock[i];
}

void rdt_race_consume(struct rdt_race *r, uint32_t event, uint32_t put)
{
	const struct rdt_event *wait = &r->events[event];

	r->events[put].waited = wait->tick;
	learn(clock_of(r, wait->thread), knowledge(r, &r->events[put]), r->n_threads);
}

void rdt_race_join(struct rdt_race *r, int rank)
{
	uint32_t *first = clock_of(r, rank * r->lanes);

	for (int l = 1; l < r->lanes; l++)
		learn(first, clock_of(r, rank * r->lanes + l), r->n_threads);
	for (int l = 1; l < r->lanes; l++)
		memcpy(clock_of(r, rank * r->lanes + l), first,
		       (size_t)r->n_threads * sizeof(*first));
}

/* Is what `earlier` wrote known to be there when `later` accesses it? */
static bool after_write(const struct rdt_race *r, const struct rdt_event *later, bool later_writes,
			const struct rdt_event *earlier)
{
	const uint32_t *known = knowledge(r, later);

	if (earlier->receiver < 0)
		return known[earlier->thread] >= earlier->tick;
	/* Puts of one channel arrive in order. */
	if (later_writes && later->receiver == earlier->receiver &&
	    later->thread == earlier->thread)
		return later->tick > earlier->tick;
	return earlier->waited && known[earlier->receiver] >= earlier->waited;
}

/* Is what `earlier` read known to have been read when `later` overwrites it? */
static bool after_read(const struct rdt_race *r, const struct rdt_event *later,
		       const struct rdt_event *earlier, bool scratch)
{
	const uint32_t *known = knowledge(r, later);
	int rank = earlier->thread / r->lanes;
	uint32_t over;

	if (earlier->receiver < 0)
		return known[earlier->thread] >= earlier->tick;
	if (earlier->waited && known[earlier->receiver] >= earlier->waited)
		return true;
	over = r->over[rank * r->runs + earlier->run];
	return !scratch && over && known[rank * r->lanes] >= over;
}

struct rdt_conflict rdt_race_read(struct rdt_race *r, uint32_t event, size_t cell)
{
	struct rdt_shadow *shadow = &r->shadow[cell];
	struct rdt_reader *reader;
	uint32_t number = r->free_reader;

	if (shadow->writer && !after_write(r, &r->events[event], false, &r->events[shadow->writer]))
		return (struct rdt_conflict){ shadow->writer, true };
	if (number) {
		r->free_reader = r->readers[number].next;
	} else {
		if (!room((void **)&r->readers, &r->cap_readers, r->n_readers + 1,
			  sizeof(*r->readers))) {
			r->failed = true;
			return (struct rdt_conflict){ 0 };
		}
		number = (uint32_t)r->n_readers++;
	}
	reader = &r->readers[number];
	*reader = (struct rdt_reader){ event, shadow->readers };
	shadow->readers = number;
	return (struct rdt_conflict){ 0 };
}

struct rdt_conflict rdt_race_write(struct rdt_race *r, uint32_t event, size_t cell, bool scratch)
{
	struct rdt_shadow *shadow = &r->shadow[cell];
	const struct rdt_event *later = &r->events[event];

	if (shadow->writer && !after_write(r, later, true, &r->events[shadow->writer]))
		return (struct rdt_conflict){ shadow->writer, true };
	while (shadow->readers) {
		struct rdt_reader *reader = &r->readers[shadow->readers];
		uint32_t number = shadow->readers;

		if (!after_read(r, later, &r->events[reader->event], scratch))
			return (struct rdt_conflict){ reader->event, false };
		shadow->readers = reader->next;
		reader->next = r->free_reader;
		r->free_reader = number;
	}
	shadow->writer = event;
	return (struct rdt_conflict){ 0 };
}

/*
 * A put may lie unconsumed at its receiver while that thread stands anywhere from the tick that the
 * put was posted in knowledge of to the tick before the WAIT. So count, for each thread, how many
 * of these stretches overlap.
 */
uint32_t rdt_race_most_pending(const struct rdt_race *r)
{
	uint32_t most = 0;
	size_t ticks = 1;
	int *change;

	for (int t = 0; t < r->n_threads; t++)
		if (clock_of(r, t)[t] >= ticks)
			ticks = clock_of(r, t)[t] + 1;
	change = calloc((size_t)r->n_threads * ticks, sizeof(*change));
	if (!change)
		return UINT32_MAX;
	for (size_t i = 1; i < r->n_events; i++) {
		const struct rdt_event *put = &r->events[i];

		if (put->receiver < 0 || !put->waited)
			continue;
		change[(size_t)put->receiver * ticks + knowledge(r, put)[put->receiver]]++;
		change[(size_t)put->receiver * ticks + put->waited]--;
	}
	for (int rank = 0; rank < r->n_threads / r->lanes; rank++) {
		uint32_t sum = 0;

		for (int t = rank * r->lanes; t < (rank + 1) * r->lanes; t++) {
			int pending = 0, peak = 0;

			for (size_t tick = 0; tick < ticks; tick++) {
				pending += change[(size_t)t * ticks + tick];
				if (pending > peak)
					peak = pending;
			}
			sum += (uint32_t)peak;
		}
		if (sum > most)
			most = sum;
	}
	free(change);
	return most;
}
