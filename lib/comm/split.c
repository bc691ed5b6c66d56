/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dividing a communicator. The parts are communicators like any other: each meets at the rendezvous
 * as a job of its own, whose name is that of the job, a stroke and a number that only this division
 * has; the secret is the job's.
 */
#include "comm.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"

#include "journal.h"
#include "thread.h"
#include "trace.h"

struct member {
	int32_t color, key;
};

/* Do all ranks do `what`? Who waits in another fence, for the plan of a new call, is told here. */
static int agree(rdt_comm *comm, const char *what, int64_t deadline)
{
	struct rdt_fence fence;
	int status = rdt_peers_fence(comm, what, 0, &fence, deadline);

	if (!status && !fence.equal)
		status = rdt_fail(comm, RDT_ERR_MISMATCH, -1,
				  "rank %d calls \"%s\", rank %d calls \"%s\": all ranks must make "
				  "the same calls in the same order",
				  fence.rank_a, fence.signature_a, fence.rank_b, fence.signature_b);
	return status;
}

/* Everybody's color and key. */
static int exchange(rdt_comm *comm, struct member *members)
{
	int64_t deadline = rdt_deadline(comm->config.timeout_s);
	char key[RDT_KEY_MAX];
	int status;

	if (!comm->boot)
		return 0;
	status = agree(comm, "rdt_comm_split", deadline);
	if (status)
		return status;
	snprintf(key, sizeof(key), "split/%" PRIu64, comm->splits);
	status = rdt_peers_put(comm, key, &members[comm->rank], sizeof(*members));
	for (int r = 0; r < comm->size && !status; r++) {
		size_t length = sizeof(*members);

		if (r == comm->rank)
			continue;
		status = rdt_peers_get(comm, r, key, &members[r], &length, deadline);
		if (!status && length != sizeof(*members))
			status = rdt_err(RDT_ERR_SYSTEM, "rank %d sent a malformed color", r);
	}
	return status;
}

/* FNV-1a over what makes this part unlike all others: the job's nonce, which division, which color.
 */
static uint64_t name_of(const rdt_comm *comm, int color)
{
	const uint64_t words[] = { comm->splits, (uint64_t)color };
	uint64_t hash = 14695981039346656037ull;

	for (size_t i = 0; i < sizeof(comm->nonce); i++)
		hash = (hash ^ comm->nonce[i]) * 1099511628211ull;
	for (size_t i = 0; i < sizeof(words); i++)
		hash = (hash ^ ((const unsigned char *)words)[i]) * 1099511628211ull;
	return hash;
}

static int name_part(const rdt_comm *comm, int color, struct rdt_identity *part)
{
	size_t whole = strcspn(comm->identity.job, "/");

	if (whole + 1 + 16 >= sizeof(part->job))
		return rdt_err(
			RDT_ERR_INVALID,
			"the job's name \"%s\" is too long to name a part of it; at most %zu "
			"characters of it can be",
			comm->identity.job, sizeof(part->job) - 18);
	snprintf(part->job + whole, sizeof(part->job) - whole, "/%016" PRIx64,
		 name_of(comm, color));
	return 0;
}

static int join(rdt_comm *comm, const struct member *members, rdt_comm **out)
{
	struct rdt_identity part = comm->identity;
	struct rdt_config config = comm->config;
	const struct member *me = &members[comm->rank];
	int status = name_part(comm, me->color, &part);

	if (status)
		return status;
	part.rank = part.world = 0;
	part.start_service = false; /* it runs already */
	for (int r = 0; r < comm->size; r++) {
		const struct member *m = &members[r];

		if (m->color != me->color)
			continue;
		part.world++;
		part.rank += m->key < me->key || (m->key == me->key && r < comm->rank);
	}
	/* How many of the part share this host is not known, but not more than of the whole. */
	if (config.local_size > part.world)
		config.local_size = part.world;
	rdt_info("rank %d of %d is rank %d of the %d with color %d", comm->rank, comm->size,
		 part.rank, part.world, me->color);
	status = rdt_comm_join(&part, &config, NULL, out);
	if (!status)
		rdt_trace_share(comm, *out);
	explicit_bzero(&part, sizeof(part));
	return status;
}

static int split(rdt_comm *comm, int color, int key, rdt_comm **out)
{
	const struct rdt_call call = { .collective = RDT_COLL_BARRIER };
	struct member *members;
	int status;

	if (comm->failed)
		return rdt_fail_again(comm);
	members = calloc((size_t)comm->size, sizeof(*members));
	if (!members)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for the colors of %d ranks",
			       comm->size);
	rdt_journal_note(comm, &call, RDT_FORM_SPLIT, 0);
	members[comm->rank] = (struct member){ color, key };
	status = exchange(comm, members);
	if (!status && color >= 0)
		status = join(comm, members, out);
	comm->splits++;
	free(members);
	return status;
}

int rdt_split_whole(rdt_comm *comm, const char *what, rdt_comm **out)
{
	const struct rdt_call call = { .collective = RDT_COLL_BARRIER };
	struct rdt_identity whole = comm->identity;
	struct rdt_config config = comm->config;
	int status = 0;

	if (comm->failed)
		return rdt_fail_again(comm);
	rdt_journal_note(comm, &call, RDT_FORM_WINDOW, 0);
	if (comm->boot)
		status = agree(comm, what, rdt_deadline(comm->config.timeout_s));
	if (!status)
		status = name_part(comm, -1, &whole);
	comm->splits++;
	if (status)
		return status;
	whole.rank = comm->rank;
	whole.world = comm->size;
	whole.start_service = false;
	config.onesided = true;
	config.progress_thread = false;
	status = rdt_comm_join(&whole, &config, NULL, out);
	explicit_bzero(&whole, sizeof(whole));
	return status;
}

int rdt_comm_split(rdt_comm *comm, int color, int key, rdt_comm **out)
{
	int status;

	if (!comm || !out)
		return rdt_err(RDT_ERR_INVALID, "rdt_comm_split: %s is NULL",
			       comm ? "out" : "comm");
	*out = NULL;
	rdt_enter(comm);
	status = split(comm, color, key, out);
	rdt_leave(comm);
	return status;
}
