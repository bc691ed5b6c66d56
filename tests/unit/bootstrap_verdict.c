/* SPDX-License-Identifier: BSD-3-Clause */
/* How a job ends for all its members alike: the rules of server_verdict.c, message by message. */
#include "bootstrap_service.h"

#define WORLD 5
#define NOBODY UINT32_MAX /* the service itself says so */

static struct service *service;
static struct rdt_channel *c[WORLD];

static int start(void **state)
{
	(void)state;
	service = service_start((struct rdt_server_config){ 0 });
	raw_join_all(service, c, WORLD);
	return 0;
}

static void die(uint32_t rank)
{
	raw_close(c[rank]);
	c[rank] = NULL;
}

static int stop(void **state)
{
	(void)state;
	for (uint32_t r = 0; r < WORLD; r++)
		if (c[r])
			die(r);
	service_end(service);
	return 0;
}

/* `lost`: one bit a rank. */
static void say_abort(uint32_t rank, int status, unsigned char lost, const char *text)
{
	struct rdt_message m = {
		.type = RDT_MSG_ABORT, .status = status, .value = &lost, .length = 1
	};

	snprintf(m.text, sizeof(m.text), "%s", text);
	raw_send(c[rank], m);
}

static void assert_verdict(uint32_t rank, int status, uint32_t who, unsigned char lost,
			   const char *text)
{
	struct rdt_message m = raw_await(c[rank], RDT_MSG_VERDICT, 0);

	assert_int_equal(m.status, status);
	assert_int_equal(m.rank, who);
	assert_int_equal(m.length, 1);
	assert_int_equal(*(const unsigned char *)m.value, lost);
	assert_says_at(m.text, text, __FILE__, __LINE__);
}

static void assert_verdict_of_all(int status, uint32_t who, unsigned char lost, const char *text)
{
	for (uint32_t r = 0; r < WORLD; r++)
		if (c[r])
			assert_verdict(r, status, who, lost, text);
}

static void all_others_hear_of_an_abort_and_all_get_the_same_verdict(void **state)
{
	(void)state;
	say_abort(3, RDT_ERR_MISMATCH, 0, "not what the others do");
	for (uint32_t r = 0; r < WORLD; r++) {
		struct rdt_message m = raw_receive(c[r]);

		if (r != 3) { /* first the news, then the verdict */
			assert_int_equal(m.type, RDT_MSG_EVENT);
			assert_int_equal(m.kind, RDT_EVENT_ABORT);
			assert_int_equal(m.rank, 3);
			assert_string_equal(m.text, "not what the others do");
			m = raw_receive(c[r]);
		}
		assert_int_equal(m.type, RDT_MSG_VERDICT);
		assert_int_equal(m.status, RDT_ERR_MISMATCH);
		assert_int_equal(m.rank, 3);
		assert_string_equal(m.text, "not what the others do");
		assert_int_equal(*(const unsigned char *)m.value, 0);
	}
}

static void the_first_abort_stands_and_there_is_one_verdict(void **state)
{
	(void)state;
	say_abort(2, RDT_ERR_CORRUPT, 0, "first");
	raw_await(c[4], RDT_MSG_EVENT, RDT_EVENT_ABORT);
	say_abort(4, RDT_ERR_PEER_LOST, 1, "second");
	say_abort(0, RDT_ERR_TIMEOUT, 2, "third");
	assert_verdict_of_all(RDT_ERR_CORRUPT, 2, 0, "first");
	for (uint32_t r = 0; r < WORLD; r++)
		raw_settle(c[r]); /* and no message more */
}

static void a_member_that_dies_after_the_verdict_changes_nothing_of_it(void **state)
{
	(void)state;
	say_abort(2, RDT_ERR_CORRUPT, 0, "first");
	assert_verdict_of_all(RDT_ERR_CORRUPT, 2, 0, "first");
	die(4);
	raw_await(c[0], RDT_MSG_EVENT, RDT_EVENT_LOST);
	raw_settle(c[0]);
}

static void members_that_die_together_are_lost_together(void **state)
{
	(void)state;
	service_hold(service);
	die(3);
	die(1);
	service_go_on(service);
	assert_verdict_of_all(RDT_ERR_PEER_LOST, NOBODY, 1 << 1 | 1 << 3, "is lost");
}

static void who_was_seen_to_die_and_who_was_accused_are_lost_together(void **state)
{
	(void)state;
	service_hold(service);
	say_abort(0, RDT_ERR_PEER_LOST, 1 << 2, "link to 2");
	say_abort(4, RDT_ERR_PEER_LOST, 1 << 3, "link to 3");
	die(1);
	service_go_on(service);
	assert_verdict_of_all(RDT_ERR_PEER_LOST, 0, 1 << 1 | 1 << 2 | 1 << 3, "link to 2");
}

static void of_two_that_accuse_each_other_the_first_one_stands(void **state)
{
	(void)state;
	service_hold(service);
	say_abort(0, RDT_ERR_PEER_LOST, 1 << 1, "link to 1");
	say_abort(1, RDT_ERR_PEER_LOST, 1 << 0 | 1 << 2, "links to 0 and 2");
	say_abort(3, RDT_ERR_PEER_LOST, 1 << 4, "link to 4"); /* whom nobody accuses */
	service_go_on(service);
	assert_verdict_of_all(RDT_ERR_PEER_LOST, 0, 1 << 1 | 1 << 4, "link to 1");
}

static void who_fails_for_another_reason_accuses_nobody(void **state)
{
	(void)state;
	service_hold(service);
	say_abort(0, RDT_ERR_PEER_LOST, 1 << 1, "link to 1");
	say_abort(3, RDT_ERR_TIMEOUT, 1 << 4, "4 did not come");
	say_abort(2, RDT_ERR_MISMATCH, 1 << 3, "not what 3 does");
	service_go_on(service);
	assert_verdict_of_all(RDT_ERR_PEER_LOST, 0, 1 << 1, "link to 1");
}

/* It neither answers nor reads; but its system takes the news for it. */
static void who_only_computes_is_not_lost_with_the_lost(void **state)
{
	(void)state;
	die(1);
	assert_verdict_of_all(RDT_ERR_PEER_LOST, NOBODY, 1 << 1, "rank 1 is lost");
}

static void after_a_deadline_the_lost_are_those_that_do_not_answer(void **state)
{
	(void)state;
	service_hold(service);
	say_abort(0, RDT_ERR_TIMEOUT, 1 << 1, "1 did not come");
	say_abort(1, RDT_ERR_TIMEOUT, 1 << 3, "3 did not come");
	say_abort(3, RDT_ERR_ABORTED, 0, "as told");
	service_go_on(service);
	assert_verdict_of_all(RDT_ERR_TIMEOUT, 0, 1 << 2 | 1 << 4, "1 did not come");
}

static void after_a_deadline_that_all_answer_the_lost_are_whom_the_first_waited_for(void **state)
{
	(void)state;
	service_hold(service);
	say_abort(0, RDT_ERR_TIMEOUT, 1 << 3, "3 did not come");
	for (uint32_t r = 1; r < WORLD; r++)
		say_abort(r, RDT_ERR_TIMEOUT, 1 << 0, "0 did not come");
	service_go_on(service);
	assert_verdict_of_all(RDT_ERR_TIMEOUT, 0, 1 << 3, "3 did not come");
}

static void after_a_deadline_who_dies_need_not_answer_and_is_lost(void **state)
{
	(void)state;
	service_hold(service);
	say_abort(0, RDT_ERR_TIMEOUT, 1 << 3, "3 did not come");
	for (uint32_t r = 1; r < WORLD - 1; r++)
		say_abort(r, RDT_ERR_ABORTED, 0, "as told");
	die(WORLD - 1);
	service_go_on(service);
	assert_verdict_of_all(RDT_ERR_TIMEOUT, 0, 1 << 3 | 1 << (WORLD - 1), "3 did not come");
}

static void who_is_held_for_dead_must_not_come_back(void **state)
{
	struct rdt_message regroup = { .type = RDT_MSG_REGROUP, .number = 9, .flags = 60000 };
	struct rdt_message m;

	(void)state;
	say_abort(0, RDT_ERR_PEER_LOST, 1 << 1, "link to 1");
	assert_verdict_of_all(RDT_ERR_PEER_LOST, 0, 1 << 1, "link to 1");
	raw_send(c[1], regroup);
	m = raw_await(c[1], RDT_MSG_GROUP, 0);
	assert_int_equal(m.number, 9);
	assert_int_equal(m.status, RDT_ERR_TIMEOUT);
	assert_says_at(m.text, "rank 1 came too late", __FILE__, __LINE__);
}

static void who_is_late_may_still_come(void **state)
{
	struct rdt_message regroup = { .type = RDT_MSG_REGROUP, .number = 9, .flags = 60000 };

	(void)state;
	service_hold(service);
	for (uint32_t r = 0; r < WORLD - 1; r++)
		say_abort(r, RDT_ERR_TIMEOUT, 0, "4 did not come");
	service_go_on(service);
	assert_verdict_of_all(RDT_ERR_TIMEOUT, 0, 1 << 4, "4 did not come");
	service_hold(service);
	for (uint32_t r = 0; r < WORLD; r++)
		raw_send(c[r], regroup);
	service_go_on(service);
	for (uint32_t r = 0; r < WORLD; r++) {
		struct rdt_message m = raw_await(c[r], RDT_MSG_GROUP, 0);

		assert_int_equal(m.status, RDT_OK);
		assert_int_equal(m.world, WORLD);
	}
}

/*
 * Who comes to regroup does not wait for the verdict's time: it is given at once, and first. The
 * others had no time to answer, and are not lost for that.
 */
static void the_verdict_comes_before_the_next_generation(void **state)
{
	struct rdt_message regroup = { .type = RDT_MSG_REGROUP, .number = 9, .flags = 60000 };
	struct rdt_message m;

	(void)state;
	service_hold(service);
	say_abort(0, RDT_ERR_TIMEOUT, 1 << 2, "2 did not come");
	raw_send(c[0], regroup);
	service_go_on(service);
	m = raw_receive(c[0]);
	assert_int_equal(m.type, RDT_MSG_VERDICT);
	assert_int_equal(*(const unsigned char *)m.value, 1 << 2);
}

/* It is told that the job has failed; the others have all of their time to answer. */
static void who_comes_to_grow_a_job_that_fails_hastens_no_verdict(void **state)
{
	struct rdt_message grow = {
		.type = RDT_MSG_REGROUP, .number = 9, .kind = RDT_REGROUP_ADMIT, .flags = 60000
	};
	struct rdt_message m;

	(void)state;
	service_hold(service);
	say_abort(0, RDT_ERR_TIMEOUT, 1 << 2, "2 did not come");
	raw_send(c[1], grow);
	service_go_on(service);
	do { /* no verdict before it */
		m = raw_receive(c[1]);
		assert_int_not_equal(m.type, RDT_MSG_VERDICT);
	} while (m.type != RDT_MSG_GROUP);
	assert_int_equal(m.number, 9);
	assert_int_equal(m.status, RDT_ERR_ABORTED);
	service_hold(service);
	say_abort(1, RDT_ERR_ABORTED, 0, "as told");
	say_abort(3, RDT_ERR_ABORTED, 0, "as told");
	say_abort(4, RDT_ERR_ABORTED, 0, "as told");
	service_go_on(service);
	assert_verdict_of_all(RDT_ERR_TIMEOUT, 0, 1 << 2, "2 did not come");
}

/* The others' systems had no time yet to acknowledge the news: they are not lost for that. */
static void who_comes_to_regroup_at_once_makes_nobody_lost(void **state)
{
	struct rdt_message regroup = { .type = RDT_MSG_REGROUP, .number = 9, .flags = 60000 };

	(void)state;
	die(1);
	raw_await(c[0], RDT_MSG_EVENT, RDT_EVENT_LOST);
	raw_send(c[0], regroup);
	assert_verdict_of_all(RDT_ERR_PEER_LOST, NOBODY, 1 << 1, "rank 1 is lost");
}

static void an_abort_that_names_ranks_outside_of_the_world_drops_its_sender(void **state)
{
	static const unsigned char two_bytes[2];
	struct rdt_message m = {
		.type = RDT_MSG_ABORT, .status = RDT_ERR_PEER_LOST, .value = two_bytes, .length = 2
	};

	(void)state;
	service_hold(service);
	raw_send(c[2], m);
	say_abort(3, RDT_ERR_PEER_LOST, 1 << WORLD, "the first that is none");
	service_go_on(service);
	assert_true(service_said(service, "it names ranks outside of a world of 5"));
	assert_true(service_said(service, "it names ranks outside of a world of 5"));
	assert_true(raw_hung_up(c[2]));
	assert_true(raw_hung_up(c[3]));
	die(2);
	die(3);
	assert_verdict_of_all(RDT_ERR_PEER_LOST, NOBODY, 1 << 2 | 1 << 3, "is lost");
}

static void an_abort_may_name_nobody_with_no_bytes_at_all(void **state)
{
	struct rdt_message m = { .type = RDT_MSG_ABORT, .status = RDT_ERR_PEER_LOST };

	(void)state;
	raw_send(c[2], m);
	assert_verdict_of_all(RDT_ERR_PEER_LOST, 2, 0, "");
}

#define test(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(all_others_hear_of_an_abort_and_all_get_the_same_verdict),
		test(the_first_abort_stands_and_there_is_one_verdict),
		test(a_member_that_dies_after_the_verdict_changes_nothing_of_it),
		test(members_that_die_together_are_lost_together),
		test(who_was_seen_to_die_and_who_was_accused_are_lost_together),
		test(of_two_that_accuse_each_other_the_first_one_stands),
		test(who_fails_for_another_reason_accuses_nobody),
		test(who_only_computes_is_not_lost_with_the_lost),
		test(after_a_deadline_the_lost_are_those_that_do_not_answer),
		test(after_a_deadline_that_all_answer_the_lost_are_whom_the_first_waited_for),
		test(after_a_deadline_who_dies_need_not_answer_and_is_lost),
		test(who_is_held_for_dead_must_not_come_back),
		test(who_is_late_may_still_come),
		test(the_verdict_comes_before_the_next_generation),
		test(who_comes_to_grow_a_job_that_fails_hastens_no_verdict),
		test(who_comes_to_regroup_at_once_makes_nobody_lost),
		test(an_abort_that_names_ranks_outside_of_the_world_drops_its_sender),
		test(an_abort_may_name_nobody_with_no_bytes_at_all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
