/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One attempt to reach the rendezvous service: every address of its name in turn, then the TLS
 * handshake. Whether to try again is said here and done in client_join.c.
 */
#include "lib/bootstrap/channel.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/bootstrap/address.h"

#define ONE_ADDRESS_NS 2000000000ll /* so that an address that swallows packets leaves time */
#define HANDSHAKE_NS 5000000000ll

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* With nobody listening on a local port of the ephemeral range, a connect may pick that very port
 * as its own and meet itself. */
static bool met_itself(int fd)
{
	struct sockaddr_storage a = { 0 }, b = { 0 };
	socklen_t na = sizeof(a), nb = sizeof(b);

	return !getsockname(fd, (struct sockaddr *)&a, &na) &&
	       !getpeername(fd, (struct sockaddr *)&b, &nb) && na == nb && !memcmp(&a, &b, na);
}

/* A connected socket, or -1 with errno. */
static int connect_one(const struct addrinfo *ai, int64_t deadline)
{
	int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
			ai->ai_protocol);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t length = sizeof(int);
	int error = 0, n, left;

	if (fd < 0)
		return -1;
	rdt_socket_tune(fd);
	if (connect(fd, ai->ai_addr, ai->ai_addrlen) && errno != EINPROGRESS && errno != EINTR) {
		error = errno;
		goto failed;
	}
	do {
		left = rdt_left_ms(deadline);
		n = poll(&p, 1, left);
	} while (n < 0 ? errno == EINTR : (n == 0 && left));
	if (n <= 0)
		error = n ? errno : ETIMEDOUT;
	else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length))
		error = errno;
	else if (!error && met_itself(fd))
		error = ECONNREFUSED;
	if (!error)
		return fd;
failed:
	close(fd);
	errno = error;
	return -1;
}

static int connect_any(struct rdt_channel *c, const char *host, const char *port, int64_t deadline)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct addrinfo *list = NULL;
	int error = 0, n;

	/* Numbers first: they need no name service, which may take its time. */
	hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
	n = getaddrinfo(host, port, &hints, &list);
	if (n) {
		hints.ai_flags = AI_NUMERICSERV;
		n = getaddrinfo(host, port, &hints, &list);
	}
	if (n) {
		snprintf(c->why, sizeof(c->why), "%s cannot be resolved: %s", host,
			 n == EAI_SYSTEM ? strerrordesc_np(errno) : gai_strerror(n));
		return RDT_ERR_UNREACHABLE;
	}
	for (const struct addrinfo *ai = list; ai && c->fd < 0; ai = ai->ai_next) {
		c->fd = connect_one(ai, earlier(deadline, rdt_now() + ONE_ADDRESS_NS));
		if (c->fd < 0)
			error = errno;
	}
	freeaddrinfo(list);
	if (c->fd >= 0)
		return RDT_OK;
	snprintf(c->why, sizeof(c->why), "%s", strerrordesc_np(error));
	return RDT_ERR_UNREACHABLE;
}

/* Why the handshake failed, and what follows from it. */
static int handshake_failed(struct rdt_channel *c, int result, int error, bool *again)
{
	int ssl_error = SSL_get_error(c->ssl, result);
	unsigned long e = ERR_peek_error();
	char reason[128];

	if (ssl_error == SSL_ERROR_SYSCALL || ssl_error == SSL_ERROR_ZERO_RETURN) {
		/* Hung up: it is full or just ending. Both may pass. */
		ERR_clear_error();
		*again = true;
		snprintf(c->why, sizeof(c->why), "%s",
			 error ? strerrordesc_np(error) : "it closed the connection at once");
		return RDT_ERR_UNREACHABLE;
	}
	rdt_tls_reason(reason, sizeof(reason));
	/* Reasons from here on are alerts that the other side sent. */
	if (ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) >= SSL_AD_REASON_OFFSET)
		return RDT_ERR_AUTH;
	*again = false;
	snprintf(c->why, sizeof(c->why), "what answers there is no rendezvous service (TLS: %s)",
		 reason);
	return RDT_ERR_UNREACHABLE;
}

static int handshake(struct rdt_channel *c, int64_t deadline, bool *again)
{
	struct pollfd p = { .fd = c->fd };

	c->ssl = rdt_tls_connect(c->ctx, c->method, c->fd, &c->psk);
	if (!c->ssl) {
		ERR_clear_error();
		return rdt_err(RDT_ERR_NOMEM, "no memory for a TLS connection");
	}
	for (;;) {
		int n, error, left;

		ERR_clear_error();
		errno = 0;
		n = SSL_do_handshake(c->ssl);
		error = errno;
		if (n == 1)
			break;
		switch (SSL_get_error(c->ssl, n)) {
		case SSL_ERROR_WANT_READ: p.events = POLLIN; break;
		case SSL_ERROR_WANT_WRITE: p.events = POLLOUT; break;
		default: return handshake_failed(c, n, error, again);
		}
		left = rdt_left_ms(deadline);
		if (!left) {
			*again = true;
			snprintf(c->why, sizeof(c->why),
				 "it took the connection but did not finish the TLS handshake");
			return RDT_ERR_UNREACHABLE;
		}
		(void)poll(&p, 1, left);
	}
	return rdt_tls_authenticated(c->ssl) ? RDT_OK : RDT_ERR_AUTH;
}

int rdt_channel_connect(struct rdt_channel *c, const char *host, const char *port, int64_t deadline,
			bool *again)
{
	int status;

	c->dead = false;
	c->why[0] = 0;
	*again = true;
	status = connect_any(c, host, port, deadline);
	if (!status)
		status = handshake(c, earlier(deadline, rdt_now() + HANDSHAKE_NS), again);
	if (status)
		rdt_channel_disconnect(c);
	return status;
}
