/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernel adds what RDMA pins to the process's pinned pages (VmPin, apart from mlock's VmLck)
 * and compares the sum with RLIMIT_MEMLOCK, unless the process has CAP_IPC_LOCK in the initial
 * user namespace. A capability of an inner namespace does not count, so it is not exempt here.
 */
#include "memlock.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "error.h"

#define CAP_IPC_LOCK_BIT 14

/* Only the initial user namespace maps all ids onto themselves. */
static bool initial_user_namespace(void)
{
	unsigned long inside = 1, outside = 1, count = 0;
	FILE *f = fopen("/proc/self/uid_map", "re");

	if (!f)
		return true; /* a kernel without user namespaces */
	if (fscanf(f, "%lu %lu %lu", &inside, &outside, &count) != 3)
		count = 0;
	fclose(f);
	return inside == 0 && outside == 0 && count == 4294967295ul;
}

void rdt_memlock_read(struct rdt_memlock *memlock)
{
	unsigned long long value;
	struct rlimit limit;
	char line[256];
	FILE *f;

	*memlock = (struct rdt_memlock){ .limit = UINT64_MAX };
	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		memlock->limit = limit.rlim_cur;

	f = fopen("/proc/self/status", "re");
	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "VmPin: %llu kB", &value) == 1)
			memlock->locked = value * 1024;
		else if (sscanf(line, "CapEff: %llx", &value) == 1)
			memlock->exempt = value >> CAP_IPC_LOCK_BIT & 1;
	}
	fclose(f);
	memlock->exempt = memlock->exempt && initial_user_namespace();
}

uint64_t rdt_memlock_need(const void *ptr, size_t length, size_t page)
{
	uint64_t in_page = (uintptr_t)ptr % page;

	return (in_page + length + page - 1) / page * page;
}

bool rdt_memlock_exceeded(const struct rdt_memlock *memlock, uint64_t need)
{
	if (memlock->limit == UINT64_MAX)
		return false;
	return need > memlock->limit || memlock->locked > memlock->limit - need;
}

int rdt_memlock_err(const struct rdt_memlock *memlock, uint64_t need, const char *what)
{
	return rdt_err(RDT_ERR_MEMLOCK,
		       "cannot lock %s for the device: it needs %llu KiB, %llu KiB are locked "
		       "already, and RLIMIT_MEMLOCK allows %llu KiB; raise the limit: `ulimit -l "
		       "unlimited` in the shell that starts the job, a line \"* - memlock "
		       "unlimited\" in /etc/security/limits.conf, LimitMEMLOCK=infinity in a "
		       "systemd unit, or `docker run --ulimit memlock=-1`",
		       what, (unsigned long long)((need + 1023) / 1024),
		       (unsigned long long)(memlock->locked / 1024),
		       (unsigned long long)(memlock->limit / 1024));
}
