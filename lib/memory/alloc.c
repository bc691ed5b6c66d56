/* SPDX-License-Identifier: BSD-3-Clause */
/* Shareable memory; see alloc.h. */
#include "alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/error.h"

#define HUGE_PAGE ((size_t)2 << 20)
#define LARGE ((size_t)64 << 20) /* from here on it is looked up what there is */

uint64_t rdt_memory_available(void)
{
	unsigned long long kib, sum = 0;
	char line[128];
	FILE *file = fopen("/proc/meminfo", "re");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "MemAvailable: %llu", &kib) == 1 ||
		    sscanf(line, "SwapFree: %llu", &kib) == 1)
			sum += kib;
	if (file)
		fclose(file);
	return sum ? (uint64_t)sum << 10 : UINT64_MAX;
}

int rdt_block_map(size_t bytes, struct rdt_block *block)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int status, fd, failed;
	void *base;

	if (bytes > SIZE_MAX / 2)
		return rdt_err(RDT_ERR_NOMEM,
			       "cannot allocate %zu bytes: more than an address space holds",
			       bytes);
	if (bytes == 0)
		bytes = 1;
	bytes = (bytes + page - 1) / page * page;
	/* Backing them would wake the kernel's killer before it fails. */
	if (bytes >= LARGE && bytes > rdt_memory_available())
		return rdt_err(RDT_ERR_NOMEM,
			       "cannot allocate %zu bytes: this machine has %llu available", bytes,
			       (unsigned long long)rdt_memory_available());

	fd = memfd_create("rdtrain", MFD_CLOEXEC);
	if (fd < 0)
		return rdt_err_errno(RDT_ERR_SYSTEM,
				     "memfd_create failed (is the limit of open files, "
				     "ulimit -n, too low?)");
	if (ftruncate(fd, (off_t)bytes) < 0) {
		status = rdt_err_errno(RDT_ERR_NOMEM, "cannot make %zu bytes of shared memory",
				       bytes);
		goto close_fd;
	}
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED) {
		status = rdt_err_errno(RDT_ERR_NOMEM, "cannot map %zu bytes of shared memory",
				       bytes);
		goto close_fd;
	}
	if (bytes >= HUGE_PAGE)
		madvise(base, bytes, MADV_HUGEPAGE); /* advice: small pages work as well */
	do
		failed = fallocate(fd, 0, 0, (off_t)bytes) < 0;
	while (failed && errno == EINTR);
	if (failed && errno != EOPNOTSUPP) {
		status = rdt_err_errno(RDT_ERR_NOMEM, "cannot back %zu bytes of shared memory",
				       bytes);
		goto unmap;
	}
	*block = (struct rdt_block){ .base = base, .bytes = bytes, .memfd = fd };
	return 0;

unmap:
	munmap(base, bytes);
close_fd:
	close(fd);
	return status;
}

void rdt_block_unmap(struct rdt_block *block)
{
	munmap(block->base, block->bytes);
	close(block->memfd);
}
