/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What of the communication a backward pass hides. The pass is that of an accelerator: the
 * processor waits for each layer's gradient, and brings the reducer forward meanwhile; it takes as
 * long as the communication alone was measured to take. With an argument, a folder, the timelines
 * stay there for ci/timeline. Without, it is looked at whether allreduces began before the pass was
 * over.
 */
#include "ranks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include <rdtrain/train.h>

#define LAYERS 8
#define COUNT (1024 * 1024) /* elements of a layer: 4 MiB */
#define STEPS 20

static char folder[64] = "/tmp/rdtrain_overlap_XXXXXX";

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int step(rdt_comm *comm, rdt_reducer *r, double layer_s)
{
	rdt_trace_begin(comm, "step");
	rdt_trace_begin(comm, "backward");
	for (int l = LAYERS - 1; l >= 0; l--) {
		double until = now() + layer_s;

		while (now() < until) {
			const struct timespec moment = { .tv_nsec = 20000 };

			RANK_CHECK(rdt_reducer_poll(r) == 0);
			nanosleep(&moment, NULL);
		}
		if (l == 0)
			rdt_trace_end(comm);
		RANK_CHECK(rdt_reducer_ready(r, l) == 0);
	}
	RANK_CHECK(rdt_reducer_finish(r) == 0);
	rdt_trace_end(comm);
	return 0;
}

static int overlapped(int rank, int n, void *arg)
{
	struct rdt_reducer_options o = { .size = sizeof(o), .bucket_bytes = COUNT * sizeof(float) };
	struct rdt_gradient layers[LAYERS];
	double alone = 1e9, together;
	rdt_reducer *r;
	rdt_comm *comm;

	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (int l = 0; l < LAYERS; l++)
		layers[l] = (struct rdt_gradient){ .count = COUNT };
	RANK_CHECK(rdt_reducer_create(comm, layers, LAYERS, &o, &r) == 0);
	/* Communication alone, as the slowest rank has it. */
	for (int i = 0; i < 5; i++) {
		double begin;

		RANK_CHECK(rdt_barrier(comm) == 0);
		begin = now();
		for (int l = LAYERS - 1; l >= 0; l--)
			RANK_CHECK(rdt_reducer_ready(r, l) == 0);
		RANK_CHECK(rdt_reducer_finish(r) == 0);
		begin = now() - begin;
		RANK_CHECK(rdt_allreduce(comm, &begin, &begin, 1, RDT_FLOAT64, RDT_MAX) == 0);
		alone = begin < alone ? begin : alone;
	}
	together = now();
	for (int s = 0; s < STEPS; s++)
		if (step(comm, r, alone / LAYERS))
			return -1;
	together = (now() - together) / STEPS;
	if (rank == 0)
		printf("communication alone %.2f ms, backward pass %.2f ms, both %.2f ms\n",
		       alone * 1e3, alone * 1e3, together * 1e3);
	rdt_reducer_destroy(r);
	rdt_comm_destroy(comm);
	return 0;
}

/* How many operations began within a span called "backward". Events are in the order of time. */
static int early(json_t *events)
{
	bool backward = false;
	int n = 0;
	json_t *e;
	size_t i;

	json_array_foreach(events, i, e)
	{
		const char *ph = json_string_value(json_object_get(e, "ph"));
		const char *name = json_string_value(json_object_get(e, "name"));

		if (*ph == 'B')
			backward = strcmp(name, "backward") == 0;
		else if (*ph == 'E')
			backward = false;
		else if (*ph == 'X')
			n += backward;
	}
	return n;
}

/*
 * Of the time in which an operation was in flight, within the steps: how much the caller did not
 * spend waiting. The sum over small pieces of the timeline: microseconds.
 */
static double hidden(json_t *events)
{
	double flying = 0, waited = 0, until = 0, wait_from = -1;
	bool stepping = false;
	json_t *e;
	size_t i;

	json_array_foreach(events, i, e)
	{
		const char *ph = json_string_value(json_object_get(e, "ph"));
		const char *name = json_string_value(json_object_get(e, "name"));
		double ts = json_number_value(json_object_get(e, "ts"));
		double end = ts + json_number_value(json_object_get(e, "dur"));

		stepping = stepping || strcmp(name, "step") == 0;
		if (!stepping)
			continue;
		if (*ph == 'X' && end > until) {
			flying += end - (ts > until ? ts : until);
			until = end;
		} else if (*ph == 'B' && strcmp(name, "wait for gradients") == 0) {
			wait_from = ts;
		} else if (*ph == 'E' && wait_from >= 0) {
			double in_flight = ts < until ? ts : until;

			waited += in_flight > wait_from ? in_flight - wait_from : 0;
			wait_from = -1;
		}
	}
	return flying > 0 ? 1 - waited / flying : 0;
}

static void allreduces_begin_before_the_backward_pass_is_over(void **state)
{
	char path[96];

	(void)state;
	assert_true(ranks_run(2, 120, overlapped, NULL));
	for (int rank = 0; rank < 2; rank++) {
		json_t *root;

		snprintf(path, sizeof(path), "%s/t.%d.json", folder, rank);
		root = json_load_file(path, 0, NULL);
		assert_non_null(root);
		/* All but the first layer's, in every step. */
		assert_int_equal(early(json_object_get(root, "traceEvents")), STEPS * (LAYERS - 1));
		printf("rank %d: %.1f %% of the communication was hidden, by the timeline\n", rank,
		       100 * hidden(json_object_get(root, "traceEvents")));
		json_decref(root);
	}
}

static int tidy(void **state)
{
	char path[96];

	(void)state;
	for (int rank = 0; rank < 2; rank++) {
		snprintf(path, sizeof(path), "%s/t.%d.json", folder, rank);
		unlink(path);
	}
	return rmdir(folder);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allreduces_begin_before_the_backward_pass_is_over),
	};
	char pattern[96];

	ranks_need_device();
	if (argc > 1)
		snprintf(folder, sizeof(folder), "%s", argv[1]);
	else if (!mkdtemp(folder))
		return 1;
	snprintf(pattern, sizeof(pattern), "%s/t.json", folder);
	setenv("RDTRAIN_TRACE", pattern, 1);
	return cmocka_run_group_tests(tests, NULL, argc > 1 ? NULL : tidy);
}
