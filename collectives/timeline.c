/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Running compiled schedules over time: a heap of events, the earliest first. An event is a rank
 * that goes on with its steps, or a message at one of three places on its way. Whoever shares
 * something (the lanes a CPU, the ranks an interface, the hosts nothing) takes it in the order in
 * which events come up, so that every run of the same simulation is the same.
 */
#include "timeline.h"

#include <stdlib.h>
#include <string.h>

/* Of events at one time, a message goes before a step: a wait sees what arrives at its instant. */
enum event_kind {
	EVENT_ARRIVE, /* the notification is visible to the receiver */
	EVENT_HEAD,   /* the first byte is at the receiving interface */
	EVENT_LEAVE,  /* announced before; may enter the sending interface now */
	EVENT_STEP,   /* an actor goes on */
};

struct event {
	uint64_t time;
	uint64_t order; /* kind, then the number of the event */
	uint32_t what;	/* an actor, or a message */
};

struct message {
	uint64_t bytes;
	uint32_t sender, actor, link; /* as in rdt_sim_op */
	uint32_t next;		      /* in the channel, or of those that are free */
	int depth;		      /* puts in the longest chain that leads to this one */
	uint16_t lane;
	uint8_t net;
};

/* What has arrived from one peer on one lane and is not consumed. */
struct channel {
	uint32_t first, last; /* messages; valid when count > 0 */
	uint32_t count;
};

struct slot {
	uint64_t window;
	int lanes_running;
};

struct actor {
	uint64_t cpu;	/* busy until then */
	uint64_t quiet; /* until its last put is known to have arrived */
	struct slot slots[RDT_WINDOW_LANES];
	size_t at[RDT_WINDOW_LANES];
	int depth[RDT_WINDOW_LANES];
	uint32_t ready; /* a bit for each lane of each slot that can go on */
	uint32_t waits; /* ... that stands at a WAIT */
	int current;	/* the lane that runs; others get their turn when it has to wait */
	int slots_running;
	bool awake;		  /* an EVENT_STEP of it is in the heap, or it is running */
	struct channel *channels; /* [link * lanes of all slots + lane] */
};

struct run {
	const struct rdt_sim *sim;
	const struct rdt_model *model;
	struct actor *actors;
	struct channel *channels;
	uint64_t *sends, *receives; /* [rail] busy until then */
	uint64_t *memory;	    /* [host] the same */
	struct event *heap;
	size_t n_heap, cap_heap;
	struct message *messages;
	uint32_t n_messages, cap_messages, free_message;
	uint64_t serial, steps;
	int lanes; /* of all slots */
	int rounds;
	bool failed;
};

#define NONE UINT32_MAX

/* ---- the heap ----------------------------------------------------------------------------- */

/* Four rather than two, for fewer cache misses. */
#define BRANCHES 4

static inline bool before(const struct event *a, const struct event *b)
{
	return a->time != b->time ? a->time < b->time : a->order < b->order;
}

static void push(struct run *r, uint64_t time, enum event_kind kind, uint32_t what)
{
	struct event event = { time, (uint64_t)kind << 60 | r->serial++, what };
	size_t i = r->n_heap;

	if (i == r->cap_heap) {
		size_t capacity = r->cap_heap ? 2 * r->cap_heap : 1024;
		struct event *grown = realloc(r->heap, capacity * sizeof(*grown));

		if (!grown) {
			r->failed = true;
			return;
		}
		r->heap = grown;
		r->cap_heap = capacity;
	}
	r->n_heap++;
	while (i > 0 && before(&event, &r->heap[(i - 1) / BRANCHES])) {
		r->heap[i] = r->heap[(i - 1) / BRANCHES];
		i = (i - 1) / BRANCHES;
	}
	r->heap[i] = event;
}

static struct event pop(struct run *r)
{
	struct event first = r->heap[0], last = r->heap[--r->n_heap];
	size_t i = 0;

	for (;;) {
		size_t child = BRANCHES * i + 1, end = child + BRANCHES;

		if (child >= r->n_heap)
			break;
		if (end > r->n_heap)
			end = r->n_heap;
		for (size_t c = child + 1; c < end; c++)
			if (before(&r->heap[c], &r->heap[child]))
				child = c;
		if (!before(&r->heap[child], &last))
			break;
		r->heap[i] = r->heap[child];
		i = child;
	}
	r->heap[i] = last;
	return first;
}

static uint32_t new_message(struct run *r)
{
	uint32_t m = r->free_message;

	if (m != NONE) {
		r->free_message = r->messages[m].next;
		return m;
	}
	if (r->n_messages == r->cap_messages) {
		uint32_t capacity = r->cap_messages ? 2 * r->cap_messages : 1024;
		struct message *grown = realloc(r->messages, capacity * sizeof(*grown));

		if (!grown) {
			r->failed = true;
			return NONE;
		}
		r->messages = grown;
		r->cap_messages = capacity;
	}
	return r->n_messages++;
}

/* ---- costs -------------------------------------------------------------------------------- */

static inline uint64_t per_byte(uint64_t bytes, uint64_t femtoseconds)
{
	return bytes * femtoseconds / 1000;
}

static inline bool eager(const struct rdt_link_cost *cost, uint64_t bytes)
{
	return bytes <= cost->eager_max;
}

/* When the CPU of actor `a` is through with `cost` begun at `now`, in which it reads and writes
 * `traffic` bytes of the memory that it shares with the other ranks of its host. */
static uint64_t work(struct run *r, uint32_t a, uint64_t now, uint64_t cost, uint64_t traffic)
{
	uint64_t done = now + cost;

	if (r->model->memory_byte && traffic) {
		uint64_t *memory = &r->memory[r->sim->actors[a].host];

		*memory =
			(*memory > now ? *memory : now) + per_byte(traffic, r->model->memory_byte);
		if (*memory > done)
			done = *memory;
	}
	return done;
}

/* At each end of a put that is checked. */
static uint64_t hashing(const struct run *r, uint64_t bytes)
{
	return r->sim->checked ? r->model->hash + per_byte(bytes, r->model->hash_byte) : 0;
}

/* Messages of one put: where data are checked their record follows them. */
static uint64_t messages(const struct run *r, uint64_t bytes)
{
	return r->sim->checked && bytes ? 2 : 1;
}

/* Takes an interface from `now` on for a message; returns when it begins. */
static uint64_t occupy(uint64_t *until, uint64_t now, uint64_t time)
{
	uint64_t begin = *until > now ? *until : now;

	*until = begin + time;
	return begin;
}

static inline uint64_t on_interface(const struct run *r, const struct rdt_link_cost *cost,
				    uint64_t bytes)
{
	return messages(r, bytes) * cost->gap + per_byte(bytes, cost->byte);
}

/* ---- messages ----------------------------------------------------------------------------- */

static void leave(struct run *r, uint32_t m, uint64_t now)
{
	const struct message *message = &r->messages[m];
	const struct rdt_link_cost *cost = &r->model->link[RDT_LINK_NET];
	uint64_t begin = occupy(&r->sends[r->sim->actors[message->sender].rail], now,
				on_interface(r, cost, message->bytes));

	push(r, begin + cost->latency, EVENT_HEAD, m);
}

static void head(struct run *r, uint32_t m, uint64_t now)
{
	const struct message *message = &r->messages[m];
	const struct rdt_link_cost *cost = &r->model->link[RDT_LINK_NET];
	uint64_t time = on_interface(r, cost, message->bytes);
	uint64_t done = occupy(&r->receives[r->sim->actors[message->actor].rail], now, time) + time;
	uint64_t *quiet = &r->actors[message->sender].quiet;

	if (done + cost->complete > *quiet)
		*quiet = done + cost->complete;
	push(r, done, EVENT_ARRIVE, m);
}

static void arrive(struct run *r, uint32_t m, uint64_t now)
{
	struct message *message = &r->messages[m];
	struct actor *actor = &r->actors[message->actor];
	struct channel *channel =
		&actor->channels[(size_t)message->link * (size_t)r->lanes + message->lane];

	if (channel->count++)
		r->messages[channel->last].next = m;
	else
		channel->first = m;
	channel->last = m;
	/* The lane looks again, whether or not this is what it waits for. */
	if (actor->waits >> message->lane & 1) {
		actor->waits &= ~(1u << message->lane);
		actor->ready |= 1u << message->lane;
		if (!actor->awake) {
			actor->awake = true;
			push(r, actor->cpu > now ? actor->cpu : now, EVENT_STEP, message->actor);
		}
	}
}

/* ---- steps -------------------------------------------------------------------------------- */

static const struct rdt_sim_lane *lane_of(const struct run *r, uint32_t a, int lane)
{
	const struct rdt_sim *sim = r->sim;
	uint64_t window = r->actors[a].slots[lane / sim->n_lanes].window;
	bool tail = sim->tail && window == sim->n_windows - 1;

	return &sim->actors[a].lanes[tail][lane % sim->n_lanes];
}

/* Returns when the CPU is free again. */
static uint64_t put(struct run *r, uint32_t a, int lane, const struct rdt_sim_op *op, uint64_t now)
{
	const struct rdt_link_cost *cost = &r->model->link[op->net];
	struct actor *actor = &r->actors[a];
	bool first = actor->slots[lane / r->sim->n_lanes].window < (uint64_t)r->sim->n_slots;
	uint64_t cpu = messages(r, op->value) * cost->put, done;
	uint32_t m = new_message(r);

	if (m == NONE)
		return now;
	now += hashing(r, op->value);
	r->messages[m] = (struct message){
		.bytes = op->value,
		.sender = a,
		.actor = op->actor,
		.link = op->link,
		/* Rounds are counted in the first windows: later ones wait for them, too. */
		.depth = first ? actor->depth[lane] + 1 : 0,
		.lane = (uint16_t)lane,
		.net = op->net,
	};
	if (r->messages[m].depth > r->rounds)
		r->rounds = r->messages[m].depth;

	if (op->net == RDT_LINK_HOST) {
		done = work(r, a, now, cpu + per_byte(op->value, cost->byte), 2 * op->value);
		push(r, done + cost->latency, EVENT_ARRIVE, m);
		return done;
	}
	if (eager(cost, op->value)) {
		done = now + cpu + per_byte(op->value, cost->eager_byte);
		leave(r, m, done);
	} else {
		done = now + cpu;
		if (cost->rendezvous)
			push(r, done + cost->rendezvous, EVENT_LEAVE, m);
		else
			leave(r, m, done);
	}
	return done;
}

/* Consumes notifications if enough are there, and moves *now to when the CPU is free again. */
static bool take(struct run *r, uint32_t a, int lane, const struct rdt_sim_op *op, uint64_t *now)
{
	const struct rdt_link_cost *cost = &r->model->link[op->net];
	struct actor *actor = &r->actors[a];
	struct channel *channel =
		&actor->channels[(size_t)op->link * (size_t)r->lanes + (size_t)lane];

	if (channel->count < op->count)
		return false;
	for (uint32_t i = 0; i < op->count; i++) {
		uint32_t m = channel->first;
		struct message *message = &r->messages[m];

		channel->first = message->next;
		channel->count--;
		*now += cost->wait + hashing(r, message->bytes);
		if (op->net == RDT_LINK_NET && eager(cost, message->bytes))
			*now += per_byte(message->bytes, cost->eager_byte);
		if (message->depth > actor->depth[lane])
			actor->depth[lane] = message->depth;
		message->next = r->free_message;
		r->free_message = m;
	}
	return true;
}

static void begin_window(struct run *r, struct actor *actor, int slot)
{
	int n = r->sim->n_lanes;

	actor->slots[slot].lanes_running = n;
	for (int lane = slot * n; lane < (slot + 1) * n; lane++) {
		actor->at[lane] = 0;
		actor->depth[lane] = 0;
		actor->ready |= 1u << lane;
	}
}

static void end_lane(struct run *r, struct actor *actor, int lane)
{
	int s = lane / r->sim->n_lanes;
	struct slot *slot = &actor->slots[s];

	actor->ready &= ~(1u << lane);
	if (--slot->lanes_running)
		return;
	slot->window += (uint64_t)r->sim->n_slots;
	if (slot->window < r->sim->n_windows)
		begin_window(r, actor, s);
	else
		actor->slots_running--;
}

/* The lane that runs next: the one that ran, else the next in turn. ready != 0. */
static int choose(const struct run *r, const struct actor *actor)
{
	int lane = actor->current;

	while (!(actor->ready >> lane & 1))
		lane = lane + 1 == r->lanes ? 0 : lane + 1;
	return lane;
}

/* Goes on with actor `a` until it has to wait, or something else happens before its next step. */
static void go_on(struct run *r, uint32_t a, uint64_t now)
{
	struct actor *actor = &r->actors[a];

	while (actor->ready && !r->failed) {
		int lane = choose(r, actor);
		const struct rdt_sim_lane *steps = lane_of(r, a, lane);
		const struct rdt_sim_op *op;

		actor->current = lane;
		if (actor->at[lane] == steps->n) {
			end_lane(r, actor, lane);
			continue;
		}
		op = &steps->ops[actor->at[lane]];
		switch ((enum rdt_step_kind)op->kind) {
		case RDT_PUT: now = put(r, a, lane, op, now); break;
		case RDT_WAIT:
			if (!take(r, a, lane, op, &now)) {
				actor->ready &= ~(1u << lane);
				actor->waits |= 1u << lane;
				continue;
			}
			break;
		case RDT_REDUCE:
		case RDT_COPY: now = work(r, a, now, op->value, op->traffic); break;
		}
		actor->at[lane]++;
		actor->cpu = now;
		r->steps++;
		if (r->n_heap && r->heap[0].time <= now) {
			push(r, now, EVENT_STEP, a);
			return;
		}
	}
	actor->awake = false;
}

/* ---- the whole ---------------------------------------------------------------------------- */

static int allocate(struct run *r, int n_rails)
{
	const struct rdt_sim *sim = r->sim;
	size_t channels = 0, at = 0;

	for (int a = 0; a < sim->n_actors; a++)
		channels += (size_t)sim->actors[a].n_peers * (size_t)r->lanes;
	r->actors = calloc((size_t)sim->n_actors, sizeof(*r->actors));
	r->channels = calloc(channels + 1, sizeof(*r->channels));
	r->sends = calloc((size_t)n_rails, sizeof(*r->sends));
	r->receives = calloc((size_t)n_rails, sizeof(*r->receives));
	r->memory = calloc((size_t)sim->n_hosts, sizeof(*r->memory));
	if (!r->actors || !r->channels || !r->sends || !r->receives || !r->memory)
		return -1;
	for (int a = 0; a < sim->n_actors; a++) {
		r->actors[a].channels = r->channels + at;
		at += (size_t)sim->actors[a].n_peers * (size_t)r->lanes;
	}
	return 0;
}

static void start(struct run *r, uint32_t a)
{
	struct actor *actor = &r->actors[a];

	for (int s = 0; s < r->sim->n_slots; s++) {
		actor->slots[s].window = (uint64_t)s;
		if ((uint64_t)s < r->sim->n_windows) {
			begin_window(r, actor, s);
			actor->slots_running++;
		}
	}
	actor->awake = true;
	push(r, 0, EVENT_STEP, a);
}

int rdt_sim_run(const struct rdt_sim *sim, struct rdt_sim_result *result)
{
	struct run r = {
		.sim = sim,
		.model = sim->model,
		.free_message = NONE,
		.lanes = sim->n_lanes * sim->n_slots,
	};
	int n_rails = 1, status;

	*result = (struct rdt_sim_result){ 0 };
	if (sim->n_actors < 1)
		return 0;
	for (int a = 0; a < sim->n_actors; a++)
		if (sim->actors[a].rail >= n_rails)
			n_rails = sim->actors[a].rail + 1;
	status = allocate(&r, n_rails);
	for (int a = 0; a < sim->n_actors && !status; a++)
		start(&r, (uint32_t)a);
	while (r.n_heap && !r.failed && !status) {
		struct event event = pop(&r);

		switch ((enum event_kind)(event.order >> 60)) {
		case EVENT_ARRIVE: arrive(&r, event.what, event.time); break;
		case EVENT_HEAD: head(&r, event.what, event.time); break;
		case EVENT_LEAVE: leave(&r, event.what, event.time); break;
		case EVENT_STEP: go_on(&r, event.what, event.time); break;
		}
	}
	if (r.failed)
		status = -1;
	for (int a = 0; a < sim->n_actors && !status; a++) {
		const struct actor *actor = &r.actors[a];
		uint64_t end = actor->cpu > actor->quiet ? actor->cpu : actor->quiet;

		if (!sim->model->link[RDT_LINK_NET].complete)
			end = actor->cpu;
		if (end > result->time_ps)
			result->time_ps = end;
		result->stuck |= actor->slots_running != 0;
	}
	result->rounds = r.rounds;
	result->steps = r.steps;
	free(r.actors);
	free(r.channels);
	free(r.sends);
	free(r.receives);
	free(r.memory);
	free(r.heap);
	free(r.messages);
	return status;
}
