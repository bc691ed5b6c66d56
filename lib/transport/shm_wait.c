/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sleeping, waking, and the end of a peer. Notifications need no progress here: the peer stores
 * them where the engine looks. So arm() cannot know whether the caller's notification came just
 * before it: whoever arms must look at its counters once more, and only then sleep.
 */
#include "shm.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/base/error.h"

int rdt_shm_progress(struct rdt_transport *transport)
{
	return rdt_shm(transport)->lost ? RDT_ERR_PEER_LOST : 0;
}

int rdt_shm_fds(struct rdt_transport *transport, struct pollfd *fds, int max)
{
	const struct rdt_shm *shm = rdt_shm(transport);
	int n = 0;

	if (n < max)
		fds[n++] = (struct pollfd){ .fd = shm->wake_read, .events = POLLIN };
	/* The pidfd of a peer that is gone stays readable for ever, so poll(2) gets -1, which it
	 * passes over. */
	for (const struct rdt_ep *ep = shm->eps; ep && n < max; ep = ep->next)
		fds[n++] = (struct pollfd){ .fd = ep->gone ? -1 : ep->pidfd, .events = POLLIN };
	return n;
}

int rdt_shm_arm(struct rdt_transport *transport)
{
	struct rdt_shm *shm = rdt_shm(transport);

	atomic_store_explicit(&shm->segment->sleeping, 1, memory_order_relaxed);
	/* The other half of the pattern in rdt_shm_put. The loads that follow are the caller's. */
	atomic_thread_fence(memory_order_seq_cst);
	return 0;
}

bool rdt_shm_alive(const struct rdt_ep *ep)
{
	struct pollfd fd = { .fd = ep->pidfd, .events = POLLIN };

	if (ep->pidfd < 0)
		return kill(ep->pid, 0) == 0 || errno != ESRCH;
	return poll(&fd, 1, 0) <= 0;
}

static bool has_left(const struct rdt_ep *ep)
{
	/* acquire: pairs with leave(). Without a segment it was not connected to in time. */
	return ep->segment && atomic_load_explicit(&ep->segment->left, memory_order_acquire);
}

void rdt_shm_lost(struct rdt_ep *ep)
{
	struct rdt_shm *shm = ep->shm;

	if (ep->gone)
		return;
	ep->gone = true;
	if (has_left(ep))
		return;
	*shm->lost_end = ep;
	shm->lost_end = &ep->next_lost;
}

static void describe_loss(const struct rdt_ep *ep, char *text, size_t size)
{
	snprintf(text, size,
		 "rank %d (pid %d on this host) has died; look at its output and at dmesg (out of "
		 "memory?)",
		 ep->head.peer, (int)ep->pid);
}

int rdt_shm_lost_err(const struct rdt_ep *ep)
{
	char text[256];

	if (has_left(ep))
		return rdt_err(RDT_ERR_PEER_LOST, "rank %d (pid %d on this host) has left",
			       ep->head.peer, (int)ep->pid);
	describe_loss(ep, text, sizeof(text));
	return rdt_err(RDT_ERR_PEER_LOST, "%s", text);
}

bool rdt_shm_failure(struct rdt_transport *transport, struct rdt_transport_failure *failure)
{
	struct rdt_shm *shm = rdt_shm(transport);
	struct rdt_ep *ep = shm->lost;

	if (!ep)
		return false;
	shm->lost = ep->next_lost;
	if (!shm->lost)
		shm->lost_end = &shm->lost;
	failure->status = RDT_ERR_PEER_LOST;
	failure->peer = ep->head.peer;
	describe_loss(ep, failure->text, sizeof(failure->text));
	return true;
}

int rdt_shm_woken(struct rdt_transport *transport, const struct pollfd *fds, int n)
{
	struct rdt_shm *shm = rdt_shm(transport);

	/* relaxed: who still sees 1 writes a byte too many, and the next sleep ends early */
	atomic_store_explicit(&shm->segment->sleeping, 0, memory_order_relaxed);
	for (int i = 0; i < n; i++) {
		char bytes[64];

		if (!fds[i].revents)
			continue;
		if (fds[i].fd == shm->wake_read) {
			while (read(shm->wake_read, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes))
				;
			continue;
		}
		for (struct rdt_ep *ep = shm->eps; ep; ep = ep->next)
			if (ep->pidfd >= 0 && ep->pidfd == fds[i].fd)
				rdt_shm_lost(ep);
	}
	return shm->lost ? RDT_ERR_PEER_LOST : 0;
}
