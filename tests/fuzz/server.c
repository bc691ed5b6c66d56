/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The service behind the TLS handshake: up to four clients that know the secret and send messages
 * in any order. The input is a list of them: a byte that says which client, two of length, a body.
 * Length 0: that client hangs up.
 */
#include "fuzz.h"

#include "lib/bootstrap/server_parts.h"

#define CLIENTS 4

static struct event_base *base;
static struct rdt_server *server;
static struct srv_address address;

static void log_nothing(void *arg, const char *line)
{
	(void)arg;
	(void)line;
}

static void never(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

/* What rdt_srv_conn_new does, over a pair of buffers in the place of TLS. */
static struct srv_conn *client(struct bufferevent **other)
{
	struct srv_conn *conn = calloc(1, sizeof(*conn));
	struct bufferevent *pair[2];

	FUZZ_CHECK(conn && bufferevent_pair_new(base, 0, pair) == 0);
	conn->server = server;
	conn->address = conn->network = &address;
	conn->bev = pair[0];
	*other = pair[1];
	conn->deadline = evtimer_new(base, never, NULL);
	FUZZ_CHECK(conn->deadline);
	conn->state = SRV_HELLO;
	strcpy(conn->lookup.psk.job, "fuzz");
	strcpy(conn->peer, "a client");
	conn->next = server->conns;
	if (conn->next)
		conn->next->prev = conn;
	server->conns = conn;
	server->connections++;
	address.all++;
	address.strangers++;
	server->strangers++;
	conn->stranger = true;
	bufferevent_enable(conn->bev, EV_WRITE);
	return conn;
}

static void start(void)
{
	struct rdt_server_config config = { .listen = "127.0.0.1:0",
					    .secret = "between us",
					    .log = log_nothing,
					    .max_store_bytes = 1 << 20,
					    .max_output_bytes = 1 << 20 };

	base = event_base_new();
	FUZZ_CHECK(base && rdt_server_new(base, &config, &server) == 0);
}

static bool alive(const struct srv_conn *conn)
{
	return conn->state == SRV_HELLO || conn->state == SRV_MEMBER;
}

/* As on_read() of server_conn.c. */
static void take(struct srv_conn *conn, const uint8_t *body, uint32_t length)
{
	uint8_t *copy = malloc(length);
	struct rdt_message m;

	FUZZ_CHECK(copy);
	memcpy(copy, body, length);
	if (!rdt_frame_decode(copy, length, &m))
		rdt_srv_drop(conn, "it sent a frame that cannot be read");
	else if (conn->state == SRV_MEMBER)
		rdt_srv_request(conn, &m);
	else if (m.type == RDT_MSG_HELLO)
		rdt_srv_hello(conn, &m);
	else
		rdt_srv_drop(conn, "its first message was no hello");
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct srv_conn *conns[CLIENTS];
	struct bufferevent *others[CLIENTS];

	if (!base)
		start();
	for (int i = 0; i < CLIENTS; i++)
		conns[i] = client(&others[i]);
	while (size >= 3) {
		struct srv_conn *conn = conns[data[0] % CLIENTS];
		size_t length = data[1] | (size_t)data[2] << 8;

		data += 3;
		size -= 3;
		if (length > size)
			length = size;
		if (alive(conn) && length)
			take(conn, data, (uint32_t)length);
		else if (alive(conn))
			rdt_srv_drop(conn, "it hung up");
		data += length;
		size -= length;
	}
	for (int i = 0; i < CLIENTS; i++)
		rdt_srv_drop(conns[i], "the end");
	/* The doomed are freed, and with them the jobs. */
	for (int i = 0; i < 8 && server->conns; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	FUZZ_CHECK(!server->conns && server->members == 0 && server->connections == 0);
	for (int i = 0; i < CLIENTS; i++)
		bufferevent_free(others[i]);
	FUZZ_CHECK(server->n_jobs == 0 && server->strangers == 0);
	FUZZ_CHECK(address.all == 0 && address.strangers == 0);
	return 0;
}
