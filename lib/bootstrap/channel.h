/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client's connection to the rendezvous service: TCP, TLS and frames, with deadlines. Knows the
 * frames' types only as far as saying hello. Once something is wrong with it a channel is dead and
 * stays so; `why` says what was wrong.
 */
#ifndef RDT_CHANNEL_H
#define RDT_CHANNEL_H

#include "lib/bootstrap/tls.h"
#include "lib/bootstrap/wire.h"

struct rdt_channel {
	int fd;
	SSL *ssl;
	SSL_CTX *ctx;
	BIO_METHOD *method;
	struct rdt_psk psk;
	bool dead;
	char why[RDT_TEXT_MAX];
	size_t in_have, in_used, out_have;
	unsigned char in[2 * RDT_FRAME_MAX];
	unsigned char out[2 * RDT_FRAME_MAX];
};

/* Readies `channel` (zeroed memory) for connections of this job; rdt_channel_free undoes it. */
int rdt_channel_init(struct rdt_channel *channel, const char *job, const char *secret);
void rdt_channel_free(struct rdt_channel *channel);

/*
 * One attempt: connects to one of the addresses of host and port and shakes hands. AUTH: the
 * service does not take the key. UNREACHABLE with *again true: worth another attempt.
 */
int rdt_channel_connect(struct rdt_channel *channel, const char *host, const char *port,
			int64_t deadline, bool *again);
/* Drops the connection without a word, so that another can be made. */
void rdt_channel_disconnect(struct rdt_channel *channel);

/* It is dead from now on, unless it was, and this is why. */
void rdt_channel_give_up(struct rdt_channel *channel, const char *why);

/*
 * Queues the message and sends what the socket takes by the deadline (0: now). 0, RDT_AGAIN: some
 * of it is still queued, or negative: dead, or no room (the queue holds two of the largest frames).
 */
int rdt_channel_send(struct rdt_channel *channel, const struct rdt_message *message,
		     int64_t deadline);
int rdt_channel_flush(struct rdt_channel *channel, int64_t deadline);

/* The next message by the deadline (0: one that is there already). 0, RDT_AGAIN: none, negative:
 * dead. message->value is valid until the next call. */
int rdt_channel_receive(struct rdt_channel *channel, struct rdt_message *message, int64_t deadline);

#endif
