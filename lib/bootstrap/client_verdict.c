/* SPDX-License-Identifier: BSD-3-Clause */
/* How a job ends: this member's abort, and the verdict of the service (server_verdict.c). */
#include "lib/bootstrap/client.h"

#include <string.h>

int rdt_client_abort(struct rdt_bootstrap *b, int why, const unsigned char *lost, const char *text)
{
	struct client *c = self(b);
	struct rdt_message m = { .type = RDT_MSG_ABORT, .status = why, .value = lost };
	int status = rdt_client_check_owner(c);

	if (status)
		return status;
	m.length = lost ? ((uint32_t)c->who.world + 7) / 8 : 0;
	copy_text(m.text, sizeof(m.text), text);
	status = rdt_channel_send(&c->channel, &m, 0);
	/* What did not go now goes with the next call; there is nothing better to do. */
	return status < 0 ? rdt_client_service_gone(c) : RDT_OK;
}

void rdt_client_keep_verdict(struct client *c, const struct rdt_message *m)
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

int rdt_client_verdict(struct rdt_bootstrap *b, struct rdt_verdict *verdict)
{
	struct client *c = self(b);

	rdt_client_take_in(c);
	if (c->judged)
		*verdict = c->verdict;
	return c->judged ? 1 : c->channel.dead ? RDT_ERR_UNREACHABLE : 0;
}
