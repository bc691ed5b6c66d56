/* SPDX-License-Identifier: BSD-3-Clause */
/* Shared memory between ranks of one host: opening, leaving, closing, and the table of it all. */
#include "shm.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/error.h"

static int make_segment(struct rdt_shm *shm)
{
	shm->segment_bytes =
		RDT_SHM_HEADER_BYTES +
		(size_t)shm->config.size * (RDT_CHANNELS * sizeof(uint32_t) + RDT_SHM_LINE);
	shm->segment_fd = memfd_create("rdtrain-segment", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (shm->segment_fd < 0)
		return rdt_err_errno(RDT_ERR_NO_DEVICE, "shm: memfd_create failed (is the limit of "
							"open files, ulimit -n, too low?)");
	if (ftruncate(shm->segment_fd, (off_t)shm->segment_bytes) < 0)
		return rdt_err_errno(RDT_ERR_NOMEM, "shm: no segment of %zu bytes",
				     shm->segment_bytes);
	/* Nobody can shrink it beneath another's mapping. It is this user's alone. */
	if (fchmod(shm->segment_fd, 0600) < 0 ||
	    fcntl(shm->segment_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return rdt_err_errno(RDT_ERR_SYSTEM, "shm: the segment cannot be sealed");
	shm->segment = mmap(NULL, shm->segment_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			    shm->segment_fd, 0);
	if (shm->segment == MAP_FAILED) {
		shm->segment = NULL;
		return rdt_err_errno(RDT_ERR_NOMEM, "shm: no room for a segment of %zu bytes",
				     shm->segment_bytes);
	}
	shm->segment->rank = shm->config.rank;
	shm->segment->size = shm->config.size;
	shm->segment->pid = getpid();
	shm->segment->generation = shm->config.generation;
	memcpy(shm->segment->nonce, shm->config.nonce, sizeof(shm->segment->nonce));
	shm->segment->magic = RDT_SHM_MAGIC;
	return 0;
}

static void shm_close(struct rdt_transport *transport)
{
	struct rdt_shm *shm = rdt_shm(transport);

	while (shm->remotes)
		rdt_shm_mem_release(shm->remotes);
	while (shm->regions)
		rdt_shm_mem_deregister(shm->regions);
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
	struct rdt_shm *shm;
	int status, ends[2];

	if (config->size < 1 || config->rank < 0 || config->rank >= config->size)
		return rdt_err(RDT_ERR_INVALID, "shm: rank %d of %d does not exist", config->rank,
			       config->size);
	shm = calloc(1, sizeof(*shm));
	if (!shm)
		return rdt_err(RDT_ERR_NOMEM, "shm: out of memory");
	shm->config = *config;
	shm->segment_fd = shm->wake_read = shm->wake_write = -1;
	shm->lost_end = &shm->lost;
	status = make_segment(shm);
	if (status)
		goto fail;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
		status = rdt_err_errno(RDT_ERR_SYSTEM, "shm: no wake-up pipe (is the limit of open "
						       "files, ulimit -n, too low?)");
		goto fail;
	}
	shm->wake_read = ends[0];
	shm->wake_write = ends[1];
	status = rdt_shm_fill_address(shm);
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

static void shm_leave(struct rdt_transport *transport)
{
	/* release: what was written before is visible to whoever reads that we left */
	atomic_store_explicit(&rdt_shm(transport)->segment->left, 1, memory_order_release);
	rdt_shm_cma_end(rdt_shm(transport));
}

static void shm_shutdown(struct rdt_transport *transport)
{
	/* Nobody can stop a peer's store into memory that is mapped there; that is the library's
	 * until it is freed. Into the user's own memory nobody writes any more. */
	rdt_shm(transport)->shut = true;
	rdt_shm_cma_end(rdt_shm(transport));
}

_Static_assert(sizeof(struct rdt_shm_header) <= RDT_SHM_HEADER_BYTES, "the header fits its page");
_Static_assert(sizeof(struct rdt_shm_address) <= RDT_ADDRESS_MAX, "the address fits its blob");

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
	.nudge = rdt_shm_nudge,
	.get = rdt_shm_get,
	.progress = rdt_shm_progress,
	.fds = rdt_shm_fds,
	.arm = rdt_shm_arm,
	.woken = rdt_shm_woken,
	.failure = rdt_shm_failure,
	.leave = shm_leave,
	.shutdown = shm_shutdown,
	.onesided = &rdt_shm_onesided,
};
