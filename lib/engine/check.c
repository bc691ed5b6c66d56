/* SPDX-License-Identifier: BSD-3-Clause */
/* Records of what was put, formed and compared; see check.h. */
#include "check.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lib/base/error.h"

#define BUFFER_SHIFT 56

_Static_assert(sizeof(struct rdt_record) == 32, "records lie side by side in cache lines");

uint64_t rdt_hash(const void *bytes, size_t length)
{
	return XXH3_64bits(bytes, length);
}

static uint32_t self_of(const struct rdt_record *record)
{
	return (uint32_t)XXH3_64bits(record, offsetof(struct rdt_record, self));
}

int rdt_check_put(struct rdt_program *p, uint16_t l, unsigned lane, const struct rdt_put *put,
		  uint8_t buffer, uint64_t place)
{
	struct rdt_check *check = p->check;
	struct rdt_link *link = &p->links[l];
	struct rdt_pending *pending = &check->pending[lane];
	uint64_t ring = rdt_record_ring(p, l, lane);
	uint32_t number = check->sent[ring];
	struct rdt_put announce = {
		.src = &pending->record,
		.remote = link->remote[RDT_SCRATCH],
		.length = sizeof(pending->record),
		.channel = put->channel,
		.flags = put->flags,
	};
	int status;

	if (pending->state == RDT_NOTHING) {
		pending->record = (struct rdt_record){
			.data = put->length ? rdt_hash(put->src, put->length) : 0,
			.place = (uint64_t)buffer << BUFFER_SHIFT | place,
			.length = put->length,
			.number = number,
		};
		pending->record.self = self_of(&pending->record);
		pending->state = RDT_HASHED;
	}
	if (pending->state == RDT_HASHED && put->length) {
		struct rdt_put data = *put;

		data.flags = RDT_PUT_SILENT;
		status = link->ops->put(link->ep, &data);
		if (status)
			return status;
		pending->state = RDT_DATA_OUT;
	}
	announce.offset = link->records + ((uint64_t)lane * link->ring + number % link->ring) *
						  sizeof(struct rdt_record);
	status = link->ops->put(link->ep, &announce);
	if (status)
		return status;
	check->sent[ring]++;
	pending->state = RDT_NOTHING;
	return 0;
}

void rdt_check_way(const struct rdt_link *link, char *text, size_t size)
{
	if (link->ops->mem_map || !link->ops->describe)
		snprintf(text, size, "shared memory");
	else
		link->ops->describe(link->ep, text, size);
}

static int wrong_data(const struct rdt_program *p, const struct rdt_link *link,
		      const struct rdt_record *record)
{
	static const char *const names[] = { "INPUT", "OUTPUT", "SCRATCH" };
	char way[256];

	rdt_check_way(link, way, sizeof(way));
	return rdt_err(RDT_ERR_CORRUPT,
		       "%" PRIu64 " bytes from rank %d to rank %d (%s, from byte %" PRIu64
		       ") are not what was sent: they changed on the way, which is %s",
		       record->length, link->peer, p->check->rank,
		       names[record->place >> BUFFER_SHIFT],
		       record->place & ((UINT64_C(1) << BUFFER_SHIFT) - 1), way);
}

static int wrong_record(const struct rdt_program *p, const struct rdt_link *link,
			const struct rdt_record *record, uint32_t number)
{
	char way[256];

	rdt_check_way(link, way, sizeof(way));
	/* A place that nothing was written to yet is all zeros. */
	if (self_of(record) != record->self && record->self)
		return rdt_err(RDT_ERR_CORRUPT,
			       "the record of notification %" PRIu32
			       " from rank %d to rank %d changed on the way, which is %s",
			       number, link->peer, p->check->rank, way);
	return rdt_err(RDT_ERR_CORRUPT,
		       "notification %" PRIu32 " from rank %d to rank %d came without its record: "
		       "one was lost, or came twice, on the way, which is %s",
		       number, link->peer, p->check->rank, way);
}

static bool arrived_whole(const struct rdt_program *p, const struct rdt_record *record)
{
	uint64_t at = record->place & ((UINT64_C(1) << BUFFER_SHIFT) - 1);
	const char *base = p->local[record->place >> BUFFER_SHIFT].base;

	return record->length == 0 || rdt_hash(base + at, record->length) == record->data;
}

int rdt_check_arrived(struct rdt_program *p, uint16_t l, unsigned lane, uint32_t count)
{
	struct rdt_check *check = p->check;
	const struct rdt_link *link = &p->links[l];
	uint64_t ring = rdt_record_ring(p, l, lane);
	const struct rdt_record *records =
		(const struct rdt_record *)(p->local[RDT_SCRATCH].base + check->offset) +
		ring * check->ring;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t number = check->taken[ring]++;
		const struct rdt_record *record = &records[number % check->ring];

		/* The place can be trusted once the record can. */
		if (self_of(record) != record->self || record->number != number)
			return wrong_record(p, link, record, number);
		if (!arrived_whole(p, record))
			return wrong_data(p, link, record);
	}
	return 0;
}
