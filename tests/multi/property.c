/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random cases, drawn from a seed: every collective in every form, over all kinds of memory, in
 * place or not, several at a time, on the whole communicator and on parts of it, hosts laid out at
 * random, algorithms forced; against a reference in plain loops.
 *
 *	multi_property [--seed S] [--cases N] [--case K | --world W]
 *
 * (RDTRAIN_TEST_SEED and RDTRAIN_TEST_CASES do the same.) A case is a function of the seed and of
 * its number K. A world is the processes and settings that a few cases share; a case that fails
 * only after others is repeated with its world.
 */
#include "ranks.h"

#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "collectives/algorithms.h"
#include "collectives/meaning.h"

#include "calls.h"
#include "patterns.h"

enum {
	N_MAX = 9,
	CASES = 25, /* of one world */
	PARTS = 3,
	GROUPS = 1 + PARTS, /* the whole, and the parts */
	SLOTS = 6,	    /* operations in flight */
	ROUNDS = 3,
	GUARD = 64
};

/* ---- drawing --------------------------------------------------------------------------------- */

struct rng {
	uint64_t state;
};

static uint64_t next(struct rng *rng)
{
	uint64_t z = rng->state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static struct rng rng_for(uint64_t seed, uint64_t what, uint64_t number)
{
	struct rng rng = { seed ^ what << 56 ^ number * 0xd1342543de82ef95u };

	next(&rng);
	return rng;
}

/* 0 .. n - 1 */
static size_t below(struct rng *rng, size_t n)
{
	return (size_t)(next(rng) % n);
}

static bool chance(struct rng *rng, int percent)
{
	return below(rng, 100) < (size_t)percent;
}

/* ---- worlds ---------------------------------------------------------------------------------- */

struct group {
	int size;
	int member[N_MAX]; /* ranks of the world, in the order of the group */
	int host[N_MAX];
};

struct world {
	uint64_t seed;
	int number, n;
	bool verbs, rank_order, no_cma;
	long window; /* 0: the library's */
	int host[N_MAX], color[N_MAX], key[N_MAX];
	bool split;
	struct group group[GROUPS];
	const struct rdt_algorithm *forced[RDT_COLL_COUNT];
};

static bool applies(const struct world *w, const struct group *g, const struct rdt_algorithm *a,
		    bool ragged)
{
	const struct rdt_shape shape = { .collective = a->collective,
					 .elem_size = 4,
					 .ragged = ragged,
					 .host = w->verbs ? NULL : g->host };

	return rdt_algorithm_applies(a, g->size, &shape);
}

static void draw_forced(struct rng *rng, struct world *w)
{
	for (int c = 0; c < RDT_COLL_COUNT; c++) {
		const struct rdt_algorithm *fit[32];
		size_t n = 0;

		if (c == RDT_COLL_SEND || chance(rng, 50))
			continue;
		for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++)
			if ((int)a->collective == c && applies(w, &w->group[0], a, false) &&
			    (!w->rank_order || !rdt_collective_reduces(a->collective) ||
			     a->flags & RDT_ALG_RANK_ORDER))
				fit[n++] = a;
		w->forced[c] = fit[below(rng, n)];
	}
}

static void add_member(struct world *w, struct group *g, int rank)
{
	int at = g->size++;

	while (at > 0 && w->key[g->member[at - 1]] > w->key[rank] && g != &w->group[0]) {
		g->member[at] = g->member[at - 1];
		at--;
	}
	g->member[at] = rank;
}

static void draw_world(struct world *w, uint64_t seed, int number, bool verbs)
{
	struct rng rng = rng_for(seed, 1, (uint64_t)number);
	size_t layout, hosts, parts;

	*w = (struct world){ .seed = seed, .number = number, .verbs = verbs };
	w->n = 1 + (int)below(&rng, verbs ? 4 : N_MAX);
	if (w->n == 1)
		w->n = 1 + (int)below(&rng, 3); /* alone there is little to see */
	layout = below(&rng, 4);
	hosts = 1 + below(&rng, (size_t)w->n);
	parts = 1 + below(&rng, PARTS);
	w->split = w->n > 1 && chance(&rng, 50);
	for (int r = 0; r < w->n; r++) {
		/* one host; consecutive ranks; in turn; anyhow */
		size_t turn = layout == 0   ? 0
			      : layout == 1 ? (size_t)r * hosts / (size_t)w->n
			      : layout == 2 ? (size_t)r % hosts
					    : below(&rng, hosts);
		w->host[r] = (int)turn;
		w->color[r] = chance(&rng, 10) ? -1 : (int)below(&rng, parts);
		w->key[r] = (int)below(&rng, 4) - 1;
		add_member(w, &w->group[0], r);
		if (w->split && w->color[r] >= 0)
			add_member(w, &w->group[1 + w->color[r]], r);
	}
	for (int g = 0; g < GROUPS; g++)
		for (int i = 0; i < w->group[g].size; i++)
			w->group[g].host[i] = w->host[w->group[g].member[i]];
	w->rank_order = chance(&rng, 25);
	w->no_cma = chance(&rng, 15);
	if (chance(&rng, 30))
		w->window = chance(&rng, 50) ? 4096 : 20000;
	if (chance(&rng, 40))
		draw_forced(&rng, w);
}

static void set_world(const struct world *w, int rank)
{
	char name[64], value[64];

	snprintf(value, sizeof(value), "property-%d", w->host[rank]);
	setenv("RDTRAIN_HOST_ID", value, 1);
	setenv("RDTRAIN_RANK_ORDER", w->rank_order ? "1" : "0", 1);
	setenv("RDTRAIN_SHM_CMA", w->no_cma ? "0" : "1", 1);
	setenv("RDTRAIN_TIMEOUT", w->verbs ? "100" : "40", 1);
	snprintf(value, sizeof(value), "%ld", w->window);
	if (w->window)
		setenv("RDTRAIN_WINDOW", value, 1);
	for (int c = 0; c < RDT_COLL_COUNT; c++) {
		if (!w->forced[c])
			continue;
		snprintf(name, sizeof(name), "RDTRAIN_%s",
			 rdt_collective_name((enum rdt_collective)c));
		for (char *at = name; *at; at++)
			*at = (char)(*at >= 'a' && *at <= 'z' ? *at - 'a' + 'A' : *at);
		setenv(name, w->forced[c]->name, 1);
	}
}

/* ---- operations ------------------------------------------------------------------------------ */

enum memory { PLAIN, REGISTERED, ALLOCATED };

struct place {
	enum memory memory;
	size_t offset;
};

struct op {
	const struct group *group; /* NULL: no operation */
	enum test_kind kind;	   /* TEST_SEND: a send and its receive, or a ring of them */
	size_t count, counts[N_MAX], matrix[N_MAX][N_MAX];
	enum rdt_type type;
	enum rdt_op op;
	int root;
	int peer; /* TEST_SEND: the receiver; -1: everybody to the next but shift */
	int shift;
	enum test_form form, form_of[N_MAX]; /* blocking and started calls go together */
	bool in_place[N_MAX];
	bool null_absent; /* buffers that a rank does not have are NULL */
	struct place in[N_MAX], out[N_MAX];
	struct pattern pattern;
};

struct test_case {
	int number, slots, rounds;
	struct op op[SLOTS][GROUPS];
	int late_rank, late_us;
	bool polling, several_groups;
};

static enum rdt_collective collective_of(enum test_kind kind)
{
	static const enum rdt_collective of[] = {
		RDT_COLL_ALLREDUCE, RDT_COLL_REDUCE_SCATTER, RDT_COLL_REDUCE_SCATTER,
		RDT_COLL_ALLGATHER, RDT_COLL_ALLGATHER,	     RDT_COLL_BROADCAST,
		RDT_COLL_REDUCE,    RDT_COLL_GATHER,	     RDT_COLL_GATHER,
		RDT_COLL_SCATTER,   RDT_COLL_SCATTER,	     RDT_COLL_ALLTOALL,
		RDT_COLL_ALLTOALL,  RDT_COLL_BARRIER,	     RDT_COLL_SEND,
	};

	return of[kind];
}

static bool is_v(enum test_kind kind)
{
	return kind == TEST_REDUCE_SCATTERV || kind == TEST_ALLGATHERV || kind == TEST_GATHERV ||
	       kind == TEST_SCATTERV || kind == TEST_ALLTOALLV;
}

/* Elements of the longest buffer; not more than bytes allow. */
static size_t draw_count(struct rng *rng, const struct world *w, const struct op *o)
{
	size_t elem = rdt_type_size(o->type), dice = below(rng, 1000), most;

	if (dice < 30)
		return 0;
	if (dice < 90)
		return 1;
	if (dice < 200)
		return below(rng, 2 * (size_t)o->group->size + 1);
	if (dice < 450)
		return 1 + 2 * below(rng, 150);
	most = dice < 750   ? 8 << 10
	       : dice < 930 ? 48 << 10
	       : dice < 993 ? (w->verbs ? 100 << 10 : 300 << 10)
			    : (w->verbs ? 300 << 10 : 3 << 20);
	return below(rng, most / elem);
}

static void draw_counts(struct rng *rng, struct op *o, size_t total)
{
	size_t n = (size_t)o->group->size, average = total / n, style = below(rng, 4);
	bool symmetric = chance(rng, 50);

	o->count = average;
	for (size_t i = 0; i < n; i++)
		o->counts[i] = style == 0   ? below(rng, 2 * average + 1)
			       : style == 1 ? (chance(rng, 25) ? 0 : below(rng, 2 * average + 1))
			       : style == 2 ? average
					    : 0;
	if (style == 3)
		o->counts[below(rng, n)] = total;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < n; k++) {
			size_t some = chance(rng, 30) ? 0 : below(rng, 2 * average / n + 2);

			o->matrix[i][k] = style == 2			? average / n
					  : style == 3 && (i != 0 || k) ? some / 8
									: some;
			if (symmetric && k < i)
				o->matrix[i][k] = o->matrix[k][i];
		}
}

static void draw_places(struct rng *rng, struct op *o)
{
	/* Plans write straight into buffers only where all ranks have the right memory. */
	size_t dice = below(rng, 10), elem = rdt_type_size(o->type);
	bool odd = chance(rng, 20);

	for (int i = 0; i < o->group->size; i++)
		for (int out = 0; out < 2; out++) {
			struct place *p = out ? &o->out[i] : &o->in[i];

			p->memory = dice < 3   ? ALLOCATED
				    : dice < 4 ? REGISTERED
				    : dice < 6 ? (enum memory)(REGISTERED + below(rng, 2))
				    : dice < 7 ? PLAIN
					       : (enum memory)below(rng, 3);
			p->offset = odd		      ? below(rng, 64)
				    : chance(rng, 50) ? 0
						      : below(rng, 8) * elem;
		}
}

static bool in_place_allowed(const struct op *o, int me)
{
	switch (o->kind) {
	case TEST_BROADCAST:
	case TEST_BARRIER:
	case TEST_SEND: return false;
	case TEST_REDUCE:
	case TEST_GATHER:
	case TEST_GATHERV:
	case TEST_SCATTER:
	case TEST_SCATTERV: return me == o->root;
	case TEST_ALLTOALLV:
		for (int i = 0; i < o->group->size; i++)
			if (o->matrix[me][i] != o->matrix[i][me])
				return false;
		return true;
	default: return true;
	}
}

static bool forced_refuses(const struct world *w, const struct op *o)
{
	const struct rdt_algorithm *forced = w->forced[collective_of(o->kind)];

	return forced && !applies(w, o->group, forced, is_v(o->kind));
}

static void draw_op(struct rng *rng, const struct world *w, const struct group *g, struct op *o,
		    int scale)
{
	size_t n = (size_t)g->size, style;

	*o = (struct op){ .group = g, .peer = -1 };
	do
		o->kind = (enum test_kind)below(rng, TEST_COLLECTIVES + 1);
	while (forced_refuses(w, o) || (o->kind == TEST_SEND && n == 1) ||
	       (o->kind == TEST_BARRIER && chance(rng, 50)));
	o->type = (enum rdt_type)below(rng, RDT_UINT64 + 1);
	o->op = (enum rdt_op)below(rng, RDT_PROD + 1);
	o->root = (int)below(rng, n);
	if (o->kind == TEST_SEND) {
		o->shift = 1 + (int)below(rng, n - (n > 1));
		if (chance(rng, 50))
			o->peer = (o->root + o->shift) % (int)n;
	}
	o->count = draw_count(rng, w, o) / (size_t)scale;
	if (rdt_collective_blocks(collective_of(o->kind)))
		draw_counts(rng, o, o->count);
	o->form = (enum test_form)below(rng, TEST_FORMS);
	/* In a ring of blocking sends all would wait for one another. */
	if (o->kind == TEST_SEND && o->peer < 0 && o->form == TEST_BLOCKING)
		o->form = TEST_START;
	style = below(rng, 4); /* in place: nobody, nobody, all, some */
	for (int i = 0; i < g->size; i++) {
		o->in_place[i] =
			in_place_allowed(o, i) && (style == 2 || (style == 3 && chance(rng, 50)));
		o->form_of[i] = o->form;
	}
	o->null_absent = chance(rng, 50);
	draw_places(rng, o);
	o->pattern = (struct pattern){
		.type = o->type,
		.op = o->op,
		.reduces = rdt_collective_reduces(collective_of(o->kind)),
		.rough = test_floating(o->type) && chance(rng, 40),
		.in_order = w->rank_order,
		.salt = (uint32_t)next(rng),
	};
}

/* Blocking on some ranks and started on others: the others do not see a difference. */
static void mix_forms(struct rng *rng, struct test_case *c)
{
	for (int s = 0; s < c->slots; s++) {
		struct op *o = &c->op[s][0];

		if (o->form == TEST_PLAN || (o->kind == TEST_SEND && o->peer < 0) ||
		    !chance(rng, 30))
			continue;
		for (int i = 0; i < o->group->size; i++)
			o->form_of[i] = (enum test_form)below(rng, 2);
	}
}

static void draw_case(struct test_case *c, const struct world *w, int number)
{
	struct rng rng = rng_for(w->seed, 2, (uint64_t)number);
	bool whole = false, parts = false;

	memset(c, 0, sizeof(*c));
	c->number = number;
	c->slots = chance(&rng, 60) ? 1 : 2 + (int)below(&rng, SLOTS - 1);
	c->rounds = chance(&rng, 50) ? 1 : 1 + (int)below(&rng, ROUNDS);
	for (int s = 0; s < c->slots; s++) {
		bool split = w->split && chance(&rng, 40);

		for (int g = 0; g < GROUPS; g++) {
			bool takes_part = split ? g > 0 && w->group[g].size : g == 0;

			if (takes_part)
				draw_op(&rng, w, &w->group[g], &c->op[s][g], c->slots);
		}
		parts |= split;
		whole |= !split;
	}
	c->several_groups = parts && whole;
	if (!parts)
		mix_forms(&rng, c);
	c->polling = chance(&rng, 30);
	c->late_rank = chance(&rng, 15) ? (int)below(&rng, (size_t)w->n) : -1;
	c->late_us = 1 + (int)below(&rng, 3000);
}

/* ---- in words -------------------------------------------------------------------------------- */

struct words {
	char text[8000];
	size_t used;
};

__attribute__((format(printf, 2, 3))) static void say(struct words *words, const char *format, ...)
{
	size_t left = sizeof(words->text) - words->used;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(words->text + words->used, left, format, args);
	va_end(args);
	words->used += n < 0 ? 0 : (size_t)n < left ? (size_t)n : left - 1;
}

static void say_world(struct words *words, const struct world *w)
{
	say(words, "world %d: n=%d hosts=", w->number, w->n);
	for (int r = 0; r < w->n; r++)
		say(words, "%d", w->host[r]);
	say(words, "%s%s%s", w->verbs ? " verbs" : " shm", w->rank_order ? " rank-order" : "",
	    w->no_cma ? " no-cma" : "");
	if (w->window)
		say(words, " window=%ld", w->window);
	for (int g = 1; g < GROUPS; g++) {
		for (int i = 0; i < w->group[g].size; i++)
			say(words, "%s%d", i ? "," : " part={", w->group[g].member[i]);
		say(words, "%s", w->group[g].size ? "}" : "");
	}
	for (int i = 0; i < RDT_COLL_COUNT; i++)
		if (w->forced[i])
			say(words, " %s=%s", rdt_collective_name((enum rdt_collective)i),
			    w->forced[i]->name);
}

static void say_op(struct words *words, const struct world *w, const struct op *o)
{
	int n = o->group->size;

	say(words, "; %s(", test_kind_name(o->kind));
	if (o->group != &w->group[0])
		say(words, "part %d, ", (int)(o->group - w->group));
	if (o->kind == TEST_ALLTOALLV) {
		for (int i = 0; i < n; i++)
			for (int k = 0; k < n; k++)
				say(words, "%s%zu", k ? "," : "|", o->matrix[i][k]);
		say(words, "|");
	} else if (is_v(o->kind)) {
		for (int i = 0; i < n; i++)
			say(words, "%s%zu", i ? "," : "counts=", o->counts[i]);
	} else {
		say(words, "count=%zu", o->count);
	}
	say(words, " %s", rdt_type_name(o->type));
	if (o->pattern.reduces)
		say(words, " %s%s", rdt_op_name(o->op), o->pattern.rough ? " rough" : "");
	if (rdt_collective_rooted(collective_of(o->kind)))
		say(words, " root=%d", o->root);
	if (o->kind == TEST_SEND && o->peer < 0)
		say(words, " to the next but %d", o->shift);
	else if (o->kind == TEST_SEND)
		say(words, " from %d to %d", o->root, o->peer);
	say(words, " form=");
	for (int i = 0; i < n; i++)
		say(words, "%c", test_form_name(o->form_of[i])[0]);
	say(words, " memory=");
	for (int i = 0; i < n; i++)
		say(words, "%s%c+%zu/%c+%zu%s", i ? "," : "", "pra"[o->in[i].memory],
		    o -> in[i].offset, "pra"[o->out[i].memory], o -> out[i].offset,
		    o->in_place[i] ? "!" : ""); /* !: in place */
	say(words, "%s)", o->null_absent ? " NULLs" : "");
}

static void say_case(struct words *words, const struct world *w, const struct test_case *c)
{
	say(words, "case %d of ", c->number);
	say_world(words, w);
	say(words, "; %d rounds%s", c->rounds, c->polling ? ", polling" : "");
	if (c->late_rank >= 0)
		say(words, ", rank %d late by %d us", c->late_rank, c->late_us);
	for (int s = 0; s < c->slots; s++)
		for (int g = 0; g < GROUPS; g++)
			if (c->op[s][g].group)
				say_op(words, w, &c->op[s][g]);
}

/* ---- what all processes share ---------------------------------------------------------------- */

struct shared {
	int failed; /* the first to fail has set it, and then the text */
	int failed_case;
	char text[1024];
	int at[N_MAX];		    /* the case that each rank is in; -1: before or after all */
	int arrived[GROUPS][N_MAX]; /* at barriers */
	/* of what allreduces gave, by world rank: equal within a group */
	uint64_t hash[CASES][SLOTS][N_MAX];
};

static struct shared *shared;

__attribute__((format(printf, 3, 4))) static int fail(int rank, int number, const char *format, ...)
{
	va_list args;
	int before = 0;

	/* The others only see the first one go. */
	if (!__atomic_compare_exchange_n(&shared->failed, &before, 1, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE) &&
	    !getenv("RDTRAIN_TEST_VERBOSE"))
		return 1;
	if (before == 0) {
		va_start(args, format);
		vsnprintf(shared->text, sizeof(shared->text), format, args);
		va_end(args);
		shared->failed_case = number;
	}
	va_start(args, format);
	fprintf(stderr, "case %d, rank %d: ", number, rank);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	return 1;
}

/* ---- one operation on one rank --------------------------------------------------------------- */

struct buffer {
	enum memory memory;
	char *base, *data;
	size_t before, bytes; /* the guard before the data; the data */
	rdt_mem *mem;
};

struct running {
	const struct op *op;
	int me; /* in the group */
	rdt_comm *comm;
	struct buffer one, two;
	char *in, *out; /* never NULL */
	size_t in_count, out_count;
	struct test_call call[2];
	rdt_request *request[2];
	rdt_plan *plan[2];
	int calls;
	bool pending[2];
};

static int buffer_new(rdt_comm *comm, const struct place *place, size_t bytes, struct buffer *b)
{
	size_t all = GUARD + place->offset + bytes + GUARD;
	void *base;
	int status = 0;

	*b = (struct buffer){ .memory = place->memory,
			      .before = GUARD + place->offset,
			      .bytes = bytes };
	if (place->memory == ALLOCATED) {
		status = rdt_alloc(comm, all, &base);
		if (status)
			return status;
	} else {
		base = malloc(all);
	}
	b->base = base;
	memset(base, 0xa5, all);
	b->data = b->base + b->before;
	if (place->memory == REGISTERED)
		status = rdt_mem_register(comm, base, all, &b->mem);
	return status;
}

static int buffer_free(rdt_comm *comm, struct buffer *b)
{
	int status = 0;

	if (!b->base)
		return 0;
	if (b->memory == ALLOCATED)
		return rdt_free(comm, b->base);
	status = rdt_mem_deregister(b->mem);
	free(b->base);
	return status;
}

static bool guards_intact(const struct buffer *b)
{
	if (!b->base)
		return true;
	for (size_t i = 0; i < b->before; i++)
		if ((unsigned char)b->base[i] != 0xa5)
			return false;
	for (size_t i = 0; i < GUARD; i++)
		if ((unsigned char)b->data[b->bytes + i] != 0xa5)
			return false;
	return true;
}

/* Of the group's blocks: how long is the i-th, where does it begin; elements. */
static size_t block(const struct op *o, int i)
{
	return is_v(o->kind) ? o->counts[i] : o->count;
}

static size_t before(const struct op *o, int i)
{
	size_t sum = 0;

	for (int k = 0; k < i; k++)
		sum += block(o, k);
	return sum;
}

/* What rank i sends to rank k, in an all-to-all. */
static size_t pair(const struct op *o, int i, int k)
{
	return is_v(o->kind) ? o->matrix[i][k] : o->count;
}

static size_t in_count(const struct op *o, int me)
{
	size_t sum = 0;

	switch (collective_of(o->kind)) {
	case RDT_COLL_ALLREDUCE:
	case RDT_COLL_REDUCE: return o->count;
	case RDT_COLL_REDUCE_SCATTER: return before(o, o->group->size);
	case RDT_COLL_ALLGATHER:
	case RDT_COLL_GATHER: return block(o, me);
	case RDT_COLL_SCATTER: return me == o->root ? before(o, o->group->size) : 0;
	case RDT_COLL_ALLTOALL:
		for (int k = 0; k < o->group->size; k++)
			sum += pair(o, me, k);
		return sum;
	case RDT_COLL_SEND: return o->peer < 0 || me == o->root ? o->count : 0;
	default: return 0;
	}
}

static size_t out_count(const struct op *o, int me)
{
	size_t sum = 0;

	switch (collective_of(o->kind)) {
	case RDT_COLL_ALLREDUCE:
	case RDT_COLL_BROADCAST: return o->count;
	case RDT_COLL_REDUCE: return me == o->root ? o->count : 0;
	case RDT_COLL_REDUCE_SCATTER:
	case RDT_COLL_SCATTER: return block(o, me);
	case RDT_COLL_ALLGATHER: return before(o, o->group->size);
	case RDT_COLL_GATHER: return me == o->root ? before(o, o->group->size) : 0;
	case RDT_COLL_ALLTOALL:
		for (int k = 0; k < o->group->size; k++)
			sum += pair(o, k, me);
		return sum;
	case RDT_COLL_SEND: return o->peer < 0 || me == o->peer ? o->count : 0;
	default: return 0;
	}
}

/* One buffer in place, else two. */
static int make_buffers(struct running *r)
{
	const struct op *o = r->op;
	size_t elem = rdt_type_size(o->type);
	int status;

	r->in_count = in_count(o, r->me);
	r->out_count = out_count(o, r->me);
	if (!o->in_place[r->me]) {
		status = buffer_new(r->comm, &o->in[r->me], r->in_count * elem, &r->one);
		if (!status)
			status = buffer_new(r->comm, &o->out[r->me], r->out_count * elem, &r->two);
		r->in = r->one.data;
		r->out = r->two.data;
		return status;
	}
	status = buffer_new(r->comm, &o->out[r->me],
			    (r->in_count > r->out_count ? r->in_count : r->out_count) * elem,
			    &r->one);
	r->in = r->out = r->one.data;
	switch (collective_of(o->kind)) {
	case RDT_COLL_REDUCE_SCATTER:
	case RDT_COLL_SCATTER: r->out += before(o, r->me) * elem; break;
	case RDT_COLL_ALLGATHER:
	case RDT_COLL_GATHER: r->in += before(o, r->me) * elem; break;
	default: break;
	}
	return status;
}

static void make_calls(struct running *r)
{
	const struct op *o = r->op;
	int n = o->group->size;
	struct test_call *c = &r->call[0];

	*c = (struct test_call){
		.kind = o->kind,
		.in = r->in_count || !o->null_absent ? r->in : NULL,
		.out = r->out_count || !o->null_absent ? r->out : NULL,
		.count = o->count,
		.type = o->type,
		.op = o->op,
		.root = o->root,
	};
	r->calls = 1;
	if (o->kind != TEST_SEND)
		return;
	r->calls = 0;
	if (o->peer < 0 || r->me == o->peer) {
		r->call[r->calls] = *c;
		r->call[r->calls].kind = TEST_RECV;
		r->call[r->calls++].root = o->peer < 0 ? (r->me + n - o->shift) % n : o->root;
	}
	if (o->peer < 0 || r->me == o->root) {
		r->call[r->calls] = r->call[0];
		r->call[r->calls].in = r->in;
		r->call[r->calls].count = o->count;
		r->call[r->calls].type = o->type;
		r->call[r->calls].kind = TEST_SEND;
		r->call[r->calls++].root = o->peer < 0 ? (r->me + o->shift) % n : o->peer;
	}
}

static void fill(const struct running *r, int round)
{
	const struct op *o = r->op;

	memset(r->out, 0x5e, r->out_count * rdt_type_size(o->type));
	if (o->kind == TEST_BROADCAST && r->me == o->root)
		pattern_fill(&o->pattern, r->out, 0, o->count, r->me, round);
	else
		pattern_fill(&o->pattern, r->in, 0, r->in_count, r->me, round);
}

/* What OUTPUT must hold now; the first wrong element, or -1. */
static long wrong_output(const struct running *r, int round)
{
	const struct op *o = r->op;
	const struct pattern *p = &o->pattern;
	size_t elem = rdt_type_size(o->type), first = 0, good = 0, wanted = r->out_count;
	int n = o->group->size;

	if (wanted == 0)
		return -1;
	switch (collective_of(o->kind)) {
	case RDT_COLL_REDUCE_SCATTER: first = before(o, r->me); /* fall through */
	case RDT_COLL_ALLREDUCE:
	case RDT_COLL_REDUCE: good = pattern_check_sum(p, r->out, first, wanted, n, round); break;
	case RDT_COLL_BROADCAST: good = pattern_check(p, r->out, 0, wanted, o->root, round); break;
	case RDT_COLL_SCATTER:
		good = pattern_check(p, r->out, before(o, r->me), wanted, o->root, round);
		break;
	case RDT_COLL_SEND:
		good = pattern_check(p, r->out, 0, wanted,
				     o->peer < 0 ? (r->me + n - o->shift) % n : o->root, round);
		break;
	case RDT_COLL_ALLGATHER:
	case RDT_COLL_GATHER:
	case RDT_COLL_ALLTOALL:
		for (int i = 0; i < n; i++) {
			bool all = collective_of(o->kind) == RDT_COLL_ALLTOALL;
			size_t length = all ? pair(o, i, r->me) : block(o, i), from = 0, at;

			for (int k = 0; k < r->me && all; k++)
				from += pair(o, i, k);
			at = pattern_check(p, r->out + good * elem, from, length, i, round);
			good += at;
			if (at < length)
				break;
		}
		break;
	default: return -1;
	}
	return good == wanted ? -1 : (long)good;
}

/* INPUT is the caller's, but where it is OUTPUT as well. */
static long wrong_input(const struct running *r, int round)
{
	const struct op *o = r->op;
	size_t elem = rdt_type_size(o->type), from = 0, to = 0, good;

	if (o->in_place[r->me]) {
		if (r->in_count <= r->out_count)
			return -1;
		from = (size_t)(r->out - r->in) / elem;
		to = from + r->out_count;
	}
	good = pattern_check(&o->pattern, r->in, 0, from, r->me, round);
	if (good < from)
		return (long)good;
	good = pattern_check(&o->pattern, r->in + to * elem, to, r->in_count - to, r->me, round);
	return good == r->in_count - to ? -1 : (long)(to + good);
}

static uint64_t hash_of(uint64_t hash, const void *data, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		hash = (hash ^ ((const unsigned char *)data)[i]) * 1099511628211u;
	return hash;
}

/* ---- one case on one rank -------------------------------------------------------------------- */

struct member {
	const struct world *world;
	int rank;
	rdt_comm *comm[GROUPS]; /* NULL: not in it */
	int me[GROUPS];
	int barriers[GROUPS]; /* begun, on each */
};

/* The counts are the caller's again when the call returns, so they are spoilt then. */
static int make_one(struct running *r, int i, enum test_form form)
{
	const struct op *o = r->op;
	struct test_call call = r->call[i];
	size_t counts[N_MAX], out_counts[N_MAX];
	int status;

	for (int k = 0; k < o->group->size; k++) {
		counts[k] = o->kind == TEST_ALLTOALLV ? o->matrix[r->me][k] : o->counts[k];
		out_counts[k] = o->matrix[k][r->me];
	}
	call.counts = counts;
	call.out_counts = out_counts;
	status = test_make(r->comm, &call, form, &r->request[i], &r->plan[i]);
	for (int k = 0; k < o->group->size; k++)
		counts[k] = out_counts[k] = 77777;
	return status;
}

static int begin(struct member *m, struct running *r, int number)
{
	enum test_form form = r->op->form_of[r->me];

	if (r->op->kind == TEST_BARRIER) {
		int g = (int)(r->op->group - m->world->group);

		__atomic_store_n(&shared->arrived[g][r->me], ++m->barriers[g], __ATOMIC_RELEASE);
	}
	for (int i = 0; i < r->calls; i++) {
		int status = form == TEST_PLAN ? rdt_plan_start(r->plan[i]) : make_one(r, i, form);

		if (status)
			return fail(m->rank, number, "%s (%s) returns %d: %s",
				    test_kind_name(r->call[i].kind), test_form_name(form), status,
				    rdt_last_error());
		r->pending[i] = form != TEST_BLOCKING;
	}
	return 0;
}

/* Waits for the i-th call; or asks once. */
static int complete(struct member *m, struct running *r, int i, bool wait, int number)
{
	bool plan = r->op->form == TEST_PLAN;
	int done = 1, status = wait   ? plan ? rdt_plan_wait(r->plan[i]) : rdt_wait(r->request[i])
				 : plan ? rdt_plan_test(r->plan[i], &done)
				      : rdt_test(r->request[i], &done);

	if (status)
		return fail(m->rank, number, "%s (%s) ends with %d: %s",
			    test_kind_name(r->call[i].kind), test_form_name(r->op->form), status,
			    rdt_last_error());
	r->pending[i] = !done;
	return 0;
}

static int complete_all(struct member *m, const struct test_case *c, struct running *running,
			int round)
{
	struct rng rng = rng_for(m->world->seed ^ (uint64_t)m->rank, 3,
				 (uint64_t)(c->number * ROUNDS + round));
	size_t turn = below(&rng, SLOTS), stride = chance(&rng, 50) ? 1 : SLOTS - 1;

	if (c->polling)
		for (bool left = true; left; sched_yield()) {
			left = false;
			for (int s = 0; s < c->slots; s++)
				for (int i = 0; i < running[s].calls; i++) {
					if (running[s].pending[i] &&
					    complete(m, &running[s], i, false, c->number))
						return 1;
					left |= running[s].pending[i];
				}
		}
	/* On one communicator every rank has an order of its own. A rank that waits on one moves no
	 * other on, so between them all have the same. */
	for (int g = 0; g < GROUPS; g++)
		for (size_t k = 0; k < SLOTS; k++) {
			struct running *r = &running[(turn + k * stride) % SLOTS];

			for (int i = 0; r->op == NULL ? false : i < r->calls; i++)
				if (r->pending[i] && r->op->group == &m->world->group[g] &&
				    complete(m, r, i, true, c->number))
					return 1;
		}
	return 0;
}

static int check(struct member *m, const struct test_case *c, struct running *r, int slot,
		 int round)
{
	const struct op *o = r->op;
	uint64_t *hash = &shared->hash[c->number % CASES][slot][m->rank];
	long at;

	if ((at = wrong_output(r, round)) >= 0)
		return fail(m->rank, c->number,
			    "%s, round %d: element %ld of out is wrong (%g) at rank %d of %d",
			    test_kind_name(o->kind), round, at,
			    pattern_load(r->out + (size_t)at * rdt_type_size(o->type), o->type),
			    r->me, o->group->size);
	if ((at = wrong_input(r, round)) >= 0)
		return fail(m->rank, c->number,
			    "%s, round %d: element %ld of in has changed at rank %d of %d",
			    test_kind_name(o->kind), round, at, r->me, o->group->size);
	if (!guards_intact(&r->one) || !guards_intact(&r->two))
		return fail(m->rank, c->number,
			    "%s, round %d: bytes around a buffer have changed at rank %d of %d",
			    test_kind_name(o->kind), round, r->me, o->group->size);
	if (o->kind == TEST_ALLREDUCE)
		*hash = hash_of(*hash, r->out, r->out_count * rdt_type_size(o->type));
	return 0;
}

/* Nobody leaves a barrier before all have come. */
static int check_barriers(struct member *m, const struct test_case *c, struct running *running,
			  const int *stamps)
{
	for (int s = 0; s < c->slots; s++) {
		const struct op *o = running[s].op;
		int g;

		if (!o || o->kind != TEST_BARRIER)
			continue;
		g = (int)(o->group - m->world->group);
		for (int i = 0; i < o->group->size; i++)
			if (__atomic_load_n(&shared->arrived[g][i], __ATOMIC_ACQUIRE) < stamps[s])
				return fail(m->rank, c->number,
					    "barrier: rank %d of %d left before rank %d came",
					    running[s].me, o->group->size, i);
	}
	return 0;
}

static int one_round(struct member *m, const struct test_case *c, struct running *running,
		     int round)
{
	int stamps[SLOTS] = { 0 };

	for (int s = 0; s < c->slots; s++) {
		if (!running[s].op)
			continue;
		fill(&running[s], round);
	}
	if (c->late_rank == m->rank)
		usleep((useconds_t)c->late_us);
	for (int s = 0; s < c->slots; s++) {
		if (!running[s].op)
			continue;
		if (begin(m, &running[s], c->number))
			return 1;
		stamps[s] = m->barriers[running[s].op->group - m->world->group];
	}
	if (complete_all(m, c, running, round) || check_barriers(m, c, running, stamps))
		return 1;
	for (int s = 0; s < c->slots; s++)
		if (running[s].op && check(m, c, &running[s], s, round))
			return 1;
	return 0;
}

static int set_up(struct member *m, const struct test_case *c, struct running *running)
{
	for (int s = 0; s < c->slots; s++)
		for (int g = 0; g < GROUPS; g++) {
			struct running *r = &running[s];

			if (!c->op[s][g].group || !m->comm[g])
				continue;
			r->op = &c->op[s][g];
			r->me = m->me[g];
			r->comm = m->comm[g];
			if (make_buffers(r))
				return fail(m->rank, c->number, "no buffers: %s", rdt_last_error());
		}
	for (int s = 0; s < c->slots; s++) {
		struct running *r = &running[s];

		if (!r->op)
			continue;
		make_calls(r);
		for (int i = 0; i < r->calls && r->op->form == TEST_PLAN; i++)
			if (make_one(r, i, TEST_PLAN))
				return fail(m->rank, c->number, "no plan for %s: %s",
					    test_kind_name(r->call[i].kind), rdt_last_error());
	}
	return 0;
}

static int run_case(struct member *m, const struct test_case *c)
{
	struct running running[SLOTS] = { 0 };
	int status = 0;

	if (set_up(m, c, running))
		return 1;
	for (int round = 0; round < c->rounds; round++)
		if (one_round(m, c, running, round))
			return 1;
	for (int s = 0; s < c->slots; s++)
		for (int i = 0; i < running[s].calls; i++)
			rdt_plan_destroy(running[s].plan[i]);
	for (int s = 0; s < c->slots; s++) {
		if (!running[s].op)
			continue;
		status |= buffer_free(running[s].comm, &running[s].one);
		status |= buffer_free(running[s].comm, &running[s].two);
	}
	return status ? fail(m->rank, c->number, "buffers are not freed: %s", rdt_last_error()) : 0;
}

/* ---- one world ------------------------------------------------------------------------------- */

struct range {
	const struct world *world;
	int first, last; /* cases */
};

static int run_rank(int rank, int n, void *arg)
{
	const struct range *range = arg;
	struct member m = { .world = range->world, .rank = rank };
	const struct world *w = m.world;
	static struct test_case c;
	int part = w->split && w->color[rank] >= 0 ? 1 + w->color[rank] : 0;

	(void)n;
	set_world(w, rank);
	if (rdt_comm_create(NULL, &m.comm[0]))
		return fail(rank, range->first, "no communicator: %s", rdt_last_error());
	m.me[0] = rank;
	if (w->split) {
		rdt_comm *out;

		if (rdt_comm_split(m.comm[0], w->color[rank], w->key[rank], &out))
			return fail(rank, range->first, "no split: %s", rdt_last_error());
		if (!part != !out)
			return fail(rank, range->first, "a negative color joins none");
		if (part) {
			m.comm[part] = out;
			m.me[part] = rdt_comm_rank(out);
			if (rdt_comm_size(out) != w->group[part].size ||
			    w->group[part].member[m.me[part]] != rank)
				return fail(rank, range->first, "rank %d of %d of part %d",
					    m.me[part], rdt_comm_size(out), part);
		}
	}
	for (int k = range->first; k <= range->last; k++) {
		shared->at[rank] = k;
		draw_case(&c, w, k);
		if (run_case(&m, &c))
			return 1;
	}
	shared->at[rank] = -1;
	if (part)
		rdt_comm_destroy(m.comm[part]);
	rdt_comm_destroy(m.comm[0]);
	return 0;
}

static bool same_bits(const struct world *w, const struct test_case *c)
{
	for (int s = 0; s < c->slots; s++)
		for (int g = 0; g < GROUPS; g++) {
			const struct op *o = &c->op[s][g];
			const uint64_t *hash = shared->hash[c->number % CASES][s];

			for (int i = 1; o->group && i < o->group->size; i++)
				if (hash[o->group->member[i]] != hash[o->group->member[0]]) {
					shared->failed_case = c->number;
					snprintf(shared->text, sizeof(shared->text),
						 "ranks %d and %d have other bits of the "
						 "allreduce in slot %d",
						 o->group->member[0], o->group->member[i], s);
					return false;
				}
		}
	(void)w;
	return true;
}

static void report(const struct world *w, const char *program)
{
	static struct test_case c;
	static struct words words;

	words.used = 0;
	draw_case(&c, w, shared->failed_case);
	say_case(&words, w, &c);
	printf("FAILED: %s\n  %s\n  repeat: %s --seed %llu --case %d    (with all before: --world "
	       "%d)\n",
	       shared->text, words.text, program, (unsigned long long)w->seed, c.number, w->number);
	fflush(stdout);
}

static bool run_world(const struct range *range, const char *program)
{
	const struct world *w = range->world;
	bool ok;

	memset(shared, 0, sizeof(*shared));
	shared->failed_case = -1;
	for (int r = 0; r < N_MAX; r++)
		shared->at[r] = -1;
	ok = ranks_run(w->n, w->verbs ? 400 : 120, run_rank, (void *)range);
	if (!ok && shared->failed_case < 0) {
		/* A signal or the deadline: the rank that is furthest behind knows best. */
		for (int r = 0; r < w->n; r++)
			if (shared->at[r] >= 0 &&
			    (shared->failed_case < 0 || shared->at[r] < shared->failed_case))
				shared->failed_case = shared->at[r];
		if (shared->failed_case < 0)
			shared->failed_case = range->first;
		snprintf(shared->text, sizeof(shared->text), "a rank has crashed or hangs");
	}
	for (int k = range->first; k <= range->last && ok; k++) {
		static struct test_case c;

		draw_case(&c, w, k);
		ok = same_bits(w, &c);
	}
	if (!ok)
		report(w, program);
	return ok;
}

/* ---- the program ----------------------------------------------------------------------------- */

static void out_of_time(int signal)
{
	static const char words[] = "multi_property: out of time\n";

	(void)signal;
	/* The ranks go with this process. */
	_exit(write(STDOUT_FILENO, words, sizeof(words) - 1) > 0 ? 1 : 1);
}

static unsigned long long number(const char *name, const char *text)
{
	char *end;
	unsigned long long value = strtoull(text, &end, 0);

	if (end == text || *end) {
		fprintf(stderr, "%s: \"%s\" is no number\n", name, text);
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	const char *transport = getenv("RDTRAIN_TRANSPORT");
	bool verbs = transport && strcmp(transport, "verbs") == 0;
	const char *seed_text = getenv("RDTRAIN_TEST_SEED"),
		   *cases_text = getenv("RDTRAIN_TEST_CASES");
	unsigned long long seed = seed_text && *seed_text ? number("seed", seed_text) : 20250101;
	int cases = verbs ? 200 : 2000, only_case = -1, only_world = -1, failures = 0;
	static struct world w;

#ifdef __SANITIZE_ADDRESS__
	cases /= 4;
#endif
	if (cases_text && *cases_text)
		cases = (int)number("cases", cases_text);
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (strcmp(argv[i], "--seed") == 0)
			seed = number(argv[i], value);
		else if (strcmp(argv[i], "--cases") == 0)
			cases = (int)number(argv[i], value);
		else if (strcmp(argv[i], "--case") == 0)
			only_case = (int)number(argv[i], value);
		else if (strcmp(argv[i], "--world") == 0)
			only_world = (int)number(argv[i], value);
		else {
			fprintf(stderr, "usage: %s [--seed S] [--cases N] [--case K | --world W]\n",
				argv[0]);
			return 2;
		}
		i++;
	}
	ranks_need_device();
	/* Hosts are played by RDTRAIN_HOST_ID: only where shm is asked for is that no hindrance. */
	setenv("RDTRAIN_TRANSPORT", verbs ? "verbs" : "shm", 1);
	signal(SIGALRM, out_of_time);
	alarm(verbs ? 800 : 280);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return 1;
	printf("seed %llu, %d cases\n", seed, cases);
	if (only_case >= 0) {
		static struct words words;
		static struct test_case c;

		draw_world(&w, seed, only_case / CASES, verbs);
		draw_case(&c, &w, only_case);
		say_case(&words, &w, &c);
		printf("%s\n", words.text);
		failures = !run_world(&(struct range){ &w, only_case, only_case }, argv[0]);
		printf("%s", failures ? "" : "it is right\n");
		return failures;
	}
	for (int k = 0; k < (cases + CASES - 1) / CASES && failures < 3; k++) {
		struct range range = { &w, k * CASES, k * CASES + CASES - 1 };

		if (only_world >= 0 && k != only_world)
			continue;
		if (range.last >= cases && only_world < 0)
			range.last = cases - 1;
		draw_world(&w, seed, k, verbs);
		if (getenv("RDTRAIN_TEST_VERBOSE")) {
			static struct words words;

			words.used = 0;
			say_world(&words, &w);
			fprintf(stderr, "%s\n", words.text);
		}
		failures += !run_world(&range, argv[0]);
	}
	if (!failures)
		printf("all are right\n");
	return failures != 0;
}
