/* SPDX-License-Identifier: BSD-3-Clause */
/* A peer on this host: found, mapped, watched. Everything is there at once or not at all. */
#include "shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/log.h"

int rdt_shm_open_fd(const struct rdt_ep *ep, int fd, int flags, const char *what, int *out)
{
	const char *remedy = "is the process dumpable, and /proc mounted without hidepid? "
			     "RDTRAIN_TRANSPORT=verbs does without";
	char path[64];
	int error;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)ep->pid, fd);
	*out = open(path, flags | O_CLOEXEC | O_NOCTTY);
	error = errno;
	/* Alive after the open: so it was this process's descriptor and not that of one which got
	 * its number later. */
	if (!rdt_shm_alive(ep)) {
		if (*out >= 0)
			close(*out);
		return rdt_shm_lost_err(ep);
	}
	if (*out >= 0) {
		struct stat st;

		/* A privileged process may open what belongs to others: their word is not taken. */
		if (fstat(*out, &st) == 0 && st.st_uid == geteuid())
			return 0;
		close(*out);
		return rdt_err(RDT_ERR_UNREACHABLE,
			       "shm: %s of rank %d, %s, belongs to another user", what,
			       ep->head.peer, path);
	}
	if (error == ENOENT)
		return rdt_err(RDT_ERR_PEER_LOST,
			       "shm: rank %d (pid %d) has closed %s (%s): it has left",
			       ep->head.peer, (int)ep->pid, what, path);
	if (error == EMFILE || error == ENFILE)
		remedy = "the limit of open files, ulimit -n, is too low";
	errno = error;
	return rdt_err_errno(RDT_ERR_UNREACHABLE, "shm: %s of rank %d, %s, cannot be opened (%s)",
			     what, ep->head.peer, path, remedy);
}

static int map_segment(struct rdt_ep *ep, int peer_fd)
{
	const struct rdt_shm *shm = ep->shm;
	const struct rdt_shm_header *h;
	int fd, status;
	off_t bytes;

	status = rdt_shm_open_fd(ep, peer_fd, O_RDWR, "the segment", &fd);
	if (status)
		return status;
	bytes = lseek(fd, 0, SEEK_END);
	if (bytes < RDT_SHM_HEADER_BYTES) {
		close(fd);
		return rdt_err(RDT_ERR_UNREACHABLE,
			       "shm: what pid %d has as descriptor %d is no segment of a rank",
			       (int)ep->pid, peer_fd);
	}
	/* Of a segment of another size only the header is looked at, to say what is wrong. */
	ep->segment = mmap(NULL, shm->segment_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (ep->segment == MAP_FAILED) {
		ep->segment = NULL;
		return rdt_err_errno(RDT_ERR_NOMEM, "shm: the segment of rank %d cannot be mapped",
				     ep->head.peer);
	}
	h = ep->segment;
	if (h->magic != RDT_SHM_MAGIC || h->pid != ep->pid ||
	    memcmp(h->nonce, shm->config.nonce, sizeof(h->nonce)) != 0)
		return rdt_err(RDT_ERR_UNREACHABLE,
			       "shm: pid %d is not rank %d of this job (another job's process?)",
			       (int)ep->pid, ep->head.peer);
	if (h->rank != ep->head.peer || h->size != shm->config.size ||
	    h->generation != shm->config.generation || bytes != (off_t)shm->segment_bytes)
		return rdt_err(RDT_ERR_UNREACHABLE,
			       "shm: pid %d is rank %d of %d in generation %u, not rank %d of %d "
			       "in generation %u",
			       (int)ep->pid, h->rank, h->size, h->generation, ep->head.peer,
			       shm->config.size, shm->config.generation);
	return 0;
}

static uint32_t *counters_of(struct rdt_shm_header *segment, int rank)
{
	return (uint32_t *)(void *)((char *)segment + RDT_SHM_HEADER_BYTES) +
	       (size_t)rank * RDT_CHANNELS;
}

_Atomic uint32_t *rdt_shm_writing(const struct rdt_shm *shm, struct rdt_shm_header *segment,
				  int rank)
{
	char *lines = (char *)counters_of(segment, shm->config.size);

	return (_Atomic uint32_t *)(void *)(lines + (size_t)rank * RDT_SHM_LINE);
}

int rdt_shm_connect(struct rdt_transport *transport, int peer, const void *blob, size_t length,
		    struct rdt_ep **out)
{
	struct rdt_shm *shm = rdt_shm(transport);
	struct rdt_shm_address address;
	struct rdt_ep *ep;
	int status;

	if (!rdt_shm_read_address(blob, length, &address) || address.rank != peer || peer < 0 ||
	    peer >= shm->config.size)
		return rdt_err(RDT_ERR_INVALID, "shm: that is no address of rank %d", peer);
	ep = calloc(1, sizeof(*ep));
	if (!ep)
		return rdt_err(RDT_ERR_NOMEM, "shm: out of memory for an endpoint");
	ep->head.transport = transport;
	ep->head.peer = peer;
	ep->shm = shm;
	ep->pid = address.pid;
	ep->pidfd = ep->wake_fd = -1;

	/* The pidfd first: what is opened while its process lives is that process's. */
	ep->pidfd = (int)syscall(SYS_pidfd_open, ep->pid, 0);
	if (ep->pidfd < 0 && errno == ENOSYS) {
		/* A kernel before 5.3, or valgrind. The segment says whose it is. */
		rdt_info("shm: the system has no pidfd; that rank %d (pid %d) dies is noticed "
			 "through the rendezvous only",
			 peer, (int)ep->pid);
	} else if (ep->pidfd < 0) {
		if (errno == ESRCH)
			status = rdt_shm_lost_err(ep);
		else
			status = rdt_err_errno(RDT_ERR_UNREACHABLE,
					       "shm: rank %d (pid %d) cannot be watched by a pidfd "
					       "(seccomp, or ulimit -n? RDTRAIN_TRANSPORT=verbs "
					       "does without)",
					       peer, (int)ep->pid);
		goto fail;
	}
	status = map_segment(ep, address.segment_fd);
	if (status)
		goto fail;
	/* For reading too, so that the pipe has a reader for as long as we may write: a peer that
	 * was killed in its sleep must not end us with SIGPIPE. */
	status = rdt_shm_open_fd(ep, address.wake_fd, O_RDWR | O_NONBLOCK, "the wake-up pipe",
				 &ep->wake_fd);
	if (status)
		goto fail;
	ep->out = counters_of(ep->segment, shm->config.rank);
	ep->writing = rdt_shm_writing(shm, ep->segment, shm->config.rank);
	ep->head.counters = counters_of(shm->segment, peer);
	ep->next = shm->eps;
	shm->eps = ep;
	*out = ep;
	return 0;
fail:
	/* A process that began at another time than the address says has only the pid in common
	 * with the rank. No more than an explanation: a time namespace shifts the start time. */
	if (status == RDT_ERR_UNREACHABLE && address.start_time &&
	    rdt_shm_start_time(ep->pid) != address.start_time)
		status = rdt_err(RDT_ERR_PEER_LOST,
				 "rank %d (pid %d on this host) has died; another process has its "
				 "pid now",
				 peer, (int)ep->pid);
	rdt_shm_disconnect(ep);
	return status;
}

void rdt_shm_disconnect(struct rdt_ep *ep)
{
	if (ep->segment)
		munmap(ep->segment, ep->shm->segment_bytes);
	if (ep->wake_fd >= 0)
		close(ep->wake_fd);
	if (ep->pidfd >= 0)
		close(ep->pidfd);
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
