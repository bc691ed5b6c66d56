/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine under a hostile network: all ranks of an operation in one process, over a transport
 * that delivers in any order, late, and refuses now and then. Ranks run ahead of each other as far
 * as the schedules let them. A wrong result prints the seed that shows it again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "collectives/meaning.h"
#include "lib/comm/comm.h"
#include "lib/comm/shape.h"
#include "tests/fake.h"
#include "tests/values.h"

#define RUNS 4	    /* consecutive operations on one plan */
#define MAX_RANKS 7 /* of a group */

struct rank {
	rdt_comm comm;
	rdt_plan plan;
	int32_t *memory, *in, *out; /* both in `memory`, beside each other or in place */
	uint64_t in_count, out_count;
	int finished; /* operations */
};

struct setting {
	const struct rdt_algorithm *algorithm;
	int n, root;
	size_t count;
	bool in_place, remote_output;
	uint64_t seed;
};

/* The whole operation as the meaning of collectives knows it; blocks are of equal length. */
struct whole {
	struct rdt_shape shape;
	const struct rdt_shape *all[MAX_RANKS];
	uint64_t offset[MAX_RANKS], length[MAX_RANKS];
};

static void describe(struct whole *whole, const struct setting *s)
{
	whole->shape = (struct rdt_shape){
		.collective = s->algorithm->collective,
		.elem_size = sizeof(int32_t),
		.root = s->root,
		.bytes = s->count * sizeof(int32_t),
		.in = { whole->offset, whole->length },
		.out = { whole->offset, whole->length },
	};
	for (int i = 0; i < s->n; i++) {
		whole->offset[i] = (uint64_t)i * s->count * sizeof(int32_t);
		whole->length[i] = s->count * sizeof(int32_t);
		whole->all[i] = &whole->shape;
	}
}

/* The receiver of a SEND; it is rank 1 of a group in which the root is 0. */
static int receiver(const struct setting *s)
{
	return (s->root + 1) % s->n;
}

static int group_rank(const struct setting *s, int rank)
{
	return s->algorithm->collective == RDT_COLL_SEND ? rank == receiver(s) : rank;
}

static void rank_alloc(struct rank *me, const struct setting *s, int rank)
{
	struct rdt_call *call = &me->plan.call;
	int64_t distance = 0;

	me->in_count = rdt_call_bytes(&me->comm, call, RDT_INPUT) / sizeof(int32_t);
	me->out_count = rdt_call_bytes(&me->comm, call, RDT_OUTPUT) / sizeof(int32_t);
	me->memory = calloc(me->in_count + me->out_count + 1, sizeof(*me->memory));
	assert_non_null(me->memory);
	if (s->in_place) {
		struct whole whole;

		describe(&whole, s);
		distance = rdt_meaning_distance(&whole.shape, rank) / (int64_t)sizeof(int32_t);
		me->out = me->memory - (distance < 0 ? distance : 0);
		me->in = me->out + distance;
	} else {
		me->out = me->memory;
		me->in = me->memory + me->out_count;
	}
	call->in = me->in;
	call->out = me->out;
}

static void rank_init(struct rank *me, struct fake_net *net, const struct setting *s, int rank)
{
	const struct rdt_agreed agreed = { .remote_output = s->remote_output };
	struct rdt_call *call = &me->plan.call;
	struct rdt_shaper shaper;

	me->comm.rank = rank;
	me->comm.size = s->n;
	me->comm.n_transports = 1;
	me->comm.transports[0] =
		(struct rdt_open_transport){ &fake_ops, fake_transport(net, rank) };
	me->comm.config.window = 4096;
	*call = (struct rdt_call){
		.collective = s->algorithm->collective,
		.count = s->algorithm->collective == RDT_COLL_BARRIER ? 0 : s->count,
		.type = RDT_INT32,
		.op = RDT_SUM,
		.root = s->root,
		.peer = receiver(s),
	};
	rank_alloc(me, s, rank);
	me->plan.comm = &me->comm;
	assert_int_equal(rdt_shaper_open(&shaper, &me->comm, call, &agreed), 0);
	assert_int_equal(rdt_bind(&me->plan, s->algorithm, &shaper), 0);
	rdt_shaper_close(&shaper);
	rdt_bind_buffers(&me->plan, call);
	if (me->plan.scratch)
		me->plan.program.local[RDT_SCRATCH].base = me->plan.scratch->base;
}

/* What rdt_bind_exchange does over the rendezvous. */
static void rank_link(struct rank *ranks, struct fake_net *net, const struct setting *s, int rank)
{
	struct rdt_program *p = &ranks[rank].plan.program;

	for (int l = 0; l < p->n_links; l++) {
		struct rdt_link *link = &p->links[l];
		struct rank *peer = &ranks[link->peer];

		link->ep = fake_ep(net, rank, link->peer);
		link->ops = &fake_ops;
		if (peer->plan.scratch)
			link->remote[RDT_SCRATCH] = fake_remote(net, peer->plan.scratch->base,
								peer->plan.scratch->bytes);
		if (s->remote_output)
			link->remote[RDT_OUTPUT] =
				fake_remote(net, peer->out, peer->out_count * sizeof(int32_t));
	}
}

static void prepare(struct rank *me, const struct setting *s, int rank)
{
	bool broadcasts = s->algorithm->collective == RDT_COLL_BROADCAST;

	memset(me->out, 0xee, me->out_count * sizeof(*me->out));
	if (broadcasts && rank == s->root)
		test_fill(me->out, me->out_count, RDT_INT32, RDT_SUM, rank, me->finished);
	test_fill(me->in, me->in_count, RDT_INT32, RDT_SUM, rank, me->finished);
}

static bool right(const struct rank *me, const struct setting *s, int rank)
{
	bool sends = s->algorithm->collective == RDT_COLL_SEND;
	struct whole whole;

	describe(&whole, s);
	for (uint64_t i = 0; i < me->out_count; i++) {
		struct rdt_meaning m;
		int32_t expected;

		if (!rdt_meaning_of(whole.all, s->n, group_rank(s, rank), i, &m))
			return false;
		if (m.rank < 0)
			expected =
				(int32_t)test_expected(s->n, m.element, me->finished, RDT_SUM, 0);
		else
			expected = test_value(sends ? s->root : m.rank, m.element, me->finished,
					      RDT_SUM);
		if (me->out[i] != expected)
			return false;
	}
	return true;
}

static bool run(const struct setting *s)
{
	struct fake_net *net = fake_net_new(s->n, s->seed);
	struct rank *ranks = calloc((size_t)s->n, sizeof(*ranks));
	int left = s->n;
	bool ok = true;

	for (int r = 0; r < s->n; r++)
		rank_init(&ranks[r], net, s, r);
	for (int r = 0; r < s->n; r++)
		rank_link(ranks, net, s, r);
	for (int r = 0; r < s->n; r++) {
		prepare(&ranks[r], s, r);
		rdt_engine_start(&ranks[r].plan.program);
	}
	/* 2^24 turns are far more than the longest of these cases needs: beyond them nothing moves.
	 */
	for (long turn = 0; ok && left > 0; turn++) {
		int r = (int)fake_dice(net, (unsigned)s->n);
		struct rank *me = &ranks[r];

		ok = turn < 1 << 24;
		if (fake_dice(net, 3) && fake_step(net))
			continue;
		if (me->finished == RUNS)
			continue;
		ok = ok && rdt_engine_advance(&me->plan.program) >= 0;
		if (me->plan.program.running)
			continue;
		ok = ok && right(me, s, r);
		me->finished++;
		if (me->finished == RUNS) {
			left--;
		} else {
			prepare(me, s, r);
			rdt_engine_start(&me->plan.program);
		}
	}
	ok = ok && fake_idle(net);
	for (int r = 0; r < s->n; r++) {
		rdt_bind_free(&ranks[r].plan);
		free(ranks[r].memory);
	}
	free(ranks);
	fake_net_free(net);
	if (!ok)
		print_error("%s n=%d count=%zu in_place=%d remote_output=%d root=%d seed=%lu is "
			    "wrong\n",
			    s->algorithm->name, s->n, s->count, s->in_place, s->remote_output,
			    s->root, (unsigned long)s->seed);
	return ok;
}

/* The fake network has no hosts, whose ranks would reach into each other's memory. */
static bool can_run(const struct setting *s)
{
	enum rdt_collective collective = s->algorithm->collective;

	if (s->algorithm->applies || (collective == RDT_COLL_SEND && s->n != 2))
		return false;
	return !s->in_place || rdt_collective_in_place(collective);
}

static void every_algorithm_survives_any_order_of_delivery(void **state)
{
	/* Less than a window, several windows with a short tail, whole windows, fewer elements than
	 * ranks. */
	static const size_t counts[] = { 0, 1, 3, 100, 1024, 4096, 5003, 10241 };
	uint64_t seed = 1;

	(void)state;
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++)
		for (int n = 1; n <= MAX_RANKS; n++)
			for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++)
				for (int flags = 0; flags < 4; flags++) {
					struct setting s = {
						.algorithm = a,
						.n = n,
						.root = (int)(seed % (uint64_t)n),
						.count = counts[c],
						.in_place = flags & 1,
						.remote_output = flags & 2,
						.seed = seed++,
					};

					if (can_run(&s))
						assert_true(run(&s));
				}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_algorithm_survives_any_order_of_delivery),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
