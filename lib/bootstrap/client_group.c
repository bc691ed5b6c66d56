/* SPDX-License-Identifier: BSD-3-Clause */
/* The next generation, as the service agrees on it with all members (server_group.c). */
#include "lib/bootstrap/client.h"

#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"

int rdt_client_regroup(struct rdt_bootstrap *b, unsigned kind, struct rdt_generation *group,
		       int64_t deadline)
{
	struct client *c = self(b);
	struct rdt_message m = { .type = RDT_MSG_REGROUP,
				 .number = ++c->number,
				 .kind = (uint8_t)kind };
	struct rdt_message answer;
	int status = rdt_client_check_owner(c), idle;

	if (status)
		return status;
	m.flags = (uint64_t)rdt_left_ms(deadline);
	status = rdt_client_ask(c, &m, RDT_MSG_GROUP, &answer, deadline, &idle);
	if (idle)
		return idle;
	if (status == RDT_AGAIN && c->who.join)
		return rdt_err(RDT_ERR_TIMEOUT,
			       "nobody has admitted this process to job %s on the rendezvous at "
			       "%s; does the job run, and call rdt_comm_grow? "
			       "(RDTRAIN_START_TIMEOUT is how long to wait)",
			       c->who.job, c->who.rendezvous);
	if (status == RDT_AGAIN)
		return rdt_err(RDT_ERR_TIMEOUT,
			       "rank %d: the rendezvous service at %s did not say in time who goes "
			       "on",
			       c->who.rank, c->who.rendezvous);
	status = status ? rdt_client_service_gone(c) : rdt_client_as_told(&answer);
	if (status)
		return status;
	c->broken = false;
	group->kind = answer.kind;
	group->rank = (int)answer.rank;
	group->world = (int)answer.world;
	memcpy(group->job, answer.job, sizeof(group->job));
	return RDT_OK;
}

bool rdt_client_broken(struct rdt_bootstrap *b)
{
	rdt_client_take_in(self(b));
	return self(b)->broken || self(b)->channel.dead;
}

int rdt_client_waiting(struct rdt_bootstrap *b)
{
	return self(b)->waiting;
}
