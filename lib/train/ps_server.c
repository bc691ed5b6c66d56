/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A parameter server. It looks into its mailboxes, and for each shard that it serves does, in this
 * order: apply what came; write the image of the outcome to the replica, whole, then the word that
 * makes it count; publish the parameters here; tell the workers. So what a worker has seen, or been
 * told that it is applied, the replica has too; and what it has not been told it sends again to
 * whoever serves next, where the image says whether it was applied.
 */
#include "ps.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"

#define LOOK_NS 1000000

static uint64_t *word_at(const struct rdt_ps *ps, size_t offset)
{
	return (uint64_t *)(void *)(ps->base + offset);
}

static bool is_done(const struct rdt_ps *ps, int worker)
{
	return rdt_ps_word(ps, (size_t)worker * sizeof(uint64_t)) != 0;
}

/* Is there more to come from this worker? */
static bool is_working(const struct rdt_ps *ps, int worker)
{
	return !ps->is_lost[ps->servers + worker] && !is_done(ps, worker);
}

/* ---- replicate ------------------------------------------------------------------------------- */

static int put_image(struct rdt_ps *ps, struct rdt_ps_served *s)
{
	size_t place = rdt_ps_place(ps, s->shard, s->replica),
	       at = place + rdt_ps_image_at(ps, s->shard, s->generation),
	       vector = rdt_ps_vector_bytes(ps, s->shard), counts = rdt_ps_counts_bytes(ps),
	       bytes = ps->shards[s->shard].count * ps->element;
	uint64_t whole = s->generation + 1;
	int status = rdt_window_put(ps->window, s->replica, at, s->updates, counts);

	at += (counts + RDT_PS_LINE - 1) / RDT_PS_LINE * RDT_PS_LINE;
	if (!status)
		status = rdt_window_put(ps->window, s->replica, at, s->params, bytes);
	for (int i = 0; i < ps->states && !status; i++) {
		at += vector;
		status = rdt_window_put(ps->window, s->replica, at,
					rdt_optimizer_state(s->optimizer, i), bytes);
	}
	if (!status)
		status = rdt_window_put(ps->window, s->replica,
					place + rdt_ps_commit_at(ps, s->shard), &whole,
					sizeof(whole));
	return status ? status : rdt_window_flush(ps->window, s->replica);
}

/* A replica that is lost is done without. */
static int replicate(struct rdt_ps *ps, struct rdt_ps_served *s)
{
	int status;

	if (s->replica < 0)
		return 0;
	status = put_image(ps, s);
	if (status == RDT_ERR_PEER_LOST) {
		s->replica = -1;
		status = 0;
	}
	return status;
}

/* ---- publish --------------------------------------------------------------------------------- */

static void publish(struct rdt_ps *ps, struct rdt_ps_served *s)
{
	uint64_t *begun = word_at(ps, s->place + RDT_PS_BEGUN),
		 *published = word_at(ps, s->place + RDT_PS_PUBLISHED);

	/* As in a seqlock: who reads the new bytes also sees that they were begun. */
	__atomic_store_n(begun, s->generation, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	memcpy(ps->base + s->place + rdt_ps_params_at(ps, s->shard, s->generation), s->params,
	       ps->shards[s->shard].count * ps->element);
	__atomic_store_n(published, s->generation + 1, __ATOMIC_RELEASE);
}

static uint64_t slowest(const struct rdt_ps *ps, const struct rdt_ps_served *s)
{
	uint64_t least = UINT64_MAX;

	for (int w = 0; w < ps->workers; w++)
		if (is_working(ps, w) && s->applied[w] < least)
			least = s->applied[w];
	return least;
}

/* Each word is a put of its own, so that it is there at once. A worker that is lost need not hear;
 * that it is will be seen. */
static int tell(struct rdt_ps *ps, struct rdt_ps_served *s)
{
	uint64_t least = slowest(ps, s);
	size_t line = (size_t)s->shard * RDT_PS_LINE;

	for (int w = 0; w < ps->workers; w++) {
		int rank = ps->servers + w, status;

		if (!is_working(ps, w))
			continue;
		/* its leave last: by then it can see the rest */
		status = rdt_window_put(ps->window, rank, line + RDT_PS_SEEN, &s->generation, 8);
		if (!status)
			status = rdt_window_put(ps->window, rank, line + RDT_PS_SLOWEST, &least, 8);
		if (!status)
			status = rdt_window_put(ps->window, rank, line + RDT_PS_APPLIED,
						&s->applied[w], 8);
		if (status == RDT_ERR_PEER_LOST)
			ps->is_lost[rank] = true;
		else if (status)
			return status;
	}
	s->dirty = false;
	return 0;
}

/* ---- apply ----------------------------------------------------------------------------------- */

static const char *mailbox(const struct rdt_ps *ps, const struct rdt_ps_served *s, int worker)
{
	return ps->base + s->place + rdt_ps_mailbox_at(ps, s->shard, worker);
}

static bool has_pushed(const struct rdt_ps *ps, const struct rdt_ps_served *s, int worker)
{
	size_t at = s->place + rdt_ps_mailbox_at(ps, s->shard, worker);

	return is_working(ps, worker) && rdt_ps_word(ps, at) == s->applied[worker] + 1;
}

static void add(const struct rdt_ps *ps, void *sum, const void *gradient, size_t count)
{
	if (ps->options.type == RDT_FLOAT32)
		for (size_t i = 0; i < count; i++)
			((float *)sum)[i] += ((const float *)gradient)[i];
	else
		for (size_t i = 0; i < count; i++)
			((double *)sum)[i] += ((const double *)gradient)[i];
}

static void divide(const struct rdt_ps *ps, void *sum, int by, size_t count)
{
	if (ps->options.type == RDT_FLOAT32)
		for (size_t i = 0; i < count; i++)
			((float *)sum)[i] /= (float)by;
	else
		for (size_t i = 0; i < count; i++)
			((double *)sum)[i] /= by;
}

static void step(struct rdt_ps *ps, struct rdt_ps_served *s, const void *gradient)
{
	uint64_t update = (*s->updates)++;

	rdt_optimizer_step(s->optimizer, update, rdt_rate_at(&ps->options.rate, update), s->params,
			   gradient);
}

/* The mean of the gradients of all that work, in the order of ranks, when all are there. */
static bool apply_together(struct rdt_ps *ps, struct rdt_ps_served *s)
{
	size_t count = ps->shards[s->shard].count;
	int came = 0;

	for (int w = 0; w < ps->workers; w++)
		if (is_working(ps, w) && !has_pushed(ps, s, w))
			return false;
	/* One that was lost just now, or is done, is not counted: the same answer twice. */
	for (int w = 0; w < ps->workers; w++) {
		if (!has_pushed(ps, s, w))
			continue;
		if (came++ == 0)
			memcpy(s->sum, mailbox(ps, s, w) + RDT_PS_LINE, count * ps->element);
		else
			add(ps, s->sum, mailbox(ps, s, w) + RDT_PS_LINE, count);
		s->applied[w]++;
	}
	if (came == 0)
		return false;
	divide(ps, s->sum, came, count);
	step(ps, s, s->sum);
	return true;
}

/* Each by itself, as it comes. */
static bool apply_each(struct rdt_ps *ps, struct rdt_ps_served *s)
{
	bool any = false;

	for (int w = 0; w < ps->workers; w++) {
		if (!has_pushed(ps, s, w))
			continue;
		step(ps, s, mailbox(ps, s, w) + RDT_PS_LINE);
		s->applied[w]++;
		any = true;
	}
	return any;
}

static int advance(struct rdt_ps *ps, struct rdt_ps_served *s, bool *moved)
{
	bool any = ps->options.mode == RDT_PS_SYNC ? apply_together(ps, s) : apply_each(ps, s);
	int status = 0;

	if (any) {
		*moved = true;
		s->generation++;
		status = replicate(ps, s);
		if (status)
			return status;
		publish(ps, s);
	}
	return any || s->dirty ? tell(ps, s) : 0;
}

/* ---- take over ------------------------------------------------------------------------------- */

/* From the last whole image of the predecessor's shard. */
static int take_over(struct rdt_ps *ps, struct rdt_ps_served *s)
{
	size_t counts = rdt_ps_counts_bytes(ps), bytes = ps->shards[s->shard].count * ps->element,
	       vector = rdt_ps_vector_bytes(ps, s->shard);
	uint64_t whole = rdt_ps_word(ps, s->place + rdt_ps_commit_at(ps, s->shard));
	const char *image;

	if (whole == 0)
		return rdt_set_error(RDT_ERR_PEER_LOST,
				     "parameter server %d is lost before its first image came",
				     s->shard);
	s->generation = whole - 1;
	image = ps->base + s->place + rdt_ps_image_at(ps, s->shard, s->generation);
	memcpy(s->updates, image, counts);
	image += (counts + RDT_PS_LINE - 1) / RDT_PS_LINE * RDT_PS_LINE;
	memcpy(s->params, image, bytes);
	for (int i = 0; i < ps->states; i++) {
		image += vector;
		memcpy(rdt_optimizer_state(s->optimizer, i), image, bytes);
	}
	s->active = true;
	publish(ps, s);
	return tell(ps, s);
}

/* ---- the loop -------------------------------------------------------------------------------- */

static int look(struct rdt_ps *ps)
{
	struct rdt_ps_served *second = &ps->served[1];
	int before = 0, after = 0;

	for (int r = 0; r < ps->size; r++)
		before += ps->is_lost[r];
	rdt_ps_look(ps);
	for (int r = 0; r < ps->size; r++)
		after += ps->is_lost[r];
	if (after != before)
		ps->served[0].dirty = second->dirty = true; /* who is slowest may have changed */
	if (second->params && !second->active && ps->is_lost[second->shard])
		return take_over(ps, second);
	return 0;
}

static int working(const struct rdt_ps *ps)
{
	int n = 0;

	for (int w = 0; w < ps->workers; w++)
		n += is_working(ps, w);
	return n;
}

/* What this server has, into the caller's tensors. */
static void keep(struct rdt_ps *ps)
{
	for (int k = 0; k < 2; k++)
		for (int i = 0; i < ps->n; i++)
			if (ps->served[k].active && ps->shard_of[i] == ps->served[k].shard &&
			    ps->tensors[i].count)
				memcpy(ps->tensors[i].data,
				       (char *)ps->served[k].params + ps->at[i] * ps->element,
				       ps->tensors[i].count * ps->element);
}

int rdt_ps_serve(rdt_ps *ps)
{
	int64_t looked = 0, moved_at = rdt_train_now();
	int at_work, status = 0;

	if (!ps || !rdt_ps_is_server(ps))
		return rdt_set_error(RDT_ERR_INVALID, "rdt_ps_serve: %s",
				     ps ? "this rank is a worker" : "ps is NULL");
	at_work = working(ps);
	for (unsigned round = 0; !status && working(ps) > 0; round++) {
		int64_t now = rdt_train_now();
		bool moved = false;

		if (now - looked > LOOK_NS) {
			looked = now;
			status = look(ps);
		}
		if (working(ps) != at_work) { /* another may be the slowest now */
			at_work = working(ps);
			ps->served[0].dirty = ps->served[1].dirty = true;
			moved_at = now;
		}
		for (int k = 0; k < 2 && !status; k++)
			if (ps->served[k].active)
				status = advance(ps, &ps->served[k], &moved);
		if (moved) {
			round = 0;
			moved_at = now;
			continue;
		}
		if (now - moved_at > (int64_t)(ps->options.timeout_s * 1e9) && !status)
			status = rdt_set_error(RDT_ERR_TIMEOUT,
					       "parameter server %d: nothing came for %.3g s from "
					       "%d workers that are neither done nor lost",
					       ps->rank, ps->options.timeout_s, at_work);
		rdt_ps_pause(round);
	}
	keep(ps);
	return status;
}

/* ---- life ------------------------------------------------------------------------------------ */

static int open_shard(struct rdt_ps *ps, struct rdt_ps_served *s, int shard)
{
	size_t count = ps->shards[shard].count;
	int status;

	s->shard = shard;
	s->replica = -1;
	s->place = rdt_ps_place(ps, shard, ps->rank);
	if (count == 0)
		return 0;
	s->updates = calloc(1, rdt_ps_counts_bytes(ps));
	s->params = calloc(count, ps->element);
	s->sum = calloc(count, ps->element);
	if (!s->updates || !s->params || !s->sum)
		return rdt_set_error(RDT_ERR_NOMEM, "out of memory for a shard of %zu parameters",
				     count);
	s->applied = s->updates + 1;
	status = rdt_optimizer_create(&ps->options.optimizer, count, ps->options.type,
				      &s->optimizer);
	for (int i = 0; i < ps->n && !status; i++)
		if (ps->shard_of[i] == shard && ps->tensors[i].count)
			memcpy((char *)s->params + ps->at[i] * ps->element, ps->tensors[i].data,
			       ps->tensors[i].count * ps->element);
	return status;
}

int rdt_ps_server_open(struct rdt_ps *ps)
{
	struct rdt_ps_served *own = &ps->served[0];
	int status = open_shard(ps, own, ps->rank);

	if (!status && ps->servers > 1)
		status = open_shard(ps, &ps->served[1], (ps->rank + ps->servers - 1) % ps->servers);
	if (status || !own->params)
		return status;
	own->active = true;
	if (ps->servers > 1) {
		own->replica = (ps->rank + 1) % ps->servers;
		status = replicate(ps, own);
	}
	publish(ps, own);
	return status;
}

void rdt_ps_server_close(struct rdt_ps *ps)
{
	for (int k = 0; k < 2; k++) {
		struct rdt_ps_served *s = &ps->served[k];

		rdt_optimizer_destroy(s->optimizer);
		free(s->updates);
		free(s->params);
		free(s->sum);
		*s = (struct rdt_ps_served){ 0 };
	}
}
