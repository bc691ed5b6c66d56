/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A worker of the parameter server. What it pushed stays in its own memory until it is known to be
 * applied, which the next pull waits for: so a push whose server died goes to the replica, whose
 * image says whether it was applied before.
 */
#include "ps.h"

#include <string.h>

#include "clock.h"

#define LOOK_NS 1000000

static int worker_of(const struct rdt_ps *ps)
{
	return ps->rank - ps->servers;
}

static int give_up(struct rdt_ps *ps, int status)
{
	ps->failed = status;
	return status;
}

/* ---- who serves ------------------------------------------------------------------------------ */

static int next_of(const struct rdt_ps *ps, int server)
{
	return (server + 1) % ps->servers;
}

/* The server is lost: on to the replica. */
static int turn_to_replica(struct rdt_ps *ps, int shard)
{
	struct rdt_ps_shard *s = &ps->shards[shard];

	ps->is_lost[s->serving] = true;
	if (s->serving == shard && ps->servers > 1 && !ps->is_lost[next_of(ps, shard)]) {
		s->serving = next_of(ps, shard);
		return 0;
	}
	if (ps->servers == 1)
		return rdt_set_error(RDT_ERR_PEER_LOST,
				     "the parameter server, rank 0, is lost, and with one server "
				     "there is no replica (two servers keep one of each other)");
	return rdt_set_error(RDT_ERR_PEER_LOST,
			     "the parameter servers of a shard, ranks %d and %d, are both lost",
			     shard, next_of(ps, shard));
}

/* ---- push ------------------------------------------------------------------------------------ */

/* The gradient that lies in this rank's memory, to the mailbox. */
static int send_once(struct rdt_ps *ps, int shard)
{
	int server = ps->shards[shard].serving, status;
	size_t box = rdt_ps_place(ps, shard, server) + rdt_ps_mailbox_at(ps, shard, worker_of(ps));

	status = rdt_window_put(ps->window, server, box + RDT_PS_LINE,
				ps->base + rdt_ps_gradient_at(ps, shard),
				ps->shards[shard].count * ps->element);
	if (!status)
		status = rdt_window_put(ps->window, server, box, &ps->pushed, sizeof(ps->pushed));
	return status ? status : rdt_window_flush(ps->window, server);
}

static int send(struct rdt_ps *ps, int shard)
{
	int status = send_once(ps, shard);

	while (status == RDT_ERR_PEER_LOST) {
		status = turn_to_replica(ps, shard);
		if (!status)
			status = send_once(ps, shard);
		else
			break;
	}
	return status;
}

int rdt_ps_push(rdt_ps *ps, const void *const *gradients)
{
	int status = 0;

	if (!ps || !gradients || rdt_ps_is_server(ps))
		return rdt_set_error(RDT_ERR_INVALID, "rdt_ps_push: %s",
				     !ps	  ? "ps is NULL"
				     : !gradients ? "gradients is NULL"
						  : "this rank is a server");
	if (ps->failed)
		return rdt_set_error(ps->failed, "rdt_ps_push after a call that failed");
	for (int i = 0; i < ps->n; i++) {
		int shard = ps->shard_of[i];

		/* the push before may be on its way from there */
		if (rdt_ps_word(ps, (size_t)shard * RDT_PS_LINE + RDT_PS_APPLIED) < ps->pushed)
			return rdt_set_error(RDT_ERR_INVALID,
					     "rdt_ps_push: pull before the next push");
		if (ps->tensors[i].count && !gradients[i])
			return rdt_set_error(RDT_ERR_INVALID, "rdt_ps_push: gradient %d is NULL",
					     i);
	}
	for (int i = 0; i < ps->n; i++)
		if (ps->tensors[i].count)
			memcpy(ps->base + rdt_ps_gradient_at(ps, ps->shard_of[i]) +
				       ps->at[i] * ps->element,
			       gradients[i], ps->tensors[i].count * ps->element);
	ps->pushed++;
	for (int s = 0; s < ps->servers && !status; s++)
		if (ps->shards[s].count)
			status = send(ps, s);
	return status ? give_up(ps, status) : 0;
}

/* ---- pull ------------------------------------------------------------------------------------ */

static uint64_t told(const struct rdt_ps *ps, int shard, size_t word)
{
	return rdt_ps_word(ps, (size_t)shard * RDT_PS_LINE + word);
}

/* May this worker go on, as far as a shard is concerned? */
static bool may_go_on(const struct rdt_ps *ps, int shard, bool last)
{
	uint64_t slowest = told(ps, shard, RDT_PS_SLOWEST);

	if (told(ps, shard, RDT_PS_APPLIED) < ps->pushed)
		return false;
	if (last || ps->options.mode == RDT_PS_ASYNC)
		return true;
	if (ps->options.mode == RDT_PS_SYNC)
		return told(ps, shard, RDT_PS_SEEN) >= ps->pushed;
	return slowest >= ps->pushed || ps->pushed - slowest <= ps->options.staleness;
}

/* Whoever serves the shard is lost: the next one, and once more what may not have been applied. */
static int check_server(struct rdt_ps *ps, int shard)
{
	int status;

	if (!ps->is_lost[ps->shards[shard].serving])
		return 0;
	status = turn_to_replica(ps, shard);
	if (!status && told(ps, shard, RDT_PS_APPLIED) < ps->pushed)
		status = send(ps, shard);
	return status;
}

static int timed_out(const struct rdt_ps *ps, int shard)
{
	return rdt_set_error(RDT_ERR_TIMEOUT,
			     "rank %d waited %.3g s for the parameter server, rank %d: of its %llu "
			     "pushes %llu are applied, of the slowest worker's %llu; is a worker "
			     "or that server stopped?",
			     ps->rank, ps->options.timeout_s, ps->shards[shard].serving,
			     (unsigned long long)ps->pushed,
			     (unsigned long long)told(ps, shard, RDT_PS_APPLIED),
			     (unsigned long long)told(ps, shard, RDT_PS_SLOWEST));
}

static int wait_for_leave(struct rdt_ps *ps, int shard, bool last, int64_t deadline)
{
	int64_t looked = rdt_train_now();
	int status;

	for (unsigned round = 0; !may_go_on(ps, shard, last); round++) {
		int64_t now = rdt_train_now();

		if (now - looked > LOOK_NS) {
			looked = now;
			rdt_ps_look(ps);
			status = check_server(ps, shard);
			if (status)
				return status;
		}
		if (now > deadline)
			return timed_out(ps, shard);
		rdt_ps_pause(round);
	}
	return 0;
}

/* A word of the place that this rank takes for the one that serves. */
static int ask(struct rdt_ps *ps, int shard, size_t at, uint64_t *word)
{
	int server = ps->shards[shard].serving,
	    status = rdt_window_get(ps->window, server, rdt_ps_place(ps, shard, server) + at, word,
				    sizeof(*word));

	return status ? status : rdt_window_flush(ps->window, server);
}

/* Receives a generation, whole: *whole says whether. It is overwritten by the next but one, so it
 * is whole when that had not begun by the time it had been read. */
static int receive_once(struct rdt_ps *ps, int shard, bool *whole)
{
	struct rdt_ps_shard *s = &ps->shards[shard];
	uint64_t generation, begun;
	int status;

	*whole = false;
	status = ask(ps, shard, RDT_PS_PUBLISHED, &generation);
	if (status || generation == 0 || generation - 1 < told(ps, shard, RDT_PS_SEEN))
		return status; /* not taken over yet */
	generation--;
	status = rdt_window_get(ps->window, s->serving,
				rdt_ps_place(ps, shard, s->serving) +
					rdt_ps_params_at(ps, shard, generation),
				ps->base + rdt_ps_landing_at(ps, shard), s->count * ps->element);
	if (!status)
		status = rdt_window_flush(ps->window, s->serving);
	if (!status)
		status = ask(ps, shard, RDT_PS_BEGUN, &begun);
	*whole = !status && begun <= generation + 1;
	return status;
}

static int receive(struct rdt_ps *ps, int shard, int64_t deadline)
{
	bool whole = false;

	for (unsigned round = 0;; round++) {
		int status = receive_once(ps, shard, &whole);

		if (status == RDT_ERR_PEER_LOST) {
			ps->is_lost[ps->shards[shard].serving] = true;
			status = check_server(ps, shard);
		}
		if (status || whole)
			return status;
		if (rdt_train_now() > deadline)
			return timed_out(ps, shard);
		if (round % 64 == 63) {
			rdt_ps_look(ps);
			status = check_server(ps, shard);
			if (status)
				return status;
		}
		rdt_ps_pause(round);
	}
}

int rdt_ps_pull(rdt_ps *ps)
{
	uint64_t slowest = UINT64_MAX;
	int64_t deadline;
	int status = 0;

	if (!ps || rdt_ps_is_server(ps))
		return rdt_set_error(RDT_ERR_INVALID, "rdt_ps_pull: %s",
				     ps ? "this rank is a server" : "ps is NULL");
	if (ps->failed)
		return rdt_set_error(ps->failed, "rdt_ps_pull after a call that failed");
	deadline = rdt_train_deadline(ps->options.timeout_s);
	/* All leaves first: what is received then is as new as can be. */
	for (int s = 0; s < ps->servers && !status; s++)
		if (ps->shards[s].count)
			status = wait_for_leave(ps, s, false, deadline);
	for (int s = 0; s < ps->servers && !status; s++) {
		if (!ps->shards[s].count)
			continue;
		if (told(ps, s, RDT_PS_SLOWEST) < slowest)
			slowest = told(ps, s, RDT_PS_SLOWEST);
		status = receive(ps, s, deadline);
	}
	if (status)
		return give_up(ps, status);
	ps->stale = slowest < ps->pushed ? ps->pushed - slowest : 0;
	for (int i = 0; i < ps->n; i++)
		if (ps->tensors[i].count)
			memcpy(ps->tensors[i].data,
			       ps->base + rdt_ps_landing_at(ps, ps->shard_of[i]) +
				       ps->at[i] * ps->element,
			       ps->tensors[i].count * ps->element);
	return 0;
}

uint64_t rdt_ps_staleness(const rdt_ps *ps)
{
	return ps ? ps->stale : 0;
}

void rdt_ps_worker_close(struct rdt_ps *ps)
{
	int64_t deadline = rdt_train_deadline(ps->options.timeout_s);
	uint64_t done = 1;

	for (int s = 0; s < ps->servers && !ps->failed; s++)
		if (ps->shards[s].count)
			ps->failed = wait_for_leave(ps, s, true, deadline);
	for (int s = 0; s < ps->servers; s++)
		if (rdt_window_put(ps->window, s, (size_t)worker_of(ps) * sizeof(done), &done,
				   sizeof(done)) == 0)
			rdt_window_flush(ps->window, s);
}
