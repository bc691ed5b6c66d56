/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The next generation of a communicator: its survivors after a failure (rdt_comm_shrink), or all of
 * it with newcomers (rdt_comm_grow). Who belongs to it is agreed on at the rendezvous, in rounds
 * (lib/bootstrap/server_group.c). The generation is a job of its own, as a part is: new
 * connections, new keys, a nonce of its own, so that nothing that was sent in one can arrive in the
 * next.
 */
#include "comm.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/base/clock.h"

#include "thread.h"
#include "trace.h"

struct regroup {
	struct rdt_bootstrap *boot; /* of the generation before, or a newcomer's */
	const struct rdt_bootstrap_ops *ops;
	struct rdt_identity identity;
	struct rdt_config config;
	int size_before; /* ranks of the generation before; 0: a newcomer does not know */
	unsigned kind;
	int64_t deadline;
};

/* Worth another round: what ended the attempt were others, or the way to them. */
static bool is_passing(int status)
{
	return status == RDT_ERR_PEER_LOST || status == RDT_ERR_ABORTED ||
	       status == RDT_ERR_TIMEOUT || status == RDT_ERR_UNREACHABLE;
}

/* One that is alone now stays at the rendezvous, so that it can grow. */
static int stay(const struct regroup *g, rdt_comm *alone)
{
	struct rdt_identity identity = alone->identity;
	int status;

	alone->boot_ops = g->ops;
	status = g->ops->open(&identity, g->deadline, &alone->alone);
	explicit_bzero(&identity, sizeof(identity));
	return status;
}

/* Alone, a communicator has its connection to the rendezvous for this only. */
static struct rdt_bootstrap *rendezvous_of(const rdt_comm *comm)
{
	return comm->boot ? comm->boot : comm->alone;
}

static int join(const struct regroup *g, const struct rdt_generation *group, rdt_comm **out)
{
	struct rdt_identity identity = g->identity;
	struct rdt_config config = g->config;
	double left = (double)(g->deadline - rdt_now()) / 1e9 / 2;
	int status;

	memcpy(identity.job, group->job, sizeof(identity.job));
	identity.rank = group->rank;
	identity.world = group->world;
	identity.join = identity.start_service = false;
	/* There must be time to give one up that has stopped, and to go on without it. */
	if (config.start_timeout_s > left)
		config.start_timeout_s = left;
	/* How many share this host is not known, but not more than those before and the new ones.
	 */
	if (config.local_size && g->size_before && group->world > g->size_before)
		config.local_size += group->world - g->size_before;
	if (config.local_size > group->world)
		config.local_size = group->world;
	status = rdt_comm_join(&identity, &config, g->boot, out);
	explicit_bzero(&identity, sizeof(identity));
	if (!status && group->world == 1)
		status = stay(g, *out);
	if (status && *out) {
		rdt_comm_release(*out, true);
		*out = NULL;
	}
	if (!status)
		(*out)->config.start_timeout_s = g->config.start_timeout_s;
	return status;
}

/* Rounds until a generation stands. *out NULL and 0: nobody waited to be admitted. */
static int regroup(struct regroup *g, rdt_comm **out)
{
	struct rdt_generation group;
	rdt_comm *comm = NULL;
	int status;

	for (;;) {
		status = g->ops->regroup(g->boot,
					 g->kind | (comm ? (unsigned)RDT_REGROUP_STANDS : 0),
					 &group, g->deadline);
		if (status)
			break;
		if (group.kind & RDT_GROUP_STANDS) {
			*out = comm;
			return 0;
		}
		if (comm)
			rdt_comm_release(comm, false);
		comm = NULL;
		if (group.kind & RDT_GROUP_NOBODY)
			return 0;
		status = join(g, &group, &comm);
		if (status && !is_passing(status))
			break;
		if (status)
			rdt_info("the next generation does not stand (%s); once more",
				 rdt_last_error());
	}
	if (comm)
		rdt_comm_release(comm, false);
	return status;
}

/* ---- memory ------------------------------------------------------------------------------------
 */

/*
 * A process that was left behind alive may go on where it was stopped: in a store to memory of
 * ours that it has mapped. So this memory becomes other pages with the same bytes at the same
 * address, which nobody else has.
 */
static int make_own(struct rdt_mem *mem)
{
	void *copy = mmap(NULL, mem->block.bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (copy == MAP_FAILED)
		return rdt_err_errno(RDT_ERR_NOMEM,
				     "no %zu bytes to take memory of rdt_alloc away from a rank "
				     "that was left behind",
				     mem->block.bytes);
	memcpy(copy, mem->block.base, mem->block.bytes);
	if (mremap(copy, mem->block.bytes, mem->block.bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
		   mem->block.base) == MAP_FAILED) {
		munmap(copy, mem->block.bytes);
		return rdt_err_errno(RDT_ERR_NOMEM, "memory of rdt_alloc cannot be taken away from "
						    "a rank that was left behind");
	}
	return 0;
}

static int make_all_own(rdt_comm *comm)
{
	int status = 0;

	for (size_t i = 0; i < comm->memory.n && !status; i++)
		if (comm->memory.entries[i]->block.base)
			status = make_own(comm->memory.entries[i]);
	return status;
}

/* All who go on have come here, and store no more. Of the others nobody knows: one whose connection
 * to the rendezvous has ended may live. */
static int take_memory(rdt_comm *comm, int status, const rdt_comm *survivors)
{
	char text[768];

	if (!status)
		return survivors->size < comm->size ? make_all_own(comm) : 0;
	snprintf(text, sizeof(text), "%s", rdt_last_error());
	(void)make_all_own(comm);
	return rdt_err((enum rdt_status)status, "%s", text);
}

/* ---- the calls ----------------------------------------------------------------------------------
 */

static struct regroup begin(rdt_comm *comm, unsigned kind)
{
	return (struct regroup){
		.boot = rendezvous_of(comm),
		.ops = comm->boot_ops,
		.identity = comm->identity,
		.config = comm->config,
		.size_before = comm->size,
		.kind = kind,
		.deadline = rdt_deadline(comm->config.timeout_s),
	};
}

static int shrink(rdt_comm *comm, rdt_comm **survivors)
{
	struct regroup g;
	int status;

	rdt_progress_glance(comm);
	/* Who has not noticed yet must come, too; and nothing moves in here any more. */
	if (!comm->failed)
		rdt_fail(comm, RDT_ERR_ABORTED, -1, "rank %d called rdt_comm_shrink", comm->rank);
	g = begin(comm, 0);
	if (comm->size == 1 && !comm->alone)
		return rdt_comm_join(&g.identity, &g.config, NULL, survivors);
	if (!g.boot)
		return rdt_err(RDT_ERR_INVALID,
			       "rdt_comm_shrink: rank %d has done so before with this communicator",
			       comm->rank);
	status = regroup(&g, survivors);
	explicit_bzero(&g.identity, sizeof(g.identity));
	status = take_memory(comm, status, *survivors);
	if (!status)
		rdt_trace_share(comm, *survivors);
	if (status && *survivors) {
		rdt_comm_release(*survivors, false);
		*survivors = NULL;
	}
	/* This generation is over. Whoever fails here must not be waited for. */
	if (*survivors)
		comm->boot_ops->bequeath(g.boot, rendezvous_of(*survivors));
	comm->boot_ops->close(g.boot, !status);
	comm->boot = comm->alone = NULL;
	return status;
}

int rdt_comm_shrink(rdt_comm *comm, rdt_comm **survivors)
{
	int status;

	if (!comm || !survivors)
		return rdt_err(RDT_ERR_INVALID, "rdt_comm_shrink: %s is NULL",
			       comm ? "survivors" : "comm");
	*survivors = NULL;
	rdt_enter(comm);
	status = shrink(comm, survivors);
	rdt_leave(comm);
	return status;
}

static int grow(rdt_comm *comm, rdt_comm **larger)
{
	struct regroup g;
	char text[768];
	int status;

	if (comm->failed)
		return rdt_fail_again(comm);
	g = begin(comm, RDT_REGROUP_ADMIT);
	if (!g.boot)
		return rdt_err(RDT_ERR_INVALID, "rdt_comm_grow: a job that began as one process "
						"has no rendezvous where others could join it");
	status = regroup(&g, larger);
	explicit_bzero(&g.identity, sizeof(g.identity));
	if (!status && *larger) {
		rdt_trace_share(comm, *larger);
		comm->boot_ops->bequeath(g.boot, rendezvous_of(*larger));
	}
	/* What the service refuses it refuses to all alike. Else some may have gone on. */
	if (!status || status == RDT_ERR_INVALID)
		return status;
	snprintf(text, sizeof(text), "%s", rdt_last_error());
	if (comm->boot && rdt_fail_watch(comm) < 0)
		return comm->failed;
	return rdt_fail(comm, status, -1, "%s", text);
}

int rdt_comm_grow(rdt_comm *comm, rdt_comm **larger)
{
	int status;

	if (!comm || !larger)
		return rdt_err(RDT_ERR_INVALID, "rdt_comm_grow: %s is NULL",
			       comm ? "larger" : "comm");
	*larger = NULL;
	rdt_enter(comm);
	status = grow(comm, larger);
	rdt_leave(comm);
	return status;
}

int rdt_comm_set_timeout(rdt_comm *comm, double seconds)
{
	if (!comm || !rdt_seconds_ok(seconds))
		return rdt_err(RDT_ERR_INVALID, "rdt_comm_set_timeout: %s",
			       comm ? RDT_SECONDS_RULE : "no communicator");
	rdt_enter(comm);
	comm->config.timeout_s = seconds;
	rdt_leave(comm);
	return 0;
}

int rdt_comm_waiting(rdt_comm *comm)
{
	struct rdt_bootstrap *boot;
	int n = 0;

	if (!comm)
		return rdt_err(RDT_ERR_INVALID, "rdt_comm_waiting: no communicator");
	rdt_enter(comm);
	boot = rendezvous_of(comm);
	if (comm->alone)
		(void)comm->boot_ops->broken(comm->alone); /* takes in what has come */
	else
		rdt_progress_glance(comm);
	if (boot && !comm->failed)
		n = comm->boot_ops->waiting(boot);
	rdt_leave(comm);
	return n;
}

int rdt_comm_newcomer(const struct rdt_identity *identity, const struct rdt_config *config,
		      rdt_comm **out)
{
	struct regroup g = {
		.ops = &rdt_rendezvous_ops,
		.identity = *identity,
		.config = *config,
		.deadline = rdt_deadline(config->start_timeout_s),
	};
	int status = g.ops->open(identity, g.deadline, &g.boot);

	if (!status) {
		status = regroup(&g, out);
		g.ops->close(g.boot, true);
	}
	if (!status)
		rdt_log_set_rank((*out)->rank);
	explicit_bzero(&g.identity, sizeof(g.identity));
	return status;
}
