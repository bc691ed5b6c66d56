/* SPDX-License-Identifier: BSD-3-Clause */
/* Members whose host is silent are dropped. */
#include "lib/bootstrap/server_parts.h"

#include "lib/base/clock.h"

/* Then the verdict says who is silent. Who waits to be admitted has no job. */
static bool being_judged(const struct srv_job *job)
{
	return job && job->failing && !job->judged;
}

static void look(struct srv_conn *conn, int64_t now)
{
	const struct rdt_message question = { .type = RDT_MSG_PULSE };

	switch (rdt_pulse_look(&conn->pulse, bufferevent_getfd(conn->bev), now)) {
	case RDT_PULSE_WELL: break;
	case RDT_PULSE_ASK: rdt_srv_send(conn, &question); break;
	case RDT_PULSE_SILENT:
		rdt_srv_drop(conn, "its host has not answered for %u ms", conn->pulse.silent_ms);
	}
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	struct rdt_server *server = arg;
	int64_t now = rdt_now();

	(void)fd;
	(void)what;
	for (struct srv_conn *conn = server->conns; conn; conn = conn->next) {
		if (conn->state == SRV_MEMBER && !being_judged(conn->job))
			look(conn, now);
	}
}

bool rdt_srv_pulse_start(struct rdt_server *server)
{
	struct timeval t = { .tv_usec = RDT_PULSE_MS * 1000 };

	server->pulse = event_new(server->base, -1, EV_PERSIST, on_look, server);
	return server->pulse && !evtimer_add(server->pulse, &t);
}
