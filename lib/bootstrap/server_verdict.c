/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a job ends for all its members alike. The first failure, a lost member or what a member says,
 * is told to everybody at once, and everybody answers with an ABORT of its own. A little later the
 * service says once and for all what it was and who is lost: the verdict, the same to each.
 *
 * A loss is judged after LOSS_MS, in which members that die together are found together. What falls
 * silent is often a whole host: members whose system has not even acknowledged the news, in
 * TIMEOUT_MS at most, are lost, too. One that computes or is stopped is not: its system does. After
 * a deadline the lost are those that do not answer in TIMEOUT_MS: they are stopped, or busy
 * elsewhere. Should all answer, or should the verdict be wanted earlier, they are those that the
 * first one had waited for.
 */
#include "lib/bootstrap/server_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#define LOSS_MS 20
#define TIMEOUT_MS 300

static bool is_suspect(const struct srv_job *job, uint32_t rank)
{
	return job->suspects[rank / 8] >> (rank % 8) & 1;
}

static bool silent(const struct srv_member *m)
{
	return m->state == SRV_HERE && !m->answered;
}

/* Something was sent to it that its system has not acknowledged. */
static bool unreached(const struct srv_member *m)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);

	return silent(m) &&
	       getsockopt(bufferevent_getfd(m->conn->bev), IPPROTO_TCP, TCP_INFO, &info, &length) ==
		       0 &&
	       info.tcpi_unacked > 0;
}

static bool all_reached(const struct srv_job *job)
{
	for (uint32_t r = 0; r < job->world; r++)
		if (unreached(&job->members[r]))
			return false;
	return true;
}

static bool all_answered(const struct srv_job *job)
{
	for (uint32_t r = 0; r < job->world; r++)
		if (silent(&job->members[r]))
			return false;
	return true;
}

/* Fills job->suspects with the lost, once and for all. */
static void find_lost(struct srv_job *job)
{
	/* A verdict that is wanted earlier knows nothing of silence: all need time to answer, or
	 * their systems to acknowledge. */
	bool waited = job->waited_ms >= TIMEOUT_MS;
	bool late = waited && job->abort_status == RDT_ERR_TIMEOUT && !all_answered(job);
	bool gone = waited && job->abort_status == RDT_ERR_PEER_LOST;

	for (uint32_t r = 0; r < job->world; r++) {
		struct srv_member *m = &job->members[r];
		bool named = job->abort_status == RDT_ERR_PEER_LOST ||
			     (job->abort_status == RDT_ERR_TIMEOUT && !late);
		bool lost = m->state == SRV_LOST || (late && silent(m)) ||
			    (named && is_suspect(job, r)) || (gone && unreached(m));

		m->lost = lost;
		/* Who is held for dead must not come back; who is late may. */
		m->excluded |= lost && job->abort_status == RDT_ERR_PEER_LOST;
		job->suspects[r / 8] &= (unsigned char)~(1u << (r % 8));
		job->suspects[r / 8] |= (unsigned char)(lost << (r % 8));
	}
}

void rdt_srv_judge(struct srv_job *job)
{
	struct rdt_message m = { .type = RDT_MSG_VERDICT };

	if (!job->failing || job->judged)
		return;
	job->judged = true;
	event_del(job->judge);
	find_lost(job);
	m.status = job->abort_status;
	m.rank = job->abort_rank;
	memcpy(m.text, job->abort_text, sizeof(m.text));
	m.value = job->suspects;
	m.length = (job->world + 7) / 8;
	for (uint32_t r = 0; r < job->world; r++)
		if (job->members[r].state == SRV_HERE)
			rdt_srv_send(job->members[r].conn, &m);
}

static void wait_ms(struct srv_job *job, int ms)
{
	struct timeval t = { .tv_usec = ms * 1000 };

	job->wait_ms = ms;
	evtimer_add(job->judge, &t);
}

static void on_judge(evutil_socket_t fd, short what, void *arg)
{
	struct srv_job *job = arg;

	(void)fd;
	(void)what;
	job->waited_ms += job->wait_ms;
	if (job->abort_status == RDT_ERR_PEER_LOST && job->waited_ms < TIMEOUT_MS &&
	    !all_reached(job))
		wait_ms(job, LOSS_MS);
	else
		rdt_srv_judge(job);
}

/* False without memory: then members go by what they know themselves. */
static bool begin(struct srv_job *job, int status, uint32_t rank, const char *text)
{
	job->suspects = calloc(1, (job->world + 7) / 8);
	job->judge = evtimer_new(job->server->base, on_judge, job);
	if (!job->suspects || !job->judge)
		return false;
	job->failing = true;
	job->abort_status = status;
	job->abort_rank = rank;
	snprintf(job->abort_text, sizeof(job->abort_text), "%s", text);
	return true;
}

static bool names_outsiders(const struct rdt_message *m, uint32_t world)
{
	const unsigned char *lost = m->value;
	uint32_t bytes = (world + 7) / 8;

	return m->length > bytes ||
	       (m->length == bytes && world % 8 && lost[bytes - 1] >> (world % 8));
}

void rdt_srv_aborted(struct srv_conn *conn, const struct rdt_message *m)
{
	struct srv_job *job = conn->job;
	bool first = !job->failing && !job->suspects, accused;
	char text[RDT_TEXT_MAX];

	job->members[conn->rank].answered = true;
	if (names_outsiders(m, job->world)) {
		rdt_srv_drop(conn, "it names ranks outside of a world of %u", job->world);
		return;
	}
	if (first && !begin(job, m->status, conn->rank, m->text)) {
		rdt_srv_drop(conn, "no memory to end job %s in good order", job->name);
		return;
	}
	if (first) {
		job->aborted = true;
		rdt_srv_log(job->server, "rank %u aborted job %s: %s", conn->rank, job->name,
			    m->text);
	}
	if (job->judged || !job->failing)
		return;
	/* When two accuse each other, the link between them is broken: the first one stands. */
	accused = job->abort_status == RDT_ERR_PEER_LOST && is_suspect(job, conn->rank);
	if (first || (m->status == RDT_ERR_PEER_LOST && !accused))
		for (uint32_t i = 0; i < m->length; i++)
			job->suspects[i] |= ((const unsigned char *)m->value)[i];
	if (first) {
		wait_ms(job, m->status == RDT_ERR_TIMEOUT ? TIMEOUT_MS : LOSS_MS);
		rdt_srv_tell_others(job, RDT_EVENT_ABORT, conn->rank, m->text);
		rdt_srv_group_failed(job, rdt_srv_job_failure(job, text), text);
	}
	if (job->abort_status == RDT_ERR_TIMEOUT ? all_answered(job)
						 : job->abort_status != RDT_ERR_PEER_LOST)
		rdt_srv_judge(job);
}

void rdt_srv_member_lost(struct srv_job *job, uint32_t rank)
{
	char text[RDT_TEXT_MAX];

	if (!job->failing && !job->suspects) {
		snprintf(text, sizeof(text),
			 "rank %u is lost: its connection to the rendezvous ended without a "
			 "good-bye (the process was killed, or its host is gone)",
			 rank);
		if (begin(job, RDT_ERR_PEER_LOST, UINT32_MAX, text))
			wait_ms(job, LOSS_MS);
	} else if (job->failing && !job->judged && job->abort_status == RDT_ERR_TIMEOUT &&
		   all_answered(job)) {
		rdt_srv_judge(job);
	}
}

void rdt_srv_verdict_free(struct srv_job *job)
{
	if (job->judge)
		event_free(job->judge);
	free(job->suspects);
}
