/* SPDX-License-Identifier: BSD-3-Clause */
/* Room for records; see records.h. */
#include "records.h"

#include <stdlib.h>
#include <string.h>

#include "lib/engine/check.h"

/* What a rank tells of its records; behind it the peers, in the order of its links. */
struct exported {
	uint64_t offset; /* of the first, in its scratch */
	uint32_t ring, n_links;
};

static uint32_t larger(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* The most notifications of one lane from one peer in one run. */
static int longest(const struct rdt_program *p, uint32_t *out)
{
	uint32_t *waits = calloc((size_t)p->n_links, sizeof(*waits));

	*out = 0;
	if (!waits)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for %d links", p->n_links);
	for (int i = 0; i < p->n_schedules; i++)
		for (int l = 0; l < p->schedules[i].n_lanes; l++) {
			const struct rdt_bound_lane *lane = &p->schedules[i].lanes[l];

			memset(waits, 0, (size_t)p->n_links * sizeof(*waits));
			for (uint32_t k = 0; k < lane->n_steps; k++)
				if (lane->steps[k].kind == RDT_WAIT) {
					waits[lane->steps[k].link] += lane->steps[k].count;
					*out = larger(*out, waits[lane->steps[k].link]);
				}
		}
	free(waits);
	return 0;
}

int rdt_records_make(rdt_plan *plan)
{
	struct rdt_program *p = &plan->program;
	size_t lanes = (size_t)(p->n_slots * p->n_lanes);
	struct rdt_check *check;
	uint32_t most;
	int status;

	if (!plan->comm->config.check || p->n_links == 0)
		return 0;
	status = longest(p, &most);
	if (status)
		return status;
	check = p->check = calloc(1, sizeof(*check));
	if (!check)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for RDTRAIN_CHECK=1");
	check->rank = plan->comm->rank;
	/* Peers are at most one run ahead. */
	for (check->ring = 2; check->ring < 2 * most; check->ring *= 2)
		;
	check->sent = calloc((size_t)p->n_links * lanes, sizeof(*check->sent));
	check->taken = calloc((size_t)p->n_links * lanes, sizeof(*check->taken));
	check->pending = calloc(lanes, sizeof(*check->pending));
	if (!check->sent || !check->taken || !check->pending)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for RDTRAIN_CHECK=1");
	for (int l = 0; l < p->n_links; l++)
		p->links[l].used |= 1u << RDT_SCRATCH;
	return 0;
}

void rdt_records_free(rdt_plan *plan)
{
	struct rdt_check *check = plan->program.check;

	if (!check)
		return;
	free(check->sent);
	free(check->taken);
	free(check->pending);
	free(check);
}

uint64_t rdt_records_place(rdt_plan *plan, uint64_t bytes)
{
	const struct rdt_program *p = &plan->program;

	if (!p->check)
		return bytes;
	p->check->offset = (bytes + 63) / 64 * 64;
	return p->check->offset + rdt_record_ring(p, (uint32_t)p->n_links, 0) * p->check->ring *
					  sizeof(struct rdt_record);
}

int rdt_records_fit(const rdt_plan *plan)
{
	const struct rdt_program *p = &plan->program;
	uint32_t most;
	int status;

	if (!p->check)
		return 0;
	status = longest(p, &most);
	if (!status && 2 * most > p->check->ring)
		status = rdt_err(RDT_ERR_SYSTEM,
				 "RDTRAIN_CHECK=1: %u notifications of one peer, and room for %u",
				 2 * most, p->check->ring);
	return status;
}

size_t rdt_records_blob(const rdt_comm *comm)
{
	return comm->config.check ? sizeof(struct exported) + (size_t)comm->size * sizeof(uint32_t)
				  : 0;
}

size_t rdt_records_export(const rdt_plan *plan, unsigned char *blob)
{
	const struct rdt_program *p = &plan->program;
	struct exported e;
	size_t at = sizeof(e);

	if (!p->check)
		return 0;
	e = (struct exported){ p->check->offset, p->check->ring, (uint32_t)p->n_links };
	memcpy(blob, &e, sizeof(e));
	for (int l = 0; l < p->n_links; l++, at += sizeof(uint32_t)) {
		uint32_t peer = (uint32_t)p->links[l].peer;

		memcpy(blob + at, &peer, sizeof(peer));
	}
	return at;
}

int rdt_records_import(rdt_plan *plan, int l, const unsigned char *blob, size_t length, size_t *at)
{
	struct rdt_program *p = &plan->program;
	struct rdt_link *link = &p->links[l];
	size_t lanes = (size_t)(p->n_slots * p->n_lanes);
	struct exported e;

	*at = 0;
	if (!p->check)
		return 0;
	if (length < sizeof(e))
		goto malformed;
	memcpy(&e, blob, sizeof(e));
	*at = sizeof(e) + e.n_links * sizeof(uint32_t);
	if (*at > length || e.ring == 0)
		goto malformed;
	link->ring = e.ring;
	for (uint32_t i = 0; i < e.n_links; i++) {
		uint32_t peer;

		memcpy(&peer, blob + sizeof(e) + i * sizeof(peer), sizeof(peer));
		if (peer != (uint32_t)plan->comm->rank)
			continue;
		link->records = e.offset + i * lanes * e.ring * sizeof(struct rdt_record);
		return 0;
	}
malformed:
	return rdt_err(RDT_ERR_SYSTEM,
		       "rank %d sent a malformed description of its memory; has every rank the "
		       "same version?",
		       link->peer);
}
