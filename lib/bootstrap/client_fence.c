/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fence. Who waits in the first one outlives the end of the service; who waits in vain learns
 * for whom.
 */
#include "lib/bootstrap/client.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/log.h"

#define WHO_S 0.2 /* for naming the ranks that did not come to a fence */

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
		status = rdt_client_receive(c, answer, deadline);
		if (status || answer->number != fence->number)
			continue;
		if (answer->type == RDT_MSG_FENCED)
			return RDT_OK;
		if (answer->type == RDT_MSG_MISSING)
			return missing(c, fence, answer->text);
	}
	if (status != RDT_AGAIN)
		return rdt_client_service_gone(c);
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
	return rdt_client_join(c, &address, deadline);
}

int rdt_client_fence(struct rdt_bootstrap *b, const char *signature, uint64_t flags,
		     struct rdt_fence *result, int64_t deadline)
{
	struct client *c = self(b);
	struct rdt_message m = { .type = RDT_MSG_FENCE, .flags = flags };
	struct rdt_message answer;
	int status = rdt_client_check_owner(c), idle;

	if (status)
		return status;
	if (strnlen(signature, sizeof(m.signature)) >= sizeof(m.signature))
		return rdt_err(RDT_ERR_INVALID,
			       "a fence's signature is longer than %d bytes: %.80s",
			       RDT_SIGNATURE_MAX - 1, signature);
	m.number = ++c->fences;
	snprintf(m.signature, sizeof(m.signature), "%s", signature);
	c->fencing = true;
	status = rdt_client_ask(c, &m, RDT_MSG_FENCED, &answer, deadline, &idle);
	while (c->channel.dead && status && !idle && may_come_again(c)) {
		status = come_again(c, deadline);
		if (status) {
			c->fencing = false;
			return status;
		}
		status = rdt_client_ask(c, &m, RDT_MSG_FENCED, &answer, deadline, &idle);
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
		return rdt_client_service_gone(c);
	status = rdt_client_as_told(&answer);
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
