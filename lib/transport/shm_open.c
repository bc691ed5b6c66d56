/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shared memory between ranks of one host: opening, the address, leaving.
 *
 * Peers find each other without a protocol. An address names a process and two of its descriptors,
 * its segment and the writing end of its wake-up pipe; a peer opens them through /proc/PID/fd. For
 * that both must share a PID namespace and a user; where they do not, reachable() says so and
 * another transport is chosen.
 */
#include "shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/error.h"

size_t rdt_shm_segment_bytes(int size)
{
	return RDT_SHM_HEADER_BYTES + (size_t)size * RDT_CHANNELS * sizeof(uint32_t);
}

/* When a process began, in clock ticks since boot: with the pid it names one process, not its
 * successor. 0 when it cannot be read. */
static uint64_t start_time(pid_t pid)
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
	/* field 22 of proc(5); the one after the name is the third */
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (at)
		sscanf(at, "%llu", &start);
	return start;
}

static int fill_address(struct rdt_shm *shm)
{
	struct rdt_shm_address *a = &shm->self;
	struct stat ns;
	int fd;

	if (shm->config.host_id) {
		snprintf(a->host, sizeof(a->host), "%s", shm->config.host_id);
	} else {
		ssize_t n = -1;

		fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			n = read(fd, a->host, sizeof(a->host) - 1);
			close(fd);
		}
		if (n <= 0)
			return rdt_err_errno(RDT_ERR_NO_DEVICE,
					     "shm: /proc/sys/kernel/random/boot_id cannot be read "
					     "(is /proc mounted? "
					     "RDTRAIN_HOST_ID can stand in)");
		a->host[strcspn(a->host, "\n")] = '\0';
	}
	if (stat("/proc/self/ns/pid", &ns) < 0)
		return rdt_err_errno(RDT_ERR_NO_DEVICE,
				     "shm: /proc/self/ns/pid cannot be read (is /proc mounted?)");
	a->pid_namespace = ns.st_ino;
	a->user = geteuid();
	a->pid = getpid();
	a->start_time = start_time(a->pid);
	a->rank = shm->config.rank;
	a->segment_fd = shm->segment_fd;
	a->wake_fd = shm->wake_write;
	memcpy(a->nonce, shm->config.nonce, sizeof(a->nonce));
	return 0;
}

static int make_segment(struct rdt_shm *shm)
{
	shm->segment_bytes = rdt_shm_segment_bytes(shm->config.size);
	shm->segment_fd = memfd_create("rdtrain-segment", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (shm->segment_fd < 0)
		return rdt_err_errno(RDT_ERR_NO_DEVICE, "shm: memfd_create failed");
	if (ftruncate(shm->segment_fd, (off_t)shm->segment_bytes) < 0)
		return rdt_err_errno(RDT_ERR_NOMEM, "shm: no segment of %zu bytes",
				     shm->segment_bytes);
	/* Nobody can shrink it beneath another's mapping. */
	fcntl(shm->segment_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
	shm->segment = mmap(NULL, shm->segment_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			    shm->segment_fd, 0);
	if (shm->segment == MAP_FAILED) {
		shm->segment = NULL;
		return rdt_err_errno(RDT_ERR_NOMEM, "shm: no room for a segment of %zu bytes",
				     shm->segment_bytes);
	}
	shm->segment->rank = shm->config.rank;
	shm->segment->size = shm->config.size;
	shm->segment->generation = shm->config.generation;
	memcpy(shm->segment->nonce, shm->config.nonce, sizeof(shm->segment->nonce));
	shm->segment->magic = RDT_SHM_MAGIC;
	return 0;
}

static void shm_close(struct rdt_transport *transport)
{
	struct rdt_shm *shm = rdt_shm(transport);

	while (shm->eps) {
		struct rdt_ep *ep = shm->eps;

		shm->eps = ep->next;
		rdt_shm_disconnect(ep);
	}
	if (shm->segment)
		munmap(shm->segment, shm->segment_bytes);
	if (shm->segment_fd >= 0)
		close(shm->segment_fd);
	if (shm->wake_read >= 0)
		close(shm->wake_read);
	if (shm->wake_write >= 0)
		close(shm->wake_write);
	free(shm);
}

static int shm_open_transport(const struct rdt_transport_config *config, struct rdt_transport **out)
{
	struct rdt_shm *shm = calloc(1, sizeof(*shm));
	int status, ends[2];

	if (!shm)
		return rdt_err(RDT_ERR_NOMEM, "shm: out of memory");
	shm->config = *config;
	shm->segment_fd = shm->wake_read = shm->wake_write = -1;
	status = make_segment(shm);
	if (status)
		goto fail;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
		status = rdt_err_errno(RDT_ERR_SYSTEM, "shm: no wake-up pipe");
		goto fail;
	}
	shm->wake_read = ends[0];
	shm->wake_write = ends[1];
	status = fill_address(shm);
	if (status)
		goto fail;
	shm->cma_refused = config->cma ? rdt_shm_cma_refused() : "RDTRAIN_SHM_CMA=0";
	*out = (struct rdt_transport *)shm;
	return 0;
fail:
	shm_close((struct rdt_transport *)shm);
	return status;
}

static int shm_address(struct rdt_transport *transport, void *blob, size_t *length)
{
	memcpy(blob, &rdt_shm(transport)->self, sizeof(struct rdt_shm_address));
	*length = sizeof(struct rdt_shm_address);
	return 0;
}

static int shm_reserve(struct rdt_transport *transport, long more)
{
	(void)transport; /* counters hold any number */
	(void)more;
	return 0;
}

static bool shm_failure(struct rdt_transport *transport, struct rdt_transport_failure *failure)
{
	struct rdt_shm *shm = rdt_shm(transport);

	if (!shm->failure.status)
		return false;
	*failure = shm->failure;
	shm->failure.status = 0;
	return true;
}

static void shm_leave(struct rdt_transport *transport)
{
	/* release: what was written before is visible to whoever reads that we left */
	atomic_store_explicit(&rdt_shm(transport)->segment->left, 1, memory_order_release);
}

static void shm_shutdown(struct rdt_transport *transport)
{
	/* Nobody can stop a peer's store; our own end here. */
	rdt_shm(transport)->shut = true;
}

const struct rdt_transport_ops rdt_shm_ops = {
	.size = sizeof(struct rdt_transport_ops),
	.name = "shm",
	.open = shm_open_transport,
	.close = shm_close,
	.address = shm_address,
	.reachable = rdt_shm_reachable,
	.connect = rdt_shm_connect,
	.connected = rdt_shm_connected,
	.describe = rdt_shm_describe,
	.reserve = shm_reserve,
	.mem_register = rdt_shm_mem_register,
	.mem_deregister = rdt_shm_mem_deregister,
	.mem_exportable = rdt_shm_mem_exportable,
	.mem_export = rdt_shm_mem_export,
	.mem_import = rdt_shm_mem_import,
	.mem_release = rdt_shm_mem_release,
	.mem_map = rdt_shm_mem_map,
	.put = rdt_shm_put,
	.progress = rdt_shm_progress,
	.fds = rdt_shm_fds,
	.arm = rdt_shm_arm,
	.woken = rdt_shm_woken,
	.failure = shm_failure,
	.leave = shm_leave,
	.shutdown = shm_shutdown,
};
