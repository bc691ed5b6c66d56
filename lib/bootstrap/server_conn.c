/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One connection of the rendezvous service: TLS handshake, hello, frames, and its end. Trusts
 * nobody: before the handshake is over OpenSSL takes no more than one hello's bytes, before the
 * hello a frame is at most RDT_HELLO_BODY_MAX, and one absolute deadline covers both.
 */
#include "lib/bootstrap/server_parts.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <linux/tcp.h>
#include <openssl/err.h>
#include <openssl/sslerr.h>

#include "lib/base/error.h"
#include "lib/bootstrap/address.h"

#define REFUSED_S 1 /* to read why, and hang up */

static struct timeval seconds(double s)
{
	return (struct timeval){ .tv_sec = (time_t)s,
				 .tv_usec = (suseconds_t)((s - (double)(time_t)s) * 1e6) };
}

static void no_stranger(struct srv_conn *conn)
{
	if (conn->stranger) {
		conn->network->strangers--;
		conn->server->strangers--;
	}
	conn->stranger = false;
	conn->network = NULL; /* which may be freed from now on */
}

/* ---- sending and dropping -----------------------------------------------------------------------
 */

void rdt_srv_send(struct srv_conn *conn, const struct rdt_message *m)
{
	struct rdt_server *server = conn->server;
	struct evbuffer *out;
	size_t n;

	if (conn->state == SRV_DOOMED)
		return;
	out = bufferevent_get_output(conn->bev);
	n = rdt_frame_encode(m, server->frame, sizeof(server->frame));
	if (!n) {
		rdt_srv_drop(conn, "message type %d to it does not fit a frame", (int)m->type);
		return;
	}
	if (evbuffer_get_length(out) + n > server->config.max_output_bytes) {
		rdt_srv_drop(conn, "it does not read: %zu bytes wait for it",
			     evbuffer_get_length(out));
		return;
	}
	if (bufferevent_write(conn->bev, server->frame, n))
		rdt_srv_drop(conn, "no memory to send to it");
}

void rdt_srv_drop(struct srv_conn *conn, const char *format, ...)
{
	struct rdt_server *server = conn->server;
	va_list args;

	if (conn->state == SRV_DOOMED)
		return;
	va_start(args, format);
	vsnprintf(conn->reason, sizeof(conn->reason), format, args);
	va_end(args);
	if (conn->state == SRV_HANDSHAKE || conn->state == SRV_HELLO)
		rdt_srv_log_stranger(server, "dropped a stranger, %s: %s", conn->peer,
				     conn->reason);
	conn->state = SRV_DOOMED;
	bufferevent_disable(conn->bev, EV_READ | EV_WRITE);
	bufferevent_setcb(conn->bev, NULL, NULL, NULL, NULL);
	event_del(conn->deadline);
	conn->next_doomed = server->doomed;
	server->doomed = conn;
	event_active(server->reap, 0, 0);
}

void rdt_srv_refuse(struct srv_conn *conn, int status, const char *format, ...)
{
	struct rdt_message m = { .type = RDT_MSG_REFUSED, .status = status };
	struct timeval t = seconds(REFUSED_S);
	va_list args;

	va_start(args, format);
	vsnprintf(m.text, sizeof(m.text), format, args);
	va_end(args);
	if (status == RDT_AGAIN) /* early, and no stranger */
		rdt_srv_log(conn->server, "put off %s: %s", conn->peer, m.text);
	else
		rdt_srv_log_stranger(conn->server, "refused %s: %s", conn->peer, m.text);
	rdt_srv_send(conn, &m);
	if (conn->state == SRV_DOOMED)
		return;
	no_stranger(conn);
	conn->state = SRV_CLOSING;
	evtimer_add(conn->deadline, &t);
}

void rdt_srv_accepted(struct srv_conn *conn)
{
	no_stranger(conn);
	conn->state = SRV_MEMBER;
	event_del(conn->deadline);
}

/* ---- callbacks ----------------------------------------------------------------------------------
 */

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct srv_conn *conn = arg;

	(void)fd;
	(void)what;
	if (conn->state == SRV_CLOSING)
		rdt_srv_drop(conn, "it did not hang up");
	else
		rdt_srv_drop(conn, "no complete %s within %.1f s",
			     conn->state == SRV_HANDSHAKE ? "TLS handshake" : "hello",
			     conn->server->config.handshake_s);
}

static void handle(struct srv_conn *conn, const struct rdt_message *m)
{
	if (conn->state == SRV_MEMBER)
		rdt_srv_request(conn, m);
	else if (m->type == RDT_MSG_HELLO)
		rdt_srv_hello(conn, m);
	else
		rdt_srv_drop(conn, "its first message was of type %d, not a hello", (int)m->type);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct srv_conn *conn = arg;
	struct evbuffer *in = bufferevent_get_input(bev);

	while (conn->state == SRV_HELLO || conn->state == SRV_MEMBER) {
		uint32_t limit = conn->state == SRV_HELLO ? RDT_HELLO_BODY_MAX : RDT_FRAME_BODY_MAX;
		unsigned char header[RDT_FRAME_HEADER];
		const unsigned char *frame;
		struct rdt_message m;
		uint32_t length;

		if (evbuffer_copyout(in, header, sizeof(header)) < (ssize_t)sizeof(header))
			return;
		length = rdt_frame_length(header);
		if (length > limit) {
			rdt_srv_drop(conn, "it sent a frame of %u bytes; the limit is %u", length,
				     limit);
			return;
		}
		if (evbuffer_get_length(in) < sizeof(header) + length)
			return;
		frame = evbuffer_pullup(in, (ssize_t)(sizeof(header) + length));
		if (!frame) {
			rdt_srv_drop(conn, "no memory for its frame");
			return;
		}
		if (rdt_frame_decode(frame + sizeof(header), length, &m))
			handle(conn, &m);
		else
			rdt_srv_drop(conn, "it sent a frame that cannot be read");
		evbuffer_drain(in, sizeof(header) + length);
	}
	if (conn->state == SRV_CLOSING)
		evbuffer_drain(in, evbuffer_get_length(in));
}

/* Words for a handshake that failed. */
static void handshake_failed(struct srv_conn *conn, short what, int error)
{
	unsigned long e = bufferevent_get_openssl_error(conn->bev);
	const struct rdt_psk_lookup *lookup = &conn->lookup;
	const char *reason = e ? ERR_reason_error_string(e) : NULL;

	if (!reason) /* of the socket: that has no words in OpenSSL */
		rdt_srv_drop(conn, "it hung up in the TLS handshake%s%s",
			     what & BEV_EVENT_ERROR && error ? ": " : "",
			     what & BEV_EVENT_ERROR && error ? strerrordesc_np(error) : "");
	else if (!lookup->psk.job[0])
		rdt_srv_drop(conn, "it does not speak TLS 1.3 with a job's key (%s)", reason);
	else if (!lookup->known)
		rdt_srv_drop(conn, "it asked for job %s, which has no secret here",
			     lookup->psk.job);
	else if (ERR_GET_REASON(e) == SSL_R_BINDER_DOES_NOT_VERIFY)
		rdt_srv_drop(conn, "its secret for job %s is wrong (%s)", lookup->psk.job, reason);
	else
		rdt_srv_drop(conn,
			     "it began the TLS handshake for job %s and could not go on (%s): "
			     "a replay, or bytes that were changed on the way",
			     lookup->psk.job, reason);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct srv_conn *conn = arg;
	int error = EVUTIL_SOCKET_ERROR();

	if (what & BEV_EVENT_CONNECTED) {
		if (rdt_tls_authenticated(bufferevent_openssl_get_ssl(bev)))
			conn->state = SRV_HELLO;
		else
			rdt_srv_drop(conn, "its TLS session does not rest on the job's key");
	} else if (conn->state == SRV_HANDSHAKE) {
		handshake_failed(conn, what, error);
	} else if (what & BEV_EVENT_ERROR && error) {
		rdt_srv_drop(conn, "its connection broke: %s", strerrordesc_np(error));
	} else {
		rdt_srv_drop(conn, "its connection ended without a good-bye");
	}
	ERR_clear_error();
}

/* ---- beginning and end
 * --------------------------------------------------------------------------- */

static bool find_key(struct rdt_psk_lookup *lookup)
{
	struct srv_conn *conn =
		(struct srv_conn *)((char *)lookup - offsetof(struct srv_conn, lookup));

	return rdt_srv_secrets_find(conn->server->secrets, &lookup->psk);
}

bool rdt_srv_conn_new(struct rdt_server *server, int fd, struct srv_address *address,
		      struct srv_address *network, const char *peer)
{
	struct srv_conn *conn = calloc(1, sizeof(*conn));
	struct timeval t = seconds(server->config.handshake_s);
	SSL *ssl;

	if (!conn)
		return false;
	conn->server = server;
	conn->address = address;
	conn->network = network;
	conn->lookup.find = find_key;
	snprintf(conn->peer, sizeof(conn->peer), "%s", peer);
	conn->deadline = evtimer_new(server->base, on_deadline, conn);
	if (!conn->deadline)
		goto free_conn;
	ssl = rdt_tls_accept(server->ctx, server->method, fd, &conn->lookup);
	if (!ssl)
		goto free_deadline;
	conn->bev = bufferevent_openssl_socket_new(server->base, fd, ssl, BUFFEREVENT_SSL_ACCEPTING,
						   BEV_OPT_CLOSE_ON_FREE);
	if (!conn->bev) {
		SSL_free(ssl);
		goto free_deadline;
	}
	rdt_socket_tune(fd);
	bufferevent_openssl_set_allow_dirty_shutdown(conn->bev, 1);
	bufferevent_setcb(conn->bev, on_read, NULL, on_event, conn);
	bufferevent_setwatermark(conn->bev, EV_READ, 0, 2 * RDT_FRAME_MAX);
	bufferevent_enable(conn->bev, EV_READ | EV_WRITE);
	evtimer_add(conn->deadline, &t);

	conn->next = server->conns;
	if (conn->next)
		conn->next->prev = conn;
	server->conns = conn;
	server->connections++;
	address->all++;
	network->strangers++;
	server->strangers++;
	conn->stranger = true;
	return true;

free_deadline:
	event_free(conn->deadline);
free_conn:
	ERR_clear_error();
	free(conn);
	return false;
}

void rdt_srv_traffic(const struct srv_conn *conn, uint64_t *in, uint64_t *out)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);

	if (getsockopt(bufferevent_getfd(conn->bev), IPPROTO_TCP, TCP_INFO, &info, &length))
		return;
	*in += info.tcpi_bytes_received;
	*out += info.tcpi_bytes_acked;
}

void rdt_srv_conn_free(struct srv_conn *conn)
{
	struct rdt_server *server = conn->server;

	if (conn->prev)
		conn->prev->next = conn->next;
	else
		server->conns = conn->next;
	if (conn->next)
		conn->next->prev = conn->prev;
	no_stranger(conn);
	conn->address->all--;
	server->connections--;
	event_free(conn->deadline);
	bufferevent_free(conn->bev);
	ERR_clear_error();
	free(conn);
}
