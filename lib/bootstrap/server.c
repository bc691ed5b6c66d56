/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rendezvous service (server.h): listens, holds strangers to limits before any byte of theirs
 * is read, and frees what the other files dropped. One event loop, run by the caller.
 */
#include "lib/bootstrap/server_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "lib/base/error.h"
#include "lib/bootstrap/address.h"

#define STRANGER_LINES 10 /* a second */
#define BACKLOG 4096	  /* thousands of workers start at once; the kernel caps it at somaxconn */

/* ---- the log ------------------------------------------------------------------------------------
 */

static void say(struct rdt_server *server, const char *format, va_list args)
{
	char line[1024];

	vsnprintf(line, sizeof(line), format, args);
	/* Some of it was said by others: no control characters reach a terminal. */
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = '?';
	server->config.log(server->config.arg, line);
}

void rdt_srv_log(struct rdt_server *server, const char *format, ...)
{
	va_list args;

	if (!server->config.log || server->config.strangers_only)
		return;
	va_start(args, format);
	say(server, format, args);
	va_end(args);
}

static void say_stranger(struct rdt_server *server, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(server, format, args);
	va_end(args);
}

void rdt_srv_log_stranger(struct rdt_server *server, const char *format, ...)
{
	struct timeval second = { .tv_sec = 1 };
	va_list args;

	if (!server->config.log)
		return;
	if (!server->told_strangers)
		evtimer_add(server->untold, &second);
	if (server->told_strangers == STRANGER_LINES) {
		server->untold_strangers++;
		return;
	}
	server->told_strangers++;
	va_start(args, format);
	say(server, format, args);
	va_end(args);
}

/* A second after the first line: what was kept back, and the next lines may come. */
static void on_untold(evutil_socket_t fd, short what, void *arg)
{
	struct rdt_server *server = arg;

	(void)fd;
	(void)what;
	if (server->untold_strangers)
		say_stranger(server, "turned away %" PRIu64 " more in this second",
			     server->untold_strangers);
	server->told_strangers = 0;
	server->untold_strangers = 0;
}

/* ---- the doomed ---------------------------------------------------------------------------------
 */

static void reap(struct rdt_server *server)
{
	while (server->doomed) {
		struct srv_conn *conn = server->doomed;

		server->doomed = conn->next_doomed;
		if (conn->job)
			rdt_srv_gone(conn, false, conn->reason); /* may doom more */
		if (conn->newcomer)
			rdt_srv_newcomer_gone(conn);
		rdt_srv_conn_free(conn);
	}
	if (!server->members && !server->was_empty) {
		server->was_empty = true;
		if (server->config.empty)
			server->config.empty(server->config.arg);
	}
}

static void on_reap(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	reap(arg);
}

/* ---- limits -------------------------------------------------------------------------------------
 */

/* The counters of an address. Those without connections are freed as the chain is walked, so that
 * the table holds no more than the connections do. */
static struct srv_address *find_address(struct rdt_server *server, struct in6_addr ip)
{
	uint32_t h = 2166136261u;
	struct srv_address **at, *a;

	for (size_t i = 0; i < sizeof(ip.s6_addr); i++)
		h = (h ^ ip.s6_addr[i]) * 16777619u;
	at = &server->addresses[(h ^ h >> 16) % RDT_SRV_ADDRESS_BUCKETS];
	while (*at) {
		a = *at;
		if (!memcmp(&a->ip, &ip, sizeof(ip)))
			return a;
		if (a->all || a->strangers) {
			at = &a->next;
		} else {
			*at = a->next;
			free(a);
		}
	}
	a = calloc(1, sizeof(*a));
	if (a) {
		a->ip = ip;
		*at = a;
	}
	return a;
}

/* Why this one may not come in, or NULL. */
static const char *too_many(const struct rdt_server *server, const struct srv_address *a,
			    const struct srv_address *network)
{
	if (!a || !network)
		return "no memory";
	if (server->connections >= server->config.max_connections)
		return "the limit of connections is reached; raise RLIMIT_NOFILE";
	if (a->all >= server->config.max_per_address)
		return "the limit of connections from its address is reached";
	if (network->strangers >= server->config.max_strangers)
		return "too many from its address are not authenticated yet";
	/* The other half is for members. */
	if (server->strangers >= (server->config.max_connections + 1) / 2)
		return "too many from all addresses are not authenticated yet";
	return NULL;
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *sa,
		      int length, void *arg)
{
	struct rdt_server *server = arg;
	struct srv_address *address = find_address(server, rdt_address_ip(sa)), *network;
	const char *why;
	char peer[64];

	(void)listener;
	if (address)
		address->all++; /* or it might be freed as the other is looked for */
	network = find_address(server, rdt_address_network(sa));
	if (address)
		address->all--;
	why = too_many(server, address, network);
	rdt_address_text(sa, (socklen_t)length, peer, sizeof(peer));
	if (!why && !rdt_srv_conn_new(server, fd, address, network, peer))
		why = "no memory";
	if (why) {
		rdt_srv_log_stranger(server, "dropped a stranger, %s: %s", peer, why);
		evutil_closesocket(fd);
	}
}

/* Out of descriptors, most likely. The connection stays in the kernel's queue, and the listener
 * would report it without end: it rests a little. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	struct rdt_server *server = arg;
	struct timeval t = { .tv_usec = 100000 };

	rdt_srv_log_stranger(server, "cannot accept a connection: %s",
			     strerrordesc_np(EVUTIL_SOCKET_ERROR()));
	evconnlistener_disable(listener);
	evtimer_add(server->resume, &t);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct rdt_server *server = arg;

	(void)fd;
	(void)what;
	for (unsigned i = 0; i < server->n_listeners; i++)
		evconnlistener_enable(server->listeners[i]);
}

/* ---- beginning and end
 * --------------------------------------------------------------------------- */

static void fill_defaults(struct rdt_server_config *c)
{
	struct rlimit files;

	if (!c->max_connections) {
		rlim_t n = getrlimit(RLIMIT_NOFILE, &files) ? 1024 : files.rlim_cur;

		n = n > 2 * RDT_WORLD_MAX ? 2 * RDT_WORLD_MAX : n; /* also when unlimited */
		c->max_connections = n > 128 ? (unsigned)n - 64 : 64;
	}
	if (c->handshake_s <= 0)
		c->handshake_s = 5;
	if (!c->max_per_address)
		c->max_per_address = 4096;
	if (!c->max_strangers)
		c->max_strangers = 256;
	if (!c->max_jobs)
		c->max_jobs = 4096;
	if (!c->max_store_bytes)
		c->max_store_bytes = (size_t)256 << 20;
	if (!c->max_output_bytes)
		c->max_output_bytes = (size_t)16 << 20;
}

static int bound_port(evutil_socket_t fd)
{
	struct sockaddr_storage ss;
	socklen_t length = sizeof(ss);

	if (getsockname(fd, (struct sockaddr *)&ss, &length))
		return 0;
	return ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port
					      : ((struct sockaddr_in *)&ss)->sin_port);
}

/* Listens on every address of the name that this host has; with port 0 the first picks one for all.
 * One that is in use by another is an error: half of a name would be found by half of the workers.
 */
static int listen_on(struct rdt_server *server, const char *text)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC,
				  .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
	struct addrinfo *list;
	struct rdt_address address;
	bool in_use = false;
	int error = 0, n;

	if (!text || !rdt_address_parse(text, &address))
		return rdt_err(RDT_ERR_INVALID,
			       "'%s' is no address to listen on; write HOST:PORT or [IPV6]:PORT "
			       "(*:PORT for all interfaces)",
			       text ? text : "");
	n = getaddrinfo(strcmp(address.host, "*") ? address.host : NULL, address.port, &hints,
			&list);
	if (n)
		return rdt_err(RDT_ERR_INVALID, "cannot listen on %s: %s is no host here: %s", text,
			       address.host, gai_strerror(n));
	for (const struct addrinfo *ai = list; ai && server->n_listeners < RDT_SRV_LISTENERS;
	     ai = ai->ai_next) {
		struct evconnlistener *listener;
		struct sockaddr_storage ss = { 0 };

		memcpy(&ss, ai->ai_addr, ai->ai_addrlen);
		if (server->port && ss.ss_family == AF_INET)
			((struct sockaddr_in *)&ss)->sin_port = htons((uint16_t)server->port);
		else if (server->port)
			((struct sockaddr_in6 *)&ss)->sin6_port = htons((uint16_t)server->port);
		listener = evconnlistener_new_bind(
			server->base, on_accept, server,
			LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE |
				(ss.ss_family == AF_INET6 ? LEV_OPT_BIND_IPV6ONLY : 0),
			BACKLOG, (struct sockaddr *)&ss, (int)ai->ai_addrlen);
		if (!listener) {
			error = EVUTIL_SOCKET_ERROR();
			in_use |= error == EADDRINUSE && address.port_number;
			continue;
		}
		evconnlistener_set_error_cb(listener, on_accept_error);
		server->listeners[server->n_listeners++] = listener;
		if (!server->port)
			server->port = bound_port(evconnlistener_get_fd(listener));
	}
	freeaddrinfo(list);
	if (server->n_listeners && !in_use)
		return RDT_OK;
	if (in_use)
		error = EADDRINUSE;
	return rdt_err(error == EADDRINUSE || error == EADDRNOTAVAIL || error == EACCES
			       ? RDT_ERR_INVALID
			       : RDT_ERR_SYSTEM,
		       "cannot listen on %s: %s; choose an address of this host and a free port",
		       text, strerrordesc_np(error));
}

/* One for the process, and never freed: libevent frees connections in a later turn of the loop, or
 * with its base, after the server that had them. */
static BIO_METHOD *bio_method(void)
{
	static BIO_METHOD *method;

	if (!method)
		method = rdt_tls_bio_method();
	return method;
}

int rdt_server_new(struct event_base *base, const struct rdt_server_config *config,
		   struct rdt_server **out)
{
	struct rdt_server *server = calloc(1, sizeof(*server));
	int status = RDT_ERR_NOMEM;

	*out = NULL;
	if (!server)
		return rdt_err(RDT_ERR_NOMEM, "no memory for the rendezvous service");
	server->base = base;
	server->config = *config;
	server->was_empty = true;
	fill_defaults(&server->config);
	status = rdt_srv_secrets_new(config, &server->secrets);
	/* The table has them; the caller's strings may go. */
	server->config.secret = server->config.secret_file = server->config.listen = NULL;
	if (!status)
		status = rdt_tls_server_context(&server->ctx);
	if (status)
		goto fail;
	server->method = bio_method();
	server->reap = event_new(base, -1, 0, on_reap, server);
	server->resume = evtimer_new(base, on_resume, server);
	server->untold = evtimer_new(base, on_untold, server);
	if (!server->method || !server->reap || !server->resume || !server->untold ||
	    !rdt_srv_pulse_start(server)) {
		status = rdt_err(RDT_ERR_NOMEM, "no memory for the rendezvous service");
		goto fail;
	}
	status = listen_on(server, config->listen);
	if (status)
		goto fail;
	*out = server;
	return RDT_OK;

fail:
	rdt_server_free(server);
	return status;
}

int rdt_server_port(const struct rdt_server *server)
{
	return server->port;
}

unsigned rdt_server_members(const struct rdt_server *server)
{
	return server->members;
}

void rdt_server_free(struct rdt_server *server)
{
	if (!server)
		return;
	for (unsigned i = 0; i < server->n_listeners; i++)
		evconnlistener_free(server->listeners[i]);
	/* Nobody is told anything any more: to the members the service itself is gone. */
	while (server->jobs)
		rdt_srv_job_free(server->jobs);
	rdt_srv_newcomers_free(server);
	while (server->conns)
		rdt_srv_conn_free(server->conns);
	for (size_t i = 0; i < RDT_SRV_ADDRESS_BUCKETS; i++) {
		while (server->addresses[i]) {
			struct srv_address *a = server->addresses[i];

			server->addresses[i] = a->next;
			free(a);
		}
	}
	if (server->reap)
		event_free(server->reap);
	if (server->resume)
		event_free(server->resume);
	if (server->pulse)
		event_free(server->pulse);
	if (server->untold)
		event_free(server->untold);
	SSL_CTX_free(server->ctx);
	rdt_srv_secrets_free(server->secrets);
	free(server);
}
