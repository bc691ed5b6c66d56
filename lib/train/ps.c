/* SPDX-License-Identifier: BSD-3-Clause */
/* The parameter server: who keeps what, where it lies, life. See ps.h. */
#include "ps.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hash_ring.h"

#define TIMEOUT_S 600
#define YIELDS 100
#define OPTIONS_TEXT 512 /* holds 16 numbers */

/* ---- where things lie ------------------------------------------------------------------------ */

static size_t lines(size_t bytes)
{
	return (bytes + RDT_PS_LINE - 1) / RDT_PS_LINE * RDT_PS_LINE;
}

size_t rdt_ps_vector_bytes(const struct rdt_ps *ps, int shard)
{
	return lines(ps->shards[shard].count * ps->element);
}

static size_t mailbox_bytes(const struct rdt_ps *ps, int shard)
{
	return RDT_PS_LINE + rdt_ps_vector_bytes(ps, shard);
}

size_t rdt_ps_counts_bytes(const struct rdt_ps *ps)
{
	return (1 + (size_t)ps->workers) * sizeof(uint64_t);
}

static size_t image_bytes(const struct rdt_ps *ps, int shard)
{
	return lines(rdt_ps_counts_bytes(ps)) +
	       (size_t)(1 + ps->states) * rdt_ps_vector_bytes(ps, shard);
}

/* Within a place: */
size_t rdt_ps_params_at(const struct rdt_ps *ps, int shard, uint64_t generation)
{
	return RDT_PS_LINE + generation % 2 * rdt_ps_vector_bytes(ps, shard);
}

size_t rdt_ps_mailbox_at(const struct rdt_ps *ps, int shard, int worker)
{
	return RDT_PS_LINE + 2 * rdt_ps_vector_bytes(ps, shard) +
	       (size_t)worker * mailbox_bytes(ps, shard);
}

size_t rdt_ps_commit_at(const struct rdt_ps *ps, int shard)
{
	return rdt_ps_mailbox_at(ps, shard, ps->workers);
}

size_t rdt_ps_image_at(const struct rdt_ps *ps, int shard, uint64_t generation)
{
	return rdt_ps_commit_at(ps, shard) + RDT_PS_LINE + generation % 2 * image_bytes(ps, shard);
}

/* The first place of a server is its own shard's, the second its predecessor's. */
size_t rdt_ps_place(const struct rdt_ps *ps, int shard, int server)
{
	size_t first = lines((size_t)ps->workers * sizeof(uint64_t));

	return server == shard ? first : first + rdt_ps_commit_at(ps, server);
}

static size_t server_bytes(const struct rdt_ps *ps, int server)
{
	int before = (server + ps->servers - 1) % ps->servers;

	if (ps->servers == 1)
		return rdt_ps_place(ps, server, server) + rdt_ps_commit_at(ps, server);
	return rdt_ps_place(ps, before, server) + rdt_ps_image_at(ps, before, 0) +
	       2 * image_bytes(ps, before);
}

/* At a worker: */
size_t rdt_ps_gradient_at(const struct rdt_ps *ps, int shard)
{
	size_t at = (size_t)ps->servers * RDT_PS_LINE;

	for (int s = 0; s < shard; s++)
		at += 2 * rdt_ps_vector_bytes(ps, s);
	return at;
}

size_t rdt_ps_landing_at(const struct rdt_ps *ps, int shard)
{
	return rdt_ps_gradient_at(ps, shard) + rdt_ps_vector_bytes(ps, shard);
}

/* ---- looking --------------------------------------------------------------------------------- */

void rdt_ps_look(struct rdt_ps *ps)
{
	int n = rdt_window_lost(ps->window, ps->lost, ps->size);

	for (int i = 0; i < n && i < ps->size; i++)
		ps->is_lost[ps->lost[i]] = true;
}

uint64_t rdt_ps_word(const struct rdt_ps *ps, size_t offset)
{
	/* acquire: with the word is there what was put before it */
	return __atomic_load_n((uint64_t *)(void *)(ps->base + offset), __ATOMIC_ACQUIRE);
}

void rdt_ps_pause(unsigned round)
{
	struct timespec t = { .tv_nsec = 50000 };

	if (round < YIELDS)
		sched_yield();
	else
		nanosleep(&t, NULL);
}

/* ---- life ------------------------------------------------------------------------------------ */

static int check_options(const struct rdt_ps_options *o, int size)
{
	if (o->size != sizeof(*o))
		return rdt_set_error(RDT_ERR_INVALID, "rdt_ps_create: options.size is not "
						      "sizeof(struct rdt_ps_options)");
	if (o->servers < 0 || o->servers >= size)
		return rdt_set_error(RDT_ERR_INVALID,
				     "rdt_ps_create: %d servers of %d ranks; at least one of each "
				     "serves and works",
				     o->servers ? o->servers : 1, size);
	if ((unsigned)o->mode > RDT_PS_STALE)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_ps_create: mode %d", (int)o->mode);
	if (o->type != RDT_FLOAT32 && o->type != RDT_FLOAT64)
		return rdt_set_error(RDT_ERR_INVALID,
				     "rdt_ps_create: parameters are float32 or float64");
	if (!(o->timeout_s >= 0))
		return rdt_set_error(RDT_ERR_INVALID, "rdt_ps_create: a timeout of %g s",
				     o->timeout_s);
	return 0;
}

static int check_tensors(const struct rdt_ps_tensor *tensors, int n)
{
	for (int i = 0; i < n; i++) {
		if (!tensors[i].name || (tensors[i].count && !tensors[i].data) ||
		    tensors[i].count > SIZE_MAX / 64)
			return rdt_set_error(RDT_ERR_INVALID,
					     "rdt_ps_create: tensor %d has no name, no data, or "
					     "%zu elements",
					     i, tensors[i].count);
		for (int k = 0; k < i; k++)
			if (strcmp(tensors[i].name, tensors[k].name) == 0)
				return rdt_set_error(RDT_ERR_INVALID,
						     "rdt_ps_create: tensors %d and %d are both "
						     "called \"%s\"",
						     k, i, tensors[i].name);
	}
	return 0;
}

static int place_tensors(struct rdt_ps *ps)
{
	struct rdt_hash_ring ring = { 0 };
	uint32_t *nodes = calloc((size_t)ps->servers, sizeof(*nodes));
	int status;

	if (!nodes)
		return rdt_set_error(RDT_ERR_NOMEM, "out of memory for %d servers", ps->servers);
	for (int s = 0; s < ps->servers; s++)
		nodes[s] = (uint32_t)s;
	status = rdt_hash_ring_make(&ring, nodes, (size_t)ps->servers, 0);
	for (int i = 0; i < ps->n && !status; i++) {
		const char *name = ps->tensors[i].name;

		ps->shard_of[i] =
			(int)rdt_hash_ring_owner(&ring, rdt_hash_bytes(name, strlen(name)));
		ps->at[i] = ps->shards[ps->shard_of[i]].count;
		ps->shards[ps->shard_of[i]].count += ps->tensors[i].count;
	}
	rdt_hash_ring_free(&ring);
	free(nodes);
	return status;
}

/* Do all ranks say the same? Numbers are compared to the last bit. */
static int agree(struct rdt_ps *ps, rdt_comm *comm)
{
	const struct rdt_ps_options *o = &ps->options;
	const struct rdt_optimizer_options *optimizer = &o->optimizer;
	size_t bytes = OPTIONS_TEXT, used;
	char *text;
	int status;

	for (int i = 0; i < ps->n; i++)
		bytes += strlen(ps->tensors[i].name) + 32;
	text = calloc(1, bytes);
	if (!text)
		return rdt_set_error(RDT_ERR_NOMEM, "out of memory for %d names", ps->n);
	used = (size_t)snprintf(
		text, bytes, "%d %d %llu %d %a; %d %a %a %a %a; %d %a %llu %llu %a %a;", o->servers,
		(int)o->mode, (unsigned long long)o->staleness, (int)o->type, o->timeout_s,
		(int)optimizer->kind, optimizer->momentum, optimizer->beta1, optimizer->beta2,
		optimizer->epsilon, (int)o->rate.kind, o->rate.base,
		(unsigned long long)o->rate.warmup, (unsigned long long)o->rate.every,
		o->rate.factor, o->rate.least);
	for (int i = 0; i < ps->n && used < bytes; i++)
		used += (size_t)snprintf(text + used, bytes - used, "%s %zu;", ps->tensors[i].name,
					 ps->tensors[i].count);
	status = rdt_check_equal(comm, "rdt_ps_create: options, names and sizes", text, used);
	free(text);
	/* All begin with the parameters of rank 0. */
	for (int i = 0; i < ps->n && !status; i++)
		status = rdt_broadcast(comm, ps->tensors[i].data, ps->tensors[i].count,
				       ps->options.type, 0);
	return status;
}

static size_t own_bytes(const struct rdt_ps *ps)
{
	return ps->rank < ps->servers ? server_bytes(ps, ps->rank)
				      : rdt_ps_gradient_at(ps, ps->servers);
}

static struct rdt_ps *new_ps(rdt_comm *comm, const struct rdt_ps_options *options,
			     const struct rdt_ps_tensor *tensors, int n)
{
	size_t size = (size_t)rdt_comm_size(comm);
	struct rdt_ps *ps = calloc(1, sizeof(*ps));

	if (!ps)
		return NULL;
	ps->options = *options;
	ps->options.servers = options->servers ? options->servers : 1;
	ps->options.timeout_s = options->timeout_s > 0 ? options->timeout_s : TIMEOUT_S;
	ps->options.optimizer.size = sizeof(ps->options.optimizer);
	ps->rank = rdt_comm_rank(comm);
	ps->size = (int)size;
	ps->servers = ps->options.servers;
	ps->workers = ps->size - ps->servers;
	ps->element = rdt_type_size(options->type);
	ps->n = n;
	ps->tensors = calloc((size_t)n + 1, sizeof(*tensors));
	ps->shard_of = calloc((size_t)n + 1, sizeof(*ps->shard_of));
	ps->at = calloc((size_t)n + 1, sizeof(*ps->at));
	ps->shards = calloc(size, sizeof(*ps->shards));
	ps->lost = calloc(size, sizeof(*ps->lost));
	ps->is_lost = calloc(size, sizeof(*ps->is_lost));
	for (int i = 0; ps->tensors && i < n; i++) {
		ps->tensors[i] = tensors[i];
		ps->tensors[i].name = strdup(tensors[i].name);
		if (!ps->tensors[i].name)
			ps->n = -1;
	}
	for (int s = 0; ps->shards && s < ps->servers; s++)
		ps->shards[s].serving = s;
	return ps;
}

static void free_ps(struct rdt_ps *ps)
{
	for (int i = 0; ps->tensors && i < ps->n; i++)
		free((char *)(uintptr_t)ps->tensors[i].name);
	free(ps->tensors);
	free(ps->shard_of);
	free(ps->at);
	free(ps->shards);
	free(ps->lost);
	free(ps->is_lost);
	free(ps);
}

static int open_ps(struct rdt_ps *ps, rdt_comm *comm)
{
	rdt_optimizer *optimizer;
	int status;

	if (ps->n < 0 || !ps->tensors || !ps->shard_of || !ps->at || !ps->shards || !ps->lost ||
	    !ps->is_lost)
		return rdt_set_error(RDT_ERR_NOMEM, "out of memory for a parameter server");
	/* How much state it keeps, and whether its options are right. */
	status = rdt_optimizer_create(&ps->options.optimizer, 1, ps->options.type, &optimizer);
	if (status)
		return status;
	ps->states = rdt_optimizer_states(optimizer);
	rdt_optimizer_destroy(optimizer);
	status = place_tensors(ps);
	if (!status)
		status = agree(ps, comm);
	if (!status)
		status = rdt_window_create(comm, NULL, own_bytes(ps), &ps->window);
	if (status)
		return status;
	ps->base = rdt_window_base(ps->window);
	if (ps->rank < ps->servers)
		status = rdt_ps_server_open(ps);
	/* From here on nobody needs the communicator. */
	return status ? status : rdt_barrier(comm);
}

int rdt_ps_create(rdt_comm *comm, const struct rdt_ps_options *options,
		  const struct rdt_ps_tensor *tensors, int n, rdt_ps **out)
{
	struct rdt_ps *ps;
	int status;

	if (!out)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_ps_create: ps is NULL");
	*out = NULL;
	if (!comm || !options || !tensors || n < 1)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_ps_create: %s",
				     !comm	? "comm is NULL"
				     : !options ? "options is NULL"
						: "there are no tensors");
	status = check_options(options, rdt_comm_size(comm));
	if (!status)
		status = check_tensors(tensors, n);
	if (status)
		return status;
	ps = new_ps(comm, options, tensors, n);
	if (!ps)
		return rdt_set_error(RDT_ERR_NOMEM, "out of memory for a parameter server");
	status = open_ps(ps, comm);
	if (status) {
		rdt_ps_server_close(ps);
		rdt_window_destroy(ps->window);
		free_ps(ps);
		return status;
	}
	*out = ps;
	return 0;
}

int rdt_ps_is_server(const rdt_ps *ps)
{
	return ps && ps->rank < ps->servers;
}

void rdt_ps_destroy(rdt_ps *ps)
{
	if (!ps)
		return;
	if (!rdt_ps_is_server(ps))
		rdt_ps_worker_close(ps);
	rdt_window_destroy(ps->window);
	rdt_ps_server_close(ps);
	free_ps(ps);
}
