/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The training layer of librdtrain: data, optimizers, checkpoints, gradients, parameters. It is a
 * library of its own (librdtrain-train) on the public interface of librdtrain, and so one way to
 * use that, not the only one.
 *
 * Statuses, sentences and thread rules are those of <rdtrain/rdtrain.h>. An object here is used by
 * one thread at a time; different objects are independent, as long as they do not share a
 * communicator. Structs of options begin with their size: set `size` to sizeof, and the rest to
 * zero where the default is meant.
 */
#ifndef RDTRAIN_TRAIN_H
#define RDTRAIN_TRAIN_H

#include <rdtrain/rdtrain.h>
#include <rdtrain/window.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* ---- data ------------------------------------------------------------------------------------ */

/*
 * A table of numbers in a file: rows are samples. The format is told from the file itself:
 *   csv   plain decimal numbers between commas, no header, all lines equally many fields
 *   npy   NumPy's, versions 1 to 3, C order: f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1, either byte order
 *   idx   MNIST's, all its types
 * npy and idx are mapped, so that only what is read costs memory; the file must not be cut short
 * while it is open. csv is read into memory as float64. Files are not trusted: what is wrong with
 * one is INVALID, and the sentence begins with "FILE:LINE:COLUMN: " (csv; column counts fields from
 * 1) or "FILE: byte OFFSET: ".
 */
typedef struct rdt_dataset rdt_dataset;

#define RDT_DIMS_MAX 8

struct rdt_dataset_info {
	const char *format;	     /* "csv", "npy" or "idx" */
	uint64_t rows, columns;	     /* columns: the elements of a row, whatever its dimensions */
	int n_dims;		     /* 1 to RDT_DIMS_MAX */
	uint64_t dims[RDT_DIMS_MAX]; /* dims[0] is rows */
	enum rdt_type type;	     /* of the elements; 16-bit integers count as int32 */
	/* All elements, row by row, as `type`; NULL where the file has them in another byte order
	 * or size, so that rdt_dataset_read must convert. Valid until rdt_dataset_close. */
	const void *data;
};

/* Errors: INVALID, NOMEM, SYSTEM (the file cannot be opened or mapped). */
int rdt_dataset_open(const char *path, rdt_dataset **dataset);
/*
 * The same from `n` bytes in memory, which must stay until rdt_dataset_close; `name` stands for the
 * path in errors, and its ending tells the format where the bytes do not.
 */
int rdt_dataset_parse(const char *name, const void *bytes, size_t n, rdt_dataset **dataset);
/* NULL is allowed. */
void rdt_dataset_close(rdt_dataset *dataset);

/* Valid until rdt_dataset_close. */
const struct rdt_dataset_info *rdt_dataset_info(const rdt_dataset *dataset);

/*
 * Copies `columns` elements from column `first` on of the `n` rows that `rows` lists (NULL: rows 0
 * to n-1) to `out`, row after row, converted to `type`: float32, float64, int32, int64 or uint8. A
 * value that does not fit the type (no whole number, out of range) is INVALID and named with its
 * place; out is undefined then. May be called from several threads at once.
 */
int rdt_dataset_read(const rdt_dataset *dataset, const uint64_t *rows, size_t n, size_t first,
		     size_t columns, enum rdt_type type, void *out);

/*
 * Which samples this worker works on in each step.
 *
 * The order is global: an epoch is one permutation of all samples, made from the seed and the
 * epoch's number, and step s takes the s-th batch of it. The number of workers does not enter, so
 * any number of workers trains on the same batches, in the same number of steps. Divide a
 * gradient's sum by rdt_batch.total, not by this worker's share, which may differ from others', or
 * be empty.
 *
 * The placement says which workers hold a sample; one of its holders works on it, that with the
 * fewest samples of the batch so far.
 */
typedef struct rdt_sampler rdt_sampler;

enum rdt_placement {
	RDT_PLACE_EVERYWHERE,  /* all workers can read all samples; a batch is cut evenly */
	RDT_PLACE_SPLIT,       /* contiguous stretches, that differ by one sample at most */
	RDT_PLACE_ROUND_ROBIN, /* sample i on worker i mod workers */
	RDT_PLACE_HASH,	       /* by a hash of the key */
	RDT_PLACE_CONSISTENT,  /* likewise, but few samples move when workers leave or join */
};

struct rdt_sampler_options {
	size_t size;
	uint64_t samples;
	uint64_t batch; /* samples of one step, over all workers */
	uint64_t seed;
	int rank, workers;
	enum rdt_placement placement;
	int replicas;	      /* how many workers hold each sample; 0: one */
	const uint64_t *keys; /* of each sample, for the hashes; NULL: its number. Copied */
	/* Consistent: the workers' names, which they keep when others leave; NULL: their ranks.
	 * Copied. */
	const uint32_t *ids;
	int virtual_nodes; /* consistent: of each worker; 0: 4096 */
	int in_order;	   /* 1: without shuffling */
	int drop_last;	   /* 1: without the last batch of an epoch when it is incomplete */
};

struct rdt_batch {
	const uint64_t *rows; /* this worker's samples; valid until the next call */
	size_t n;	      /* how many, 0 to total */
	size_t total;	      /* over all workers */
	uint64_t epoch, step; /* both from 0; the step is that of the epoch */
};

/* Not collective, but the workers pass the same, except their rank. Errors: INVALID, NOMEM. */
int rdt_sampler_create(const struct rdt_sampler_options *options, rdt_sampler **sampler);
/* NULL is allowed. */
void rdt_sampler_destroy(rdt_sampler *sampler);

/* The next step's batch; behind the last of an epoch comes the first of the next. */
void rdt_sampler_next(rdt_sampler *sampler, struct rdt_batch *batch);
/* Steps of an epoch. */
uint64_t rdt_sampler_steps(const rdt_sampler *sampler);
/* Steps taken so far, over all epochs: what a checkpoint keeps, whatever the number of workers. */
uint64_t rdt_sampler_position(const rdt_sampler *sampler);
void rdt_sampler_seek(rdt_sampler *sampler, uint64_t position);
/*
 * The ranks that hold a sample, its owner first: writes up to `max` and returns how many there are,
 * or INVALID.
 */
int rdt_sampler_holders(const rdt_sampler *sampler, uint64_t sample, int *ranks, int max);

/* ---- optimizers ------------------------------------------------------------------------------ */

/*
 * An optimizer keeps the state of a flat vector of float32 or float64, or of a part of one: each
 * element is updated for itself, so that shards give the bits of the whole.
 */
typedef struct rdt_optimizer rdt_optimizer;

enum rdt_optimizer_kind {
	RDT_SGD,      /* p -= rate * g */
	RDT_MOMENTUM, /* v = momentum * v + g; p -= rate * v */
	RDT_ADAM,     /* arXiv 1412.6980, with its correction of the bias */
};

struct rdt_optimizer_options {
	size_t size;
	enum rdt_optimizer_kind kind;
	double momentum;     /* 0: 0.9 */
	double beta1, beta2; /* 0: 0.9 and 0.999 */
	double epsilon;	     /* 0: 1e-8 */
};

/* For `count` elements; the state begins as zeros. Errors: INVALID, NOMEM. */
int rdt_optimizer_create(const struct rdt_optimizer_options *options, size_t count,
			 enum rdt_type type, rdt_optimizer **optimizer);
/* NULL is allowed. */
void rdt_optimizer_destroy(rdt_optimizer *optimizer);

/*
 * Updates `params` by `gradient`, count elements each, that do not overlap. `step` counts from 0
 * the updates of these parameters; allocates nothing and does not fail.
 */
void rdt_optimizer_step(rdt_optimizer *optimizer, uint64_t step, double rate, void *params,
			const void *gradient);

/*
 * The arrays of the state, for checkpoints and for moving shards: SGD has none, momentum
 * "velocity", Adam "moment1" and "moment2". `count` elements of the vector's type each, to read and
 * to write; NULL for an i that is none.
 */
int rdt_optimizer_states(const rdt_optimizer *optimizer);
const char *rdt_optimizer_state_name(const rdt_optimizer *optimizer, int i);
void *rdt_optimizer_state(rdt_optimizer *optimizer, int i);

enum rdt_rate_kind {
	RDT_RATE_CONSTANT, /* base */
	RDT_RATE_STEP,	   /* base, times `factor` after each `every` steps */
	RDT_RATE_COSINE, /* from base to `least` along half a cosine of `every` steps, then least */
};

/*
 * A learning rate over the steps of a run. The first `warmup` steps climb in a line, from
 * base / warmup to base; the kind counts its steps from there.
 */
struct rdt_rate {
	enum rdt_rate_kind kind;
	double base;
	uint64_t warmup, every;
	double factor, least;
};

/* The learning rate of step 0, 1, ... */
double rdt_rate_at(const struct rdt_rate *rate, uint64_t step);

/* When to stop. A condition that is 0 is not looked at; the first that holds is the reason. */
struct rdt_stop {
	uint64_t epochs;      /* so many are done */
	double gradient_norm; /* it is this small */
	double loss_change;   /* relative to the loss at the check before */
	double seconds;	      /* since the first check */
	/* What the check remembers; begins as zeros. With loss_change, a checkpoint that keeps
	 * `last_loss` and `calls` stops where the uninterrupted run does. */
	double last_loss, began;
	uint64_t calls;
};

enum rdt_stop_reason {
	RDT_GO_ON,
	RDT_STOP_EPOCHS,
	RDT_STOP_GRADIENT,
	RDT_STOP_LOSS,
	RDT_STOP_TIME,
	RDT_STOP_DIVERGED, /* loss or gradient are no numbers any more; always looked at */
};

/*
 * Asks, after `epoch` epochs. With a communicator it is collective, and rank 0's answer holds for
 * all, so that clocks that differ do not part the workers; with NULL it is local. Errors: INVALID,
 * and those of rdt_broadcast.
 */
int rdt_stop_check(struct rdt_stop *stop, rdt_comm *comm, uint64_t epoch, double loss,
		   double gradient_norm, enum rdt_stop_reason *reason);
/* "epochs", "gradient norm", ...; NULL for a value outside the enum. */
const char *rdt_stop_name(enum rdt_stop_reason reason);

/* The Euclidean norm of `count` float32 or float64, summed in double; NaN for another type. */
double rdt_norm(const void *v, size_t count, enum rdt_type type);

/* ---- checkpoints ----------------------------------------------------------------------------- */

/*
 * A checkpoint is one safetensors file, checkpoint-STEP.safetensors, that all ranks write their
 * parts of into a directory that all of them share. It is there as a whole or not at all: written
 * under another name, synced, renamed. The header and each part have a checksum (XXH3).
 */

/* A tensor and this rank's part of it. */
struct rdt_tensor {
	const char *name; /* UTF-8, not empty; each once */
	enum rdt_type type;
	int n_dims; /* 0: a single value */
	uint64_t dims[RDT_DIMS_MAX];
	/* 0: `data` is the whole tensor, the same on all ranks when it is saved. 1: it is the box
	 * of count[i] elements from start[i] on in each dimension; a rank without a part has a
	 * count of 0. Several ranks may have the same box; different ones must not meet, and all
	 * together must be the tensor. */
	int sharded;
	uint64_t start[RDT_DIMS_MAX], count[RDT_DIMS_MAX];
	void *data; /* in C order */
};

struct rdt_checkpoint {
	size_t size;
	const struct rdt_tensor *tensors; /* the same on all ranks but for the parts */
	int n_tensors;
	uint64_t step, position, seed; /* position: rdt_sampler_position */
	/* save: of this checkpoint and those of lower steps the newest so many stay; 0: all. Those
	 * of higher steps, which another run has left, stay, and are loaded first. */
	int keep;
	/* What rdt_checkpoint_load says: */
	int found;	    /* 1: loaded; 0: there is no checkpoint in the directory */
	char skipped[2048]; /* which newer ones were no good, and why; "" when there were none */
};

/*
 * Writes a checkpoint. Collective; rank 0's step, position, seed and keep hold. When it fails,
 * those that were there before still are. Ranks wait for each other's disks for at most the
 * communicator's deadline. Errors: INVALID, MISMATCH (the ranks do not save the same tensors),
 * SYSTEM (disk full, ...), NOMEM, and those of the collectives. A failure of one rank is told on
 * all, with its rank.
 */
int rdt_checkpoint_save(rdt_comm *comm, const char *directory,
			const struct rdt_checkpoint *checkpoint);

/*
 * Loads the newest checkpoint whose checksums are right, and says in `skipped` which are not. Only
 * damage is passed over: one that cannot be read (no permission, too many files, a disk's error) is
 * SYSTEM. Any number of ranks may load it, in any parts, and fewer tensors than it has. Nothing of
 * one that is no good gets into the caller's memory. Collective.
 * Errors: INVALID (a tensor is not in it as it was asked for, or there are checkpoints and none is
 * good), SYSTEM, NOMEM, MISMATCH, and those of the collectives.
 */
int rdt_checkpoint_load(rdt_comm *comm, const char *directory, struct rdt_checkpoint *checkpoint);

/* ---- reducer --------------------------------------------------------------------------------- */

/*
 * Averages the gradients of a backward pass over the ranks while the pass goes on. The gradients,
 * in the order in which the forward pass uses them, are put into buckets from the last to the
 * first; each bucket is a persistent allreduce that starts as soon as its gradients are ready and
 * the buckets before it have started. A step:
 *
 *	for each layer, the last first:
 *		compute the gradient into rdt_reducer_gradient(reducer, i)
 *		rdt_reducer_ready(reducer, i)
 *	rdt_reducer_finish(reducer)		now each gradient is the mean over the ranks
 */
typedef struct rdt_reducer rdt_reducer;

struct rdt_gradient {
	size_t count; /* elements, 1 or more */
	/* Where it is. NULL: in memory of the reducer, which saves copying it. */
	void *data;
};

struct rdt_reducer_options {
	size_t size;
	size_t bucket_bytes; /* of one bucket at most, unless a gradient is larger (0: 4 MiB) */
	enum rdt_type type;  /* RDT_FLOAT32 (0) or RDT_FLOAT64 */
	/* RDT_FLOAT16 or RDT_BFLOAT16: float32 gradients are rounded for the wire, and what this
	 * rank's rounding loses before sending is added to its next gradient (error feedback). Not
	 * fed back is the rounding of sums that ranks pass on, nor that of the result: up to
	 * ranks - 1 times half a unit in the last place. 0: sent as they are.
	 * A float16 is 65504 at most. A gradient beyond it counts as that (for a mean, as a few
	 * units in the last place less), and the rest is lost. A mean then never overflows; a sum
	 * that is larger is an infinity. bfloat16 has float32's range. */
	enum rdt_type wire;
	int no_feedback; /* 1: what rounding loses is lost */
	int sum;	 /* 1: the sum over ranks and passes, not the mean */
	int accumulate;	 /* 1: rdt_reducer_hold may be used */
};

/*
 * Collective. All ranks pass the same counts, options and n; options NULL: the defaults. Errors:
 * INVALID, NOMEM, and those of rdt_allreduce_plan.
 */
int rdt_reducer_create(rdt_comm *comm, const struct rdt_gradient *gradients, int n,
		       const struct rdt_reducer_options *options, rdt_reducer **reducer);
/* Where gradient i is: what was given, or the reducer's memory, 64-byte aligned and zero at first.
 * NULL: there is no such gradient. */
void *rdt_reducer_gradient(const rdt_reducer *reducer, int i);
/*
 * Gradient i is there and stays as it is until rdt_reducer_finish. In any order, which may be
 * another on each rank. Starts what can start, waits for nobody. Errors: INVALID, and those of
 * rdt_plan_start and rdt_plan_test.
 */
int rdt_reducer_ready(rdt_reducer *reducer, int i);
/* Brings what is in flight forward, as rdt_reducer_ready does; for long computations between. */
int rdt_reducer_poll(rdt_reducer *reducer);
/*
 * Before a backward pass: it only adds to the gradients, and its rdt_reducer_finish waits for
 * nobody. The next pass without ends the step, and the mean is over all its passes, too. All ranks
 * alike.
 */
int rdt_reducer_hold(rdt_reducer *reducer);
/*
 * Ends the pass: gradients that were not ready count as zero on this rank; then waits until all
 * have their mean. Collective. Errors: those of rdt_plan_wait.
 */
int rdt_reducer_finish(rdt_reducer *reducer);
/*
 * What rounding has lost on this rank and the next step adds: *count floats, zero at first, for
 * checkpoints, to read and to write between two steps. Their order depends on the gradients' counts
 * alone, their unit on the number of ranks. NULL and 0: without `wire`, or with no_feedback.
 */
float *rdt_reducer_carry(const rdt_reducer *reducer, size_t *count);
/* Collective. NULL is allowed. */
void rdt_reducer_destroy(rdt_reducer *reducer);

/* ---- model parallelism ----------------------------------------------------------------------- */

/*
 * Ranks in a grid: `copies` of the model, each divided into `parts`. Rank r has part r % parts of
 * copy r / parts.
 */
typedef struct rdt_grid rdt_grid;

/* Collective. copies * parts is the communicator's size. Errors: INVALID, and those of
 * rdt_comm_split. */
int rdt_grid_create(rdt_comm *comm, int copies, int parts, rdt_grid **grid);
/* The ranks with the same part, each with a copy: for averaging gradients. The grid's own. */
rdt_comm *rdt_grid_data(const rdt_grid *grid);
/* The ranks with the parts of one copy: for activations. Likewise. */
rdt_comm *rdt_grid_model(const rdt_grid *grid);
/* Collective. NULL is allowed. */
void rdt_grid_destroy(rdt_grid *grid);

/* Of `count` things in a row, cut into `parts` pieces of nearly one length: how many piece `part`
 * has, and in *first (may be NULL) where it begins. */
size_t rdt_part(size_t count, int parts, int part, size_t *first);

enum rdt_split {
	RDT_SPLIT_NONE,	   /* all of the layer, computed by each rank alike */
	RDT_SPLIT_COLUMNS, /* all inputs, some outputs: no exchange forward; backward the derivative
			      by the inputs is summed over the parts */
	RDT_SPLIT_ROWS,	   /* some inputs, all outputs: forward the outputs are summed over the
			      parts; no exchange backward */
};

/* What one rank has of a layer's weights [in][out]. */
struct rdt_layer_part {
	enum rdt_split split;
	int first_in, n_in, first_out, n_out;
};

/*
 * How the layers of a network (width[0] inputs, ..., width[n_layers] outputs) are divided: by
 * columns and by rows in turn, so that the outputs of the one are the inputs of the other, and two
 * layers cost one allreduce each way. A last layer without a partner is not divided. Fills
 * layers[n_layers]. INVALID: a divided layer is narrower than there are parts.
 */
int rdt_part_layers(const int *width, int n_layers, int parts, int part,
		    struct rdt_layer_part *layers);

/*
 * Optimizer state divided over the ranks: each updates a piece of the parameters, after a
 * reduce-scatter of the gradient and before an allgather of the parameters.
 */
typedef struct rdt_sharded rdt_sharded;

struct rdt_sharded_options {
	size_t size;
	size_t count;	    /* parameters, of all ranks together */
	enum rdt_type type; /* RDT_FLOAT32 or RDT_FLOAT64 */
	int sum;	    /* 1: by the sum of the gradients, not their mean */
	const struct rdt_optimizer_options *optimizer;
};

/* Collective. All ranks pass the same. Errors: INVALID, NOMEM, and those of making a plan. */
int rdt_sharded_create(rdt_comm *comm, const struct rdt_sharded_options *options,
		       rdt_sharded **sharded);
/* All parameters, which the caller sets, on all ranks alike, before the first step; and the
 * gradient, which it sets before each step, and which is undefined behind. Zero at first. */
void *rdt_sharded_params(const rdt_sharded *sharded);
void *rdt_sharded_gradient(const rdt_sharded *sharded);
/* The optimizer of this rank's piece, elements *first to *first + *count - 1 (NULL is allowed). */
rdt_optimizer *rdt_sharded_optimizer(const rdt_sharded *sharded, size_t *first, size_t *count);
/* One update of all parameters; `step` and `rate` as for rdt_optimizer_step. Collective. Errors:
 * those of rdt_plan_start and rdt_plan_wait. */
int rdt_sharded_step(rdt_sharded *sharded, uint64_t step, double rate);
/* Collective. NULL is allowed. */
void rdt_sharded_destroy(rdt_sharded *sharded);

/* ---- parameter server ------------------------------------------------------------------------ */

/*
 * Parameters kept by servers and updated there, by gradients that workers push whenever they have
 * them, through a window. Ranks 0 to servers - 1 serve, the others work:
 *
 *	rdt_ps_create(comm, &options, parameters, n, &ps);
 *	if (rdt_ps_is_server(ps))
 *		rdt_ps_serve(ps);
 *	else
 *		while (... && rdt_ps_pull(ps) == 0)
 *			compute gradients, rdt_ps_push(ps, gradients);
 *	rdt_ps_destroy(ps);
 *
 * A tensor is kept by the server that consistent hashing gives its name to. With several servers
 * each keeps an image of its shard, parameters and optimizer's state, at the next one, which goes
 * on from there when it dies: no update that a worker has seen is lost, none is applied twice. Both
 * servers of a shard lost, or the only one, is PEER_LOST for the workers. The image is not made
 * anew elsewhere. A worker that dies is no longer waited for, and what it pushed last may go
 * unused.
 */
typedef struct rdt_ps rdt_ps;

enum rdt_ps_mode {
	/* The mean of all workers' gradients, in the order of ranks, when all have pushed: with the
	 * bits of one process that does the same. */
	RDT_PS_SYNC,
	RDT_PS_ASYNC, /* each gradient by itself as it comes: an update each */
	/* The same, but no worker goes on that is more than `staleness` pushes ahead of the
	 * slowest (Ho et al., "More Effective Distributed ML via a Stale Synchronous Parallel
	 * Parameter Server", NIPS 2013) */
	RDT_PS_STALE,
};

struct rdt_ps_tensor {
	const char *name;
	/* `count` parameters. All ranks begin with rank 0's. A pull stores them here; at a server,
	 * the return of rdt_ps_serve those that it keeps. */
	void *data;
	size_t count;
};

/* The same on all ranks. */
struct rdt_ps_options {
	size_t size;
	int servers; /* 0: 1 */
	enum rdt_ps_mode mode;
	uint64_t staleness;
	enum rdt_type type; /* of parameters and gradients: float32 or float64 */
	struct rdt_optimizer_options optimizer;
	struct rdt_rate rate; /* its steps are the updates of a shard */
	double timeout_s;     /* of rdt_ps_pull, and of a server to which nothing comes; 0: 600 */
};

/*
 * Collective. Nothing uses the communicator once it has returned; its failure does not concern the
 * parameter server. Errors: INVALID, MISMATCH (other options, names or sizes on another rank; which
 * does not end the communicator), NOMEM, and those of rdt_window_create.
 */
int rdt_ps_create(rdt_comm *comm, const struct rdt_ps_options *options,
		  const struct rdt_ps_tensor *tensors, int n, rdt_ps **ps);
/* 1 or 0. */
int rdt_ps_is_server(const rdt_ps *ps);
/*
 * A server's work: returns 0 when all workers have destroyed their rdt_ps or are lost. Errors:
 * INVALID, TIMEOUT, PEER_LOST (a server died before this one had its image).
 */
int rdt_ps_serve(rdt_ps *ps);
/*
 * A worker's: waits until its own pushes are applied and the mode lets it go on, then gets the
 * newest parameters, never of two versions of one shard. Errors: INVALID, TIMEOUT, PEER_LOST; after
 * the latter two only rdt_ps_destroy is left.
 */
int rdt_ps_pull(rdt_ps *ps);
/*
 * Sends one gradient for each tensor, in their order, which the caller may change at once. A pull
 * comes between two pushes. Errors: INVALID, PEER_LOST.
 */
int rdt_ps_push(rdt_ps *ps, const void *const *gradients);
/* By how many pushes the slowest worker was behind this one at its last pull, at most. */
uint64_t rdt_ps_staleness(const rdt_ps *ps);
/* A worker waits for its last push to be applied. NULL is allowed. */
void rdt_ps_destroy(rdt_ps *ps);

/* ---- consistency ----------------------------------------------------------------------------- */

/*
 * Do all ranks hold the same `bytes` bytes at `buf`? MISMATCH, on all ranks alike, names those that
 * differ from what most ranks have, and calls the buffer by `name` (of this rank); that does not
 * end the communicator. Replicas are made with rdt_broadcast. Compares hashes of 128 bits.
 * Collective. Errors: MISMATCH, NOMEM, and those of rdt_allgather.
 */
int rdt_check_equal(rdt_comm *comm, const char *name, const void *buf, size_t bytes);

/*
 * A lock between the ranks of a window: fair (first come, first served), with a lease, and given to
 * the next when its holder dies. It lies in rdt_lock_bytes(ranks) zeroed bytes at `offset` (a
 * multiple of 8) of rank `home`'s part of the window; that memory must allow atomics there. All
 * ranks make it with the same arguments, and no call of it is collective.
 *
 * The lease: a holder that neither releases nor renews for `lease_s` seconds loses the lock to the
 * next in line; a holder that died, or is lost to the window of the one that waits, at once. A rank
 * that was late learns of it from TIMEOUT of rdt_lock_renew or rdt_lock_release. Who writes to
 * something outside the window under the lock passes rdt_lock_ticket() on, by which the late can be
 * told: tickets only grow.
 *
 * A lock is used by the thread that uses its window. When `home` is lost, so is the lock:
 * PEER_LOST.
 */
typedef struct rdt_lock rdt_lock;

size_t rdt_lock_bytes(int ranks);
/* Errors: INVALID, NOMEM. */
int rdt_lock_create(rdt_comm *comm, rdt_window *window, int home, size_t offset, double lease_s,
		    rdt_lock **lock);
/*
 * Waits for the lock, `timeout_s` seconds at most: TIMEOUT. Who then comes back keeps its place in
 * line, unless it has been passed meanwhile. Errors: INVALID, PEER_LOST, TIMEOUT, NO_DEVICE
 * (the device has no atomics).
 */
int rdt_lock_acquire(rdt_lock *lock, double timeout_s);
/* Begins the lease anew. TIMEOUT: it was over, and the lock is another's. Errors: as acquire. */
int rdt_lock_renew(rdt_lock *lock);
/*
 * Flushes the window, then gives the lock to the next. TIMEOUT: as above. PEER_LOST also when
 * something that was put under the lock went to a lost rank. The lock is released whatever is
 * returned.
 */
int rdt_lock_release(rdt_lock *lock);
/* The number under which this rank holds, or held, the lock. */
uint64_t rdt_lock_ticket(const rdt_lock *lock);
/* Frees this rank's handle, not the lock. NULL is allowed. */
void rdt_lock_destroy(rdt_lock *lock);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
