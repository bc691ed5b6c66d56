/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ordinary memory of peers, by process_vm_writev(2), where the kernel permits it: the same user, no
 * seccomp filter in the way, and Yama's ptrace_scope at most 1. At 1 a process must name who may
 * attach to it; the first registration of ordinary memory names any process (of this user:
 * PR_SET_PTRACER_ANY), which RDTRAIN_SHM_CMA=0 prevents.
 */
#include "shm.h"

#include <errno.h>
#include <sched.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"

/* How long a peer can need for the write that it is in, unless it was stopped in it. */
#define LAST_WRITE_S 1.0

int rdt_shm_ptrace_scope(void)
{
	char text[8] = "";
	int fd = open("/proc/sys/kernel/yama/ptrace_scope", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 ? atoi(text) : -1;
}

const char *rdt_shm_cma_refused(void)
{
	char from = 1, to = 0;
	struct iovec local = { &from, 1 }, remote = { &to, 1 };

	/* On oneself only a seccomp filter, or a kernel without the call, can be in the way. */
	if (process_vm_writev(getpid(), &local, 1, &remote, 1, 0) != 1)
		return errno == ENOSYS ? "this kernel lacks process_vm_writev"
				       : "process_vm_writev is forbidden here (a container's "
					 "seccomp profile?)";
	if (rdt_shm_ptrace_scope() > 1)
		return "kernel.yama.ptrace_scope is above 1";
	return NULL;
}

void rdt_shm_cma_permit(void)
{
	/* Only where it is needed: it opens this process to every debugger of this user. */
	if (rdt_shm_ptrace_scope() == 1)
		prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
}

static int refused(struct rdt_ep *ep, uint64_t address, uint64_t length)
{
	int error = errno;

	if (error == ESRCH || !rdt_shm_alive(ep)) {
		rdt_shm_lost(ep);
		return rdt_shm_lost_err(ep);
	}
	if (error == EFAULT)
		return rdt_err(RDT_ERR_INVALID,
			       "shm: %lu bytes at %#lx of rank %d (pid %d), or their source here, "
			       "are not mapped (freed while registered?)",
			       (unsigned long)length, (unsigned long)address, ep->head.peer,
			       (int)ep->pid);
	errno = error;
	return rdt_err_errno(RDT_ERR_SYSTEM,
			     "shm: process_vm_writev into rank %d (pid %d) is refused "
			     "(RDTRAIN_SHM_CMA=0 on all ranks does without)",
			     ep->head.peer, (int)ep->pid);
}

int rdt_shm_cma_probe(struct rdt_ep *ep, uint64_t address)
{
	char byte;
	struct iovec local = { &byte, 1 }, remote = { (void *)(uintptr_t)address, 1 };

	if (process_vm_readv(ep->pid, &local, 1, &remote, 1, 0) != 1)
		return refused(ep, address, 1);
	return 0;
}

/* Into a peer that lives and has not closed; or one that does not live: that is told here. */
static int write_all(struct rdt_ep *ep, uint64_t address, const void *source, uint64_t length)
{
	char *from = (char *)(uintptr_t)source;

	/* The call goes by pid. Make sure that it still means the peer: after its death another
	 * process may get the number, and we would write into a stranger. */
	if (!rdt_shm_alive(ep)) {
		rdt_shm_lost(ep);
		return rdt_shm_lost_err(ep);
	}
	while (length) {
		struct iovec local = { from, length },
			     remote = { (void *)(uintptr_t)address, length };
		ssize_t n;

		errno = EFAULT; /* for a call that says 0 */
		n = process_vm_writev(ep->pid, &local, 1, &remote, 1, 0);
		if (n <= 0)
			return refused(ep, address, length);
		from += n;
		address += (uint64_t)n;
		length -= (uint64_t)n;
	}
	return 0;
}

int rdt_shm_cma_read(struct rdt_ep *ep, uint64_t address, void *to, uint64_t length)
{
	char *at = to;

	/* As above: the pid must still mean the peer, before and after. */
	while (length && rdt_shm_alive(ep)) {
		struct iovec local = { at, length },
			     remote = { (void *)(uintptr_t)address, length };
		ssize_t n;

		errno = EFAULT;
		n = process_vm_readv(ep->pid, &local, 1, &remote, 1, 0);
		if (n <= 0)
			return refused(ep, address, length);
		at += n;
		address += (uint64_t)n;
		length -= (uint64_t)n;
	}
	if (rdt_shm_alive(ep))
		return 0;
	rdt_shm_lost(ep);
	return rdt_shm_lost_err(ep);
}

int rdt_shm_cma_write(struct rdt_ep *ep, uint64_t address, const void *source, uint64_t length)
{
	int status;

	/* Dekker's pattern with rdt_shm_cma_end: either the owner sees that we write and waits, or
	 * we see that it has closed. */
	atomic_store_explicit(ep->writing, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&ep->segment->closed, memory_order_acquire) && rdt_shm_alive(ep))
		status = rdt_err(RDT_ERR_ABORTED,
				 "shm: rank %d has ended the communicator, and its memory is its "
				 "own again",
				 ep->head.peer);
	else
		status = write_all(ep, address, source, length);
	atomic_store_explicit(ep->writing, 0, memory_order_release);
	return status;
}

static bool is_written(const struct rdt_shm *shm, const struct rdt_ep *ep)
{
	return atomic_load_explicit(rdt_shm_writing(shm, shm->segment, ep->head.peer),
				    memory_order_acquire) &&
	       rdt_shm_alive(ep);
}

void rdt_shm_cma_end(struct rdt_shm *shm)
{
	int64_t deadline = rdt_deadline(LAST_WRITE_S);

	atomic_store_explicit(&shm->segment->closed, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	for (const struct rdt_ep *ep = shm->eps; ep; ep = ep->next)
		while (is_written(shm, ep) && rdt_now() < deadline)
			sched_yield();
}
