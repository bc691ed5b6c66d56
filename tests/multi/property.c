/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random calls against a naive reference. A seed draws worlds (how many ranks, on which hosts they
 * pretend to be, settings), and in each world some cases: one to three operations that are under
 * way together, each with its collective, lengths, type, operation, root, form, place and memory. A
 * case depends on nothing but the seed and its number, so that one that failed can be run alone:
 *
 *	multi_property [--seed S] [--cases N] [--case K]
 *
 * RDTRAIN_TEST_SEED and RDTRAIN_TEST_CASES say the same.
 */
#include "ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "collectives/algorithms.h"
#include "collectives/meaning.h"

#include "values.h"

#define N_MAX 9
#define CASES_PER_WORLD 25
#define TOGETHER 3
#define GUARD 64
#define GUARD_BYTE 0x5a

/* ---- drawing --------------------------------------------------------------------------------- */

/* splitmix64 */
static uint64_t draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static unsigned draw_below(uint64_t *state, unsigned n)
{
	return (unsigned)(draw(state) % n);
}

/* A number that depends on a seed and two others, without a state to keep. */
static uint64_t mix(uint64_t seed, uint64_t a, uint64_t b)
{
	uint64_t state = seed ^ (a * 0xd1342543de82ef95u) ^ (b << 40);

	draw(&state);
	return draw(&state);
}

struct world {
	uint64_t seed;
	int first, cases, only; /* numbers of its cases; only this one, or -1 */
	bool brief;		/* an emulated device: short vectors */
	int n, host[N_MAX];
	int color[N_MAX]; /* the part; -1: in none */
	bool split, rank_order, mapped, narrow, staged;
	const struct rdt_algorithm *forced;
};

/* Of the algorithms that suit the world one, or NULL. */
static const struct rdt_algorithm *draw_forced(const struct world *w, uint64_t *s)
{
	int hosts = 0, n = 0, which;
	const struct rdt_algorithm *a;

	for (int r = 0; r < w->n; r++)
		if (w->host[r] > hosts)
			hosts = w->host[r];
	for (a = rdt_algorithms; a->name; a++)
		n++;
	which = (int)draw_below(s, (unsigned)n);
	a = &rdt_algorithms[which];
	if (w->n == 1 || (w->rank_order && rdt_collective_reduces(a->collective) &&
			  !(a->flags & RDT_ALG_RANK_ORDER)))
		return NULL;
	if (a->applies && ranks_checked())
		return NULL;
	if (a->applies == rdt_applies_direct && hosts > 0)
		return NULL;
	if (a->applies) {
		struct rdt_shape shape = { .collective = a->collective,
					   .bytes = 64,
					   .elem_size = 4,
					   .mapped = w->mapped,
					   .host = w->host };

		return a->applies(w->n, &shape) ? a : NULL;
	}
	return a;
}

static struct world draw_world(uint64_t seed, int number, bool brief)
{
	uint64_t s = mix(seed, 1, (uint64_t)number);
	struct world w = { .seed = seed, .first = number * CASES_PER_WORLD, .only = -1 };
	unsigned hosts;

	w.brief = brief;
	w.n = 1 + (int)draw_below(&s, N_MAX);
	hosts = draw_below(&s, 2) ? 1 : 1 + draw_below(&s, 4);
	for (int r = 0; r < w.n; r++)
		w.host[r] = (int)draw_below(&s, hosts);
	w.rank_order = draw_below(&s, 4) == 0;
	w.mapped = draw_below(&s, 3) == 0;
	w.narrow = draw_below(&s, 3) == 0;
	w.staged = draw_below(&s, 4) == 0;
	w.forced = draw_below(&s, 3) ? draw_forced(&w, &s) : NULL;
	w.split = draw_below(&s, 2) && !(w.forced && w.forced->applies);
	for (int r = 0; r < w.n; r++)
		w.color[r] = w.split ? (int)draw_below(&s, 4) - 1 : -1;
	return w;
}

enum form { CALLED, STARTED, PLANNED };
enum memory { PLAIN, REGISTERED, ALLOCATED };

struct op {
	uint64_t seed;
	enum rdt_collective collective; /* SEND: and a receive */
	enum rdt_type type;
	enum rdt_op op;
	enum form form;
	bool on_part, in_place, v, ragged;
	bool inexact; /* sums that depend on their order */
	size_t count;
	int root, distance;
};

static size_t draw_count(const struct world *w, uint64_t *s)
{
	switch (draw_below(s, w->brief ? 6 : 8)) {
	case 0: return draw_below(s, 2);
	case 1:
	case 2: return draw_below(s, 20);
	case 3: return draw_below(s, 300);
	case 4: return draw_below(s, 3000);
	case 5: return 4 * draw_below(s, 300);
	case 6: return draw_below(s, 20000);
	default: return draw_below(s, draw_below(s, 8) ? 70000 : 400000);
	}
}

/* `n`: ranks of the communicator on which it runs. */
static struct op draw_op(const struct world *w, uint64_t seed, bool on_part, int n)
{
	uint64_t s = seed;
	struct op o = { .seed = seed, .on_part = on_part };
	bool force;

	o.collective = (enum rdt_collective)draw_below(&s, RDT_COLL_COUNT);
	force = w->forced && draw_below(&s, 2);
	if (force)
		o.collective = w->forced->collective;
	if (o.collective == RDT_COLL_SEND && n == 1)
		o.collective = RDT_COLL_BARRIER;
	o.type = (enum rdt_type)draw_below(&s, RDT_UINT64 + 1);
	o.op = rdt_collective_reduces(o.collective) ? (enum rdt_op)draw_below(&s, RDT_PROD + 1)
						    : RDT_SUM;
	o.form = (enum form)draw_below(&s, 3);
	o.count = draw_count(w, &s);
	if (rdt_collective_blocks(o.collective))
		o.count = (o.count + 1) / (size_t)n;
	o.in_place = draw_below(&s, 2);
	o.v = draw_below(&s, 2);
	o.ragged = o.v && draw_below(&s, 4);
	o.inexact = o.type <= RDT_FLOAT64 && o.op <= RDT_AVG && draw_below(&s, 2) &&
		    rdt_collective_reduces(o.collective);
	o.root = (int)draw_below(&s, (unsigned)n);
	o.distance = n > 1 ? 1 + (int)draw_below(&s, (unsigned)n - 1) : 0;
	if (w->forced && o.collective == w->forced->collective &&
	    !(w->forced->flags & RDT_ALG_RAGGED))
		o.v = o.ragged = false;
	return o;
}

static void print_op(const struct op *o, FILE *to)
{
	static const char *const forms[] = { "called", "started", "planned" };

	fprintf(to, "  %s%s of %zu %s, %s, %s, root %d, distance %d%s%s%s%s\n",
		rdt_collective_name(o->collective), o->v ? "v" : "", o->count,
		rdt_type_name(o->type), rdt_op_name(o->op), forms[o->form], o->root, o->distance,
		o->in_place ? ", in place" : "", o->ragged ? ", ragged" : "",
		o->inexact ? ", inexact" : "", o->on_part ? ", on the part" : "");
}

/* ---- memory ---------------------------------------------------------------------------------- */

struct buffer {
	rdt_comm *comm;
	unsigned char *raw, *base;
	size_t bytes;
	rdt_mem *mem;
	bool allocated;
};

static int buffer_new(rdt_comm *comm, enum memory kind, unsigned shift, size_t bytes,
		      struct buffer *b)
{
	size_t whole = bytes + 2 * GUARD;
	int status;

	*b = (struct buffer){ .comm = comm, .bytes = bytes, .allocated = kind == ALLOCATED };
	if (b->allocated)
		status = rdt_alloc(comm, whole, (void **)&b->raw);
	else
		status = (b->raw = malloc(whole)) ? RDT_OK : RDT_ERR_NOMEM;
	if (!status && kind == REGISTERED)
		status = rdt_mem_register(comm, b->raw, whole, &b->mem);
	if (status)
		return status;
	memset(b->raw, GUARD_BYTE, whole);
	b->base = b->raw + GUARD - shift;
	return 0;
}

static bool buffer_guarded(const struct buffer *b)
{
	for (const unsigned char *p = b->raw; p < b->raw + b->bytes + 2 * GUARD; p++)
		if ((p < b->base || p >= b->base + b->bytes) && *p != GUARD_BYTE)
			return false;
	return true;
}

static int buffer_free(struct buffer *b)
{
	int status = 0;

	if (b->allocated)
		return b->raw ? rdt_free(b->comm, b->raw) : 0;
	status = rdt_mem_deregister(b->mem);
	free(b->raw);
	return status;
}

/* ---- one operation on this rank -------------------------------------------------------------- */

struct running {
	struct op op;
	rdt_comm *comm;
	int rank, n, round;
	bool ordered; /* inexact sums are formed in the order of ranks */
	struct buffer in_memory, out_memory;
	unsigned char *in, *out; /* what the calls are given */
	size_t in_counts[N_MAX], out_counts[N_MAX], in_total, out_total;
	rdt_request *request[2]; /* send and receive are two */
	rdt_plan *plan[2];
	int handles;
};

/* Elements of the block that goes from one rank to another; where it does not matter, `to` is 0. */
static size_t block(const struct op *o, int from, int to)
{
	int low = o->in_place && to < from ? to : from, high = o->in_place && to < from ? from : to;

	if (o->collective != RDT_COLL_ALLTOALL)
		high = 0;
	return o->ragged ? mix(o->seed, (uint64_t)low + 100, (uint64_t)high) % (2 * o->count + 1)
			 : o->count;
}

/* Elements of `rank`'s block before that of `to` in an all-to-all, or of all before `to`. */
static size_t block_offset(const struct op *o, int rank, int to)
{
	size_t offset = 0;

	for (int i = 0; i < to; i++)
		offset += o->collective == RDT_COLL_ALLTOALL ? block(o, rank, i) : block(o, i, 0);
	return offset;
}

static void measure(struct running *r)
{
	const struct op *o = &r->op;
	size_t own = block(o, r->rank, 0), all = block_offset(o, r->rank, r->n);
	bool root = r->rank == o->root;

	r->in_total = r->out_total = o->count;
	for (int i = 0; i < r->n; i++)
		r->in_counts[i] = r->out_counts[i] = block(o, i, 0);
	switch (o->collective) {
	case RDT_COLL_REDUCE_SCATTER: r->in_total = all, r->out_total = own; break;
	case RDT_COLL_ALLGATHER: r->in_total = own, r->out_total = all; break;
	case RDT_COLL_REDUCE: r->out_total = root ? o->count : 0; break;
	case RDT_COLL_GATHER: r->in_total = own, r->out_total = root ? all : 0; break;
	case RDT_COLL_SCATTER: r->in_total = root ? all : 0, r->out_total = own; break;
	case RDT_COLL_BROADCAST: r->in_total = 0; break;
	case RDT_COLL_BARRIER: r->in_total = r->out_total = 0; break;
	case RDT_COLL_ALLTOALL:
		r->in_total = r->out_total = 0;
		for (int i = 0; i < r->n; i++) {
			r->in_total += r->in_counts[i] = block(o, r->rank, i);
			r->out_total += r->out_counts[i] = block(o, i, r->rank);
		}
		break;
	default: break;
	}
}

/* Which buffer holds the other, when the call is in place here. */
static void place(struct running *r)
{
	const struct op *o = &r->op;
	size_t elem = rdt_type_size(o->type), at = block_offset(o, r->rank, r->rank) * elem;
	bool root = r->rank == o->root;

	r->in = r->in_memory.base;
	r->out = r->out_memory.base;
	if (o->collective == RDT_COLL_BROADCAST)
		r->in = r->out;
	if (!o->in_place)
		return;
	switch (o->collective) {
	case RDT_COLL_ALLREDUCE:
	case RDT_COLL_ALLTOALL: r->out = r->in; break;
	case RDT_COLL_REDUCE: r->out = root ? r->in : r->out; break;
	case RDT_COLL_REDUCE_SCATTER: r->out = r->in + at; break;
	case RDT_COLL_SCATTER: r->out = root ? r->in + at : r->out; break;
	case RDT_COLL_ALLGATHER: r->in = r->out + at; break;
	case RDT_COLL_GATHER: r->in = root ? r->out + at : r->in; break;
	default: break;
	}
}

static double value(const struct running *r, int rank, size_t i)
{
	if (r->op.inexact)
		return 1.0 / (double)(1 + rank * 31 + (int)(i % 1021) + r->round);
	return test_value(rank, i, r->round, r->op.op);
}

static int prepare(const struct world *w, struct running *r)
{
	const struct op *o = &r->op;
	size_t elem = rdt_type_size(o->type);
	/* What memory a rank has is its own affair. */
	uint64_t s = mix(o->seed, 77, (uint64_t)r->rank);
	enum memory in = w->mapped ? ALLOCATED : (enum memory)draw_below(&s, 3);
	enum memory out = w->mapped ? ALLOCATED : (enum memory)draw_below(&s, 3);

	measure(r);
	RANK_CHECK(buffer_new(r->comm, in, draw_below(&s, 2) * draw_below(&s, 8),
			      r->in_total * elem, &r->in_memory) == 0);
	RANK_CHECK(buffer_new(r->comm, out, draw_below(&s, 2) * draw_below(&s, 8),
			      r->out_total * elem, &r->out_memory) == 0);
	place(r);
	r->handles = o->collective == RDT_COLL_SEND ? 2 : 1;
	return 0;
}

/* A collective in the form that it is wanted in. */
#define CALL(name, ...)                                                                            \
	(form == CALLED	   ? rdt_##name(c, __VA_ARGS__)                                            \
	 : form == STARTED ? rdt_##name##_start(c, __VA_ARGS__, &r->request[0])                    \
			   : rdt_##name##_plan(c, __VA_ARGS__, &r->plan[0]))

static int call_transfer(struct running *r, enum form form)
{
	const struct op *o = &r->op;
	int to = (r->rank + o->distance) % r->n, from = (r->rank + r->n - o->distance) % r->n;
	int status;

	if (form == PLANNED) {
		status = rdt_send_plan(r->comm, r->in, o->count, o->type, to, &r->plan[0]);
		return status ? status
			      : rdt_recv_plan(r->comm, r->out, o->count, o->type, from,
					      &r->plan[1]);
	}
	status = rdt_send_start(r->comm, r->in, o->count, o->type, to, &r->request[0]);
	if (status || form == STARTED)
		return status ? status
			      : rdt_recv_start(r->comm, r->out, o->count, o->type, from,
					       &r->request[1]);
	status = rdt_recv(r->comm, r->out, o->count, o->type, from);
	return status ? status : rdt_wait(r->request[0]);
}

static int call(struct running *r, enum form form)
{
	const struct op *o = &r->op;
	rdt_comm *c = r->comm;

	switch (o->collective) {
	case RDT_COLL_ALLREDUCE: return CALL(allreduce, r->in, r->out, o->count, o->type, o->op);
	case RDT_COLL_REDUCE: return CALL(reduce, r->in, r->out, o->count, o->type, o->op, o->root);
	case RDT_COLL_BROADCAST: return CALL(broadcast, r->out, o->count, o->type, o->root);
	case RDT_COLL_REDUCE_SCATTER:
		return o->v ? CALL(reduce_scatterv, r->in, r->out, r->in_counts, o->type, o->op)
			    : CALL(reduce_scatter, r->in, r->out, o->count, o->type, o->op);
	case RDT_COLL_ALLGATHER:
		return o->v ? CALL(allgatherv, r->in, r->out, r->in_counts, o->type)
			    : CALL(allgather, r->in, r->out, o->count, o->type);
	case RDT_COLL_GATHER:
		return o->v ? CALL(gatherv, r->in, r->out, r->in_counts, o->type, o->root)
			    : CALL(gather, r->in, r->out, o->count, o->type, o->root);
	case RDT_COLL_SCATTER:
		return o->v ? CALL(scatterv, r->in, r->out, r->in_counts, o->type, o->root)
			    : CALL(scatter, r->in, r->out, o->count, o->type, o->root);
	case RDT_COLL_ALLTOALL:
		return o->v ? CALL(alltoallv, r->in, r->in_counts, r->out, r->out_counts, o->type)
			    : CALL(alltoall, r->in, r->out, o->count, o->type);
	case RDT_COLL_SEND: return call_transfer(r, form);
	default:
		return form == CALLED	 ? rdt_barrier(c)
		       : form == STARTED ? rdt_barrier_start(c, &r->request[0])
					 : rdt_barrier_plan(c, &r->plan[0]);
	}
}

/* ---- the reference --------------------------------------------------------------------------- */

/* Element i of every rank's vector, combined; in the order of ranks it is exact to the bit. */
static double combined(const struct running *r, size_t i, double *tolerance)
{
	const struct op *o = &r->op;
	double sum = 0;
	float sum32 = 0;

	*tolerance = 0;
	if (!o->inexact) {
		double expected = test_expected(r->n, i, r->round, o->op, test_floating(o->type));

		*tolerance = test_tolerance(o->type, o->op, expected);
		return expected;
	}
	for (int k = 0; k < r->n; k++) {
		double v = value(r, k, i);

		sum += v;
		sum32 = k ? sum32 + (float)v : (float)v;
	}
	if (!r->ordered || o->op == RDT_AVG) {
		*tolerance = (o->type == RDT_FLOAT32 ? 0x1p-23 : 0x1p-52) * sum * (r->n + 1);
		return o->op == RDT_AVG ? sum / r->n : sum;
	}
	return o->type == RDT_FLOAT32 ? (double)sum32 : sum;
}

/* What is in `out` from element `at` on: block from `rank`'s vector, or combined (rank -1). */
static int check_block(const struct running *r, size_t at, int rank, size_t first, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		double got = test_load(r->out, at + i, r->op.type), tolerance = 0;
		double expected =
			rank < 0 ? combined(r, first + i, &tolerance) : value(r, rank, first + i);

		if (!(fabs(got - expected) <= tolerance)) {
			fprintf(stderr,
				"rank %d of %d: element %zu is %.9g, expected %.9g (round %d)\n",
				r->rank, r->n, at + i, got, expected, r->round);
			return ranks_failed(__FILE__, __LINE__, "the result");
		}
	}
	return 0;
}

static int check_blocks(const struct running *r, bool from_each)
{
	const struct op *o = &r->op;
	size_t at = 0;

	for (int b = 0; b < r->n; b++) {
		size_t first = from_each ? block_offset(o, b, r->rank) : 0;
		size_t count = from_each ? r->out_counts[b] : r->in_counts[b];

		if (check_block(r, at, b, first, count))
			return 1;
		at += count;
	}
	return 0;
}

static int check_result(const struct running *r)
{
	const struct op *o = &r->op;
	size_t before = block_offset(o, r->rank, r->rank), own = r->out_total;
	int from = (r->rank + r->n - o->distance) % r->n;

	switch (o->collective) {
	case RDT_COLL_ALLREDUCE: return check_block(r, 0, -1, 0, own);
	case RDT_COLL_REDUCE: return check_block(r, 0, -1, 0, own);
	case RDT_COLL_REDUCE_SCATTER: return check_block(r, 0, -1, before, own);
	case RDT_COLL_BROADCAST: return check_block(r, 0, o->root, 0, own);
	case RDT_COLL_SCATTER: return check_block(r, 0, o->root, before, own);
	case RDT_COLL_ALLGATHER: return check_blocks(r, false);
	case RDT_COLL_GATHER: return r->rank == o->root ? check_blocks(r, false) : 0;
	case RDT_COLL_ALLTOALL: return check_blocks(r, true);
	case RDT_COLL_SEND: return check_block(r, 0, from, 0, own);
	default: return 0;
	}
}

static void fill(struct running *r)
{
	size_t count = r->op.collective == RDT_COLL_BROADCAST ? r->out_total : r->in_total;

	for (size_t i = 0; i < count; i++)
		test_store(r->in, i, r->op.type, value(r, r->rank, i));
}

static int check(const struct running *r)
{
	bool apart =
		r->in >= r->in_memory.base && r->in <= r->in_memory.base + r->in_memory.bytes &&
		!(r->out >= r->in_memory.base && r->out <= r->in_memory.base + r->in_memory.bytes);

	RANK_CHECK(buffer_guarded(&r->in_memory) && buffer_guarded(&r->out_memory));
	if (check_result(r))
		return 1;
	for (size_t i = 0; apart && i < r->in_total; i++) {
		double v = value(r, r->rank, i);

		RANK_CHECK(test_load(r->in, i, r->op.type) ==
			   (r->op.type == RDT_FLOAT32 ? (double)(float)v : v));
	}
	return 0;
}

/* ---- a case ---------------------------------------------------------------------------------- */

static int begin(struct running *r)
{
	if (r->op.form == PLANNED) {
		if (!r->plan[0])
			RANK_CHECK(call(r, PLANNED) == 0);
		fill(r);
		for (int h = 0; h < r->handles; h++)
			RANK_CHECK(rdt_plan_start(r->plan[h]) == 0);
		return 0;
	}
	fill(r);
	RANK_CHECK(call(r, r->op.form) == 0);
	return 0;
}

static int finish(struct running *r)
{
	for (int h = r->handles - 1; h >= 0 && r->op.form == PLANNED; h--)
		RANK_CHECK(rdt_plan_wait(r->plan[h]) == 0);
	for (int h = r->handles - 1; h >= 0 && r->op.form == STARTED; h--) {
		int done = r->op.seed % 2 == 0;

		if (done)
			RANK_CHECK(rdt_wait(r->request[h]) == 0);
		while (!done)
			RANK_CHECK(rdt_test(r->request[h], &done) == 0);
	}
	return check(r);
}

static uint64_t hash_of(const struct running *r)
{
	uint64_t hash = 14695981039346656037u;

	for (size_t i = 0; i < r->out_total * rdt_type_size(r->op.type); i++)
		hash = (hash ^ r->out[i]) * 1099511628211u;
	return hash;
}

struct session {
	const struct world *w;
	rdt_comm *comm, *part;
	int rank; /* in comm */
};

/* One to three operations; one on a part that this rank has no part in has no communicator. */
struct together {
	struct running of[TOGETHER];
	int n, runs;
};

/* All ranks that have the result have the same bits. */
static int compare_bits(const struct session *s, const struct together *t, int number)
{
	uint64_t *hashes = (uint64_t *)ranks_shared() + number % 2 * TOGETHER * N_MAX;

	for (int k = 0; k < t->n; k++)
		if (t->of[k].comm)
			hashes[k * N_MAX + s->rank] = hash_of(&t->of[k]);
	RANK_CHECK(rdt_barrier(s->comm) == 0);
	for (int k = 0; k < t->n; k++) {
		const struct op *o = &t->of[k].op;
		int other = 0;

		while (o->on_part && s->w->color[other] != s->w->color[s->rank])
			other++;
		if (t->of[k].comm &&
		    (o->collective == RDT_COLL_ALLREDUCE || o->collective == RDT_COLL_ALLGATHER))
			RANK_CHECK(hashes[k * N_MAX + s->rank] == hashes[k * N_MAX + other]);
	}
	return 0;
}

static int run_together(const struct session *s, struct together *t)
{
	for (int run = 0; run < t->runs; run++) {
		for (int k = 0; k < t->n; k++) {
			t->of[k].round = run;
			if (t->of[k].comm && begin(&t->of[k]))
				return 1;
		}
		/* Each rank in an order of its own, but one communicator after the other: a wait
		 * drives its own only. */
		for (int part = 0; part < 2; part++)
			for (int k = 0; k < t->n; k++) {
				struct running *r = &t->of[(k + s->rank) % t->n];

				if (r->comm && r->op.on_part == part && finish(r))
					return 1;
			}
	}
	return 0;
}

static int run_case(const struct session *s, int number)
{
	const struct world *w = s->w;
	uint64_t state = mix(w->seed, 2, (uint64_t)number);
	struct together t = { .n = 1 + (int)draw_below(&state, TOGETHER) };
	int failed = 0;

	t.runs = 1 + (int)draw_below(&state, 3);
	for (int k = 0; k < t.n && !failed; k++) {
		bool on_part = draw_below(&state, 2) && w->split;
		uint64_t seed = draw(&state);
		struct running *r = &t.of[k];

		r->op.on_part = on_part;
		r->comm = on_part ? s->part : s->comm;
		if (!r->comm)
			continue;
		r->rank = rdt_comm_rank(r->comm);
		r->n = rdt_comm_size(r->comm);
		r->ordered = w->rank_order;
		r->op = draw_op(w, mix(seed, 3, on_part ? (uint64_t)w->color[s->rank] + 1 : 0),
				on_part, r->n);
		failed = prepare(w, r);
	}
	failed = failed || run_together(s, &t) || compare_bits(s, &t, number);
	if (failed) {
		fprintf(stderr, "rank %d: case %d, %d times:\n", s->rank, number, t.runs);
		for (int k = 0; k < t.n; k++)
			if (t.of[k].comm)
				print_op(&t.of[k].op, stderr);
		return 1;
	}
	for (int k = 0; k < t.n; k++) {
		if (!t.of[k].comm)
			continue;
		for (int h = 0; h < t.of[k].handles; h++)
			rdt_plan_destroy(t.of[k].plan[h]);
		RANK_CHECK(buffer_free(&t.of[k].in_memory) == 0);
		RANK_CHECK(buffer_free(&t.of[k].out_memory) == 0);
	}
	return 0;
}

/* ---- a world --------------------------------------------------------------------------------- */

static void set_world(const struct world *w, int rank)
{
	char text[64];

	snprintf(text, sizeof(text), "host%d", w->host[rank]);
	setenv("RDTRAIN_HOST_ID", text, 1);
	setenv("RDTRAIN_RANK_ORDER", w->rank_order ? "1" : "0", 1);
	setenv("RDTRAIN_SHM_CMA", w->staged ? "0" : "1", 1);
	setenv("RDTRAIN_TIMEOUT", "60", 1);
	if (w->narrow)
		setenv("RDTRAIN_WINDOW", "4096", 1);
	if (w->forced && w->forced->collective != RDT_COLL_SEND) {
		const char *name = rdt_collective_name(w->forced->collective);
		size_t at = (size_t)snprintf(text, sizeof(text), "RDTRAIN_");

		for (; *name && at + 1 < sizeof(text); name++)
			text[at++] = (char)(*name >= 'a' && *name <= 'z' ? *name - 32 : *name);
		text[at] = '\0';
		setenv(text, w->forced->name, 1);
	}
}

static int live(int rank, int n, void *arg)
{
	const struct world *w = arg;
	struct session s = { .w = w, .rank = rank };

	(void)n;
	set_world(w, rank);
	RANK_CHECK(rdt_comm_create(NULL, &s.comm) == 0);
	if (w->split)
		RANK_CHECK(rdt_comm_split(s.comm, w->color[rank], -rank, &s.part) == 0);
	for (int i = 0; i < w->cases; i++)
		if ((w->only < 0 || w->only == w->first + i) && run_case(&s, w->first + i))
			return 1;
	rdt_comm_destroy(s.part);
	rdt_comm_destroy(s.comm);
	return 0;
}

static void print_world(const struct world *w, uint64_t seed)
{
	printf("FAILED: cases %d to %d of seed %llu: %d ranks, hosts", w->first,
	       w->first + w->cases - 1, (unsigned long long)seed, w->n);
	for (int r = 0; r < w->n; r++)
		printf(" %d", w->host[r]);
	printf(", colors");
	for (int r = 0; r < w->n; r++)
		printf(" %d", w->color[r]);
	printf("%s%s%s%s", w->rank_order ? ", in the order of ranks" : "",
	       w->mapped ? ", mapped" : "", w->narrow ? ", narrow windows" : "",
	       w->staged ? ", without process_vm_writev" : "");
	if (w->forced)
		printf(", %s by %s", rdt_collective_name(w->forced->collective), w->forced->name);
	printf("\nrepeat with --seed %llu --case K\n", (unsigned long long)seed);
}

static long number_of(int argc, char **argv, const char *option, const char *variable,
		      long otherwise)
{
	const char *set = variable ? getenv(variable) : NULL;

	for (int i = 1; i + 1 < argc; i += 2)
		if (strcmp(argv[i], option) == 0)
			set = argv[i + 1];
	return set && *set ? strtol(set, NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
	const char *transport = getenv("RDTRAIN_TRANSPORT");
	bool verbs = transport && strcmp(transport, "verbs") == 0;
#ifdef __SANITIZE_ADDRESS__
	int enough = 500;
#else
	int enough = verbs ? 200 : 2000;
#endif
	uint64_t seed = (uint64_t)number_of(argc, argv, "--seed", "RDTRAIN_TEST_SEED", 20261123);
	int cases = (int)number_of(argc, argv, "--cases", "RDTRAIN_TEST_CASES", enough);
	int only = (int)number_of(argc, argv, "--case", NULL, -1), done = 0;

	ranks_need_device();
	if (!transport)
		setenv("RDTRAIN_TRANSPORT", "shm", 1); /* hosts are pretended */
	if (only >= cases)
		cases = only + 1;
	printf("seed %llu, %d cases\n", (unsigned long long)seed, only < 0 ? cases : 1);
	for (int first = 0; first < cases; first += CASES_PER_WORLD) {
		struct world w = draw_world(seed, first / CASES_PER_WORLD, verbs);

		w.cases = cases - first < CASES_PER_WORLD ? cases - first : CASES_PER_WORLD;
		w.only = only;
		if (only >= 0 && (only < first || only >= first + w.cases))
			continue;
		if (!ranks_run(w.n, 240, live, &w)) {
			print_world(&w, seed);
			return 1;
		}
		done += only < 0 ? w.cases : 1;
	}
	printf("%d cases passed\n", done);
	return 0;
}
