/* SPDX-License-Identifier: BSD-3-Clause */
/* Steps that touch memory, for the files of lib/engine that run programs. The only place where a
 * pointer is formed from a base and an offset on the way to the kernels. */
#ifndef RDT_STEP_H
#define RDT_STEP_H

#include "program.h"

/* Where a span begins within its buffer, for the window that slot `s` is working on. */
static inline uint64_t rdt_position(const struct rdt_program *p, int s,
				    const struct rdt_bound_span *span)
{
	const struct rdt_slot_state *slot = &p->slots[s];

	if (span->buffer == RDT_SCRATCH) {
		uint64_t copy = (uint64_t)s * (uint64_t)p->scratch_epochs +
				(slot->epoch & (uint32_t)(p->scratch_epochs - 1)); /* of 1 or 2 */

		return copy * p->scratch_stride + span->offset;
	}
	return slot->window * p->window_bytes + span->offset;
}

static inline char *rdt_address(const struct rdt_program *p, int s,
				const struct rdt_bound_span *span)
{
	char *base = span->link == RDT_LINK_MINE ? p->local[span->buffer].base
						 : p->links[span->link].mapped[span->buffer];

	return base + rdt_position(p, s, span);
}

static inline void rdt_step_reduce(struct rdt_program *p, int s,
				   const struct rdt_bound_schedule *schedule,
				   const struct rdt_bound_step *step)
{
	const struct rdt_bound_span *dst = &schedule->spans[step->spans];
	const struct rdt_bound_span *src = dst + step->n_dst;

	for (int i = 0; i < step->n_dst; i++)
		p->dsts[i] = rdt_address(p, s, &dst[i]);
	for (int i = 0; i < step->n_src; i++)
		p->srcs[i] = rdt_address(p, s, &src[i]);
	/* Elements have 1, 2, 4 or 8 bytes; a division would take as long as a small sum. */
	p->reduce(p->dsts, step->n_dst, p->srcs, step->n_src,
		  dst->length >> __builtin_ctz(p->elem_size),
		  step->flags & RDT_STEP_FINAL ? p->divisor : 0);
}

#endif
