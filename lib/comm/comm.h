/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The communicator's own structures, shared by the files of lib/comm and by nobody else. The only
 * layer that sees bootstrap, memory, transports and engine together.
 *
 *	create.c    meet the others, leave
 *	split.c     rdt_comm_split
 *	window*.c   rdt_window: one-sided access, by a communicator of its own; window_parts.h
 *	regroup.c   rdt_comm_shrink, rdt_comm_grow, newcomers
 *	config.c    RDTRAIN_*
 *	hosts.c     who is on which host
 *	peers.c     which transport for whom, connect
 *	memory.c    rdt_alloc, rdt_mem_register
 *	call.c      the public collectives, three forms each
 *	check.c     is a call right, and in words
 *	onecall.c   plans made for plain calls, kept for the next
 *	prologue.c  plain calls over buffers that peers can reach
 *	plan.c      agree on a plan, make it, run it
 *	choose.c    which algorithm
 *	shape.c     call -> the shapes of its windows
 *	bind.c      schedule -> program
 *	records.c   room for what RDTRAIN_CHECK=1 compares
 *	journal.c   do all ranks make the same calls?
 *	transfer.c  send and receive
 *	request.c   operations in flight
 *	progress.c  move everything on, wait
 *	thread.c    the same, by a thread
 *	fail.c      the one failure state
 *	trace.c     when each operation began and ended, for the eye
 */
#ifndef RDT_COMM_H
#define RDT_COMM_H

#include <poll.h>

#include "collectives/meaning.h"
#include "collectives/algorithms.h"
#include "collectives/model.h"
#include "lib/base/error.h"
#include "lib/base/log.h"
#include "lib/bootstrap/bootstrap.h"
#include "lib/engine/engine.h"
#include "lib/engine/wait.h"
#include "lib/memory/region.h"
#include "lib/transport/transport.h"

#include "config.h"

/* A call, as the user made it. */
struct rdt_call {
	enum rdt_collective collective;
	const void *in; /* broadcast: the same as out; barrier: NULL */
	void *out;
	size_t count; /* elements of the vector, or of each block */
	enum rdt_type type;
	enum rdt_op op; /* of those that reduce */
	int root;	/* broadcast, reduce, gather, scatter; send: the sender */
	int peer;	/* send: the receiver */
	/* [size] elements of each rank's block; NULL: `count` each. The caller's array: plans keep
	 * a copy. All-to-all: of the blocks sent, and of those received. */
	const size_t *counts, *out_counts;
	bool by_counts;	  /* a v function: counts must not be NULL */
	uint64_t longest; /* all-to-all with counts: bytes of the longest block of all ranks */
};

/* Only an all-to-all has another schedule when it is in place. */
static inline bool rdt_call_is_exchange_in_place(const struct rdt_call *call)
{
	return call->collective == RDT_COLL_ALLTOALL && call->in == call->out;
}

/* What all ranks have found about everybody's buffers when a plan was made. */
struct rdt_agreed {
	bool remote_output, mapped;
};

struct rdt_trace;
struct rdt_shaper;
struct rdt_prologue;

struct rdt_peer {
	int transport; /* index into comm->transports; -1: not chosen yet */
	struct rdt_ep *ep;
	bool up; /* connected */
	bool lost, left;
	uint32_t frees;		    /* of its memory, as last heard */
	struct rdt_import *imports; /* regions of its memory that plain calls met; prologue.c */
};

struct rdt_open_transport {
	const struct rdt_transport_ops *ops;
	struct rdt_transport *handle;
};

struct rdt_request {
	rdt_comm *comm;
	rdt_plan *plan; /* NULL: over already (a count of zero, a world of one that had nothing to
			   do) */
	struct rdt_call call;
	uint64_t sequence; /* of the operation, in the journal */
	int64_t from;	   /* when it began, with a timeline */
	bool over;
	int outcome;
	int64_t deadline, polled; /* for callers that poll */
	struct rdt_request *next; /* in the plan's queue, or in the list of free ones */
	/* A part of another request: nobody waits for it; `then` goes on with the whole. */
	struct rdt_request *whole;
	void (*then)(struct rdt_request *part);
	void *memory; /* freed with the request */
};

/* A deadline that a caller gives. */
#define RDT_SECONDS_RULE "the deadline must be more than 0 and at most 1e9 seconds"
static inline bool rdt_seconds_ok(double seconds)
{
	return seconds > 0 && seconds <= 1e9;
}

#define RDT_REQUESTS 256 /* operations in flight on one communicator; each may have a part */

struct rdt_plan {
	rdt_comm *comm;
	struct rdt_call call;
	bool bound; /* the user's: over its own buffers. Else: made for plain calls, any buffers */
	bool started; /* at least once */
	bool varying; /* its schedules are made anew for each operation: all-to-all with counts */
	bool kept;    /* not to be forgotten now */
	int awaited;  /* requests that will be queued when they know their lengths */
	int slot;
	uint64_t number;	      /* of the plan, in the order in which they were made */
	uint64_t sequence;	      /* of the operation that runs, in the journal */
	int64_t from;		      /* when it began, with a timeline */
	bool pending;		      /* started and not yet waited for */
	bool cut_off;		      /* by a failure, while it ran */
	int64_t polled;		      /* when the caller last asked */
	size_t *counts;		      /* the copy to which call.counts and call.out_counts point */
	struct rdt_wire *wire;	      /* one direction between two ranks; transfer.c */
	struct rdt_request *transfer; /* a plan of a send or receive: the one that runs */
	struct rdt_program program;
	struct rdt_mem *scratch;
	long reserved;			     /* notifications reserved with each transport */
	bool exchanged;			     /* the reservation is held */
	rdt_plan *next_active, *prev_active; /* while its program runs */
	rdt_plan *next;			     /* all plans of the communicator */
	/* plain calls only: the operations that wait for this plan, the first of them running */
	struct rdt_request *queue, **queue_tail;
	uint64_t last_use;
	int64_t deadline; /* of the operation that runs, for callers that poll */
	const struct rdt_algorithm *algorithm;
	/* plain calls over buffers that peers can reach; prologue.c */
	struct rdt_prologue *prologue;
	struct rdt_agreed agreed;
	rdt_plan *base; /* of which this is a part, freed with it; NULL: none */
};

struct rdt_comm {
	int rank, size;
	struct rdt_config config;
	struct rdt_bootstrap *boot; /* NULL in a world of one */
	const struct rdt_bootstrap_ops *boot_ops;
	unsigned char nonce[RDT_NONCE_BYTES];
	/* Number of each rank's host; NULL where no peer's memory can be mapped. */
	int *host;
	bool one_host;	/* all ranks are on this host */
	int processors; /* that the ranks of this host may use, together; 0: not known */
	struct rdt_wait_policy policy;

	struct rdt_open_transport transports[RDT_TRANSPORTS];
	int n_transports;
	struct rdt_peer *peers; /* by rank */
	int connecting;		/* endpoints begun and not up yet */
	bool someone_left;	/* and might be waited for */

	struct rdt_mem_table memory;
	uint32_t frees; /* of the user's memory, so far */

	rdt_plan *plans, *active;
	rdt_plan *shapes[128]; /* of plain calls, by a hash of the call; onecall.c */
	uint64_t plan_sequence;
	bool slot_used[RDT_SLOTS];
	uint64_t call_sequence;
	uint64_t splits; /* rdt_comm_split calls so far */
	struct rdt_journal *journal;
	struct rdt_chooser *chooser;  /* NULL in a world of one */
	struct rdt_pair **pairs;      /* by rank, for send and receive; NULL until the first */
	bool asking;		      /* in the middle of a call to the rendezvous */
	int opening;		      /* pairs begun and not up yet */
	int64_t opening_next;	      /* when to look again */
	int owner;		      /* the process that made it */
	uint32_t generation;	      /* unlike that of any other of this job's */
	struct rdt_bootstrap *alone;  /* of one that others have been in, and may join */
	struct rdt_bootstrap *before; /* while a next generation joins: of the one before */
	struct rdt_identity identity; /* for the communicators split from this one */
	int n_cached;

	struct rdt_request requests[2 * RDT_REQUESTS];
	struct rdt_request *free_requests;
	int in_flight; /* requests that are no parts of others */

	/* the failure state; fail.c is its only writer */
	int failed; /* enum rdt_status, 0 while healthy */
	char failure[1024];
	bool judged; /* the lost are known, and the same for all */

	/* waiting; progress.c */
	struct pollfd *fds; /* room for everything to sleep on */
	int fds_capacity;
	int fds_of[RDT_TRANSPORTS]; /* how many of them each transport asked for */
	bool (*wait_done)(rdt_comm *comm, void *what);
	uint64_t moves;	 /* steps that operations have gone on by */
	int64_t glanced; /* when the descriptors were last looked at */

	struct rdt_trace *trace; /* NULL: none; trace.c */
	int trace_number;	 /* of the communicators in it */

	/* thread.c */
	struct rdt_thread *thread; /* NULL: none */
	bool unwatched;		   /* something runs that the thread did not arm for */
};

/* create.c */
/* `before`, or NULL: the rendezvous of the generation before, which says when one of this one has
 * gone before it came. */
int rdt_comm_join(const struct rdt_identity *identity, const struct rdt_config *config,
		  struct rdt_bootstrap *before, rdt_comm **comm);
/* Frees it, and waits for nobody. The others see a lost rank unless `orderly`. */
void rdt_comm_release(rdt_comm *comm, bool orderly);

/* regroup.c */
/* A process that is to be admitted to a job that runs. */
int rdt_comm_newcomer(const struct rdt_identity *identity, const struct rdt_config *config,
		      rdt_comm **comm);

/* split.c */
/* Another communicator of all ranks, for one-sided access; `what` is the call that all make.
 * Collective. */
int rdt_split_whole(rdt_comm *comm, const char *what, rdt_comm **out);

/* peers.c */
/* Connects to `peers` (a set, by rank) where not connected yet, and waits until all are up. */
int rdt_peers_connect(rdt_comm *comm, const bool *peers, int64_t deadline);
/* Begins to connect to one peer; comm->peers[rank].up says when it is done. */
int rdt_peers_begin(rdt_comm *comm, int rank, int64_t deadline);
/* Opens the transports that the configuration asks for. */
int rdt_peers_open(rdt_comm *comm, int64_t deadline);
void rdt_peers_close(rdt_comm *comm);
/* Begun connections that have come up since the last call; how many, or negative. */
int rdt_peers_progress(rdt_comm *comm);

/*
 * The rendezvous' fence and get, for files of this layer: what it reports of lost and leaving ranks
 * becomes the communicator's failure.
 */
int rdt_peers_fence(rdt_comm *comm, const char *signature, uint64_t flags, struct rdt_fence *fence,
		    int64_t deadline);
int rdt_peers_put(rdt_comm *comm, const char *key, const void *value, size_t length);
/* Waits for the others to leave too; operations in flight go on meanwhile. */
void rdt_peers_leave(rdt_comm *comm, double seconds);
int rdt_peers_get(rdt_comm *comm, int rank, const char *key, void *value, size_t *length,
		  int64_t deadline);

/* memory.c */
/* Shareable memory, registered with all transports, not in the user's table. */
int rdt_memory_new(rdt_comm *comm, size_t bytes, struct rdt_mem **mem);
void rdt_memory_free(rdt_comm *comm, struct rdt_mem *mem);
/* Frees what the user left. */
void rdt_memory_close(rdt_comm *comm);

/* hosts.c */
/* Finds out who shares a host with whom: comm->one_host, and comm->host where it matters. */
int rdt_hosts_find(rdt_comm *comm, int64_t deadline);

/* check.c */
int rdt_call_check(rdt_comm *comm, const struct rdt_call *call);
/* Words for a call: "allreduce of 1000 float32, sum". */
void rdt_call_describe(const struct rdt_call *call, char *text, size_t size);
/* Does the call move nothing at all, on any rank? */
bool rdt_call_is_empty(const rdt_comm *comm, const struct rdt_call *call);
/* A number for the counts, the same on all ranks (0: none): in an all-to-all they may differ. */
uint32_t rdt_call_hash(const rdt_comm *comm, const struct rdt_call *call);

/* choose.c */
int rdt_chooser_open(rdt_comm *comm, const struct rdt_model *model);
void rdt_chooser_close(rdt_comm *comm);
/* The algorithm for a call; equal on all ranks. INVALID (on all of them) or NOMEM (here). */
int rdt_choose(rdt_comm *comm, const struct rdt_shaper *shaper, const struct rdt_algorithm **out);
/* From now on this one; "": the fastest again. As RDTRAIN_ALLREDUCE and the like say from the
 * start; all ranks do it alike. For `rdtrain perf --calibrate`. */
void rdt_choice_force(rdt_comm *comm, enum rdt_collective collective, const char *name);
/* The predicted time of the call, in picoseconds, by what rdt_choose would say; UINT64_MAX: it is
 * not known. Equal on all ranks. */
int rdt_predicted(rdt_comm *comm, const struct rdt_call *call, const struct rdt_agreed *agreed,
		  uint64_t *time_ps);
/* The predicted times of all that apply, for the log: "; predicted: ring 20.1 us, ...". */
void rdt_choice_explain(rdt_comm *comm, const struct rdt_shaper *shaper, char *text, size_t size);

/* bind.c */
/* Makes plan->program from the schedules of all windows. Fills everything but links' endpoints and
 * remotes, and bases. */
int rdt_bind(rdt_plan *plan, const struct rdt_algorithm *algorithm, struct rdt_shaper *shaper);
/* The same for another call of a varying plan: links and scratch stay. */
int rdt_bind_again(rdt_plan *plan, const struct rdt_algorithm *algorithm,
		   struct rdt_shaper *shaper);
/* What was told of a plan is no longer needed at the rendezvous. */
int rdt_bind_forget(rdt_comm *comm, uint64_t number);
/* Sets INPUT and OUTPUT. */
void rdt_bind_buffers(rdt_plan *plan, const struct rdt_call *call);
/* What the links of the program need of its peers, exchanged through the rendezvous. */
int rdt_bind_exchange(rdt_plan *plan, uint64_t sequence, const struct rdt_agreed *agreed,
		      int64_t deadline);
void rdt_bind_free(rdt_plan *plan);
/* The parts of the exchange. Receives and scratch; what this rank's buffers are to peers, at most
 * rdt_bind_blob() bytes; a link's endpoint; a peer's buffers. */
size_t rdt_bind_blob(const rdt_comm *comm);
int rdt_bind_reserve(rdt_plan *plan);
int rdt_bind_export(rdt_plan *plan, const struct rdt_agreed *agreed, unsigned char *blob,
		    size_t *length);
void rdt_bind_attach(rdt_plan *plan, int link);
int rdt_bind_import(rdt_plan *plan, int link, const unsigned char *blob, size_t length);

/* plan.c */
int rdt_plan_make(rdt_comm *comm, const struct rdt_call *call, bool bound, rdt_plan **plan);
/* A part of the plan `base`, which goes with it. algorithm NULL: the best. */
int rdt_plan_make_part(rdt_plan *base, const struct rdt_call *call, const struct rdt_agreed *agreed,
		       const struct rdt_algorithm *algorithm, rdt_plan **plan);
void rdt_plan_free(rdt_plan *plan);
/* Starts the program and counts it among the active ones. */
void rdt_plan_activate(rdt_plan *plan);
/* Counts a plan whose program runs already among the active ones. */
void rdt_plan_link(rdt_plan *plan);

/* onecall.c */
/* The plan for a plain call, made if there is none. Collective when it is made. */
int rdt_onecall_plan(rdt_comm *comm, const struct rdt_call *call, rdt_plan **plan);
/* The plan that is there for such a call, or NULL. */
rdt_plan *rdt_onecall_find(rdt_comm *comm, const struct rdt_call *call);
/* This plan is to be found no more. */
void rdt_onecall_gone(rdt_plan *plan);
/* Forgets plans of plain calls, the oldest first, until `slots` of a plan are free. NOMEM when the
 * user's plans have too many. */
int rdt_onecall_room(rdt_comm *comm, int slots);

/* request.c */
/* The plan for a call that was made, and checked, before, and for which nothing is left to do but
 * what a board does; NULL: there is none, or something has to be said about the call. Looks at
 * nothing else. */
rdt_plan *rdt_request_again(rdt_comm *comm, const struct rdt_call *call);
/* The blocking form on that plan. */
int rdt_request_board(rdt_plan *plan, const struct rdt_call *call);
/* The blocking form. */
int rdt_request_run(rdt_comm *comm, const struct rdt_call *call);
int rdt_request_start(rdt_comm *comm, const struct rdt_call *call, rdt_request **request);
/* A request for this call, or for a part of what another one is for (`whole`, or NULL). INVALID
 * when there are too many. */
int rdt_request_new(rdt_comm *comm, const struct rdt_call *call, struct rdt_request *whole,
		    struct rdt_request **request);
void rdt_request_free(struct rdt_request *request);
/* One more operation in the queue of `plan`; begun when it is the first. */
void rdt_request_queue(struct rdt_request *request, rdt_plan *plan);
/* The program of a plain-call plan has ended: its first request is over, the next one starts. */
void rdt_request_finished(rdt_plan *plan);
void rdt_requests_init(rdt_comm *comm);

/* alltoallv.c */
/* Lengths are exchanged before blocks are. Starts that; `plan` is the varying one for the blocks.
 */
int rdt_lengths_exchange(struct rdt_request *request, rdt_plan *plan);
/* The same for a plan, waiting: call->longest. */
int rdt_alltoallv_agree(rdt_comm *comm, struct rdt_call *call);
/* The call for which a varying plan is made. counts: [2 * size], to be filled. */
struct rdt_call rdt_alltoallv_template(const rdt_comm *comm, const struct rdt_call *call,
				       size_t *counts);

/* progress.c */
extern const struct rdt_wait_hooks rdt_progress_hooks; /* with a communicator for `arg` */
/* One round: transports, connections, programs. How many things happened, or negative: failed. */
int rdt_progress(rdt_comm *comm);
/* rdt_progress, and now and then a glance: for callers that poll. 1 when an operation moved on, 0
 * when none did, or negative: failed. */
int rdt_progress_test(rdt_comm *comm);
/*
 * The deadline of an operation whose caller polls: begins with the first poll, and again whenever
 * something moved; the time in which the caller computes does not count.
 */
void rdt_poll_clock(const rdt_comm *comm, bool moved, int64_t *polled, int64_t *deadline);
/* Looks for dead peers and events without waiting. */
int rdt_progress_glance(rdt_comm *comm);
/*
 * Waits until done(what), or the deadline: then the communicator is failed with RDT_ERR_TIMEOUT,
 * naming the ranks waited for and what was being done (`doing` NULL: the operation in flight). 0,
 * or the communicator's failure.
 */
int rdt_progress_until(rdt_comm *comm, bool (*done)(rdt_comm *comm, void *what), void *what,
		       int64_t deadline, const char *doing);
/* The same for an operation in flight, for so many seconds from now. */
int rdt_progress_wait(rdt_comm *comm, bool (*done)(rdt_comm *comm, void *what), void *what,
		      double seconds);
/* Fails the communicator for a deadline. */
int rdt_progress_timeout(rdt_comm *comm, const char *doing, double seconds);
/* Makes room for the descriptors to sleep on. */
int rdt_progress_fds(rdt_comm *comm);

/* fail.c */
/*
 * The first failure sticks. `rank` is the lost one, or -1. Stops the transports, tells the others,
 * waits a moment for the verdict, which is the same for all, and ends everything that is in flight.
 * Returns the status that holds.
 */
int rdt_fail(rdt_comm *comm, int status, int rank, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* Before rdt_fail: this rank was waited for, too. */
void rdt_fail_suspect(rdt_comm *comm, int rank);
/* A failure that all ranks have alike; another is its rank's own, and the others' ABORTED. */
bool rdt_is_everybodys(int status);
/* The failure again, as the answer to another call. */
int rdt_fail_again(rdt_comm *comm);
/* Takes events of the rendezvous; negative: failed. */
int rdt_fail_watch(rdt_comm *comm);
/* What a transport's call about this peer returned, passed on; that the peer is gone fails the
 * communicator. */
int rdt_fail_peer(rdt_comm *comm, int rank, int status);
/* Takes what the transports report; `status` and `text` count when they report nothing. */
int rdt_fail_transports(rdt_comm *comm, int status, const char *text);

#endif
