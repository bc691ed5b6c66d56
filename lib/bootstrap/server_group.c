/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who goes on in the next generation: the survivors of a job that has failed, or all members of one
 * that is well, with newcomers. The members come round by round. When all have come that can, the
 * round is decided here, and everybody who came gets the same answer: the name of a new job, and
 * which rank it has there. All join that job and come again, and say whether they stand in it. When
 * all of the last group came and stand in it, the answer is that the generation is made; when one
 * died or failed meanwhile, it is another group. So nobody goes on in a generation that another one
 * has given up.
 *
 * Survivors do not wait for ever: at half of the time that the first of a round has, those who have
 * not come are left behind. Those that a deadline has named late are given less.
 */
#include "lib/bootstrap/server_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>

#include "lib/base/clock.h"

#define LATE_NS 500000000 /* for those that did not answer after a deadline */

struct srv_group {
	struct srv_job *job;
	struct event *timer;
	int64_t by;    /* when the timer fires */
	bool open;     /* members have come, or are to come again */
	bool formed;   /* a group has been agreed on, and is to stand */
	bool broken;   /* one of it is gone */
	bool admit;    /* newcomers too; and nobody is left behind */
	char name[64]; /* of the new job */
};

/* ---- words, and who is meant -------------------------------------------------------------------
 */

static bool can_come(const struct srv_member *m)
{
	return m->state == SRV_HERE && !m->excluded;
}

static bool awaited(const struct srv_member *m, uint32_t number)
{
	(void)number;
	return can_come(m) && !m->came;
}

static unsigned waiting_for(const struct rdt_server *server, const char *name)
{
	unsigned n = 0;

	for (const struct srv_newcomer *c = server->newcomers; c; c = c->next)
		n += c->came && !c->group && rdt_srv_same_stem(c->job, name);
	return n;
}

static void send_event(struct srv_conn *conn, uint8_t kind, uint32_t rank)
{
	struct rdt_message m = { .type = RDT_MSG_EVENT, .kind = kind, .rank = rank };

	rdt_srv_send(conn, &m);
}

void rdt_srv_tell_waiting(struct srv_conn *conn)
{
	unsigned n = waiting_for(conn->server, conn->job->name);

	if (n)
		send_event(conn, RDT_EVENT_WAITING, n);
}

static void tell_all_waiting(struct rdt_server *server, const char *name)
{
	unsigned n = waiting_for(server, name);

	for (struct srv_job *job = server->jobs; job; job = job->next)
		for (uint32_t r = 0; rdt_srv_same_stem(job->name, name) && r < job->world; r++)
			if (job->members[r].state == SRV_HERE)
				send_event(job->members[r].conn, RDT_EVENT_WAITING, n);
}

/* ---- answers ------------------------------------------------------------------------------------
 */

static void answer_newcomer(struct srv_newcomer *c, struct rdt_message *m)
{
	m->number = c->conn->regroup_number;
	c->came = false;
	rdt_srv_send(c->conn, m);
}

static void answer_member(struct srv_member *member, struct rdt_message *m)
{
	m->number = member->conn->regroup_number;
	member->came = false;
	rdt_srv_send(member->conn, m);
}

/* Nothing is agreed on: everybody who came is told why, and newcomers wait on. */
static void give_up(struct srv_group *g, int status, const char *text)
{
	struct rdt_message m = { .type = RDT_MSG_GROUP, .status = status };
	struct srv_job *job = g->job;

	snprintf(m.text, sizeof(m.text), "%s", text);
	event_del(g->timer);
	for (uint32_t r = 0; r < job->world; r++) {
		struct srv_member *member = &job->members[r];

		if (member->came && member->conn)
			answer_member(member, &m);
		else if (g->formed && member->grouped && member->state == SRV_HERE)
			send_event(member->conn, RDT_EVENT_BROKEN, 0); /* it still joins */
	}
	g->open = g->formed = false;
	for (struct srv_newcomer *c = job->server->newcomers; c; c = c->next)
		if (c->group == g) {
			c->group = NULL;
			send_event(c->conn, RDT_EVENT_BROKEN, 0);
		}
	tell_all_waiting(job->server, job->name);
}

static void stand(struct srv_group *g, uint8_t kind)
{
	struct rdt_message m = { .type = RDT_MSG_GROUP, .kind = kind };
	struct srv_job *job = g->job;

	for (uint32_t r = 0; r < job->world; r++)
		if (job->members[r].excluded && job->members[r].state == SRV_HERE)
			m.kind |= RDT_GROUP_LEFT_BEHIND;
	rdt_srv_log(job->server, "job %s goes on as %s", job->name,
		    kind == RDT_GROUP_NOBODY ? job->name : g->name);
	event_del(g->timer);
	g->open = g->formed = false;
	for (uint32_t r = 0; r < job->world; r++)
		if (job->members[r].came)
			answer_member(&job->members[r], &m);
	for (struct srv_newcomer *c = job->server->newcomers; c; c = c->next)
		if (c->group == g) {
			answer_newcomer(c, &m); /* which hangs up now, and is a member there */
			c->group = NULL;
			c->job[0] = 0;
		}
}

/* A name that nobody has had. */
static bool name_group(struct srv_group *g)
{
	const char *name = g->job->name;
	size_t n = rdt_srv_stem(name);
	uint64_t number;

	if (n + 1 + 16 >= sizeof(g->name) ||
	    RAND_bytes((unsigned char *)&number, sizeof(number)) != 1)
		return false;
	snprintf(g->name, sizeof(g->name), "%.*s/%016" PRIx64, (int)n, name, number);
	return true;
}

static void form(struct srv_group *g, uint32_t members)
{
	struct rdt_message m = { .type = RDT_MSG_GROUP };
	struct srv_job *job = g->job;
	struct srv_newcomer *c;

	m.world = members;
	for (c = job->server->newcomers; c; c = c->next) {
		/* Those who came in time are let in together; later ones with the next. */
		if (g->admit && !g->formed && !c->group && c->came &&
		    rdt_srv_same_stem(c->job, job->name))
			c->group = g;
		m.world += c->group == g;
	}
	if (!name_group(g) || m.world > RDT_WORLD_MAX) {
		give_up(g, RDT_ERR_INVALID,
			"a next generation cannot be named or numbered: the job's name has more "
			"than 46 characters, or there are more than 65536 ranks");
		return;
	}
	memcpy(m.job, g->name, sizeof(m.job));
	rdt_srv_log(job->server, "job %s regroups: %u of %u ranks, %u newcomers, as %s", job->name,
		    members, job->world, m.world - members, g->name);
	event_del(g->timer);
	g->formed = true;
	g->broken = false;
	for (uint32_t r = 0; r < job->world; r++) {
		struct srv_member *member = &job->members[r];

		member->grouped = member->came;
		if (!member->came)
			continue;
		answer_member(member, &m);
		m.rank++;
	}
	for (c = job->server->newcomers; c; c = c->next)
		if (c->group == g) {
			answer_newcomer(c, &m);
			m.rank++;
		}
	tell_all_waiting(job->server, job->name);
}

/* All have come that can. */
static void decide(struct srv_group *g)
{
	struct srv_job *job = g->job;
	bool stands = g->formed && !g->broken, nobody;
	uint32_t members = 0;

	for (uint32_t r = 0; r < job->world; r++) {
		const struct srv_member *m = &job->members[r];

		members += m->came;
		if (m->came && !(m->stands && m->grouped))
			stands = false;
	}
	nobody = g->admit && (g->formed || !waiting_for(job->server, job->name));
	for (const struct srv_newcomer *c = job->server->newcomers; c; c = c->next)
		if (c->group == g) {
			stands &= c->stands;
			nobody = false;
		}
	if (stands || nobody)
		stand(g, nobody ? RDT_GROUP_NOBODY : RDT_GROUP_STANDS);
	else
		form(g, members);
}

/* Has everybody come? Then decides. */
static void check(struct srv_group *g)
{
	struct srv_job *job = g->job;
	struct timeval t = { .tv_usec = LATE_NS / 1000 };
	bool late = false;
	uint32_t came = 0;

	for (uint32_t r = 0; r < job->world; r++) {
		const struct srv_member *m = &job->members[r];

		came += m->came;
		if (awaited(m, 0) && !(m->lost && !g->admit))
			return;
		late |= awaited(m, 0);
	}
	for (const struct srv_newcomer *c = job->server->newcomers; c; c = c->next)
		if (c->group == g && !c->came)
			return;
	if (!came)
		return;
	if (!late) {
		decide(g);
	} else if (g->by > rdt_now() + LATE_NS) {
		g->by = rdt_now() + LATE_NS;
		evtimer_add(g->timer, &t);
	}
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct srv_group *g = arg;
	struct srv_job *job = g->job;
	char ranks[200], text[RDT_TEXT_MAX];
	uint32_t came = 0;

	(void)fd;
	(void)what;
	rdt_srv_ranks(job, awaited, 0, ranks, sizeof(ranks));
	for (uint32_t r = 0; r < job->world; r++)
		came += job->members[r].came;
	if (!came)
		return;
	if (g->admit) {
		snprintf(text, sizeof(text), "the job was not made larger: %s did not come in time",
			 ranks[0] ? ranks : "a newcomer");
		give_up(g, RDT_ERR_TIMEOUT, text);
		return;
	}
	rdt_srv_log(job->server, "job %s goes on without %s: too late", job->name, ranks);
	for (uint32_t r = 0; r < job->world; r++)
		if (awaited(&job->members[r], 0))
			job->members[r].excluded = g->broken = true;
	decide(g);
}

/* ---- members ------------------------------------------------------------------------------------
 */

static struct srv_group *group_of(struct srv_job *job)
{
	struct srv_group *g = job->group;

	if (g)
		return g;
	g = calloc(1, sizeof(*g));
	if (!g)
		return NULL;
	g->job = job;
	g->timer = evtimer_new(job->server->base, on_timer, g);
	if (!g->timer) {
		free(g);
		return NULL;
	}
	job->group = g;
	return g;
}

static void refuse(struct srv_conn *conn, const struct rdt_message *m, int status, const char *text)
{
	struct rdt_message answer = { .type = RDT_MSG_GROUP,
				      .number = m->number,
				      .status = status };

	snprintf(answer.text, sizeof(answer.text), "%s", text);
	rdt_srv_send(conn, &answer);
}

/* Why this member cannot regroup, or 0. */
static int refusal(struct srv_conn *conn, const struct srv_group *g, bool admit,
		   char text[RDT_TEXT_MAX])
{
	struct srv_job *job = conn->job;
	const struct srv_member *member = &job->members[conn->rank];

	if (member->excluded) {
		snprintf(text, RDT_TEXT_MAX,
			 "rank %u came too late: the others go on without it (a new process may "
			 "join them, with RDTRAIN_JOIN=1)",
			 conn->rank);
		return RDT_ERR_TIMEOUT;
	}
	if (g->open && g->admit != admit) {
		snprintf(text, RDT_TEXT_MAX,
			 "rank %u calls rdt_comm_%s, and others rdt_comm_%s: all ranks must make "
			 "the same call",
			 conn->rank, admit ? "grow" : "shrink", admit ? "shrink" : "grow");
		return RDT_ERR_MISMATCH;
	}
	return admit ? rdt_srv_job_failure(job, text) : RDT_OK;
}

void rdt_srv_regroup(struct srv_conn *conn, const struct rdt_message *m)
{
	struct srv_job *job = conn->job;
	struct srv_member *member = &job->members[conn->rank];
	struct srv_group *g = group_of(job);
	bool admit = m->kind & RDT_REGROUP_ADMIT, first = true;
	char text[RDT_TEXT_MAX];
	int status;

	if (!g || member->came) {
		rdt_srv_drop(conn, g ? "it came to regroup twice" : "no memory to regroup");
		return;
	}
	if (!admit) { /* a job that fails is not made larger: that hastens nothing */
		member->answered = true;
		rdt_srv_judge(job);
	}
	status = refusal(conn, g, admit, text);
	if (status) {
		refuse(conn, m, status, text);
		return;
	}
	for (uint32_t r = 0; r < job->world; r++)
		first &= !job->members[r].came;
	g->open = true;
	g->admit = admit;
	member->came = true;
	member->stands = m->kind & RDT_REGROUP_STANDS;
	conn->regroup_number = m->number;
	if (first) {
		uint64_t ms = m->flags / 2;
		struct timeval t;

		ms = ms > 86400000 ? 86400000 : ms;
		t = (struct timeval){ .tv_sec = (time_t)(ms / 1000),
				      .tv_usec = (suseconds_t)(ms % 1000 * 1000) };
		g->by = rdt_now() + (int64_t)ms * 1000000;
		evtimer_add(g->timer, &t);
	}
	check(g);
}

static void tell_broken(struct srv_group *g)
{
	struct srv_job *job = g->job;

	g->broken = true;
	for (uint32_t r = 0; r < job->world; r++)
		if (job->members[r].grouped && job->members[r].state == SRV_HERE)
			send_event(job->members[r].conn, RDT_EVENT_BROKEN, 0);
	for (struct srv_newcomer *c = job->server->newcomers; c; c = c->next)
		if (c->group == g)
			send_event(c->conn, RDT_EVENT_BROKEN, 0);
}

void rdt_srv_group_failed(struct srv_job *job, int status, const char *text)
{
	struct srv_group *g = job->group;

	if (g && g->open && g->admit)
		give_up(g, status, text);
}

void rdt_srv_group_gone(struct srv_job *job, uint32_t rank)
{
	struct srv_member *member = &job->members[rank];
	struct srv_group *g = job->group;
	char text[RDT_TEXT_MAX];

	member->came = false;
	snprintf(text, sizeof(text), "rank %u has gone while the job was made larger", rank);
	rdt_srv_group_failed(job, RDT_ERR_PEER_LOST, text);
	if (!g || !g->open)
		return;
	if (g->formed && member->grouped)
		tell_broken(g);
	check(g);
}

void rdt_srv_group_free(struct srv_job *job)
{
	if (!job->group)
		return;
	for (struct srv_newcomer *c = job->server->newcomers; c; c = c->next)
		if (c->group == job->group) {
			c->group = NULL;
			send_event(c->conn, RDT_EVENT_BROKEN, 0);
		}
	event_free(job->group->timer);
	free(job->group);
	job->group = NULL;
}

/* ---- newcomers ----------------------------------------------------------------------------------
 */

void rdt_srv_newcomer(struct srv_conn *conn, const struct rdt_message *hello)
{
	struct rdt_message welcome = { .type = RDT_MSG_WELCOME };
	struct srv_newcomer **at = &conn->server->newcomers;
	struct srv_newcomer *c = calloc(1, sizeof(*c));

	if (!c) {
		rdt_srv_refuse(conn, RDT_ERR_NOMEM, "no memory for a newcomer");
		return;
	}
	c->conn = conn;
	memcpy(c->job, hello->job, sizeof(c->job));
	while (*at)
		at = &(*at)->next;
	*at = c;
	conn->newcomer = c;
	rdt_srv_accepted(conn);
	rdt_srv_log(conn->server, "%s waits to be admitted to job %s", conn->peer, c->job);
	rdt_srv_send(conn, &welcome);
}

void rdt_srv_newcomer_request(struct srv_conn *conn, const struct rdt_message *m)
{
	struct srv_newcomer *c = conn->newcomer;

	if (m->type == RDT_MSG_BYE) {
		rdt_srv_drop(conn, "it said good-bye");
		return;
	}
	if (!c || m->type != RDT_MSG_REGROUP || c->came || !c->job[0]) {
		rdt_srv_drop(conn, "it sent message type %d as a newcomer", (int)m->type);
		return;
	}
	c->came = true;
	c->stands = m->kind & RDT_REGROUP_STANDS;
	conn->regroup_number = m->number;
	if (c->group)
		check(c->group);
	else
		tell_all_waiting(conn->server, c->job);
}

void rdt_srv_newcomer_gone(struct srv_conn *conn)
{
	struct rdt_server *server = conn->server;
	struct srv_newcomer *c = conn->newcomer, **at = &server->newcomers;
	struct srv_group *g = c->group;
	char name[sizeof(c->job)];

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	conn->newcomer = NULL;
	memcpy(name, c->job, sizeof(name));
	free(c);
	if (!name[0])
		return; /* a member of its job by now */
	rdt_srv_log(server, "%s no longer waits to be admitted to job %s: %s", conn->peer, name,
		    conn->reason);
	tell_all_waiting(server, name);
	if (g) {
		tell_broken(g);
		check(g);
	}
}

void rdt_srv_newcomers_over(struct rdt_server *server, const char *name)
{
	struct rdt_message m = { .type = RDT_MSG_GROUP, .status = RDT_ERR_ABORTED };

	for (const struct srv_job *job = server->jobs; job; job = job->next)
		if (rdt_srv_same_stem(job->name, name))
			return;
	for (struct srv_newcomer *c = server->newcomers; c; c = c->next) {
		if (!c->came || !rdt_srv_same_stem(c->job, name))
			continue;
		snprintf(m.text, sizeof(m.text), "job %s has ended without admitting this process",
			 c->job);
		answer_newcomer(c, &m);
	}
}

void rdt_srv_newcomers_free(struct rdt_server *server)
{
	while (server->newcomers) {
		struct srv_newcomer *c = server->newcomers;

		server->newcomers = c->next;
		c->conn->newcomer = NULL;
		free(c);
	}
}
