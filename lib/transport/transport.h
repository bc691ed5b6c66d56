/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The seam between librdtrain and the machine: "put and notify". A transport moves bytes from local
 * memory into a peer's memory and raises a counter there. It knows nothing of collectives or of
 * communicators. Two implementations: verbs (verbs_*.c) and shm (shm_*.c).
 *
 * One instance serves one communicator and is used by one thread at a time. Functions return 0 or a
 * negative enum rdt_status with the sentence set (lib/base/error.h), unless they say otherwise.
 * Nothing but open, connect, reserve, and the mem_ functions allocates memory.
 *
 * Life of a pair: address() on both sides, blobs exchanged by the caller; reachable(); connect() on
 * both sides; progress() until connected() says 1 on both; mem_export() on the target, the blob
 * carried over by the caller, mem_import() on the source; put(). The caller promises that a target
 * is reserve()d for as many notifications as its peers can have outstanding at it.
 */
#ifndef RDT_TRANSPORT_H
#define RDT_TRANSPORT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rdtrain/rdtrain.h>

#include "notify.h"

#define RDT_ADDRESS_MAX 1024	      /* bytes of an address blob */
#define RDT_EXPORT_MAX 32	      /* bytes of an exported region */
#define RDT_PUT_BOUNCE_MAX (4u << 20) /* longest put from memory that is not registered */
#define RDT_NONCE_BYTES 16

struct rdt_transport; /* an open transport; each implementation has its own, beginning with `ops` */
struct rdt_ep; /* one peer; each implementation has its own, beginning with struct rdt_ep_head */
struct rdt_region; /* registered local memory */
struct rdt_remote; /* a peer's exported memory */

/* Settings, filled in by the communicator from options and the environment. Strings live as long as
 * the transport. */
struct rdt_transport_config {
	int rank, size;
	unsigned char nonce[RDT_NONCE_BYTES]; /* the same on all ranks of this job and generation */
	uint32_t generation;
	const char *host_id; /* ranks with equal ids are on one host */
	const char *ifname;  /* RDTRAIN_SOCKET_IFNAME: comma-separated prefixes, "=name" exact, "^"
				not; or NULL */
	const char *ib_hca; /* RDTRAIN_IB_HCA: comma-separated "device" or "device:port", exact; "^"
			       not; or NULL */
	int ib_timeout; /* RDTRAIN_IB_TIMEOUT: local ACK timeout, 4.096 us * 2^t; -1: the default */
	int ib_retry_cnt; /* RDTRAIN_IB_RETRY_CNT, 0..7; -1: the default */
	int ib_tc, ib_sl; /* RDTRAIN_IB_TC, RDTRAIN_IB_SL; -1: the default */
	int ib_rails;	  /* RDTRAIN_IB_RAILS: devices used at most; 0: the default */
	bool cma;	  /* RDTRAIN_SHM_CMA: process_vm_writev may be used */
};

/* A failure that a transport found by itself (a completion, a pidfd). */
struct rdt_transport_failure {
	int status; /* enum rdt_status */
	int peer;   /* communicator rank, or -1 */
	char text[512];
};

/* The part of an endpoint that the engine reads without a call. */
struct rdt_ep_head {
	struct rdt_transport *transport;
	int peer;
	/* RDT_CHANNELS counters of notifications from this peer; read them with acquire order. NULL
	 * until connected() has said 1. */
	const uint32_t *counters;
	/* Puts posted and puts whose source may be written again; gets whose data is here. Only
	 * this thread touches them. Equal: quiet. */
	uint64_t posted, completed;
};

enum {
	RDT_PUT_LAST = 1u, /* the caller will wait for posted == completed after this one: make sure
			      it comes */
	RDT_PUT_SILENT = 2u, /* without a notification: that of the next put on this channel says
				that this one has arrived, too; length > 0 */
};

struct rdt_put {
	const void *src;
	const struct rdt_region
		*region;	   /* that holds src; NULL: src is not registered, copy it first */
	struct rdt_remote *remote; /* may be NULL when length is 0 */
	uint64_t offset;	   /* in remote */
	uint64_t length;	   /* 0: notification only */
	uint32_t channel;
	uint32_t flags;
};

/*
 * What peers may do with memory that is exported to them. Nothing that is not asked for: the device
 * (verbs), or the mapping (shm), refuses the rest.
 */
enum {
	RDT_ACCESS_PUT = 1u,
	RDT_ACCESS_GET = 2u,
	RDT_ACCESS_ATOMIC = 4u,
	RDT_ACCESS_ALL = 7u,
};

/* What to do with a 64-bit word: add `operand`, or, where it equals `operand`, store `desired`. */
struct rdt_atomic {
	bool swap;
	uint64_t operand, desired;
};

/* The same by the processor. What it was before. */
static inline uint64_t rdt_atomic_here(void *at, const struct rdt_atomic *atomic)
{
	uint64_t *word = at, old = atomic->operand;

	if (!atomic->swap)
		return __atomic_fetch_add(word, atomic->operand, __ATOMIC_SEQ_CST);
	__atomic_compare_exchange_n(word, &old, atomic->desired, false, __ATOMIC_SEQ_CST,
				    __ATOMIC_SEQ_CST);
	return old;
}

/*
 * Access of which the peer hears nothing, to memory that was exported for it; with get(), and in
 * one order with puts. Writes and atomics count as puts in posted and completed. 0, RDT_AGAIN or
 * negative, like put.
 */
struct rdt_onesided_ops {
	size_t size; /* sizeof(struct rdt_onesided_ops) */
	/* A rank reaches its own memory through an endpoint to itself, which connect() makes;
	 * false: by the processor. */
	bool own_endpoint;
	/* RDT_ACCESS_...: with what memory can be exported for it. */
	unsigned (*access)(struct rdt_transport *transport);
	/* region NULL: src is not registered, copy it first. At most RDT_PUT_BOUNCE_MAX bytes. */
	int (*write)(struct rdt_ep *ep, struct rdt_remote *remote, uint64_t offset, const void *src,
		     const struct rdt_region *region, uint64_t length);
	/* *old, which lies in `region`, is the word before when it is completed. */
	int (*atomic)(struct rdt_ep *ep, struct rdt_remote *remote, uint64_t offset,
		      const struct rdt_atomic *atomic, uint64_t *old,
		      const struct rdt_region *region);
	/* Sees to it that completed comes to posted. */
	int (*complete)(struct rdt_ep *ep);
};

struct rdt_transport_ops {
	size_t size; /* sizeof(struct rdt_transport_ops) */
	const char *name;

	/* RDT_ERR_NO_DEVICE with a sentence when the transport cannot work on this machine. */
	int (*open)(const struct rdt_transport_config *config, struct rdt_transport **transport);
	/* Stops everything and frees all endpoints and what is left of regions and remotes. */
	void (*close)(struct rdt_transport *transport);

	/* This side's address: at most RDT_ADDRESS_MAX bytes into blob, the length into *length. */
	int (*address)(struct rdt_transport *transport, void *blob, size_t *length);
	/* Can the owner of this address be reached? Symmetric: both sides must come to the same
	 * answer from the two addresses. Writes a short reason, yes or no, for the log: "same
	 * host", "different pid namespace". */
	bool (*reachable)(struct rdt_transport *transport, const void *blob, size_t length,
			  char *why, size_t why_size);

	/* Begins to connect; finished by progress(). Both sides call it, in any order. */
	int (*connect)(struct rdt_transport *transport, int peer, const void *blob, size_t length,
		       struct rdt_ep **ep);
	/* 1: up; 0: not yet; negative: failed. */
	int (*connected)(struct rdt_ep *ep);
	/* One line for the log: "verbs rxe0 port 1 10.0.0.1 -> 10.0.0.2, mtu 4096, inline 64". */
	void (*describe)(struct rdt_ep *ep, char *text, size_t size);

	/* Be ready for `more` further notifications outstanding at this rank, from all peers
	 * together (negative: fewer). RDT_ERR_NOMEM when the device cannot. */
	int (*reserve)(struct rdt_transport *transport, long more);

	/*
	 * Registers local memory, for this rank alone: no peer can reach it before mem_export().
	 * memfd >= 0: the memory is mapped from that file at file offset memfd_offset (rdt_alloc
	 * does it so); -1: ordinary memory. RDT_ERR_MEMLOCK with limit, need and remedy when
	 * locking fails for that.
	 */
	int (*mem_register)(struct rdt_transport *transport, void *ptr, size_t length, int memfd,
			    uint64_t memfd_offset, struct rdt_region **region);
	void (*mem_deregister)(struct rdt_region *region);
	/* May peers put into this region? (false: shm, ordinary memory, process_vm_writev not
	 * permitted) */
	bool (*mem_exportable)(const struct rdt_region *region);
	/*
	 * Describes [ptr, ptr + length) of the region for peers, who then have `access`
	 * (RDT_ACCESS_...) to the region: at most RDT_EXPORT_MAX bytes, which differ from those of
	 * any region that was registered before, and are the same each time for the same range and
	 * access. The first export with an access may register the region once more.
	 */
	int (*mem_export)(struct rdt_region *region, const void *ptr, size_t length,
			  unsigned access, void *blob, size_t *blob_length);
	int (*mem_import)(struct rdt_ep *ep, const void *blob, size_t blob_length,
			  struct rdt_remote **remote);
	void (*mem_release)(struct rdt_remote *remote);
	/* Where the peer's memory is mapped here, for load and store; NULL when it is not. The
	 * function may be NULL. */
	void *(*mem_map)(struct rdt_remote *remote);

	/*
	 * Writes and notifies; in order with other puts to this peer. 0; RDT_AGAIN when a queue is
	 * full (nothing was done: progress and try again); negative on failure. Chooses inline,
	 * copy or zero-copy by itself, splits what is larger than the device's message.
	 */
	int (*put)(struct rdt_ep *ep, const struct rdt_put *put);

	/*
	 * Wakes the peer if it sleeps, for a caller that has stored to mapped memory what that
	 * peer looks for, and then passed a full fence. NULL where nothing is mapped.
	 */
	void (*nudge)(struct rdt_ep *ep);

	/*
	 * Reads [offset, offset + length) of memory that allows it into dst, which lies in
	 * `region`. Counts as a put in posted and completed, and dst holds the bytes when it is
	 * completed. 0, RDT_AGAIN or negative, like put.
	 */
	int (*get)(struct rdt_ep *ep, struct rdt_remote *remote, uint64_t offset, void *dst,
		   const struct rdt_region *region, uint64_t length);

	/* Moves things on: connections, completions, counters, receives. Returns how many things
	 * happened (0: nothing), or negative: a failure, to be fetched with failure(). Makes no
	 * system call when there is nothing to do, except while connections are being made. */
	int (*progress)(struct rdt_transport *transport);

	/*
	 * For sleeping: writes the descriptors to poll into fds (events filled in) and returns how
	 * many, at most max. The set changes only by connect(). arm() asks for a wake-up on the
	 * next event and returns 0, or 1 when something is there already and the caller must
	 * progress() instead of sleeping. After poll(2), also one that was made without arm(),
	 * woken() takes the revents of the same array; negative: a failure, to be fetched with
	 * failure().
	 */
	int (*fds)(struct rdt_transport *transport, struct pollfd *fds, int max);
	int (*arm)(struct rdt_transport *transport);
	int (*woken)(struct rdt_transport *transport, const struct pollfd *fds, int n);

	/* The first failure this transport found and has not handed out yet; false: none. */
	bool (*failure)(struct rdt_transport *transport, struct rdt_transport_failure *failure);

	/* This rank leaves in good order: peers that see its process end afterwards do not call it
	 * lost. */
	void (*leave)(struct rdt_transport *transport);
	/* After an error: no remote write lands here, and none leaves, once it has returned (as far
	 * as the transport can bring that about: DESIGN "failure model"). */
	void (*shutdown)(struct rdt_transport *transport);

	const struct rdt_onesided_ops *onesided; /* NULL: there is no such access */
};

extern const struct rdt_transport_ops rdt_shm_ops;
extern const struct rdt_transport_ops rdt_verbs_ops; /* one device */
extern const struct rdt_transport_ops rdt_rails_ops; /* as many as there are */

static inline struct rdt_ep_head *rdt_ep_head(struct rdt_ep *ep)
{
	return (struct rdt_ep_head *)ep;
}

/* ---- what `rdtrain info` prints, without opening a communicator ------------------------------ */

/* One line per fact ("device rxe0 port 1: active, RoCE v2, ..."), through `line`. Returns whether
 * the transport would work here. */
typedef void (*rdt_info_fn)(void *arg, const char *line);
bool rdt_shm_info(rdt_info_fn line, void *arg);
bool rdt_verbs_info(const struct rdt_transport_config *config, rdt_info_fn line, void *arg);

#endif
