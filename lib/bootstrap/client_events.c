/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the service says unasked is kept until watch() takes it; that the service itself is gone is
 * an event, too. What a lost or leaving member means for a call that waits is decided by the
 * service alone, so that all members hear the same.
 */
#include "lib/bootstrap/client.h"

#include "lib/base/error.h"

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

void rdt_client_keep_message(struct client *c, const struct rdt_message *m)
{
	if (m->kind == RDT_EVENT_BROKEN)
		c->broken = true;
	else if (m->kind == RDT_EVENT_WAITING)
		c->waiting = (int)m->rank;
	else if (m->kind <= RDT_EVENT_ABORT && m->rank < (uint32_t)c->who.world)
		keep(c, (enum rdt_bootstrap_event_kind)m->kind, (int)m->rank, m->text);
}

static void notice_gone(struct client *c)
{
	if (c->channel.dead && !c->told_service_gone) {
		c->told_service_gone = true;
		keep(c, RDT_EVENT_SERVICE, -1, c->channel.why);
	}
}

int rdt_client_service_gone(struct client *c)
{
	notice_gone(c);
	return rdt_err(RDT_ERR_UNREACHABLE,
		       "rank %d: the rendezvous service at %s is gone: %s; see whether it still "
		       "runs there",
		       c->who.rank, c->who.rendezvous, c->channel.why);
}

/* Takes in everything that has come: what TLS has decrypted shows in no poll(2). */
void rdt_client_take_in(struct client *c)
{
	struct rdt_message m;

	if (!c->channel.dead)
		(void)rdt_channel_flush(&c->channel, 0);
	while (!rdt_client_receive(c, &m, 0))
		; /* an answer that came too late */
	notice_gone(c);
}

int64_t rdt_client_watch_by(struct rdt_bootstrap *b)
{
	struct client *c = self(b);

	if (c->have)
		return 0;
	return c->channel.dead ? INT64_MAX : c->pulse.look_at;
}

int rdt_client_watch(struct rdt_bootstrap *b, struct rdt_bootstrap_event *event)
{
	struct client *c = self(b);
	const struct kept *e;

	rdt_client_take_in(c);
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
