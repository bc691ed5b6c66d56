/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ranks that do not make the same call: every rank is told so soon, in words that name what two of
 * them said, for every collective and every way to differ; and ranks that are only late are not
 * accused.
 *
 * A mismatch ends the communicator, so each is made on one that was split off for it: that is a
 * test of parts, too. mismatch_on_the_whole has some on whole ones.
 */
#include "ranks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/clock.h"

#include "calls.h"
#include "values.h"

enum { N = 3, ODD_ONE = 1, COUNT = 6 };

/* From the call to the last rank's answer. Reading journals begins after 50 ms, and takes a while
 * on a machine that is emulated. */
#define SOON_S (is_verbs() ? 15.0 : 2.5)

static bool is_verbs(void)
{
	const char *transport = getenv("RDTRAIN_TRANSPORT");

	return transport && strcmp(transport, "verbs") == 0;
}

enum difference { COLLECTIVE, COUNTS, NOTHING_AT_ALL, TYPE, OPERATION, ROOT, DIFFERENCES };

static const char *const differences[] = { "collective", "count",     "zero count",
					   "type",	 "operation", "root" };

static float in[N * 16], out[N * 16];
static size_t counts[2][N] = { { COUNT, COUNT, COUNT }, { COUNT, COUNT, COUNT + 1 } };
static size_t none[N];

static struct test_call call_of(enum test_kind kind)
{
	return (struct test_call){
		.kind = kind,
		.in = in,
		.out = out,
		.count = COUNT,
		.counts = counts[0],
		.out_counts = counts[0],
		.type = RDT_FLOAT32,
		.op = RDT_SUM,
		.root = 0,
	};
}

static bool has_op(enum test_kind kind)
{
	return kind == TEST_ALLREDUCE || kind == TEST_REDUCE_SCATTER ||
	       kind == TEST_REDUCE_SCATTERV || kind == TEST_REDUCE;
}

static bool has_root(enum test_kind kind)
{
	return kind == TEST_BROADCAST || (kind >= TEST_REDUCE && kind <= TEST_SCATTERV);
}

/* What the odd one calls instead; false where the two cannot differ so. */
static bool make_differ(struct test_call *c, enum difference d)
{
	switch (d) {
	case COLLECTIVE: c->kind = (c->kind + 2) % TEST_COLLECTIVES; return true;
	case COUNTS:
		c->count++;
		/* What it sends is what the others expect, but for rank 2. */
		c->counts = counts[1];
		return c->kind != TEST_BARRIER;
	case NOTHING_AT_ALL:
		c->count = 0;
		c->counts = c->out_counts = none;
		return c->kind != TEST_BARRIER;
	case TYPE: c->type = RDT_INT32; return c->kind != TEST_BARRIER;
	case OPERATION: c->op = RDT_MAX; return has_op(c->kind);
	default: c->root = 2; return has_root(c->kind);
	}
}

/* The sentence quotes two calls that are not the same, and one of them is the odd one's. */
static bool quotes_two(const char *text)
{
	char a[200], b[200];
	int rank_a, rank_b;

	if (strstr(text, "alltoallv: rank ") && strstr(text, ", which expects "))
		return true;
	for (const char *at = text; (at = strstr(at, "rank ")); at++)
		if (sscanf(at, "rank %d calls \"%199[^\"]\", rank %d calls \"%199[^\"]\"", &rank_a,
			   a, &rank_b, b) == 4)
			return strcmp(a, b) != 0 && (rank_a == ODD_ONE || rank_b == ODD_ONE) &&
			       rank_a != rank_b;
	return false;
}

struct trial {
	enum test_kind kind;
	enum difference difference;
	enum test_form form;
	bool known; /* both calls have been made by all before: their plans are there */
};

static int told(int rank, const struct trial *t, int status, int64_t since, const char *why)
{
	double seconds = (double)(rdt_now() - since) / 1e9;

	if (status == RDT_ERR_MISMATCH && seconds < SOON_S && quotes_two(rdt_last_error()))
		return 0;
	fprintf(stderr, "rank %d, %s, other %s, %s, %s: %s %d after %.1f s: %s\n", rank,
		test_kind_name(t->kind), differences[t->difference], test_form_name(t->form),
		t->known ? "known" : "new", why, status, seconds, rdt_last_error());
	return 1;
}

/* A rank whose own part was right may only learn of it with its next call. */
static int expect_mismatch(rdt_comm *comm, int rank, const struct trial *t, int status,
			   int64_t since)
{
	if (!status)
		status = rdt_barrier(comm);
	if (told(rank, t, status, since, "returns"))
		return 1;
	/* From then on it is the answer to everything. */
	return told(rank, t, rdt_barrier(comm), since, "then returns");
}

static int one_trial(rdt_comm *comm, int rank, const struct trial *t)
{
	struct test_call usual = call_of(t->kind), odd = usual;
	rdt_plan *plan[2] = { NULL, NULL };
	int64_t since;
	int status;

	make_differ(&odd, t->difference);
	if (t->known) {
		struct test_call *both[] = { &usual, &odd };

		/* All agree on these counts: what is sent is expected. */
		if (t->kind == TEST_ALLTOALLV && t->difference == COUNTS)
			both[1] = &usual;
		for (int i = 0; i < 2; i++)
			if (t->form != TEST_PLAN)
				RANK_CHECK(test_run(comm, both[i], t->form) == 0);
			else
				RANK_CHECK(test_make(comm, both[i], TEST_PLAN, NULL, &plan[i]) ==
					   0);
	}
	RANK_CHECK(rdt_barrier(comm) == 0);
	since = rdt_now();
	if (t->known && t->form == TEST_PLAN) {
		rdt_plan *mine = plan[rank == ODD_ONE];

		status = rdt_plan_start(mine);
		if (!status)
			status = rdt_plan_wait(mine);
	} else {
		status = test_run(comm, rank == ODD_ONE ? &odd : &usual, t->form);
	}
	if (expect_mismatch(comm, rank, t, status, since))
		return 1;
	rdt_plan_destroy(plan[0]);
	rdt_plan_destroy(plan[1]);
	return 0;
}

/* Do all forms make sense, or do some stand for all? An emulated device takes its time. */
static bool is_worth_it(const struct trial *t)
{
	int turn = (int)t->kind + (int)t->difference + t->known;

	if (t->known && t->form == TEST_PLAN && t->kind == TEST_ALLTOALLV &&
	    t->difference == COUNTS)
		return false; /* no plan of theirs would be made */
	/* New calls are compared at the rendezvous, over whatever transport. */
	if (!t->known && is_verbs() && ((int)t->kind + (int)t->difference) % 2)
		return false;
	return t->form == (enum test_form)(turn % TEST_FORMS) || (!is_verbs() && !t->known);
}

static int every_difference(int rank, int n, void *arg)
{
	const bool known = *(const bool *)arg;
	rdt_comm *world;

	(void)n;
	RANK_CHECK(rdt_comm_create(NULL, &world) == 0);
	for (int kind = 0; kind < TEST_COLLECTIVES; kind++)
		for (int d = 0; d < DIFFERENCES; d++)
			for (int form = 0; form < TEST_FORMS; form++) {
				const struct trial t = { (enum test_kind)kind, (enum difference)d,
							 (enum test_form)form, known };
				struct test_call c = call_of(t.kind);
				rdt_comm *part;

				if (!make_differ(&c, t.difference) || !is_worth_it(&t))
					continue;
				RANK_CHECK(rdt_comm_split(world, 0, 0, &part) == 0);
				if (one_trial(part, rank, &t))
					return 1;
				rdt_comm_destroy(part);
				/* The whole is none the worse for it. */
				RANK_CHECK(rdt_barrier(world) == 0);
			}
	rdt_comm_destroy(world);
	return 0;
}

static void new_calls_that_differ_are_told(void **state)
{
	bool known = false;

	(void)state;
	assert_true(ranks_run(N, is_verbs() ? 300 : 100, every_difference, &known));
}

static void known_calls_that_differ_are_told(void **state)
{
	bool known = true;

	(void)state;
	assert_true(ranks_run(N, is_verbs() ? 300 : 100, every_difference, &known));
}

/* ---- on whole communicators, and with more ranks --------------------------------------------- */

static int on_the_whole(int rank, int n, void *arg)
{
	const struct trial *t = arg;
	rdt_comm *world;

	(void)n;
	RANK_CHECK(rdt_comm_create(NULL, &world) == 0);
	if (one_trial(world, rank, t))
		return 1;
	rdt_comm_destroy(world);
	return 0;
}

static void mismatch_on_the_whole(void **state)
{
	const struct trial trials[] = {
		{ TEST_ALLREDUCE, COUNTS, TEST_BLOCKING, false },
		{ TEST_REDUCE_SCATTER, TYPE, TEST_BLOCKING, true },
		{ TEST_ALLGATHERV, COUNTS, TEST_PLAN, true },
		{ TEST_BARRIER, COLLECTIVE, TEST_START, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(trials) / sizeof(trials[0]); i++)
		assert_true(ranks_run(N, 60, on_the_whole, (void *)&trials[i]));
}

/* One rank splits where the others make a call. */
static int split_or_not(int rank, int n, void *arg)
{
	const struct trial t = { TEST_BARRIER, COLLECTIVE, TEST_BLOCKING, *(const bool *)arg };
	rdt_comm *world, *part = NULL;
	int64_t since;
	int status;

	(void)n;
	RANK_CHECK(rdt_comm_create(NULL, &world) == 0);
	/* All have it, before two of them end it. */
	RANK_CHECK(rdt_allreduce(world, in, out, 1, RDT_FLOAT32, RDT_SUM) == 0);
	if (t.known)
		RANK_CHECK(rdt_barrier(world) == 0);
	since = rdt_now();
	status = rank == ODD_ONE ? rdt_comm_split(world, 0, 0, &part) : rdt_barrier(world);
	RANK_CHECK(!part);
	if (expect_mismatch(world, rank, &t, status, since))
		return 1;
	rdt_comm_destroy(world);
	return 0;
}

static void a_split_is_a_call_like_any_other(void **state)
{
	bool known = true;

	(void)state;
	assert_true(ranks_run(N, 60, split_or_not, &known));
	known = false;
	assert_true(ranks_run(N, 60, split_or_not, &known));
}

/* Operations in flight: the second of three is another one. */
static int second_of_three(int rank, int n, void *arg)
{
	const struct trial t = { TEST_ALLREDUCE, COUNTS, TEST_START, true };
	static float v[3][8];
	rdt_request *request[3];
	rdt_comm *world;
	int64_t since;
	int status = 0;

	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &world) == 0);
	for (size_t count = 4; count < 9; count++)
		RANK_CHECK(rdt_allreduce(world, v[0], v[0], count, RDT_FLOAT32, RDT_SUM) == 0);
	since = rdt_now();
	for (size_t i = 0; i < 3; i++)
		RANK_CHECK(rdt_allreduce_start(world, v[i], v[i],
					       i == 1 && rank == ODD_ONE ? 8 : 4 + i, RDT_FLOAT32,
					       RDT_SUM, &request[i]) == 0);
	for (int i = 2; i >= 0; i--) {
		int outcome = rdt_wait(request[i]);

		status = outcome ? outcome : status;
	}
	if (expect_mismatch(world, rank, &t, status, since))
		return 1;
	rdt_comm_destroy(world);
	return 0;
}

static void one_of_several_in_flight_is_found(void **state)
{
	(void)state;
	assert_true(ranks_run(N, 60, second_of_three, NULL));
}

/* ---- send and receive ------------------------------------------------------------------------ */

struct message {
	size_t sent, received;
	enum rdt_type sent_as, received_as;
	enum test_form form;
	bool warm; /* one that was right went before */
};

/* From 0 to 1; rank 2 has nothing to do with it, and learns by its next call. */
static int transfer(rdt_comm *comm, int rank, size_t sent, enum rdt_type sent_as, size_t received,
		    enum rdt_type received_as, enum test_form form)
{
	struct test_call c = call_of(rank == 0 ? TEST_SEND : TEST_RECV);

	if (rank == 2)
		return 0;
	c.root = !rank;
	c.count = rank == 0 ? sent : received;
	c.type = rank == 0 ? sent_as : received_as;
	return test_run(comm, &c, form);
}

static int messages(int rank, int n, void *arg)
{
	static const struct message all[] = {
		{ 6, 7, RDT_FLOAT32, RDT_FLOAT32, TEST_BLOCKING, false },
		{ 7, 6, RDT_FLOAT32, RDT_FLOAT32, TEST_START, true },
		{ 6, 6, RDT_FLOAT32, RDT_INT32, TEST_PLAN, false },
		{ 6, 6, RDT_FLOAT64, RDT_FLOAT32, TEST_BLOCKING, true },
		{ 6, 0, RDT_FLOAT32, RDT_FLOAT32, TEST_START, false },
		{ 0, 6, RDT_FLOAT32, RDT_FLOAT32, TEST_BLOCKING, true },
		{ 0, 6, RDT_FLOAT32, RDT_FLOAT32, TEST_PLAN, false },
		{ 0, 0, RDT_FLOAT32, RDT_INT8, TEST_START, true },
	};
	rdt_comm *world;

	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &world) == 0);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const struct message *m = &all[i];
		int64_t since;
		rdt_comm *part;
		int status;

		RANK_CHECK(rdt_comm_split(world, 0, 0, &part) == 0);
		if (m->warm)
			for (size_t count = 0; count < 9; count += 4)
				RANK_CHECK(transfer(part, rank, count, RDT_INT8, count, RDT_INT8,
						    m->form) == 0);
		RANK_CHECK(rdt_barrier(part) == 0);
		since = rdt_now();
		status = transfer(part, rank, m->sent, m->sent_as, m->received, m->received_as,
				  m->form);
		if (!status)
			status = rdt_barrier(part);
		if (status != RDT_ERR_MISMATCH || !strstr(rdt_last_error(), "rank 0 makes \"") ||
		    !strstr(rdt_last_error(), "rank 1 receives as \"") ||
		    rdt_now() - since > (int64_t)(SOON_S * 1e9)) {
			fprintf(stderr, "rank %d, message %zu: %d after %.1f s: %s\n", rank, i,
				status, (double)(rdt_now() - since) / 1e9, rdt_last_error());
			return 1;
		}
		rdt_comm_destroy(part);
		RANK_CHECK(rdt_barrier(world) == 0);
	}
	rdt_comm_destroy(world);
	return 0;
}

static void messages_of_another_count_or_type_are_told(void **state)
{
	(void)state;
	assert_true(ranks_run(N, is_verbs() ? 200 : 60, messages, NULL));
}

/* ---- no false alarm -------------------------------------------------------------------------- */

/* Everything that all do alike is right, however late one of them is, and with nothing to do. */
static int latecomers(int rank, int n, void *arg)
{
	const size_t count = *(const size_t *)arg;
	rdt_comm *world, *part;

	(void)n;
	RANK_CHECK(rdt_comm_create(NULL, &world) == 0);
	RANK_CHECK(rdt_comm_split(world, 0, -rank, &part) == 0);
	for (int round = 0; round < 2; round++)
		for (int kind = 0; kind < TEST_COLLECTIVES; kind++) {
			struct test_call c = call_of((enum test_kind)kind);
			enum test_form form = (enum test_form)((kind + round) % TEST_FORMS);

			c.count = count;
			if (!count)
				c.counts = c.out_counts = none;
			if ((kind + round) % N == rank)
				usleep(200000);
			RANK_CHECK(test_run(round ? part : world, &c, form) == 0);
		}
	/* A message that waits for its receiver, one for its sender. */
	for (int late = 0; late < 2; late++) {
		if (rank == late)
			usleep(200000);
		RANK_CHECK(transfer(world, rank, count, RDT_INT8, count, RDT_INT8, TEST_BLOCKING) ==
			   0);
	}
	if (rank == 2)
		usleep(200000);
	RANK_CHECK(rdt_barrier(part) == 0);
	rdt_comm_destroy(part);
	rdt_comm_destroy(world);
	return 0;
}

static void who_is_late_is_not_accused(void **state)
{
	size_t some = COUNT, nothing = 0;

	(void)state;
	assert_true(ranks_run(N, 100, latecomers, &some));
	assert_true(ranks_run(N, 100, latecomers, &nothing));
}

/* One rank runs ahead by as many operations as it can, in all of which the others agree. */
static int runs_ahead(int rank, int n, void *arg)
{
	enum { AHEAD = 200 };
	static int8_t v[AHEAD][8];
	rdt_request *request[AHEAD];
	rdt_comm *world;

	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &world) == 0);
	for (int round = 0; round < 3; round++) {
		if (rank == round)
			usleep(200000);
		for (size_t i = 0; i < AHEAD; i++)
			RANK_CHECK(rdt_allreduce_start(world, v[i], v[i], i % 5, RDT_INT8, RDT_MAX,
						       &request[i]) == 0);
		for (size_t i = 0; i < AHEAD; i++)
			RANK_CHECK(rdt_wait(request[AHEAD - 1 - i]) == 0);
	}
	rdt_comm_destroy(world);
	return 0;
}

static void who_runs_ahead_is_not_accused(void **state)
{
	(void)state;
	assert_true(ranks_run(N, 100, runs_ahead, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(new_calls_that_differ_are_told),
		cmocka_unit_test(known_calls_that_differ_are_told),
		cmocka_unit_test(mismatch_on_the_whole),
		cmocka_unit_test(a_split_is_a_call_like_any_other),
		cmocka_unit_test(one_of_several_in_flight_is_found),
		cmocka_unit_test(messages_of_another_count_or_type_are_told),
		cmocka_unit_test(who_is_late_is_not_accused),
		cmocka_unit_test(who_runs_ahead_is_not_accused),
	};

	ranks_need_device();
	/* What is not found in time would be waited for until then. */
	setenv("RDTRAIN_TIMEOUT", is_verbs() ? "30" : "10", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
