/* SPDX-License-Identifier: BSD-3-Clause */
/* The simulator against sums made by hand, against itself, and the choices made by it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collectives/select.h"

/* Round numbers, in ns and ns a byte, so that sums can be read off. */
static const struct rdt_model model = {
	.name = "test",
	.link = {
		[RDT_LINK_HOST] = { .latency = 10000, .put = 5000, .wait = 3000, .byte = 500000 },
		[RDT_LINK_NET] = { .latency = 1000000, .put = 100000, .wait = 50000,
				   .gap = 20000, .byte = 100000 },
	},
	.reduce = 30000,
	.reduce_byte = 200000,
	.copy = 7000,
	.copy_byte = 300000,
	.rails = 1,
};

static struct rdt_simulation simulation(const struct rdt_model *of, int ranks, uint64_t bytes)
{
	return (struct rdt_simulation){
		.model = of,
		.ranks = ranks,
		.bytes = bytes,
		.elem_size = 4,
		.remote_output = true,
	};
}

static struct rdt_prediction predict(const struct rdt_algorithm *algorithm,
				     const struct rdt_simulation *what)
{
	struct rdt_prediction prediction;
	enum rdt_simulated outcome = rdt_simulate(algorithm, what, &prediction);

	if (outcome != RDT_SIMULATED)
		fail_msg("%s among %d: %s", algorithm->name, what->ranks,
			 rdt_simulated_text(outcome));
	return prediction;
}

static const struct rdt_algorithm *named(enum rdt_collective collective, const char *name)
{
	const struct rdt_algorithm *a = rdt_algorithm_find(collective, name);

	assert_non_null(a);
	return a;
}

/* ---- by hand ------------------------------------------------------------------------------ */

/* Rank 0 puts its vector to rank 1, which waits. */
static int emit_one_put(const struct rdt_group *group, const struct rdt_shape *shape,
			struct rdt_schedule *out)
{
	if (group->rank == 0)
		rdt_put(out, 0, 1, rdt_span(RDT_SCRATCH, 1, 0, shape->bytes),
			rdt_span(RDT_INPUT, 0, 0, shape->bytes));
	else if (group->rank == 1)
		rdt_wait_for(out, 0, 0, 1);
	return rdt_schedule_finish(out);
}

static const struct rdt_algorithm one_put = { .name = "one put",
					      .collective = RDT_COLL_ALLREDUCE,
					      .emit = emit_one_put };

static void a_put_costs_cpu_interface_latency_and_wait(void **state)
{
	struct rdt_simulation what = simulation(&model, 2, 1000);
	struct rdt_prediction p = predict(&one_put, &what);

	(void)state;
	/* put 100, latency 1000, gap 20 and 1000 bytes x 0.1, wait 50 */
	assert_int_equal(p.time_ps, (100 + 1000 + 20 + 100 + 50) * 1000);
	assert_int_equal(p.rounds, 1);
	assert_int_equal(p.puts, 1);
	assert_int_equal(p.bytes, 1000);
}

static void a_put_within_a_host_is_a_copy_of_the_senders(void **state)
{
	struct rdt_simulation what = simulation(&model, 2, 1000);

	(void)state;
	what.ranks_per_host = 2;
	/* put 5 and 1000 bytes x 0.5, latency 10, wait 3 */
	assert_int_equal(predict(&one_put, &what).time_ps, (5 + 500 + 10 + 3) * 1000);
}

static void the_sender_waits_for_the_acknowledgement(void **state)
{
	struct rdt_model slow = model;
	struct rdt_simulation what = simulation(&slow, 2, 1000);

	(void)state;
	slow.link[RDT_LINK_NET].complete = 900000;
	/* known 900 after the arrival, which is later than the receiver's wait of 50 */
	assert_int_equal(predict(&one_put, &what).time_ps, (100 + 1000 + 20 + 100 + 900) * 1000);
}

static void short_messages_are_copied_and_long_ones_announced(void **state)
{
	struct rdt_model two_sided = model;
	struct rdt_simulation what = simulation(&two_sided, 2, 1000);

	(void)state;
	two_sided.link[RDT_LINK_NET].eager_max = 1000;
	two_sided.link[RDT_LINK_NET].eager_byte = 400000;
	two_sided.link[RDT_LINK_NET].rendezvous = 2000000;
	assert_int_equal(predict(&one_put, &what).time_ps,
			 (100 + 400 + 1000 + 20 + 100 + 50 + 400) * 1000);
	what.bytes = 1004;
	assert_int_equal(predict(&one_put, &what).time_ps,
			 (100 + 2000 + 1000 + 20 + 50) * 1000 + 100400);
}

static void one_shot_of_three_by_hand(void **state)
{
	struct rdt_simulation what = simulation(&model, 3, 100);
	struct rdt_prediction p = predict(named(RDT_COLL_ALLREDUCE, "oneshot"), &what);
	/* A copy of 100 bytes; two puts; the second message comes when its CPU part is over, long
	 * after the interface is free again; its wait; the sum of three vectors. */
	uint64_t ns = (7 + 30) + 2 * 100 + 1000 + (20 + 10) + 50 + (30 + 3 * 20);

	(void)state;
	assert_int_equal(p.time_ps, ns * 1000);
	assert_int_equal(p.puts, 6);
	assert_int_equal(p.bytes, 200);
}

static void ranks_of_a_host_share_its_interface(void **state)
{
	struct rdt_simulation what = simulation(&model, 4, 100000);
	const struct rdt_algorithm *ring = named(RDT_COLL_ALLREDUCE, "ring");
	struct rdt_model rails = model;
	uint64_t alone, shared, dealt;

	(void)state;
	/* Nothing but the interface costs anything, so that it is all that counts. */
	memset(rails.link, 0, sizeof(rails.link));
	rails.link[RDT_LINK_NET].byte = 1000000;
	rails.reduce = rails.reduce_byte = 0;
	what.model = &rails;
	what.window = UINT64_MAX;
	alone = predict(ring, &what).time_ps;
	/* Ring on hosts {0, 2}, {1, 3}: all four puts of a round go between the hosts. */
	what.host = (const int[]){ 0, 1, 0, 1 };
	shared = predict(ring, &what).time_ps;
	rails.rails = 2;
	dealt = predict(ring, &what).time_ps;
	assert_int_equal(alone, 6 * UINT64_C(25000) * 1000);
	assert_int_equal(shared, 2 * alone);
	assert_int_equal(dealt, alone);
}

static void checked_data_are_hashed_at_both_ends_and_followed_by_a_record(void **state)
{
	struct rdt_model hashing = model;
	struct rdt_simulation what = simulation(&hashing, 2, 1000);

	(void)state;
	hashing.hash = 40000;
	hashing.hash_byte = 700000;
	assert_int_equal(predict(&one_put, &what).time_ps, (100 + 1000 + 20 + 100 + 50) * 1000);
	what.checked = true;
	/* 40 and 1000 bytes x 0.7 at each end; two puts of 100; two gaps of 20 */
	assert_int_equal(predict(&one_put, &what).time_ps,
			 (740 + 200 + 1000 + 40 + 100 + 50 + 740) * 1000);
	what.ranks_per_host = 2;
	assert_int_equal(predict(&one_put, &what).time_ps, (740 + 10 + 500 + 10 + 3 + 740) * 1000);
	/* A notification without data is the record alone. */
	what.bytes = 0;
	assert_int_equal(predict(&one_put, &what).time_ps, (40 + 5 + 10 + 3 + 40) * 1000);
}

/* What a rank reads in another's memory comes with no hash. */
static void nobody_reads_in_anothers_memory_where_data_are_checked(void **state)
{
	static const char *const readers[] = { "board", "direct", "hierarchical-ring" };
	struct rdt_simulation what = simulation(&model, 4, 1000);
	struct rdt_prediction p;

	(void)state;
	what.mapped = true;
	for (int i = 0; i < 3; i++) {
		const struct rdt_algorithm *a = named(RDT_COLL_ALLREDUCE, readers[i]);

		what.ranks_per_host = i < 2 ? 4 : 2;
		what.checked = false;
		assert_int_equal(rdt_simulate(a, &what, &p), RDT_SIMULATED);
		what.checked = true;
		assert_int_equal(rdt_simulate(a, &what, &p), RDT_SIMULATE_NOT_APPLICABLE);
	}
}

static void the_memory_of_a_host_is_a_limit(void **state)
{
	struct rdt_model narrow = model;
	struct rdt_simulation what = simulation(&narrow, 2, 1000);

	(void)state;
	what.ranks_per_host = 2;
	narrow.memory_byte = 2000000;
	/* 1000 bytes are read and written at 2 ns a byte: 4000 instead of 505 */
	assert_int_equal(predict(&one_put, &what).time_ps, (4000 + 10 + 3) * 1000);
}

/* ---- against itself ----------------------------------------------------------------------- */

static void symmetry_changes_nothing(void **state)
{
	struct rdt_model all = model;

	(void)state;
	all.memory_byte = 100000;
	all.link[RDT_LINK_NET].complete = 700000;
	all.link[RDT_LINK_NET].eager_max = 64;
	all.link[RDT_LINK_NET].eager_byte = 250000;
	all.link[RDT_LINK_NET].rendezvous = 1500000;
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++)
		for (int ranks = 1;
		     ranks <= 9 && a->flags & (RDT_ALG_SYMMETRIC | RDT_ALG_HOST_SYMMETRIC); ranks++)
			for (int per_host = 1; per_host <= ranks; per_host++)
				for (int blocks = 0; blocks < 3; blocks++) {
					uint64_t bytes = (uint64_t)ranks * 4 *
							 (blocks == 2 ? 10240 : 4 * blocks);
					struct rdt_simulation what = simulation(&all, ranks, bytes);
					struct rdt_prediction one, every;

					what.ranks_per_host = per_host;
					what.mapped = blocks % 2;
					if (rdt_simulate(a, &what, &one) ==
					    RDT_SIMULATE_NOT_APPLICABLE)
						continue;
					one = predict(a, &what);
					what.all_ranks = true;
					every = predict(a, &what);
					if (one.time_ps != every.time_ps ||
					    one.rounds != every.rounds ||
					    one.bytes != every.bytes || one.puts != every.puts)
						fail_msg("%s of %d ranks, %d on a host, %llu bytes:"
							 " %llu ps instead of %llu",
							 a->name, ranks, per_host,
							 (unsigned long long)bytes,
							 (unsigned long long)one.time_ps,
							 (unsigned long long)every.time_ps);
				}
}

static void predictions_keep_to_what_algorithms_promise(void **state)
{
	(void)state;
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++)
		for (int ranks = 1; ranks <= 17; ranks++) {
			struct rdt_simulation what = simulation(&model, ranks, 4096);
			struct rdt_shape shape = {
				.collective = a->collective,
				.bytes = a->collective == RDT_COLL_BARRIER ? 0 : 4096,
				.elem_size = 4,
				.remote_output = true,
			};
			struct rdt_prediction p;
			struct rdt_cost cost;

			/* Blocks would need their layout here; the verifier looks after those. */
			if (!a->cost ||
			    (a->collective != RDT_COLL_ALLREDUCE &&
			     a->collective != RDT_COLL_BROADCAST &&
			     a->collective != RDT_COLL_REDUCE && a->collective != RDT_COLL_BARRIER))
				continue;
			if (rdt_simulate(a, &what, &p) == RDT_SIMULATE_NOT_APPLICABLE)
				continue;
			cost = a->cost(ranks, &shape);
			if (p.puts != cost.puts || p.bytes > cost.bytes || p.rounds > cost.rounds)
				fail_msg("%s of %d: %d rounds, %llu bytes, %llu puts", a->name,
					 ranks, p.rounds, (unsigned long long)p.bytes,
					 (unsigned long long)p.puts);
		}
}

static void more_bytes_and_more_ranks_take_longer(void **state)
{
	static const char *const names[] = { "oneshot", "ring" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct rdt_algorithm *a = named(RDT_COLL_ALLREDUCE, names[i]);
		uint64_t last = 0;

		for (uint64_t bytes = 64; bytes <= UINT64_C(1) << 30; bytes *= 2) {
			struct rdt_simulation what = simulation(&model, 16, bytes);
			uint64_t now = predict(a, &what).time_ps;

			assert_true(now > last);
			last = now;
		}
		last = 0;
		for (int ranks = 2; ranks <= 1024; ranks *= 2) {
			struct rdt_simulation what = simulation(&model, ranks, 1 << 16);
			uint64_t now = predict(a, &what).time_ps;

			assert_true(now > last);
			last = now;
		}
	}
}

static void the_same_question_has_the_same_answer(void **state)
{
	(void)state;
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++) {
		struct rdt_simulation what = simulation(rdt_models[0], 24, 1000000);
		struct rdt_prediction first, again;
		enum rdt_simulated outcome;

		what.ranks_per_host = 4;
		outcome = rdt_simulate(a, &what, &first);
		assert_int_equal(rdt_simulate(a, &what, &again), outcome);
		assert_memory_equal(&first, &again, sizeof(first));
	}
}

/* Windows beyond the third in each slot are not run: the sum must be what running them gives. */
static void many_windows_are_as_long_as_their_sum(void **state)
{
	const struct rdt_algorithm *ring = named(RDT_COLL_ALLREDUCE, "ring");
	struct rdt_simulation what = simulation(rdt_models[0], 8, UINT64_C(12) << 16);
	uint64_t twelve, forty;

	(void)state;
	what.window = 1 << 16;
	twelve = predict(ring, &what).time_ps;
	what.bytes = UINT64_C(40) << 16;
	forty = predict(ring, &what).time_ps;
	assert_in_range(forty, twelve * 40 / 12 * 95 / 100, twelve * 40 / 12);
}

static void what_is_too_big_says_so_at_once(void **state)
{
	struct rdt_simulation what = simulation(&model, 16384, 1 << 20);
	struct rdt_prediction p;

	(void)state;
	/* One of which one rank would be run, and one of which all would. */
	what.max_steps = 1000;
	assert_int_equal(rdt_simulate(named(RDT_COLL_ALLREDUCE, "oneshot"), &what, &p),
			 RDT_SIMULATE_TOO_BIG);
	assert_int_equal(rdt_simulate(named(RDT_COLL_BROADCAST, "tree"), &what, &p),
			 RDT_SIMULATE_TOO_BIG);
	what.max_steps = 0;
	assert_int_equal(rdt_simulate(named(RDT_COLL_BROADCAST, "tree"), &what, &p), RDT_SIMULATED);
}

static int emit_wait_only(const struct rdt_group *group, const struct rdt_shape *shape,
			  struct rdt_schedule *out)
{
	(void)shape;
	rdt_wait_for(out, 0, !group->rank, 1);
	return rdt_schedule_finish(out);
}

static void a_wait_for_nothing_is_told(void **state)
{
	const struct rdt_algorithm waits = { .name = "waits",
					     .collective = RDT_COLL_BARRIER,
					     .emit = emit_wait_only };
	struct rdt_simulation what = simulation(&model, 2, 0);
	struct rdt_prediction p;

	(void)state;
	assert_int_equal(rdt_simulate(&waits, &what, &p), RDT_SIMULATE_STUCK);
}

/* ---- choices ------------------------------------------------------------------------------ */

static void the_choice_is_the_fastest(void **state)
{
	struct rdt_simulation what = simulation(rdt_models[0], 48, 0);
	struct rdt_selector selector;

	(void)state;
	rdt_selector_init(&selector, &what, false);
	for (int i = 0; i <= 30; i++) {
		const struct rdt_algorithm *best;
		struct rdt_candidate c[RDT_CANDIDATES];
		int n;

		what.bytes = UINT64_C(1) << i;
		what.max_steps = selector.what.max_steps;
		n = rdt_predict(&what, RDT_COLL_ALLREDUCE, false, c);
		assert_true(n > 0);
		for (int k = 1; k < n; k++)
			assert_true(c[k].outcome != RDT_SIMULATED ||
				    c[k].prediction.time_ps >= c[0].prediction.time_ps);
		best = rdt_select(&selector, RDT_COLL_ALLREDUCE, what.bytes, NULL);
		assert_ptr_equal(best, c[0].algorithm);
		assert_ptr_equal(
			rdt_select(&selector, RDT_COLL_ALLREDUCE, 2 * what.bytes - 1, NULL), best);
	}
}

static void in_order_means_in_order(void **state)
{
	struct rdt_simulation what = simulation(rdt_models[0], 8, 0);
	struct rdt_selector selector;

	(void)state;
	rdt_selector_init(&selector, &what, true);
	for (uint64_t bytes = 0; bytes <= 1 << 20; bytes = bytes ? 2 * bytes : 1)
		assert_true(rdt_select(&selector, RDT_COLL_ALLREDUCE, bytes, NULL)->flags &
			    RDT_ALG_RANK_ORDER);
	assert_non_null(rdt_select(&selector, RDT_COLL_BARRIER, 0, NULL));
}

/* Two rounds for each doubling of the ranks, instead of two for each rank. */
static void circulant_is_ahead_of_ring(void **state)
{
	const struct rdt_algorithm *circulant = rdt_algorithm_find(RDT_COLL_ALLREDUCE, "circulant");
	struct rdt_simulation what = simulation(rdt_models[0], 48, 1 << 20);
	struct rdt_prediction p, ring;

	(void)state;
	if (!circulant)
		skip();
	p = predict(circulant, &what);
	ring = predict(named(RDT_COLL_ALLREDUCE, "ring"), &what);
	assert_int_equal(p.rounds, 12);
	assert_int_equal(ring.rounds, 94);
	assert_true(p.time_ps < ring.time_ps);
}

/* ---- the text of models ------------------------------------------------------------------- */

static void models_are_read_as_they_are_written(void **state)
{
	(void)state;
	for (int i = 0; rdt_models[i]; i++) {
		struct rdt_model read;
		char *text = NULL, error[1024];
		size_t size;
		FILE *to = open_memstream(&text, &size);

		rdt_model_print(to, rdt_models[i]);
		fclose(to);
		assert_int_equal(rdt_model_parse(&read, "f", text, error, sizeof(error)), 0);
		memcpy(read.name, rdt_models[i]->name, sizeof(read.name));
		assert_memory_equal(&read, rdt_models[i], sizeof(read));
		assert_ptr_equal(rdt_model_builtin(rdt_models[i]->name), rdt_models[i]);
		free(text);
	}
	assert_null(rdt_model_builtin("abacus"));
}

static void a_model_can_begin_with_another(void **state)
{
	struct rdt_model m;
	char error[1024];

	(void)state;
	assert_int_equal(rdt_model_parse(&m, "f",
					 "# mine\n base = ucx-edr \n\nnet.byte=0.0413 # HDR", error,
					 sizeof(error)),
			 0);
	assert_int_equal(m.link[RDT_LINK_NET].byte, 41300);
	assert_int_equal(m.link[RDT_LINK_NET].latency,
			 rdt_model_builtin("ucx-edr")->link[RDT_LINK_NET].latency);
}

static void faults_in_models_name_file_line_and_remedy(void **state)
{
	static const char *const cases[][2] = {
		{ "\nnet.byte 3\n",
		  "m, line 2: no \"=\" in \"net.byte 3\"; write \"name = value\"" },
		{ "net.byte = fast",
		  "m, line 1: net.byte is \"fast\"; write nanoseconds up to 1000000000 with at "
		  "most 6 decimals, like 0.0826" },
		{ "net.put = 0.1234",
		  "m, line 1: net.put is \"0.1234\"; write nanoseconds up to 1000000000 with at "
		  "most 3 decimals, like 0.125" },
		{ "rails = 0", "m, line 1: rails is \"0\"; a host has at least 1" },
		{ "rails = 1.5",
		  "m, line 1: rails is \"1.5\"; write a whole number up to 1000000000" },
		{ "base = abacus", "m, line 1: there is no model \"abacus\"; `rdtrain simulate "
				   "--list-models` shows the names" },
		{ "rails = 2\nbase = ucx-edr", "m, line 2: too late: \"base\"; it sets all values, "
					       "so it must be the first line" },
		{ "net.lag = 3", "m, line 1: there is no \"net.lag\"; the names are base, "
				 "host.latency, host.put" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rdt_model m;
		char error[1024];

		assert_int_equal(rdt_model_parse(&m, "m", cases[i][0], error, sizeof(error)), -1);
		error[strlen(cases[i][1])] = '\0';
		assert_string_equal(error, cases[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_put_costs_cpu_interface_latency_and_wait),
		cmocka_unit_test(a_put_within_a_host_is_a_copy_of_the_senders),
		cmocka_unit_test(the_sender_waits_for_the_acknowledgement),
		cmocka_unit_test(short_messages_are_copied_and_long_ones_announced),
		cmocka_unit_test(one_shot_of_three_by_hand),
		cmocka_unit_test(ranks_of_a_host_share_its_interface),
		cmocka_unit_test(checked_data_are_hashed_at_both_ends_and_followed_by_a_record),
		cmocka_unit_test(nobody_reads_in_anothers_memory_where_data_are_checked),
		cmocka_unit_test(the_memory_of_a_host_is_a_limit),
		cmocka_unit_test(symmetry_changes_nothing),
		cmocka_unit_test(predictions_keep_to_what_algorithms_promise),
		cmocka_unit_test(more_bytes_and_more_ranks_take_longer),
		cmocka_unit_test(the_same_question_has_the_same_answer),
		cmocka_unit_test(many_windows_are_as_long_as_their_sum),
		cmocka_unit_test(what_is_too_big_says_so_at_once),
		cmocka_unit_test(a_wait_for_nothing_is_told),
		cmocka_unit_test(the_choice_is_the_fastest),
		cmocka_unit_test(in_order_means_in_order),
		cmocka_unit_test(circulant_is_ahead_of_ring),
		cmocka_unit_test(models_are_read_as_they_are_written),
		cmocka_unit_test(a_model_can_begin_with_another),
		cmocka_unit_test(faults_in_models_name_file_line_and_remedy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
