/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Jobs and their members: who may join, the store's requests, and who is told what when a member is
 * lost, leaves or aborts. The order for every member is: first the event, then the end of what it
 * waits for. Knows nothing of sockets.
 */
#include "lib/bootstrap/server_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>

#include "lib/base/error.h"

/* Of the places for jobs, those that the parts and generations of one may have. */
#define SHARE 4
#define SHARE_MIN 64

/* ---- words -------------------------------------------------------------------------------------
 */

void rdt_srv_ranks(const struct srv_job *job,
		   bool (*is)(const struct srv_member *member, uint32_t number), uint32_t number,
		   char *text, size_t room)
{
	size_t used = 0;
	uint32_t named = 0, more = 0;
	char list[256] = "";

	for (uint32_t r = 0; r < job->world; r++) {
		uint32_t last = r;

		if (!is(&job->members[r], number))
			continue;
		while (last + 1 < job->world && is(&job->members[last + 1], number))
			last++;
		/* Room for one more range and for " and 65536 more" behind it. */
		if (used + 40 > sizeof(list) || used + 60 > room) {
			more += last - r + 1;
		} else {
			used += (size_t)snprintf(list + used, sizeof(list) - used,
						 last > r ? "%s%u-%u" : "%s%u", named ? ", " : "",
						 r, last);
			named += last - r + 1;
		}
		r = last;
	}
	if (more)
		snprintf(list + used, sizeof(list) - used, " and %u more", more);
	if (named)
		snprintf(text, room, "%s %s", named + more > 1 ? "ranks" : "rank", list);
	else
		text[0] = 0;
}

static bool is_lost(const struct srv_member *m, uint32_t number)
{
	(void)number;
	return m->state == SRV_LOST;
}

int rdt_srv_job_failure(const struct srv_job *job, char text[RDT_TEXT_MAX])
{
	char ranks[200];

	if (job->aborted) {
		snprintf(text, RDT_TEXT_MAX, "rank %u aborted job %s: %.400s", job->abort_rank,
			 job->name, job->abort_text);
		return RDT_ERR_ABORTED;
	}
	if (!job->lost)
		return RDT_OK;
	rdt_srv_ranks(job, is_lost, 0, ranks, sizeof(ranks));
	snprintf(text, RDT_TEXT_MAX,
		 "%s of job %s %s lost: the connection to the rendezvous ended without a good-bye",
		 ranks, job->name, job->lost > 1 ? "are" : "is");
	return RDT_ERR_PEER_LOST;
}

/* ---- joining ------------------------------------------------------------------------------------
 */

static struct srv_job *find(const struct rdt_server *server, const char *name)
{
	struct srv_job *job = server->jobs;

	while (job && strcmp(job->name, name))
		job = job->next;
	return job;
}

size_t rdt_srv_stem(const char *name)
{
	return strcspn(name, "/");
}

bool rdt_srv_same_stem(const char *a, const char *b)
{
	return rdt_srv_stem(a) == rdt_srv_stem(b) && !memcmp(a, b, rdt_srv_stem(a));
}

/* Whether there is a place for one more job. False: the hello has been refused. */
static bool has_room(struct srv_conn *conn, const char *name)
{
	const struct rdt_server *server = conn->server;
	unsigned share = server->config.max_jobs / SHARE, parts = 0;

	share = share < SHARE_MIN ? SHARE_MIN : share;
	for (const struct srv_job *job = server->jobs; job; job = job->next)
		parts += rdt_srv_same_stem(job->name, name);
	if (parts >= share) {
		rdt_srv_refuse(conn, RDT_ERR_NOMEM,
			       "job %.*s has %u parts and generations at the rendezvous service, "
			       "which is its share; destroy communicators that are not used, or "
			       "split into fewer",
			       (int)rdt_srv_stem(name), name, parts);
		return false;
	}
	if (server->n_jobs < server->config.max_jobs)
		return true;
	rdt_srv_refuse(conn, RDT_ERR_NOMEM,
		       "the rendezvous service has no room for job %s beside %u others; start "
		       "another service",
		       name, server->n_jobs);
	return false;
}

static struct srv_job *begin(struct rdt_server *server, const struct rdt_message *hello)
{
	struct srv_job *job;

	job = calloc(1, sizeof(*job) + hello->world * sizeof(job->members[0]));
	if (!job)
		return NULL;
	if (RAND_bytes(job->nonce, sizeof(job->nonce)) != 1) {
		free(job);
		return NULL;
	}
	job->server = server;
	job->world = hello->world;
	memcpy(job->name, hello->job, sizeof(job->name));
	job->next = server->jobs;
	server->jobs = job;
	server->n_jobs++;
	return job;
}

void rdt_srv_job_free(struct srv_job *job)
{
	struct srv_job **at = &job->server->jobs;

	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	job->server->n_jobs--;
	rdt_srv_fences_free(job);
	rdt_srv_store_free(&job->store);
	rdt_srv_group_free(job);
	rdt_srv_verdict_free(job);
	free(job);
}

/* Whether this hello may join the job that is there. False: it has been refused. */
static bool may_join(struct srv_conn *conn, const struct srv_job *job,
		     const struct rdt_message *hello)
{
	const struct srv_member *member;
	char text[RDT_TEXT_MAX];
	int status;

	if (hello->world != job->world) {
		rdt_srv_refuse(
			conn, RDT_ERR_MISMATCH,
			"rank %u says that job %s has %u ranks; the ranks before it said %u. "
			"Start all of them with the same size",
			hello->rank, job->name, hello->world, job->world);
		return false;
	}
	status = rdt_srv_job_failure(job, text);
	if (status) {
		rdt_srv_refuse(conn, status,
			       "%.300s. Rank %u may join when all members of this run have ended",
			       text, hello->rank);
		return false;
	}
	member = &job->members[hello->rank];
	if (member->state == SRV_HERE) {
		rdt_srv_refuse(
			conn, RDT_ERR_INVALID,
			"rank %u of job %s is taken, by the process at %s. Give each process a "
			"rank of its own, or the jobs different names",
			hello->rank, job->name, member->conn->peer);
		return false;
	}
	if (member->state == SRV_LEFT) {
		/* Its next run: in order, but early. */
		rdt_srv_refuse(conn, RDT_AGAIN,
			       "rank %u has left this run of job %s, which others have not yet",
			       hello->rank, job->name);
		return false;
	}
	return true;
}

static void send_event(struct srv_conn *conn, enum rdt_bootstrap_event_kind kind, uint32_t rank,
		       const char *text)
{
	struct rdt_message m = { .type = RDT_MSG_EVENT, .kind = (uint8_t)kind, .rank = rank };

	snprintf(m.text, sizeof(m.text), "%s", text);
	rdt_srv_send(conn, &m);
}

void rdt_srv_hello(struct srv_conn *conn, const struct rdt_message *hello)
{
	struct rdt_server *server = conn->server;
	struct rdt_message welcome = { .type = RDT_MSG_WELCOME };
	struct srv_job *job;

	if (hello->version != RDT_WIRE_VERSION) {
		rdt_srv_refuse(conn, RDT_ERR_INVALID,
			       "the worker speaks version %u of the rendezvous protocol and the "
			       "service version %d. Use the same librdtrain for both",
			       hello->version, RDT_WIRE_VERSION);
		return;
	}
	if (strcmp(hello->job, conn->lookup.psk.job)) {
		rdt_srv_refuse(conn, RDT_ERR_AUTH,
			       "the worker holds the secret of job %s and says hello to job %s",
			       conn->lookup.psk.job, hello->job);
		return;
	}
	if (hello->world == 0 && hello->rank == 0) {
		rdt_srv_newcomer(conn, hello);
		return;
	}
	if (hello->world < 1 || hello->world > RDT_WORLD_MAX || hello->rank >= hello->world) {
		rdt_srv_refuse(conn, RDT_ERR_INVALID,
			       "rank %u of %u is impossible; there may be %d ranks, counted from 0",
			       hello->rank, hello->world, RDT_WORLD_MAX);
		return;
	}
	job = find(server, hello->job);
	if (job && !may_join(conn, job, hello))
		return;
	if (!job) {
		if (!has_room(conn, hello->job))
			return;
		job = begin(server, hello);
		if (!job) {
			rdt_srv_refuse(conn, RDT_ERR_NOMEM,
				       "the rendezvous service has no memory for job %s",
				       hello->job);
			return;
		}
	}
	conn->job = job;
	conn->rank = hello->rank;
	job->members[conn->rank].conn = conn;
	job->members[conn->rank].state = SRV_HERE;
	job->here++;
	server->members++;
	server->was_empty = false;
	rdt_srv_accepted(conn);
	rdt_srv_log(server, "%s joined job %s as rank %u of %u", conn->peer, job->name, conn->rank,
		    job->world);
	memcpy(welcome.nonce, job->nonce, sizeof(welcome.nonce));
	rdt_srv_send(conn, &welcome);
	rdt_srv_tell_waiting(conn);
	/* Who came and left before it is no less gone. */
	for (uint32_t r = 0; job->left && r < job->world; r++)
		if (job->members[r].state == SRV_LEFT)
			send_event(conn, RDT_EVENT_LEFT, r, "it said good-bye");
}

/* ---- the store ---------------------------------------------------------------------------------
 */

static void stop_waiting(struct srv_conn *conn)
{
	if (!conn->waiting)
		return;
	conn->waiting = false;
	if (conn->wait_prev)
		conn->wait_prev->wait_next = conn->wait_next;
	else
		conn->job->members[conn->wait_rank].waiters = conn->wait_next;
	if (conn->wait_next)
		conn->wait_next->wait_prev = conn->wait_prev;
	conn->wait_prev = conn->wait_next = NULL;
}

static void wait_for(struct srv_conn *conn, const struct rdt_message *m)
{
	struct srv_member *owner = &conn->job->members[m->rank];

	conn->waiting = true;
	conn->wait_number = m->number;
	conn->wait_rank = m->rank;
	memcpy(conn->wait_key, m->key, sizeof(conn->wait_key));
	conn->wait_next = owner->waiters;
	if (owner->waiters)
		owner->waiters->wait_prev = conn;
	owner->waiters = conn;
}

static void send_value(struct srv_conn *conn, uint32_t number, const void *value, uint32_t length)
{
	struct rdt_message m = { .type = RDT_MSG_VALUE, .number = number };

	m.value = value;
	m.length = length;
	rdt_srv_send(conn, &m);
}

static void put(struct srv_conn *conn, const struct rdt_message *m)
{
	struct rdt_message answer = { .type = RDT_MSG_STORED, .number = m->number };
	struct srv_job *job = conn->job;
	struct srv_conn *w, *next;

	answer.status = rdt_srv_store_put(&job->store, conn->server->config.max_store_bytes,
					  conn->rank, m, answer.text);
	rdt_srv_send(conn, &answer);
	if (answer.status)
		return;
	for (w = job->members[conn->rank].waiters; w; w = next) {
		next = w->wait_next;
		if (strcmp(w->wait_key, m->key))
			continue;
		stop_waiting(w);
		send_value(w, w->wait_number, m->value, m->length);
	}
}

/* Why a key of this rank will never be put, or 0. */
static int get_failure(const struct srv_job *job, uint32_t rank, const char *key,
		       char text[RDT_TEXT_MAX])
{
	int status = rdt_srv_job_failure(job, text);

	if (status || job->members[rank].state != SRV_LEFT)
		return status;
	snprintf(text, RDT_TEXT_MAX, "rank %u has left job %s without putting '%s'", rank,
		 job->name, key);
	return RDT_ERR_PEER_LOST;
}

static void get(struct srv_conn *conn, const struct rdt_message *m)
{
	struct rdt_message failed = { .type = RDT_MSG_VALUE, .number = m->number };
	const struct srv_entry *e;

	stop_waiting(conn); /* one that was given up at its deadline */
	if (m->rank >= conn->job->world) {
		rdt_srv_drop(conn, "it asked for a value of rank %u of %u", m->rank,
			     conn->job->world);
		return;
	}
	e = rdt_srv_store_get(&conn->job->store, m->rank, m->key);
	if (e) {
		send_value(conn, m->number, e->value, e->length);
		return;
	}
	failed.status = get_failure(conn->job, m->rank, m->key, failed.text);
	if (!failed.status && m->kind)
		failed.status = RDT_AGAIN;
	if (failed.status)
		rdt_srv_send(conn, &failed);
	else
		wait_for(conn, m);
}

/* Ends the gets that can no longer be answered. */
static void gets_recheck(struct srv_job *job)
{
	for (uint32_t r = 0; r < job->world; r++) {
		struct srv_conn *w, *next;

		for (w = job->members[r].waiters; w; w = next) {
			struct rdt_message m = { .type = RDT_MSG_VALUE, .number = w->wait_number };

			next = w->wait_next;
			m.status = get_failure(job, r, w->wait_key, m.text);
			if (!m.status)
				continue;
			stop_waiting(w);
			rdt_srv_send(w, &m);
		}
	}
}

/* ---- events -------------------------------------------------------------------------------------
 */

void rdt_srv_tell_others(struct srv_job *job, enum rdt_bootstrap_event_kind kind, uint32_t rank,
			 const char *text)
{
	for (uint32_t r = 0; r < job->world; r++)
		if (r != rank && job->members[r].state == SRV_HERE)
			send_event(job->members[r].conn, kind, rank, text);
	rdt_srv_fences_recheck(job);
	gets_recheck(job);
}

void rdt_srv_gone(struct srv_conn *conn, bool orderly, const char *reason)
{
	struct srv_job *job = conn->job;
	struct srv_member *member = &job->members[conn->rank];
	struct rdt_server *server = job->server;
	char name[sizeof(job->name)];

	stop_waiting(conn);
	member->conn = NULL;
	member->state = orderly ? SRV_LEFT : SRV_LOST;
	rdt_srv_traffic(conn, &job->bytes_in, &job->bytes_out);
	conn->job = NULL;
	job->here--;
	*(orderly ? &job->left : &job->lost) += 1;
	job->server->members--;
	rdt_srv_log(job->server, "rank %u of job %s (%s) %s: %s", conn->rank, job->name, conn->peer,
		    orderly ? "left" : "is lost", reason);
	if (job->here) {
		if (!orderly)
			rdt_srv_member_lost(job, conn->rank);
		rdt_srv_group_gone(job, conn->rank);
		rdt_srv_tell_others(job, orderly ? RDT_EVENT_LEFT : RDT_EVENT_LOST, conn->rank,
				    reason);
	} else {
		rdt_srv_log(job->server,
			    "job %s is over: %u of %u ranks came, %" PRIu64 " bytes from them, "
			    "%" PRIu64 " to them",
			    job->name, job->left + job->lost, job->world, job->bytes_in,
			    job->bytes_out);
		snprintf(name, sizeof(name), "%s", job->name);
		rdt_srv_job_free(job);
		rdt_srv_newcomers_over(server, name);
	}
}

void rdt_srv_request(struct srv_conn *conn, const struct rdt_message *m)
{
	if (m->type == RDT_MSG_PULSE)
		return;
	if (!conn->job) {
		rdt_srv_newcomer_request(conn, m);
		return;
	}
	switch (m->type) {
	case RDT_MSG_PUT: put(conn, m); break;
	case RDT_MSG_GET: get(conn, m); break;
	case RDT_MSG_FORGET: rdt_srv_store_drop(&conn->job->store, conn->rank, m->key); break;
	case RDT_MSG_FENCE: rdt_srv_fence(conn, m); break;
	case RDT_MSG_WHO: rdt_srv_who(conn, m); break;
	case RDT_MSG_ABORT: rdt_srv_aborted(conn, m); break;
	case RDT_MSG_REGROUP: rdt_srv_regroup(conn, m); break;
	case RDT_MSG_BYE:
		rdt_srv_gone(conn, true, "it said good-bye");
		rdt_srv_drop(conn, "it said good-bye");
		break;
	default: rdt_srv_drop(conn, "it sent message type %d as a member", (int)m->type);
	}
}
