/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * librdtrain: gradients averaged between the workers of a training job, over RDMA.
 *
 * Every function that can fail returns 0 (RDT_OK) or a negative enum rdt_status. rdt_last_error()
 * then holds the sentence that says what happened, where, and what to do; it is per thread and
 * stays until the next failing call of that thread.
 *
 * Threads: a communicator, and all that was made from it (memory, plans, requests), is used by one
 * thread at a time; different communicators are independent of each other. Functions without a
 * communicator argument may be called from any thread at any time.
 *
 * "Collective" below means: every rank of the communicator calls it, in the same order relative to
 * the other collective calls on that communicator.
 *
 * No call waits for ever: what waits for other ranks ends at the communicator's deadline
 * (rdt_options.timeout_s) at the latest.
 */
#ifndef RDTRAIN_RDTRAIN_H
#define RDTRAIN_RDTRAIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The library itself is built with hidden visibility: what is declared here is all it exports. */
#pragma GCC visibility push(default)

#define RDT_VERSION_MAJOR 0
#define RDT_VERSION_MINOR 1
#define RDT_VERSION_PATCH 0

/* The version of the library that is running, "major.minor.patch". */
const char *rdt_version(void);

/* ---- errors ------------------------------------------------------------------------------- */

enum rdt_status {
	RDT_OK = 0,
	RDT_ERR_INVALID = -1,	  /* an argument, option or variable is wrong */
	RDT_ERR_NOMEM = -2,	  /* out of memory, or of a device's resources */
	RDT_ERR_MEMLOCK = -3,	  /* RLIMIT_MEMLOCK is too low to register memory */
	RDT_ERR_NO_DEVICE = -4,	  /* the transport that was asked for cannot work here */
	RDT_ERR_UNREACHABLE = -5, /* the rendezvous or a peer cannot be reached */
	RDT_ERR_TIMEOUT = -6,	  /* a deadline passed; the sentence names the ranks waited for */
	RDT_ERR_PEER_LOST = -7,	  /* a worker died; rdt_comm_lost() says which */
	RDT_ERR_MISMATCH = -8,	  /* the ranks did not make the same call */
	RDT_ERR_AUTH = -9,	  /* the job's secret is missing or wrong */
	RDT_ERR_ABORTED = -10,	  /* rdt_comm_abort(), here or on another rank */
	RDT_ERR_SYSTEM = -11,	  /* a system call failed in a way that fits none of the above */
	RDT_ERR_CORRUPT = -12,	  /* data changed on the way (found with RDTRAIN_CHECK=1) */
};

/* A few fixed words for a status, never NULL: "peer lost" for RDT_ERR_PEER_LOST. */
const char *rdt_strerror(int status);

/* The sentence for this thread's last failure; "" when there was none. Never NULL. */
const char *rdt_last_error(void);

/*
 * Sets that sentence, and returns `status`: for libraries on top of this one, whose users then find
 * all sentences in one place. Cut off at 1023 characters.
 */
int rdt_set_error(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- element types and operations ------------------------------------------------------------ */

enum rdt_type {
	RDT_FLOAT32,
	RDT_FLOAT64,
	RDT_FLOAT16,  /* IEEE 754 binary16; sums are formed in float32 and rounded when stored */
	RDT_BFLOAT16, /* likewise */
	RDT_INT8,
	RDT_UINT8,
	RDT_INT32,
	RDT_UINT32,
	RDT_INT64,
	RDT_UINT64,
};

enum rdt_op {
	RDT_SUM,  /* integers wrap around, modulo 2^bits */
	RDT_AVG,  /* the sum divided by the number of ranks; integers truncate towards zero */
	RDT_MIN,  /* a NaN in any contribution gives a NaN */
	RDT_MAX,  /* likewise */
	RDT_PROD, /* integers wrap around */
};

/* Bytes of one element; 0 for a value that is no rdt_type. */
size_t rdt_type_size(enum rdt_type type);
/* "float32", "avg", ...; NULL for a value outside the enum. */
const char *rdt_type_name(enum rdt_type type);
const char *rdt_op_name(enum rdt_op op);

/* ---- communicators --------------------------------------------------------------------------- */

typedef struct rdt_comm rdt_comm;
typedef struct rdt_mem rdt_mem;
typedef struct rdt_plan rdt_plan;
typedef struct rdt_request rdt_request;

/*
 * How to make a communicator. Set `size` to sizeof(struct rdt_options) and the rest to zero, then
 * what you want to say; every zero means "take it from the environment, else the default":
 *
 *	struct rdt_options o = { .size = sizeof(o), .rank = 2, .world = 4, .rendezvous =
 *"10.0.0.1:4711" };
 *
 * `rank` counts only when `world` is not 0.
 */
struct rdt_options {
	size_t size;
	int rank;		/* RDTRAIN_RANK, or torchrun's RANK */
	int world;		/* RDTRAIN_SIZE, or torchrun's WORLD_SIZE */
	const char *rendezvous; /* RDTRAIN_RENDEZVOUS: "HOST:PORT" of `rdtrain rendezvous` */
	const char *job;	/* RDTRAIN_JOB: which job on that service (default "default") */
	const char *secret;	/* RDTRAIN_SECRET, or the file that RDTRAIN_SECRET_FILE names */
	const char *transport;	/* RDTRAIN_TRANSPORT: "auto" (default), "shm" or "verbs" */
	double timeout_s; /* RDTRAIN_TIMEOUT: deadline of one operation, seconds (default 600) */
	double start_timeout_s; /* RDTRAIN_START_TIMEOUT: deadline for meeting the others (default
				   60) */
	int join; /* RDTRAIN_JOIN=1: no rank yet; wait until a job that runs admits this process
		     with rdt_comm_grow (rank and world do not count) */
};

/*
 * Meets the other ranks. Collective over the job. `opts` NULL: all from the environment. A process
 * without any launcher's variables becomes a communicator of one.
 * Errors: INVALID, AUTH, UNREACHABLE, TIMEOUT, NO_DEVICE, MEMLOCK, NOMEM, PEER_LOST, MISMATCH (the
 * ranks disagree about the world's size), SYSTEM.
 */
int rdt_comm_create(const struct rdt_options *opts, rdt_comm **comm);

/*
 * Divides the communicator: ranks that pass the same `color` (0 or more) get a communicator of
 * their own in *out, numbered by `key`, then by rank. A negative color joins none: *out is NULL.
 * The new one is independent of `comm`, may be used beside it, and is destroyed on its own; its
 * memory is rdt_alloc'd or registered with it. A wait drives its own communicator only: operations
 * that are in flight on both are waited for in the same order on all ranks, or polled; with
 * RDTRAIN_PROGRESS=thread in any order. Collective.
 * Errors: as rdt_comm_create; a failure of the new communicator leaves `comm` as it was.
 */
int rdt_comm_split(rdt_comm *comm, int color, int key, rdt_comm **out);

int rdt_comm_rank(const rdt_comm *comm);
int rdt_comm_size(const rdt_comm *comm);

/*
 * Which ranks are lost: writes up to `max` of them, ascending, to `ranks` (may be NULL when max is
 * 0) and returns how many there are. 0 on a healthy communicator. The set is the same on all
 * survivors, and does not change after the failure: after PEER_LOST those that died, after TIMEOUT
 * those that do not answer (stopped, or busy elsewhere).
 */
int rdt_comm_lost(rdt_comm *comm, int *ranks, int max);

/*
 * Ends every pending and later call on this communicator, here and on the other ranks, with
 * RDT_ERR_ABORTED. Local: it waits for nobody. rdt_comm_destroy is still owed.
 */
int rdt_comm_abort(rdt_comm *comm);

/*
 * Goes on after a failure: *survivors is a new communicator of the ranks that call this and were
 * not lost, in their old order. All of them agree on it, even if more die meanwhile. A rank that
 * does not come in half of the deadline (timeout_s) is left behind: should it come later, it gets
 * an error. `comm`, if it is still well, ends with ABORTED on all ranks. It is done with either
 * way: its buffers are the caller's again, rdt_comm_destroy is still owed, and what was made from
 * it (memory, plans) is not of use in *survivors. Collective over the survivors.
 * Errors: INVALID, TIMEOUT (too late, or nobody could agree in time), UNREACHABLE (the rendezvous
 * is gone), and those of rdt_comm_create; *survivors is NULL then, and the others go on without
 * this rank.
 */
int rdt_comm_shrink(rdt_comm *comm, rdt_comm **survivors);

/*
 * Takes in the processes that wait to be admitted (rdt_options.join): *larger is a communicator of
 * the ranks of `comm`, with the same numbers, and the newcomers after them; NULL when nobody waits.
 * `comm` is as it was, and no operation may be in flight on it. Collective; for the newcomers it is
 * their rdt_comm_create that returns.
 * Errors: INVALID (a job that began as a single process has no rendezvous), and those of the
 * collectives.
 */
int rdt_comm_grow(rdt_comm *comm, rdt_comm **larger);
/*
 * How many processes wait to be admitted, as far as this rank has heard: it asks nobody. Ranks may
 * hear of one at different times, so let one of them decide for all whether to grow.
 */
int rdt_comm_waiting(rdt_comm *comm);

/*
 * The deadline of later operations on this communicator, in seconds, instead of
 * rdt_options.timeout_s. Local; ranks may differ. Errors: INVALID.
 */
int rdt_comm_set_timeout(rdt_comm *comm, double seconds);

/*
 * Leaves the communicator and frees it with its plans and all memory of rdt_alloc. Collective; on a
 * healthy communicator it waits for the others to come here too (at most 10 s), so that nobody's
 * last write is cut off. NULL is allowed.
 */
void rdt_comm_destroy(rdt_comm *comm);

/* ---- memory ------------------------------------------------------------------------------------
 */

/*
 * Registered memory that peers on this host can map and RDMA devices can reach: the fastest kind.
 * 64-byte aligned at least, zeroed. Not collective. Errors: NOMEM, MEMLOCK, SYSTEM.
 */
int rdt_alloc(rdt_comm *comm, size_t bytes, void **ptr);
/* Frees what rdt_alloc gave; no plan may still use it. NULL is allowed. Errors: INVALID. */
int rdt_free(rdt_comm *comm, void *ptr);

/*
 * Registers memory of your own, once, so that plans over it move its bytes without a copy. The
 * memory must stay mapped until rdt_mem_deregister or rdt_comm_destroy, which ends *mem, too. Not
 * collective. Buffers that are neither
 * registered nor from rdt_alloc work everywhere as well, through a copy. Errors: INVALID, MEMLOCK,
 * NOMEM, SYSTEM.
 */
int rdt_mem_register(rdt_comm *comm, void *ptr, size_t bytes, rdt_mem **mem);
/* No plan may still use it. NULL is allowed. */
int rdt_mem_deregister(rdt_mem *mem);

/* ---- collectives -------------------------------------------------------------------------------
 *
 * `count` is in elements. Where a buffer holds a block for each rank, the blocks lie one after
 * another in the order of ranks; the functions that end in v take blocks of different lengths: an
 * array of one count for each rank, the same on every rank, which the library has read when the
 * call returns. Counts may be 0, and there is no limit but memory.
 *
 * In place: allreduce, reduce (at the root) and alltoall with in == out (alltoallv: where both
 * counts are equal); reduce_scatter and scatter (at the root) with out == this rank's block within
 * in; allgather and gather (at the root) with in
 * == this rank's block within out. Otherwise in and out must not overlap. Buffers that only the
 * root has are ignored elsewhere and may be NULL.
 *
 * All of them are collective, and a call of a v function matches none without, whatever its counts.
 * They are INVALID for wrong arguments, and NOMEM for too many plans, and then have done nothing;
 * all other errors end the communicator: TIMEOUT, PEER_LOST, MISMATCH (the ranks did not make the
 * same call; the sentence says what two of them said), CORRUPT, ABORTED, NOMEM, MEMLOCK,
 * UNREACHABLE, SYSTEM. After an error `in` is untouched where it is not also `out`, and `out` is
 * undefined.
 *
 * Bits: results that reduce are bitwise the same on all ranks, and from run to run for the same
 * call, settings, number of ranks and placement of ranks on hosts. With RDTRAIN_RANK_ORDER=1 they
 * depend on neither the algorithm nor the placement of ranks on hosts: contributions are combined
 * in the order of ranks.
 */

/* Combines every rank's vector of `count` elements, element by element, into every rank's out. */
int rdt_allreduce(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		  enum rdt_op op);

/* Combines vectors of size * count_per_rank elements; rank r gets block r of the result. */
int rdt_reduce_scatter(rdt_comm *comm, const void *in, void *out, size_t count_per_rank,
		       enum rdt_type type, enum rdt_op op);
int rdt_reduce_scatterv(rdt_comm *comm, const void *in, void *out, const size_t *counts,
			enum rdt_type type, enum rdt_op op);

/* Gives every rank all ranks' blocks. */
int rdt_allgather(rdt_comm *comm, const void *in, void *out, size_t count_per_rank,
		  enum rdt_type type);
int rdt_allgatherv(rdt_comm *comm, const void *in, void *out, const size_t *counts,
		   enum rdt_type type);

/* Copies root's `count` elements of `buf` to every rank's `buf`. */
int rdt_broadcast(rdt_comm *comm, void *buf, size_t count, enum rdt_type type, int root);

/* As rdt_allreduce, but only root gets the result. */
int rdt_reduce(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
	       enum rdt_op op, int root);

/* Gives root all ranks' blocks. */
int rdt_gather(rdt_comm *comm, const void *in, void *out, size_t count_per_rank, enum rdt_type type,
	       int root);
int rdt_gatherv(rdt_comm *comm, const void *in, void *out, const size_t *counts, enum rdt_type type,
		int root);

/* Gives each rank its block of root's. */
int rdt_scatter(rdt_comm *comm, const void *in, void *out, size_t count_per_rank,
		enum rdt_type type, int root);
int rdt_scatterv(rdt_comm *comm, const void *in, void *out, const size_t *counts,
		 enum rdt_type type, int root);

/*
 * Block i of in goes to rank i, whose block r of out it is, r being this rank. alltoallv: what this
 * rank sends to rank i (in_counts[i]) and what it gets from it (out_counts[i]) are its own; rank i
 * must say the same, else MISMATCH. An alltoallv allocates a little memory in each call.
 */
int rdt_alltoall(rdt_comm *comm, const void *in, void *out, size_t count_per_rank,
		 enum rdt_type type);
int rdt_alltoallv(rdt_comm *comm, const void *in, const size_t *in_counts, void *out,
		  const size_t *out_counts, enum rdt_type type);

/* Returns when every rank has come here. */
int rdt_barrier(rdt_comm *comm);

/*
 * From one rank to another; only these two make the call, in the same order between the two of
 * them. The k-th send to a rank meets its k-th receive from this one; they may be under way
 * together with collectives. The sender's returns when the receiver has taken everything, so two
 * ranks that both send first must start their sends (below), not call them. MISMATCH when count or
 * type differ.
 */
int rdt_send(rdt_comm *comm, const void *in, size_t count, enum rdt_type type, int peer);
int rdt_recv(rdt_comm *comm, void *out, size_t count, enum rdt_type type, int peer);

/* ---- without waiting ---------------------------------------------------------------------------
 *
 * *request is then completed by rdt_wait, or by rdt_test once it says done; both free the request.
 * The buffers belong to the library until then. Operations that are in flight together are started
 * in the same order on all ranks; they may be completed in any order. At most 256 are in flight on
 * one communicator, one more is INVALID. A _start does not wait for other ranks, except the first
 * of its kind (collective, counts, type, operation, root), for which all meet. *request is NULL
 * after a failure.
 */

int rdt_allreduce_start(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
			enum rdt_op op, rdt_request **request);
int rdt_reduce_scatter_start(rdt_comm *comm, const void *in, void *out, size_t count_per_rank,
			     enum rdt_type type, enum rdt_op op, rdt_request **request);
int rdt_reduce_scatterv_start(rdt_comm *comm, const void *in, void *out, const size_t *counts,
			      enum rdt_type type, enum rdt_op op, rdt_request **request);
int rdt_allgather_start(rdt_comm *comm, const void *in, void *out, size_t count_per_rank,
			enum rdt_type type, rdt_request **request);
int rdt_allgatherv_start(rdt_comm *comm, const void *in, void *out, const size_t *counts,
			 enum rdt_type type, rdt_request **request);
int rdt_broadcast_start(rdt_comm *comm, void *buf, size_t count, enum rdt_type type, int root,
			rdt_request **request);
int rdt_reduce_start(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		     enum rdt_op op, int root, rdt_request **request);
int rdt_gather_start(rdt_comm *comm, const void *in, void *out, size_t count_per_rank,
		     enum rdt_type type, int root, rdt_request **request);
int rdt_gatherv_start(rdt_comm *comm, const void *in, void *out, const size_t *counts,
		      enum rdt_type type, int root, rdt_request **request);
int rdt_scatter_start(rdt_comm *comm, const void *in, void *out, size_t count_per_rank,
		      enum rdt_type type, int root, rdt_request **request);
int rdt_scatterv_start(rdt_comm *comm, const void *in, void *out, const size_t *counts,
		       enum rdt_type type, int root, rdt_request **request);
int rdt_alltoall_start(rdt_comm *comm, const void *in, void *out, size_t count_per_rank,
		       enum rdt_type type, rdt_request **request);
int rdt_alltoallv_start(rdt_comm *comm, const void *in, const size_t *in_counts, void *out,
			const size_t *out_counts, enum rdt_type type, rdt_request **request);
int rdt_barrier_start(rdt_comm *comm, rdt_request **request);
int rdt_send_start(rdt_comm *comm, const void *in, size_t count, enum rdt_type type, int peer,
		   rdt_request **request);
int rdt_recv_start(rdt_comm *comm, void *out, size_t count, enum rdt_type type, int peer,
		   rdt_request **request);

/*
 * Drives the communicator and says whether the request is over: *done 0 and return 0 while it is
 * not. When it is over, *done is 1, the request is freed, and the return value is its outcome.
 */
int rdt_test(rdt_request *request, int *done);
/* Waits until the request is over, frees it and returns its outcome. */
int rdt_wait(rdt_request *request);
/* The same with a deadline of its own, in seconds. When it passes, the communicator has failed, as
 * at any deadline: TIMEOUT. */
int rdt_wait_within(rdt_request *request, double seconds);

/* ---- persistent plans --------------------------------------------------------------------------
 *
 * Everything about an operation that can be settled beforehand (schedule, connections, remote keys)
 * is settled here, once, so that starting it sends only data. Collective. The buffers are the same
 * at every start. When all ranks pass registered memory, results are written straight into `out`;
 * when all of a host have theirs from rdt_alloc, they are read from there as well. What an
 * algorithm reduces on the way passes through memory of the library, and so do all-to-all, send and
 * receive. A plan of a send or a receive is made, started and destroyed by that rank alone.
 *
 * At most 254 plans are alive on a communicator, one more is NOMEM; those that the library keeps
 * for the plain calls make room. *plan is NULL after a failure.
 */

int rdt_allreduce_plan(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		       enum rdt_op op, rdt_plan **plan);
int rdt_reduce_scatter_plan(rdt_comm *comm, const void *in, void *out, size_t count_per_rank,
			    enum rdt_type type, enum rdt_op op, rdt_plan **plan);
int rdt_reduce_scatterv_plan(rdt_comm *comm, const void *in, void *out, const size_t *counts,
			     enum rdt_type type, enum rdt_op op, rdt_plan **plan);
int rdt_allgather_plan(rdt_comm *comm, const void *in, void *out, size_t count_per_rank,
		       enum rdt_type type, rdt_plan **plan);
int rdt_allgatherv_plan(rdt_comm *comm, const void *in, void *out, const size_t *counts,
			enum rdt_type type, rdt_plan **plan);
int rdt_broadcast_plan(rdt_comm *comm, void *buf, size_t count, enum rdt_type type, int root,
		       rdt_plan **plan);
int rdt_reduce_plan(rdt_comm *comm, const void *in, void *out, size_t count, enum rdt_type type,
		    enum rdt_op op, int root, rdt_plan **plan);
int rdt_gather_plan(rdt_comm *comm, const void *in, void *out, size_t count_per_rank,
		    enum rdt_type type, int root, rdt_plan **plan);
int rdt_gatherv_plan(rdt_comm *comm, const void *in, void *out, const size_t *counts,
		     enum rdt_type type, int root, rdt_plan **plan);
int rdt_scatter_plan(rdt_comm *comm, const void *in, void *out, size_t count_per_rank,
		     enum rdt_type type, int root, rdt_plan **plan);
int rdt_scatterv_plan(rdt_comm *comm, const void *in, void *out, const size_t *counts,
		      enum rdt_type type, int root, rdt_plan **plan);
int rdt_alltoall_plan(rdt_comm *comm, const void *in, void *out, size_t count_per_rank,
		      enum rdt_type type, rdt_plan **plan);
int rdt_alltoallv_plan(rdt_comm *comm, const void *in, const size_t *in_counts, void *out,
		       const size_t *out_counts, enum rdt_type type, rdt_plan **plan);
int rdt_barrier_plan(rdt_comm *comm, rdt_plan **plan);
int rdt_send_plan(rdt_comm *comm, const void *in, size_t count, enum rdt_type type, int peer,
		  rdt_plan **plan);
int rdt_recv_plan(rdt_comm *comm, void *out, size_t count, enum rdt_type type, int peer,
		  rdt_plan **plan);

/* Starts the plan. INVALID when it was started before and neither rdt_plan_wait has returned since
 * nor rdt_plan_test said that it is over. Collective. Allocates nothing. */
int rdt_plan_start(rdt_plan *plan);
/* Drives the communicator; *done says whether the plan is over, the return value how it ended. */
int rdt_plan_test(rdt_plan *plan, int *done);
/* Waits until the plan is over; returns how it ended. 0 at once when it is not running. */
int rdt_plan_wait(rdt_plan *plan);
/* The same with a deadline of its own, as rdt_wait_within. */
int rdt_plan_wait_within(rdt_plan *plan, double seconds);
/* Collective. Waits for the plan first, should it be running, and for the other ranks if it never
 * ran. NULL is allowed. */
void rdt_plan_destroy(rdt_plan *plan);

/* ---- timeline ----------------------------------------------------------------------------------
 *
 * With RDTRAIN_TRACE=FILE every operation of the job's communicator, and of those split from it, is
 * recorded with its times, bytes and algorithm, and written when the last of them is destroyed.
 * These two put spans of the program beside them: what it did meanwhile. Spans of one communicator
 * nest, each begin has its end. `name` is copied, at most 35 bytes of it. Without RDTRAIN_TRACE
 * they do nothing, and they never allocate nor call the system.
 */
void rdt_trace_begin(rdt_comm *comm, const char *name);
void rdt_trace_end(rdt_comm *comm);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
