/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Endpoints: made by connect(), brought up by verbs_connect.c and verbs_accept.c, described for the
 * log, freed by close().
 */
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "verbs.h"

static int ep_room(struct rdt_verbs *t)
{
	uint32_t eps = t->neps + 1;

	if (eps > t->eps_room) {
		uint32_t room = t->eps_room ? t->eps_room * 2 : 16;
		struct rdt_verbs_ep **list = realloc(t->eps, room * sizeof(*list));

		if (!list)
			return -1;
		t->eps = list;
		t->eps_room = room;
	}
	if (eps * 2 > t->by_qp_size) {
		uint32_t size = t->by_qp_size ? t->by_qp_size * 2 : 64;
		struct rdt_verbs_slot *map = calloc(size, sizeof(*map));

		if (!map)
			return -1;
		free(t->by_qp);
		t->by_qp = map;
		t->by_qp_size = size;
		rdt_verbs_map_qps(t);
	}
	return 0;
}

/* One end of a connection, `active` or not, in t->eps; begun by the caller. */
static int new_endpoint(struct rdt_verbs *t, int rank, const struct rdt_verbs_peer *peer,
			bool active, struct rdt_verbs_ep **out)
{
	struct rdt_verbs_ep *ep;
	int pairs[RDT_VERBS_TRIES][2];
	int rc, npairs;

	npairs = rdt_verbs_pairs(t->choice.local, t->choice.n, peer->addr, peer->n, pairs,
				 RDT_VERBS_TRIES);
	if (npairs == 0)
		return rdt_err(RDT_ERR_UNREACHABLE,
			       "verbs: rank %d and rank %d have no kind of address in common "
			       "(IPv4, IPv6)",
			       t->config.rank, rank);
	rc = rdt_verbs_make_room(t, t->neps + 1, t->reserved);
	if (rc)
		return rc;
	ep = calloc(1, sizeof(*ep));
	if (!ep)
		goto nomem;
	ep->counters = calloc(RDT_CHANNELS, sizeof(*ep->counters));
	ep->sent = calloc(t->sq_depth, sizeof(*ep->sent));
	if (!ep->counters || !ep->sent || ep_room(t) != 0)
		goto nomem_ep;

	ep->head.transport = (struct rdt_transport *)t;
	ep->head.peer = rank;
	ep->t = t;
	ep->index = t->neps;
	ep->active = active;
	ep->peer = *peer;
	ep->max_inline = t->max_inline;
	ep->nlinks = ep->active ? npairs : 1;
	for (int i = 0; i < ep->nlinks; i++)
		ep->links[i] =
			(struct rdt_verbs_link){ .ep = ep, .src = pairs[i][0], .dst = pairs[i][1] };
	t->eps[t->neps++] = ep;
	t->connecting++;
	*out = ep;
	return rdt_verbs_replenish(t, true); /* one more, for the good-bye */
nomem_ep:
	free(ep->sent);
	free(ep->counters);
	free(ep);
nomem:
	return rdt_err(RDT_ERR_NOMEM, "verbs: no memory for the connection to rank %d", rank);
}

int rdt_verbs_connect(struct rdt_transport *transport, int rank, const void *blob, size_t length,
		      struct rdt_ep **out)
{
	struct rdt_verbs *t = rdt_verbs(transport);
	struct rdt_verbs_peer peer;
	struct rdt_verbs_ep *ep;
	int rc;

	if (rank < 0 || rank >= t->config.size)
		return rdt_err(RDT_ERR_INVALID, "verbs: rank %d cannot connect to rank %d of %d",
			       t->config.rank, rank, t->config.size);
	if (t->shut || t->left)
		return rdt_err(RDT_ERR_ABORTED, "verbs: connect after shutdown");
	if (t->by_rank[rank])
		return rdt_err(RDT_ERR_INVALID, "verbs: rank %d is connected already", rank);
	if (!rdt_verbs_address_unpack(blob, length, &peer) || peer.rank != (uint32_t)rank)
		return rdt_err(RDT_ERR_INVALID,
			       "verbs: %zu bytes are no address of rank %d: do all ranks run the "
			       "same version?",
			       length, rank);
	rc = rdt_verbs_bounce_open(t);
	/* To itself a rank is both ends: what it asks, the twin answers. */
	if (!rc && rank == t->config.rank)
		rc = new_endpoint(t, rank, &peer, false, &t->twin);
	if (!rc)
		rc = new_endpoint(t, rank, &peer, t->config.rank <= rank, &ep);
	if (rc)
		return rc; /* close() frees what was made */
	t->by_rank[rank] = ep;
	if (ep->active)
		rdt_verbs_ep_drive(ep, rdt_now());
	else
		rdt_verbs_take_pending(ep);
	*out = (struct rdt_ep *)ep;
	return 0;
}

int rdt_verbs_connected(struct rdt_ep *endpoint)
{
	struct rdt_verbs_ep *ep = rdt_verbs_ep(endpoint);

	switch (ep->state) {
	case RDT_EP_CONNECTING: return 0;
	case RDT_EP_UP:
	case RDT_EP_LEFT: ep->head.counters = ep->counters; return 1;
	case RDT_EP_FAILED: break;
	}
	return rdt_err((enum rdt_status)ep->status, "%s", ep->why);
}

void rdt_verbs_describe(struct rdt_ep *endpoint, char *text, size_t size)
{
	const struct rdt_verbs_ep *ep = rdt_verbs_ep(endpoint);
	char here[RDT_VERBS_ADDR_TEXT], there[RDT_VERBS_ADDR_TEXT];
	const struct rdt_verbs *t = ep->t;

	if (ep->up) {
		const struct rdt_verbs_local *local = &t->choice.local[ep->up->src];

		snprintf(text, size, "verbs %s port %d %s -> %s %s, mtu %d, inline %u",
			 t->choice.device, local->port, rdt_verbs_addr_text(&local->addr, here),
			 ep->peer.device, rdt_verbs_addr_text(&ep->peer.addr[ep->up->dst], there),
			 ep->mtu ? 128 << ep->mtu : 0, ep->max_inline);
	} else if (ep->state == RDT_EP_FAILED) {
		snprintf(text, size, "%s", ep->why);
	} else if (ep->active && ep->next_link > 0) {
		const struct rdt_verbs_link *link = &ep->links[ep->next_link - 1];
		const struct rdt_verbs_addr *peer = &ep->peer.addr[link->dst];

		snprintf(text, size, "verbs, connecting: %s -> %s port %u for %.1f s, try %d of %d",
			 rdt_verbs_addr_text(&t->choice.local[link->src].addr, here),
			 rdt_verbs_addr_text(peer, there), peer->port,
			 (double)(rdt_now() - link->since) / 1e9, ep->next_link, ep->nlinks);
	} else {
		snprintf(text, size, "verbs, connecting: waiting for the request of rank %d",
			 ep->head.peer);
	}
}

void rdt_verbs_stop_connecting(struct rdt_verbs *t)
{
	rdt_verbs_drop_pending(t, -1, RDT_REFUSED_CLOSED);
	for (uint32_t i = 0; i < t->neps; i++) {
		struct rdt_verbs_ep *ep = t->eps[i];

		if (ep->state == RDT_EP_CONNECTING)
			for (int l = 0; l < ep->nlinks; l++)
				rdt_verbs_link_close(&ep->links[l]);
	}
}

void rdt_verbs_ep_free(struct rdt_verbs_ep *ep)
{
	for (int i = 0; i < ep->nlinks; i++)
		rdt_verbs_link_close(&ep->links[i]);
	free(ep->sent);
	if (!ep->counters_lent)
		free(ep->counters);
	free(ep);
}
