/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The client of the rendezvous service: rdt_rendezvous_ops. A call sends its request and reads
 * until its answer, keeping the events that come between for watch(). What a lost or leaving member
 * means for a waiting call is decided by the service alone, so that all members hear the same.
 */
#include "lib/bootstrap/bootstrap.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/log.h"
#include "lib/bootstrap/address.h"
#include "lib/bootstrap/channel.h"
#include "lib/bootstrap/secret.h"
#include "lib/bootstrap/service.h"

#define ANSWER_S 10.0 /* the service answers at once; this long means it is stuck */
#define IDLE_NS 1000000
#define WHO_S 0.2 /* for naming the ranks that did not come to a fence */
#define BYE_S 0.2 /* for a good-bye */
#define SERVICE_START_S 10.0
#define SERVICE_END_S 10.0 /* for the other members to leave the service that we run */
#define RETRY_MIN_MS 10
#define RETRY_MAX_MS 500

struct kept {
	enum rdt_bootstrap_event_kind kind;
	int rank;
	char text[112]; /* an abort's text may be longer and has a place of its own */
};

/* The service that this process started, for all of its connections that rest on it. */
struct own_service {
	pid_t pid;
	unsigned users;
};

struct client {
	const struct rdt_bootstrap_ops *ops; /* first: this is a struct rdt_bootstrap */
	struct rdt_identity who;
	unsigned char nonce[RDT_JOB_NONCE_BYTES];
	pid_t owner; /* the process that opened it; a forked child must not speak for it */
	struct own_service *service; /* NULL, or the one that we started */
	uint32_t number, fences;
	int (*idle)(void *arg); /* see set_idle */
	void *idle_arg;
	/* The answer of the fence that waits may come while idle() waits for a value. */
	bool fencing, fenced;
	struct rdt_message fence_answer;
	bool told_service_gone;
	char abort_text[RDT_TEXT_MAX];
	bool judged; /* the verdict has come: */
	struct rdt_verdict verdict;
	char verdict_text[RDT_TEXT_MAX];
	unsigned char *lost;
	bool broken;		  /* the group that was agreed on last */
	int waiting;		  /* newcomers */
	size_t first, have, room; /* events: a ring, one for each other member and two more */
	struct kept *events;
	struct rdt_channel channel;
};

/* Text that may be cut off. */
static void copy_text(char *to, size_t room, const char *text)
{
	if (!memccpy(to, text, 0, room))
		to[room - 1] = 0;
}

static struct client *self(struct rdt_bootstrap *b)
{
	return (struct client *)b;
}

/* ---- events and answers ---------------------------------------------------------------------- */

static void keep(struct client *c, enum rdt_bootstrap_event_kind kind, int rank, const char *text)
{
	struct kept *e;

	if (c->have == c->room)
		return; /* more than one for each member: not what our service sends */
	e = &c->events[(c->first + c->have++) % c->room];
	e->kind = kind;
	e->rank = rank;
	copy_text(e->text, sizeof(e->text), text);
	if (kind == RDT_EVENT_ABORT)
		copy_text(c->abort_text, sizeof(c->abort_text), text);
}

static void keep_message(struct client *c, const struct rdt_message *m)
{
	if (m->kind == RDT_EVENT_BROKEN)
		c->broken = true;
	else if (m->kind == RDT_EVENT_WAITING)
		c->waiting = (int)m->rank;
	else if (m->kind <= RDT_EVENT_ABORT && m->rank < (uint32_t)c->who.world)
		keep(c, (enum rdt_bootstrap_event_kind)m->kind, (int)m->rank, m->text);
}

static void keep_verdict(struct client *c, const struct rdt_message *m)
{
	size_t bytes = ((size_t)c->who.world + 7) / 8;

	if (c->judged)
		return;
	if (m->length)
		memcpy(c->lost, m->value, m->length < bytes ? m->length : bytes);
	copy_text(c->verdict_text, sizeof(c->verdict_text), m->text);
	c->verdict = (struct rdt_verdict){
		.status =
			m->status < 0 && m->status >= RDT_ERR_CORRUPT ? m->status : RDT_ERR_ABORTED,
		.rank = m->rank < (uint32_t)c->who.world ? (int)m->rank : -1,
		.text = c->verdict_text,
		.lost = c->lost,
	};
	c->judged = true;
}

static void notice_gone(struct client *c)
{
	if (c->channel.dead && !c->told_service_gone) {
		c->told_service_gone = true;
		keep(c, RDT_EVENT_SERVICE, -1, c->channel.why);
	}
}

static int service_gone(struct client *c)
{
	notice_gone(c);
	return rdt_err(RDT_ERR_UNREACHABLE,
		       "rank %d: the rendezvous service at %s is gone: %s; see whether it still "
		       "runs there",
		       c->who.rank, c->who.rendezvous, c->channel.why);
}

/* The next message that answers something: 0, RDT_AGAIN at the deadline, or dead. */
static int receive(struct client *c, struct rdt_message *m, int64_t deadline)
{
	for (;;) {
		int status = rdt_channel_receive(&c->channel, m, deadline);

		if (status)
			return status;
		if (m->type == RDT_MSG_EVENT)
			keep_message(c, m);
		else if (m->type == RDT_MSG_VERDICT)
			keep_verdict(c, m);
		else
			return RDT_OK;
	}
}

/* The caller's other work. It may come back here for a value, and is not called from there. */
static int do_idle(struct client *c)
{
	int (*idle)(void *arg) = c->idle;
	int did;

	c->idle = NULL;
	did = idle(c->idle_arg);
	c->idle = idle;
	return did;
}

/* receive(), and the caller's other work meanwhile. A negative status of that is in *idle. */
static int receive_idling(struct client *c, struct rdt_message *m, int64_t deadline, int *idle)
{
	while (c->idle) {
		int did = do_idle(c), status;
		int64_t slice = did > 0 ? rdt_now() : rdt_now() + IDLE_NS;

		if (did < 0) {
			*idle = did;
			return did;
		}
		if (c->fenced) {
			c->fenced = false;
			*m = c->fence_answer;
			return RDT_OK;
		}
		status = receive(c, m, slice < deadline ? slice : deadline);
		if (status != RDT_AGAIN || rdt_now() >= deadline)
			return status;
	}
	return receive(c, m, deadline);
}

/* Sends a request and reads until the answer of that type and number. Answers to requests that
 * were given up at their deadlines are passed over. */
static int ask(struct client *c, const struct rdt_message *request, enum rdt_message_type type,
	       struct rdt_message *answer, int64_t deadline, int *idle)
{
	int status = rdt_channel_send(&c->channel, request, deadline);

	*idle = 0;
	while (!status) {
		status = receive_idling(c, answer, deadline, idle);
		if (!status && answer->type == type && answer->number == request->number)
			return RDT_OK;
		if (!status && answer->type == RDT_MSG_FENCED && c->fencing &&
		    answer->number == c->fences) {
			c->fence_answer = *answer;
			c->fenced = true;
		}
	}
	return status;
}

/* The status and sentence that the service answered with. */
static int as_told(const struct rdt_message *m)
{
	int status = m->status;

	if (status == RDT_OK)
		return RDT_OK;
	if (status > 0 || status < RDT_ERR_CORRUPT)
		status = RDT_ERR_SYSTEM;
	return rdt_err((enum rdt_status)status, "%s", m->text);
}

static int check_owner(const struct client *c)
{
	if (c->owner == getpid())
		return RDT_OK;
	return rdt_err(RDT_ERR_INVALID,
		       "process %d was forked from process %d, which is rank %d; only that process "
		       "may use its connection to the rendezvous",
		       (int)getpid(), (int)c->owner, c->who.rank);
}

static int check_key(const char *key)
{
	size_t length = strnlen(key, RDT_KEY_MAX);

	if (length > 0 && length < RDT_KEY_MAX)
		return RDT_OK;
	return rdt_err(RDT_ERR_INVALID, "the key '%.80s' is empty or longer than %d bytes", key,
		       RDT_KEY_MAX - 1);
}

/* ---- open ------------------------------------------------------------------------------------ */

static int check_identity(const struct rdt_identity *who, struct rdt_address *address)
{
	if (!who->join && (who->world < 1 || who->world > RDT_WORLD_MAX))
		return rdt_err(RDT_ERR_INVALID, "a world of %d ranks; there may be 1 to %d",
			       who->world, RDT_WORLD_MAX);
	if (!who->join && (who->rank < 0 || who->rank >= who->world))
		return rdt_err(RDT_ERR_INVALID, "rank %d is outside a world of %d ranks", who->rank,
			       who->world);
	if (!rdt_address_parse(who->rendezvous, address) || address->port_number == 0)
		return rdt_err(RDT_ERR_INVALID,
			       "the rendezvous '%s' is no HOST:PORT or [IPV6]:PORT; set "
			       "RDTRAIN_RENDEZVOUS",
			       who->rendezvous);
	if (!rdt_job_name_ok(who->job))
		return rdt_err(RDT_ERR_INVALID, "the job '%s': " RDT_JOB_NAME_RULE, who->job);
	if (!who->secret[0])
		return rdt_err(RDT_ERR_AUTH,
			       "rank %d has no secret for job %s on the rendezvous at %s; set "
			       "RDTRAIN_SECRET, or RDTRAIN_SECRET_FILE to a file of mode 600",
			       who->rank, who->job, who->rendezvous);
	return RDT_OK;
}

/* One attempt to connect and join. RDT_AGAIN: try again; channel.why says why. */
static int join(struct client *c, const struct rdt_address *address, int64_t deadline)
{
	struct rdt_message m = { .type = RDT_MSG_HELLO,
				 .version = RDT_WIRE_VERSION,
				 .rank = (uint32_t)c->who.rank,
				 .world = (uint32_t)c->who.world };
	struct rdt_channel *channel = &c->channel;
	bool again;
	int status = rdt_channel_connect(channel, address->host, address->port, deadline, &again);

	if (status == RDT_ERR_AUTH)
		return rdt_err(
			RDT_ERR_AUTH,
			"rank %d: the rendezvous service at %s refused job %s: it has another "
			"secret for this job, or does not know the job; compare RDTRAIN_JOB "
			"and RDTRAIN_SECRET (or the file in RDTRAIN_SECRET_FILE) here with "
			"what the service was started with",
			c->who.rank, c->who.rendezvous, c->who.job);
	if (status == RDT_ERR_UNREACHABLE && again)
		return RDT_AGAIN;
	if (status == RDT_ERR_UNREACHABLE)
		return rdt_err(RDT_ERR_UNREACHABLE,
			       "rank %d finds no rendezvous service at %s: %s; check "
			       "RDTRAIN_RENDEZVOUS",
			       c->who.rank, c->who.rendezvous, channel->why);
	if (status)
		return status;
	snprintf(m.job, sizeof(m.job), "%s", c->who.job);
	status = rdt_channel_send(channel, &m, deadline);
	if (!status)
		status = receive(c, &m, deadline);
	if (status) { /* it went away, or has no time for us */
		if (status == RDT_AGAIN)
			snprintf(channel->why, sizeof(channel->why), "it does not answer");
		return RDT_AGAIN;
	}
	if (m.type == RDT_MSG_WELCOME) {
		memcpy(c->nonce, m.nonce, sizeof(c->nonce));
		return RDT_OK;
	}
	if (m.type != RDT_MSG_REFUSED)
		return rdt_err(
			RDT_ERR_UNREACHABLE,
			"rank %d: the rendezvous service at %s answered with message type %d "
			"instead of a welcome; are both sides of the same version?",
			c->who.rank, c->who.rendezvous, (int)m.type);
	if (m.status == RDT_AGAIN) {
		copy_text(channel->why, sizeof(channel->why), m.text);
		return RDT_AGAIN;
	}
	return as_told(&m);
}

static int join_by(struct client *c, const struct rdt_address *address, int64_t deadline)
{
	int64_t began = rdt_now();
	int attempts = 0, pause = RETRY_MIN_MS;

	for (;;) {
		int status = join(c, address, deadline), left;

		attempts++;
		if (status != RDT_AGAIN) {
			if (status)
				rdt_channel_disconnect(&c->channel);
			return status;
		}
		rdt_channel_disconnect(&c->channel);
		left = rdt_left_ms(deadline);
		if (!left)
			break;
		/* Thousands that were refused together must not come back together. */
		pause += (int)((unsigned)(rdt_now() / 1000 + c->who.rank * 7) % (unsigned)pause);
		if (attempts == 1)
			rdt_info("rendezvous at %s: %s; trying again until the deadline",
				 c->who.rendezvous, c->channel.why);
		poll(NULL, 0, pause < left ? pause : left);
		pause = pause * 2 < RETRY_MAX_MS ? pause * 2 : RETRY_MAX_MS;
	}
	return rdt_err(
		RDT_ERR_UNREACHABLE,
		"rank %d cannot join job %s on the rendezvous service at %s: %s (%d attempts "
		"in %.1f s); start it there with `rdtrain rendezvous --listen %s`, or correct "
		"RDTRAIN_RENDEZVOUS",
		c->who.rank, c->who.job, c->who.rendezvous, c->channel.why, attempts,
		(double)(rdt_now() - began) / 1e9, c->who.rendezvous);
}

/* The last that rests on it lets the service end, or stops it `now`. A forked child has a copy of
 * its own of what is counted here. */
static void leave_service(struct client *c, bool now)
{
	struct own_service *s = c->service;

	c->service = NULL;
	if (!s || __atomic_sub_fetch(&s->users, 1, __ATOMIC_ACQ_REL))
		return;
	if (c->owner == getpid() && now)
		rdt_service_stop(s->pid);
	else if (c->owner == getpid())
		rdt_service_finish(s->pid, rdt_deadline(SERVICE_END_S));
	free(s);
}

static int start_service(struct client *c, const struct rdt_identity *identity, int64_t deadline)
{
	int64_t by = rdt_deadline(SERVICE_START_S);
	struct own_service *s = calloc(1, sizeof(*s));
	int status;

	if (!s)
		return rdt_err(RDT_ERR_NOMEM, "no memory to start the rendezvous service");
	status = rdt_service_start(identity, deadline < by ? deadline : by, &s->pid);
	if (status) {
		free(s);
		return status;
	}
	s->users = 1;
	c->service = s;
	return RDT_OK;
}

static void release(struct client *c)
{
	rdt_channel_free(&c->channel);
	explicit_bzero(&c->who, sizeof(c->who));
	free(c->events);
	free(c->lost);
	free(c);
}

static int client_open(const struct rdt_identity *identity, int64_t deadline,
		       struct rdt_bootstrap **b)
{
	struct rdt_address address;
	struct client *c;
	int status;

	*b = NULL;
	status = check_identity(identity, &address);
	if (status)
		return status;
	c = calloc(1, sizeof(*c));
	if (!c)
		return rdt_err(RDT_ERR_NOMEM, "no memory for a client of the rendezvous");
	c->ops = &rdt_rendezvous_ops;
	c->who = *identity;
	c->owner = getpid();
	c->room = (size_t)identity->world + 2;
	status = rdt_channel_init(&c->channel, identity->job, identity->secret);
	explicit_bzero(c->who.secret, sizeof(c->who.secret)); /* only the derived key is needed */
	if (status)
		goto free_client;
	c->events = calloc(c->room, sizeof(*c->events));
	c->lost = calloc(1, (size_t)identity->world / 8 + 1);
	if (!c->events || !c->lost) {
		status = rdt_err(RDT_ERR_NOMEM, "no memory for the events of %d ranks",
				 identity->world);
		goto free_client;
	}
	if (identity->start_service && identity->rank == 0) {
		status = start_service(c, identity, deadline);
		if (status)
			goto free_client;
	}
	status = join_by(c, &address, deadline);
	if (status)
		goto stop_service;
	if (!c->who.join)
		rdt_info("rank %d of %d joined job %s on the rendezvous at %s", c->who.rank,
			 c->who.world, c->who.job, c->who.rendezvous);
	*b = (struct rdt_bootstrap *)c;
	return RDT_OK;

stop_service:
	leave_service(c, true);
free_client:
	release(c);
	return status;
}

/* ---- the store and the fence ------------------------------------------------------------------
 */

static void client_nonce(struct rdt_bootstrap *b, unsigned char nonce[RDT_JOB_NONCE_BYTES])
{
	memcpy(nonce, self(b)->nonce, RDT_JOB_NONCE_BYTES);
}

static int client_put(struct rdt_bootstrap *b, const char *key, const void *value, size_t length)
{
	struct client *c = self(b);
	struct rdt_message m = { .type = RDT_MSG_PUT, .number = ++c->number, .value = value };
	struct rdt_message answer;
	int status = check_owner(c), idle;

	if (!status)
		status = check_key(key);
	if (status)
		return status;
	if (length > RDT_BLOB_MAX)
		return rdt_err(RDT_ERR_INVALID, "the value of '%s' has %zu bytes; the limit is %d",
			       key, length, RDT_BLOB_MAX);
	snprintf(m.key, sizeof(m.key), "%s", key);
	m.length = (uint32_t)length;
	status = ask(c, &m, RDT_MSG_STORED, &answer, rdt_deadline(ANSWER_S), &idle);
	if (idle)
		return idle;
	if (status == RDT_AGAIN)
		return rdt_err(
			RDT_ERR_TIMEOUT,
			"rank %d: the rendezvous service at %s has not taken '%s' in %.0f s; "
			"is its host overloaded?",
			c->who.rank, c->who.rendezvous, key, ANSWER_S);
	return status ? service_gone(c) : as_told(&answer);
}

static int client_forget(struct rdt_bootstrap *b, const char *key)
{
	struct client *c = self(b);
	struct rdt_message m = { .type = RDT_MSG_FORGET };
	int status = check_owner(c);

	if (!status)
		status = check_key(key);
	if (status)
		return status;
	snprintf(m.key, sizeof(m.key), "%s", key);
	status = rdt_channel_send(&c->channel, &m, 0);
	/* What did not go now goes with the next call. */
	return status < 0 ? service_gone(c) : RDT_OK;
}

/* Asks for (rank, key); kind 1 does not wait until it is put. */
static int ask_value(struct client *c, int rank, const char *key, uint8_t kind,
		     struct rdt_message *answer, int64_t deadline, int *idle)
{
	struct rdt_message m = {
		.type = RDT_MSG_GET, .number = ++c->number, .rank = (uint32_t)rank, .kind = kind
	};
	int status = check_owner(c);

	*idle = 0;
	if (!status)
		status = check_key(key);
	if (status)
		return status;
	if (rank < 0 || rank >= c->who.world)
		return rdt_err(RDT_ERR_INVALID, "rank %d is outside a world of %d ranks", rank,
			       c->who.world);
	snprintf(m.key, sizeof(m.key), "%s", key);
	status = ask(c, &m, RDT_MSG_VALUE, answer, deadline, idle);
	return status && status != RDT_AGAIN && !*idle ? service_gone(c) : status;
}

static void take(const struct rdt_message *answer, void *value, size_t *length)
{
	size_t room = *length;

	*length = answer->length;
	if (answer->length && room)
		memcpy(value, answer->value, answer->length < room ? answer->length : room);
}

static int client_get(struct rdt_bootstrap *b, int rank, const char *key, void *value,
		      size_t *length, int64_t deadline)
{
	struct client *c = self(b);
	struct rdt_message answer;
	int idle, status = ask_value(c, rank, key, 0, &answer, deadline, &idle);

	if (status == RDT_AGAIN && !idle)
		return rdt_err(RDT_ERR_TIMEOUT,
			       "rank %d waited in vain for rank %d to put '%s' at the rendezvous; "
			       "see what rank %d is doing",
			       c->who.rank, rank, key, rank);
	if (!status)
		status = as_told(&answer);
	if (!status)
		take(&answer, value, length);
	return status;
}

static int client_look(struct rdt_bootstrap *b, int rank, const char *key, void *value,
		       size_t *length)
{
	struct client *c = self(b);
	int (*idle)(void *arg) = c->idle, unused, status;
	struct rdt_message answer;

	c->idle = NULL;
	status = ask_value(c, rank, key, 1, &answer, rdt_deadline(ANSWER_S), &unused);
	c->idle = idle;
	if (status == RDT_AGAIN)
		return rdt_err(RDT_ERR_TIMEOUT,
			       "rank %d: the rendezvous service at %s has not answered for %.0f s; "
			       "is its host overloaded?",
			       c->who.rank, c->who.rendezvous, ANSWER_S);
	if (status)
		return status;
	if (answer.status == RDT_AGAIN)
		return 0;
	status = as_told(&answer);
	if (status)
		return status;
	take(&answer, value, length);
	return 1;
}

/* The first fence is where all meet; what is waited for at the others is a call. */
static int missing(const struct client *c, const struct rdt_message *fence, const char *whom)
{
	if (fence->number == 1)
		return rdt_err(RDT_ERR_TIMEOUT,
			       "rank %d waited for %s, not yet at the rendezvous %s for job %s of "
			       "%d ranks: do they run, with the same address, job and size? "
			       "(RDTRAIN_START_TIMEOUT is how long to wait for them)",
			       c->who.rank, whom, c->who.rendezvous, c->who.job, c->who.world);
	return rdt_err(RDT_ERR_TIMEOUT,
		       "rank %d waited in vain in \"%s\" for %s; see what they are doing",
		       c->who.rank, fence->signature, whom);
}

/* The deadline of a fence has passed: asks who is missing. The answer of the fence itself may
 * still cross the question; then that counts. */
static int fence_late(struct client *c, const struct rdt_message *fence, struct rdt_message *answer)
{
	struct rdt_message m = { .type = RDT_MSG_WHO, .number = fence->number };
	int64_t deadline = rdt_deadline(WHO_S);
	int status = rdt_channel_send(&c->channel, &m, deadline);

	while (!status) {
		status = receive(c, answer, deadline);
		if (status || answer->number != fence->number)
			continue;
		if (answer->type == RDT_MSG_FENCED)
			return RDT_OK;
		if (answer->type == RDT_MSG_MISSING)
			return missing(c, fence, answer->text);
	}
	if (status != RDT_AGAIN)
		return service_gone(c);
	return rdt_err(RDT_ERR_TIMEOUT,
		       "rank %d waited in vain in \"%s\", and the rendezvous service at %s did not "
		       "say for whom",
		       c->who.rank, fence->signature, c->who.rendezvous);
}

/*
 * The service ended while this rank waits for the others to join: it has lost nothing that cannot
 * be said again, so it joins whatever is started there next. Not where this process is the
 * service's parent: with that it would wait in vain. Nor in a part or a later generation of a job,
 * whose members have met before and need that service.
 */
static bool may_come_again(const struct client *c)
{
	return c->fences == 1 && c->number == 0 && !c->who.start_service &&
	       !strchr(c->who.job, '/');
}

static int come_again(struct client *c, int64_t deadline)
{
	struct rdt_address address;

	rdt_info("rank %d: the rendezvous service at %s is gone: %s; joining again until the "
		 "deadline",
		 c->who.rank, c->who.rendezvous, c->channel.why);
	rdt_channel_disconnect(&c->channel);
	c->have = 0; /* of the members of before */
	c->told_service_gone = false;
	if (!rdt_address_parse(c->who.rendezvous, &address))
		return rdt_err(RDT_ERR_INVALID, "the rendezvous '%s' is no HOST:PORT",
			       c->who.rendezvous);
	return join_by(c, &address, deadline);
}

static int client_fence(struct rdt_bootstrap *b, const char *signature, uint64_t flags,
			struct rdt_fence *result, int64_t deadline)
{
	struct client *c = self(b);
	struct rdt_message m = { .type = RDT_MSG_FENCE, .flags = flags };
	struct rdt_message answer;
	int status = check_owner(c), idle;

	if (status)
		return status;
	if (strnlen(signature, sizeof(m.signature)) >= sizeof(m.signature))
		return rdt_err(RDT_ERR_INVALID,
			       "a fence's signature is longer than %d bytes: %.80s",
			       RDT_SIGNATURE_MAX - 1, signature);
	m.number = ++c->fences;
	snprintf(m.signature, sizeof(m.signature), "%s", signature);
	c->fencing = true;
	status = ask(c, &m, RDT_MSG_FENCED, &answer, deadline, &idle);
	while (c->channel.dead && status && !idle && may_come_again(c)) {
		status = come_again(c, deadline);
		if (status) {
			c->fencing = false;
			return status;
		}
		status = ask(c, &m, RDT_MSG_FENCED, &answer, deadline, &idle);
	}
	c->fencing = c->fenced = false;
	if (idle)
		return idle;
	if (status == RDT_AGAIN) {
		status = fence_late(c, &m, &answer);
		if (status)
			return status;
	}
	if (status)
		return service_gone(c);
	status = as_told(&answer);
	if (status)
		return status;
	memset(result, 0, sizeof(*result));
	result->flags = answer.flags;
	result->equal = answer.kind;
	if (!result->equal) {
		result->rank_a = (int)answer.rank;
		result->rank_b = (int)answer.rank_b;
		memcpy(result->signature_a, answer.signature, sizeof(result->signature_a));
		memcpy(result->signature_b, answer.signature_b, sizeof(result->signature_b));
	}
	return RDT_OK;
}

static void client_set_idle(struct rdt_bootstrap *b, int (*idle)(void *arg), void *arg)
{
	self(b)->idle = idle;
	self(b)->idle_arg = arg;
}

/* ---- abort, watch, close -----------------------------------------------------------------------
 */

static int client_abort(struct rdt_bootstrap *b, int why, const unsigned char *lost,
			const char *text)
{
	struct client *c = self(b);
	struct rdt_message m = { .type = RDT_MSG_ABORT, .status = why, .value = lost };
	int status = check_owner(c);

	if (status)
		return status;
	m.length = lost ? ((uint32_t)c->who.world + 7) / 8 : 0;
	copy_text(m.text, sizeof(m.text), text);
	status = rdt_channel_send(&c->channel, &m, 0);
	/* What did not go now goes with the next call; there is nothing better to do. */
	return status < 0 ? service_gone(c) : RDT_OK;
}

/* Takes in everything that has come: what TLS has decrypted shows in no poll(2). */
static void take_in(struct client *c)
{
	struct rdt_message m;

	if (!c->channel.dead)
		(void)rdt_channel_flush(&c->channel, 0);
	while (!receive(c, &m, 0))
		; /* an answer that came too late */
	notice_gone(c);
}

static int client_verdict(struct rdt_bootstrap *b, struct rdt_verdict *verdict)
{
	struct client *c = self(b);

	take_in(c);
	if (c->judged)
		*verdict = c->verdict;
	return c->judged ? 1 : c->channel.dead ? RDT_ERR_UNREACHABLE : 0;
}

static int client_fd(struct rdt_bootstrap *b)
{
	struct client *c = self(b);

	return c->channel.dead ? -1 : c->channel.fd;
}

static int client_watch(struct rdt_bootstrap *b, struct rdt_bootstrap_event *event)
{
	struct client *c = self(b);
	const struct kept *e;

	take_in(c);
	if (!c->have)
		return 0;
	e = &c->events[c->first];
	event->kind = e->kind;
	event->rank = e->rank;
	copy_text(event->text, sizeof(event->text),
		  e->kind == RDT_EVENT_ABORT ? c->abort_text : e->text);
	c->first = (c->first + 1) % c->room;
	c->have--;
	return 1;
}

/* ---- the next generation -----------------------------------------------------------------------
 */

static int client_regroup(struct rdt_bootstrap *b, unsigned kind, struct rdt_generation *group,
			  int64_t deadline)
{
	struct client *c = self(b);
	struct rdt_message m = { .type = RDT_MSG_REGROUP,
				 .number = ++c->number,
				 .kind = (uint8_t)kind };
	struct rdt_message answer;
	int status = check_owner(c), idle;

	if (status)
		return status;
	m.flags = (uint64_t)rdt_left_ms(deadline);
	status = ask(c, &m, RDT_MSG_GROUP, &answer, deadline, &idle);
	if (idle)
		return idle;
	if (status == RDT_AGAIN && c->who.join)
		return rdt_err(RDT_ERR_TIMEOUT,
			       "nobody has admitted this process to job %s on the rendezvous at "
			       "%s; does the job run, and call rdt_comm_grow? "
			       "(RDTRAIN_START_TIMEOUT is how long to wait)",
			       c->who.job, c->who.rendezvous);
	if (status == RDT_AGAIN)
		return rdt_err(RDT_ERR_TIMEOUT,
			       "rank %d: the rendezvous service at %s did not say in time who goes "
			       "on",
			       c->who.rank, c->who.rendezvous);
	status = status ? service_gone(c) : as_told(&answer);
	if (status)
		return status;
	c->broken = false;
	group->kind = answer.kind;
	group->rank = (int)answer.rank;
	group->world = (int)answer.world;
	memcpy(group->job, answer.job, sizeof(group->job));
	return RDT_OK;
}

static bool client_broken(struct rdt_bootstrap *b)
{
	take_in(self(b));
	return self(b)->broken || self(b)->channel.dead;
}

static int client_waiting(struct rdt_bootstrap *b)
{
	return self(b)->waiting;
}

static void client_bequeath(struct rdt_bootstrap *b, struct rdt_bootstrap *next)
{
	struct own_service *s = self(b)->service;

	if (s)
		__atomic_add_fetch(&s->users, 1, __ATOMIC_RELAXED);
	self(next)->service = s;
}

/* ---- the end ------------------------------------------------------------------------------------
 */

/* Says good-bye and waits, briefly, for the service to hang up: closing while its last words are
 * on the way would reset the connection, and the good-bye might be lost with it. */
static void say_bye(struct client *c)
{
	struct rdt_message m = { .type = RDT_MSG_BYE };
	int64_t deadline = rdt_deadline(BYE_S);
	int status = rdt_channel_send(&c->channel, &m, deadline);

	while (!status)
		status = receive(c, &m, deadline);
}

static void client_close(struct rdt_bootstrap *b, bool orderly)
{
	struct client *c = self(b);

	if (!b)
		return;
	if (c->owner == getpid()) {
		if (orderly && !c->channel.dead)
			say_bye(c);
		else if (c->channel.fd >= 0) /* at once, even if a forked child holds it too */
			shutdown(c->channel.fd, SHUT_RDWR);
		if (c->service)
			rdt_channel_disconnect(&c->channel);
	}
	leave_service(c, false);
	release(c);
}

const struct rdt_bootstrap_ops rdt_rendezvous_ops = {
	.size = sizeof(struct rdt_bootstrap_ops),
	.name = "rendezvous",
	.open = client_open,
	.nonce = client_nonce,
	.put = client_put,
	.get = client_get,
	.look = client_look,
	.forget = client_forget,
	.fence = client_fence,
	.set_idle = client_set_idle,
	.abort = client_abort,
	.verdict = client_verdict,
	.regroup = client_regroup,
	.broken = client_broken,
	.waiting = client_waiting,
	.bequeath = client_bequeath,
	.fd = client_fd,
	.watch = client_watch,
	.close = client_close,
};
