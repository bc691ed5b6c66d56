/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Members whose host is silent while something that was sent to them waits for an answer: TCP's
 * keep-alive, which covers the rest, does not ask then. A member that computes and does not read is
 * not silent: its kernel says so, again and again.
 */
#include "lib/bootstrap/server_parts.h"

#include <linux/tcp.h>

#include "lib/bootstrap/address.h"

#define LOOK_MS 250

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	struct rdt_server *server = arg;
	uint32_t limit = (uint32_t)rdt_keepalive() * 1000;

	(void)fd;
	(void)what;
	for (struct srv_conn *conn = server->conns; conn; conn = conn->next) {
		struct tcp_info info = { 0 };
		socklen_t length = sizeof(info);

		if (conn->state != SRV_MEMBER ||
		    getsockopt(bufferevent_getfd(conn->bev), IPPROTO_TCP, TCP_INFO, &info, &length))
			continue;
		if (info.tcpi_unacked && info.tcpi_last_ack_recv > limit)
			rdt_srv_drop(conn, "its host has not answered for %u ms",
				     info.tcpi_last_ack_recv);
	}
}

bool rdt_srv_pulse_start(struct rdt_server *server)
{
	struct timeval t = { .tv_usec = LOOK_MS * 1000 };

	server->pulse = event_new(server->base, -1, EV_PERSIST, on_look, server);
	return server->pulse && !evtimer_add(server->pulse, &t);
}
