/* SPDX-License-Identifier: BSD-3-Clause */
/* Members of a job through a real service: put, get, fence, and what they hear of each other. */
#include "bootstrap_service.h"

#include <pthread.h>

#define RANKS 5

static struct service *service;

static int start(void **state)
{
	(void)state;
	service = service_start((struct rdt_server_config){ 0 });
	return 0;
}

static int stop(void **state)
{
	(void)state;
	service_end(service);
	return 0;
}

static size_t get_text(struct rdt_bootstrap *b, int rank, const char *key, char *text, size_t room)
{
	size_t length = room - 1;

	assert_ok(ops->get(b, rank, key, text, &length, rdt_deadline(LONG)));
	text[length < room ? length : room - 1] = 0;
	return length;
}

/* ---- the store ----------------------------------------------------------------------------- */

static void a_value_that_was_put_is_read_by_all(void **state)
{
	struct rdt_bootstrap *a = join(service, 0, 2), *b = join(service, 1, 2);
	char text[32];

	(void)state;
	assert_ok(ops->put(a, "address", "here", 4));
	assert_ok(ops->put(b, "address", "there", 5));
	assert_int_equal(get_text(b, 0, "address", text, sizeof(text)), 4);
	assert_string_equal(text, "here");
	get_text(a, 1, "address", text, sizeof(text));
	assert_string_equal(text, "there");
	get_text(a, 0, "address", text, sizeof(text)); /* its own, too */
	assert_string_equal(text, "here");
	ops->close(a, true);
	ops->close(b, true);
}

static void values_may_be_empty_or_of_the_full_size_and_are_cut_to_the_room(void **state)
{
	static unsigned char in[RDT_BLOB_MAX + 1], out[RDT_BLOB_MAX];
	struct rdt_bootstrap *b = join(service, 0, 1);
	size_t length = sizeof(out);

	(void)state;
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (unsigned char)(i * 7);
	assert_ok(ops->put(b, "full", in, RDT_BLOB_MAX));
	assert_ok(ops->get(b, 0, "full", out, &length, rdt_deadline(LONG)));
	assert_int_equal(length, RDT_BLOB_MAX);
	assert_memory_equal(in, out, RDT_BLOB_MAX);
	length = 3;
	memset(out, 0, sizeof(out));
	assert_ok(ops->get(b, 0, "full", out, &length, rdt_deadline(LONG)));
	assert_int_equal(length, RDT_BLOB_MAX);
	assert_memory_equal(in, out, 3);
	assert_int_equal(out[3], 0);
	assert_ok(ops->put(b, "empty", NULL, 0));
	assert_ok(ops->get(b, 0, "empty", out, &length, rdt_deadline(LONG)));
	assert_int_equal(length, 0);
	assert_int_equal(ops->put(b, "over", in, sizeof(in)), RDT_ERR_INVALID);
	assert_says("16384");
	ops->close(b, true);
}

static void a_key_is_put_once(void **state)
{
	struct rdt_bootstrap *b = join(service, 0, 1);
	char text[16];

	(void)state;
	assert_ok(ops->put(b, "k", "first", 5));
	assert_int_equal(ops->put(b, "k", "second", 6), RDT_ERR_INVALID);
	assert_says("'k'");
	get_text(b, 0, "k", text, sizeof(text));
	assert_string_equal(text, "first");
	ops->close(b, true);
}

static void keys_and_ranks_outside_their_limits_are_refused_here(void **state)
{
	struct rdt_bootstrap *b = join(service, 0, 1);
	char key[RDT_KEY_MAX + 1], value;
	size_t length = 1;

	(void)state;
	memset(key, 'k', sizeof(key));
	key[RDT_KEY_MAX] = 0;
	assert_int_equal(ops->put(b, key, "", 0), RDT_ERR_INVALID);
	assert_int_equal(ops->put(b, "", "", 0), RDT_ERR_INVALID);
	key[RDT_KEY_MAX - 1] = 0;
	assert_ok(ops->put(b, key, "", 0));
	assert_int_equal(ops->get(b, 1, "k", &value, &length, rdt_deadline(LONG)), RDT_ERR_INVALID);
	assert_int_equal(ops->get(b, -1, "k", &value, &length, rdt_deadline(LONG)),
			 RDT_ERR_INVALID);
	ops->close(b, true);
}

static void a_get_before_the_put_waits_for_it(void **state)
{
	struct rdt_channel *early = raw_join(service, 1, 2);
	struct rdt_bootstrap *late;
	struct rdt_message m;

	(void)state;
	raw_send(early, (struct rdt_message){ .type = RDT_MSG_GET, .number = 7, .key = "k" });
	raw_settle(early); /* the get is parked now, for a rank that has not even joined */
	late = join(service, 0, 2);
	assert_ok(ops->put(late, "other", "no", 2));
	assert_ok(ops->put(late, "k", "yes", 3));
	m = raw_receive(early);
	assert_int_equal(m.type, RDT_MSG_VALUE);
	assert_int_equal(m.number, 7);
	assert_int_equal(m.length, 3);
	assert_memory_equal(m.value, "yes", 3);
	raw_close(early);
	ops->close(late, true);
}

static void a_get_in_vain_times_out_naming_rank_and_key_and_harms_nothing(void **state)
{
	struct rdt_bootstrap *a = join(service, 0, 2), *b = join(service, 1, 2);
	char text[8];
	size_t length = sizeof(text);

	(void)state;
	assert_int_equal(ops->get(a, 1, "never", text, &length, rdt_deadline(0.02)),
			 RDT_ERR_TIMEOUT);
	assert_says("rank 1 to put 'never'");
	/* Its late answer must not be taken for the next one's. */
	assert_ok(ops->put(b, "never", "old", 3));
	assert_ok(ops->put(b, "next", "new", 3));
	get_text(a, 1, "next", text, sizeof(text));
	assert_string_equal(text, "new");
	ops->close(a, true);
	ops->close(b, true);
}

static void a_look_answers_at_once_before_and_after_the_put(void **state)
{
	struct rdt_bootstrap *a = join(service, 0, 2), *b = join(service, 1, 2);
	char text[8] = "";
	size_t length = sizeof(text);

	(void)state;
	assert_int_equal(ops->look(a, 1, "k", text, &length), 0);
	assert_int_equal(ops->look(a, 1, "k", text, &length), 0);
	assert_ok(ops->put(b, "k", "yes", 3));
	assert_int_equal(ops->look(a, 1, "k", text, &length), 1);
	assert_int_equal(length, 3);
	assert_memory_equal(text, "yes", 3);
	assert_int_equal(ops->look(a, 2, "k", text, &length), RDT_ERR_INVALID);
	ops->close(b, true);
	length = sizeof(text);
	assert_int_equal(ops->look(a, 1, "k", text, &length), 1);
	length = sizeof(text);
	assert_int_equal(ops->look(a, 1, "other", text, &length), RDT_ERR_PEER_LOST);
	ops->close(a, true);
}

static void two_jobs_on_one_service_do_not_meet(void **state)
{
	struct rdt_identity one = identity(service, 0, 1), two = one;
	struct rdt_bootstrap *a, *b;
	unsigned char na[RDT_JOB_NONCE_BYTES], nb[RDT_JOB_NONCE_BYTES];
	char text[8];

	(void)state;
	strcpy(two.job, "another");
	a = join_as(&one);
	b = join_as(&two);
	assert_ok(ops->put(a, "k", "a", 1));
	assert_ok(ops->put(b, "k", "b", 1));
	get_text(a, 0, "k", text, sizeof(text));
	assert_string_equal(text, "a");
	get_text(b, 0, "k", text, sizeof(text));
	assert_string_equal(text, "b");
	ops->nonce(a, na);
	ops->nonce(b, nb);
	assert_memory_not_equal(na, nb, sizeof(na));
	ops->close(a, true);
	assert_ok(ops->put(b, "k2", "b", 1)); /* the one's end is not the other's */
	ops->close(b, true);
}

static void members_share_a_nonce_and_the_next_incarnation_has_another_and_no_keys(void **state)
{
	struct rdt_bootstrap *a = join(service, 0, 2), *b = join(service, 1, 2);
	unsigned char na[RDT_JOB_NONCE_BYTES], nb[RDT_JOB_NONCE_BYTES];

	(void)state;
	ops->nonce(a, na);
	ops->nonce(b, nb);
	assert_memory_equal(na, nb, sizeof(na));
	assert_ok(ops->put(a, "k", "old", 3));
	ops->close(a, true);
	ops->close(b, false); /* lost: that ends it as well */
	assert_true(service_said(service, "job job is over"));
	a = join(service, 0, 1); /* of another size */
	ops->nonce(a, nb);
	assert_memory_not_equal(na, nb, sizeof(na));
	assert_ok(ops->put(a, "k", "new", 3));
	ops->close(a, true);
}

/* ---- fences, with every rank in a thread --------------------------------------------------------
 */

struct fencer {
	pthread_t thread;
	struct rdt_bootstrap *b;
	int rank, fences, status;
	const char *signature;
	double seconds;
	struct rdt_fence result;
	char said[1024];
};

static void *fence(void *arg)
{
	struct fencer *f = arg;

	for (int i = 0; i < f->fences && !f->status; i++)
		f->status = ops->fence(f->b, f->signature, 0xf0u | 1u << f->rank, &f->result,
				       rdt_deadline(f->seconds));
	snprintf(f->said, sizeof(f->said), "%s", rdt_last_error());
	return NULL;
}

static void begin_fence(struct fencer *f, struct rdt_bootstrap *b, int rank, const char *signature)
{
	*f = (struct fencer){
		.b = b, .rank = rank, .fences = 1, .signature = signature, .seconds = LONG
	};
	assert_int_equal(pthread_create(&f->thread, NULL, fence, f), 0);
}

static void end_fence(struct fencer *f)
{
	assert_int_equal(pthread_join(f->thread, NULL), 0);
}

static void all_ranks_pass_many_fences_together_and_their_flags_are_anded(void **state)
{
	struct fencer f[RANKS];

	(void)state;
	for (int r = 0; r < RANKS; r++) {
		f[r] = (struct fencer){ .b = join(service, r, RANKS),
					.rank = r,
					.fences = 50,
					.signature = "same",
					.seconds = LONG };
		assert_int_equal(pthread_create(&f[r].thread, NULL, fence, &f[r]), 0);
	}
	for (int r = 0; r < RANKS; r++) {
		end_fence(&f[r]);
		if (f[r].status)
			fail_msg("rank %d: %s", r, f[r].said);
		assert_true(f[r].result.equal);
		assert_true(f[r].result.flags == 0xf0); /* bits 0..3 differ, bit 4 is set by all */
	}
	for (int r = 0; r < RANKS; r++)
		ops->close(f[r].b, true);
}

static void unequal_signatures_are_answered_at_once_and_name_two_ranks(void **state)
{
	struct rdt_bootstrap *b[3];
	struct fencer f[3];

	(void)state;
	for (int r = 0; r < 3; r++)
		b[r] = join(service, r, 3);
	begin_fence(&f[0], b[0], 0, "allreduce 8");
	begin_fence(&f[2], b[2], 2, "allreduce 16");
	end_fence(&f[0]); /* rank 1 has not come */
	end_fence(&f[2]);
	begin_fence(&f[1], b[1], 1, "allreduce 8"); /* and is told so when it comes */
	end_fence(&f[1]);
	for (int r = 0; r < 3; r++) {
		struct rdt_fence *got = &f[r].result;

		if (f[r].status)
			fail_msg("rank %d: %s", r, f[r].said);
		assert_false(got->equal);
		assert_int_equal(got->rank_a + got->rank_b, 2);
		assert_int_equal(abs(got->rank_a - got->rank_b), 2);
		assert_string_equal(got->rank_a ? got->signature_b : got->signature_a,
				    "allreduce 8");
		assert_string_equal(got->rank_a ? got->signature_a : got->signature_b,
				    "allreduce 16");
	}
	for (int r = 0; r < 3; r++) /* and the next fence is a new one */
		begin_fence(&f[r], b[r], r, "same");
	for (int r = 0; r < 3; r++) {
		end_fence(&f[r]);
		assert_true(!f[r].status && f[r].result.equal);
	}
	for (int r = 0; r < 3; r++)
		ops->close(b[r], true);
}

static void a_fence_in_vain_names_the_ranks_that_did_not_come(void **state)
{
	struct rdt_bootstrap *b = join(service, 1, 8);
	struct rdt_channel *other = raw_join(service, 3, 8);
	struct rdt_fence result;

	(void)state;
	raw_send(other,
		 (struct rdt_message){ .type = RDT_MSG_FENCE, .number = 1, .signature = "s" });
	raw_settle(other);
	assert_int_equal(ops->fence(b, "s", 0, &result, rdt_deadline(0.05)), RDT_ERR_TIMEOUT);
	assert_says("ranks 0, 2, 4-7");
	raw_close(other);
	ops->close(b, true);
}

static void a_fence_given_up_does_not_shift_the_next_one(void **state)
{
	struct rdt_bootstrap *a = join(service, 0, 2), *b = join(service, 1, 2);
	struct rdt_fence result;
	struct fencer f;

	(void)state;
	assert_int_equal(ops->fence(a, "one", 1, &result, rdt_deadline(0.02)), RDT_ERR_TIMEOUT);
	assert_says("rank 1");
	assert_ok(ops->fence(b, "one", 3, &result, rdt_deadline(LONG))); /* a has been there */
	assert_true(result.equal && result.flags == 1);
	begin_fence(&f, a, 0, "two");
	assert_ok(ops->fence(b, "two", 0, &result, rdt_deadline(LONG)));
	assert_true(result.equal);
	end_fence(&f);
	assert_true(!f.status && f.result.equal);
	ops->close(a, true);
	ops->close(b, true);
}

static void a_signature_that_is_too_long_is_refused_here(void **state)
{
	struct rdt_bootstrap *b = join(service, 0, 1);
	char signature[RDT_SIGNATURE_MAX + 1];
	struct rdt_fence result;

	(void)state;
	memset(signature, 's', sizeof(signature));
	signature[RDT_SIGNATURE_MAX] = 0;
	assert_int_equal(ops->fence(b, signature, 0, &result, rdt_deadline(LONG)), RDT_ERR_INVALID);
	signature[RDT_SIGNATURE_MAX - 1] = 0;
	assert_ok(ops->fence(b, signature, 0, &result, rdt_deadline(LONG)));
	ops->close(b, true);
}

/* ---- who is gone --------------------------------------------------------------------------------
 */

/* A member in a process of its own, which lives until it is killed. */
static pid_t member_process(int rank, int world)
{
	struct rdt_identity id = identity(service, rank, world);
	int ready[2];
	char c = 0;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct rdt_bootstrap *b;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		c = ops->open(&id, rdt_deadline(LONG), &b) ? 'n' : 'y';
		if (write(ready[1], &c, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	assert_int_equal(c, 'y');
	return pid;
}

static void kill_member(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void a_killed_member_is_lost_to_all_others_at_once(void **state)
{
	pid_t pid = member_process(2, 3);
	struct rdt_bootstrap *b[2] = { join(service, 0, 3), join(service, 1, 3) };
	struct rdt_bootstrap_event event;
	struct rdt_fence result;
	char value;
	size_t length = 1;

	(void)state;
	assert_int_equal(ops->watch(b[0], &event), 0);
	kill_member(pid);
	for (int r = 0; r < 2; r++) {
		event = next_event(b[r]);
		assert_int_equal(event.kind, RDT_EVENT_LOST);
		assert_int_equal(event.rank, 2);
		assert_int_equal(ops->watch(b[r], &event), 0);
	}
	/* And nobody waits for it from now on. */
	assert_int_equal(ops->fence(b[0], "s", 0, &result, rdt_deadline(LONG)), RDT_ERR_PEER_LOST);
	assert_says("rank 2");
	assert_int_equal(ops->get(b[1], 2, "k", &value, &length, rdt_deadline(LONG)),
			 RDT_ERR_PEER_LOST);
	assert_says("rank 2");
	ops->close(b[0], true);
	ops->close(b[1], true);
}

static void a_fence_waited_in_ends_when_a_member_is_killed_and_the_event_is_kept(void **state)
{
	pid_t pid = member_process(1, 3);
	struct rdt_channel *there = raw_join(service, 2, 3);
	struct rdt_bootstrap *b = join(service, 0, 3);
	struct rdt_bootstrap_event event;
	struct rdt_message m;
	struct fencer f;

	(void)state;
	raw_send(there,
		 (struct rdt_message){ .type = RDT_MSG_FENCE, .number = 1, .signature = "s" });
	raw_settle(there); /* it waits in the fence */
	begin_fence(&f, b, 0, "s");
	kill_member(pid);
	end_fence(&f);
	assert_int_equal(f.status, RDT_ERR_PEER_LOST);
	assert_says_at(f.said, "rank 1", __FILE__, __LINE__);
	event = next_event(b);
	assert_int_equal(event.kind, RDT_EVENT_LOST);
	assert_int_equal(event.rank, 1);
	/* To one that waited for sure: the event, then the end of its fence. */
	m = raw_receive(there);
	assert_int_equal(m.type, RDT_MSG_EVENT);
	m = raw_receive(there);
	assert_int_equal(m.type, RDT_MSG_FENCED);
	assert_int_equal(m.status, RDT_ERR_PEER_LOST);
	raw_close(there);
	ops->close(b, true);
}

static void a_get_waited_in_ends_when_any_member_is_lost(void **state)
{
	struct rdt_bootstrap *lost = join(service, 1, 3);
	struct rdt_channel *waits = raw_join(service, 0, 3);
	struct rdt_message m;

	(void)state;
	raw_send(waits,
		 (struct rdt_message){ .type = RDT_MSG_GET, .number = 5, .rank = 2, .key = "k" });
	raw_settle(waits);
	ops->close(lost, false);
	m = raw_receive(waits);
	assert_int_equal(m.type, RDT_MSG_EVENT);
	assert_int_equal(m.kind, RDT_EVENT_LOST);
	m = raw_receive(waits);
	assert_int_equal(m.type, RDT_MSG_VALUE);
	assert_int_equal(m.status, RDT_ERR_PEER_LOST);
	assert_says_at(m.text, "rank 1", __FILE__, __LINE__);
	raw_close(waits);
}

static void a_member_that_says_good_bye_has_left_and_its_values_stay(void **state)
{
	struct rdt_bootstrap *a = join(service, 0, 2), *b = join(service, 1, 2);
	struct rdt_bootstrap_event event;
	struct rdt_fence result;
	char text[8];
	size_t length = sizeof(text);

	(void)state;
	assert_ok(ops->put(b, "k", "v", 1));
	ops->close(b, true);
	event = next_event(a);
	assert_int_equal(event.kind, RDT_EVENT_LEFT);
	assert_int_equal(event.rank, 1);
	get_text(a, 1, "k", text, sizeof(text));
	assert_string_equal(text, "v");
	assert_int_equal(ops->get(a, 1, "other", text, &length, rdt_deadline(LONG)),
			 RDT_ERR_PEER_LOST);
	assert_says("rank 1 has left");
	assert_int_equal(ops->fence(a, "s", 0, &result, rdt_deadline(LONG)), RDT_ERR_PEER_LOST);
	assert_says("rank 1 has left");
	ops->close(a, true);
}

static void leaving_after_a_fence_does_not_end_the_others_wait_in_it(void **state)
{
	struct rdt_bootstrap *a = join(service, 0, 3), *b = join(service, 1, 3);
	struct rdt_channel *c = raw_join(service, 2, 3);
	struct rdt_fence result;
	struct rdt_message m;

	(void)state;
	raw_send(c, (struct rdt_message){ .type = RDT_MSG_FENCE, .number = 1, .signature = "s" });
	raw_settle(c);
	assert_int_equal(ops->fence(b, "s", 0, &result, rdt_deadline(0.02)), RDT_ERR_TIMEOUT);
	ops->close(b, true); /* gone, but it was there */
	m = raw_receive(c);
	assert_int_equal(m.type, RDT_MSG_EVENT);
	assert_int_equal(m.kind, RDT_EVENT_LEFT);
	assert_ok(ops->fence(a, "s", 0, &result, rdt_deadline(LONG)));
	m = raw_receive(c);
	assert_int_equal(m.type, RDT_MSG_FENCED);
	assert_int_equal(m.status, RDT_OK);
	raw_close(c);
	ops->close(a, true);
}

static void abort_reaches_all_with_its_reason_and_ends_what_they_wait_for(void **state)
{
	struct rdt_bootstrap *a = join(service, 0, 3), *b = join(service, 1, 3);
	struct rdt_channel *waits = raw_join(service, 2, 3);
	struct rdt_bootstrap_event event;
	struct rdt_message m;
	struct rdt_fence result;
	char value;
	size_t length = 1;
	char why[300];

	(void)state;
	memset(why, 'w', sizeof(why) - 1);
	why[sizeof(why) - 1] = 0;
	raw_send(waits,
		 (struct rdt_message){ .type = RDT_MSG_GET, .number = 5, .rank = 1, .key = "k" });
	raw_settle(waits);
	assert_ok(ops->abort(a, RDT_ERR_ABORTED, NULL, why));
	event = next_event(b);
	assert_int_equal(event.kind, RDT_EVENT_ABORT);
	assert_int_equal(event.rank, 0);
	assert_string_equal(event.text, why);
	assert_int_equal(raw_receive(waits).type, RDT_MSG_EVENT);
	m = raw_receive(waits);
	assert_int_equal(m.type, RDT_MSG_VALUE);
	assert_int_equal(m.status, RDT_ERR_ABORTED);
	assert_int_equal(ops->fence(b, "s", 0, &result, rdt_deadline(LONG)), RDT_ERR_ABORTED);
	assert_says("rank 0 aborted");
	assert_int_equal(ops->get(a, 1, "k", &value, &length, rdt_deadline(LONG)), RDT_ERR_ABORTED);
	assert_int_equal(ops->watch(a, &event), 0); /* who aborts is not told */
	raw_close(waits);
	ops->close(a, true);
	ops->close(b, true);
}

static void one_watch_takes_in_all_events_even_if_poll_would_say_nothing_more(void **state)
{
	struct rdt_bootstrap *b[RANKS];
	struct rdt_bootstrap_event event;
	unsigned seen = 0;

	(void)state;
	for (int r = 0; r < RANKS; r++)
		b[r] = join(service, r, RANKS);
	for (int r = 1; r < RANKS; r++)
		ops->close(b[r], r % 2);
	assert_true(service_said(service, "rank 4 of job job"));
	/* A round trip: the events were sent before its answer, and are read on the way to it. */
	assert_ok(ops->put(b[0], "k", "", 0));
	while (ops->watch(b[0], &event)) {
		assert_int_equal(event.kind, event.rank % 2 ? RDT_EVENT_LEFT : RDT_EVENT_LOST);
		seen |= 1u << event.rank;
	}
	assert_int_equal(seen, 0x1e);
	ops->close(b[0], true);
}

static void when_the_service_dies_watch_says_so_once_and_calls_fail(void **state)
{
	struct rdt_bootstrap *b = join(service, 0, 2);
	struct rdt_bootstrap_event event;
	struct rdt_fence result;
	struct fencer f;
	struct rdt_bootstrap *waiting = join(service, 1, 2);
	char value;
	size_t length = 1;

	(void)state;
	/* Having put something it cannot begin again (bootstrap_restart.c). */
	assert_ok(ops->put(waiting, "k", "", 0));
	begin_fence(&f, waiting, 1, "s");
	service_kill(service);
	end_fence(&f);
	assert_int_equal(f.status, RDT_ERR_UNREACHABLE);
	event = next_event(b);
	assert_int_equal(event.kind, RDT_EVENT_SERVICE);
	assert_true(event.text[0]);
	assert_int_equal(ops->watch(b, &event), 0);
	assert_int_equal(ops->fd(b), -1);
	assert_int_equal(ops->get(b, 1, "k", &value, &length, rdt_deadline(LONG)),
			 RDT_ERR_UNREACHABLE);
	assert_says("127.0.0.1:");
	assert_int_equal(ops->put(b, "k", "", 0), RDT_ERR_UNREACHABLE);
	assert_int_equal(ops->fence(b, "s", 0, &result, rdt_deadline(LONG)), RDT_ERR_UNREACHABLE);
	assert_int_equal(ops->abort(b, RDT_ERR_ABORTED, NULL, "why"), RDT_ERR_UNREACHABLE);
	ops->close(b, true);
	ops->close(waiting, false);
}

static void a_forked_child_cannot_speak_for_its_parent(void **state)
{
	struct rdt_bootstrap *a = join(service, 0, 2), *b = join(service, 1, 2);
	struct rdt_bootstrap_event event;
	int status = -1;
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		int refused = ops->put(a, "k", "", 0) == RDT_ERR_INVALID;

		ops->close(a, true); /* frees the copy; no good-bye in the parent's name */
		_exit(refused ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_ok(ops->put(a, "k", "", 0));
	assert_ok(ops->put(b, "k", "", 0));
	assert_int_equal(ops->watch(b, &event), 0);
	ops->close(a, true);
	ops->close(b, true);
}

#define test(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(a_value_that_was_put_is_read_by_all),
		test(values_may_be_empty_or_of_the_full_size_and_are_cut_to_the_room),
		test(a_key_is_put_once),
		test(keys_and_ranks_outside_their_limits_are_refused_here),
		test(a_get_before_the_put_waits_for_it),
		test(a_get_in_vain_times_out_naming_rank_and_key_and_harms_nothing),
		test(a_look_answers_at_once_before_and_after_the_put),
		test(two_jobs_on_one_service_do_not_meet),
		test(members_share_a_nonce_and_the_next_incarnation_has_another_and_no_keys),
		test(all_ranks_pass_many_fences_together_and_their_flags_are_anded),
		test(unequal_signatures_are_answered_at_once_and_name_two_ranks),
		test(a_fence_in_vain_names_the_ranks_that_did_not_come),
		test(a_fence_given_up_does_not_shift_the_next_one),
		test(a_signature_that_is_too_long_is_refused_here),
		test(a_killed_member_is_lost_to_all_others_at_once),
		test(a_fence_waited_in_ends_when_a_member_is_killed_and_the_event_is_kept),
		test(a_get_waited_in_ends_when_any_member_is_lost),
		test(a_member_that_says_good_bye_has_left_and_its_values_stay),
		test(leaving_after_a_fence_does_not_end_the_others_wait_in_it),
		test(abort_reaches_all_with_its_reason_and_ends_what_they_wait_for),
		test(one_watch_takes_in_all_events_even_if_poll_would_say_nothing_more),
		test(when_the_service_dies_watch_says_so_once_and_calls_fail),
		test(a_forked_child_cannot_speak_for_its_parent),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
