/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests and their answers. A request is sent, and messages are read until its answer comes; the
 * events between go to client_events.c. The caller's other work goes on meanwhile: idle(). It may
 * come back here for a value while a fence waits, and then the fence's answer may come to it.
 */
#include "lib/bootstrap/client.h"

#include <stdio.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"

#define IDLE_NS 1000000

/* Is the service's host still there? */
static void look(struct client *c)
{
	const struct rdt_message question = { .type = RDT_MSG_PULSE };
	char why[80];

	if (c->channel.dead || c->channel.fd < 0)
		return;
	switch (rdt_pulse_look(&c->pulse, c->channel.fd, rdt_now())) {
	case RDT_PULSE_WELL: break;
	case RDT_PULSE_ASK: (void)rdt_channel_send(&c->channel, &question, 0); break;
	case RDT_PULSE_SILENT:
		snprintf(why, sizeof(why), "its host has not answered for %u ms",
			 c->pulse.silent_ms);
		rdt_channel_give_up(&c->channel, why);
	}
}

int rdt_client_receive(struct client *c, struct rdt_message *m, int64_t deadline)
{
	for (;;) {
		int64_t by = c->pulse.look_at < deadline ? c->pulse.look_at : deadline;
		int status = rdt_channel_receive(&c->channel, m, by);

		if (status == RDT_AGAIN) {
			look(c);
			if (c->channel.dead || rdt_now() < deadline)
				continue;
		}
		if (status)
			return status;
		if (m->type == RDT_MSG_EVENT)
			rdt_client_keep_message(c, m);
		else if (m->type == RDT_MSG_VERDICT)
			rdt_client_keep_verdict(c, m);
		else if (m->type != RDT_MSG_PULSE)
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

/* rdt_client_receive(), and the caller's other work meanwhile. A negative status of that is in
 * *idle. */
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
		status = rdt_client_receive(c, m, slice < deadline ? slice : deadline);
		if (status != RDT_AGAIN || rdt_now() >= deadline)
			return status;
	}
	return rdt_client_receive(c, m, deadline);
}

/* Answers to requests that were given up at their deadlines are passed over. */
int rdt_client_ask(struct client *c, const struct rdt_message *request, enum rdt_message_type type,
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

int rdt_client_as_told(const struct rdt_message *m)
{
	int status = m->status;

	if (status == RDT_OK)
		return RDT_OK;
	if (status > 0 || status < RDT_ERR_CORRUPT)
		status = RDT_ERR_SYSTEM;
	return rdt_err((enum rdt_status)status, "%s", m->text);
}

int rdt_client_check_owner(const struct client *c)
{
	if (c->owner == getpid())
		return RDT_OK;
	return rdt_err(RDT_ERR_INVALID,
		       "process %d was forked from process %d, which is rank %d; only that process "
		       "may use its connection to the rendezvous",
		       (int)getpid(), (int)c->owner, c->who.rank);
}

void rdt_client_set_idle(struct rdt_bootstrap *b, int (*idle)(void *arg), void *arg)
{
	self(b)->idle = idle;
	self(b)->idle_arg = arg;
}
