/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * OpenSSL for both sides of the rendezvous (tls.h). Touches no setting that the host process
 * shares: everything is set on contexts of our own.
 */
#include "lib/bootstrap/tls.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>

#include "lib/base/error.h"

/* TLS_AES_128_GCM_SHA256 (RFC 8446, B.4). A key belongs to one hash, so there is one suite. */
static const unsigned char suite[2] = { 0x13, 0x01 };
static const char suite_name[] = "TLS_AES_128_GCM_SHA256";

void rdt_tls_reason(char *text, size_t room)
{
	unsigned long e = ERR_get_error();
	const char *reason = e ? ERR_reason_error_string(e) : NULL;

	snprintf(text, room, "%s", reason ? reason : "no reason given");
	ERR_clear_error();
}

static int tls_error(const char *what)
{
	char reason[128];

	rdt_tls_reason(reason, sizeof(reason));
	return rdt_err(RDT_ERR_SYSTEM, "OpenSSL cannot %s: %s; check its installation and policy",
		       what, reason);
}

int rdt_psk_derive(const char *job, const char *secret, struct rdt_psk *psk)
{
	static char salt[] = "librdtrain rendezvous, version 1";
	char info[16 + sizeof(psk->job)];
	EVP_KDF *kdf = NULL;
	EVP_KDF_CTX *ctx = NULL;
	OSSL_PARAM params[5];
	int status = RDT_OK;

	snprintf(psk->job, sizeof(psk->job), "%s", job);
	snprintf(info, sizeof(info), "tls13 psk job %s", psk->job);
	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0);
	params[1] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret,
						      strlen(secret));
	params[2] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt, strlen(salt));
	params[3] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, strlen(info));
	params[4] = OSSL_PARAM_construct_end();

	ERR_clear_error();
	kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	if (!ctx || EVP_KDF_derive(ctx, psk->key, sizeof(psk->key), params) <= 0)
		status = tls_error("derive the job's key");
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return status;
}

/* An external key goes to OpenSSL dressed as a session to resume. */
static SSL_SESSION *psk_session(SSL *ssl, const unsigned char key[RDT_PSK_BYTES])
{
	const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, suite);
	SSL_SESSION *session = cipher ? SSL_SESSION_new() : NULL;

	if (session && SSL_SESSION_set1_master_key(session, key, RDT_PSK_BYTES) &&
	    SSL_SESSION_set_cipher(session, cipher) &&
	    SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION))
		return session;
	SSL_SESSION_free(session);
	return NULL;
}

static int use_psk(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_length,
		   SSL_SESSION **session)
{
	struct rdt_psk *psk = SSL_get_app_data(ssl);

	if (md && !EVP_MD_is_a(md, "SHA256"))
		return 0;
	*session = psk_session(ssl, psk->key);
	*id = (const unsigned char *)psk->job;
	*id_length = strlen(psk->job);
	return *session != NULL;
}

static int find_psk(SSL *ssl, const unsigned char *id, size_t id_length, SSL_SESSION **session)
{
	struct rdt_psk_lookup *lookup = SSL_get_app_data(ssl);
	struct rdt_psk *psk = &lookup->psk;

	*session = NULL;
	lookup->known = false;
	if (id_length && id_length < sizeof(psk->job) && !memchr(id, 0, id_length)) {
		memcpy(psk->job, id, id_length);
		psk->job[id_length] = 0;
		lookup->known = lookup->find(lookup);
	}
	/* An unknown job gets a key that nobody has, so that it fails exactly as a wrong secret
	 * does: a stranger does not learn which jobs there are. */
	if (!lookup->known && RAND_bytes(psk->key, sizeof(psk->key)) != 1)
		return 0;
	*session = psk_session(ssl, psk->key);
	OPENSSL_cleanse(psk->key, sizeof(psk->key));
	return *session != NULL;
}

static int new_context(const SSL_METHOD *method, SSL_CTX **out)
{
	SSL_CTX *ctx;

	ERR_clear_error();
	ctx = SSL_CTX_new(method);
	if (!ctx)
		return tls_error("make a TLS context");
	if (!SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ||
	    !SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(ctx, suite_name) || !SSL_CTX_set_num_tickets(ctx, 0)) {
		SSL_CTX_free(ctx);
		return tls_error("be set to TLS 1.3 with TLS_AES_128_GCM_SHA256");
	}
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
					 SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_clear_options(ctx, SSL_OP_ALLOW_NO_DHE_KEX);
	SSL_CTX_set_max_early_data(ctx, 0);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				      SSL_MODE_RELEASE_BUFFERS);
	/* A peer with a certificate in place of the key must fail: nothing is trusted. */
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_max_cert_list(ctx, 1024);
	*out = ctx;
	return RDT_OK;
}

int rdt_tls_client_context(SSL_CTX **ctx)
{
	int status = new_context(TLS_client_method(), ctx);

	if (!status)
		SSL_CTX_set_psk_use_session_callback(*ctx, use_psk);
	return status;
}

int rdt_tls_server_context(SSL_CTX **ctx)
{
	int status = new_context(TLS_server_method(), ctx);

	if (!status) {
		SSL_CTX_set_psk_find_session_callback(*ctx, find_psk);
		/* The server asks for no certificate; SSL_VERIFY_PEER would make it ask. */
		SSL_CTX_set_verify(*ctx, SSL_VERIFY_NONE, NULL);
	}
	return status;
}

/* ---- bytes --------------------------------------------------------------------------------- */

static int bio_fd(BIO *bio)
{
	return (int)(intptr_t)BIO_get_data(bio);
}

static int bio_write(BIO *bio, const char *bytes, int length)
{
	ssize_t n = send(bio_fd(bio), bytes, (size_t)length, MSG_NOSIGNAL);

	BIO_clear_retry_flags(bio);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_retry_write(bio);
	return (int)n;
}

static int bio_read(BIO *bio, char *bytes, int length)
{
	ssize_t n = recv(bio_fd(bio), bytes, (size_t)length, 0);

	BIO_clear_retry_flags(bio);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_retry_read(bio);
	BIO_set_flags(bio, n == 0 ? BIO_FLAGS_IN_EOF : 0);
	return (int)n;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
	(void)number;
	switch (command) {
	case BIO_CTRL_FLUSH: return 1;
	case BIO_CTRL_EOF: return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
	case BIO_C_GET_FD:
		if (pointer)
			*(int *)pointer = bio_fd(bio);
		return bio_fd(bio);
	default: return 0;
	}
}

BIO_METHOD *rdt_tls_bio_method(void)
{
	/* The type has no index of its own: BIO_get_new_index() would use up a global one. */
	BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "rdtrain socket");

	if (method && BIO_meth_set_write(method, bio_write) &&
	    BIO_meth_set_read(method, bio_read) && BIO_meth_set_ctrl(method, bio_control))
		return method;
	BIO_meth_free(method);
	return NULL;
}

static SSL *new_ssl(SSL_CTX *ctx, BIO_METHOD *method, int fd, void *data)
{
	SSL *ssl = SSL_new(ctx);
	BIO *bio = ssl ? BIO_new(method) : NULL;

	if (!bio) {
		SSL_free(ssl);
		return NULL;
	}
	BIO_set_data(bio, (void *)(intptr_t)fd);
	BIO_set_init(bio, 1);
	SSL_set_bio(ssl, bio, bio);
	SSL_set_app_data(ssl, data);
	return ssl;
}

SSL *rdt_tls_connect(SSL_CTX *ctx, BIO_METHOD *method, int fd, struct rdt_psk *psk)
{
	SSL *ssl = new_ssl(ctx, method, fd, psk);

	if (ssl)
		SSL_set_connect_state(ssl);
	return ssl;
}

SSL *rdt_tls_accept(SSL_CTX *ctx, BIO_METHOD *method, int fd, struct rdt_psk_lookup *lookup)
{
	SSL *ssl = new_ssl(ctx, method, fd, lookup);

	if (ssl)
		SSL_set_accept_state(ssl);
	return ssl;
}

bool rdt_tls_authenticated(const SSL *ssl)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);

	return SSL_is_init_finished(ssl) && SSL_version(ssl) == TLS1_3_VERSION && cipher &&
	       SSL_CIPHER_get_protocol_id(cipher) == ((suite[0] << 8) | suite[1]) &&
	       SSL_session_reused(ssl);
}
