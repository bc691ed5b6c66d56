/* SPDX-License-Identifier: BSD-3-Clause */
/* Who goes on in the next generation: the rules of server_group.c, message by message. */
#include "bootstrap_service.h"

#define WORLD 3
#define ADMIT RDT_REGROUP_ADMIT
#define STANDS RDT_REGROUP_STANDS
#define MINUTE 60000 /* ms: more than any test takes */

static struct service *service;
static struct rdt_channel *c[WORLD];
static char name[64]; /* of the generation that was agreed on last */

static int start(void **state)
{
	(void)state;
	service = service_start((struct rdt_server_config){ 0 });
	raw_join_all(service, c, WORLD);
	name[0] = 0;
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

/* raw_settle(), and events may come before. */
static void settle(struct rdt_channel *who)
{
	static unsigned n;
	struct rdt_message m = { .type = RDT_MSG_PUT, .number = 1000000 };

	snprintf(m.key, sizeof(m.key), "settle %u", n++);
	raw_send(who, m);
	assert_int_equal(raw_await(who, RDT_MSG_STORED, 0).status, RDT_OK);
}

static void come_by(struct rdt_channel *who, unsigned kind, uint64_t ms)
{
	raw_send(who, (struct rdt_message){ .type = RDT_MSG_REGROUP,
					    .number = 7,
					    .kind = (uint8_t)kind,
					    .flags = ms });
}

static void come(struct rdt_channel *who, unsigned kind)
{
	come_by(who, kind, MINUTE);
}

static void all_come(unsigned kind)
{
	for (uint32_t r = 0; r < WORLD; r++)
		if (c[r])
			come(c[r], kind);
}

/* Agreed on: a new generation, the same for all of them. */
static void assert_formed(struct rdt_channel *who, uint32_t rank, uint32_t world)
{
	struct rdt_message m = raw_await(who, RDT_MSG_GROUP, 0);

	if (m.status)
		fail_msg("%s", m.text);
	assert_int_equal(m.number, 7);
	assert_int_equal(m.kind, 0);
	assert_int_equal(m.rank, rank);
	assert_int_equal(m.world, world);
	if (rank == 0) {
		assert_int_equal(strlen(m.job), strlen("job/0123456789abcdef"));
		assert_int_equal(strspn(m.job + 4, "0123456789abcdef"), 16);
		assert_memory_equal(m.job, "job/", 4);
		assert_string_not_equal(m.job, name);
		memcpy(name, m.job, sizeof(name));
	} else {
		assert_string_equal(m.job, name);
	}
}

static void assert_answer(struct rdt_channel *who, unsigned kind)
{
	struct rdt_message m = raw_await(who, RDT_MSG_GROUP, 0);

	if (m.status)
		fail_msg("%s", m.text);
	assert_int_equal(m.number, 7);
	assert_int_equal(m.kind, kind);
}

static void assert_refused(struct rdt_channel *who, int status, const char *text)
{
	struct rdt_message m = raw_await(who, RDT_MSG_GROUP, 0);

	assert_int_equal(m.number, 7);
	assert_int_equal(m.status, status);
	assert_says_at(m.text, text, __FILE__, __LINE__);
}

static void assert_waiting(struct rdt_channel *who, uint32_t n)
{
	assert_int_equal(raw_await(who, RDT_MSG_EVENT, RDT_EVENT_WAITING).rank, n);
}

/* ---- survivors ---------------------------------------------------------------------------------
 */

static void survivors_go_on_in_the_order_of_their_ranks_in_a_job_of_a_new_name(void **state)
{
	struct rdt_channel *next[2];
	struct rdt_message m;

	(void)state;
	die(1);
	raw_await(c[0], RDT_MSG_VERDICT, 0);
	come(c[2], 0);
	come(c[0], 0);
	assert_formed(c[0], 0, 2);
	assert_formed(c[2], 1, 2);
	for (uint32_t r = 0; r < 2; r++) {
		m = hello(r, 2);
		memcpy(m.job, name, sizeof(m.job));
		next[r] = raw_connect(service, name);
		raw_send(next[r], m);
		assert_int_equal(raw_receive(next[r]).type, RDT_MSG_WELCOME);
	}
	all_come(STANDS);
	assert_answer(c[0], RDT_GROUP_STANDS);
	assert_answer(c[2], RDT_GROUP_STANDS);
	raw_close(next[0]);
	raw_close(next[1]);
}

static void a_member_that_says_good_bye_is_not_waited_for(void **state)
{
	(void)state;
	come(c[0], 0);
	come(c[2], 0);
	raw_send(c[1], (struct rdt_message){ .type = RDT_MSG_BYE });
	assert_formed(c[0], 0, 2);
	assert_formed(c[2], 1, 2);
}

static void one_that_dies_before_it_comes_is_not_waited_for(void **state)
{
	(void)state;
	come(c[1], 0);
	settle(c[1]);
	die(0);
	raw_await(c[1], RDT_MSG_EVENT, RDT_EVENT_LOST);
	come(c[2], 0);
	assert_formed(c[1], 0, 2);
	assert_formed(c[2], 1, 2);
}

static void one_that_dies_after_it_was_agreed_on_makes_it_another_group(void **state)
{
	(void)state;
	all_come(0);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_formed(c[r], r, WORLD);
	come(c[0], STANDS); /* it had got through */
	die(1);
	raw_await(c[0], RDT_MSG_EVENT, RDT_EVENT_BROKEN);
	raw_await(c[2], RDT_MSG_EVENT, RDT_EVENT_BROKEN);
	come(c[2], STANDS);
	assert_formed(c[0], 0, 2);
	assert_formed(c[2], 1, 2);
	die(0); /* and again */
	raw_await(c[2], RDT_MSG_EVENT, RDT_EVENT_BROKEN);
	come(c[2], 0);
	assert_formed(c[2], 0, 1);
	come(c[2], STANDS);
	assert_answer(c[2], RDT_GROUP_STANDS);
}

static void one_that_does_not_stand_in_it_makes_it_another_group(void **state)
{
	(void)state;
	all_come(0);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_formed(c[r], r, WORLD);
	come(c[0], STANDS);
	come(c[1], 0);
	come(c[2], STANDS);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_formed(c[r], r, WORLD);
	all_come(STANDS);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_answer(c[r], RDT_GROUP_STANDS);
}

static void to_stand_means_nothing_before_a_group_is_agreed_on(void **state)
{
	(void)state;
	all_come(STANDS);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_formed(c[r], r, WORLD);
}

static void who_does_not_come_in_half_the_time_is_left_behind_and_told_so(void **state)
{
	(void)state;
	come_by(c[0], 0, 100);
	settle(c[0]);
	come(c[2], 0);
	assert_formed(c[0], 0, 2);
	assert_formed(c[2], 1, 2);
	come(c[1], 0);
	assert_refused(c[1], RDT_ERR_TIMEOUT, "rank 1 came too late");
	come(c[0], STANDS);
	come(c[2], STANDS);
	assert_answer(c[0], RDT_GROUP_STANDS | RDT_GROUP_LEFT_BEHIND);
	assert_answer(c[2], RDT_GROUP_STANDS | RDT_GROUP_LEFT_BEHIND);
}

static void who_does_not_come_to_a_later_round_is_left_behind_there(void **state)
{
	(void)state;
	all_come(0);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_formed(c[r], r, WORLD);
	come_by(c[1], STANDS, 100);
	settle(c[1]);
	come(c[2], STANDS);
	assert_formed(c[1], 0, 2); /* for it is broken without rank 0 */
	assert_formed(c[2], 1, 2);
}

/* In a minute of which none passes: the verdict had named it late. */
static void whom_the_verdict_named_late_is_given_less_time(void **state)
{
	struct rdt_message late = { .type = RDT_MSG_ABORT, .status = RDT_ERR_TIMEOUT };

	(void)state;
	raw_send(c[0], late);
	raw_send(c[1], late);
	raw_await(c[0], RDT_MSG_VERDICT, 0);
	raw_await(c[1], RDT_MSG_VERDICT, 0);
	come(c[0], 0);
	come(c[1], 0);
	assert_formed(c[0], 0, 2);
	assert_formed(c[1], 1, 2);
	come(c[2], 0);
	assert_refused(c[2], RDT_ERR_TIMEOUT, "rank 2 came too late");
}

static void to_come_twice_to_one_round_drops_a_member(void **state)
{
	(void)state;
	come(c[1], 0);
	come(c[1], 0);
	assert_true(service_said(service, "it came to regroup twice"));
	assert_true(raw_hung_up(c[1]));
	come(c[0], 0);
	come(c[2], 0);
	assert_formed(c[0], 0, 2);
	assert_formed(c[2], 1, 2);
}

static void a_name_that_has_no_room_for_a_next_one_is_refused(void **state)
{
	static const size_t fits = 46;
	struct rdt_message m = hello(0, 1);

	(void)state;
	for (size_t n = fits; n <= fits + 1; n++) {
		struct rdt_channel *alone;

		memset(m.job, 'n', n);
		alone = raw_connect(service, m.job);
		raw_send(alone, m);
		assert_int_equal(raw_receive(alone).type, RDT_MSG_WELCOME);
		come(alone, 0);
		if (n == fits)
			assert_answer(alone, 0);
		else
			assert_refused(alone, RDT_ERR_INVALID, "46 characters");
		raw_close(alone);
	}
}

/* ---- a job that is made larger -----------------------------------------------------------------
 */

static void a_newcomer_is_admitted_behind_the_members(void **state)
{
	struct rdt_channel *n = raw_join(service, 0, 0), *later = raw_join(service, 0, 0);

	(void)state;
	come(n, ADMIT);
	assert_waiting(c[0], 1);
	all_come(ADMIT);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_formed(c[r], r, WORLD + 1);
	assert_formed(n, WORLD, WORLD + 1);
	assert_waiting(c[0], 0);
	come(later, ADMIT); /* with the next */
	assert_waiting(c[0], 1);
	all_come(ADMIT | STANDS);
	come(n, ADMIT | STANDS);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_answer(c[r], RDT_GROUP_STANDS);
	assert_answer(n, RDT_GROUP_STANDS);
	raw_close(n);
	settle(c[0]); /* its connection as a newcomer is of no account now */
	raw_close(later);
}

static void a_newcomer_that_does_not_stand_makes_it_another_group(void **state)
{
	struct rdt_channel *n = raw_join(service, 0, 0);

	(void)state;
	come(n, ADMIT);
	assert_waiting(c[0], 1);
	all_come(ADMIT);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_formed(c[r], r, WORLD + 1);
	assert_formed(n, WORLD, WORLD + 1);
	all_come(ADMIT | STANDS);
	come(n, ADMIT);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_formed(c[r], r, WORLD + 1);
	assert_formed(n, WORLD, WORLD + 1);
	raw_close(n);
}

static void all_members_hear_how_many_wait_and_so_does_who_joins_later(void **state)
{
	struct rdt_channel *n[2] = { raw_join(service, 0, 0), raw_join(service, 0, 0) };
	struct rdt_channel *other, *late;
	struct rdt_message m = hello(0, 0);

	(void)state;
	settle(c[0]); /* to be connected is not to wait */
	strcpy(m.job, "other");
	other = raw_connect(service, m.job);
	raw_send(other, m);
	assert_int_equal(raw_receive(other).type, RDT_MSG_WELCOME);
	come(other, ADMIT); /* nor is to wait for another job */
	come(n[0], ADMIT);
	come(n[1], ADMIT);
	for (uint32_t r = 0; r < WORLD; r++) {
		assert_waiting(c[r], 1);
		assert_waiting(c[r], 2);
	}
	m = hello(0, 2);
	strcpy(m.job, "job/part");
	late = raw_connect(service, m.job);
	raw_send(late, m);
	assert_int_equal(raw_receive(late).type, RDT_MSG_WELCOME);
	assert_waiting(late, 2);
	raw_close(n[0]);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_waiting(c[r], 1);
	assert_waiting(late, 1);
	raw_close(n[1]);
	raw_close(late);
	raw_close(other);
}

static void when_nobody_waits_all_are_told_so(void **state)
{
	(void)state;
	all_come(ADMIT);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_answer(c[r], RDT_GROUP_NOBODY);
	all_come(ADMIT); /* as often as they like */
	for (uint32_t r = 0; r < WORLD; r++)
		assert_answer(c[r], RDT_GROUP_NOBODY);
}

static void when_the_only_newcomer_goes_there_is_nobody_any_more(void **state)
{
	struct rdt_channel *n = raw_join(service, 0, 0);

	(void)state;
	come(n, ADMIT);
	assert_waiting(c[0], 1);
	all_come(ADMIT);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_formed(c[r], r, WORLD + 1);
	raw_close(n);
	for (uint32_t r = 0; r < WORLD; r++)
		raw_await(c[r], RDT_MSG_EVENT, RDT_EVENT_BROKEN);
	all_come(ADMIT);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_answer(c[r], RDT_GROUP_NOBODY);
}

static void a_member_that_dies_ends_it_and_the_newcomer_hears_and_waits_on(void **state)
{
	struct rdt_channel *n = raw_join(service, 0, 0);

	(void)state;
	come(n, ADMIT);
	assert_waiting(c[0], 1);
	all_come(ADMIT);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_formed(c[r], r, WORLD + 1);
	assert_formed(n, WORLD, WORLD + 1);
	come(c[1], ADMIT | STANDS);
	settle(c[1]);
	die(2);
	raw_await(c[0], RDT_MSG_EVENT, RDT_EVENT_BROKEN);
	raw_await(n, RDT_MSG_EVENT, RDT_EVENT_BROKEN);
	assert_refused(c[1], RDT_ERR_PEER_LOST, "rank 2 has gone while the job was made larger");
	come(c[0], ADMIT); /* first they must become smaller */
	assert_refused(c[0], RDT_ERR_PEER_LOST, "rank 2 of job job is lost");
	come(n, ADMIT);
	assert_waiting(c[0], 1);
	raw_close(n);
}

static void an_abort_ends_the_wait_to_be_made_larger_and_all_may_shrink(void **state)
{
	(void)state;
	come(c[0], ADMIT);
	settle(c[0]);
	raw_send(c[1], (struct rdt_message){ .type = RDT_MSG_ABORT,
					     .status = RDT_ERR_MISMATCH,
					     .text = "not what the others do" });
	raw_await(c[0], RDT_MSG_EVENT, RDT_EVENT_ABORT);
	assert_refused(c[0], RDT_ERR_ABORTED, "not what the others do");
	all_come(0);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_formed(c[r], r, WORLD);
}

static void who_does_not_come_in_half_the_time_ends_it_and_is_not_left_behind(void **state)
{
	struct rdt_channel *n = raw_join(service, 0, 0);

	(void)state;
	come(n, ADMIT);
	assert_waiting(c[0], 1);
	come_by(c[0], ADMIT, 100);
	assert_refused(c[0], RDT_ERR_TIMEOUT, "made larger: ranks 1-2 did not come in time");
	all_come(ADMIT);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_formed(c[r], r, WORLD + 1);
	come_by(c[0], ADMIT | STANDS, 100);
	settle(c[0]); /* its time is the round's */
	come(c[1], ADMIT | STANDS);
	come(c[2], ADMIT | STANDS);
	assert_refused(c[0], RDT_ERR_TIMEOUT, "made larger: a newcomer did not come in time");
	assert_refused(c[1], RDT_ERR_TIMEOUT, "made larger: a newcomer did not come in time");
	raw_close(n);
}

static void all_must_make_the_same_call(void **state)
{
	(void)state;
	come(c[0], ADMIT);
	settle(c[0]);
	come(c[1], 0);
	assert_refused(c[1], RDT_ERR_MISMATCH, "rank 1 calls rdt_comm_shrink, and others");
	come(c[1], ADMIT); /* it may still do as the others */
	come(c[2], ADMIT);
	for (uint32_t r = 0; r < WORLD; r++)
		assert_answer(c[r], RDT_GROUP_NOBODY);
}

static void newcomers_hear_that_the_job_has_ended(void **state)
{
	struct rdt_channel *n = raw_join(service, 0, 0);

	(void)state;
	come(n, ADMIT);
	assert_waiting(c[0], 1);
	for (uint32_t r = 0; r < WORLD; r++)
		die(r);
	assert_refused(n, RDT_ERR_ABORTED, "job job has ended without admitting this process");
	come(n, ADMIT); /* it may wait for the next */
	c[0] = raw_join(service, 0, 1);
	assert_waiting(c[0], 1);
	raw_close(n);
}

static void a_newcomer_may_say_nothing_else(void **state)
{
	struct rdt_channel *n = raw_join(service, 0, 0), *twice = raw_join(service, 0, 0);

	(void)state;
	raw_send(n, (struct rdt_message){ .type = RDT_MSG_PUT, .number = 1, .key = "k" });
	assert_true(service_said(service, "as a newcomer"));
	assert_true(raw_hung_up(n));
	come(twice, ADMIT);
	come(twice, ADMIT);
	assert_true(service_said(service, "as a newcomer"));
	assert_true(raw_hung_up(twice));
	raw_close(n);
	raw_close(twice);
	settle(c[1]);
}

#define test(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(survivors_go_on_in_the_order_of_their_ranks_in_a_job_of_a_new_name),
		test(a_member_that_says_good_bye_is_not_waited_for),
		test(one_that_dies_before_it_comes_is_not_waited_for),
		test(one_that_dies_after_it_was_agreed_on_makes_it_another_group),
		test(one_that_does_not_stand_in_it_makes_it_another_group),
		test(to_stand_means_nothing_before_a_group_is_agreed_on),
		test(who_does_not_come_in_half_the_time_is_left_behind_and_told_so),
		test(who_does_not_come_to_a_later_round_is_left_behind_there),
		test(whom_the_verdict_named_late_is_given_less_time),
		test(to_come_twice_to_one_round_drops_a_member),
		test(a_name_that_has_no_room_for_a_next_one_is_refused),
		test(a_newcomer_is_admitted_behind_the_members),
		test(a_newcomer_that_does_not_stand_makes_it_another_group),
		test(all_members_hear_how_many_wait_and_so_does_who_joins_later),
		test(when_nobody_waits_all_are_told_so),
		test(when_the_only_newcomer_goes_there_is_nobody_any_more),
		test(a_member_that_dies_ends_it_and_the_newcomer_hears_and_waits_on),
		test(an_abort_ends_the_wait_to_be_made_larger_and_all_may_shrink),
		test(who_does_not_come_in_half_the_time_ends_it_and_is_not_left_behind),
		test(all_must_make_the_same_call),
		test(newcomers_hear_that_the_job_has_ended),
		test(a_newcomer_may_say_nothing_else),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
