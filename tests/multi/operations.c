/* SPDX-License-Identifier: BSD-3-Clause */
/* Broadcast, barrier, several operations in flight, bad arguments, calls that do not match. */
#include "ranks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "values.h"

static const int sizes[] = { 1, 2, 3, 5, 7 };

static void run_each(int (*fn)(int, int, void *))
{
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		assert_true(ranks_run(sizes[i], 120, fn, NULL));
}

/* ---- broadcast
 * --------------------------------------------------------------------------------------- */

static int broadcasts(int rank, int n, void *arg)
{
	static const size_t counts[] = { 0, 1, 3, 1001, 70001 };
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++)
		for (int root = 0; root < n; root++)
			for (int allocated = 0; allocated < 2; allocated++) {
				size_t count = counts[c];
				void *buf;
				rdt_plan *plan;
				rdt_request *request;

				if (allocated)
					RANK_CHECK(rdt_alloc(comm, count * 2, &buf) == 0);
				else
					buf = malloc(count * 2 + 1);
				for (int round = 0; round < 3; round++) {
					test_fill(buf, count, RDT_FLOAT16, RDT_SUM, rank, round);
					if (round == 1) {
						RANK_CHECK(rdt_broadcast_start(comm, buf, count,
									       RDT_FLOAT16, root,
									       &request) == 0);
						RANK_CHECK(rdt_wait(request) == 0);
					} else
						RANK_CHECK(rdt_broadcast(comm, buf, count,
									 RDT_FLOAT16, root) == 0);
					for (size_t i = 0; i < count; i++)
						RANK_CHECK(test_load(buf, i, RDT_FLOAT16) ==
							   test_value(root, i, round, RDT_SUM));
				}
				RANK_CHECK(rdt_broadcast_plan(comm, buf, count, RDT_FLOAT16, root,
							      &plan) == 0);
				for (int round = 3; round < 7; round++) {
					test_fill(buf, count, RDT_FLOAT16, RDT_SUM, rank, round);
					RANK_CHECK(rdt_plan_start(plan) == 0);
					RANK_CHECK(rdt_plan_wait(plan) == 0);
					for (size_t i = 0; i < count; i++)
						RANK_CHECK(test_load(buf, i, RDT_FLOAT16) ==
							   test_value(root, i, round, RDT_SUM));
				}
				rdt_plan_destroy(plan);
				if (allocated)
					RANK_CHECK(rdt_free(comm, buf) == 0);
				else
					free(buf);
			}
	rdt_comm_destroy(comm);
	return 0;
}

static void broadcast_gives_everybody_the_roots_data(void **state)
{
	(void)state;
	run_each(broadcasts);
}

/* ---- barrier
 * ------------------------------------------------------------------------------------------ */

static int barriers(int rank, int n, void *arg)
{
	uint32_t *arrived = ranks_shared();
	rdt_request *request;
	rdt_plan *plan;
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_barrier_plan(comm, &plan) == 0);
	for (uint32_t round = 1; round <= 300; round++) {
		__atomic_store_n(&arrived[rank], round, __ATOMIC_RELEASE);
		if (round % 3 == 0) {
			RANK_CHECK(rdt_barrier(comm) == 0);
		} else if (round % 3 == 1) {
			RANK_CHECK(rdt_barrier_start(comm, &request) == 0);
			RANK_CHECK(rdt_wait(request) == 0);
		} else {
			RANK_CHECK(rdt_plan_start(plan) == 0);
			RANK_CHECK(rdt_plan_wait(plan) == 0);
		}
		for (int r = 0; r < n; r++)
			RANK_CHECK(__atomic_load_n(&arrived[r], __ATOMIC_ACQUIRE) >= round);
	}
	rdt_plan_destroy(plan);
	rdt_comm_destroy(comm);
	return 0;
}

static void nobody_leaves_a_barrier_before_everybody_came(void **state)
{
	(void)state;
	run_each(barriers);
}

/* ---- several in flight
 * ---------------------------------------------------------------------------------- */

static int in_flight(int rank, int n, void *arg)
{
	enum { OPERATIONS = 12, COUNT = 5003 };
	static int32_t v[OPERATIONS][COUNT];
	rdt_request *requests[OPERATIONS];
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_barrier(comm) == 0); /* with it the looking begins */
	for (int round = 0; round < 5; round++) {
		for (int o = 0; o < OPERATIONS; o++) {
			/* Equal shapes queue up on one plan, others have their own. */
			size_t count = o % 3 == 0 ? COUNT : (size_t)(100 * o + 1);

			test_fill(v[o], count, RDT_INT32, RDT_SUM, rank, round + o);
			RANK_CHECK(rdt_allreduce_start(comm, v[o], v[o], count, RDT_INT32, RDT_SUM,
						       &requests[o]) == 0);
		}
		/* Each rank completes them in an order of its own. */
		for (int k = 0; k < OPERATIONS; k++) {
			int o = (k * 5 + rank * 7) % OPERATIONS;
			size_t count = o % 3 == 0 ? COUNT : (size_t)(100 * o + 1);

			RANK_CHECK(rdt_wait(requests[o]) == 0);
			RANK_CHECK(test_wrong(v[o], count, RDT_INT32, RDT_SUM, n, round + o) == 0);
		}
	}
	rdt_comm_destroy(comm);
	return 0;
}

static void operations_in_flight_complete_in_any_order(void **state)
{
	(void)state;
	run_each(in_flight);
}

/* One rank waits for the first operation before it makes a plan, the other makes the plan first:
 * the one that is busy making it must keep the first operation going. */
static int progress_while_agreeing(int rank, int n, void *arg)
{
	enum { COUNT = 700001 };
	float *v = malloc(COUNT * sizeof(float)), *w = malloc(COUNT * sizeof(float));
	rdt_request *request;
	rdt_plan *plan;
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	test_fill(v, COUNT, RDT_FLOAT32, RDT_SUM, rank, 0);
	RANK_CHECK(rdt_allreduce_start(comm, v, v, COUNT, RDT_FLOAT32, RDT_SUM, &request) == 0);
	if (rank == 0)
		RANK_CHECK(rdt_wait(request) == 0);
	RANK_CHECK(rdt_allreduce_plan(comm, w, w, COUNT, RDT_FLOAT32, RDT_MIN, &plan) == 0);
	if (rank != 0)
		RANK_CHECK(rdt_wait(request) == 0);
	RANK_CHECK(test_wrong(v, COUNT, RDT_FLOAT32, RDT_SUM, n, 0) == 0);
	rdt_plan_destroy(plan);
	rdt_comm_destroy(comm);
	free(v);
	free(w);
	return 0;
}

static void an_operation_goes_on_while_a_plan_is_made(void **state)
{
	(void)state;
	setenv("RDTRAIN_TIMEOUT", "20", 1);
	assert_true(ranks_run(2, 60, progress_while_agreeing, NULL));
	assert_true(ranks_run(3, 60, progress_while_agreeing, NULL));
	unsetenv("RDTRAIN_TIMEOUT");
}

/* The first message between two ranks, whose receiver comes late and then waits for it: the sender
 * is at the rendezvous by then, and has to find there, too, that the receiver has come. */
static int message_while_agreeing(int rank, int n, void *arg)
{
	const bool split = *(const bool *)arg;
	enum { COUNT = 50001 };
	static int32_t v[COUNT];
	rdt_request *request;
	rdt_comm *comm, *part = NULL;

	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	if (rank == 0) {
		test_fill(v, COUNT, RDT_INT32, RDT_SUM, 0, 1);
		RANK_CHECK(rdt_send_start(comm, v, COUNT, RDT_INT32, n - 1, &request) == 0);
	}
	if (rank == n - 1) {
		usleep(100000);
		RANK_CHECK(rdt_recv(comm, v, COUNT, RDT_INT32, 0) == 0);
		for (size_t i = 0; i < COUNT; i++)
			RANK_CHECK(v[i] == test_value(0, i, 1, RDT_SUM));
	}
	if (split)
		RANK_CHECK(rdt_comm_split(comm, 0, 0, &part) == 0);
	else
		RANK_CHECK(rdt_barrier(comm) == 0);
	if (rank == 0)
		RANK_CHECK(rdt_wait(request) == 0);
	rdt_comm_destroy(part);
	rdt_comm_destroy(comm);
	return 0;
}

static void a_message_goes_on_while_a_plan_is_made(void **state)
{
	(void)state;
	setenv("RDTRAIN_TIMEOUT", "20", 1);
	for (int split = 0; split < 2; split++) {
		assert_true(ranks_run(2, 60, message_while_agreeing, &(bool){ split }));
		assert_true(ranks_run(3, 60, message_while_agreeing, &(bool){ split }));
	}
	unsetenv("RDTRAIN_TIMEOUT");
}

/* A receiver who looks what keeps the sender, again and again, finds no fault in what is not there
 * yet; the message before has left its header in the same place. */
static int late_messages(int rank, int n, void *arg)
{
	rdt_comm *comm;
	int32_t v = 0;

	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_barrier(comm) == 0); /* with it the looking begins */
	for (int round = 0; round < 5; round++) {
		if (rank == 0) {
			usleep(200000);
			v = round;
			RANK_CHECK(rdt_send(comm, &v, 1, RDT_INT32, 1) == 0);
		} else {
			RANK_CHECK(rdt_recv(comm, &v, 1, RDT_INT32, 0) == 0);
			RANK_CHECK(v == round);
		}
	}
	rdt_comm_destroy(comm);
	return 0;
}

static void a_message_may_be_late(void **state)
{
	(void)state;
	assert_true(ranks_run(2, 60, late_messages, NULL));
	setenv("RDTRAIN_CHECK", "1", 1);
	assert_true(ranks_run(2, 60, late_messages, NULL));
	unsetenv("RDTRAIN_CHECK");
}

/* Plans that are made and thrown away, by some ranks sooner than by others. */
static int unused_plans(int rank, int n, void *arg)
{
	rdt_comm *comm;
	void *v;

	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (int round = 0; round < 50; round++) {
		rdt_plan *plan;

		RANK_CHECK(rdt_alloc(comm, 100000, &v) == 0);
		RANK_CHECK(rdt_allreduce_plan(comm, v, v, 25000, RDT_FLOAT32, RDT_SUM, &plan) == 0);
		if (rank == round % 3)
			usleep(1000);
		rdt_plan_destroy(plan);
		RANK_CHECK(rdt_free(comm, v) == 0);
	}
	RANK_CHECK(rdt_barrier(comm) == 0);
	rdt_comm_destroy(comm);
	return 0;
}

static void plans_may_be_destroyed_without_ever_running(void **state)
{
	(void)state;
	assert_true(ranks_run(3, 60, unused_plans, NULL));
	assert_true(ranks_run(4, 60, unused_plans, NULL));
}

/* More shapes than are remembered, again and again. */
static int many_shapes(int rank, int n, void *arg)
{
	static int64_t v[200];
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (int round = 0; round < 2; round++)
		for (size_t count = 1; count <= 100; count++) {
			test_fill(v, count, RDT_INT64, RDT_MAX, rank, round);
			RANK_CHECK(rdt_allreduce(comm, v, v, count, RDT_INT64, RDT_MAX) == 0);
			RANK_CHECK(test_wrong(v, count, RDT_INT64, RDT_MAX, n, round) == 0);
		}
	rdt_comm_destroy(comm);
	return 0;
}

static void more_shapes_than_are_remembered_work(void **state)
{
	(void)state;
	assert_true(ranks_run(3, 120, many_shapes, NULL));
}

/* The plan behind a plain call is shared by calls in place and not, and ranks need not be alike. */
static int in_place_now_and_then(int rank, int n, void *arg)
{
	enum { COUNT = 40 };
	int32_t in[7 * COUNT], out[7 * COUNT];
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (int round = 0; round < 16; round++) {
		int32_t *to = (round + rank) % 3 ? out : in;

		memset(out, 0x5a, sizeof(out));
		for (int i = 0; i < n * COUNT; i++)
			in[i] = rank * 1000000 + round * 1000 + i;
		RANK_CHECK(rdt_alltoall(comm, in, to, COUNT, RDT_INT32) == 0);
		for (int i = 0; i < n * COUNT; i++)
			RANK_CHECK(to[i] ==
				   i / COUNT * 1000000 + round * 1000 + rank * COUNT + i % COUNT);
	}
	rdt_comm_destroy(comm);
	return 0;
}

static void an_all_to_all_may_be_in_place_or_not_from_call_to_call(void **state)
{
	(void)state;
	for (int pairwise = 0; pairwise < 2; pairwise++) {
		setenv("RDTRAIN_ALLTOALL", pairwise ? "pairwise" : "bruck", 1);
		run_each(in_place_now_and_then);
	}
	unsetenv("RDTRAIN_ALLTOALL");
}

/* ---- errors
 * --------------------------------------------------------------------------------------------- */

static int bad_arguments(int rank, int n, void *arg)
{
	float v[8] = { 0 };
	rdt_request *request;
	rdt_plan *plan;
	rdt_comm *comm;
	rdt_mem *mem, *other;

	(void)arg;
	(void)rank;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_allreduce(NULL, v, v, 8, RDT_FLOAT32, RDT_SUM) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_allreduce(comm, NULL, v, 8, RDT_FLOAT32, RDT_SUM) == RDT_ERR_INVALID);
	RANK_CHECK(strstr(rdt_last_error(), "in is NULL"));
	RANK_CHECK(rdt_allreduce(comm, v, v + 2, 4, RDT_FLOAT32, RDT_SUM) == RDT_ERR_INVALID);
	RANK_CHECK(strstr(rdt_last_error(), "overlap"));
	RANK_CHECK(rdt_allreduce(comm, v, v, 8, (enum rdt_type)99, RDT_SUM) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_allreduce(comm, v, v, 8, RDT_FLOAT32, (enum rdt_op)99) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_allreduce(comm, v, v, SIZE_MAX / 2, RDT_FLOAT32, RDT_SUM) ==
		   RDT_ERR_INVALID);
	RANK_CHECK(rdt_allreduce_start(comm, v, v, 8, RDT_FLOAT32, RDT_SUM, NULL) ==
		   RDT_ERR_INVALID);
	RANK_CHECK(rdt_allreduce_plan(comm, v, v, 8, RDT_FLOAT32, RDT_SUM, NULL) ==
		   RDT_ERR_INVALID);
	request = (rdt_request *)v;
	RANK_CHECK(rdt_allgatherv_start(comm, v, v, NULL, RDT_FLOAT32, &request) ==
		   RDT_ERR_INVALID);
	RANK_CHECK(strstr(rdt_last_error(), "rdt_allgatherv: counts is NULL") && !request);
	plan = (rdt_plan *)v;
	RANK_CHECK(rdt_alltoallv_plan(comm, v, NULL, v, NULL, RDT_FLOAT32, &plan) ==
		   RDT_ERR_INVALID);
	RANK_CHECK(strstr(rdt_last_error(), "rdt_alltoallv: in_counts is NULL") && !plan);
	RANK_CHECK(rdt_broadcast(comm, NULL, 8, RDT_FLOAT32, 0) == RDT_ERR_INVALID);
	RANK_CHECK(strstr(rdt_last_error(), "rdt_broadcast: buf is NULL"));
	RANK_CHECK(rdt_broadcast(comm, v, 8, RDT_FLOAT32, n) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_broadcast(comm, v, 8, RDT_FLOAT32, -1) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_wait(NULL) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_mem_register(comm, v, 0, &mem) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_mem_register(comm, v, sizeof(v), &mem) == 0);
	RANK_CHECK(rdt_mem_register(comm, v + 1, 4, &other) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_free(comm, v) == RDT_ERR_INVALID);
	RANK_CHECK(rdt_mem_deregister(mem) == 0);
	/* A bad argument is the caller's own affair: the communicator still works. */
	RANK_CHECK(rdt_allreduce_start(comm, v, v, 8, RDT_FLOAT32, RDT_SUM, &request) == 0);
	RANK_CHECK(rdt_wait(request) == 0);
	RANK_CHECK(rdt_comm_lost(comm, NULL, 0) == 0);
	rdt_comm_destroy(comm);
	return 0;
}

static void bad_arguments_are_told_and_do_no_harm(void **state)
{
	(void)state;
	assert_true(ranks_run(2, 60, bad_arguments, NULL));
}

static int mismatch(int rank, int n, void *arg)
{
	float v[8] = { 0 };
	rdt_comm *comm;
	int status;

	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	/* Or the failure of two ends the communicator that the third is still making. */
	RANK_CHECK(rdt_barrier(comm) == 0);
	status = rdt_allreduce(comm, v, v, rank == 1 ? 7 : 8, RDT_FLOAT32, RDT_SUM);
	RANK_CHECK(status == RDT_ERR_MISMATCH);
	RANK_CHECK(strstr(rdt_last_error(), "allreduce of 7 float32, sum"));
	RANK_CHECK(strstr(rdt_last_error(), "allreduce of 8 float32, sum"));
	RANK_CHECK(rdt_barrier(comm) == status);
	rdt_comm_destroy(comm);
	return 0;
}

static void ranks_that_call_differently_are_told_what_each_said(void **state)
{
	(void)state;
	assert_true(ranks_run(3, 60, mismatch, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(broadcast_gives_everybody_the_roots_data),
		cmocka_unit_test(nobody_leaves_a_barrier_before_everybody_came),
		cmocka_unit_test(operations_in_flight_complete_in_any_order),
		cmocka_unit_test(an_operation_goes_on_while_a_plan_is_made),
		cmocka_unit_test(a_message_goes_on_while_a_plan_is_made),
		cmocka_unit_test(a_message_may_be_late),
		cmocka_unit_test(plans_may_be_destroyed_without_ever_running),
		cmocka_unit_test(more_shapes_than_are_remembered_work),
		cmocka_unit_test(an_all_to_all_may_be_in_place_or_not_from_call_to_call),
		cmocka_unit_test(bad_arguments_are_told_and_do_no_harm),
		cmocka_unit_test(ranks_that_call_differently_are_told_what_each_said),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
