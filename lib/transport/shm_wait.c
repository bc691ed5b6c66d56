/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sleeping, waking, and the end of a peer. Notifications need no progress here: the peer stores
 * them where the engine looks. So arm() cannot know whether the caller's notification came just
 * before it: whoever arms must look at its counters once more, and only then sleep.
 */
#include "shm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int rdt_shm_progress(struct rdt_transport *transport)
{
	const struct rdt_shm *shm = rdt_shm(transport);

	return shm->failure.status ? shm->failure.status : 0;
}

int rdt_shm_fds(struct rdt_transport *transport, struct pollfd *fds, int max)
{
	const struct rdt_shm *shm = rdt_shm(transport);
	int n = 0;

	if (n < max)
		fds[n++] = (struct pollfd){ .fd = shm->wake_read, .events = POLLIN };
	for (const struct rdt_ep *ep = shm->eps; ep && n < max; ep = ep->next)
		if (!ep->gone)
			fds[n++] = (struct pollfd){ .fd = ep->pidfd, .events = POLLIN };
	return n;
}

int rdt_shm_arm(struct rdt_transport *transport)
{
	struct rdt_shm *shm = rdt_shm(transport);

	atomic_store_explicit(&shm->segment->sleeping, 1, memory_order_relaxed);
	/* the other half of the pattern in rdt_shm_put */
	atomic_thread_fence(memory_order_seq_cst);
	return 0;
}

void rdt_shm_lost(struct rdt_ep *ep, const char *how)
{
	struct rdt_shm *shm = ep->shm;

	if (ep->gone)
		return;
	ep->gone = true;
	/* acquire: pairs with leave() */
	if (atomic_load_explicit(&ep->segment->left, memory_order_acquire) || shm->failure.status)
		return;
	shm->failure.status = RDT_ERR_PEER_LOST;
	shm->failure.peer = ep->head.peer;
	snprintf(shm->failure.text, sizeof(shm->failure.text),
		 "rank %d (pid %d on this host) %s; look at its output and at dmesg (out of "
		 "memory?)",
		 ep->head.peer, (int)ep->pid, how);
}

int rdt_shm_woken(struct rdt_transport *transport, const struct pollfd *fds, int n)
{
	struct rdt_shm *shm = rdt_shm(transport);

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
			if (ep->pidfd == fds[i].fd)
				rdt_shm_lost(ep, "has died");
	}
	return shm->failure.status;
}
