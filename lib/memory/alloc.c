/* SPDX-License-Identifier: BSD-3-Clause */
/* Shareable memory; see alloc.h. */
#include "alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
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

/* After that nobody, this process included, shrinks the file beneath another's mapping. */
static int seal(int fd, bool write)
{
	int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

	/* Linux 5.1; before it, peers keep to reading without being held to it. */
	if (!write && fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) < 0 && errno != EINVAL)
		return -1;
	return fchmod(fd, 0600) < 0 ? -1 : fcntl(fd, F_ADD_SEALS, seals);
}

int rdt_block_map(size_t bytes, bool write, struct rdt_block *block)
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

	fd = memfd_create("rdtrain", MFD_CLOEXEC | MFD_ALLOW_SEALING);
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
	if (seal(fd, write) < 0) {
		status = rdt_err_errno(RDT_ERR_SYSTEM, "shared memory cannot be sealed");
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
