/* SPDX-License-Identifier: BSD-3-Clause */
/* Who is on which host. All ranks come to the same answer: rank 0 numbers the hosts. */
#include "comm.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY "host"

static unsigned long namespace_id(const char *path)
{
	struct stat ns;

	return stat(path, &ns) < 0 ? 0 : (unsigned long)ns.st_ino;
}

/* What makes two ranks share a host, as shm needs it: kernel, pid and user namespace, user. */
static void host_name(const rdt_comm *comm, char *text, size_t size)
{
	char boot_id[64] = "";
	int fd;

	if (comm->config.host_id) {
		snprintf(boot_id, sizeof(boot_id), "%s", comm->config.host_id);
	} else {
		fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			ssize_t n = read(fd, boot_id, sizeof(boot_id) - 1);

			boot_id[n > 0 ? n : 0] = '\0';
			boot_id[strcspn(boot_id, "\n")] = '\0';
			close(fd);
		}
	}
	snprintf(text, size, "host %s, pid namespace %lu, user namespace %lu, user %u", boot_id,
		 namespace_id("/proc/self/ns/pid"), namespace_id("/proc/self/ns/user"), geteuid());
}

/* Rank 0: numbers hosts in the order in which their ranks come. */
static int number_hosts(rdt_comm *comm, uint16_t *numbers, int64_t deadline)
{
	char(*names)[RDT_SIGNATURE_MAX] = calloc((size_t)comm->size, sizeof(*names));
	int hosts = 0, status = 0;

	if (!names)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for the hosts of %d ranks",
			       comm->size);
	for (int r = 0; r < comm->size && !status; r++) {
		char name[RDT_SIGNATURE_MAX] = "";
		size_t length = sizeof(name) - 1;
		int h = 0;

		status = rdt_peers_get(comm, r, KEY, name, &length, deadline);
		while (h < hosts && strcmp(names[h], name) != 0)
			h++;
		if (h == hosts)
			memcpy(names[hosts++], name, sizeof(name));
		numbers[r] = (uint16_t)h;
	}
	free(names);
	return status;
}

static int share_numbers(rdt_comm *comm, const char *name, int64_t deadline)
{
	size_t bytes = (size_t)comm->size * sizeof(uint16_t), length = bytes;
	uint16_t *numbers = calloc((size_t)comm->size, sizeof(*numbers));
	int status;

	if (!numbers)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for the hosts of %d ranks",
			       comm->size);
	status = rdt_peers_put(comm, KEY, name, strlen(name));
	if (!status && comm->rank == 0) {
		status = number_hosts(comm, numbers, deadline);
		if (!status)
			status = rdt_peers_put(comm, KEY "s", numbers, bytes);
	} else if (!status) {
		status = rdt_peers_get(comm, 0, KEY "s", numbers, &length, deadline);
		if (!status && length != bytes)
			status = rdt_err(RDT_ERR_SYSTEM, "rank 0 sent the hosts of %zu ranks",
					 length / sizeof(*numbers));
	}
	for (int r = 0; r < comm->size && !status; r++)
		comm->host[r] = numbers[r];
	free(numbers);
	return status;
}

/* The processors that this process may run on, in 64 bits: processor p in bit p % 64. */
static uint64_t own_processors(int *count)
{
	uint64_t bits = 0;
	cpu_set_t set;

	*count = 0;
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return UINT64_MAX;
	*count = CPU_COUNT(&set);
	for (int p = 0; p < CPU_SETSIZE; p++)
		if (CPU_ISSET(p, &set))
			bits |= UINT64_C(1) << p % 64;
	return bits;
}

int rdt_hosts_find(rdt_comm *comm, int64_t deadline)
{
	char name[RDT_SIGNATURE_MAX];
	struct rdt_fence fence;
	uint64_t own = own_processors(&comm->processors);
	int status;

	host_name(comm, name, sizeof(name));
	/* Of the flags, those that all have come back. None: each rank was bound to processors of
	 * its own, and all of them together are what this host has. */
	status = rdt_peers_fence(comm, name, own, &fence, deadline);
	if (status)
		return status;
	comm->one_host = fence.equal;
	if (fence.flags == 0)
		comm->processors = (int)sysconf(_SC_NPROCESSORS_ONLN);
	if (comm->config.transport == RDT_TRANSPORT_VERBS)
		return 0; /* nobody's memory is mapped */
	if ((size_t)comm->size > RDT_BLOB_MAX / sizeof(uint16_t)) {
		rdt_info("%d ranks: more than the rendezvous can tell the hosts of; algorithms "
			 "for hosts with several ranks are not used",
			 comm->size);
		return 0;
	}
	comm->host = calloc((size_t)comm->size, sizeof(*comm->host));
	if (!comm->host)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for the hosts of %d ranks",
			       comm->size);
	return comm->one_host ? 0 : share_numbers(comm, name, deadline);
}
