/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that peers of this host can reach. What rdt_alloc gave is a file that they map
 * (shm_map.c); ordinary memory is reached by process_vm_writev where that is permitted (shm_cma.c),
 * and is not exportable where it is not.
 */
#include "shm.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"

/* An exported region. memfd < 0: ordinary memory at `where`; else `where` is an offset in the file.
 */
struct exported {
	int32_t memfd;
	uint32_t serial; /* of the region: a later file may have the same descriptor */
	uint64_t where, length;
	uint32_t access; /* RDT_ACCESS_... */
	uint32_t zero;	 /* blobs are compared */
};

_Static_assert(sizeof(struct exported) <= RDT_EXPORT_MAX, "an export fits its blob");

int rdt_shm_mem_register(struct rdt_transport *transport, void *ptr, size_t length, int memfd,
			 uint64_t memfd_offset, struct rdt_region **out)
{
	struct rdt_shm *shm = rdt_shm(transport);
	struct rdt_region *region;

	if (!ptr || length == 0 || (uintptr_t)ptr + length < (uintptr_t)ptr)
		return rdt_err(RDT_ERR_INVALID, "shm: %zu bytes at %p are no memory to register",
			       length, ptr);
	region = malloc(sizeof(*region));
	if (!region)
		return rdt_err(RDT_ERR_NOMEM, "shm: out of memory for a region");
	*region = (struct rdt_region){ .shm = shm,
				       .base = ptr,
				       .length = length,
				       .memfd = memfd,
				       .memfd_offset = memfd_offset,
				       .serial = ++shm->serials,
				       .next = shm->regions };
	if (shm->regions)
		shm->regions->prev = region;
	shm->regions = region;
	if (memfd < 0 && !shm->cma_refused && !shm->ptracer_set) {
		rdt_shm_cma_permit();
		shm->ptracer_set = true;
	}
	*out = region;
	return 0;
}

void rdt_shm_mem_deregister(struct rdt_region *region)
{
	if (!region)
		return;
	if (region->prev)
		region->prev->next = region->next;
	else
		region->shm->regions = region->next;
	if (region->next)
		region->next->prev = region->prev;
	free(region);
}

bool rdt_shm_mem_exportable(const struct rdt_region *region)
{
	return region->memfd >= 0 || !region->shm->cma_refused;
}

int rdt_shm_mem_export(struct rdt_region *region, const void *ptr, size_t length, unsigned access,
		       void *blob, size_t *blob_length)
{
	uintptr_t at = (uintptr_t)ptr, base = (uintptr_t)region->base;
	struct exported e = { .memfd = region->memfd < 0 ? -1 : region->memfd,
			      .serial = region->serial,
			      .length = length,
			      .access = access };

	if (at < base || at - base > region->length || length > region->length - (at - base))
		return rdt_err(RDT_ERR_INVALID, "shm: %zu bytes at %p lie outside their region",
			       length, ptr);
	if (access == 0 || access > RDT_ACCESS_ALL)
		return rdt_err(RDT_ERR_INVALID, "shm: memory exported with access %u", access);
	if (!rdt_shm_mem_exportable(region))
		return rdt_err(RDT_ERR_INVALID,
			       "shm: peers cannot write into ordinary memory here: %s",
			       region->shm->cma_refused);
	e.where = region->memfd >= 0 ? region->memfd_offset + (at - base) : (uint64_t)at;
	memcpy(blob, &e, sizeof(e));
	*blob_length = sizeof(e);
	return 0;
}

static int reach(struct rdt_remote *remote, const struct exported *e)
{
	struct rdt_ep *ep = remote->ep;
	int status;

	if (e->length == 0)
		return 0;
	if (e->memfd >= 0) {
		status = rdt_shm_file_get(ep, e->memfd, e->where, e->length,
					  e->access != RDT_ACCESS_GET, &remote->file);
		if (status == 0)
			remote->mapped = remote->file->base + e->where;
		return status;
	}
	if (e->length > UINTPTR_MAX - e->where)
		return rdt_err(RDT_ERR_INVALID,
			       "shm: rank %d exported %lu bytes at %#lx, no memory", ep->head.peer,
			       (unsigned long)e->length, (unsigned long)e->where);
	if (ep->shm->cma_refused)
		return rdt_err(RDT_ERR_UNREACHABLE,
			       "shm: rank %d lets ordinary memory be written by "
			       "process_vm_writev, which is out here: %s (set RDTRAIN_SHM_CMA=0 on "
			       "all ranks)",
			       ep->head.peer, ep->shm->cma_refused);
	/* Better refused now, when a plan is made, than in the middle of an operation. */
	return rdt_shm_cma_probe(ep, e->where);
}

int rdt_shm_mem_import(struct rdt_ep *ep, const void *blob, size_t blob_length,
		       struct rdt_remote **out)
{
	struct rdt_shm *shm = ep->shm;
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
	remote->access = e.access;
	status = reach(remote, &e);
	if (status) {
		free(remote);
		return status;
	}
	remote->next = shm->remotes;
	if (remote->next)
		remote->next->prev = remote;
	shm->remotes = remote;
	*out = remote;
	return 0;
}

void rdt_shm_mem_release(struct rdt_remote *remote)
{
	if (!remote)
		return;
	if (remote->prev)
		remote->prev->next = remote->next;
	else
		remote->ep->shm->remotes = remote->next;
	if (remote->next)
		remote->next->prev = remote->prev;
	if (remote->file)
		rdt_shm_file_put(remote->ep, remote->file);
	free(remote);
}

void *rdt_shm_mem_map(struct rdt_remote *remote)
{
	return remote->mapped;
}
