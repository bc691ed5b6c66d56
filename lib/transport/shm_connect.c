/* SPDX-License-Identifier: BSD-3-Clause */
/* A peer on this host: found, mapped, watched. Everything is there at once or not at all. */
#include "shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/error.h"

/* The blob as this version's address, or false. */
static bool read_address(const void *blob, size_t length, struct rdt_shm_address *address)
{
	if (length != sizeof(*address))
		return false;
	memcpy(address, blob, sizeof(*address));
	return memchr(address->host, '\0', sizeof(address->host)) != NULL;
}

bool rdt_shm_reachable(struct rdt_transport *transport, const void *blob, size_t length, char *why,
		       size_t why_size)
{
	const struct rdt_shm_address *self = &rdt_shm(transport)->self;
	struct rdt_shm_address peer;

	if (!read_address(blob, length, &peer))
		snprintf(why, why_size, "no shm address of this version");
	else if (strcmp(self->host, peer.host) != 0)
		snprintf(why, why_size, "other host");
	else if (self->pid_namespace != peer.pid_namespace)
		snprintf(why, why_size, "same host, other pid namespace");
	else if (self->user != peer.user)
		snprintf(why, why_size, "same host, other user (%u and %u)", self->user, peer.user);
	else {
		snprintf(why, why_size, "same host");
		return true;
	}
	return false;
}

int rdt_shm_open_fd(const struct rdt_shm_address *peer, int fd, int flags, const char *what,
		    int *out)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", peer->pid, fd);
	*out = open(path, flags | O_CLOEXEC);
	if (*out >= 0)
		return 0;
	if (errno == ENOENT || errno == ESRCH)
		return rdt_err_errno(RDT_ERR_PEER_LOST, "shm: rank %d (pid %d) is gone: %s, %s",
				     peer->rank, peer->pid, path, what);
	return rdt_err_errno(RDT_ERR_UNREACHABLE,
			     "shm: %s of rank %d, %s, cannot be opened (is the process dumpable, "
			     "and /proc mounted "
			     "without hidepid? RDTRAIN_TRANSPORT=verbs does without)",
			     what, peer->rank, path);
}

static int map_segment(struct rdt_shm *shm, struct rdt_ep *ep, const struct rdt_shm_address *peer)
{
	const struct rdt_shm_header *h;
	int fd, status;

	status = rdt_shm_open_fd(peer, peer->segment_fd, O_RDWR, "the segment", &fd);
	if (status)
		return status;
	if (lseek(fd, 0, SEEK_END) != (off_t)shm->segment_bytes) {
		close(fd);
		return rdt_err(
			RDT_ERR_UNREACHABLE,
			"shm: what pid %d has as descriptor %d is no segment of a rank of this job",
			peer->pid, peer->segment_fd);
	}
	h = mmap(NULL, shm->segment_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (h == MAP_FAILED)
		return rdt_err_errno(RDT_ERR_NOMEM, "shm: the segment of rank %d cannot be mapped",
				     peer->rank);
	ep->segment = (struct rdt_shm_header *)h;
	if (h->magic != RDT_SHM_MAGIC || h->rank != ep->head.peer || h->size != shm->config.size ||
	    h->generation != shm->config.generation ||
	    memcmp(h->nonce, shm->config.nonce, sizeof(h->nonce)) != 0)
		return rdt_err(RDT_ERR_UNREACHABLE,
			       "shm: pid %d is not rank %d of this job (another job's process?)",
			       peer->pid, ep->head.peer);
	return 0;
}

int rdt_shm_connect(struct rdt_transport *transport, int peer, const void *blob, size_t length,
		    struct rdt_ep **out)
{
	struct rdt_shm *shm = rdt_shm(transport);
	struct rdt_shm_address address;
	struct rdt_ep *ep;
	char *counters;
	int status;

	if (!read_address(blob, length, &address) || address.rank != peer)
		return rdt_err(RDT_ERR_INVALID, "shm: that is no address of rank %d", peer);
	ep = calloc(1, sizeof(*ep));
	if (!ep)
		return rdt_err(RDT_ERR_NOMEM, "shm: out of memory for an endpoint");
	ep->head.transport = transport;
	ep->head.peer = peer;
	ep->shm = shm;
	ep->pid = address.pid;
	ep->pidfd = ep->wake_fd = -1;

	/* The pidfd first: if the process that is behind it is the right one, later death is seen
	 * through it. */
	ep->pidfd = (int)syscall(SYS_pidfd_open, ep->pid, 0);
	if (ep->pidfd < 0) {
		status = rdt_err_errno(errno == ESRCH ? RDT_ERR_PEER_LOST : RDT_ERR_UNREACHABLE,
				       "shm: rank %d (pid %d) cannot be watched", peer, ep->pid);
		goto fail;
	}
	status = map_segment(shm, ep, &address);
	if (status)
		goto fail;
	status = rdt_shm_open_fd(&address, address.wake_fd, O_WRONLY | O_NONBLOCK,
				 "the wake-up pipe", &ep->wake_fd);
	if (status)
		goto fail;
	counters = (char *)ep->segment + RDT_SHM_HEADER_BYTES;
	ep->out = (uint32_t *)counters + (size_t)shm->config.rank * RDT_CHANNELS;
	counters = (char *)shm->segment + RDT_SHM_HEADER_BYTES;
	ep->head.counters = (uint32_t *)counters + (size_t)peer * RDT_CHANNELS;
	ep->next = shm->eps;
	shm->eps = ep;
	shm->n_eps++;
	*out = ep;
	return 0;
fail:
	rdt_shm_disconnect(ep);
	return status;
}

void rdt_shm_disconnect(struct rdt_ep *ep)
{
	if (ep->segment)
		munmap(ep->segment, ep->shm->segment_bytes);
	if (ep->pidfd >= 0)
		close(ep->pidfd);
	if (ep->wake_fd >= 0)
		close(ep->wake_fd);
	free(ep);
}

int rdt_shm_connected(struct rdt_ep *ep)
{
	(void)ep;
	return 1;
}

void rdt_shm_describe(struct rdt_ep *ep, char *text, size_t size)
{
	snprintf(text, size, "shm, pid %d, memory that is not mapped %s%s", (int)ep->pid,
		 ep->shm->cma_refused ? "through scratch: " : "by process_vm_writev",
		 ep->shm->cma_refused ? ep->shm->cma_refused : "");
}
