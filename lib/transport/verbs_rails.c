/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Several devices as one transport. Each is a rail: an instance of its own, with its own queue
 * pairs and its own registrations. Rail i of one rank goes to rail i of another, for as many as
 * both have and can reach each other by.
 *
 * A notification channel stays on one rail, since puts of a channel arrive in order; the channels
 * of a plan's lanes and windows are spread over the rails, so that a large operation uses them all.
 * Puts of different channels may complete in another order than they were posted in. What the
 * engine sees as completed is how many of them, from the first on, are complete without a gap.
 */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/log.h"
#include "verbs.h"

#define RAILS RDT_VERBS_RAILS

struct rails_ep {
	struct rdt_ep_head head;
	struct rdt_ep *sub[RAILS];
	int n;
	/* For each rail, the numbers of the puts on it, among all to this peer. Of those that are
	 * not complete: never more than a send queue holds. */
	uint64_t (*numbers)[RDT_VERBS_SQ_DEPTH];
	uint32_t *counters;
	unsigned to_flush; /* bit r: what was put on rail r shall complete */
	struct rails_ep *next;
};

struct rails_region {
	struct rails *t;
	struct rdt_region *sub[RAILS];
};

struct rails_remote {
	struct rails_ep *ep;
	struct rdt_remote *sub[RAILS];
};

struct rails {
	const struct rdt_transport_ops *ops;
	struct rdt_transport *sub[RAILS];
	int n, rank;
	struct rails_ep *eps;
};

/* What peers see of a region: where it is, and the key on each rail, 0 beyond the last. */
struct exported {
	uint64_t addr, length;
	uint32_t rkey[RAILS];
};

_Static_assert(sizeof(struct exported) <= RDT_EXPORT_MAX, "an exported region fits its blob");

static struct rails *rails(struct rdt_transport *transport)
{
	return (struct rails *)transport;
}

static struct rails_ep *rails_ep(struct rdt_ep *ep)
{
	return (struct rails_ep *)ep;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void rails_close(struct rdt_transport *transport)
{
	struct rails *t = rails(transport);

	while (t->eps) {
		struct rails_ep *ep = t->eps;

		t->eps = ep->next;
		free(ep->numbers);
		free(ep->counters);
		free(ep);
	}
	for (int r = t->n - 1; r >= 0; r--)
		rdt_verbs_ops.close(t->sub[r]);
	free(t);
}

static int rails_open(const struct rdt_transport_config *config, struct rdt_transport **out)
{
	int most = config->ib_rails > 0 && config->ib_rails < RAILS ? config->ib_rails : RAILS;
	struct rdt_transport_config one = *config;
	char names[RAILS][72];
	struct rails *t;
	int n, status;

	t = calloc(1, sizeof(*t));
	if (!t)
		return rdt_err(RDT_ERR_NOMEM, "verbs: no memory for a transport");
	t->ops = &rdt_rails_ops;
	t->rank = config->rank;
	n = most > 1 ? rdt_verbs_rails(config, names, most) : 0;
	do {
		/* With one, the choice says what it says, also why there is none. */
		if (n > 1)
			one.ib_hca = names[t->n];
		status = rdt_verbs_ops.open(&one, &t->sub[t->n]);
		if (status && t->n) {
			rdt_warn("verbs: %s is not used beside %s: %s", names[t->n], names[0],
				 rdt_last_error());
			status = 0;
			break;
		}
		if (!status)
			t->n++;
	} while (!status && t->n < n);
	if (status) {
		rails_close((struct rdt_transport *)t);
		return status;
	}
	if (t->n > 1)
		rdt_info("verbs: %d devices side by side, from %s to %s; RDTRAIN_IB_RAILS=1 uses "
			 "one",
			 t->n, names[0], names[t->n - 1]);
	*out = (struct rdt_transport *)t;
	return 0;
}

/* ---- addresses ------------------------------------------------------------------------------- */

/* How many, then for each two bytes of length, little end first, and as many of address. */
static int rails_address(struct rdt_transport *transport, void *blob, size_t *length)
{
	struct rails *t = rails(transport);
	unsigned char *bytes = blob, one[RDT_ADDRESS_MAX];
	size_t at = 1;

	bytes[0] = 0;
	for (int r = 0; r < t->n; r++) {
		size_t n;
		int status = rdt_verbs_ops.address(t->sub[r], one, &n);

		if (status)
			return status;
		if (at + 2 + n > RDT_ADDRESS_MAX)
			break; /* the others go unused */
		bytes[at] = (unsigned char)(n & 255);
		bytes[at + 1] = (unsigned char)(n >> 8);
		memcpy(bytes + at + 2, one, n);
		at += 2 + n;
		bytes[0]++;
	}
	*length = at;
	return 0;
}

/* The address of rail `which` in a peer's blob; NULL: it has none. */
static const unsigned char *part(const void *blob, size_t length, int which, size_t *n)
{
	const unsigned char *bytes = blob;
	size_t at = 1;

	if (length == 0 || which >= bytes[0])
		return NULL;
	for (int r = 0;; r++) {
		if (length - at < 2)
			return NULL;
		*n = bytes[at] + ((size_t)bytes[at + 1] << 8);
		at += 2;
		if (*n > length - at)
			return NULL;
		if (r == which)
			return bytes + at;
		at += *n;
	}
}

/* The rails by which the owner of this address can be reached: the first so many. */
static int reached(struct rails *t, const void *blob, size_t length, char *why, size_t size)
{
	int n = 0;

	snprintf(why, size, "no verbs address of this version");
	for (int r = 0; r < t->n; r++) {
		char other[512];
		size_t bytes = 0;
		const unsigned char *address = part(blob, length, r, &bytes);

		if (!address || !rdt_verbs_ops.reachable(t->sub[r], address, bytes, r ? other : why,
							 r ? sizeof(other) : size))
			break;
		n++;
	}
	return n;
}

static bool rails_reachable(struct rdt_transport *transport, const void *blob, size_t length,
			    char *why, size_t size)
{
	int n = reached(rails(transport), blob, length, why, size);
	size_t used = strlen(why);

	if (n > 1 && used < size)
		snprintf(why + used, size - used, ", and %d more", n - 1);
	return n > 0;
}

/* ---- endpoints ------------------------------------------------------------------------------- */

static int rails_connect(struct rdt_transport *transport, int peer, const void *blob, size_t length,
			 struct rdt_ep **out)
{
	struct rails *t = rails(transport);
	char why[512];
	int n = reached(t, blob, length, why, sizeof(why)), status;
	struct rails_ep *ep;

	if (n == 0)
		return rdt_err(RDT_ERR_UNREACHABLE, "verbs: rank %d: %s", peer, why);
	ep = calloc(1, sizeof(*ep));
	if (!ep)
		return rdt_err(RDT_ERR_NOMEM, "verbs: no memory for the connection to rank %d",
			       peer);
	ep->next = t->eps; /* close() frees it, whatever comes */
	t->eps = ep;
	ep->head.transport = transport;
	ep->head.peer = peer;
	ep->numbers = calloc((size_t)n, sizeof(*ep->numbers));
	ep->counters = calloc(RDT_CHANNELS, sizeof(*ep->counters));
	if (!ep->numbers || !ep->counters)
		return rdt_err(RDT_ERR_NOMEM, "verbs: no memory for the connection to rank %d",
			       peer);
	for (int r = 0; r < n; r++) {
		struct rdt_verbs_ep *sub;
		size_t bytes = 0;
		const unsigned char *address = part(blob, length, r, &bytes);

		status = rdt_verbs_ops.connect(t->sub[r], peer, address, bytes, &ep->sub[r]);
		if (status)
			return status;
		/* All rails count in one place; a channel is on one of them. */
		sub = rdt_verbs_ep(ep->sub[r]);
		free(sub->counters);
		sub->counters = ep->counters;
		sub->counters_lent = true;
		ep->n++;
	}
	*out = (struct rdt_ep *)ep;
	return 0;
}

static int rails_connected(struct rdt_ep *endpoint)
{
	struct rails_ep *ep = rails_ep(endpoint);

	for (int r = 0; r < ep->n; r++) {
		int status = rdt_verbs_ops.connected(ep->sub[r]);

		if (status != 1)
			return status;
	}
	ep->head.counters = ep->counters;
	return 1;
}

static void rails_describe(struct rdt_ep *endpoint, char *text, size_t size)
{
	struct rails_ep *ep = rails_ep(endpoint);
	size_t used = 0;

	for (int r = 0; r < ep->n && used < size; r++) {
		if (r)
			used += (size_t)snprintf(text + used, size - used, "; ");
		if (used < size)
			rdt_verbs_ops.describe(ep->sub[r], text + used, size - used);
		used = strlen(text);
	}
}

static int rails_reserve(struct rdt_transport *transport, long more)
{
	struct rails *t = rails(transport);

	for (int r = 0; r < t->n; r++) {
		int status = rdt_verbs_ops.reserve(t->sub[r], more);

		if (!status)
			continue;
		while (r-- > 0)
			rdt_verbs_ops.reserve(t->sub[r], -more);
		return status;
	}
	return 0;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void rails_deregister(struct rdt_region *r)
{
	struct rails_region *region = (struct rails_region *)r;

	if (!region)
		return;
	for (int i = 0; i < region->t->n; i++)
		rdt_verbs_ops.mem_deregister(region->sub[i]);
	free(region);
}

static int rails_register(struct rdt_transport *transport, void *ptr, size_t length, int memfd,
			  uint64_t memfd_offset, struct rdt_region **out)
{
	struct rails *t = rails(transport);
	struct rails_region *region = calloc(1, sizeof(*region));
	int status = 0;

	if (!region)
		return rdt_err(RDT_ERR_NOMEM, "verbs: no memory for a region's record");
	region->t = t;
	for (int r = 0; r < t->n && !status; r++)
		status = rdt_verbs_ops.mem_register(t->sub[r], ptr, length, memfd, memfd_offset,
						    &region->sub[r]);
	if (status) {
		rails_deregister((struct rdt_region *)region);
		return status;
	}
	*out = (struct rdt_region *)region;
	return 0;
}

static bool rails_exportable(const struct rdt_region *region)
{
	(void)region;
	return true;
}

static int rails_export(struct rdt_region *r, const void *ptr, size_t length, unsigned access,
			void *blob, size_t *blob_length)
{
	const struct rails_region *region = (const struct rails_region *)r;
	struct exported e = { 0 };

	for (int i = 0; i < region->t->n; i++) {
		struct rdt_verbs_exported one;
		size_t n;
		int status =
			rdt_verbs_ops.mem_export(region->sub[i], ptr, length, access, &one, &n);

		if (status)
			return status;
		e.addr = one.addr;
		e.length = one.length;
		e.rkey[i] = one.rkey;
	}
	memcpy(blob, &e, sizeof(e));
	*blob_length = sizeof(e);
	return 0;
}

static void rails_release(struct rdt_remote *r)
{
	struct rails_remote *remote = (struct rails_remote *)r;

	if (!remote)
		return;
	for (int i = 0; i < remote->ep->n; i++)
		rdt_verbs_ops.mem_release(remote->sub[i]);
	free(remote);
}

static int rails_import(struct rdt_ep *endpoint, const void *blob, size_t blob_length,
			struct rdt_remote **out)
{
	struct rails_ep *ep = rails_ep(endpoint);
	struct rails_remote *remote;
	struct exported e;
	int status = 0;

	if (blob_length != sizeof(e))
		return rdt_err(RDT_ERR_INVALID,
			       "verbs: rank %d exported memory in %zu bytes, expected %zu: do all "
			       "ranks run the same version?",
			       ep->head.peer, blob_length, sizeof(e));
	memcpy(&e, blob, sizeof(e));
	remote = calloc(1, sizeof(*remote));
	if (!remote)
		return rdt_err(RDT_ERR_NOMEM, "verbs: no memory for a remote region's record");
	remote->ep = ep;
	for (int r = 0; r < ep->n && !status; r++) {
		const struct rdt_verbs_exported one = { .magic = htole32(RDT_VERBS_EXPORT_MAGIC),
							.rkey = e.rkey[r],
							.addr = e.addr,
							.length = e.length };

		status = rdt_verbs_ops.mem_import(ep->sub[r], &one, sizeof(one), &remote->sub[r]);
	}
	if (status) {
		rails_release((struct rdt_remote *)remote);
		return status;
	}
	*out = (struct rdt_remote *)remote;
	return 0;
}

/* ---- puts ------------------------------------------------------------------------------------ */

/* How many puts are complete without a gap. */
static void count(struct rails_ep *ep)
{
	uint64_t completed = ep->head.posted;

	for (int r = 0; r < ep->n; r++) {
		const struct rdt_ep_head *sub = rdt_ep_head(ep->sub[r]);
		uint64_t oldest = ep->numbers[r][sub->completed % RDT_VERBS_SQ_DEPTH];

		if (sub->completed < sub->posted && oldest < completed)
			completed = oldest;
	}
	ep->head.completed = completed;
}

static void flush(struct rails_ep *ep)
{
	for (int r = 0; r < ep->n && ep->to_flush; r++)
		if (ep->to_flush & 1u << r && rdt_verbs_flush(rdt_verbs_ep(ep->sub[r])))
			ep->to_flush &= ~(1u << r);
}

/* Something was put on rail r. */
static void note(struct rails_ep *ep, int r)
{
	uint64_t number = rdt_ep_head(ep->sub[r])->posted - 1;

	ep->numbers[r][number % RDT_VERBS_SQ_DEPTH] = ep->head.posted++;
}

static int rails_put(struct rdt_ep *endpoint, const struct rdt_put *put)
{
	struct rails_ep *ep = rails_ep(endpoint);
	const struct rails_remote *remote = (const struct rails_remote *)put->remote;
	const struct rails_region *region = (const struct rails_region *)put->region;
	int r = (int)(put->channel % (unsigned)ep->n), status;
	struct rdt_put one = *put;

	one.remote = remote ? remote->sub[r] : NULL;
	one.region = region ? region->sub[r] : NULL;
	status = rdt_verbs_ops.put(ep->sub[r], &one);
	if (status)
		return status;
	note(ep, r);
	count(ep); /* it may be complete already */
	if (put->flags & RDT_PUT_LAST && ep->n > 1) {
		ep->to_flush |= ((1u << ep->n) - 1) & ~(1u << r);
		flush(ep);
	}
	return 0;
}

static int rails_get(struct rdt_ep *endpoint, struct rdt_remote *from, uint64_t offset, void *dst,
		     const struct rdt_region *to, uint64_t length)
{
	struct rails_ep *ep = rails_ep(endpoint);
	int status = rdt_verbs_ops.get(ep->sub[0], ((struct rails_remote *)from)->sub[0], offset,
				       dst, ((const struct rails_region *)to)->sub[0], length);

	if (!status)
		note(ep, 0);
	return status;
}

/* ---- progress -------------------------------------------------------------------------------- */

static int rails_progress(struct rdt_transport *transport)
{
	struct rails *t = rails(transport);
	int done = 0;

	for (int r = 0; r < t->n; r++) {
		int n = rdt_verbs_ops.progress(t->sub[r]);

		if (n < 0)
			return n;
		done += n;
	}
	for (struct rails_ep *ep = t->eps; ep; ep = ep->next) {
		if (ep->to_flush)
			flush(ep);
		if (done)
			count(ep);
	}
	return done;
}

static int rails_fds(struct rdt_transport *transport, struct pollfd *fds, int max)
{
	struct rails *t = rails(transport);
	int n = 0;

	for (int r = 0; r < t->n; r++)
		n += rdt_verbs_ops.fds(t->sub[r], fds + n, max - n);
	return n;
}

static int rails_arm(struct rdt_transport *transport)
{
	struct rails *t = rails(transport);
	int there = 0;

	for (int r = 0; r < t->n; r++)
		if (rdt_verbs_ops.arm(t->sub[r]))
			there = 1;
	/* Arming takes completions too. */
	for (struct rails_ep *ep = t->eps; ep && there; ep = ep->next)
		count(ep);
	return there;
}

static int rails_woken(struct rdt_transport *transport, const struct pollfd *fds, int n)
{
	struct rails *t = rails(transport);
	int status = 0;

	for (int r = 0; r < t->n; r++) {
		int one = rdt_verbs_ops.woken(t->sub[r], fds, n);

		status = status ? status : one;
	}
	return status;
}

static bool rails_failure(struct rdt_transport *transport, struct rdt_transport_failure *failure)
{
	struct rails *t = rails(transport);

	for (int r = 0; r < t->n; r++)
		if (rdt_verbs_ops.failure(t->sub[r], failure))
			return true;
	return false;
}

static void rails_leave(struct rdt_transport *transport)
{
	struct rails *t = rails(transport);

	for (int r = 0; r < t->n; r++)
		rdt_verbs_ops.leave(t->sub[r]);
}

static void rails_shutdown(struct rdt_transport *transport)
{
	struct rails *t = rails(transport);

	for (int r = 0; r < t->n; r++)
		rdt_verbs_ops.shutdown(t->sub[r]);
}

const struct rdt_transport_ops rdt_rails_ops = {
	.size = sizeof(struct rdt_transport_ops),
	.name = "verbs",
	.open = rails_open,
	.close = rails_close,
	.address = rails_address,
	.reachable = rails_reachable,
	.connect = rails_connect,
	.connected = rails_connected,
	.describe = rails_describe,
	.reserve = rails_reserve,
	.mem_register = rails_register,
	.mem_deregister = rails_deregister,
	.mem_exportable = rails_exportable,
	.mem_export = rails_export,
	.mem_import = rails_import,
	.mem_release = rails_release,
	.put = rails_put,
	.get = rails_get,
	.progress = rails_progress,
	.fds = rails_fds,
	.arm = rails_arm,
	.woken = rails_woken,
	.failure = rails_failure,
	.leave = rails_leave,
	.shutdown = rails_shutdown,
};
