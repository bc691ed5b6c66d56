/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory: registration, with RLIMIT_MEMLOCK checked before the kernel says ENOMEM, and what peers
 * need to know of a region to go there.
 *
 * A region is registered for this rank alone; there is no key by which a peer could reach it. The
 * first export with an access registers it with that access and no other, so that a device lets in
 * what was asked for and nothing else. From then on our own work requests use that registration,
 * and the closed one is given up where none of them is under way: pages count against the limit of
 * locked memory once for each registration.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/log.h"
#include "lib/base/memlock.h"
#include "verbs.h"

static struct rdt_verbs_region *verbs_region(struct rdt_region *region)
{
	return (struct rdt_verbs_region *)region;
}

int rdt_verbs_reg_mr(struct rdt_verbs *t, void *ptr, size_t length, int access, const char *what,
		     struct ibv_mr **mr)
{
	uint64_t need = rdt_memlock_need(ptr, length, (size_t)sysconf(_SC_PAGESIZE));
	struct rdt_memlock memlock;
	int error;

	rdt_memlock_read(&memlock);
	if (!memlock.exempt && rdt_memlock_exceeded(&memlock, need))
		return rdt_memlock_err(&memlock, need, what);

	*mr = ibv_reg_mr(t->pd, ptr, length, access);
	if (*mr)
		return 0;
	error = errno;
	/* A capability that the kernel does not honour, or a limit that changed meanwhile. */
	rdt_memlock_read(&memlock);
	if ((error == ENOMEM || error == EPERM) && rdt_memlock_exceeded(&memlock, need))
		return rdt_memlock_err(&memlock, need, what);
	if (error == EFAULT)
		return rdt_err(RDT_ERR_INVALID,
			       "verbs: cannot register %s: it is not mapped, or not writable",
			       what);
	errno = error;
	return rdt_err_errno(error == ENOMEM ? RDT_ERR_NOMEM : RDT_ERR_SYSTEM,
			     "verbs: %s cannot register %s", t->choice.device, what);
}

static int flags_of(unsigned access)
{
	return IBV_ACCESS_LOCAL_WRITE | (access & RDT_ACCESS_PUT ? IBV_ACCESS_REMOTE_WRITE : 0) |
	       (access & RDT_ACCESS_GET ? IBV_ACCESS_REMOTE_READ : 0) |
	       (access & RDT_ACCESS_ATOMIC ? IBV_ACCESS_REMOTE_ATOMIC : 0);
}

static int register_for(struct rdt_verbs_region *region, unsigned access)
{
	char what[64];
	int rc;

	snprintf(what, sizeof(what), "a region of %zu bytes", region->length);
	rc = rdt_verbs_reg_mr(region->t, region->base, region->length, flags_of(access), what,
			      &region->mr[access]);
	if (rc)
		region->mr[access] = NULL;
	else
		region->local = region->mr[access];
	return rc;
}

/* None of our work requests is under way. */
static bool idle(const struct rdt_verbs *t)
{
	for (uint32_t i = 0; i < t->neps; i++)
		if (t->eps[i]->head.posted != t->eps[i]->head.completed)
			return false;
	return true;
}

static int open_region(struct rdt_verbs_region *region, unsigned access)
{
	bool closed = region->mr[0] && idle(region->t);
	int rc;

	if (access == 0 || access > RDT_ACCESS_ALL)
		return rdt_err(RDT_ERR_INVALID, "verbs: memory exported with access %u", access);
	if (closed) {
		ibv_dereg_mr(region->mr[0]);
		region->mr[0] = NULL;
		region->local = NULL;
	}
	rc = register_for(region, access);
	if (rc && closed) { /* as it was before */
		char why[512];

		snprintf(why, sizeof(why), "%s", rdt_last_error());
		if (register_for(region, 0))
			rdt_warn("verbs: a region of %zu bytes is registered no more: %s",
				 region->length, rdt_last_error());
		return rdt_err((enum rdt_status)rc, "%s", why);
	}
	return rc;
}

/* What backs the pages does not matter to the device. */
int rdt_verbs_mem_register(struct rdt_transport *transport, void *ptr, size_t length, int memfd,
			   uint64_t memfd_offset, struct rdt_region **out)
{
	struct rdt_verbs *t = rdt_verbs(transport);
	struct rdt_verbs_region *region;
	int rc;

	(void)memfd;
	(void)memfd_offset;

	if (!ptr || length == 0 || (uintptr_t)ptr + length < (uintptr_t)ptr)
		return rdt_err(RDT_ERR_INVALID, "verbs: %zu bytes at %p are no memory to register",
			       length, ptr);
	region = calloc(1, sizeof(*region));
	if (!region)
		return rdt_err(RDT_ERR_NOMEM, "verbs: no memory for a region's record");
	region->t = t;
	region->base = ptr;
	region->length = length;
	rc = register_for(region, 0);
	if (rc) {
		free(region);
		return rc;
	}
	region->next = t->regions;
	region->link = &t->regions;
	if (region->next)
		region->next->link = &region->next;
	t->regions = region;
	*out = (struct rdt_region *)region;
	return 0;
}

void rdt_verbs_mem_deregister(struct rdt_region *r)
{
	struct rdt_verbs_region *region = verbs_region(r);

	if (!region)
		return;
	*region->link = region->next;
	if (region->next)
		region->next->link = region->link;
	for (unsigned access = 0; access <= RDT_ACCESS_ALL; access++)
		if (region->mr[access])
			ibv_dereg_mr(region->mr[access]);
	free(region);
}

bool rdt_verbs_mem_exportable(const struct rdt_region *region)
{
	(void)region;
	return true;
}

int rdt_verbs_mem_export(struct rdt_region *r, const void *ptr, size_t length, unsigned access,
			 void *blob, size_t *blob_length)
{
	struct rdt_verbs_region *region = verbs_region(r);
	const char *from = ptr;
	struct rdt_verbs_exported e;
	int rc;

	if (from < region->base || from > region->base + region->length ||
	    length > (size_t)(region->base + region->length - from))
		return rdt_err(RDT_ERR_INVALID,
			       "verbs: cannot export %zu bytes at %p, outside the region of %zu "
			       "bytes at %p",
			       length, ptr, region->length, (void *)region->base);
	if (access > RDT_ACCESS_ALL || !access || !region->mr[access]) {
		rc = open_region(region, access);
		if (rc)
			return rc;
	}
	e = (struct rdt_verbs_exported){
		.magic = htole32(RDT_VERBS_EXPORT_MAGIC),
		.rkey = htole32(region->mr[access]->rkey),
		.addr = htole64((uintptr_t)ptr),
		.length = htole64(length),
	};
	_Static_assert(sizeof(e) <= RDT_EXPORT_MAX, "an exported region fits its blob");
	memcpy(blob, &e, sizeof(e));
	*blob_length = sizeof(e);
	return 0;
}

int rdt_verbs_mem_import(struct rdt_ep *endpoint, const void *blob, size_t blob_length,
			 struct rdt_remote **out)
{
	struct rdt_verbs_ep *ep = rdt_verbs_ep(endpoint);
	struct rdt_verbs_remote *remote;
	struct rdt_verbs_exported e;

	if (blob_length != sizeof(e))
		return rdt_err(RDT_ERR_INVALID,
			       "verbs: rank %d exported memory in %zu bytes, expected %zu: do all "
			       "ranks run the same version?",
			       ep->head.peer, blob_length, sizeof(e));
	memcpy(&e, blob, sizeof(e));
	if (le32toh(e.magic) != RDT_VERBS_EXPORT_MAGIC ||
	    le64toh(e.addr) + le64toh(e.length) < le64toh(e.addr))
		return rdt_err(RDT_ERR_INVALID,
			       "verbs: what rank %d exported is no verbs region: do all ranks run "
			       "the same version?",
			       ep->head.peer);
	remote = calloc(1, sizeof(*remote));
	if (!remote)
		return rdt_err(RDT_ERR_NOMEM, "verbs: no memory for a remote region's record");
	remote->ep = ep;
	remote->addr = le64toh(e.addr);
	remote->length = le64toh(e.length);
	remote->rkey = le32toh(e.rkey);
	remote->next = ep->t->remotes;
	remote->link = &ep->t->remotes;
	if (remote->next)
		remote->next->link = &remote->next;
	ep->t->remotes = remote;
	*out = (struct rdt_remote *)remote;
	return 0;
}

void rdt_verbs_mem_release(struct rdt_remote *r)
{
	struct rdt_verbs_remote *remote = (struct rdt_verbs_remote *)r;

	if (!remote)
		return;
	*remote->link = remote->next;
	if (remote->next)
		remote->next->link = remote->link;
	free(remote);
}
