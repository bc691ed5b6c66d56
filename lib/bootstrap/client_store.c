/* SPDX-License-Identifier: BSD-3-Clause */
/* The store's calls: put, forget, get, look. */
#include "lib/bootstrap/client.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"

#define ANSWER_S 10.0 /* the service answers at once; this long means it is stuck */

static int check_key(const char *key)
{
	size_t length = strnlen(key, RDT_KEY_MAX);

	if (length > 0 && length < RDT_KEY_MAX)
		return RDT_OK;
	return rdt_err(RDT_ERR_INVALID, "the key '%.80s' is empty or longer than %d bytes", key,
		       RDT_KEY_MAX - 1);
}

int rdt_client_put(struct rdt_bootstrap *b, const char *key, const void *value, size_t length)
{
	struct client *c = self(b);
	struct rdt_message m = { .type = RDT_MSG_PUT, .number = ++c->number, .value = value };
	struct rdt_message answer;
	int status = rdt_client_check_owner(c), idle;

	if (!status)
		status = check_key(key);
	if (status)
		return status;
	if (length > RDT_BLOB_MAX)
		return rdt_err(RDT_ERR_INVALID, "the value of '%s' has %zu bytes; the limit is %d",
			       key, length, RDT_BLOB_MAX);
	snprintf(m.key, sizeof(m.key), "%s", key);
	m.length = (uint32_t)length;
	status = rdt_client_ask(c, &m, RDT_MSG_STORED, &answer, rdt_deadline(ANSWER_S), &idle);
	if (idle)
		return idle;
	if (status == RDT_AGAIN)
		return rdt_err(
			RDT_ERR_TIMEOUT,
			"rank %d: the rendezvous service at %s has not taken '%s' in %.0f s; "
			"is its host overloaded?",
			c->who.rank, c->who.rendezvous, key, ANSWER_S);
	return status ? rdt_client_service_gone(c) : rdt_client_as_told(&answer);
}

int rdt_client_forget(struct rdt_bootstrap *b, const char *key)
{
	struct client *c = self(b);
	struct rdt_message m = { .type = RDT_MSG_FORGET };
	int status = rdt_client_check_owner(c);

	if (!status)
		status = check_key(key);
	if (status)
		return status;
	snprintf(m.key, sizeof(m.key), "%s", key);
	status = rdt_channel_send(&c->channel, &m, 0);
	/* What did not go now goes with the next call. */
	return status < 0 ? rdt_client_service_gone(c) : RDT_OK;
}

/* Asks for (rank, key); kind 1 does not wait until it is put. */
static int ask_value(struct client *c, int rank, const char *key, uint8_t kind,
		     struct rdt_message *answer, int64_t deadline, int *idle)
{
	struct rdt_message m = {
		.type = RDT_MSG_GET, .number = ++c->number, .rank = (uint32_t)rank, .kind = kind
	};
	int status = rdt_client_check_owner(c);

	*idle = 0;
	if (!status)
		status = check_key(key);
	if (status)
		return status;
	if (rank < 0 || rank >= c->who.world)
		return rdt_err(RDT_ERR_INVALID, "rank %d is outside a world of %d ranks", rank,
			       c->who.world);
	snprintf(m.key, sizeof(m.key), "%s", key);
	status = rdt_client_ask(c, &m, RDT_MSG_VALUE, answer, deadline, idle);
	return status && status != RDT_AGAIN && !*idle ? rdt_client_service_gone(c) : status;
}

static void take(const struct rdt_message *answer, void *value, size_t *length)
{
	size_t room = *length;

	*length = answer->length;
	if (answer->length && room)
		memcpy(value, answer->value, answer->length < room ? answer->length : room);
}

int rdt_client_get(struct rdt_bootstrap *b, int rank, const char *key, void *value, size_t *length,
		   int64_t deadline)
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
		status = rdt_client_as_told(&answer);
	if (!status)
		take(&answer, value, length);
	return status;
}

int rdt_client_look(struct rdt_bootstrap *b, int rank, const char *key, void *value, size_t *length)
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
	status = rdt_client_as_told(&answer);
	if (status)
		return status;
	take(&answer, value, length);
	return 1;
}
