/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Allreduce of small vectors among ranks of one host: every rank writes its vector on its own
 * board, in SCRATCH, and reads all the others' there. So a vector is written once, however many
 * read it, and nothing is put but notifications: and not even those, where the engine runs this
 * (see lib/engine/board.h), for which the vector begins RDT_BOARD_HEADER bytes behind the board's.
 *
 * Why two epochs of scratch: a rank that has everybody's vector is through, and may write its next
 * one while another still reads. By the time it writes the one after that, it has had that rank's
 * next vector, which was written after the reading.
 */
#include <stdlib.h>

#include "algorithms.h"

struct rdt_cost rdt_cost_board(int size, const struct rdt_shape *shape)
{
	(void)shape;
	return (struct rdt_cost){
		.rounds = size > 1,
		.puts = (uint64_t)size * (uint64_t)(size - 1),
	};
}

int rdt_emit_board(const struct rdt_group *group, const struct rdt_shape *shape,
		   struct rdt_schedule *out)
{
	int n = group->size, me = rdt_group_peer(group, group->rank);
	struct rdt_span input = rdt_span(RDT_INPUT, me, 0, shape->bytes);
	struct rdt_span output = rdt_span(RDT_OUTPUT, me, 0, shape->bytes);
	struct rdt_span *boards;

	if (n == 1) {
		rdt_reduce_to(out, 0, RDT_STEP_FINAL, &output, 1, &input, 1);
		return rdt_schedule_finish(out);
	}
	boards = calloc((size_t)n, sizeof(*boards));
	if (!boards)
		return -1;
	out->scratch_epochs = 2;
	for (int i = 0; i < n; i++)
		boards[i] = rdt_span(RDT_SCRATCH, rdt_group_peer(group, i), RDT_BOARD_HEADER,
				     shape->bytes);
	rdt_copy(out, 0, boards[group->rank], input);
	for (int k = 1; k < n; k++)
		rdt_notify(out, 0, rdt_group_peer(group, rdt_group_shift(group, group->rank, k)));
	for (int k = 1; k < n; k++)
		rdt_wait_for(out, 0, rdt_group_peer(group, rdt_group_shift(group, group->rank, -k)),
			     1);
	rdt_reduce_to(out, 0, RDT_STEP_FINAL, &output, 1, boards, n);
	free(boards);
	return rdt_schedule_finish(out);
}
