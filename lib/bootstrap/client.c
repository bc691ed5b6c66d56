/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The client of the rendezvous service: rdt_rendezvous_ops, its start and its end. What the calls
 * do is in the client_*.c (client.h).
 */
#include "lib/bootstrap/client.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/log.h"
#include "lib/bootstrap/secret.h"
#include "lib/bootstrap/service.h"

#define BYE_S 0.2 /* for a good-bye */
#define SERVICE_START_S 10.0
#define SERVICE_END_S 10.0 /* for the other members to leave the service that we run */

/* The service that this process started, for all of its connections that rest on it. */
struct own_service {
	pid_t pid;
	unsigned users;
};

static int check_identity(const struct rdt_identity *who, struct rdt_address *address)
{
	if (!who->join && (who->world < 1 || who->world > RDT_WORLD_MAX))
		return rdt_err(RDT_ERR_INVALID, "a world of %d ranks; there may be 1 to %d",
			       who->world, RDT_WORLD_MAX);
	if (!who->join && (who->rank < 0 || who->rank >= who->world))
		return rdt_err(RDT_ERR_INVALID, "rank %d is outside a world of %d ranks", who->rank,
			       who->world);
	if (!rdt_address_parse(who->rendezvous, address) || address->port_number == 0)
		return rdt_err(RDT_ERR_INVALID,
			       "the rendezvous '%s' is no HOST:PORT or [IPV6]:PORT; set "
			       "RDTRAIN_RENDEZVOUS",
			       who->rendezvous);
	if (!rdt_job_name_ok(who->job))
		return rdt_err(RDT_ERR_INVALID, "the job '%s': " RDT_JOB_NAME_RULE, who->job);
	if (!who->secret[0])
		return rdt_err(RDT_ERR_AUTH,
			       "rank %d has no secret for job %s on the rendezvous at %s; set "
			       "RDTRAIN_SECRET, or RDTRAIN_SECRET_FILE to a file of mode 600",
			       who->rank, who->job, who->rendezvous);
	return RDT_OK;
}

/* The last that rests on it lets the service end, or stops it `now`. A forked child has a copy of
 * its own of what is counted here. */
static void leave_service(struct client *c, bool now)
{
	struct own_service *s = c->service;

	c->service = NULL;
	if (!s || __atomic_sub_fetch(&s->users, 1, __ATOMIC_ACQ_REL))
		return;
	if (c->owner == getpid() && now)
		rdt_service_stop(s->pid);
	else if (c->owner == getpid())
		rdt_service_finish(s->pid, rdt_deadline(SERVICE_END_S));
	free(s);
}

static int start_service(struct client *c, const struct rdt_identity *identity, int64_t deadline)
{
	int64_t by = rdt_deadline(SERVICE_START_S);
	struct own_service *s = calloc(1, sizeof(*s));
	int status;

	if (!s)
		return rdt_err(RDT_ERR_NOMEM, "no memory to start the rendezvous service");
	status = rdt_service_start(identity, deadline < by ? deadline : by, &s->pid);
	if (status) {
		free(s);
		return status;
	}
	s->users = 1;
	c->service = s;
	return RDT_OK;
}

static void release(struct client *c)
{
	rdt_channel_free(&c->channel);
	explicit_bzero(&c->who, sizeof(c->who));
	free(c->events);
	free(c->lost);
	free(c);
}

static int client_open(const struct rdt_identity *identity, int64_t deadline,
		       struct rdt_bootstrap **b)
{
	struct rdt_address address;
	struct client *c;
	int status;

	*b = NULL;
	status = check_identity(identity, &address);
	if (status)
		return status;
	c = calloc(1, sizeof(*c));
	if (!c)
		return rdt_err(RDT_ERR_NOMEM, "no memory for a client of the rendezvous");
	c->ops = &rdt_rendezvous_ops;
	c->who = *identity;
	c->owner = getpid();
	c->room = (size_t)identity->world + 2;
	status = rdt_channel_init(&c->channel, identity->job, identity->secret);
	explicit_bzero(c->who.secret, sizeof(c->who.secret)); /* only the derived key is needed */
	if (status)
		goto free_client;
	c->events = calloc(c->room, sizeof(*c->events));
	c->lost = calloc(1, (size_t)identity->world / 8 + 1);
	if (!c->events || !c->lost) {
		status = rdt_err(RDT_ERR_NOMEM, "no memory for the events of %d ranks",
				 identity->world);
		goto free_client;
	}
	if (identity->start_service && identity->rank == 0) {
		status = start_service(c, identity, deadline);
		if (status)
			goto free_client;
	}
	status = rdt_client_join(c, &address, deadline);
	if (status)
		goto stop_service;
	if (!c->who.join)
		rdt_info("rank %d of %d joined job %s on the rendezvous at %s", c->who.rank,
			 c->who.world, c->who.job, c->who.rendezvous);
	*b = (struct rdt_bootstrap *)c;
	return RDT_OK;

stop_service:
	leave_service(c, true);
free_client:
	release(c);
	return status;
}

static void client_nonce(struct rdt_bootstrap *b, unsigned char nonce[RDT_JOB_NONCE_BYTES])
{
	memcpy(nonce, self(b)->nonce, RDT_JOB_NONCE_BYTES);
}

static int client_fd(struct rdt_bootstrap *b)
{
	struct client *c = self(b);

	return c->channel.dead ? -1 : c->channel.fd;
}

static void client_bequeath(struct rdt_bootstrap *b, struct rdt_bootstrap *next)
{
	struct own_service *s = self(b)->service;

	if (s)
		__atomic_add_fetch(&s->users, 1, __ATOMIC_RELAXED);
	self(next)->service = s;
}

/* Says good-bye and waits, briefly, for the service to hang up: closing while its last words are
 * on the way would reset the connection, and the good-bye might be lost with it. */
static void say_bye(struct client *c)
{
	struct rdt_message m = { .type = RDT_MSG_BYE };
	int64_t deadline = rdt_deadline(BYE_S);
	int status = rdt_channel_send(&c->channel, &m, deadline);

	while (!status)
		status = rdt_client_receive(c, &m, deadline);
}

static void client_close(struct rdt_bootstrap *b, bool orderly)
{
	struct client *c = self(b);

	if (!b)
		return;
	if (c->owner == getpid()) {
		if (orderly && !c->channel.dead)
			say_bye(c);
		else if (c->channel.fd >= 0) /* at once, even if a forked child holds it too */
			shutdown(c->channel.fd, SHUT_RDWR);
		if (c->service)
			rdt_channel_disconnect(&c->channel);
	}
	leave_service(c, false);
	release(c);
}

const struct rdt_bootstrap_ops rdt_rendezvous_ops = {
	.size = sizeof(struct rdt_bootstrap_ops),
	.name = "rendezvous",
	.open = client_open,
	.nonce = client_nonce,
	.put = rdt_client_put,
	.get = rdt_client_get,
	.look = rdt_client_look,
	.forget = rdt_client_forget,
	.fence = rdt_client_fence,
	.set_idle = rdt_client_set_idle,
	.abort = rdt_client_abort,
	.verdict = rdt_client_verdict,
	.regroup = rdt_client_regroup,
	.broken = rdt_client_broken,
	.waiting = rdt_client_waiting,
	.bequeath = client_bequeath,
	.fd = client_fd,
	.watch_by = rdt_client_watch_by,
	.watch = rdt_client_watch,
	.close = client_close,
};
