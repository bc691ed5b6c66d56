/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the rendezvous service share. Downwards:
 *
 *	server.c	 listening, limits on connections, start and end
 *	server_conn.c	 one connection: TLS, frames, deadline, dropping
 *	server_job.c	 one job: members, the store's requests, events
 *	server_fence.c	 its fences
 *	server_verdict.c how it ends, for all members alike
 *	server_pulse.c	 silent hosts
 *	server_group.c	 who goes on in a next generation
 *	server_store.c	 its keys and values
 *	server_secret.c	 which key a job has
 *
 * Everything runs in one thread, in the callbacks of one event loop. A connection is never freed
 * where it is found to be bad, but put aside and freed by the loop's next turn (rdt_srv_drop), so
 * that whoever walks over members may drop any of them.
 */
#ifndef RDT_SERVER_PARTS_H
#define RDT_SERVER_PARTS_H

#include <netinet/in.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include "lib/bootstrap/pulse.h"
#include "lib/bootstrap/server.h"
#include "lib/bootstrap/tls.h"
#include "lib/bootstrap/wire.h"

#define RDT_SRV_ADDRESS_BUCKETS 1024
#define RDT_SRV_LISTENERS 8

/* ---- connections -------------------------------------------------------------------------------
 */

enum srv_state {
	SRV_HANDSHAKE, /* TLS */
	SRV_HELLO,     /* authenticated; its hello is awaited */
	SRV_MEMBER,    /* of conn->job, as conn->rank */
	SRV_CLOSING,   /* refused; lives until it has read why */
	SRV_DOOMED,    /* freed by the loop's next turn */
};

/*
 * How many connections one IP address has, and how many strangers one network: a host of IPv6 may
 * have all addresses of a network, and a cluster may be all in one.
 */
struct srv_address {
	struct in6_addr ip;
	unsigned all, strangers;
	struct srv_address *next;
};

struct srv_conn {
	struct rdt_server *server;
	struct srv_conn *prev, *next; /* all connections */
	struct srv_conn *next_doomed;
	enum srv_state state;
	struct bufferevent *bev;
	struct event *deadline;
	struct srv_address *address, *network;
	bool stranger; /* counted as such */
	char peer[64]; /* "10.0.0.7:41234" */
	struct rdt_psk_lookup lookup;
	char reason[160]; /* why it is doomed */
	struct rdt_pulse pulse;

	struct srv_job *job;
	uint32_t rank;
	/* The get that is parked until its key is put; one at most, for a member waits for one. */
	bool waiting;
	uint32_t wait_number, wait_rank;
	char wait_key[RDT_KEY_MAX];
	struct srv_conn *wait_prev, *wait_next; /* others that wait for the same rank */

	struct srv_newcomer *newcomer; /* it is no member yet, and wants to be one */
	uint32_t regroup_number;       /* of its REGROUP that waits for an answer */
};

/* Waits to be admitted to any job of that name; server_group.c. */
struct srv_newcomer {
	struct srv_conn *conn;
	struct srv_newcomer *next;
	char job[64];
	struct srv_group *group; /* that has admitted it, or NULL */
	bool came, stands;
};

struct rdt_server {
	struct event_base *base;
	struct rdt_server_config config; /* defaults filled in */
	struct evconnlistener *listeners[RDT_SRV_LISTENERS];
	unsigned n_listeners;
	struct event *reap, *resume, *pulse, *untold;
	unsigned told_strangers; /* lines about strangers since `untold` was last at zero */
	uint64_t untold_strangers;
	SSL_CTX *ctx;
	BIO_METHOD *method;
	struct srv_secrets *secrets;
	int port;
	unsigned connections, strangers, members, n_jobs;
	bool was_empty; /* nothing to tell config.empty */
	struct srv_conn *conns, *doomed;
	struct srv_job *jobs;
	struct srv_newcomer *newcomers; /* in the order in which they came */
	struct srv_address *addresses[RDT_SRV_ADDRESS_BUCKETS];
	unsigned char frame[RDT_FRAME_MAX]; /* where messages are put together */
};

/* Begins to look for silent hosts; server_pulse.c. */
bool rdt_srv_pulse_start(struct rdt_server *server);

void rdt_srv_log(struct rdt_server *server, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* What strangers cause: so many lines a second and no more. */
void rdt_srv_log_stranger(struct rdt_server *server, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Takes over the socket of a stranger. False, the socket still the caller's, without memory. */
bool rdt_srv_conn_new(struct rdt_server *server, int fd, struct srv_address *address,
		      struct srv_address *network, const char *peer);
/* Frees it now: only for the loop's turn that frees the doomed, and for the end. */
void rdt_srv_conn_free(struct srv_conn *conn);
void rdt_srv_send(struct srv_conn *conn, const struct rdt_message *message);
void rdt_srv_drop(struct srv_conn *conn, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Sends why (status may be RDT_AGAIN: may try again), and drops it when that has been read. */
void rdt_srv_refuse(struct srv_conn *conn, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Adds the bytes that have come and gone over this connection, with those of TLS. */
void rdt_srv_traffic(const struct srv_conn *conn, uint64_t *in, uint64_t *out);
/* It has said its hello well. */
void rdt_srv_accepted(struct srv_conn *conn);

/* ---- jobs ---------------------------------------------------------------------------------------
 */

enum srv_member_state { SRV_AWAITED, SRV_HERE, SRV_LEFT, SRV_LOST };

struct srv_member {
	struct srv_conn *conn; /* when here */
	struct srv_conn *waiters;
	uint32_t fences; /* that it has come to */
	enum srv_member_state state;
	/* server_verdict.c */
	bool answered; /* knows that the job has failed */
	bool lost;     /* by the verdict */
	bool excluded; /* the others go on without it, even if it should come */
	/* server_group.c */
	bool came, stands; /* to the round that is open; with a communicator of the last group */
	bool grouped;	   /* is in the last group */
};

struct srv_entry {
	struct srv_entry *next;
	uint32_t rank, length;
	char key[RDT_KEY_MAX];
	unsigned char value[];
};

struct srv_store {
	struct srv_entry **buckets;
	size_t n_buckets, n_entries, bytes;
};

/* One incarnation of a job: from its first member's hello until all that came have gone. */
struct srv_job {
	struct rdt_server *server;
	struct srv_job *next;
	char name[64];
	uint32_t world;
	unsigned char nonce[RDT_JOB_NONCE_BYTES];
	unsigned here, left, lost;
	uint64_t bytes_in, bytes_out; /* of those that have gone */
	bool aborted;		      /* by a member; then `failing`, too */
	bool failing;		      /* the first failure is known: */
	int32_t abort_status;
	uint32_t abort_rank; /* who said so; UINT32_MAX: the service itself */
	char abort_text[RDT_TEXT_MAX];
	unsigned char *suspects; /* one bit a rank; the lost, when the verdict has been given */
	struct event *judge;
	int wait_ms, waited_ms; /* before judging: the wait that runs, and those that are over */
	bool judged;
	struct srv_group *group; /* NULL: nobody has regrouped */
	struct srv_store store;
	struct srv_fence *fences;
	unsigned n_fences;
	struct srv_member members[];
};

void rdt_srv_hello(struct srv_conn *conn, const struct rdt_message *hello);
void rdt_srv_request(struct srv_conn *conn, const struct rdt_message *request);
/* A member's connection has ended. */
void rdt_srv_gone(struct srv_conn *conn, bool orderly, const char *reason);
void rdt_srv_job_free(struct srv_job *job);

/* An event for all members but `rank`, and the end of what they cannot wait for any more. */
void rdt_srv_tell_others(struct srv_job *job, enum rdt_bootstrap_event_kind kind, uint32_t rank,
			 const char *text);
/* A member speaks of a failure; server_verdict.c. */
void rdt_srv_aborted(struct srv_conn *conn, const struct rdt_message *request);
void rdt_srv_member_lost(struct srv_job *job, uint32_t rank);
/* Gives the verdict now, if one is to be given. */
void rdt_srv_judge(struct srv_job *job);
void rdt_srv_verdict_free(struct srv_job *job);

/* server_group.c */
void rdt_srv_regroup(struct srv_conn *conn, const struct rdt_message *request);
/* The job has failed: it is not made larger any more. */
void rdt_srv_group_failed(struct srv_job *job, int status, const char *text);
/* A member of the job has gone. */
void rdt_srv_group_gone(struct srv_job *job, uint32_t rank);
void rdt_srv_group_free(struct srv_job *job);
/* A connection that wants to be admitted, what it sends, and its end. */
void rdt_srv_newcomer(struct srv_conn *conn, const struct rdt_message *hello);
void rdt_srv_newcomer_request(struct srv_conn *conn, const struct rdt_message *request);
void rdt_srv_newcomer_gone(struct srv_conn *conn);
/* The last generation of that name has ended: nobody will admit them. */
void rdt_srv_newcomers_over(struct rdt_server *server, const char *job);
void rdt_srv_newcomers_free(struct rdt_server *server);
/* Tells a new member how many wait to be admitted. */
void rdt_srv_tell_waiting(struct srv_conn *conn);

/* "train" of "train/0123456789abcdef": all generations and parts of a job have that in common. */
size_t rdt_srv_stem(const char *name);
bool rdt_srv_same_stem(const char *a, const char *b);

/*
 * Why nobody can wait in this job any more, as a status with its sentence in text; 0 while one can.
 */
int rdt_srv_job_failure(const struct srv_job *job, char text[RDT_TEXT_MAX]);

/* "rank 2", "ranks 2, 5-9 and 40 more": those that `is` says. */
void rdt_srv_ranks(const struct srv_job *job,
		   bool (*is)(const struct srv_member *member, uint32_t number), uint32_t number,
		   char *text, size_t room);

void rdt_srv_fence(struct srv_conn *conn, const struct rdt_message *request);
void rdt_srv_who(struct srv_conn *conn, const struct rdt_message *request);
/* A member was lost, has left, or the job was aborted: ends the fences that cannot be met now. */
void rdt_srv_fences_recheck(struct srv_job *job);
void rdt_srv_fences_free(struct srv_job *job);

/* 0, or INVALID (put before) or NOMEM (over `limit`) with the sentence in text. */
int rdt_srv_store_put(struct srv_store *store, size_t limit, uint32_t rank,
		      const struct rdt_message *put, char text[RDT_TEXT_MAX]);
/* Nothing when there is none. */
void rdt_srv_store_drop(struct srv_store *store, uint32_t rank, const char *key);
const struct srv_entry *rdt_srv_store_get(const struct srv_store *store, uint32_t rank,
					  const char *key);
void rdt_srv_store_free(struct srv_store *store);

/* ---- secrets ------------------------------------------------------------------------------------
 */

int rdt_srv_secrets_new(const struct rdt_server_config *config, struct srv_secrets **secrets);
void rdt_srv_secrets_free(struct srv_secrets *secrets);
/* Fills psk->key for psk->job. */
bool rdt_srv_secrets_find(const struct srv_secrets *secrets, struct rdt_psk *psk);

#endif
