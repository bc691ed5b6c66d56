/* SPDX-License-Identifier: BSD-3-Clause */
/* The timeline: what is written after a run, as a program that reads it finds it. */
#include "ranks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#define COUNT 30001

static char folder[] = "/tmp/rdtrain_trace_XXXXXX";

static int traced(int rank, int n, void *arg)
{
	rdt_comm *comm, *part;
	rdt_plan *first, *second;
	int64_t one = 1;
	void *v;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_comm_split(comm, 0, -rank, &part) == 0);
	RANK_CHECK(rdt_alloc(comm, 2 * COUNT * sizeof(float), &v) == 0);
	RANK_CHECK(rdt_allreduce_plan(comm, v, v, COUNT, RDT_FLOAT32, RDT_SUM, &first) == 0);
	RANK_CHECK(rdt_allreduce_plan(comm, (float *)v + COUNT, (float *)v + COUNT, COUNT,
				      RDT_FLOAT32, RDT_SUM, &second) == 0);
	rdt_trace_begin(comm, "step \"one\"\n, with a name that is far too long to be kept");
	RANK_CHECK(rdt_plan_start(first) == 0);
	RANK_CHECK(rdt_plan_start(second) == 0);
	rdt_trace_begin(comm, "inner");
	rdt_trace_end(comm);
	RANK_CHECK(rdt_plan_wait(second) == 0);
	RANK_CHECK(rdt_plan_wait(first) == 0);
	rdt_trace_end(comm);
	RANK_CHECK(rdt_allreduce(part, &one, &one, 1, RDT_INT64, RDT_SUM) == 0);
	RANK_CHECK(rdt_allreduce(part, &one, &one, 1, RDT_INT64, RDT_SUM) == 0);
	if (rank < 2)
		RANK_CHECK((rank ? rdt_recv(comm, &one, 1, RDT_INT64, 0)
				 : rdt_send(comm, &one, 1, RDT_INT64, 1)) == 0);
	RANK_CHECK(one == (int64_t)n * n);
	rdt_plan_destroy(first);
	rdt_plan_destroy(second);
	rdt_comm_destroy(comm);
	rdt_comm_destroy(part);
	return 0;
}

static json_t *read_timeline(int rank)
{
	char path[64];
	json_error_t error;
	json_t *root;

	snprintf(path, sizeof(path), "%s/t.%d.json", folder, rank);
	root = json_load_file(path, 0, &error);
	if (!root)
		fail_msg("%s:%d: %s", path, error.line, error.text);
	unlink(path);
	return root;
}

static const char *text(json_t *e, const char *key)
{
	return json_string_value(json_object_get(e, key));
}

static double number(json_t *e, const char *key)
{
	return json_number_value(json_object_get(e, key));
}

/* Events of a phase with a name; the last of them in *found. */
static int count(json_t *root, const char *phase, const char *name, json_t **found)
{
	json_t *e;
	size_t i;
	int n = 0;

	json_array_foreach(json_object_get(root, "traceEvents"), i,
			   e) if (strcmp(text(e, "ph"), phase) == 0 &&
				  strcmp(text(e, "name"), name) == 0)
	{
		*found = e;
		n++;
	}
	return n;
}

static void operations_and_spans_of_all_communicators_are_in_the_ranks_file(void **state)
{
	(void)state;
	assert_true(ranks_run(3, 60, traced, NULL));
	for (int rank = 0; rank < 3; rank++) {
		json_t *root = read_timeline(rank), *outer, *inner, *e, *args, *plans[2];
		double begin, end = 0, inner_begin;
		int n = 0;
		size_t i;

		assert_int_equal(count(root, "B", "step ?one??, with a name that is fa", &outer),
				 1);
		assert_int_equal(count(root, "B", "inner", &inner), 1);
		begin = number(outer, "ts");
		inner_begin = number(inner, "ts");
		assert_true(begin > 0 && inner_begin >= begin);
		json_array_foreach(json_object_get(root, "traceEvents"), i, e)
		{
			assert_int_equal(number(e, "pid"), rank);
			if (strcmp(text(e, "ph"), "E") == 0) {
				assert_true(number(e, "ts") >= end);
				end = number(e, "ts");
			}
			args = json_object_get(e, "args");
			if (strcmp(text(e, "ph"), "X") == 0 && number(args, "bytes") == COUNT * 4.0)
				plans[n++ & 1] = e;
		}
		/* Both plans ran within the outer span, side by side, in rows of their own. */
		assert_int_equal(n, 2);
		for (i = 0; i < 2; i++) {
			assert_string_equal(text(plans[i], "name"), "allreduce");
			assert_true(number(plans[i], "ts") >= begin);
			assert_true(number(plans[i], "ts") + number(plans[i], "dur") <= end);
			args = json_object_get(plans[i], "args");
			assert_string_equal(text(args, "type"), "float32");
			assert_true(*text(args, "algorithm"));
		}
		assert_true(number(plans[0], "tid") != number(plans[1], "tid") ||
			    number(plans[0], "ts") + number(plans[0], "dur") <=
				    number(plans[1], "ts"));
		/* The part's are there, too, and what went from rank 0 to rank 1. */
		assert_int_equal(count(root, "X", "allreduce", &e), 4);
		assert_true(number(e, "tid") != number(plans[0], "tid"));
		assert_int_equal(count(root, "X", "send", &e), rank == 0);
		assert_int_equal(count(root, "X", "recv", &e), rank == 1);
		json_decref(root);
	}
}

static int busy(int rank, int n, void *arg)
{
	rdt_comm *comm;
	int32_t one = 1;

	(void)rank;
	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (int i = 0; i < 40000; i++) {
		rdt_trace_begin(comm, "span");
		if (i % 10 == 0)
			RANK_CHECK(rdt_allreduce(comm, &one, &one, 1, RDT_INT32, RDT_MAX) == 0);
		rdt_trace_end(comm);
	}
	rdt_comm_destroy(comm);
	return 0;
}

static void of_more_events_than_there_is_room_for_the_last_are_kept(void **state)
{
	json_t *root;

	(void)state;
	setenv("RDTRAIN_DEBUG", "NONE", 1);
	assert_true(ranks_run(1, 60, busy, NULL));
	unsetenv("RDTRAIN_DEBUG");
	root = read_timeline(0);
	assert_true(number(json_object_get(root, "otherData"), "events_lost") >= 80000 - 65536);
	assert_true(json_array_size(json_object_get(root, "traceEvents")) >= 65536);
	json_decref(root);
}

static int refused(int rank, int n, void *arg)
{
	rdt_comm *comm;

	(void)rank;
	(void)n;
	(void)arg;
	setenv("RDTRAIN_TRACE", "/nowhere/t.json", 1);
	RANK_CHECK(rdt_comm_create(NULL, &comm) == RDT_ERR_INVALID);
	RANK_CHECK(strstr(rdt_last_error(), "/nowhere/t.0.json"));
	return 0;
}

static void a_file_that_cannot_be_written_is_told_at_the_start(void **state)
{
	(void)state;
	assert_true(ranks_run(1, 60, refused, NULL));
}

static int make_folder(void **state)
{
	char pattern[64];

	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(pattern, sizeof(pattern), "%s/t.json", folder);
	return setenv("RDTRAIN_TRACE", pattern, 1);
}

static int remove_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(operations_and_spans_of_all_communicators_are_in_the_ranks_file),
		cmocka_unit_test(of_more_events_than_there_is_room_for_the_last_are_kept),
		cmocka_unit_test(a_file_that_cannot_be_written_is_told_at_the_start),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
