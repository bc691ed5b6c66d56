/* SPDX-License-Identifier: BSD-3-Clause */
/* Joining a job on the service: one attempt, and attempts until the deadline. */
#include "lib/bootstrap/client.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/log.h"

#define RETRY_MIN_MS 10
#define RETRY_MAX_MS 500

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
		status = rdt_client_receive(c, &m, deadline);
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
	return rdt_client_as_told(&m);
}

int rdt_client_join(struct client *c, const struct rdt_address *address, int64_t deadline)
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
