/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that peers of this host can write. What rdt_alloc gave is a file that they map. Ordinary
 * memory is reached by process_vm_writev(2) where the kernel permits it: the same user, no seccomp
 * filter in the way, and Yama's ptrace_scope at most 1. At 1 a process must name who may attach to
 * it; the first registration of ordinary memory names any process (of this user:
 * PR_SET_PTRACER_ANY), which RDTRAIN_SHM_CMA=0 prevents.
 */
#include "shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/base/error.h"

/* An exported region. memfd < 0: ordinary memory at `where`; else `where` is an offset in the file.
 */
struct exported {
	int32_t memfd;
	uint64_t where, length;
};

static int ptrace_scope(void)
{
	char text[8] = "0";
	int fd = open("/proc/sys/kernel/yama/ptrace_scope", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0; /* no Yama */
	if (read(fd, text, sizeof(text) - 1) <= 0)
		text[0] = '0';
	close(fd);
	return atoi(text);
}

const char *rdt_shm_cma_refused(void)
{
	char from = 1, to = 0;
	struct iovec local = { &to, 1 }, remote = { &from, 1 };

	/* On oneself only a seccomp filter, or a kernel without the call, can be in the way. */
	if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != 1)
		return errno == ENOSYS ? "this kernel lacks process_vm_writev"
				       : "process_vm_writev is forbidden here (a container's "
					 "seccomp profile?)";
	if (ptrace_scope() > 1)
		return "kernel.yama.ptrace_scope is above 1";
	return NULL;
}

int rdt_shm_mem_register(struct rdt_transport *transport, void *ptr, size_t length, int memfd,
			 uint64_t memfd_offset, struct rdt_region **out)
{
	struct rdt_shm *shm = rdt_shm(transport);
	struct rdt_region *region = malloc(sizeof(*region));

	if (!region)
		return rdt_err(RDT_ERR_NOMEM, "shm: out of memory for a region");
	*region = (struct rdt_region){ .shm = shm,
				       .base = ptr,
				       .length = length,
				       .memfd = memfd,
				       .memfd_offset = memfd_offset };
	if (memfd < 0 && !shm->cma_refused && !shm->ptracer_set) {
		/* EINVAL: no Yama, nothing to permit. */
		prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
		shm->ptracer_set = true;
	}
	*out = region;
	return 0;
}

void rdt_shm_mem_deregister(struct rdt_region *region)
{
	free(region);
}

bool rdt_shm_mem_exportable(const struct rdt_region *region)
{
	return region->memfd >= 0 || !region->shm->cma_refused;
}

int rdt_shm_mem_export(const struct rdt_region *region, const void *ptr, size_t length, void *blob,
		       size_t *blob_length)
{
	size_t before = (size_t)((const char *)ptr - region->base);
	struct exported e = { .memfd = region->memfd, .length = length };

	if (before > region->length || length > region->length - before)
		return rdt_err(RDT_ERR_INVALID, "shm: %p of %zu bytes lies outside its region", ptr,
			       length);
	if (!rdt_shm_mem_exportable(region))
		return rdt_err(RDT_ERR_INVALID,
			       "shm: peers cannot write into ordinary memory here: %s",
			       region->shm->cma_refused);
	e.where = region->memfd >= 0 ? region->memfd_offset + before : (uint64_t)(uintptr_t)ptr;
	memcpy(blob, &e, sizeof(e));
	*blob_length = sizeof(e);
	return 0;
}

static int map_file(struct rdt_remote *remote, const struct exported *e)
{
	const struct rdt_shm_address peer = { .pid = remote->ep->pid,
					      .rank = remote->ep->head.peer };
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), from = e->where / page * page;
	int fd, status;
	off_t end;

	status = rdt_shm_open_fd(&peer, e->memfd, O_RDWR, "exported memory", &fd);
	if (status)
		return status;
	/* Beyond the file's end there would be a SIGBUS instead of an error. */
	end = lseek(fd, 0, SEEK_END);
	if (end < 0 || e->where > (uint64_t)end || e->length > (uint64_t)end - e->where) {
		close(fd);
		return rdt_err(RDT_ERR_INVALID,
			       "shm: rank %d exported %lu bytes at %lu of a file of %ld", peer.rank,
			       (unsigned long)e->length, (unsigned long)e->where, (long)end);
	}
	remote->mapping_length = e->where - from + e->length;
	remote->mapping = mmap(NULL, remote->mapping_length, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			       (off_t)from);
	close(fd);
	if (remote->mapping == MAP_FAILED) {
		remote->mapping = NULL;
		return rdt_err_errno(RDT_ERR_NOMEM, "shm: %lu bytes of rank %d cannot be mapped",
				     (unsigned long)e->length, peer.rank);
	}
	remote->mapped = (char *)remote->mapping + (e->where - from);
	return 0;
}

int rdt_shm_mem_import(struct rdt_ep *ep, const void *blob, size_t blob_length,
		       struct rdt_remote **out)
{
	struct rdt_remote *remote;
	struct exported e;
	int status;

	if (blob_length != sizeof(e))
		return rdt_err(RDT_ERR_INVALID,
			       "shm: rank %d exported memory in %zu bytes, not %zu", ep->head.peer,
			       blob_length, sizeof(e));
	memcpy(&e, blob, sizeof(e));
	remote = calloc(1, sizeof(*remote));
	if (!remote)
		return rdt_err(RDT_ERR_NOMEM, "shm: out of memory for a peer's region");
	remote->ep = ep;
	remote->length = e.length;
	remote->address = e.where;
	if (e.memfd >= 0 && e.length) {
		status = map_file(remote, &e);
		if (status) {
			free(remote);
			return status;
		}
	}
	*out = remote;
	return 0;
}

void rdt_shm_mem_release(struct rdt_remote *remote)
{
	if (remote->mapping)
		munmap(remote->mapping, remote->mapping_length);
	free(remote);
}

void *rdt_shm_mem_map(struct rdt_remote *remote)
{
	return remote->mapped;
}
