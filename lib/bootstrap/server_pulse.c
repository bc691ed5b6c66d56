/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Members whose host is silent. TCP's keep-alive asks once a second at best; in the last second
 * before a host is given up it is asked at each look, so that a lost packet ends nothing. While
 * something that was sent waits for an answer, TCP sends that again instead. A member that computes
 * and does not read is not silent: its kernel answers.
 */
#include "lib/bootstrap/server_parts.h"

#include <linux/tcp.h>

#include "lib/bootstrap/address.h"

#define LOOK_MS 250
#define LOOKS 4 /* in a row at which it has been asked and has not answered */

static void look(struct srv_conn *conn, uint32_t limit)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);
	int fd = bufferevent_getfd(conn->bev);
	uint32_t silent;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length))
		return;
	silent = info.tcpi_last_ack_recv < info.tcpi_last_data_recv ? info.tcpi_last_ack_recv
								    : info.tcpi_last_data_recv;
	/* With a window that is full TCP asks ever more seldom. */
	if (silent < LOOK_MS || (!info.tcpi_unacked && info.tcpi_notsent_bytes)) {
		conn->silent_looks = 0;
		return;
	}
	if (!info.tcpi_unacked && (silent < 1000 || silent + 1000 < limit)) {
		conn->silent_looks = 0;
		return;
	}
	if (silent > limit && conn->silent_looks >= LOOKS) {
		rdt_srv_drop(conn, "its host has not answered for %u ms", silent);
		return;
	}
	conn->silent_looks++;
	rdt_socket_ask(fd);
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	struct rdt_server *server = arg;
	uint32_t limit = (uint32_t)rdt_keepalive() * 1000;

	(void)fd;
	(void)what;
	for (struct srv_conn *conn = server->conns; conn; conn = conn->next)
		if (conn->state == SRV_MEMBER)
			look(conn, limit);
}

bool rdt_srv_pulse_start(struct rdt_server *server)
{
	struct timeval t = { .tv_usec = LOOK_MS * 1000 };

	server->pulse = event_new(server->base, -1, EV_PERSIST, on_look, server);
	return server->pulse && !evtimer_add(server->pulse, &t);
}
