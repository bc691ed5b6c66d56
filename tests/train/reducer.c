/* SPDX-License-Identifier: BSD-3-Clause */
/* The reducer: means of gradients, whatever the order, the types and the passes. */
#include "ranks.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <rdtrain/train.h>

#define GRADIENTS 9

static const size_t counts[GRADIENTS] = { 1, 1000, 17, 33333, 3, 64, 4097, 5, 70001 };

struct variant {
	struct rdt_reducer_options options;
	bool own; /* the gradients are in memory of the caller's */
};

/* A small whole number for each element, so that sums and means are exact in all types. */
static double value(int rank, int gradient, size_t i, int step)
{
	return (double)((i * 7 + (size_t)(gradient * 3 + rank * 5 + step * 11)) % 16);
}

static void put(enum rdt_type type, void *to, size_t i, double x)
{
	if (type == RDT_FLOAT64)
		((double *)to)[i] = x;
	else
		((float *)to)[i] = (float)x;
}

static double get(enum rdt_type type, const void *from, size_t i)
{
	return type == RDT_FLOAT64 ? ((const double *)from)[i] : (double)((const float *)from)[i];
}

/* Another order on each rank and in each step. */
static void order_of(int rank, int step, int order[GRADIENTS])
{
	uint64_t random = (uint64_t)(rank * 1000 + step) * 2654435761u + 1;

	for (int i = 0; i < GRADIENTS; i++) {
		int j;

		random = random * 6364136223846793005u + 1442695040888963407u;
		j = (int)((random >> 33) % (uint64_t)(i + 1));
		order[i] = order[j];
		order[j] = i;
	}
}

static bool leaves_out(int rank, int gradient, int step)
{
	return step > 0 && (gradient + rank + step) % 3 == 0;
}

static int make(rdt_comm *comm, const struct variant *v, void *own[GRADIENTS], rdt_reducer **r)
{
	struct rdt_gradient given[GRADIENTS];

	for (int g = 0; g < GRADIENTS; g++) {
		own[g] = v->own ? calloc(counts[g], sizeof(double)) : NULL;
		given[g] = (struct rdt_gradient){ .count = counts[g], .data = own[g] };
	}
	return rdt_reducer_create(comm, given, GRADIENTS, &v->options, r);
}

static int means(int rank, int n, void *arg)
{
	const struct variant *v = arg;
	enum rdt_type type = v->options.type;
	void *own[GRADIENTS];
	rdt_reducer *r;
	rdt_comm *comm;

	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(make(comm, v, own, &r) == 0);
	for (int step = 0; step < 6; step++) {
		int order[GRADIENTS];

		order_of(rank, step, order);
		for (int k = 0; k < GRADIENTS; k++) {
			int g = order[k];
			void *at = rdt_reducer_gradient(r, g);

			RANK_CHECK(at && (!v->own || at == own[g]));
			for (size_t i = 0; i < counts[g]; i++)
				put(type, at, i,
				    leaves_out(rank, g, step) ? 777 : value(rank, g, i, step));
			if (!leaves_out(rank, g, step))
				RANK_CHECK(rdt_reducer_ready(r, g) == 0);
			RANK_CHECK(rdt_reducer_poll(r) == 0);
		}
		RANK_CHECK(rdt_reducer_finish(r) == 0);
		for (int g = 0; g < GRADIENTS; g++)
			for (size_t i = 0; i < counts[g]; i++) {
				double sum = 0, got = get(type, rdt_reducer_gradient(r, g), i);

				for (int k = 0; k < n; k++)
					sum += leaves_out(k, g, step) ? 0 : value(k, g, i, step);
				if (!v->options.sum)
					sum = type == RDT_FLOAT64 ? sum / n
								  : (double)((float)sum / (float)n);
				RANK_CHECK(got == sum);
			}
	}
	rdt_reducer_destroy(r);
	rdt_comm_destroy(comm);
	for (int g = 0; g < GRADIENTS; g++)
		free(own[g]);
	return 0;
}

static struct variant variant(size_t bucket_bytes, enum rdt_type type, bool own)
{
	return (struct variant){ .options = { .size = sizeof(struct rdt_reducer_options),
					      .bucket_bytes = bucket_bytes,
					      .type = type },
				 .own = own };
}

static void each_gradient_becomes_the_mean_whatever_the_order_of_the_ranks(void **state)
{
	static const size_t buckets[] = { 1, 5000, 0 };

	(void)state;
	for (int n = 1; n <= 4; n += n == 1 ? 1 : 2) /* 1, 2, 4: means of whole numbers are exact */
		for (size_t b = 0; b < 3; b++) {
			struct variant v = variant(buckets[b], RDT_FLOAT32, b == 1);

			assert_true(ranks_run(n, 60, means, &v));
		}
}

static void so_it_does_in_float64_and_as_a_sum(void **state)
{
	struct variant v = variant(5000, RDT_FLOAT64, false);

	(void)state;
	assert_true(ranks_run(2, 60, means, &v));
	v.own = true;
	v.options.sum = 1;
	assert_true(ranks_run(3, 60, means, &v));
}

/* Sums of up to 48 are whole numbers of few bits: no rounding even on the wire. */
static void and_on_a_wire_of_16_bits(void **state)
{
	struct variant v = variant(5000, RDT_FLOAT32, false);

	(void)state;
	v.options.sum = 1;
	v.options.wire = RDT_BFLOAT16;
	assert_true(ranks_run(3, 60, means, &v));
	v.options.wire = RDT_FLOAT16;
	v.own = true;
	assert_true(ranks_run(3, 60, means, &v));
}

/* Three passes a step, of which each rank leaves some gradients out. */
static int passes(int rank, int n, void *arg)
{
	const struct variant *v = arg;
	void *own[GRADIENTS];
	rdt_reducer *r;
	rdt_comm *comm;

	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(make(comm, v, own, &r) == 0);
	for (int step = 0; step < 3; step++) {
		for (int pass = 0; pass < 4; pass++) {
			if (pass < 3)
				RANK_CHECK(rdt_reducer_hold(r) == 0);
			for (int g = GRADIENTS - 1; g >= 0; g--) {
				float *at = rdt_reducer_gradient(r, g);

				for (size_t i = 0; i < counts[g]; i++)
					at[i] = (float)value(rank, g, i, step + pass);
				if (!leaves_out(rank, g, pass))
					RANK_CHECK(rdt_reducer_ready(r, g) == 0);
			}
			RANK_CHECK(rdt_reducer_finish(r) == 0);
		}
		for (int g = 0; g < GRADIENTS; g++)
			for (size_t i = 0; i < counts[g]; i++) {
				double sum = 0;

				for (int k = 0; k < n; k++)
					for (int pass = 0; pass < 4; pass++)
						sum += leaves_out(k, g, pass)
							       ? 0
							       : value(k, g, i, step + pass);
				RANK_CHECK((double)((float *)rdt_reducer_gradient(r, g))[i] ==
					   sum / (4 * n));
			}
	}
	rdt_reducer_destroy(r);
	rdt_comm_destroy(comm);
	for (int g = 0; g < GRADIENTS; g++)
		free(own[g]);
	return 0;
}

static void passes_add_up_until_one_ends_the_step(void **state)
{
	struct variant v = variant(5000, RDT_FLOAT32, false);

	(void)state;
	v.options.accumulate = 1;
	assert_true(ranks_run(2, 60, passes, &v));
	v.own = true;
	assert_true(ranks_run(4, 60, passes, &v));
}

#define STEPS 256

/* The mean over many steps of what was sent, against what was to be sent. */
static int rounded(int rank, int n, void *arg)
{
	const struct variant *v = arg;
	struct rdt_gradient given = { .count = 1001 };
	double worst = 0, *total = calloc(given.count, sizeof(*total));
	rdt_reducer *r;
	rdt_comm *comm;
	float *at, *low, *high;

	RANK_CHECK(total && rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_reducer_create(comm, &given, 1, &v->options, &r) == 0);
	at = rdt_reducer_gradient(r, 0);
	low = calloc(given.count, sizeof(*low));
	high = calloc(given.count, sizeof(*high));
	RANK_CHECK(low && high);
	for (int step = 0; step < STEPS; step++) {
		for (size_t i = 0; i < given.count; i++)
			at[i] = 1 + (float)i * 1e-4f + (float)rank;
		RANK_CHECK(rdt_reducer_ready(r, 0) == 0);
		RANK_CHECK(rdt_reducer_finish(r) == 0);
		for (size_t i = 0; i < given.count; i++)
			total[i] += (double)at[i];
	}
	/* All ranks got the same bits. */
	RANK_CHECK(rdt_allreduce(comm, at, low, given.count, RDT_FLOAT32, RDT_MIN) == 0);
	RANK_CHECK(rdt_allreduce(comm, at, high, given.count, RDT_FLOAT32, RDT_MAX) == 0);
	RANK_CHECK(memcmp(low, high, given.count * sizeof(*low)) == 0);
	for (size_t i = 0; i < given.count; i++) {
		double wanted = 1 + (double)((float)i * 1e-4f) + (n - 1) / 2.0;

		worst = fmax(worst, fabs(total[i] / STEPS - wanted));
	}
	if (rank == 0)
		printf("error of the mean of %d steps on %d ranks, %s: %.2e\n", STEPS, n,
		       v->options.no_feedback ? "without feedback" : "with feedback", worst);
	/* The local roundings average out; those of the sums on the way, n - 1 of half a unit in
	 * the last of 8 bits at most, come again in each step. */
	if (v->options.no_feedback)
		RANK_CHECK(worst > 2e-3);
	else
		RANK_CHECK(worst < 2e-4 + (n - 1) * 0x1p-8 * (1.1 + (n - 1) / 2.0));
	rdt_reducer_destroy(r);
	rdt_comm_destroy(comm);
	free(total);
	free(low);
	free(high);
	return 0;
}

static void what_rounding_loses_comes_with_the_next_step(void **state)
{
	struct variant v = variant(0, RDT_FLOAT32, false);

	(void)state;
	v.options.wire = RDT_BFLOAT16;
	v.options.sum = 0;
	for (int n = 1; n <= 4; n *= 2) {
		v.options.no_feedback = 1;
		assert_true(ranks_run(n, 60, rounded, &v));
		v.options.no_feedback = 0;
		assert_true(ranks_run(n, 60, rounded, &v));
	}
}

/* Gradients near float16's largest number, whose sums are beyond it; then what is itself beyond. */
static int large_means(int rank, int n, void *arg)
{
	static const float sizes[] = { 40000, -65000, 65504, 1e6f, 1 };
	struct rdt_gradient given = { .count = 1001 };
	struct rdt_reducer_options o = { .size = sizeof(o), .wire = RDT_FLOAT16, .accumulate = 1 };
	rdt_reducer *r;
	rdt_comm *comm;
	float *at;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_reducer_create(comm, &given, 1, &o, &r) == 0);
	at = rdt_reducer_gradient(r, 0);
	for (int step = 0; step < 10; step++) {
		float size = sizes[step % 5];
		double wanted = fmax(fmin(size, 65504), -65504);

		for (int pass = 0; pass < 3; pass++) {
			if (pass < 2)
				RANK_CHECK(rdt_reducer_hold(r) == 0);
			for (size_t i = 0; i < given.count; i++)
				at[i] = size;
			/* The last gradients of step 5 on come by finish alone. */
			if (step < 5 || pass < 2)
				RANK_CHECK(rdt_reducer_ready(r, 0) == 0);
			RANK_CHECK(rdt_reducer_finish(r) == 0);
		}
		if (step >= 5 && fabs(wanted) < 65504)
			wanted *= 2 / 3.0;
		else if (step >= 5)
			wanted = fmin(2 / 3.0 * size, 65504);
		/* n roundings of 11 bits, and what a step before left */
		for (size_t i = 0; i < given.count; i++)
			RANK_CHECK(fabs((double)at[i] - wanted) <=
				   0x1p-10 * n * fabs(wanted) + (fabs(wanted) < 100 ? 32 : 0));
	}
	RANK_CHECK(rank < n);
	rdt_reducer_destroy(r);
	rdt_comm_destroy(comm);
	return 0;
}

static void a_mean_that_float16_can_hold_does_not_overflow_in_the_sum(void **state)
{
	(void)state;
	for (int n = 1; n <= 4; n++)
		assert_true(ranks_run(n, 60, large_means, NULL));
}

static int same_bits(int rank, int n, void *arg)
{
	struct rdt_gradient given = { .count = 5003 };
	struct rdt_reducer_options o = { .size = sizeof(o), .wire = *(enum rdt_type *)arg };
	rdt_reducer *r;
	rdt_comm *comm;
	float *at, *low, *high;

	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_reducer_create(comm, &given, 1, &o, &r) == 0);
	at = rdt_reducer_gradient(r, 0);
	low = calloc(given.count, sizeof(*low));
	high = calloc(given.count, sizeof(*high));
	RANK_CHECK(low && high);
	for (int step = 0; step < 8; step++) {
		double worst = 0, wanted;

		for (size_t i = 0; i < given.count; i++)
			at[i] = sinf((float)i * 0.01f + (float)(rank + step));
		RANK_CHECK(rdt_reducer_ready(r, 0) == 0);
		RANK_CHECK(rdt_reducer_finish(r) == 0);
		RANK_CHECK(rdt_allreduce(comm, at, low, given.count, RDT_FLOAT32, RDT_MIN) == 0);
		RANK_CHECK(rdt_allreduce(comm, at, high, given.count, RDT_FLOAT32, RDT_MAX) == 0);
		RANK_CHECK(memcmp(low, high, given.count * sizeof(*low)) == 0);
		for (size_t i = 0; i < given.count; i++) {
			wanted = 0;
			for (int k = 0; k < n; k++)
				wanted += (double)sinf((float)i * 0.01f + (float)(k + step)) / n;
			worst = fmax(worst, fabs((double)at[i] - wanted));
		}
		RANK_CHECK(worst < (o.wire == RDT_FLOAT16 ? 2e-3 : 1.6e-2));
		RANK_CHECK(worst > 0);
	}
	rdt_reducer_destroy(r);
	rdt_comm_destroy(comm);
	free(low);
	free(high);
	return 0;
}

static void rounded_means_are_near_and_alike_on_all_ranks(void **state)
{
	enum rdt_type types[] = { RDT_BFLOAT16, RDT_FLOAT16 };

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_true(ranks_run(3, 60, same_bits, &types[i]));
}

static int mistakes(int rank, int n, void *arg)
{
	struct rdt_gradient two[2] = { { .count = 3 }, { .count = 4 } };
	struct rdt_reducer_options o = { .size = sizeof(o) };
	struct rdt_gradient *many = calloc(300, sizeof(*many));
	size_t count = 1;
	rdt_reducer *r;
	rdt_comm *comm;

	(void)rank;
	(void)n;
	(void)arg;
	RANK_CHECK(many && rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_reducer_create(comm, two, 0, &o, &r) == RDT_ERR_INVALID);
	o.type = RDT_INT32;
	RANK_CHECK(rdt_reducer_create(comm, two, 2, &o, &r) == RDT_ERR_INVALID);
	o.type = RDT_FLOAT64;
	o.wire = RDT_BFLOAT16;
	RANK_CHECK(rdt_reducer_create(comm, two, 2, &o, &r) == RDT_ERR_INVALID);
	o = (struct rdt_reducer_options){ .size = 3 };
	RANK_CHECK(rdt_reducer_create(comm, two, 2, &o, &r) == RDT_ERR_INVALID);
	two[1].count = 0;
	RANK_CHECK(rdt_reducer_create(comm, two, 2, NULL, &r) == RDT_ERR_INVALID && !r);
	RANK_CHECK(strstr(rdt_last_error(), "gradient 1"));
	two[1].count = 4;
	for (int i = 0; i < 300; i++)
		many[i].count = 100;
	o = (struct rdt_reducer_options){ .size = sizeof(o), .bucket_bytes = 100 };
	RANK_CHECK(rdt_reducer_create(comm, many, 300, &o, &r) == RDT_ERR_INVALID);
	RANK_CHECK(strstr(rdt_last_error(), "bucket_bytes"));
	free(many);

	/* An older caller's struct ends earlier: what is behind it is not read. */
	o = (struct rdt_reducer_options){ .size = offsetof(struct rdt_reducer_options, sum),
					  .sum = 1,
					  .accumulate = 7 };
	RANK_CHECK(rdt_reducer_create(comm, two, 2, &o, &r) == 0);
	*(float *)rdt_reducer_gradient(r, 0) = 3;
	RANK_CHECK(rdt_reducer_hold(r) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_reducer_ready(r, 0) == 0 && rdt_reducer_finish(r) == 0);
	RANK_CHECK(*(float *)rdt_reducer_gradient(r, 0) == 3); /* no sum */
	RANK_CHECK(rdt_reducer_carry(r, &count) == NULL && count == 0);
	rdt_reducer_destroy(r);

	RANK_CHECK(rdt_reducer_create(comm, two, 2, NULL, &r) == 0);
	RANK_CHECK(rdt_reducer_gradient(r, 2) == NULL && rdt_reducer_gradient(r, -1) == NULL);
	RANK_CHECK(rdt_reducer_hold(r) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_reducer_ready(r, 2) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_reducer_ready(r, 1) == 0);
	RANK_CHECK(rdt_reducer_ready(r, 1) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_reducer_finish(r) == 0);
	RANK_CHECK(rdt_reducer_ready(r, 1) == 0);
	rdt_reducer_destroy(r); /* in the middle of a pass */
	rdt_comm_destroy(comm);
	return 0;
}

static void mistakes_are_told(void **state)
{
	(void)state;
	assert_true(ranks_run(1, 60, mistakes, NULL));
	assert_true(ranks_run(2, 60, mistakes, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_gradient_becomes_the_mean_whatever_the_order_of_the_ranks),
		cmocka_unit_test(so_it_does_in_float64_and_as_a_sum),
		cmocka_unit_test(and_on_a_wire_of_16_bits),
		cmocka_unit_test(passes_add_up_until_one_ends_the_step),
		cmocka_unit_test(what_rounding_loses_comes_with_the_next_step),
		cmocka_unit_test(a_mean_that_float16_can_hold_does_not_overflow_in_the_sum),
		cmocka_unit_test(rounded_means_are_near_and_alike_on_all_ranks),
		cmocka_unit_test(mistakes_are_told),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
