/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verbs transport's own structures, shared by the verbs_*.c files and their tests and by nobody
 * else.
 *
 *	verbs_device.c    which device, which addresses, and why not
 *	verbs_open.c      protection domain, queues, receives; open to close
 *	verbs_address.c   the address blob, the handshake, the order of candidates
 *	verbs_connect.c   connections, through librdmacm; the side that asks
 *	verbs_accept.c    the side that is asked
 *	verbs_endpoint.c  the life of an endpoint
 *	verbs_put.c       writes, and the bounce ring for memory that is not registered
 *	verbs_onesided.c  writes without a notification, atomics
 *	verbs_progress.c  completions, sleeping, failures, leaving
 *	verbs_mem.c       regions and remote memory
 *	verbs_error.c     what a bad completion or a refused connection means
 *	verbs_rails.c     several devices as one transport
 *	verbs_info.c      what `rdtrain info` says
 */
#ifndef RDT_VERBS_H
#define RDT_VERBS_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "transport.h"

#define RDT_VERBS_ADDRESSES 8	  /* offered by one rank, of one device */
#define RDT_VERBS_RAILS 4	  /* devices */
#define RDT_VERBS_TRIES 16	  /* pairs of addresses tried for one peer */
#define RDT_VERBS_SQ_DEPTH 256	  /* work requests of one queue pair; a power of two */
#define RDT_VERBS_SRQ_DEPTH 32768 /* receives of one transport, where the device has so many */
#define RDT_VERBS_CQ_START 8192	  /* completions at first; grown on demand */
#define RDT_VERBS_BATCH 32	  /* completions polled, and receives posted, in one call */
/* Receives beyond what was reserved: those of a batch that are consumed but not posted again yet */
#define RDT_VERBS_SLACK (2 * RDT_VERBS_BATCH)
#define RDT_VERBS_BOUNCE (RDT_PUT_BOUNCE_MAX + (1u << 20))
#define RDT_VERBS_PENDING_PER_PEER 4
/* The kernel's own default waits 17 s for a dead link. 2^15 * 4.096 us = 134 ms, 1 + 6 times: about
 * a second. Not 7 retries, which soft-RoCE takes as "for ever". */
#define RDT_VERBS_TIMEOUT 15
#define RDT_VERBS_RETRY 6
#define RDT_VERBS_RNR_RETRY 6 /* 7 would be for ever */
/* An immediate that is no notification (bit 31): the sender leaves in good order. */
#define RDT_VERBS_GOODBYE 0x80000000u

struct rdt_verbs_addr {
	uint8_t family; /* 4 or 6 */
	uint16_t port;	/* of the listener, host byte order */
	uint8_t ip[16]; /* the first 4, or all */
};

/* An address of this host that belongs to the chosen device. */
struct rdt_verbs_local {
	struct rdt_verbs_addr addr;
	int prefix; /* bits of the netmask */
	int port;   /* of the device */
	char ifname[IF_NAMESIZE];
	struct rdma_cm_id *id; /* bound to the address; the listener */
};

struct rdt_verbs_choice {
	struct ibv_context *ctx; /* librdmacm's own; it stays open as long as the ids live */
	char device[64];
	int port; /* the fastest */
	struct ibv_port_attr port_attr;
	int n;
	struct rdt_verbs_local local[RDT_VERBS_ADDRESSES];
};

/* What the address blob says. */
struct rdt_verbs_peer {
	uint32_t generation, rank;
	uint8_t link_layer; /* IBV_LINK_LAYER_... */
	uint64_t nonce_hash;
	char device[32];
	int n;
	struct rdt_verbs_addr addr[RDT_VERBS_ADDRESSES];
};

/* What both sides of a connection say when they make it: connection data of librdmacm. */
#define RDT_VERBS_HELLO_BYTES 32
struct rdt_verbs_hello {
	uint32_t generation, from, to;
	unsigned char nonce[RDT_NONCE_BYTES];
};

/* Why a connection request was turned down; travels in the rejection. */
enum rdt_verbs_refusal {
	RDT_REFUSED_UNKNOWN,
	RDT_REFUSED_STRANGER, /* no hello, or another nonce */
	RDT_REFUSED_GENERATION,
	RDT_REFUSED_RANK,   /* not for this rank, or from a rank that should not ask */
	RDT_REFUSED_TWICE,  /* connected already */
	RDT_REFUSED_BUSY,   /* too many requests at once */
	RDT_REFUSED_CLOSED, /* shut down */
};

enum rdt_verbs_link_state {
	RDT_LINK_IDLE,
	RDT_LINK_ADDR,	/* the peer's address is being resolved */
	RDT_LINK_ROUTE, /* the route is being resolved */
	RDT_LINK_ASKED, /* asked, or accepted, and waiting for the other side */
	RDT_LINK_UP,
	RDT_LINK_FAILED,
};

/* One attempt at a connection; the one that comes up is the endpoint's. */
struct rdt_verbs_link {
	struct rdt_verbs_ep *ep;
	struct rdma_cm_id *id; /* its qp is the link's queue pair */
	enum rdt_verbs_link_state state;
	int src, dst; /* which of our addresses, which of the peer's */
	int again;    /* tries that were refused as stale */
	int64_t since;
	char why[144];
};

/* What of an event outlives its acknowledgement, which must come before its id is destroyed. */
struct rdt_verbs_cm_event {
	enum rdma_cm_event_type type;
	int status;
	struct rdma_cm_id *id;
	size_t length;
	unsigned char data[64];
};

/* A request that came before our own connect(). */
struct rdt_verbs_pending {
	struct rdma_cm_id *id;
	int rank;
};

/* What is to be done when a work request is over. */
struct rdt_verbs_sent {
	uint64_t puts;	 /* the endpoint's put count that is then complete */
	uint32_t bounce; /* bounce segment + 1; 0: none */
};

enum rdt_verbs_ep_state {
	RDT_EP_CONNECTING,
	RDT_EP_UP,
	RDT_EP_LEFT, /* the peer, or we, left in good order */
	RDT_EP_FAILED,
};

struct rdt_verbs_ep {
	struct rdt_ep_head head;
	struct rdt_verbs *t;
	uint32_t index; /* in t->eps */
	enum rdt_verbs_ep_state state;
	bool active;	   /* we ask; the lower rank does */
	bool said_goodbye; /* the peer has; its end is no loss */
	bool goodbye_sent;
	/* A completion that may mean that the peer is dying: see verbs_progress.c, settle() */
	bool suspect;
	struct ibv_wc suspect_wc;
	int status; /* once failed */
	char why[512];

	struct ibv_qp *qp; /* the link's that is up (or accepted) */
	uint32_t peer_qp_num;
	uint32_t max_inline;
	enum ibv_mtu mtu;
	uint32_t *counters;
	bool counters_lent; /* they are somebody else's */

	/* The send queue. Numbers count work requests from the beginning. */
	struct rdt_verbs_sent *sent; /* [t->sq_depth], by number modulo depth */
	uint64_t wr_posted, wr_done;
	uint64_t wr_signalled; /* the number after the last signalled one */

	struct rdt_verbs_peer peer;
	struct rdt_verbs_link links[RDT_VERBS_TRIES];
	int nlinks, next_link;
	struct rdt_verbs_link *up;
};

struct rdt_verbs_segment {
	uint64_t end;
	bool done;
};

/* A ring of bytes, taken in order, given back in any order. */
#define RDT_VERBS_SEGMENTS 1024
struct rdt_verbs_bounce {
	char *base;
	size_t size;
	struct ibv_mr *mr;
	uint64_t head, tail; /* byte positions, counted from the beginning */
	uint32_t seg_head, seg_tail;
	struct rdt_verbs_segment seg[RDT_VERBS_SEGMENTS];
};

struct rdt_verbs_region {
	struct rdt_verbs *t;
	struct rdt_verbs_region *next, **link;
	char *base;
	size_t length;
	/* By what peers may do; [0]: nothing. Registered when it is first exported so. */
	struct ibv_mr *mr[RDT_ACCESS_ALL + 1];
	const struct ibv_mr *local; /* the one for our own work requests; NULL: lost in a failure */
};

/* NULL also where its registration was lost: then it is as memory that never was registered. */
static inline const struct rdt_verbs_region *rdt_verbs_local(const struct rdt_region *region)
{
	const struct rdt_verbs_region *r = (const struct rdt_verbs_region *)region;

	return r && r->local ? r : NULL;
}

struct rdt_verbs_remote {
	struct rdt_verbs_ep *ep;
	struct rdt_verbs_remote *next, **link;
	uint64_t addr, length;
	uint32_t rkey;
};

struct rdt_verbs_slot {
	uint32_t qp_num;
	struct rdt_verbs_ep *ep; /* NULL: empty */
};

#define RDT_VERBS_FAILURES 8
struct rdt_verbs {
	const struct rdt_transport_ops *ops;
	struct rdt_transport_config config;
	int ib_timeout, ib_retry;
	bool left, shut;
	bool warned_option;

	struct rdma_event_channel *events;
	struct rdt_verbs_choice choice;
	struct ibv_device_attr device_attr;
	uint64_t max_msg;
	struct ibv_pd *pd;
	struct ibv_comp_channel *comp;
	struct ibv_cq *cq;
	struct ibv_srq *srq;
	uint32_t sq_depth, max_inline;

	/* receives: reserved by the caller, posted now, as many as the queue holds */
	long reserved, posted, srq_depth;
	struct ibv_recv_wr recv_chain[RDT_VERBS_BATCH];

	bool armed;
	unsigned unacked; /* events of the completion channel */
	int connecting;	  /* endpoints that are */
	int suspects;	  /* endpoints that are */

	struct rdt_verbs_ep **eps;
	uint32_t neps, eps_room;
	struct rdt_verbs_ep **by_rank; /* [config.size] */
	struct rdt_verbs_ep *twin;     /* the other end of the endpoint to this rank itself */
	struct rdt_verbs_slot *by_qp;  /* open addressing; a power of two, at most half full */
	uint32_t by_qp_size;
	struct rdt_verbs_pending *pending;
	int npending, pending_room;
	uint64_t strangers; /* requests that were turned down unheard */

	struct rdt_verbs_bounce bounce;
	struct rdt_verbs_region *regions;
	struct rdt_verbs_remote *remotes;

	struct rdt_transport_failure failures[RDT_VERBS_FAILURES];
	unsigned failure_head, failure_tail;
};

static inline struct rdt_verbs *rdt_verbs(struct rdt_transport *transport)
{
	return (struct rdt_verbs *)transport;
}

static inline struct rdt_verbs_ep *rdt_verbs_ep(struct rdt_ep *ep)
{
	return (struct rdt_verbs_ep *)ep;
}

/* ---- verbs_device.c -------------------------------------------------------------------------- */

/* Do the filters let a name through? Their language is in transport.h; NULL lets all through. */
bool rdt_verbs_ifname_allowed(const char *filter, const char *ifname);
bool rdt_verbs_hca_allowed(const char *filter, const char *device, int port);
/* What the machine lacks before a verbs device can be opened at all: false and the reason with its
 * remedy. `sys` and `dev` are "/sys" and "/dev". */
bool rdt_verbs_present(const char *sys, const char *dev, char *why, size_t size);
/* Picks the device and binds ids to its addresses. `note` (may be NULL) hears of every address. */
int rdt_verbs_choose(const struct rdt_transport_config *config, struct rdma_event_channel *events,
		     rdt_info_fn note, void *arg, struct rdt_verbs_choice *choice);
void rdt_verbs_unchoose(struct rdt_verbs_choice *choice);
/* The devices that are as good as the one that would be chosen, and that one first: "name:port" of
 * each. How many, at most `max`; 0 where none is chosen. */
int rdt_verbs_rails(const struct rdt_transport_config *config, char names[][72], int max);
/* Gbit/s of an active port. */
double rdt_verbs_rate(const struct ibv_port_attr *port);

/* ---- verbs_open.c ---------------------------------------------------------------------------- */

int rdt_verbs_open(const struct rdt_transport_config *config, rdt_info_fn note, void *arg,
		   struct rdt_verbs **out);
void rdt_verbs_close(struct rdt_verbs *t);
/* Room for what `eps` endpoints and `reserved` notifications can complete at a time. */
int rdt_verbs_make_room(struct rdt_verbs *t, uint32_t eps, long reserved);
/* Posts the receives that are missing: whole batches, or all. */
int rdt_verbs_replenish(struct rdt_verbs *t, bool all);

/* ---- verbs_address.c ------------------------------------------------------------------------- */

uint64_t rdt_verbs_hash(const void *bytes, size_t length);
size_t rdt_verbs_address_pack(const struct rdt_verbs_peer *peer, void *blob);
bool rdt_verbs_address_unpack(const void *blob, size_t length, struct rdt_verbs_peer *peer);
void rdt_verbs_hello_pack(const struct rdt_verbs_hello *hello,
			  unsigned char bytes[RDT_VERBS_HELLO_BYTES]);
bool rdt_verbs_hello_unpack(const void *bytes, size_t length, struct rdt_verbs_hello *hello);
/* Which of our addresses with which of theirs, likeliest first; returns how many. */
int rdt_verbs_pairs(const struct rdt_verbs_local *local, int nlocal,
		    const struct rdt_verbs_addr *peer, int npeer, int (*pairs)[2], int max);
socklen_t rdt_verbs_sockaddr(const struct rdt_verbs_addr *addr, bool with_port,
			     struct sockaddr_storage *out);
bool rdt_verbs_from_sockaddr(const struct sockaddr *sa, struct rdt_verbs_addr *addr);
#define RDT_VERBS_ADDR_TEXT (INET6_ADDRSTRLEN + 8)
const char *rdt_verbs_addr_text(const struct rdt_verbs_addr *addr, char *text);
int rdt_verbs_address(struct rdt_transport *transport, void *blob, size_t *length);
bool rdt_verbs_reachable(struct rdt_transport *transport, const void *blob, size_t length,
			 char *why, size_t why_size);

/* ---- verbs_connect.c ------------------------------------------------------------------------- */

/* Takes all events of the connection manager; starts what is due. Returns how many. */
int rdt_verbs_drive(struct rdt_verbs *t);
/* Starts the attempts of an endpoint that are due. */
void rdt_verbs_ep_drive(struct rdt_verbs_ep *ep, int64_t now);
void rdt_verbs_link_close(struct rdt_verbs_link *link);
void rdt_verbs_link_fail(struct rdt_verbs_link *link, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The link's queue pair; false: the link has failed. */
bool rdt_verbs_link_qp(struct rdt_verbs_link *link);
/* Before the route is resolved, or the request accepted. */
void rdt_verbs_set_options(struct rdt_verbs *t, struct rdma_cm_id *id);
void rdt_verbs_own_hello(const struct rdt_verbs_ep *ep, unsigned char bytes[RDT_VERBS_HELLO_BYTES]);
struct rdma_conn_param rdt_verbs_conn_param(const struct rdt_verbs *t, const unsigned char *hello);
bool rdt_verbs_same_nonce(const unsigned char *a, const unsigned char *b);

/* ---- verbs_accept.c -------------------------------------------------------------------------- */

void rdt_verbs_on_request(struct rdt_verbs *t, const struct rdt_verbs_cm_event *event);
/* Accepts a request that waits for this endpoint, if there is one. */
void rdt_verbs_take_pending(struct rdt_verbs_ep *ep);
/* Turns down what waits, of one rank or (-1) of all. */
void rdt_verbs_drop_pending(struct rdt_verbs *t, int rank, enum rdt_verbs_refusal refusal);

/* ---- verbs_endpoint.c ------------------------------------------------------------------------ */

int rdt_verbs_connect(struct rdt_transport *transport, int peer, const void *blob, size_t length,
		      struct rdt_ep **ep);
int rdt_verbs_connected(struct rdt_ep *ep);
void rdt_verbs_describe(struct rdt_ep *ep, char *text, size_t size);
/* Ends every attempt and every request that waits. */
void rdt_verbs_stop_connecting(struct rdt_verbs *t);
void rdt_verbs_ep_free(struct rdt_verbs_ep *ep);

/* ---- verbs_put.c ----------------------------------------------------------------------------- */

int rdt_verbs_put(struct rdt_ep *ep, const struct rdt_put *put);
/* The error for a call on an endpoint that is not up. */
int rdt_verbs_not_up(const struct rdt_verbs_ep *ep);
/* Is there no room for so many work requests? One place is kept for the good-bye. */
static inline bool rdt_verbs_full(const struct rdt_verbs_ep *ep, uint64_t more)
{
	return ep->wr_posted - ep->wr_done + more > ep->t->sq_depth - 1;
}
/* Posts one work request, for whose place in the queue the caller has seen to. */
int rdt_verbs_post(struct rdt_verbs_ep *ep, struct ibv_send_wr *wr,
		   const struct rdt_verbs_sent *sent);
int rdt_verbs_get(struct rdt_ep *, struct rdt_remote *, uint64_t offset, void *dst,
		  const struct rdt_region *, uint64_t length);
/* Has everything that was put complete, so that head.completed comes to head.posted, though nothing
 * was marked RDT_PUT_LAST; false: the queue is full, try again. */
bool rdt_verbs_flush(struct rdt_verbs_ep *ep);
/* Sends the good-bye; false when it cannot. */
bool rdt_verbs_say_goodbye(struct rdt_verbs_ep *ep);
int rdt_verbs_bounce_open(struct rdt_verbs *t);
void rdt_verbs_bounce_close(struct rdt_verbs *t);
/* The ring alone: a place for `length` bytes and its segment, or NULL when it is full. */
char *rdt_verbs_bounce_take(struct rdt_verbs_bounce *b, uint32_t length, uint32_t *segment);
void rdt_verbs_bounce_give(struct rdt_verbs_bounce *b, uint32_t segment);

/* ---- verbs_onesided.c ------------------------------------------------------------------------ */

extern const struct rdt_onesided_ops rdt_verbs_onesided;

/* ---- verbs_progress.c ------------------------------------------------------------------------ */

/* Takes completions; returns how many. Failures go to the queue. */
int rdt_verbs_poll(struct rdt_verbs *t);
/* Ends an endpoint, once, and queues the failure (unless this rank has left or shut down). */
void rdt_verbs_ep_fail(struct rdt_verbs_ep *ep, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* A failure that is no single peer's. */
void rdt_verbs_fail(struct rdt_verbs *t, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Rebuilds the map from queue pair numbers to endpoints. */
void rdt_verbs_map_qps(struct rdt_verbs *t);
int rdt_verbs_progress(struct rdt_transport *transport);
int rdt_verbs_fds(struct rdt_transport *transport, struct pollfd *fds, int max);
int rdt_verbs_arm(struct rdt_transport *transport);
int rdt_verbs_woken(struct rdt_transport *transport, const struct pollfd *fds, int n);
bool rdt_verbs_failure(struct rdt_transport *transport, struct rdt_transport_failure *failure);
void rdt_verbs_leave(struct rdt_transport *transport);
void rdt_verbs_shutdown(struct rdt_transport *transport);

#define RDT_VERBS_EXPORT_MAGIC 0x52445245u /* "RDRE", and its version */

/* What peers get to see of a region; little-endian. */
struct rdt_verbs_exported {
	uint32_t magic, rkey;
	uint64_t addr, length;
};

/* ---- verbs_mem.c ----------------------------------------------------------------------------- */

/* ibv_reg_mr with the limit checked first; `what` names the memory in the error. */
int rdt_verbs_reg_mr(struct rdt_verbs *t, void *ptr, size_t length, int access, const char *what,
		     struct ibv_mr **mr);
int rdt_verbs_mem_register(struct rdt_transport *transport, void *ptr, size_t length, int memfd,
			   uint64_t memfd_offset, struct rdt_region **region);
void rdt_verbs_mem_deregister(struct rdt_region *region);
bool rdt_verbs_mem_exportable(const struct rdt_region *region);
int rdt_verbs_mem_export(struct rdt_region *region, const void *ptr, size_t length, unsigned access,
			 void *blob, size_t *blob_length);
int rdt_verbs_mem_import(struct rdt_ep *ep, const void *blob, size_t blob_length,
			 struct rdt_remote **remote);
void rdt_verbs_mem_release(struct rdt_remote *remote);

/* ---- verbs_error.c --------------------------------------------------------------------------- */

/* "IBV_WC_RETRY_EXC_ERR", "IBV_WC_?" */
const char *rdt_verbs_wc_name(enum ibv_wc_status status);
/* What it usually means and what to do. */
const char *rdt_verbs_wc_meaning(enum ibv_wc_status status);
/* The enum rdt_status that it is for the caller. */
int rdt_verbs_wc_class(enum ibv_wc_status status);
/* Could the peer's death look like this, until the connection manager tells of it? */
bool rdt_verbs_wc_suspect(enum ibv_wc_status status);
/* Ends the endpoint with the decoded completion. Reads only what is valid on error. */
void rdt_verbs_wc_fail(struct rdt_verbs_ep *ep, const struct ibv_wc *wc);
/* Why the connection manager says no, in words. */
void rdt_verbs_cm_reason(enum rdma_cm_event_type event, int status, const void *data, size_t length,
			 char *text, size_t size);
void rdt_verbs_refusal_pack(enum rdt_verbs_refusal refusal, unsigned char bytes[8]);
/* RDT_ERR_NOMEM or RDT_ERR_SYSTEM for a resource that the device did not give (errno). */
int rdt_verbs_resource_err(struct rdt_verbs *t, const char *what);

#endif
