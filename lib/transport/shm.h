/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The shm transport's own structures, shared by shm_*.c and by nobody else.
 *
 * Notifications need no progress: a peer stores them where the caller looks. So arm() cannot know
 * that one came just before it and always returns 0; whoever arms must look at its counters once
 * more after arm(), and only then sleep.
 */
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
 * At the end there is a cache line for each rank, with a word that is 1 while it writes into the
 * owner's ordinary memory: the owner, once it has said `closed`, waits for these words, so that its
 * memory is its own again when the transport has been shut down.
 */
struct rdt_shm_header {
	_Alignas(64) uint64_t magic;
	unsigned char nonce[RDT_NONCE_BYTES];
	uint32_t generation;
	int32_t rank, size, pid;
	_Alignas(64) _Atomic uint32_t sleeping; /* 1: the owner sleeps, write a byte to its pipe */
	_Alignas(64) _Atomic uint32_t left;	/* 1: the owner has left in good order */
	_Atomic uint32_t closed; /* 1: nobody may write into the owner's ordinary memory any more */
};

#define RDT_SHM_HEADER_BYTES 4096
#define RDT_SHM_LINE 64

struct rdt_shm_address {
	char host[192];
	uint64_t pid_namespace, user_namespace;
	uint32_t user;
	int32_t pid, rank;
	int32_t segment_fd, wake_fd;
	uint64_t start_time;
};

/* One file of a peer, mapped here whole; shared by all imports from it. */
struct rdt_shm_file {
	dev_t device;
	ino_t inode;
	char *base;
	size_t length;
	bool writable; /* somebody asked for more than reading */
	unsigned users;
	struct rdt_shm_file *next;
};

struct rdt_ep {
	struct rdt_ep_head head;
	struct rdt_shm *shm;
	pid_t pid;
	int pidfd, wake_fd;
	struct rdt_shm_header *segment; /* the peer's */
	uint32_t *out;			/* my counters in it */
	_Atomic uint32_t *writing;	/* my word in it */
	bool gone;			/* its end has been seen */
	struct rdt_shm_file *files;
	struct rdt_ep *next;
	struct rdt_ep *next_lost; /* in the queue of failures not handed out yet */
};

struct rdt_region {
	struct rdt_shm *shm;
	char *base;
	size_t length;
	int memfd;
	uint32_t serial;
	uint64_t memfd_offset;
	struct rdt_region *next, *prev;
};

/* A peer's memory: mapped here, or reached by process_vm_writev. */
struct rdt_remote {
	struct rdt_ep *ep;
	struct rdt_shm_file *file; /* NULL: by process_vm_writev */
	char *mapped;
	uint64_t address; /* there */
	uint64_t length;
	unsigned access; /* RDT_ACCESS_... */
	struct rdt_remote *next, *prev;
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
	struct rdt_region *regions;
	uint32_t serials; /* of regions, so far */
	struct rdt_remote *remotes;
	struct rdt_ep *lost, **lost_end; /* failures not handed out yet, oldest first */
};

static inline struct rdt_shm *rdt_shm(struct rdt_transport *transport)
{
	return (struct rdt_shm *)transport;
}

/* shm_address.c */
int rdt_shm_fill_address(struct rdt_shm *);
bool rdt_shm_read_address(const void *blob, size_t length, struct rdt_shm_address *);
bool rdt_shm_reachable(struct rdt_transport *, const void *blob, size_t length, char *why,
		       size_t why_size);
/* When a process began, in clock ticks since boot: with the pid it names one process, not its
 * successor. 0 when it cannot be read. */
uint64_t rdt_shm_start_time(pid_t pid);

/* shm_connect.c */
/* Rank's word in a segment: 1 while it writes into the owner's ordinary memory. */
_Atomic uint32_t *rdt_shm_writing(const struct rdt_shm *, struct rdt_shm_header *segment, int rank);
int rdt_shm_connect(struct rdt_transport *, int peer, const void *blob, size_t length,
		    struct rdt_ep **);
int rdt_shm_connected(struct rdt_ep *);
void rdt_shm_describe(struct rdt_ep *, char *text, size_t size);
void rdt_shm_disconnect(struct rdt_ep *);
/* Opens descriptor `fd` of the peer; names it and the remedy when it may not be opened. */
int rdt_shm_open_fd(const struct rdt_ep *, int fd, int flags, const char *what, int *out);

/* shm_memory.c */
int rdt_shm_mem_register(struct rdt_transport *, void *ptr, size_t length, int memfd,
			 uint64_t memfd_offset, struct rdt_region **);
void rdt_shm_mem_deregister(struct rdt_region *);
bool rdt_shm_mem_exportable(const struct rdt_region *);
int rdt_shm_mem_export(struct rdt_region *, const void *ptr, size_t length, unsigned access,
		       void *blob, size_t *blob_length);
int rdt_shm_mem_import(struct rdt_ep *, const void *blob, size_t blob_length, struct rdt_remote **);
void rdt_shm_mem_release(struct rdt_remote *);
void *rdt_shm_mem_map(struct rdt_remote *);

/* shm_map.c: files of peers */
int rdt_shm_file_get(struct rdt_ep *, int fd, uint64_t offset, uint64_t length, bool writable,
		     struct rdt_shm_file **);
void rdt_shm_file_put(struct rdt_ep *, struct rdt_shm_file *);

/* shm_cma.c: ordinary memory of peers */
/* The level of Yama; -1 when this kernel has no Yama. */
int rdt_shm_ptrace_scope(void);
/* Why process_vm_writev is out of the question in this process, or NULL. */
const char *rdt_shm_cma_refused(void);
/* Lets peers write into this process's ordinary memory. */
void rdt_shm_cma_permit(void);
/* Asks the kernel whether this peer's memory may be touched, by reading one byte of it. */
int rdt_shm_cma_probe(struct rdt_ep *, uint64_t address);
/* No peer writes here once it has returned; waits for those that do, for a second at most. */
void rdt_shm_cma_end(struct rdt_shm *);
int rdt_shm_cma_write(struct rdt_ep *, uint64_t address, const void *from, uint64_t length);
int rdt_shm_cma_read(struct rdt_ep *, uint64_t address, void *to, uint64_t length);

/* shm_put.c */
int rdt_shm_put(struct rdt_ep *, const struct rdt_put *);
void rdt_shm_nudge(struct rdt_ep *);
int rdt_shm_get(struct rdt_ep *, struct rdt_remote *, uint64_t offset, void *dst,
		const struct rdt_region *, uint64_t length);

/* shm_onesided.c */
extern const struct rdt_onesided_ops rdt_shm_onesided;

/* shm_wait.c */
int rdt_shm_progress(struct rdt_transport *);
int rdt_shm_fds(struct rdt_transport *, struct pollfd *, int max);
int rdt_shm_arm(struct rdt_transport *);
int rdt_shm_woken(struct rdt_transport *, const struct pollfd *, int n);
bool rdt_shm_failure(struct rdt_transport *, struct rdt_transport_failure *);
/* Is the process behind this endpoint still the one that was connected to? One system call. */
bool rdt_shm_alive(const struct rdt_ep *);
/* Notes the peer's end, as a failure unless it had left; and the sentence for a call that needed
 * it, which is returned as RDT_ERR_PEER_LOST. */
void rdt_shm_lost(struct rdt_ep *);
int rdt_shm_lost_err(const struct rdt_ep *);

#endif
