/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A job's fences. The k-th fence of one member meets the k-th of the others; several may be open,
 * for a member that gave one up at its deadline goes on to the next.
 *
 * A fence ends in one of three ways: all have come (FENCED to all), two signatures differ (FENCED
 * at once to those that have come and to each that comes later), or a member that it needs is gone
 * or the job aborted (a status and a sentence).
 */
#include "lib/bootstrap/server_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPEN_MAX 64 /* a job in order has one or two open */

struct srv_fence {
	struct srv_fence *next;
	uint32_t number, came, rank_a, rank_b;
	bool differ;
	uint64_t flags;
	char signature_a[RDT_SIGNATURE_MAX], signature_b[RDT_SIGNATURE_MAX];
	unsigned char here[]; /* one bit a rank: has come */
};

static bool has_left_before(const struct srv_member *m, uint32_t number)
{
	return m->state == SRV_LEFT && m->fences < number;
}

static bool not_come(const struct srv_member *m, uint32_t number)
{
	return m->fences < number;
}

/* Why this fence cannot be met, or 0. */
static int failure(const struct srv_job *job, uint32_t number, char text[RDT_TEXT_MAX])
{
	int status = rdt_srv_job_failure(job, text);
	char ranks[200];

	if (status || !job->left)
		return status;
	rdt_srv_ranks(job, has_left_before, number, ranks, sizeof(ranks));
	if (!ranks[0])
		return RDT_OK;
	snprintf(text, RDT_TEXT_MAX, "%s %s left job %s and will not come to fence %u", ranks,
		 strncmp(ranks, "ranks", 5) ? "has" : "have", job->name, number);
	return RDT_ERR_PEER_LOST;
}

static struct rdt_message outcome(const struct srv_fence *f)
{
	struct rdt_message m = {
		.type = RDT_MSG_FENCED, .number = f->number, .flags = f->flags, .kind = !f->differ
	};

	if (f->differ) {
		m.rank = f->rank_a;
		m.rank_b = f->rank_b;
		memcpy(m.signature, f->signature_a, sizeof(m.signature));
		memcpy(m.signature_b, f->signature_b, sizeof(m.signature_b));
	}
	return m;
}

static void answer_all(const struct srv_job *job, const struct srv_fence *f,
		       const struct rdt_message *m)
{
	for (uint32_t r = 0; r < job->world; r++)
		if ((f->here[r / 8] >> (r % 8) & 1) && job->members[r].state == SRV_HERE)
			rdt_srv_send(job->members[r].conn, m);
}

static struct srv_fence **find(struct srv_job *job, uint32_t number)
{
	struct srv_fence **at = &job->fences;

	while (*at && (*at)->number != number)
		at = &(*at)->next;
	return at;
}

static void end(struct srv_job *job, struct srv_fence **at)
{
	struct srv_fence *f = *at;

	*at = f->next;
	job->n_fences--;
	free(f);
}

static struct srv_fence *begin(struct srv_job *job, const struct rdt_message *m)
{
	struct srv_fence *f;

	if (job->n_fences == OPEN_MAX)
		return NULL;
	f = calloc(1, sizeof(*f) + (job->world + 7) / 8);
	if (!f)
		return NULL;
	f->number = m->number;
	f->flags = ~0ull;
	f->next = job->fences;
	job->fences = f;
	job->n_fences++;
	return f;
}

void rdt_srv_fence(struct srv_conn *conn, const struct rdt_message *m)
{
	struct srv_job *job = conn->job;
	struct srv_member *member = &job->members[conn->rank];
	struct rdt_message answer = { .type = RDT_MSG_FENCED, .number = m->number };
	struct srv_fence **at, *f;

	if (m->number != member->fences + 1) {
		rdt_srv_drop(conn, "it came to fence %u after %u", m->number, member->fences);
		return;
	}
	member->fences++;
	answer.status = failure(job, m->number, answer.text);
	if (answer.status) {
		rdt_srv_send(conn, &answer);
		return;
	}
	at = find(job, m->number);
	f = *at;
	if (!f) {
		f = begin(job, m);
		if (!f) {
			rdt_srv_drop(conn, "fence %u is one too many (%d are open)", m->number,
				     job->n_fences);
			return;
		}
		at = &job->fences;
		f->rank_a = conn->rank;
		memcpy(f->signature_a, m->signature, sizeof(f->signature_a));
	}
	f->here[conn->rank / 8] |= (unsigned char)(1 << (conn->rank % 8));
	f->came++;
	f->flags &= m->flags;
	if (f->differ) { /* the others have their answer */
		answer = outcome(f);
		rdt_srv_send(conn, &answer);
	} else if (strcmp(f->signature_a, m->signature)) {
		f->differ = true;
		f->rank_b = conn->rank;
		memcpy(f->signature_b, m->signature, sizeof(f->signature_b));
		answer = outcome(f);
		answer_all(job, f, &answer);
	} else if (f->came == job->world) {
		answer = outcome(f);
		answer_all(job, f, &answer);
	}
	if (f->came == job->world)
		end(job, at);
}

void rdt_srv_who(struct srv_conn *conn, const struct rdt_message *m)
{
	struct rdt_message answer = { .type = RDT_MSG_MISSING, .number = m->number };

	rdt_srv_ranks(conn->job, not_come, m->number, answer.text, 256);
	rdt_srv_send(conn, &answer);
}

void rdt_srv_fences_recheck(struct srv_job *job)
{
	struct srv_fence **at = &job->fences;

	while (*at) {
		struct srv_fence *f = *at;
		struct rdt_message answer = { .type = RDT_MSG_FENCED, .number = f->number };

		answer.status = failure(job, f->number, answer.text);
		if (!answer.status) {
			at = &f->next;
			continue;
		}
		if (!f->differ)
			answer_all(job, f, &answer);
		end(job, at);
	}
}

void rdt_srv_fences_free(struct srv_job *job)
{
	while (job->fences)
		end(job, &job->fences);
}
