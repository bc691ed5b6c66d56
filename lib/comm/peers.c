/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Peers: which transport reaches whom, and the connections. Transports are opened when the
 * communicator is made; a pair is connected when the first plan needs it. Which one a pair uses
 * follows from the two addresses alone, so both sides choose alike, and it is said at INFO, never
 * silently changed.
 */
#include "comm.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"

#include "journal.h"

/* ---- the rendezvous, with everything else going on meanwhile
 * -------------------------------------- */

/* The answer of a call to the rendezvous: events that came with it decide what a failure is. */
static int settle(rdt_comm *comm, int status)
{
	char text[768];

	if (comm->failed) /* while idling */
		return rdt_fail_again(comm);
	/* Events that came with the answer lie in no socket: nothing else would wake us for them.
	 */
	if (status >= 0)
		return rdt_fail_watch(comm) < 0 ? comm->failed : status;
	snprintf(text, sizeof(text), "%s", rdt_last_error());
	if (rdt_fail_watch(comm) < 0)
		return comm->failed;
	return rdt_fail(comm, status, -1, "%s", text);
}

static int keep_going(void *arg)
{
	rdt_comm *comm = arg;
	int done, judged;

	if (comm->before && comm->boot_ops->broken(comm->before))
		return rdt_err(RDT_ERR_PEER_LOST, "one of the %d ranks that were to go on has gone",
			       comm->size);
	done = rdt_progress(comm);
	judged = done ? 0 : rdt_journal_compare(comm);
	return judged < 0 ? judged : done;
}

/* Operations in flight go on while this rank waits at the rendezvous: a peer may have to finish one
 * before it comes there itself. They must not ask there themselves meanwhile; only in a fence they
 * may, for which peers can be as late as they like. */
static void idle_while(rdt_comm *comm, bool waiting, bool fence)
{
	bool idle = waiting && (comm->active || comm->opening || comm->before);

	comm->asking = waiting && !fence;
	comm->boot_ops->set_idle(comm->boot, idle ? keep_going : NULL, comm);
}

int rdt_peers_fence(rdt_comm *comm, const char *signature, uint64_t flags, struct rdt_fence *fence,
		    int64_t deadline)
{
	int status;

	idle_while(comm, true, true);
	status = comm->boot_ops->fence(comm->boot, signature, flags, fence, deadline);
	idle_while(comm, false, false);
	return settle(comm, status);
}

int rdt_peers_get(rdt_comm *comm, int rank, const char *key, void *value, size_t *length,
		  int64_t deadline)
{
	int status;

	size_t room = *length;

	idle_while(comm, true, false);
	status = comm->boot_ops->get(comm->boot, rank, key, value, length, deadline);
	idle_while(comm, false, false);
	if (status == 0 && *length > room)
		status = rdt_err(RDT_ERR_SYSTEM,
				 "rank %d has put %zu bytes as '%s', and at most %zu make sense: "
				 "do all ranks run the same version?",
				 rank, *length, key, room);
	return settle(comm, status);
}

int rdt_peers_put(rdt_comm *comm, const char *key, const void *value, size_t length)
{
	int status;

	idle_while(comm, true, false);
	status = comm->boot_ops->put(comm->boot, key, value, length);
	idle_while(comm, false, false);
	return settle(comm, status);
}

void rdt_peers_leave(rdt_comm *comm, double seconds)
{
	struct rdt_fence fence;

	idle_while(comm, true, true);
	comm->boot_ops->fence(comm->boot, "leave", 0, &fence, rdt_deadline(seconds));
	idle_while(comm, false, false);
}

/* ---- opening
 * ---------------------------------------------------------------------------------------- */

static int open_one(rdt_comm *comm, const struct rdt_transport_ops *ops)
{
	struct rdt_transport_config config = {
		.rank = comm->rank,
		.size = comm->size,
		.generation = comm->generation,
		/* Forced shm reaches whom it can: RDTRAIN_HOST_ID then only tells the algorithms
		 * what to take for a host. */
		.host_id =
			comm->config.transport == RDT_TRANSPORT_SHM ? NULL : comm->config.host_id,
		.ifname = comm->config.ifname,
		.ib_hca = comm->config.ib_hca,
		.ib_timeout = comm->config.ib_timeout,
		.ib_retry_cnt = comm->config.ib_retry_cnt,
		.ib_tc = comm->config.ib_tc,
		.ib_sl = comm->config.ib_sl,
		.ib_rails = comm->config.ib_rails,
		.cma = comm->config.cma,
	};
	struct rdt_open_transport *t = &comm->transports[comm->n_transports];
	int status;

	memcpy(config.nonce, comm->nonce, sizeof(config.nonce));
	status = ops->open(&config, &t->handle);
	if (status)
		return status;
	t->ops = ops;
	comm->n_transports++;
	return 0;
}

/* All ranks must open the same transports in the same order; each publishes all of its addresses.
 */
static int publish_addresses(rdt_comm *comm)
{
	unsigned char blob[RDT_TRANSPORTS * (2 + RDT_ADDRESS_MAX)];
	size_t at = 0;

	for (int t = 0; t < comm->n_transports; t++) {
		size_t n = RDT_ADDRESS_MAX;
		int status = comm->transports[t].ops->address(comm->transports[t].handle,
							      blob + at + 2, &n);

		if (status)
			return status;
		blob[at] = (unsigned char)n;
		blob[at + 1] = (unsigned char)(n >> 8);
		at += 2 + n;
	}
	return rdt_peers_put(comm, "address", blob, at);
}

int rdt_peers_open(rdt_comm *comm, int64_t deadline)
{
	enum rdt_transport_choice choice = comm->config.transport;
	char words[RDT_SIGNATURE_MAX];
	struct rdt_fence fence;
	int status;

	snprintf(words, sizeof(words), "librdtrain %s, transport %s", rdt_version(),
		 rdt_transport_choice_name(choice));
	status = rdt_peers_fence(comm, words, 0, &fence, deadline);
	if (status)
		return status;
	if (!fence.equal)
		return rdt_fail(comm, RDT_ERR_MISMATCH, -1,
				"rank %d runs \"%s\", rank %d runs \"%s\"", fence.rank_a,
				fence.signature_a, fence.rank_b, fence.signature_b);
	_Static_assert(RDT_JOB_NONCE_BYTES == RDT_NONCE_BYTES, "one nonce for both");
	comm->boot_ops->nonce(comm->boot, comm->nonce);
	status = rdt_hosts_find(comm, deadline);
	if (status)
		return status;

	/* A window has one way to each word, so that all its atomics meet there: one transport, and
	 * of verbs one device. */
	if (choice == RDT_TRANSPORT_SHM ||
	    (choice == RDT_TRANSPORT_AUTO && (comm->one_host || !comm->config.onesided))) {
		status = open_one(comm, &rdt_shm_ops);
		if (status)
			return status;
	}
	if (choice == RDT_TRANSPORT_VERBS || (choice == RDT_TRANSPORT_AUTO && !comm->one_host)) {
		status = open_one(comm, comm->config.onesided ? &rdt_verbs_ops : &rdt_rails_ops);
		if (status)
			return status;
	}
	return publish_addresses(comm);
}

void rdt_peers_close(rdt_comm *comm)
{
	while (comm->n_transports > 0) {
		struct rdt_open_transport *t = &comm->transports[--comm->n_transports];

		t->ops->close(t->handle);
	}
}

/* ---- connecting
 * ------------------------------------------------------------------------------------- */

int rdt_peers_begin(rdt_comm *comm, int rank, int64_t deadline)
{
	unsigned char blob[RDT_TRANSPORTS * (2 + RDT_ADDRESS_MAX)];
	struct rdt_peer *peer = &comm->peers[rank];
	size_t length = sizeof(blob), at = 0;
	char reasons[512] = "";
	int status;

	status = rdt_peers_get(comm, rank, "address", blob, &length, deadline);
	if (status)
		return status;
	for (int t = 0; t < comm->n_transports; t++) {
		const struct rdt_transport_ops *ops = comm->transports[t].ops;
		size_t n = at + 2 <= length ? blob[at] | (size_t)blob[at + 1] << 8 : 0;
		size_t said = strlen(reasons);
		char why[160] = "";

		if (at + 2 > length || n > length - at - 2)
			return rdt_err(RDT_ERR_SYSTEM, "rank %d sent a malformed address", rank);
		if (ops->reachable(comm->transports[t].handle, blob + at + 2, n, why,
				   sizeof(why))) {
			rdt_info("rank %d: %s (%s)", rank, ops->name, why);
			peer->transport = t;
			status = ops->connect(comm->transports[t].handle, rank, blob + at + 2, n,
					      &peer->ep);
			if (status == 0)
				comm->connecting++;
			return rdt_fail_peer(comm, rank, status);
		}
		snprintf(reasons + said, sizeof(reasons) - said, "%s%s: %s", said ? "; " : "",
			 ops->name, why);
		at += 2 + n;
	}
	return rdt_err(RDT_ERR_UNREACHABLE,
		       "rank %d cannot be reached from rank %d (transport %s): %s", rank,
		       comm->rank, rdt_transport_choice_name(comm->config.transport), reasons);
}

int rdt_peers_progress(rdt_comm *comm)
{
	int up = 0;

	for (int r = 0; r < comm->size; r++) {
		struct rdt_peer *peer = &comm->peers[r];
		const struct rdt_transport_ops *ops;
		char text[256];
		int status;

		if (!peer->ep || peer->up)
			continue;
		ops = comm->transports[peer->transport].ops;
		status = ops->connected(peer->ep);
		if (rdt_fail_peer(comm, r, status) < 0)
			return rdt_fail(comm, status, -1, "%s", rdt_last_error());
		if (status == 0)
			continue;
		peer->up = true;
		comm->connecting--;
		up++;
		ops->describe(peer->ep, text, sizeof(text));
		rdt_info("rank %d connected: %s", r, text);
	}
	return up;
}

static bool all_up(rdt_comm *comm, void *what)
{
	(void)what;
	return comm->connecting == 0;
}

int rdt_peers_connect(rdt_comm *comm, const bool *peers, int64_t deadline)
{
	int status = 0;

	for (int r = 0; r < comm->size && !status; r++)
		if (peers[r] && !comm->peers[r].ep)
			status = rdt_peers_begin(comm, r, deadline);
	if (!status && comm->connecting)
		status = rdt_progress_until(comm, all_up, NULL, deadline, "connecting");
	for (int r = 0; r < comm->size && !status; r++)
		if (peers[r])
			status = rdt_journal_reach(comm, r, deadline);
	return status;
}
