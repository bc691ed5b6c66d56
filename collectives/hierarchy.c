/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Allreduce in two levels, for several ranks on some hosts: what can be summed within a host never
 * crosses the network.
 *
 * Hosts may have different numbers of ranks, S the smallest. The vector is divided into S shards.
 * On every host the s-th rank (s < S, in the order of group ranks) owns shard s:
 *
 *   gather   every rank of a host is READY to its owners; an owner sums its shard of all ranks of
 *            the host into its OUTPUT
 *   across   the owners of shard s, one on each host, run another allreduce for it, in place in
 *            their OUTPUT: a schedule of its own, appended to this one
 *   scatter  an owner stores its shard to the other ranks of its host, and is DONE to them
 *
 * With one rank on its host there is nothing to gather, and across starts from INPUT. Ranks beyond
 * the S-th own nothing: they contribute and receive.
 *
 * Where INPUT and OUTPUT are not mapped, SCRATCH begins with a copy of the vector, less the rank's
 * own shard. The owner reads its shard there, and later stores the result to the same place, from
 * where it is copied to OUTPUT. The scratch of `across` follows.
 *
 * Who proves what. Within a host: whoever stores to a rank's memory has its READY of this run, and
 * a rank that has DONE of all owners knows that they have left its memory alone since. Across, the
 * appended algorithm proves it, in place. But its proofs are about its own scratch: when the next
 * run has another length, its slots may lie where this run has the copy of the vector. Hence two
 * epochs always: who is through with a run has heard from the owners on all hosts in it, so they
 * were through with the run before.
 */
#include <stdlib.h>

#include "algorithms.h"
#include "blocks.h"

bool rdt_applies_hierarchy(int size, const struct rdt_shape *shape)
{
	bool several_hosts = false, several_ranks = false;

	for (int i = 1; i < size && shape->host && !(several_hosts && several_ranks); i++) {
		several_hosts = several_hosts || shape->host[i] != shape->host[0];
		for (int k = 0; k < i && !several_ranks; k++)
			several_ranks = shape->host[i] == shape->host[k];
	}
	return several_hosts && several_ranks;
}

/* ---- who sits where ------------------------------------------------------------------------- */

/* The hosts of a group, in the order in which their ranks come. */
struct hosts {
	int *ranks; /* [size] by number: how many ranks */
	int *order; /* [size] by number: which one it is */
	int n;
	int fewest; /* ranks on the host that has the fewest */
};

static int host_of(const struct rdt_shape *shape, int rank)
{
	return shape->host ? shape->host[rank] : rank;
}

/* memory: [2 * size], zeros */
static struct hosts find_hosts(const struct rdt_shape *shape, int size, int *memory)
{
	struct hosts hosts = { .ranks = memory, .order = memory + size, .fewest = size };

	for (int i = 0; i < size; i++) {
		int h = host_of(shape, i);

		if (hosts.ranks[h]++ == 0)
			hosts.order[h] = hosts.n++;
	}
	for (int i = 0; i < size; i++)
		if (hosts.ranks[host_of(shape, i)] < hosts.fewest)
			hosts.fewest = hosts.ranks[host_of(shape, i)];
	return hosts;
}

struct place {
	int *local;  /* group ranks of my host */
	int *across; /* communicator ranks of the owners of my shard, host by host */
	int n_local, n_hosts, shards;
	int index; /* mine in `local`: below `shards`, the shard that I own */
	int host;  /* mine in `across` */
};

/* memory: [3 * size], zeros */
static void find_place(const struct rdt_group *group, const struct rdt_shape *shape, int *memory,
		       struct place *place)
{
	const struct hosts hosts = find_hosts(shape, group->size, memory);
	int *passed = memory + 2 * (size_t)group->size, mine = host_of(shape, group->rank);

	place->shards = hosts.fewest;
	place->n_hosts = hosts.n;
	place->host = hosts.order[mine];
	for (int i = 0; i < group->size; i++) {
		if (host_of(shape, i) != mine)
			continue;
		if (i == group->rank)
			place->index = place->n_local;
		place->local[place->n_local++] = i;
	}
	for (int i = 0; i < group->size && place->index < place->shards; i++) {
		int h = host_of(shape, i);

		if (passed[h]++ == place->index)
			place->across[hosts.order[h]] = rdt_group_peer(group, i);
	}
}

/* ---- the three parts ------------------------------------------------------------------------ */

/* What one rank's schedule is computed from. */
struct task {
	const struct rdt_group *group;
	const struct rdt_shape *shape;
	const struct place *place;
	struct rdt_blocks shards;
	int me;
	bool staged;
};

/* Shard s of `buffer` of the k-th rank of this host. */
static struct rdt_span shard(const struct task *t, enum rdt_buffer buffer, int k, int s)
{
	return rdt_span(buffer, rdt_group_peer(t->group, t->place->local[k]),
			rdt_block_offset(&t->shards, (uint64_t)s),
			rdt_block_bytes(&t->shards, (uint64_t)s));
}

/* Communicator rank of the k-th rank of this host. */
static int local_rank(const struct task *t, int k)
{
	return rdt_group_peer(t->group, t->place->local[k]);
}

/* All shards of the vector but the one that I own. */
static void copy_others(const struct task *t, enum rdt_buffer to, enum rdt_buffer from,
			struct rdt_schedule *out)
{
	uint64_t before = t->shape->bytes, behind = before;

	if (t->place->index < t->place->shards) {
		before = rdt_block_offset(&t->shards, (uint64_t)t->place->index);
		behind = rdt_block_offset(&t->shards, (uint64_t)t->place->index + 1);
	}
	rdt_copy(out, 0, rdt_span(to, t->me, 0, before), rdt_span(from, t->me, 0, before));
	rdt_copy(out, 0, rdt_span(to, t->me, behind, t->shape->bytes - behind),
		 rdt_span(from, t->me, behind, t->shape->bytes - behind));
}

static int gather(const struct task *t, struct rdt_schedule *out)
{
	const struct place *place = t->place;
	struct rdt_span sum, *parts;

	if (t->staged)
		copy_others(t, RDT_SCRATCH, RDT_INPUT, out);
	for (int k = 0; k < place->shards; k++)
		if (k != place->index)
			rdt_notify(out, 0, local_rank(t, k));
	if (place->index >= place->shards || place->n_local == 1)
		return 0;

	parts = calloc((size_t)place->n_local, sizeof(*parts));
	if (!parts)
		return -1;
	sum = shard(t, RDT_OUTPUT, place->index, place->index);
	for (int k = 0; k < place->n_local; k++) {
		bool staged = t->staged && k != place->index;

		parts[k] = shard(t, staged ? RDT_SCRATCH : RDT_INPUT, k, place->index);
		if (k != place->index)
			rdt_wait_for(out, 0, local_rank(t, k), 1);
	}
	rdt_reduce_to(out, 0, 0, &sum, 1, parts, place->n_local);
	free(parts);
	return 0;
}

static void scatter(const struct task *t, struct rdt_schedule *out)
{
	const struct place *place = t->place;

	if (place->index < place->shards)
		for (int k = 0; k < place->n_local; k++) {
			if (k == place->index)
				continue;
			rdt_copy(out, 0,
				 shard(t, t->staged ? RDT_SCRATCH : RDT_OUTPUT, k, place->index),
				 shard(t, RDT_OUTPUT, place->index, place->index));
			rdt_notify(out, 0, local_rank(t, k));
		}
	for (int k = 0; k < place->shards; k++)
		if (k != place->index)
			rdt_wait_for(out, 0, local_rank(t, k), 1);
	if (t->staged)
		copy_others(t, RDT_OUTPUT, RDT_SCRATCH, out);
}

/* The allreduce of shard s among `group`, as if it were alone. */
static int emit_across(const struct task *t, rdt_emit_fn emit, const struct rdt_group *group, int s,
		       struct rdt_schedule *part)
{
	const struct rdt_shape shape = {
		.collective = RDT_COLL_ALLREDUCE,
		.elem_size = t->shape->elem_size,
		.bytes = rdt_block_bytes(&t->shards, (uint64_t)s),
		.remote_output = t->shape->remote_output,
	};

	rdt_schedule_init(part);
	return emit(group, &shape, part);
}

/* Scratch must be equal on all ranks, though shards differ by an element and some ranks own none:
 * the most that any needs. The first shard is the longest, the last the shortest. */
static int measure(const struct task *t, rdt_emit_fn emit, uint64_t *bytes)
{
	const struct rdt_group any = { .rank = 0, .size = t->place->n_hosts };
	const int ends[] = { 0, t->place->shards - 1 };

	*bytes = 0;
	for (int i = 0; i < 2; i++) {
		struct rdt_schedule part;
		int status = emit_across(t, emit, &any, ends[i], &part);

		if (part.scratch_bytes > *bytes)
			*bytes = part.scratch_bytes;
		rdt_schedule_free(&part);
		if (status)
			return status;
	}
	return 0;
}

static int across(const struct task *t, rdt_emit_fn emit, uint64_t scratch,
		  struct rdt_schedule *out)
{
	const struct place *place = t->place;
	const struct rdt_group group = { place->host, place->n_hosts, place->across };
	struct rdt_span base[RDT_BUFFER_COUNT];
	struct rdt_schedule part;
	int status;

	if (place->index >= place->shards)
		return 0;
	base[RDT_OUTPUT] = shard(t, RDT_OUTPUT, place->index, place->index);
	base[RDT_INPUT] = base[RDT_OUTPUT];
	if (place->n_local == 1)
		base[RDT_INPUT].buffer = RDT_INPUT;
	base[RDT_SCRATCH] = rdt_span(RDT_SCRATCH, t->me, scratch, 0);
	status = emit_across(t, emit, &group, place->index, &part);
	if (!status)
		rdt_schedule_append(out, 0, &part, base);
	rdt_schedule_free(&part);
	return status;
}

static int emit_parts(const struct task *t, rdt_emit_fn emit, struct rdt_schedule *out)
{
	/* Equal on all ranks, so also where this host has one rank and needs no copy. */
	uint64_t copied = t->shape->mapped ? 0 : t->shape->bytes, more;

	if (measure(t, emit, &more))
		return -1;
	out->scratch_epochs = 2;
	out->scratch_bytes = copied + more;
	if (gather(t, out) || across(t, emit, copied, out))
		return -1;
	scatter(t, out);
	return rdt_schedule_finish(out);
}

/* Within a host READY and DONE go between each owner and each other rank. */
static struct rdt_cost cost(int size, const struct rdt_shape *shape, rdt_cost_fn cost_across)
{
	int *memory = calloc(2 * (size_t)size, sizeof(*memory));
	struct rdt_shape first = *shape;
	struct rdt_blocks blocks;
	struct rdt_cost sum = { 0 };
	struct hosts hosts;

	if (!memory)
		return sum; /* the schedules will say so */
	hosts = find_hosts(shape, size, memory);
	free(memory);
	blocks = (struct rdt_blocks){ shape->bytes / shape->elem_size, (uint64_t)hosts.fewest,
				      shape->elem_size };
	first.bytes = rdt_block_max(&blocks);
	sum = cost_across(hosts.n, &first);
	sum.puts = (uint64_t)hosts.fewest * (sum.puts + 2 * (uint64_t)(size - hosts.n));
	if (hosts.n < size)
		sum.rounds += 2;
	return sum;
}

static int emit_hierarchy(const struct rdt_group *group, const struct rdt_shape *shape,
			  rdt_emit_fn emit, struct rdt_schedule *out)
{
	size_t size = (size_t)group->size;
	int *memory = calloc(5 * size, sizeof(*memory)), status;
	struct place place = { .local = memory, .across = memory + size };
	struct task task = { .group = group, .shape = shape, .place = &place };

	if (!memory)
		return -1;
	find_place(group, shape, memory + 2 * size, &place);
	task.shards = (struct rdt_blocks){ shape->bytes / shape->elem_size, (uint64_t)place.shards,
					   shape->elem_size };
	task.me = rdt_group_peer(group, group->rank);
	task.staged = !shape->mapped && place.n_local > 1;
	status = emit_parts(&task, emit, out);
	free(memory);
	return status;
}

int rdt_emit_hierarchy_ring(const struct rdt_group *group, const struct rdt_shape *shape,
			    struct rdt_schedule *out)
{
	return emit_hierarchy(group, shape, rdt_emit_ring, out);
}

struct rdt_cost rdt_cost_hierarchy_ring(int size, const struct rdt_shape *shape)
{
	return cost(size, shape, rdt_cost_ring);
}

int rdt_emit_hierarchy_circulant(const struct rdt_group *group, const struct rdt_shape *shape,
				 struct rdt_schedule *out)
{
	return emit_hierarchy(group, shape, rdt_emit_circulant_allreduce, out);
}

struct rdt_cost rdt_cost_hierarchy_circulant(int size, const struct rdt_shape *shape)
{
	return cost(size, shape, rdt_cost_circulant_allreduce);
}
