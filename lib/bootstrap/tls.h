/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TLS 1.3 with the job's secret as an external pre-shared key (RFC 8446, 4.2.11) and a fresh
 * Diffie-Hellman exchange (psk_dhe_ke), for both sides. There are no certificates: who does not
 * hold the secret ends in the handshake. No tickets, no early data, nothing resumed.
 *
 * The PSK identity is the job's name, so that the service can look up its key.
 */
#ifndef RDT_TLS_H
#define RDT_TLS_H

#include <stdbool.h>

#include <openssl/ssl.h>

#define RDT_PSK_BYTES 32

/* The key of one job, and for the service: who asks. */
struct rdt_psk {
	char job[64];
	unsigned char key[RDT_PSK_BYTES];
};

/* HKDF-SHA256 of the secret, bound to the job's name. */
int rdt_psk_derive(const char *job, const char *secret, struct rdt_psk *psk);

/*
 * How the service finds a key: fills psk->key for psk->job and returns true, or false for a job it
 * does not know. One for each connection, set by rdt_tls_accept().
 */
struct rdt_psk_lookup {
	bool (*find)(struct rdt_psk_lookup *lookup);
	struct rdt_psk psk; /* the job that the peer named; "" before it did */
	bool known;	    /* find() said so */
};

/* Contexts for many connections. SYSTEM with OpenSSL's reason. */
int rdt_tls_client_context(SSL_CTX **ctx);
int rdt_tls_server_context(SSL_CTX **ctx);

/* Bytes by send(2) with MSG_NOSIGNAL: a dead peer must not kill a host process by SIGPIPE. NULL
 * when there is no memory. Lives longer than the connections made with it. */
BIO_METHOD *rdt_tls_bio_method(void);

/* One side of a connection over a non-blocking socket, which stays the caller's. The psk or lookup
 * must live as long. NULL when there is no memory. */
SSL *rdt_tls_connect(SSL_CTX *ctx, BIO_METHOD *method, int fd, struct rdt_psk *psk);
SSL *rdt_tls_accept(SSL_CTX *ctx, BIO_METHOD *method, int fd, struct rdt_psk_lookup *lookup);

/* After the handshake: was it TLS 1.3, and was the key really used? */
bool rdt_tls_authenticated(const SSL *ssl);

/* Empties OpenSSL's error queue of this thread and says in a few words what stood first in it. */
void rdt_tls_reason(char *text, size_t room);

#endif
