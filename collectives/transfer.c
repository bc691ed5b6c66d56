/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One vector from rank 0 of the group to rank 1, which need not have been there first: the sender
 * puts it into the receiver's SCRATCH, the receiver copies it to OUTPUT and notifies back.
 *
 * The sender waits for that notification, so that SCRATCH is free when its next run begins: one
 * epoch is enough.
 */
#include "algorithms.h"

struct rdt_cost rdt_cost_transfer(int size, const struct rdt_shape *shape)
{
	if (size < 2)
		return (struct rdt_cost){ 0 };
	return (struct rdt_cost){ .rounds = 2, .bytes = shape->bytes, .puts = 2 };
}

int rdt_emit_transfer(const struct rdt_group *group, const struct rdt_shape *shape,
		      struct rdt_schedule *out)
{
	int from, to;

	/* Nobody to send to. */
	if (group->size < 2 || group->rank > 1)
		return rdt_schedule_finish(out);

	from = rdt_group_peer(group, 0);
	to = rdt_group_peer(group, 1);
	out->scratch_bytes = shape->bytes;
	if (group->rank == 0) {
		rdt_put(out, 0, to, rdt_span(RDT_SCRATCH, to, 0, shape->bytes),
			rdt_span(RDT_INPUT, from, 0, shape->bytes));
		rdt_wait_for(out, 0, to, 1);
		return rdt_schedule_finish(out);
	}
	rdt_wait_for(out, 0, from, 1);
	rdt_copy(out, 0, rdt_span(RDT_OUTPUT, to, 0, shape->bytes),
		 rdt_span(RDT_SCRATCH, to, 0, shape->bytes));
	rdt_notify(out, 0, from);
	return rdt_schedule_finish(out);
}
