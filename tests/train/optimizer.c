/* SPDX-License-Identifier: BSD-3-Clause */
/* Optimizers against their published recurrences; shards against the whole; stop conditions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include <rdtrain/train.h>

#include "ranks.h"

#define N 37
#define STEPS 50

static const enum rdt_optimizer_kind kinds[] = { RDT_SGD, RDT_MOMENTUM, RDT_ADAM };

static rdt_optimizer *make(enum rdt_optimizer_kind kind, size_t count, enum rdt_type type)
{
	struct rdt_optimizer_options o = { .size = sizeof(o), .kind = kind };
	rdt_optimizer *opt;

	assert_int_equal(rdt_optimizer_create(&o, count, type, &opt), 0);
	return opt;
}

/* Some gradient of step k that depends on where the parameters are. */
static double gradient_at(int k, int i, double p)
{
	return p * (1 + i % 3) + sin(k * 7 + i);
}

static void updates_follow_their_recurrences(void **state)
{
	(void)state;
	for (int kind = RDT_SGD; kind <= RDT_ADAM; kind++) {
		rdt_optimizer *opt = make(kind, N, RDT_FLOAT64);
		double p[N], g[N], q[N], v[N] = { 0 }, m[N] = { 0 };

		for (int i = 0; i < N; i++)
			p[i] = q[i] = cos(i);
		for (int k = 0; k < STEPS; k++) {
			for (int i = 0; i < N; i++)
				g[i] = gradient_at(k, i, p[i]);
			rdt_optimizer_step(opt, (uint64_t)k, 0.1, p, g);
			for (int i = 0; i < N; i++) {
				double at = gradient_at(k, i, q[i]), t = k + 1;

				if (kind == RDT_SGD) {
					q[i] -= 0.1 * at;
				} else if (kind == RDT_MOMENTUM) {
					v[i] = 0.9 * v[i] + at;
					q[i] -= 0.1 * v[i];
				} else { /* algorithm 1 of arXiv 1412.6980 */
					m[i] = 0.9 * m[i] + (1 - 0.9) * at;
					v[i] = 0.999 * v[i] + (1 - 0.999) * at * at;
					q[i] -= 0.1 * (m[i] / (1 - pow(0.9, t))) /
						(sqrt(v[i] / (1 - pow(0.999, t))) + 1e-8);
				}
				assert_true(fabs(p[i] - q[i]) <= 1e-10 * (1 + fabs(q[i])));
			}
		}
		rdt_optimizer_destroy(opt);
	}
}

static void adams_first_step_is_the_rate(void **state)
{
	float p[3] = { 0 }, g[3] = { 1e-3f, -5, 1e6f };
	rdt_optimizer *opt = make(RDT_ADAM, 3, RDT_FLOAT32);

	(void)state;
	rdt_optimizer_step(opt, 0, 0.01, p, g);
	assert_true(fabsf(p[0] + 0.01f) < 1e-6f && fabsf(p[1] - 0.01f) < 1e-6f &&
		    fabsf(p[2] + 0.01f) < 1e-6f);
	rdt_optimizer_destroy(opt);
}

/* Cut anywhere, the shards have the bits of the whole: also across the lanes of vector code. */
static void shards_give_the_bits_of_the_whole(void **state)
{
	(void)state;
	for (size_t kind = 0; kind < 3; kind++)
		for (size_t cut = 0; cut <= N; cut += 6) {
			rdt_optimizer *whole = make(kinds[kind], N, RDT_FLOAT32);
			rdt_optimizer *a = make(kinds[kind], cut, RDT_FLOAT32);
			rdt_optimizer *b = make(kinds[kind], N - cut, RDT_FLOAT32);
			float p[N], q[N], g[N];

			for (int i = 0; i < N; i++)
				p[i] = q[i] = (float)cos(i);
			for (int k = 0; k < STEPS; k++) {
				for (int i = 0; i < N; i++)
					g[i] = (float)gradient_at(k, i, (double)p[i]);
				rdt_optimizer_step(whole, (uint64_t)k, 0.1, p, g);
				rdt_optimizer_step(a, (uint64_t)k, 0.1, q, g);
				rdt_optimizer_step(b, (uint64_t)k, 0.1, q + cut, g + cut);
				assert_memory_equal(p, q, sizeof(p));
			}
			for (int i = 0; i < rdt_optimizer_states(whole); i++) {
				assert_memory_equal(rdt_optimizer_state(whole, i),
						    rdt_optimizer_state(a, i), cut * sizeof(float));
				assert_memory_equal((float *)rdt_optimizer_state(whole, i) + cut,
						    rdt_optimizer_state(b, i),
						    (N - cut) * sizeof(float));
			}
			rdt_optimizer_destroy(whole);
			rdt_optimizer_destroy(a);
			rdt_optimizer_destroy(b);
		}
}

static void the_state_is_all_there_is_to_carry_over(void **state)
{
	(void)state;
	for (size_t kind = 0; kind < 3; kind++) {
		rdt_optimizer *a = make(kinds[kind], N, RDT_FLOAT64), *b = NULL;
		double p[N], q[N], g[N];

		for (int i = 0; i < N; i++)
			p[i] = cos(i);
		for (int k = 0; k < STEPS; k++) {
			if (k == STEPS / 2) {
				b = make(kinds[kind], N, RDT_FLOAT64);
				memcpy(q, p, sizeof(q));
				for (int i = 0; i < rdt_optimizer_states(a); i++)
					memcpy(rdt_optimizer_state(b, i), rdt_optimizer_state(a, i),
					       sizeof(q));
			}
			for (int i = 0; i < N; i++)
				g[i] = gradient_at(k, i, p[i]);
			rdt_optimizer_step(a, (uint64_t)k, 0.1, p, g);
			if (b)
				rdt_optimizer_step(b, (uint64_t)k, 0.1, q, g);
		}
		assert_memory_equal(p, q, sizeof(p));
		rdt_optimizer_destroy(a);
		rdt_optimizer_destroy(b);
	}
}

static void states_have_names(void **state)
{
	rdt_optimizer *sgd = make(RDT_SGD, 0, RDT_FLOAT32), *adam = make(RDT_ADAM, 2, RDT_FLOAT64),
		      *momentum = make(RDT_MOMENTUM, 1, RDT_FLOAT32);

	(void)state;
	assert_int_equal(rdt_optimizer_states(sgd), 0);
	assert_null(rdt_optimizer_state(sgd, 0));
	assert_null(rdt_optimizer_state_name(sgd, 0));
	assert_int_equal(rdt_optimizer_states(momentum), 1);
	assert_string_equal(rdt_optimizer_state_name(momentum, 0), "velocity");
	assert_null(rdt_optimizer_state(momentum, 1));
	assert_int_equal(rdt_optimizer_states(adam), 2);
	assert_string_equal(rdt_optimizer_state_name(adam, 0), "moment1");
	assert_string_equal(rdt_optimizer_state_name(adam, 1), "moment2");
	assert_null(rdt_optimizer_state(adam, 2));
	assert_null(rdt_optimizer_state(adam, -1));
	rdt_optimizer_destroy(sgd);
	rdt_optimizer_destroy(momentum);
	rdt_optimizer_destroy(adam);
	rdt_optimizer_destroy(NULL);
}

static void wrong_options_are_refused(void **state)
{
	const struct rdt_optimizer_options good = { .size = sizeof(good), .kind = RDT_ADAM };
	struct rdt_optimizer_options o = good;
	rdt_optimizer *opt;

	(void)state;
	assert_int_equal(rdt_optimizer_create(&good, 4, RDT_INT32, &opt), RDT_ERR_INVALID);
	assert_null(opt);
	o.beta2 = 1;
	assert_int_equal(rdt_optimizer_create(&o, 4, RDT_FLOAT32, &opt), RDT_ERR_INVALID);
	assert_non_null(strstr(rdt_last_error(), "beta2 of 1"));
	o = good;
	o.kind = 3;
	assert_int_equal(rdt_optimizer_create(&o, 4, RDT_FLOAT32, &opt), RDT_ERR_INVALID);
	o = good;
	o.size = 0;
	assert_int_equal(rdt_optimizer_create(&o, 4, RDT_FLOAT32, &opt), RDT_ERR_INVALID);
	assert_int_equal(rdt_optimizer_create(NULL, 4, RDT_FLOAT32, &opt), RDT_ERR_INVALID);
	assert_int_equal(rdt_optimizer_create(&good, 4, RDT_FLOAT32, NULL), RDT_ERR_INVALID);
	assert_int_equal(rdt_optimizer_create(&good, SIZE_MAX / 2, RDT_FLOAT32, &opt),
			 RDT_ERR_NOMEM);
}

/* ---- stop conditions --------------------------------------------------------------------- */

static enum rdt_stop_reason ask(struct rdt_stop *stop, uint64_t epoch, double loss, double norm)
{
	enum rdt_stop_reason reason;

	assert_int_equal(rdt_stop_check(stop, NULL, epoch, loss, norm, &reason), 0);
	return reason;
}

static void training_stops_at_the_first_condition_that_holds(void **state)
{
	struct rdt_stop epochs = { .epochs = 3 }, norm = { .gradient_norm = 0.01 },
			loss = { .loss_change = 0.1 }, time = { .seconds = 0.02 }, never = { 0 };

	(void)state;
	assert_int_equal(ask(&epochs, 2, 1, 1), RDT_GO_ON);
	assert_int_equal(ask(&epochs, 3, 1, 1), RDT_STOP_EPOCHS);
	assert_int_equal(ask(&norm, 1, 1, 0.011), RDT_GO_ON);
	assert_int_equal(ask(&norm, 1, 1, 0.01), RDT_STOP_GRADIENT);
	assert_int_equal(ask(&loss, 1, 100, 1), RDT_GO_ON);
	assert_int_equal(ask(&loss, 2, 80, 1), RDT_GO_ON);
	assert_int_equal(ask(&loss, 3, 90, 1), RDT_GO_ON);
	assert_int_equal(ask(&loss, 4, 82, 1), RDT_STOP_LOSS);
	assert_int_equal(ask(&time, 1, 1, 1), RDT_GO_ON);
	nanosleep(&(struct timespec){ .tv_nsec = 30000000 }, NULL);
	assert_int_equal(ask(&time, 1, 1, 1), RDT_STOP_TIME);
	for (uint64_t epoch = 0; epoch < 10; epoch++)
		assert_int_equal(ask(&never, epoch, 1, 0), RDT_GO_ON);
	assert_int_equal(ask(&never, 1, (double)INFINITY, 0), RDT_STOP_DIVERGED);
	assert_int_equal(ask(&never, 1, 1, (double)NAN), RDT_STOP_DIVERGED);
	assert_string_equal(rdt_stop_name(RDT_STOP_GRADIENT), "gradient norm");
	assert_null(rdt_stop_name(17));
}

static void norms_are_euclidean(void **state)
{
	const float f[] = { 3, -4 };
	const double d[] = { 1e200, 0 };

	(void)state;
	assert_true(rdt_norm(f, 2, RDT_FLOAT32) == 5);
	assert_true(rdt_norm(d, 0, RDT_FLOAT64) == 0);
	assert_true(isnan(rdt_norm(f, 2, RDT_INT32)));
	assert_true(isinf(rdt_norm(d, 2, RDT_FLOAT64)));
}

/* Each rank has another loss; all must hear rank 0's answer. */
static int stop_together(int rank, int n, void *arg)
{
	struct rdt_stop stop = { .loss_change = 0.5 };
	enum rdt_stop_reason reason;
	rdt_comm *comm;

	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_stop_check(&stop, comm, 1, 100, 1, &reason) == 0);
	RANK_CHECK(reason == RDT_GO_ON);
	RANK_CHECK(rdt_stop_check(&stop, comm, 2, rank ? 1 : 90, 1, &reason) == 0);
	RANK_CHECK(reason == RDT_STOP_LOSS);
	rdt_comm_destroy(comm);
	return 0;
}

static void all_workers_stop_together(void **state)
{
	(void)state;
	assert_true(ranks_run(3, 60, stop_together, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(updates_follow_their_recurrences),
		cmocka_unit_test(adams_first_step_is_the_rate),
		cmocka_unit_test(shards_give_the_bits_of_the_whole),
		cmocka_unit_test(the_state_is_all_there_is_to_carry_over),
		cmocka_unit_test(states_have_names),
		cmocka_unit_test(wrong_options_are_refused),
		cmocka_unit_test(training_stops_at_the_first_condition_that_holds),
		cmocka_unit_test(norms_are_euclidean),
		cmocka_unit_test(all_workers_stop_together),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
