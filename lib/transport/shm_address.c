/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who is on this host, as shm needs it. Peers find each other without a protocol: an address names
 * a process and two of its descriptors, its segment and the writing end of its wake-up pipe, and a
 * peer opens them through /proc/PID/fd. The kernel allows that between processes of one user, one
 * PID namespace and one user namespace; where they differ, reachable() says so and another
 * transport is chosen. RDTRAIN_HOST_ID stands in for the boot id, which tells hosts apart.
 */
#include "shm.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/error.h"

uint64_t rdt_shm_start_time(pid_t pid)
{
	char path[64], text[1024], *at;
	unsigned long long start = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	at = strrchr(text, ')'); /* the name may hold anything, so count from its end */
	/* field 22 of proc(5); the name is field 2 */
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (at)
		sscanf(at, "%llu", &start);
	return start;
}

static int fill_host(const struct rdt_shm *shm, char *host, size_t size)
{
	const char *id = shm->config.host_id;
	ssize_t n = -1;
	int fd;

	if (id) {
		/* Cut off, two different names could look the same. */
		if (strlen(id) >= size)
			return rdt_err(RDT_ERR_INVALID,
				       "shm: RDTRAIN_HOST_ID is %zu characters long; at most %zu",
				       strlen(id), size - 1);
		strcpy(host, id);
		return 0;
	}
	fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, host, size - 1);
		close(fd);
	}
	if (n <= 0)
		return rdt_err_errno(
			RDT_ERR_NO_DEVICE,
			"shm: /proc/sys/kernel/random/boot_id cannot be read (is /proc "
			"mounted? RDTRAIN_HOST_ID can stand in)");
	host[strcspn(host, "\n")] = '\0';
	return 0;
}

int rdt_shm_fill_address(struct rdt_shm *shm)
{
	struct rdt_shm_address *a = &shm->self;
	struct stat ns;
	int status;

	status = fill_host(shm, a->host, sizeof(a->host));
	if (status)
		return status;
	if (stat("/proc/self/ns/pid", &ns) < 0)
		return rdt_err_errno(RDT_ERR_NO_DEVICE,
				     "shm: /proc/self/ns/pid cannot be read (is /proc mounted?)");
	a->pid_namespace = ns.st_ino;
	/* A kernel without user namespaces has one for all. */
	a->user_namespace = stat("/proc/self/ns/user", &ns) < 0 ? 0 : ns.st_ino;
	a->user = geteuid();
	a->pid = getpid();
	a->start_time = rdt_shm_start_time(a->pid);
	a->rank = shm->config.rank;
	a->segment_fd = shm->segment_fd;
	a->wake_fd = shm->wake_write;
	return 0;
}

bool rdt_shm_read_address(const void *blob, size_t length, struct rdt_shm_address *address)
{
	if (length != sizeof(*address))
		return false;
	memcpy(address, blob, sizeof(*address));
	return memchr(address->host, '\0', sizeof(address->host)) && address->pid > 0 &&
	       address->segment_fd >= 0 && address->wake_fd >= 0;
}

bool rdt_shm_reachable(struct rdt_transport *transport, const void *blob, size_t length, char *why,
		       size_t why_size)
{
	const struct rdt_shm_address *self = &rdt_shm(transport)->self;
	struct rdt_shm_address peer;

	if (!rdt_shm_read_address(blob, length, &peer))
		snprintf(why, why_size, "no shm address of this version");
	else if (strcmp(self->host, peer.host) != 0)
		snprintf(why, why_size, "other host");
	else if (self->pid_namespace != peer.pid_namespace)
		snprintf(why, why_size, "same host, other pid namespace");
	else if (self->user_namespace != peer.user_namespace)
		snprintf(why, why_size, "same host, other user namespace");
	else if (self->user != peer.user)
		snprintf(why, why_size, "same host, other user (%u and %u)", self->user, peer.user);
	else {
		snprintf(why, why_size, "same host");
		return true;
	}
	return false;
}
