/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files of peers, mapped here. A file is mapped whole and once, however many regions are imported
 * from it: whole, since then any offset is aligned, huge pages (of tmpfs or hugetlbfs) keep their
 * places, and all plans over one gradient share one mapping. It goes with its last user. It is
 * mapped for reading until somebody imports what may be written.
 */
#include "shm.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/error.h"

#define HUGE_PAGE ((size_t)2 << 20)

static struct rdt_shm_file *find(struct rdt_ep *ep, const struct stat *st, uint64_t end)
{
	/* A mapped file lives on, so no other can have its number meanwhile. */
	for (struct rdt_shm_file *f = ep->files; f; f = f->next)
		if (f->device == st->st_dev && f->inode == st->st_ino && end <= f->length)
			return f;
	return NULL;
}

static int map(struct rdt_ep *ep, int fd, const struct stat *st, bool writable,
	       struct rdt_shm_file **out)
{
	struct rdt_shm_file *f = calloc(1, sizeof(*f));
	int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;

	if (!f)
		return rdt_err(RDT_ERR_NOMEM, "shm: out of memory for a mapping");
	f->device = st->st_dev;
	f->inode = st->st_ino;
	f->length = (size_t)st->st_size;
	f->writable = writable;
	f->base = mmap(NULL, f->length, protection, MAP_SHARED, fd, 0);
	if (f->base == MAP_FAILED) {
		free(f);
		return rdt_err_errno(RDT_ERR_NOMEM, "shm: %zu bytes of rank %d cannot be mapped",
				     (size_t)st->st_size, ep->head.peer);
	}
	if (f->length >= HUGE_PAGE)
		madvise(f->base, f->length, MADV_HUGEPAGE); /* advice: small pages work as well */
	f->next = ep->files;
	ep->files = f;
	*out = f;
	return 0;
}

static int make_writable(const struct rdt_ep *ep, struct rdt_shm_file *f)
{
	if (f->writable)
		return 0;
	if (mprotect(f->base, f->length, PROT_READ | PROT_WRITE) < 0)
		return rdt_err_errno(RDT_ERR_INVALID,
				     "shm: memory that rank %d exports for writing can only be "
				     "read",
				     ep->head.peer);
	f->writable = true;
	return 0;
}

int rdt_shm_file_get(struct rdt_ep *ep, int peer_fd, uint64_t offset, uint64_t length,
		     bool writable, struct rdt_shm_file **out)
{
	struct rdt_shm_file *f;
	int fd, status;
	struct stat st;

	status = rdt_shm_open_fd(ep, peer_fd, O_RDWR, "exported memory", &fd);
	if (status)
		return status;
	/* Beyond the file's end there would be a SIGBUS instead of an error. */
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || offset > (uint64_t)st.st_size ||
	    length > (uint64_t)st.st_size - offset) {
		status = rdt_err(RDT_ERR_INVALID,
				 "shm: rank %d exported %lu bytes at %lu of descriptor %d, which "
				 "holds no such range",
				 ep->head.peer, (unsigned long)length, (unsigned long)offset,
				 peer_fd);
		goto close_fd;
	}
	f = find(ep, &st, offset + length);
	if (!f)
		status = map(ep, fd, &st, writable, &f);
	else if (writable)
		status = make_writable(ep, f);
	if (status == 0) {
		f->users++;
		*out = f;
	}
close_fd:
	close(fd);
	return status;
}

void rdt_shm_file_put(struct rdt_ep *ep, struct rdt_shm_file *file)
{
	struct rdt_shm_file **at = &ep->files;

	if (--file->users)
		return;
	while (*at != file)
		at = &(*at)->next;
	*at = file->next;
	munmap(file->base, file->length);
	free(file);
}
