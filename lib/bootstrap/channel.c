/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames over TLS over a non-blocking socket (channel.h). Connecting is in connect.c. */
#include "lib/bootstrap/channel.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"

int rdt_channel_init(struct rdt_channel *c, const char *job, const char *secret)
{
	int status;

	c->fd = -1;
	status = rdt_psk_derive(job, secret, &c->psk);
	if (status)
		return status;
	status = rdt_tls_client_context(&c->ctx);
	if (status)
		return status;
	c->method = rdt_tls_bio_method();
	if (!c->method)
		return rdt_err(RDT_ERR_NOMEM, "no memory for a connection to the rendezvous");
	return RDT_OK;
}

void rdt_channel_disconnect(struct rdt_channel *c)
{
	SSL_free(c->ssl);
	c->ssl = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->in_have = c->in_used = c->out_have = 0;
}

void rdt_channel_free(struct rdt_channel *c)
{
	rdt_channel_disconnect(c);
	SSL_CTX_free(c->ctx);
	BIO_meth_free(c->method);
	explicit_bzero(&c->psk, sizeof(c->psk));
}

__attribute__((format(printf, 2, 3))) static int die(struct rdt_channel *c, const char *format, ...)
{
	va_list args;

	if (!c->dead) {
		va_start(args, format);
		vsnprintf(c->why, sizeof(c->why), format, args);
		va_end(args);
		c->dead = true;
	}
	return RDT_ERR_UNREACHABLE;
}

void rdt_channel_give_up(struct rdt_channel *c, const char *why)
{
	(void)die(c, "%s", why);
	/* Should the other side be there after all, it learns that this one has gone. */
	if (c->fd >= 0)
		shutdown(c->fd, SHUT_RDWR);
}

/* What an SSL call that did not succeed wants: 0 with *events to poll for, or dead. */
static int wanted(struct rdt_channel *c, int result, int error, short *events)
{
	char reason[128];

	switch (SSL_get_error(c->ssl, result)) {
	case SSL_ERROR_WANT_READ: *events = POLLIN; return 0;
	case SSL_ERROR_WANT_WRITE: *events = POLLOUT; return 0;
	case SSL_ERROR_ZERO_RETURN: return die(c, "the service closed the connection");
	case SSL_ERROR_SYSCALL:
		ERR_clear_error();
		return error ? die(c, "%s", strerrordesc_np(error))
			     : die(c, "the service closed the connection");
	default: rdt_tls_reason(reason, sizeof(reason)); return die(c, "TLS: %s", reason);
	}
}

/* Waits for the socket: 0, or RDT_AGAIN at the deadline (0: do not wait). */
static int await(struct rdt_channel *c, short events, int64_t deadline)
{
	struct pollfd p = { .fd = c->fd, .events = events };

	for (;;) {
		int left = deadline ? rdt_left_ms(deadline) : 0;
		int n = left ? poll(&p, 1, left) : 0;

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return die(c, "poll: %s", strerrordesc_np(errno));
		if (!left)
			return RDT_AGAIN;
	}
}

int rdt_channel_flush(struct rdt_channel *c, int64_t deadline)
{
	while (!c->dead && c->out_have) {
		short events;
		int n, status;

		ERR_clear_error();
		errno = 0;
		n = SSL_write(c->ssl, c->out, (int)c->out_have);
		if (n > 0) {
			c->out_have -= (size_t)n;
			memmove(c->out, c->out + n, c->out_have);
			continue;
		}
		status = wanted(c, n, errno, &events);
		if (!status)
			status = await(c, events, deadline);
		if (status)
			return status;
	}
	return c->dead ? RDT_ERR_UNREACHABLE : RDT_OK;
}

int rdt_channel_send(struct rdt_channel *c, const struct rdt_message *m, int64_t deadline)
{
	size_t n;

	if (c->dead)
		return RDT_ERR_UNREACHABLE;
	n = rdt_frame_encode(m, c->out + c->out_have, sizeof(c->out) - c->out_have);
	if (!n)
		return die(c, "the service takes no more bytes");
	c->out_have += n;
	return rdt_channel_flush(c, deadline);
}

/* A whole frame at the front of `in`: 0. */
static int take(struct rdt_channel *c, struct rdt_message *m)
{
	size_t have = c->in_have - c->in_used;
	const unsigned char *at = c->in + c->in_used;
	uint32_t length;

	if (have < RDT_FRAME_HEADER)
		return RDT_AGAIN;
	length = rdt_frame_length(at);
	if (length > RDT_FRAME_BODY_MAX)
		return die(c, "the service sent a frame of %u bytes; the limit is %d", length,
			   RDT_FRAME_BODY_MAX);
	if (have < RDT_FRAME_HEADER + length)
		return RDT_AGAIN;
	if (!rdt_frame_decode(at + RDT_FRAME_HEADER, length, m))
		return die(c, "the service sent a frame that cannot be read");
	c->in_used += RDT_FRAME_HEADER + length;
	return RDT_OK;
}

int rdt_channel_receive(struct rdt_channel *c, struct rdt_message *m, int64_t deadline)
{
	for (;;) {
		short events;
		int n, status;

		/* Frames that came before the connection died are still good. */
		status = take(c, m);
		if (status != RDT_AGAIN)
			return status;
		if (c->dead)
			return RDT_ERR_UNREACHABLE;
		c->in_have -= c->in_used;
		memmove(c->in, c->in + c->in_used, c->in_have);
		c->in_used = 0;

		ERR_clear_error();
		errno = 0;
		n = SSL_read(c->ssl, c->in + c->in_have, (int)(sizeof(c->in) - c->in_have));
		if (n > 0) {
			c->in_have += (size_t)n;
			continue;
		}
		status = wanted(c, n, errno, &events);
		if (!status) /* queued bytes may be what the other side waits for */
			status = await(c, events | (c->out_have ? POLLOUT : 0), deadline);
		if (status)
			return status;
		if (c->out_have)
			(void)rdt_channel_flush(c, 0);
	}
}
