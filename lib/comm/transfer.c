/* SPDX-License-Identifier: BSD-3-Clause */
/* Send and receive; see transfer.h. */
#include "transfer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/engine/check.h"

#include "journal.h"
#include "shape.h"

/* How soon to look whether the other side has opened, and how seldom at last. */
#define LOOK_NS 1000000
#define LOOK_MOST_NS 20000000
#define HEADER_S 10.0 /* a header that finds no room for so long finds none */

/* Of the lanes of a wire's slot, the one that counts headers; data has the first ones. */
/* The last one that is on the rail of lane 0, with 1 to 4 of them, so that the header, put first,
 * arrives before the data that lane 0 carries. */
#define HEADER_LANE 12

struct header {
	uint64_t number; /* from 1 */
	uint64_t count;
	uint32_t type, zero;
	uint64_t self; /* check: hash of the fields before; else 0 */
};

_Static_assert(HEADER_LANE < RDT_SLOT_LANES, "a lane of the slot");
_Static_assert(2 * sizeof(struct header) == RDT_WIRE_HEADERS, "two headers behind the slots");

struct rdt_wire {
	bool sends;
	uint64_t messages;    /* begun so far */
	uint64_t offset;      /* of the headers in the receiver's scratch */
	size_t count;	      /* for which the schedules were made, with elem */
	uint64_t elem;	      /* 0: none yet */
	struct header header; /* of the message that runs; sent from here */
};

struct rdt_pair {
	rdt_plan *out, *in;
	bool up;
	int64_t interval;
};

bool rdt_wire_sends(const rdt_plan *plan)
{
	return plan->wire && plan->wire->sends;
}

/* ---- opening --------------------------------------------------------------------------------- */

static const struct rdt_algorithm *algorithm_of_wires(void)
{
	return rdt_algorithm_find(RDT_COLL_SEND, "eager");
}

static int make_wire(rdt_comm *comm, int from, int to, rdt_plan **out)
{
	const struct rdt_agreed agreed = { 0 };
	rdt_plan *plan = calloc(1, sizeof(*plan));
	struct rdt_shaper shaper;
	int status;

	if (plan)
		plan->wire = calloc(1, sizeof(*plan->wire));
	if (!plan || !plan->wire) {
		free(plan);
		return rdt_err(RDT_ERR_NOMEM, "out of memory for sends from rank %d to rank %d",
			       from, to);
	}
	plan->comm = comm;
	plan->varying = true;
	plan->slot = RDT_SLOTS - RDT_WIRE_SLOTS + (from > to);
	plan->queue_tail = &plan->queue;
	plan->next = comm->plans;
	comm->plans = plan;
	plan->wire->sends = from == comm->rank;
	plan->call = (struct rdt_call){ .collective = RDT_COLL_SEND,
					.count = RDT_WINDOW_SLOTS * RDT_TRANSFER_WINDOW,
					.type = RDT_UINT8,
					.root = from,
					.peer = to };
	status = rdt_shaper_open(&shaper, comm, &plan->call, &agreed);
	if (status)
		return status;
	status = rdt_bind(plan, algorithm_of_wires(), &shaper);
	rdt_shaper_close(&shaper);
	if (!status)
		status = rdt_bind_reserve(plan);
	plan->wire->offset = plan->program.scratch_stride * (uint64_t)plan->program.scratch_epochs *
			     (uint64_t)plan->program.n_slots;
	*out = plan;
	return status;
}

static void key_for(char *key, size_t size, int rank)
{
	snprintf(key, size, "pair/%d", rank);
}

/* What the peer's puts go to: data and headers in the scratch of `in`, and, with RDTRAIN_CHECK=1,
 * the records of its answers in that of `out`. Each as long as two bytes before it say. */
static int tell_pair(rdt_comm *comm, int peer, struct rdt_pair *pair)
{
	const struct rdt_agreed agreed = { 0 };
	unsigned char *blob = malloc(2 * (2 + rdt_bind_blob(comm)));
	char key[RDT_KEY_MAX];
	size_t at = 0;
	int status = 0;

	if (!blob)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for sends to rank %d", peer);
	for (int i = 0; i < 2 && !status; i++) {
		size_t length = 0;

		status = rdt_bind_export(i ? pair->out : pair->in, &agreed, blob + at + 2, &length);
		blob[at] = (unsigned char)length;
		blob[at + 1] = (unsigned char)(length >> 8);
		at += 2 + length;
	}
	key_for(key, sizeof(key), peer);
	if (!status)
		status = rdt_peers_put(comm, key, blob, at);
	free(blob);
	return status;
}

static int take_pair(struct rdt_pair *pair, int peer, const unsigned char *blob, size_t length)
{
	size_t at = 0;
	int status = 0;

	for (int i = 0; i < 2 && !status; i++) {
		size_t n = at + 2 <= length ? blob[at] | (size_t)blob[at + 1] << 8 : 0;

		if (at + 2 > length || n > length - at - 2)
			return rdt_err(RDT_ERR_SYSTEM,
				       "rank %d sent a malformed description of its memory", peer);
		status = rdt_bind_import(i ? pair->in : pair->out, 0, blob + at + 2, n);
		at += 2 + n;
	}
	return status;
}

static int open_pair(rdt_comm *comm, int peer, struct rdt_pair **out)
{
	struct rdt_pair *pair = calloc(1, sizeof(*pair));
	int status;

	if (!pair)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for sends to rank %d", peer);
	comm->pairs[peer] = pair;
	status = make_wire(comm, comm->rank, peer, &pair->out);
	if (!status)
		status = make_wire(comm, peer, comm->rank, &pair->in);
	if (!status)
		status = tell_pair(comm, peer, pair);
	if (!status && !comm->peers[peer].ep)
		status = rdt_peers_begin(comm, peer, rdt_deadline(comm->config.timeout_s));
	if (status)
		return status;
	comm->opening++;
	comm->opening_next = 0;
	pair->interval = LOOK_NS;
	*out = pair;
	return 0;
}

/* Has the other side opened? 1: the pair is up now. */
static int look(rdt_comm *comm, int peer, struct rdt_pair *pair)
{
	size_t room = 2 * (2 + rdt_bind_blob(comm)), length = room;
	unsigned char *blob;
	char key[RDT_KEY_MAX];
	int status;

	if (!comm->peers[peer].up)
		return 0;
	blob = malloc(room);
	if (!blob)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for sends to rank %d", peer);
	key_for(key, sizeof(key), comm->rank);
	comm->asking = true;
	status = rdt_journal_look(comm, peer);
	if (status >= 0)
		status = comm->boot_ops->look(comm->boot, peer, key, blob, &length);
	comm->asking = false;
	if (status > 0) {
		rdt_bind_attach(pair->out, 0);
		rdt_bind_attach(pair->in, 0);
		status = take_pair(pair, peer, blob, length < room ? length : room);
		pair->up = !status;
		status = status ? status : 1;
	}
	free(blob);
	if (status <= 0)
		return status;
	comm->opening--;
	return 1;
}

int rdt_transfer_progress(rdt_comm *comm)
{
	int64_t now = rdt_now(), next = INT64_MAX;
	int done = 0;

	if (now < comm->opening_next || comm->asking)
		return 0;
	for (int r = 0; r < comm->size && comm->pairs; r++) {
		struct rdt_pair *pair = comm->pairs[r];
		int status;

		if (!pair || pair->up)
			continue;
		status = look(comm, r, pair);
		if (status < 0) {
			char why[512];

			snprintf(why, sizeof(why), "%s", rdt_last_error());
			if (rdt_fail_watch(comm) < 0)
				return comm->failed;
			return rdt_fail(comm, status, -1, "%s", why);
		}
		done += status;
		if (status && pair->out->queue)
			status = rdt_transfer_begin(pair->out);
		if (status >= 0 && pair->up && pair->in->queue)
			status = rdt_transfer_begin(pair->in);
		if (status < 0)
			return status;
		pair->interval =
			pair->interval * 2 > LOOK_MOST_NS ? LOOK_MOST_NS : pair->interval * 2;
		if (!pair->up && now + pair->interval < next)
			next = now + pair->interval;
	}
	comm->opening_next = next;
	return done;
}

int64_t rdt_transfer_next(const rdt_comm *comm)
{
	return comm->opening ? comm->opening_next : INT64_MAX;
}

bool rdt_transfer_waits_for(const rdt_comm *comm, int rank)
{
	const struct rdt_pair *pair = comm->pairs ? comm->pairs[rank] : NULL;

	return pair && !pair->up && (pair->out->queue || pair->in->queue);
}

void rdt_transfer_close(rdt_comm *comm)
{
	for (int r = 0; comm->pairs && r < comm->size; r++)
		free(comm->pairs[r]);
	free(comm->pairs);
	comm->pairs = NULL;
}

/* ---- messages -------------------------------------------------------------------------------- */

int rdt_transfer_start(struct rdt_request *request)
{
	rdt_comm *comm = request->comm;
	bool sends = request->call.root == comm->rank;
	int peer = sends ? request->call.peer : request->call.root;
	struct rdt_pair *pair;
	rdt_plan *wire;
	int status = 0;

	if (!comm->pairs)
		comm->pairs = calloc((size_t)comm->size, sizeof(*comm->pairs));
	if (!comm->pairs)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for sends between %d ranks",
			       comm->size);
	pair = comm->pairs[peer];
	if (!pair)
		status = open_pair(comm, peer, &pair);
	if (status)
		/* The other side may wait for this one: it has to learn. */
		return comm->failed ? status
				    : rdt_fail(comm, status, -1,
					       "rank %d could not open its side of a send: %s",
					       comm->rank, rdt_last_error());
	wire = sends ? pair->out : pair->in;
	request->plan = wire;
	*wire->queue_tail = request;
	wire->queue_tail = &request->next;
	if (pair->up && wire->queue == request)
		status = rdt_transfer_begin(wire);
	return status;
}

static uint64_t self_of(const struct header *header)
{
	return rdt_hash(header, offsetof(struct header, self));
}

static int put_header(rdt_plan *plan)
{
	struct rdt_wire *wire = plan->wire;
	struct rdt_link *link = &plan->program.links[0];
	struct rdt_put put = {
		.src = &wire->header,
		.remote = link->remote[RDT_SCRATCH],
		.offset = wire->offset + wire->header.number % 2 * sizeof(struct header),
		.length = sizeof(struct header),
		.channel = rdt_channel((unsigned)plan->slot, HEADER_LANE),
	};
	int64_t deadline = rdt_deadline(HEADER_S);
	int status;

	while ((status = link->ops->put(link->ep, &put)) == RDT_AGAIN) {
		struct rdt_transport *t = plan->comm->transports[link->transport].handle;

		status = link->ops->progress(t);
		if (status < 0)
			return status;
		if (rdt_now() > deadline)
			return rdt_err(RDT_ERR_TIMEOUT,
				       "the queue to rank %d has been full for %.0f s", link->peer,
				       HEADER_S);
	}
	return status;
}

int rdt_transfer_begin(rdt_plan *plan)
{
	struct rdt_wire *wire = plan->wire;
	const struct rdt_call *call = &plan->queue->call;
	const struct rdt_agreed agreed = { 0 };
	uint64_t elem = rdt_type_size(call->type);
	int status = 0;

	wire->messages++;
	if (wire->count != call->count || wire->elem != elem) {
		struct rdt_shaper shaper;

		status = rdt_shaper_open(&shaper, plan->comm, call, &agreed);
		if (!status) {
			status = rdt_bind_again(plan, algorithm_of_wires(), &shaper);
			rdt_shaper_close(&shaper);
		}
		wire->count = call->count;
		wire->elem = elem;
	}
	wire->header = (struct header){ .number = wire->messages,
					.count = call->count,
					.type = (uint32_t)call->type };
	if (plan->comm->config.check)
		wire->header.self = self_of(&wire->header);
	if (!status && wire->sends)
		status = put_header(plan);
	if (status)
		return rdt_fail_transports(plan->comm, status, rdt_last_error());
	plan->call = *call;
	rdt_bind_buffers(plan, call);
	rdt_plan_activate(plan);
	return 0;
}

/* Has the header of the message that runs been put here, whole? Its lane counts them. */
static bool header_is_here(const rdt_plan *plan)
{
	const struct rdt_ep_head *ep = rdt_ep_head(plan->program.links[0].ep);
	uint32_t now = __atomic_load_n(
		&ep->counters[rdt_channel((unsigned)plan->slot, HEADER_LANE)], __ATOMIC_ACQUIRE);

	return rdt_reached(now, (uint32_t)plan->wire->messages);
}

int rdt_transfer_check(rdt_plan *plan)
{
	struct rdt_wire *wire = plan->wire;
	const struct header *mine = &wire->header, *theirs;
	struct rdt_call call = plan->call;
	char sent[128], wanted[128];
	bool here, whole;

	if (wire->sends)
		return 0;
	here = header_is_here(plan);
	if (!here && (plan->program.running || !plan->comm->config.check))
		return 0;
	theirs = (const struct header *)(plan->scratch->base + wire->offset) + wire->messages % 2;
	whole = !plan->comm->config.check ||
		(theirs->self == self_of(theirs) && theirs->number == mine->number);
	if (!here || !whole) {
		char way[256];

		rdt_check_way(&plan->program.links[0], way, sizeof(way));
		return rdt_fail(plan->comm, RDT_ERR_CORRUPT, -1,
				"the header of message %" PRIu64
				" from rank %d to rank %d %s on the way, which is %s",
				mine->number, call.root, call.peer, here ? "changed" : "was lost",
				way);
	}
	if (theirs->count == mine->count && theirs->type == mine->type)
		return 0;
	rdt_call_describe(&call, wanted, sizeof(wanted));
	call.count = theirs->count;
	call.type = (enum rdt_type)theirs->type;
	if (rdt_type_size(call.type))
		rdt_call_describe(&call, sent, sizeof(sent));
	else
		snprintf(sent, sizeof(sent), "a send of unknown elements");
	return rdt_fail(plan->comm, RDT_ERR_MISMATCH, -1,
			"message %" PRIu64 ": rank %d makes \"%s\", rank %d receives as \"%s\": "
			"count and type must be the same",
			mine->number, call.root, sent, call.peer, wanted);
}
