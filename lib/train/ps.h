/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parameter server's own structures, shared by ps*.c and by nobody else.
 *
 *	ps.c         who keeps what, where it lies in the window; life
 *	ps_server.c  the servers' loop: apply, replicate, publish, take over
 *	ps_worker.c  push and pull
 *
 * Everything travels through one window, by one-sided calls; a rank sees what came by looking into
 * its own memory. Ranks 0 to servers - 1 serve, the others work. A shard is the tensors whose names
 * the ring of servers gives to one of them, one after another. It has a place at its server, and
 * where there are several servers a second one at the next, with an image of all that is needed to
 * go on from there.
 *
 *	a place:	begun, generation + 1 (0: not served here)
 *			parameters of even generations, of odd generations
 *			for each worker a mailbox: the number of its last push, its gradient
 *	second place:	generation + 1 of the last whole image (0: none)
 *			images of even generations, of odd generations: updates, pushes
 *			applied of each worker; parameters; the optimizer's state
 *	a server:	for each worker a word that is 1 when it is done; then the places
 *	a worker:	for each shard: pushes applied of this worker, generation, pushes
 *			applied of the slowest; then for each shard the gradient as sent,
 *			and parameters as received
 *
 * A generation is what was replicated and published at once. One may hold several updates (each
 * push is one where gradients are applied as they come), so only generations alternate between the
 * two slots: what is being written never lies where the last whole one does.
 */
#ifndef RDT_TRAIN_PS_H
#define RDT_TRAIN_PS_H

#include <stdbool.h>

#include <rdtrain/train.h>

#define RDT_PS_LINE 64

/* Words of a place's first line, and of a worker's line for a shard. */
enum { RDT_PS_BEGUN = 0, RDT_PS_PUBLISHED = 8 };
enum { RDT_PS_APPLIED = 0, RDT_PS_SEEN = 8, RDT_PS_SLOWEST = 16 };

struct rdt_ps_shard {
	size_t count; /* elements; 0: nothing is kept there */
	int serving;  /* the server that this rank takes for the one that serves it */
};

/* A shard that this server serves. */
struct rdt_ps_served {
	bool active;
	bool dirty;	    /* the workers do not know the newest */
	int shard, replica; /* replica: the server that gets the images; -1: none */
	size_t place;
	uint64_t generation;
	uint64_t *updates, *applied; /* one piece of memory, as in an image; applied: by worker */
	void *params, *sum;
	rdt_optimizer *optimizer;
};

struct rdt_ps {
	rdt_window *window;
	char *base;
	int rank, size, servers, workers;
	struct rdt_ps_options options;
	size_t element;
	struct rdt_ps_tensor *tensors;
	int n;
	int *shard_of;		     /* by tensor */
	size_t *at;		     /* by tensor: its first element within the shard */
	struct rdt_ps_shard *shards; /* by server */
	int states;		     /* arrays of the optimizer's state */
	int *lost;		     /* room for rdt_window_lost */
	bool *is_lost;		     /* by rank */
	uint64_t pushed;	     /* a worker's */
	uint64_t stale;		     /* at the last pull */
	int failed;		     /* enum rdt_status: a worker that gave up */
	struct rdt_ps_served served[2];
};

/* ps.c: where things lie */
size_t rdt_ps_vector_bytes(const struct rdt_ps *ps, int shard);
size_t rdt_ps_place(const struct rdt_ps *ps, int shard, int server);
size_t rdt_ps_params_at(const struct rdt_ps *ps, int shard, uint64_t generation);
size_t rdt_ps_mailbox_at(const struct rdt_ps *ps, int shard, int worker);
size_t rdt_ps_commit_at(const struct rdt_ps *ps, int shard);
size_t rdt_ps_image_at(const struct rdt_ps *ps, int shard, uint64_t generation);
/* Bytes of its counts: updates, then the pushes applied of each worker. */
size_t rdt_ps_counts_bytes(const struct rdt_ps *ps);
size_t rdt_ps_gradient_at(const struct rdt_ps *ps, int shard);
size_t rdt_ps_landing_at(const struct rdt_ps *ps, int shard);

/* Looks who is lost. */
void rdt_ps_look(struct rdt_ps *ps);
/* The word at `offset` of this rank's own memory, which others write. */
uint64_t rdt_ps_word(const struct rdt_ps *ps, size_t offset);
/* Between two looks at memory in which nothing had changed. */
void rdt_ps_pause(unsigned round);

/* ps_server.c */
int rdt_ps_server_open(struct rdt_ps *ps);
void rdt_ps_server_close(struct rdt_ps *ps);

/* ps_worker.c */
/* Waits until all pushes are applied, and tells the servers that there will be no more. */
void rdt_ps_worker_close(struct rdt_ps *ps);

#endif
