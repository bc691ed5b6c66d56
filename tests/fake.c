/* SPDX-License-Identifier: BSD-3-Clause */
/* The transport for tests; see fake.h. */
#include "fake.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"

#define QUEUE 64 /* puts that one pair holds */

struct fake_put {
	const char *src;
	char *dst;
	uint64_t length;
	uint32_t channel;
};

struct rdt_ep {
	struct rdt_ep_head head;
	struct fake_net *net;
	int from, to;
	struct fake_put queue[QUEUE]; /* posted and not delivered, from the oldest */
	unsigned first, n;
	uint64_t delivered; /* and not complete yet: delivered - completed */
};

struct rdt_transport {
	struct fake_net *net;
	int rank;
	uint32_t *counters[FAKE_RANKS]; /* by sender */
};

struct rdt_remote {
	char *base;
	size_t bytes;
	struct rdt_remote *next;
};

struct fake_net {
	int ranks;
	uint64_t dice;
	struct rdt_transport transports[FAKE_RANKS];
	struct rdt_ep eps[FAKE_RANKS][FAKE_RANKS];
	struct rdt_remote *remotes;
};

unsigned fake_dice(struct fake_net *net, unsigned n)
{
	/* xorshift64* */
	net->dice ^= net->dice >> 12;
	net->dice ^= net->dice << 25;
	net->dice ^= net->dice >> 27;
	return (unsigned)((net->dice * 2685821657736338717u) >> 33) % n;
}

struct fake_net *fake_net_new(int ranks, uint64_t seed)
{
	struct fake_net *net = calloc(1, sizeof(*net));

	net->ranks = ranks;
	net->dice = seed * 2 + 1;
	for (int r = 0; r < ranks; r++) {
		net->transports[r].net = net;
		net->transports[r].rank = r;
		for (int from = 0; from < ranks; from++)
			net->transports[r].counters[from] = calloc(RDT_CHANNELS, sizeof(uint32_t));
	}
	for (int from = 0; from < ranks; from++)
		for (int to = 0; to < ranks; to++) {
			struct rdt_ep *ep = &net->eps[from][to];

			ep->net = net;
			ep->from = from;
			ep->to = to;
			ep->head.transport = &net->transports[from];
			ep->head.peer = to;
			ep->head.counters = net->transports[from].counters[to];
		}
	return net;
}

void fake_net_free(struct fake_net *net)
{
	for (int r = 0; r < net->ranks; r++)
		for (int from = 0; from < net->ranks; from++)
			free(net->transports[r].counters[from]);
	while (net->remotes) {
		struct rdt_remote *remote = net->remotes;

		net->remotes = remote->next;
		free(remote);
	}
	free(net);
}

struct rdt_transport *fake_transport(struct fake_net *net, int rank)
{
	return &net->transports[rank];
}

struct rdt_ep *fake_ep(struct fake_net *net, int from, int to)
{
	return &net->eps[from][to];
}

struct rdt_remote *fake_remote(struct fake_net *net, void *base, size_t bytes)
{
	struct rdt_remote *remote = calloc(1, sizeof(*remote));

	remote->base = base;
	remote->bytes = bytes;
	remote->next = net->remotes;
	net->remotes = remote;
	return remote;
}

static void deliver(struct rdt_ep *ep)
{
	struct fake_put *put = &ep->queue[ep->first];
	uint32_t *counters = ep->net->transports[ep->to].counters[ep->from];

	memcpy(put->dst, put->src, put->length);
	counters[put->channel]++;
	ep->first = (ep->first + 1) % QUEUE;
	ep->n--;
	ep->delivered++;
}

bool fake_idle(const struct fake_net *net)
{
	for (int from = 0; from < net->ranks; from++)
		for (int to = 0; to < net->ranks; to++)
			if (net->eps[from][to].n ||
			    net->eps[from][to].delivered != net->eps[from][to].head.completed)
				return false;
	return true;
}

bool fake_step(struct fake_net *net)
{
	unsigned pairs = (unsigned)(net->ranks * net->ranks);
	unsigned at = fake_dice(net, pairs);

	for (unsigned i = 0; i < pairs; i++, at = (at + 1) % pairs) {
		struct rdt_ep *ep = &net->eps[at / (unsigned)net->ranks][at % (unsigned)net->ranks];
		bool completable = ep->delivered != ep->head.completed;

		if (completable && (ep->n == 0 || fake_dice(net, 2))) {
			ep->head.completed++;
			return true;
		}
		if (ep->n) {
			deliver(ep);
			return true;
		}
	}
	return false;
}

static int put(struct rdt_ep *ep, const struct rdt_put *request)
{
	static char nothing;
	struct fake_put *put = &ep->queue[(ep->first + ep->n) % QUEUE];

	if (ep->n == QUEUE || fake_dice(ep->net, 8) == 0)
		return RDT_AGAIN;
	if (request->length && (request->offset > request->remote->bytes ||
				request->length > request->remote->bytes - request->offset))
		return rdt_err(RDT_ERR_INVALID,
			       "a put of %lu bytes at %lu leaves the target of %zu bytes",
			       (unsigned long)request->length, (unsigned long)request->offset,
			       request->remote->bytes);
	*put = (struct fake_put){
		.src = request->length ? request->src : &nothing,
		.dst = request->length ? request->remote->base + request->offset : &nothing,
		.length = request->length,
		.channel = request->channel,
	};
	ep->n++;
	ep->head.posted++;
	return 0;
}

static int mem_register(struct rdt_transport *transport, void *ptr, size_t length, int memfd,
			uint64_t offset, struct rdt_region **region)
{
	(void)transport;
	(void)length;
	(void)memfd;
	(void)offset;
	*region = ptr;
	return 0;
}

static void mem_deregister(struct rdt_region *region)
{
	(void)region;
}

static void mem_release(struct rdt_remote *remote)
{
	(void)remote; /* the net's */
}

static int reserve(struct rdt_transport *transport, long more)
{
	(void)transport;
	(void)more;
	return 0;
}

const struct rdt_transport_ops fake_ops = {
	.size = sizeof(fake_ops),
	.name = "fake",
	.put = put,
	.mem_register = mem_register,
	.mem_deregister = mem_deregister,
	.mem_release = mem_release,
	.reserve = reserve,
};
