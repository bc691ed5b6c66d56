/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A group: some ranks of a communicator, renumbered 0..size-1. Emitters compute in group ranks and
 * write communicator ranks into their steps, so that one algorithm can be run among the leaders of
 * hosts, the ranks of a host, or everybody, without being copied.
 */
#ifndef RDT_GROUP_H
#define RDT_GROUP_H

struct rdt_group {
	int rank; /* mine, in the group */
	int size;
	const int *map; /* group rank -> communicator rank; NULL: the identity */
};

static inline int rdt_group_peer(const struct rdt_group *group, int group_rank)
{
	return group->map ? group->map[group_rank] : group_rank;
}

/* `group_rank` + `by`, around the ring; `by` may be negative, but not below -size. */
static inline int rdt_group_shift(const struct rdt_group *group, int group_rank, int by)
{
	return (group_rank + by + group->size) % group->size;
}

#endif
