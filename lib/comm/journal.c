/* SPDX-License-Identifier: BSD-3-Clause */
/* The journal of operations; see journal.h. */
#include "journal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/bootstrap/address.h"

#include "transfer.h"

/* More than can be in flight: plans of all slots, and plain calls. */
#define ENTRIES 1024
/* The first comparison, and the longest time between two. */
#define FIRST_NS 50000000
#define BLOB_MAX (RDT_TRANSPORTS * (1 + RDT_EXPORT_MAX))
#define READ_NS 2000000 /* a read takes about so long */
#define LONGEST_NS 500000000
#define LONGEST_ALONE_NS 100000000

struct entry {
	uint64_t sequence; /* written last; 0: never used */
	uint64_t count, plan;
	uint32_t hash;
	int32_t root;
	uint8_t collective, type, op, form;
	uint32_t zero;
};

/* What a rank that has failed leaves for those of its host, when the rendezvous cannot tell them.
 */
struct last_words {
	int32_t status;	      /* written last; 0: nothing yet */
	unsigned char lost[]; /* one bit a rank */
};

/* What is published: the entries, and behind them room where one of a peer's can land; then a
 * rank's last words, and room for a peer's. */
struct published {
	struct entry entries[ENTRIES];
	struct entry landing;
};

struct reader {
	struct rdt_remote *remote;
	uint64_t compared; /* equal up to this number, 0: nothing yet */
	uint64_t behind;   /* the last round in which the peer had not come to what was read */
};

struct rdt_journal {
	struct rdt_mem mem; /* not in the user's table */
	struct published *own;
	uint64_t sequence; /* of the last operation */
	struct reader *readers;
	int64_t next, interval;
	uint64_t round; /* of comparisons: each rank that is waited for is asked once in it */
	uint64_t below; /* the entry before one that a peer has not come to; 0: it has */
	/* a read under way */
	int reading; /* the rank; -1: none */
	uint64_t reading_for, reading_until;
	int64_t reading_since;
	int64_t answer_ns; /* a host that has not answered for so long is silent: RDTRAIN_KEEPALIVE
			    */
};

static size_t words_bytes(const rdt_comm *comm)
{
	return (sizeof(struct last_words) + ((size_t)comm->size + 7) / 8 + 7) / 8 * 8;
}

static size_t published_bytes(const rdt_comm *comm)
{
	return sizeof(struct published) + 2 * words_bytes(comm);
}

static struct last_words *own_words(const rdt_comm *comm)
{
	return (struct last_words *)(comm->journal->own + 1);
}

int rdt_journal_open(rdt_comm *comm)
{
	struct rdt_journal *j = calloc(1, sizeof(*j));
	unsigned char blob[BLOB_MAX];
	size_t at = 0;
	int status;

	if (!j)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for a journal");
	comm->journal = j;
	j->reading = -1;
	j->answer_ns = rdt_keepalive() * 1000000000ll;
	j->next = INT64_MAX;
	j->readers = calloc((size_t)comm->size, sizeof(*j->readers));
	if (!j->readers)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for a journal");
	status = rdt_block_map(published_bytes(comm), false, &j->mem.block);
	if (status)
		return status;
	j->own = j->mem.block.base;
	for (int t = 0; t < comm->n_transports; t++) {
		const struct rdt_transport_ops *ops = comm->transports[t].ops;
		size_t n = 0;

		status =
			ops->mem_register(comm->transports[t].handle, j->own, published_bytes(comm),
					  j->mem.block.memfd, 0, &j->mem.handle[t]);
		if (!status)
			status = ops->mem_export(j->mem.handle[t], j->own, published_bytes(comm),
						 RDT_ACCESS_GET, blob + at + 1, &n);
		if (status)
			return status;
		blob[at] = (unsigned char)n;
		at += 1 + n;
	}
	return rdt_peers_put(comm, "journal", blob, at);
}

void rdt_journal_close(rdt_comm *comm)
{
	struct rdt_journal *j = comm->journal;

	if (!j)
		return;
	for (int r = 0; j->readers && r < comm->size; r++)
		if (j->readers[r].remote)
			comm->transports[comm->peers[r].transport].ops->mem_release(
				j->readers[r].remote);
	for (int t = 0; t < comm->n_transports; t++)
		if (j->mem.handle[t])
			comm->transports[t].ops->mem_deregister(j->mem.handle[t]);
	if (j->own)
		rdt_block_unmap(&j->mem.block);
	free(j->readers);
	free(j);
	comm->journal = NULL;
}

static int take_journal(rdt_comm *comm, int rank, const unsigned char *blob, size_t length)
{
	struct reader *reader = &comm->journal->readers[rank];
	const struct rdt_peer *peer = &comm->peers[rank];
	size_t at = 0;
	int status;

	for (int t = 0; t < peer->transport && at < length; t++)
		at += 1 + (size_t)blob[at];
	if (at >= length || blob[at] > length - at - 1)
		return rdt_err(RDT_ERR_SYSTEM,
			       "rank %d sent a malformed description of its journal", rank);
	status = comm->transports[peer->transport].ops->mem_import(peer->ep, blob + at + 1,
								   blob[at], &reader->remote);
	return rdt_fail_peer(comm, rank, status);
}

int rdt_journal_reach(rdt_comm *comm, int rank, int64_t deadline)
{
	unsigned char blob[BLOB_MAX];
	size_t length = sizeof(blob);
	int status;

	if (comm->journal->readers[rank].remote)
		return 0;
	status = rdt_peers_get(comm, rank, "journal", blob, &length, deadline);
	return status ? status : take_journal(comm, rank, blob, length);
}

int rdt_journal_look(rdt_comm *comm, int rank)
{
	unsigned char blob[BLOB_MAX];
	size_t length = sizeof(blob);
	int status;

	if (!comm->journal || comm->journal->readers[rank].remote)
		return 0;
	status = comm->boot_ops->look(comm->boot, rank, "journal", blob, &length);
	if (status <= 0)
		return status;
	return take_journal(comm, rank, blob, length < sizeof(blob) ? length : sizeof(blob));
}

uint64_t rdt_journal_note(rdt_comm *comm, const struct rdt_call *call, enum rdt_journal_form form,
			  uint64_t plan)
{
	struct rdt_journal *j = comm->journal;
	struct entry *e;

	if (!j)
		return 0;
	e = &j->own->entries[++j->sequence % ENTRIES];
	/* A reader that meets the old number beside new words would compare what does not belong
	 * together: so the number goes first, and comes last. */
	__atomic_store_n(&e->sequence, 0, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	e->count = call->counts ? 0 : call->count;
	e->plan = plan;
	e->hash = rdt_call_hash(comm, call);
	e->root = call->root;
	e->collective = (uint8_t)call->collective;
	e->type = (uint8_t)call->type;
	e->op = (uint8_t)call->op;
	e->form = (uint8_t)form;
	__atomic_store_n(&e->sequence, j->sequence, __ATOMIC_RELEASE);
	j->interval = FIRST_NS;
	j->next = 0;
	return j->sequence;
}

/* ---- comparing ------------------------------------------------------------------------------- */

static void describe(const struct entry *e, char *text, size_t size)
{
	static const size_t counted; /* what counts point to when only their hash is known */
	struct rdt_call call = {
		.collective = (enum rdt_collective)e->collective,
		.count = e->count,
		.type = (enum rdt_type)e->type,
		.op = (enum rdt_op)e->op,
		.root = e->root,
		.counts = e->hash ? &counted : NULL,
	};
	size_t used;

	if (e->form == RDT_FORM_SPLIT) {
		snprintf(text, size, "rdt_comm_split");
		return;
	}
	if (e->form == RDT_FORM_WINDOW) {
		snprintf(text, size, "rdt_window_create");
		return;
	}
	if (e->collective >= RDT_COLL_COUNT || !rdt_type_name(call.type) || !rdt_op_name(call.op)) {
		snprintf(text, size, "something unknown");
		return;
	}
	rdt_call_describe(&call, text, size);
	used = strlen(text);
	if (e->hash > 1)
		used += (size_t)snprintf(text + used, size - used, " #%08x", e->hash);
	if (e->form == RDT_FORM_MAKE && used < size)
		snprintf(text + used, size - used, " (plan)");
	if (e->form == RDT_FORM_START && used < size)
		snprintf(text + used, size - used, " (start of plan %" PRIu64 ")", e->plan);
}

static bool same(const struct entry *a, const struct entry *b)
{
	return a->count == b->count && a->plan == b->plan && a->hash == b->hash &&
	       a->root == b->root && a->collective == b->collective && a->type == b->type &&
	       a->op == b->op && a->form == b->form;
}

/* Without the rendezvous nobody tells that a host has fallen silent, or that another rank has given
 * up. Then entries that were seen are read again now and then: a read that nobody answers fails. */
static bool is_alone(const rdt_comm *comm)
{
	return comm->boot_ops->fd(comm->boot) < 0;
}

/* ---- last words ------------------------------------------------------------------------------ */

void rdt_journal_last_words(rdt_comm *comm)
{
	struct last_words *words;

	if (!comm->journal || !comm->journal->own)
		return;
	words = own_words(comm);
	for (int r = 0; r < comm->size; r++)
		words->lost[r / 8] |= (unsigned char)(comm->peers[r].lost << (r % 8));
	__atomic_store_n(&words->status, comm->failed, __ATOMIC_RELEASE);
}

/* What a peer of this host has left, into *words; false: nothing. Mapped memory is read at once. */
static bool read_words(rdt_comm *comm, int rank, struct last_words *words)
{
	struct rdt_journal *j = comm->journal;
	const struct rdt_peer *peer = &comm->peers[rank];
	const struct rdt_transport_ops *ops;

	if (!j->readers[rank].remote) /* this rank itself, too */
		return false;
	ops = comm->transports[peer->transport].ops;
	if (!ops->mem_map)
		return false;
	words->status = 0;
	/* Twice: what was written before the status is there when that is. */
	for (int i = 0; i < 2; i++)
		if (ops->get(peer->ep, j->readers[rank].remote, sizeof(struct published), words,
			     j->mem.handle[peer->transport], words_bytes(comm)) ||
		    !words->status)
			return false;
	return true;
}

int rdt_journal_hear(rdt_comm *comm)
{
	struct last_words *words;

	if (!comm->journal || !is_alone(comm))
		return 0;
	words = (void *)((char *)own_words(comm) + words_bytes(comm));
	for (int r = 0; r < comm->size; r++) {
		int status;

		if (!read_words(comm, r, words))
			continue;
		status = words->status;
		if (status != RDT_ERR_UNREACHABLE && !rdt_is_everybodys(status))
			status = RDT_ERR_ABORTED;
		for (int q = 0; q < comm->size; q++)
			if (q != comm->rank && words->lost[q / 8] >> (q % 8) & 1)
				rdt_fail_suspect(comm, q);
		return rdt_fail(comm, status, -1,
				"rank %d has given up (%s), and the rendezvous cannot say more", r,
				rdt_strerror(words->status));
	}
	return 0;
}

/* ---- comparing with those that one waits for ------------------------------------------------- */

/* Compares one entry of a peer with this rank's of the same number. */
static int judge(rdt_comm *comm, int rank, uint64_t sequence, const struct entry *theirs)
{
	struct rdt_journal *j = comm->journal;
	struct reader *reader = &j->readers[rank];
	const struct entry *mine = &j->own->entries[sequence % ENTRIES];
	char a[160], b[160];

	j->below = 0;
	if (sequence == 0)
		return 0;
	if (theirs->sequence != sequence || mine->sequence != sequence) {
		/* It has not come there, or both have gone on since. */
		reader->behind = j->round;
		j->below = sequence - 1;
		return 0;
	}
	if (same(mine, theirs)) {
		if (sequence > reader->compared)
			reader->compared = sequence;
		if (is_alone(comm))
			reader->behind = j->round; /* once in a round */
		return 0;
	}
	describe(mine, a, sizeof(a));
	describe(theirs, b, sizeof(b));
	return rdt_fail(comm, RDT_ERR_MISMATCH, -1,
			"operation %" PRIu64 " of this communicator: rank %d calls \"%s\", rank %d "
			"calls \"%s\": all ranks must make the same calls in the same order",
			sequence, comm->rank, a, rank, b);
}

static int begin_read(rdt_comm *comm, int rank, uint64_t sequence)
{
	struct rdt_journal *j = comm->journal;
	const struct rdt_peer *peer = &comm->peers[rank];
	uint64_t offset =
		offsetof(struct published, entries) + sequence % ENTRIES * sizeof(struct entry);
	int status = comm->transports[peer->transport].ops->get(
		peer->ep, j->readers[rank].remote, offset, &j->own->landing,
		j->mem.handle[peer->transport], sizeof(struct entry));

	if (status == RDT_AGAIN)
		return 0;
	if (status)
		return status;
	j->reading = rank;
	j->reading_for = sequence;
	j->reading_since = rdt_now();
	j->reading_until = rdt_ep_head(peer->ep)->posted;
	return 0;
}

static int end_read(rdt_comm *comm)
{
	struct rdt_journal *j = comm->journal;
	int rank = j->reading;
	struct entry landed;

	if (rank < 0 || rdt_ep_head(comm->peers[rank].ep)->completed < j->reading_until)
		return 0;
	j->reading = -1;
	landed = j->own->landing;
	return judge(comm, rank, j->reading_for, &landed);
}

static bool is_settled(const rdt_comm *comm, int rank, uint64_t sequence)
{
	return comm->journal->readers[rank].compared >= sequence && !is_alone(comm);
}

/*
 * Reads a peer's entry. Where it has not come there it is not always late: it may wait in an
 * operation before, in which there was nothing to do here, for no elements. So the entries before
 * are read too, down to the one that it has come to.
 */
static int read_down(rdt_comm *comm, int rank, uint64_t sequence)
{
	struct rdt_journal *j = comm->journal;
	int status = 0;

	while (!status && !comm->failed && sequence && !is_settled(comm, rank, sequence) &&
	       sequence + ENTRIES > j->sequence) {
		status = begin_read(comm, rank, sequence);
		if (status || j->reading < 0)
			break; /* no room for it now: in the next round */
		/* Mapped journals are read at once. */
		status = end_read(comm);
		if (j->reading >= 0)
			break;
		sequence = j->below;
	}
	return status;
}

/* Goes on with what another pass began. */
static int read_on(rdt_comm *comm)
{
	struct rdt_journal *j = comm->journal;
	int rank = j->reading, status;

	if (rank < 0)
		return 0;
	status = end_read(comm);
	if (!status && j->reading < 0 && j->below)
		status = read_down(comm, rank, j->below);
	return status;
}

struct waited {
	rdt_comm *comm;
	uint64_t sequence;
	int status;
};

/* One rank that an operation waits for. One read at a time: the others come in later passes of the
 * round. */
static void compare_with(void *arg, int rank)
{
	struct waited *w = arg;
	struct rdt_journal *j = w->comm->journal;
	const struct reader *reader = &j->readers[rank];

	if (w->status || w->comm->failed || j->reading >= 0 || !reader->remote ||
	    is_settled(w->comm, rank, w->sequence) || reader->behind == j->round)
		return;
	w->status = read_down(w->comm, rank, w->sequence);
}

/* The oldest of the operations that run, after number `sequence`. Who had not come to that one has
 * not come to any later one, so nothing is left out. */
static rdt_plan *oldest_after(const rdt_comm *comm, uint64_t sequence)
{
	rdt_plan *oldest = NULL;

	for (rdt_plan *plan = comm->active; plan; plan = plan->next_active)
		if (!plan->wire && plan->sequence > sequence &&
		    (!oldest || plan->sequence < oldest->sequence))
			oldest = plan;
	return oldest;
}

/* A read that tells no more than that the peer's host answers: a message has no entry. */
static void knock(void *arg, int rank)
{
	struct waited *w = arg;
	struct rdt_journal *j = w->comm->journal;
	struct reader *reader = &j->readers[rank];

	if (w->status || w->comm->failed || j->reading >= 0 || !reader->remote ||
	    reader->behind == j->round)
		return;
	reader->behind = j->round; /* once in a round */
	w->status = begin_read(w->comm, rank, 0);
	if (!w->status)
		w->status = end_read(w->comm);
}

static int compare_all(rdt_comm *comm)
{
	struct waited w = { .comm = comm };

	for (rdt_plan *plan = comm->active; plan; plan = plan->next_active) {
		if (plan->wire)
			w.status = rdt_transfer_check(plan);
		if (plan->wire && is_alone(comm))
			rdt_engine_waits_for(&plan->program, knock, &w);
		if (w.status || comm->failed)
			return w.status; /* which ends the list */
	}
	for (rdt_plan *plan = oldest_after(comm, 0); plan && !w.status && !comm->failed;
	     plan = oldest_after(comm, w.sequence)) {
		w.sequence = plan->sequence;
		rdt_engine_waits_for(&plan->program, compare_with, &w);
	}
	return w.status;
}

int rdt_journal_compare(rdt_comm *comm)
{
	struct rdt_journal *j = comm->journal;
	int64_t now = rdt_now(), longest;
	int status;

	if (!j || !comm->active || now < j->next)
		return 0;
	if (j->next == 0) { /* a new operation: give it time first */
		j->next = now + j->interval;
		return 0;
	}
	if (j->reading < 0)
		j->round++;
	if (rdt_journal_hear(comm) < 0)
		return comm->failed;
	status = read_on(comm);
	/* Not every device gives up what it cannot send. */
	if (!status && !comm->failed && j->reading >= 0 && is_alone(comm) &&
	    now - j->reading_since > j->answer_ns)
		return rdt_fail(comm, RDT_ERR_PEER_LOST, j->reading,
				"rank %d has not answered rank %d for %.1f s, and the rendezvous "
				"is gone: is the link of this host down? (`rdma link`)",
				j->reading, comm->rank, (double)(now - j->reading_since) / 1e9);
	if (!status && !comm->failed)
		status = compare_all(comm);
	if (comm->failed)
		return rdt_fail_again(comm);
	if (status < 0)
		return rdt_fail_transports(comm, status, rdt_last_error());
	if (j->reading >= 0) {
		j->next = now + READ_NS;
		return 0;
	}
	longest = is_alone(comm) ? LONGEST_ALONE_NS : LONGEST_NS;
	j->interval = j->interval * 2 > longest ? longest : j->interval * 2;
	j->next = now + j->interval;
	return 0;
}

void rdt_journal_hurry(rdt_comm *comm)
{
	struct rdt_journal *j = comm->journal;

	if (!j)
		return;
	j->interval = LONGEST_ALONE_NS;
	j->next = rdt_now();
}

int64_t rdt_journal_next(const rdt_comm *comm)
{
	if (!comm->journal || !comm->active)
		return INT64_MAX;
	return comm->journal->next;
}
