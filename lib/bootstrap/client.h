/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the client share. Downwards:
 *
 *	client.c	 rdt_rendezvous_ops: open, close, the service that this process started
 *	client_store.c	 put, forget, get, look
 *	client_fence.c	 fence
 *	client_verdict.c abort, verdict
 *	client_group.c	 regroup, broken, waiting
 *	client_join.c	 joining, until the deadline
 *	client_request.c requests, their answers, and the caller's other work meanwhile
 *	client_events.c	 what the service says unasked
 *	channel.c	 frames over TLS
 */
#ifndef RDT_CLIENT_H
#define RDT_CLIENT_H

#include <string.h>
#include <sys/types.h>

#include "lib/bootstrap/address.h"
#include "lib/bootstrap/channel.h"
#include "lib/bootstrap/pulse.h"

struct own_service;

struct kept {
	enum rdt_bootstrap_event_kind kind;
	int rank;
	char text[112]; /* an abort's text may be longer and has a place of its own */
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
	struct rdt_pulse pulse;
	struct rdt_channel channel;
};

static inline struct client *self(struct rdt_bootstrap *b)
{
	return (struct client *)b;
}

/* Text that may be cut off. */
static inline void copy_text(char *to, size_t room, const char *text)
{
	if (!memccpy(to, text, 0, room))
		to[room - 1] = 0;
}

/* Connects and joins, again and again until the deadline. */
int rdt_client_join(struct client *c, const struct rdt_address *address, int64_t deadline);

/* The next message that answers something: 0, RDT_AGAIN at the deadline, or dead. */
int rdt_client_receive(struct client *c, struct rdt_message *m, int64_t deadline);
/*
 * Sends a request and reads until the answer of that type and number: 0, RDT_AGAIN, dead, or what
 * idle() ended the wait with, which is in *idle, too (else 0).
 */
int rdt_client_ask(struct client *c, const struct rdt_message *request, enum rdt_message_type type,
		   struct rdt_message *answer, int64_t deadline, int *idle);
/* The status and sentence that the service answered with. */
int rdt_client_as_told(const struct rdt_message *m);
/* 0, or INVALID in a forked child. */
int rdt_client_check_owner(const struct client *c);

/* Keeps an event for watch(), and a verdict. */
void rdt_client_keep_message(struct client *c, const struct rdt_message *m);
void rdt_client_keep_verdict(struct client *c, const struct rdt_message *m);
/* Keeps everything that has come, without waiting. */
void rdt_client_take_in(struct client *c);
/* The channel is dead: an event, and UNREACHABLE with its sentence. */
int rdt_client_service_gone(struct client *c);

/* Of rdt_rendezvous_ops. */
int rdt_client_put(struct rdt_bootstrap *b, const char *key, const void *value, size_t length);
int rdt_client_forget(struct rdt_bootstrap *b, const char *key);
int rdt_client_get(struct rdt_bootstrap *b, int rank, const char *key, void *value, size_t *length,
		   int64_t deadline);
int rdt_client_look(struct rdt_bootstrap *b, int rank, const char *key, void *value,
		    size_t *length);
int rdt_client_fence(struct rdt_bootstrap *b, const char *signature, uint64_t flags,
		     struct rdt_fence *result, int64_t deadline);
void rdt_client_set_idle(struct rdt_bootstrap *b, int (*idle)(void *arg), void *arg);
int rdt_client_abort(struct rdt_bootstrap *b, int why, const unsigned char *lost, const char *text);
int rdt_client_verdict(struct rdt_bootstrap *b, struct rdt_verdict *verdict);
int rdt_client_regroup(struct rdt_bootstrap *b, unsigned kind, struct rdt_generation *group,
		       int64_t deadline);
bool rdt_client_broken(struct rdt_bootstrap *b);
int rdt_client_waiting(struct rdt_bootstrap *b);
int64_t rdt_client_watch_by(struct rdt_bootstrap *b);
int rdt_client_watch(struct rdt_bootstrap *b, struct rdt_bootstrap_event *event);

#endif
