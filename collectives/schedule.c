/* SPDX-License-Identifier: BSD-3-Clause */
/* The builder of schedules, and a printer; see schedule.h. No I/O but the printer's. */
#include "schedule.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const char *rdt_collective_name(enum rdt_collective collective)
{
	static const char *const names[] = {
		"allreduce", "reduce_scatter", "allgather", "broadcast", "reduce",
		"gather",    "scatter",	       "alltoall",  "barrier",	 "send",
	};

	return (unsigned)collective < RDT_COLL_COUNT ? names[collective] : NULL;
}

void rdt_schedule_init(struct rdt_schedule *s)
{
	*s = (struct rdt_schedule){ .scratch_epochs = 1 };
}

void rdt_schedule_free(struct rdt_schedule *s)
{
	for (int l = 0; l < RDT_MAX_LANES; l++)
		free(s->lanes[l].steps);
	free(s->spans);
	rdt_schedule_init(s);
}

static bool grow(void **array, size_t *capacity, size_t needed, size_t size)
{
	size_t more = *capacity ? 2 * *capacity : 16;
	void *grown;

	if (needed <= *capacity)
		return true;
	if (more < needed)
		more = needed;
	grown = realloc(*array, more * size);
	if (!grown)
		return false;
	*array = grown;
	*capacity = more;
	return true;
}

/* A new step with room for its spans; NULL once memory has run out. */
static struct rdt_step *add(struct rdt_schedule *s, int l, enum rdt_step_kind kind, int n_dst,
			    int n_src)
{
	struct rdt_lane *lane;
	struct rdt_step *step;

	if (s->failed || l < 0 || l >= RDT_MAX_LANES) {
		s->failed = true;
		return NULL;
	}
	lane = &s->lanes[l];
	if (!grow((void **)&lane->steps, &lane->cap_steps, lane->n_steps + 1,
		  sizeof(*lane->steps)) ||
	    !grow((void **)&s->spans, &s->cap_spans, s->n_spans + (size_t)(n_dst + n_src),
		  sizeof(*s->spans))) {
		s->failed = true;
		return NULL;
	}
	if (l >= s->n_lanes)
		s->n_lanes = l + 1;
	step = &lane->steps[lane->n_steps++];
	*step = (struct rdt_step){
		.kind = (uint8_t)kind,
		.n_dst = (uint16_t)n_dst,
		.n_src = (uint16_t)n_src,
		.peer = -1,
		.spans = (uint32_t)s->n_spans,
	};
	return step;
}

/* All ranks have scratch of the same size, so a span of anybody's counts. */
static void add_spans(struct rdt_schedule *s, const struct rdt_span *spans, int n)
{
	for (int i = 0; i < n; i++) {
		uint64_t end = spans[i].offset + spans[i].length;

		if (spans[i].buffer == RDT_SCRATCH && spans[i].length && end > s->scratch_bytes)
			s->scratch_bytes = end;
		s->spans[s->n_spans++] = spans[i];
	}
}

void rdt_put(struct rdt_schedule *s, int lane, int peer, struct rdt_span dst, struct rdt_span src)
{
	struct rdt_step *step = add(s, lane, RDT_PUT, 1, 1);

	if (!step)
		return;
	step->peer = peer;
	add_spans(s, &dst, 1);
	add_spans(s, &src, 1);
}

void rdt_notify(struct rdt_schedule *s, int lane, int peer)
{
	struct rdt_span nothing = rdt_span(RDT_SCRATCH, peer, 0, 0);

	rdt_put(s, lane, peer, nothing, nothing);
}

void rdt_wait_for(struct rdt_schedule *s, int lane, int peer, uint32_t n)
{
	struct rdt_step *step = add(s, lane, RDT_WAIT, 0, 0);

	if (!step)
		return;
	step->peer = peer;
	step->count = n;
}

void rdt_reduce_to(struct rdt_schedule *s, int lane, unsigned flags, const struct rdt_span *dst,
		   int n_dst, const struct rdt_span *src, int n_src)
{
	struct rdt_step *step;

	if (dst[0].length == 0)
		return;
	step = add(s, lane, RDT_REDUCE, n_dst, n_src);
	if (!step)
		return;
	step->flags = (uint8_t)flags;
	add_spans(s, dst, n_dst);
	add_spans(s, src, n_src);
}

void rdt_copy(struct rdt_schedule *s, int lane, struct rdt_span dst, struct rdt_span src)
{
	if (dst.length == 0 || !add(s, lane, RDT_COPY, 1, 1))
		return;
	add_spans(s, &dst, 1);
	add_spans(s, &src, 1);
}

void rdt_schedule_append(struct rdt_schedule *s, int lane, const struct rdt_schedule *part,
			 const struct rdt_span base[RDT_BUFFER_COUNT])
{
	if (part->failed || part->n_lanes > 1) {
		s->failed = true;
		return;
	}
	for (size_t i = 0; i < part->lanes[0].n_steps; i++) {
		const struct rdt_step *from = &part->lanes[0].steps[i];
		struct rdt_step *to =
			add(s, lane, (enum rdt_step_kind)from->kind, from->n_dst, from->n_src);

		if (!to)
			return;
		to->flags = from->flags;
		to->peer = from->peer;
		to->count = from->count;
		for (int k = 0; k < from->n_dst + from->n_src; k++) {
			struct rdt_span span = part->spans[from->spans + (uint32_t)k];

			span.offset += base[span.buffer].offset;
			span.buffer = base[span.buffer].buffer;
			add_spans(s, &span, 1);
		}
	}
}

int rdt_schedule_finish(struct rdt_schedule *s)
{
	/* A rank alone may have nothing to do; it still has a lane to do it in. */
	if (s->n_lanes == 0)
		s->n_lanes = 1;
	return s->failed ? -1 : 0;
}

uint64_t rdt_schedule_waits(const struct rdt_schedule *s)
{
	uint64_t sum = 0;

	for (int l = 0; l < s->n_lanes; l++)
		for (size_t i = 0; i < s->lanes[l].n_steps; i++)
			if (s->lanes[l].steps[i].kind == RDT_WAIT)
				sum += s->lanes[l].steps[i].count;
	return sum;
}

static void print_span(FILE *to, const struct rdt_span *span)
{
	static const char *const names[] = { "INPUT", "OUTPUT", "SCRATCH" };

	fprintf(to, " %s@%d[%" PRIu64 "..%" PRIu64 ")",
		(unsigned)span->buffer < RDT_BUFFER_COUNT ? names[span->buffer] : "?", span->rank,
		span->offset, span->offset + span->length);
}

static void print_step(FILE *to, const struct rdt_schedule *s, const struct rdt_step *step)
{
	const struct rdt_span *dst = rdt_step_dst(s, step), *src = rdt_step_src(s, step);

	switch ((enum rdt_step_kind)step->kind) {
	case RDT_PUT:
		if (src->length == 0) {
			fprintf(to, "NOTIFY %d", step->peer);
			return;
		}
		fprintf(to, "PUT");
		break;
	case RDT_WAIT: fprintf(to, "WAIT %u from %d", step->count, step->peer); return;
	case RDT_REDUCE: fprintf(to, "REDUCE"); break;
	case RDT_COPY: fprintf(to, "COPY"); break;
	}
	for (int k = 0; k < step->n_src; k++)
		print_span(to, &src[k]);
	fprintf(to, " ->");
	for (int k = 0; k < step->n_dst; k++)
		print_span(to, &dst[k]);
	if (step->flags & RDT_STEP_FINAL)
		fprintf(to, " FINAL");
}

void rdt_step_format(char *out, size_t size, const struct rdt_schedule *s,
		     const struct rdt_step *step)
{
	FILE *to = fmemopen(out, size, "w");

	*out = '\0';
	if (!to)
		return;
	print_step(to, s, step);
	fclose(to); /* ends the string, cut short where it did not fit */
	out[size - 1] = '\0';
}

void rdt_schedule_print(FILE *to, const struct rdt_schedule *s)
{
	for (int l = 0; l < s->n_lanes; l++)
		for (size_t i = 0; i < s->lanes[l].n_steps; i++) {
			fprintf(to, "lane %d step %zu: ", l, i);
			print_step(to, s, &s->lanes[l].steps[i]);
			fputc('\n', to);
		}
}
