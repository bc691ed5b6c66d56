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

/* Do ranks a and b sit together? Without host numbers only a rank with itself. */
static bool together(const struct rdt_shape *shape, int a, int b)
{
	return a == b || rdt_shares_host(shape, a, b);
}

bool rdt_applies_hierarchy(int size, const struct rdt_shape *shape)
{
	bool several_hosts = false, several_ranks = false;

	for (int i = 0; i < size; i++)
		for (int k = 0; k < i; k++) {
			several_ranks = several_ranks || together(shape, i, k);
			several_hosts = several_hosts || !together(shape, i, k);
		}
	return several_hosts && several_ranks;
}

/* ---- who sits where ------------------------------------------------------------------------- */

struct place {
	int *local;  /* group ranks of my host */
	int *across; /* communicator ranks of the owners of my shard, host by host */
	int n_local, n_hosts, shards;
	int index; /* mine in `local`: below `shards`, the shard that I own */
	int host;  /* mine in `across` */
};

/* The index-th rank on `first`'s host, which `first` is the first of; -1: there are fewer. */
static int on_host(const struct rdt_group *group, const struct rdt_shape *shape, int first,
		   int index)
{
	for (int i = first; i < group->size; i++)
		if (together(shape, first, i) && index-- == 0)
			return i;
	return -1;
}

static bool first_on_host(const struct rdt_shape *shape, int rank)
{
	for (int i = 0; i < rank; i++)
		if (together(shape, i, rank))
			return false;
	return true;
}

static int ranks_on_host(const struct rdt_shape *shape, int size, int rank)
{
	int n = 0;

	for (int i = 0; i < size; i++)
		n += together(shape, i, rank);
	return n;
}

/* How many ranks there are on the host that has the fewest. */
static int fewest_ranks(const struct rdt_shape *shape, int size)
{
	int fewest = size;

	for (int i = 0; i < size; i++) {
		int there = ranks_on_host(shape, size, i);

		fewest = there < fewest ? there : fewest;
	}
	return fewest;
}

static void find_place(const struct rdt_group *group, const struct rdt_shape *shape,
		       struct place *place)
{
	place->shards = fewest_ranks(shape, group->size);
	for (int i = 0; i < group->size; i++) {
		if (!together(shape, i, group->rank))
			continue;
		if (i == group->rank)
			place->index = place->n_local;
		place->local[place->n_local++] = i;
	}
	for (int i = 0; i < group->size; i++) {
		if (!first_on_host(shape, i))
			continue;
		if (together(shape, i, group->rank))
			place->host = place->n_hosts;
		if (place->index < place->shards)
			place->across[place->n_hosts] =
				rdt_group_peer(group, on_host(group, shape, i, place->index));
		place->n_hosts++;
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
	int shards = fewest_ranks(shape, size), hosts = 0;
	struct rdt_blocks blocks = { shape->bytes / shape->elem_size, (uint64_t)shards,
				     shape->elem_size };
	struct rdt_shape first = *shape;
	struct rdt_cost sum;

	for (int i = 0; i < size; i++)
		hosts += first_on_host(shape, i);
	first.bytes = rdt_block_max(&blocks);
	sum = cost_across(hosts, &first);
	sum.puts = (uint64_t)shards * (sum.puts + 2 * (uint64_t)(size - hosts));
	if (hosts < size)
		sum.rounds += 2;
	return sum;
}

static int emit_hierarchy(const struct rdt_group *group, const struct rdt_shape *shape,
			  rdt_emit_fn emit, struct rdt_schedule *out)
{
	int *ranks = calloc(2 * (size_t)group->size, sizeof(*ranks)), status;
	struct place place = { .local = ranks, .across = ranks + group->size };
	struct task task = { .group = group, .shape = shape, .place = &place };

	if (!ranks)
		return -1;
	find_place(group, shape, &place);
	task.shards = (struct rdt_blocks){ shape->bytes / shape->elem_size, (uint64_t)place.shards,
					   shape->elem_size };
	task.me = rdt_group_peer(group, group->rank);
	task.staged = !shape->mapped && place.n_local > 1;
	status = emit_parts(&task, emit, out);
	free(ranks);
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
