/* SPDX-License-Identifier: BSD-3-Clause */
/* The shm transport's own structures, shared by shm_*.c and by nobody else. */
#ifndef RDT_SHM_H
#define RDT_SHM_H

#include <stdatomic.h>
#include <sys/types.h>

#include "transport.h"

#define RDT_SHM_MAGIC UINT64_C(0x31306d6873746472) /* "rdtshm01" in memory */

/*
 * The segment: what a rank lets its peers write. Its first page is the header, drawn by cache line;
 * then come RDT_CHANNELS counters for each rank. Only rank p writes the counters of p, so a
 * notification is a store, not a read-modify-write; pages of ranks that never write stay unbacked.
 */
struct rdt_shm_header {
	_Alignas(64) uint64_t magic;
	unsigned char nonce[RDT_NONCE_BYTES];
	uint32_t generation;
	int32_t rank, size;
	_Alignas(
		64) _Atomic uint32_t sleeping; /* 1: the owner sleeps, write a byte into its pipe */
	_Alignas(64) _Atomic uint32_t left;    /* 1: the owner has left in good order */
};

#define RDT_SHM_HEADER_BYTES 4096

struct rdt_shm_address {
	char host[192];
	uint64_t pid_namespace;
	uint32_t user;
	int32_t pid, rank;
	int32_t segment_fd, wake_fd;
	uint64_t start_time;
	unsigned char nonce[RDT_NONCE_BYTES];
};

struct rdt_ep {
	struct rdt_ep_head head;
	struct rdt_shm *shm;
	pid_t pid;
	int pidfd, wake_fd;
	struct rdt_shm_header *segment; /* the peer's */
	uint32_t *out;			/* my counters in it */
	bool gone;			/* its end has been seen */
	struct rdt_ep *next;
};

struct rdt_shm {
	struct rdt_transport_config config;
	struct rdt_shm_address self;
	struct rdt_shm_header *segment;
	size_t segment_bytes;
	int segment_fd, wake_read, wake_write;
	const char *cma_refused; /* why process_vm_writev is out, or NULL */
	bool ptracer_set, shut;
	struct rdt_ep *eps;
	int n_eps;
	struct rdt_transport_failure failure; /* status 0: none */
};

struct rdt_region {
	struct rdt_shm *shm;
	char *base;
	size_t length;
	int memfd;
	uint64_t memfd_offset;
};

/* A peer's memory: mapped here, or reached by process_vm_writev. */
struct rdt_remote {
	struct rdt_ep *ep;
	char *mapped;	  /* NULL: by process_vm_writev */
	uint64_t address; /* there */
	uint64_t length;
	void *mapping; /* page-aligned, for munmap */
	size_t mapping_length;
};

static inline struct rdt_shm *rdt_shm(struct rdt_transport *transport)
{
	return (struct rdt_shm *)transport;
}

/* shm_open.c: size of a segment for so many ranks */
size_t rdt_shm_segment_bytes(int size);
/* /proc/PID/fd/N of a peer; names the file and the remedy when it may not be opened. */
int rdt_shm_open_fd(const struct rdt_shm_address *peer, int fd, int flags, const char *what,
		    int *out);

/* shm_connect.c */
int rdt_shm_connect(struct rdt_transport *, int peer, const void *blob, size_t length,
		    struct rdt_ep **);
int rdt_shm_connected(struct rdt_ep *);
void rdt_shm_describe(struct rdt_ep *, char *text, size_t size);
bool rdt_shm_reachable(struct rdt_transport *, const void *blob, size_t length, char *why,
		       size_t why_size);
void rdt_shm_disconnect(struct rdt_ep *);

/* shm_memory.c */
const char *rdt_shm_cma_refused(void);
int rdt_shm_mem_register(struct rdt_transport *, void *ptr, size_t length, int memfd,
			 uint64_t memfd_offset, struct rdt_region **);
void rdt_shm_mem_deregister(struct rdt_region *);
bool rdt_shm_mem_exportable(const struct rdt_region *);
int rdt_shm_mem_export(const struct rdt_region *, const void *ptr, size_t length, void *blob,
		       size_t *blob_length);
int rdt_shm_mem_import(struct rdt_ep *, const void *blob, size_t blob_length, struct rdt_remote **);
void rdt_shm_mem_release(struct rdt_remote *);
void *rdt_shm_mem_map(struct rdt_remote *);

/* shm_put.c */
int rdt_shm_put(struct rdt_ep *, const struct rdt_put *);

/* shm_wait.c */
int rdt_shm_progress(struct rdt_transport *);
int rdt_shm_fds(struct rdt_transport *, struct pollfd *, int max);
int rdt_shm_arm(struct rdt_transport *);
int rdt_shm_woken(struct rdt_transport *, const struct pollfd *, int n);
void rdt_shm_lost(struct rdt_ep *, const char *how);

#endif
