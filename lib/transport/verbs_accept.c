/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The side that is asked for a connection: who asks is vetted, accepted, kept for later or turned
 * down. One request of a peer is accepted at a time; a few others wait in case that one fails, and
 * those that come before our own connect() wait for it.
 */
#include <errno.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "verbs.h"

static void refuse(struct rdma_cm_id *id, enum rdt_verbs_refusal refusal)
{
	unsigned char why[8];

	rdt_verbs_refusal_pack(refusal, why);
	rdma_reject(id, why, sizeof(why)); /* should it fail, destroying the id says no as well */
	rdma_destroy_id(id);
}

static int local_index(const struct rdt_verbs *t, const struct sockaddr *sa)
{
	struct rdt_verbs_addr addr;

	if (sa && rdt_verbs_from_sockaddr(sa, &addr))
		for (int i = 0; i < t->choice.n; i++)
			if (t->choice.local[i].addr.family == addr.family &&
			    memcmp(t->choice.local[i].addr.ip, addr.ip, sizeof(addr.ip)) == 0)
				return i;
	return 0;
}

static int peer_index(const struct rdt_verbs_peer *peer, const struct sockaddr *sa)
{
	struct rdt_verbs_addr addr;

	if (sa && rdt_verbs_from_sockaddr(sa, &addr))
		for (int i = 0; i < peer->n; i++)
			if (peer->addr[i].family == addr.family &&
			    memcmp(peer->addr[i].ip, addr.ip, sizeof(addr.ip)) == 0)
				return i;
	return 0;
}

static bool link_accept(struct rdt_verbs_ep *ep, struct rdma_cm_id *id)
{
	struct rdt_verbs_link *link = &ep->links[0];
	unsigned char hello[RDT_VERBS_HELLO_BYTES];
	struct rdma_conn_param param;

	*link = (struct rdt_verbs_link){
		.ep = ep,
		.id = id,
		.state = RDT_LINK_ASKED,
		.src = local_index(ep->t, rdma_get_local_addr(id)),
		.dst = peer_index(&ep->peer, rdma_get_peer_addr(id)),
		.since = rdt_now(),
	};
	id->context = link;
	rdt_verbs_set_options(ep->t, id);
	if (!rdt_verbs_link_qp(link))
		return false;
	/* The peer may write as soon as it has our answer, before we hear that it has. */
	ep->qp = id->qp;
	rdt_verbs_map_qps(ep->t);
	rdt_verbs_own_hello(ep, hello);
	param = rdt_verbs_conn_param(ep->t, hello);
	if (rdma_accept(id, &param) != 0) {
		rdt_verbs_link_fail(link, "the request could not be accepted: %s", strerror(errno));
		return false;
	}
	return true;
}

/* Accepts the newest request that waits for this endpoint: the older ones are likelier given up. */
void rdt_verbs_take_pending(struct rdt_verbs_ep *ep)
{
	struct rdt_verbs *t = ep->t;

	for (int i = t->npending - 1; i >= 0; i--) {
		struct rdma_cm_id *id = t->pending[i].id;

		if (t->pending[i].rank != ep->head.peer)
			continue;
		memmove(&t->pending[i], &t->pending[i + 1],
			(size_t)(--t->npending - i) * sizeof(t->pending[0]));
		if (link_accept(ep, id))
			return;
	}
}

void rdt_verbs_drop_pending(struct rdt_verbs *t, int rank, enum rdt_verbs_refusal refusal)
{
	int kept = 0;

	for (int i = 0; i < t->npending; i++) {
		if (rank < 0 || t->pending[i].rank == rank)
			refuse(t->pending[i].id, refusal);
		else
			t->pending[kept++] = t->pending[i];
	}
	t->npending = kept;
}

static enum rdt_verbs_refusal vet(const struct rdt_verbs *t, const struct rdt_verbs_cm_event *event,
				  int *from)
{
	struct rdt_verbs_hello hello;

	if (t->shut || t->left)
		return RDT_REFUSED_CLOSED;
	if (!rdt_verbs_hello_unpack(event->data, event->length, &hello) ||
	    !rdt_verbs_same_nonce(hello.nonce, t->config.nonce))
		return RDT_REFUSED_STRANGER;
	if (hello.generation != t->config.generation)
		return RDT_REFUSED_GENERATION;
	if (hello.to != (uint32_t)t->config.rank || hello.from > hello.to ||
	    (hello.from == hello.to && !t->twin))
		return RDT_REFUSED_RANK;
	*from = (int)hello.from;
	return RDT_REFUSED_UNKNOWN;
}

void rdt_verbs_on_request(struct rdt_verbs *t, const struct rdt_verbs_cm_event *event)
{
	struct rdt_verbs_ep *ep;
	int from = -1, waiting = 0;
	enum rdt_verbs_refusal refusal = vet(t, event, &from);

	event->id->context = NULL;
	if (from < 0) {
		/* Many are told of less and less often: 1, 2, 4, 8... */
		t->strangers++;
		if ((t->strangers & (t->strangers - 1)) == 0)
			rdt_info("verbs: rank %d turned down a connection request (reason %d; "
				 "%lu so far)",
				 t->config.rank, refusal, (unsigned long)t->strangers);
		refuse(event->id, refusal);
		return;
	}
	ep = from == t->config.rank ? t->twin : t->by_rank[from];
	if (ep && ep->state != RDT_EP_CONNECTING) {
		refuse(event->id, RDT_REFUSED_TWICE);
		return;
	}
	if (ep && !ep->links[0].id) {
		if (!link_accept(ep, event->id))
			rdt_verbs_take_pending(ep);
		return;
	}
	for (int i = 0; i < t->npending; i++)
		waiting += t->pending[i].rank == from;
	if (waiting == RDT_VERBS_PENDING_PER_PEER || t->npending == t->pending_room) {
		refuse(event->id, RDT_REFUSED_BUSY);
		return;
	}
	t->pending[t->npending++] = (struct rdt_verbs_pending){ event->id, from };
}
