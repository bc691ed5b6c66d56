/* SPDX-License-Identifier: BSD-3-Clause */
/* Who am I? Each test starts without any launcher's variables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/bootstrap/bootstrap.h"

static struct rdt_identity id;

static int clean(void **state)
{
	static const char *const names[] = {
		"RDTRAIN_RANK",		"RDTRAIN_SIZE",	  "RDTRAIN_RENDEZVOUS",
		"RDTRAIN_JOB",		"RDTRAIN_SECRET", "RDTRAIN_SECRET_FILE",
		"RDTRAIN_PORT",		"RANK",		  "WORLD_SIZE",
		"MASTER_ADDR",		"MASTER_PORT",	  "TORCHELASTIC_RUN_ID",
		"SLURM_NTASKS",		"SLURM_PROCID",	  "OMPI_COMM_WORLD_SIZE",
		"OMPI_COMM_WORLD_RANK", "PMI_SIZE",	  "PMI_RANK"
	};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unsetenv(names[i]);
	return 0;
}

static void is_ok(const struct rdt_options *options)
{
	int status = rdt_identity_find(options, &id);

	if (status)
		fail_msg("%s: %s", rdt_strerror(status), rdt_last_error());
}

static void is_invalid(const struct rdt_options *options, const char *words)
{
	assert_int_equal(rdt_identity_find(options, &id), RDT_ERR_INVALID);
	if (!strstr(rdt_last_error(), words))
		fail_msg("\"%s\" is not in \"%s\"", words, rdt_last_error());
}

static void set_rdtrain(void)
{
	setenv("RDTRAIN_RANK", "1", 1);
	setenv("RDTRAIN_SIZE", "4", 1);
	setenv("RDTRAIN_RENDEZVOUS", "10.0.0.1:4711", 1);
	setenv("RDTRAIN_SECRET", "s", 1);
}

static void set_torchrun(const char *rank)
{
	setenv("RANK", rank, 1);
	setenv("WORLD_SIZE", "2", 1);
	setenv("MASTER_ADDR", "node0", 1);
	setenv("MASTER_PORT", "29500", 1);
	setenv("RDTRAIN_SECRET", "s", 1);
}

static void without_a_launcher_it_is_a_world_of_one(void **state)
{
	(void)state;
	is_ok(NULL);
	assert_int_equal(id.rank, 0);
	assert_int_equal(id.world, 1);
	assert_string_equal(id.source, "no launcher");
	assert_string_equal(id.rendezvous, "");
	assert_false(id.start_service);
}

static void our_variables_say_all(void **state)
{
	(void)state;
	set_rdtrain();
	setenv("RDTRAIN_JOB", "night", 1);
	is_ok(NULL);
	assert_int_equal(id.rank, 1);
	assert_int_equal(id.world, 4);
	assert_string_equal(id.rendezvous, "10.0.0.1:4711");
	assert_string_equal(id.job, "night");
	assert_string_equal(id.secret, "s");
	assert_string_equal(id.source, "RDTRAIN_*");
}

static void options_win_over_variables_and_these_over_torchrun(void **state)
{
	struct rdt_options o = { .size = sizeof(o), .rank = 2, .world = 3 };

	(void)state;
	set_torchrun("1");
	set_rdtrain();
	is_ok(NULL);
	assert_int_equal(id.world, 4);
	is_ok(&o);
	assert_int_equal(id.rank, 2);
	assert_int_equal(id.world, 3);
	assert_string_equal(id.source, "options");
	assert_string_equal(id.rendezvous, "10.0.0.1:4711"); /* what they leave open */
	o.rendezvous = "[::1]:5000";
	o.job = "mine";
	o.secret = "mine too";
	is_ok(&o);
	assert_string_equal(id.rendezvous, "[::1]:5000");
	assert_string_equal(id.job, "mine");
	assert_string_equal(id.secret, "mine too");
}

static void a_rank_in_options_counts_only_with_a_world(void **state)
{
	struct rdt_options o = { .size = sizeof(o), .rank = 3 };

	(void)state;
	set_rdtrain();
	is_ok(&o);
	assert_int_equal(id.rank, 1);
}

static void under_torchrun_rank_0_starts_the_service_beside_the_store(void **state)
{
	(void)state;
	set_torchrun("0");
	is_ok(NULL);
	assert_true(id.start_service);
	assert_string_equal(id.rendezvous, "node0:29501");
	assert_string_equal(id.job, "torchrun");
	assert_string_equal(id.source, "torchrun");
	set_torchrun("1");
	setenv("TORCHELASTIC_RUN_ID", "run7", 1);
	setenv("RDTRAIN_PORT", "4000", 1);
	setenv("MASTER_ADDR", "::1", 1);
	is_ok(NULL);
	assert_false(id.start_service);
	assert_string_equal(id.rendezvous, "[::1]:4000");
	assert_string_equal(id.job, "run7");
}

static void under_torchrun_a_given_rendezvous_is_used_and_not_started(void **state)
{
	(void)state;
	set_torchrun("0");
	setenv("RDTRAIN_RENDEZVOUS", "elsewhere:4711", 1);
	is_ok(NULL);
	assert_false(id.start_service);
	assert_string_equal(id.rendezvous, "elsewhere:4711");
	assert_int_equal(id.world, 2);
}

static void half_a_set_names_what_is_missing(void **state)
{
	(void)state;
	setenv("RDTRAIN_RANK", "0", 1);
	is_invalid(NULL, "RDTRAIN_SIZE");
	clean(NULL);
	setenv("RDTRAIN_SIZE", "2", 1);
	is_invalid(NULL, "RDTRAIN_RANK");
	setenv("RDTRAIN_RANK", "0", 1);
	is_invalid(NULL, "RDTRAIN_RENDEZVOUS");
	clean(NULL);
	setenv("RDTRAIN_RENDEZVOUS", "h:1", 1);
	is_invalid(NULL, "RDTRAIN_RANK");
	clean(NULL);
	setenv("RANK", "0", 1);
	is_invalid(NULL, "WORLD_SIZE");
	setenv("WORLD_SIZE", "2", 1);
	is_invalid(NULL, "MASTER_ADDR");
	setenv("MASTER_ADDR", "h", 1);
	is_invalid(NULL, "MASTER_PORT");
	clean(NULL);
	setenv("MASTER_ADDR", "h", 1);
	is_invalid(NULL, "MASTER_ADDR");
}

static void a_bad_number_is_named_with_its_variable(void **state)
{
	static const char *const bad[] = { "",	  " 1",	 "1 ",	"+1", "-1",
					   "1.0", "one", "0x1", "4",  "99999999999999999999" };

	(void)state;
	set_rdtrain();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char words[64];

		setenv("RDTRAIN_RANK", bad[i], 1);
		snprintf(words, sizeof(words), "RDTRAIN_RANK is '%s'", bad[i]);
		is_invalid(NULL, words);
	}
	setenv("RDTRAIN_RANK", "0", 1);
	setenv("RDTRAIN_SIZE", "0", 1);
	is_invalid(NULL, "RDTRAIN_SIZE is '0'");
	setenv("RDTRAIN_SIZE", "65537", 1);
	is_invalid(NULL, "RDTRAIN_SIZE is '65537'");
	setenv("RDTRAIN_SIZE", "65536", 1);
	is_ok(NULL);
}

static void bad_options_are_named(void **state)
{
	struct rdt_options o = { .size = sizeof(o), .rank = 2, .world = 2, .rendezvous = "h:1" };

	(void)state;
	is_invalid(&o, "rank is 2");
	o.world = -1;
	is_invalid(&o, "world is -1");
	o = (struct rdt_options){ .size = sizeof(o), .world = 2, .rendezvous = "no port" };
	is_invalid(&o, "no port");
	o.rendezvous = "h:1";
	o.job = "two words";
	is_invalid(&o, "two words");
}

static void bad_texts_are_named_with_their_variables(void **state)
{
	char longer[400];

	(void)state;
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	set_rdtrain();
	setenv("RDTRAIN_RENDEZVOUS", "10.0.0.1", 1);
	is_invalid(NULL, "RDTRAIN_RENDEZVOUS is '10.0.0.1'");
	setenv("RDTRAIN_RENDEZVOUS", "10.0.0.1:0", 1);
	is_invalid(NULL, "RDTRAIN_RENDEZVOUS");
	set_rdtrain();
	setenv("RDTRAIN_SECRET", longer, 1);
	is_invalid(NULL, "RDTRAIN_SECRET");
	set_rdtrain();
	setenv("RDTRAIN_JOB", longer, 1);
	is_invalid(NULL, "RDTRAIN_JOB");
	clean(NULL);
	set_torchrun("0");
	setenv("MASTER_PORT", "65535", 1);
	is_invalid(NULL, "RDTRAIN_PORT");
	setenv("MASTER_PORT", "nine", 1);
	is_invalid(NULL, "MASTER_PORT is 'nine'");
}

static void a_world_of_one_needs_no_place_and_no_secret(void **state)
{
	(void)state;
	setenv("RDTRAIN_RANK", "0", 1);
	setenv("RDTRAIN_SIZE", "1", 1);
	setenv("RDTRAIN_SECRET_FILE", "/nonexistent", 1);
	is_ok(NULL);
	assert_int_equal(id.world, 1);
}

static void a_launcher_that_cannot_be_used_is_an_error_not_n_worlds_of_one(void **state)
{
	static const struct {
		const char *rank, *world;
	} launchers[] = { { "SLURM_PROCID", "SLURM_NTASKS" },
			  { "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE" },
			  { "PMI_RANK", "PMI_SIZE" } };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		clean(NULL);
		setenv(launchers[i].rank, "3", 1);
		setenv(launchers[i].world, "4", 1);
		is_invalid(NULL, launchers[i].world);
		is_invalid(NULL, "rdtrain rendezvous");
		setenv("RDTRAIN_RENDEZVOUS", "h:1", 1);
		setenv("RDTRAIN_SECRET", "s", 1);
		is_ok(NULL);
		assert_int_equal(id.rank, 3);
		assert_int_equal(id.world, 4);
		setenv(launchers[i].rank, "4", 1);
		is_invalid(NULL, launchers[i].rank);
	}
}

static void a_launcher_of_one_process_is_a_world_of_one(void **state)
{
	(void)state;
	setenv("SLURM_PROCID", "0", 1);
	setenv("SLURM_NTASKS", "1", 1);
	is_ok(NULL);
	assert_int_equal(id.world, 1);
	assert_string_equal(id.source, "no launcher");
}

static void the_secret_is_the_first_line_of_a_file_that_only_its_owner_reads(void **state)
{
	char path[] = "/tmp/rdtrain-secret-XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	set_rdtrain();
	unsetenv("RDTRAIN_SECRET");
	setenv("RDTRAIN_SECRET_FILE", path, 1);
	is_invalid(NULL, "empty");
	assert_int_equal(write(fd, "  my secret \r\nnot this\n", 23), 23);
	is_ok(NULL);
	assert_string_equal(id.secret, "my secret");
	assert_int_equal(fchmod(fd, 0640), 0);
	is_invalid(NULL, "chmod 600");
	assert_string_equal(id.secret, "");
	assert_int_equal(fchmod(fd, 0604), 0);
	is_invalid(NULL, "chmod 600");
	close(fd);
	unlink(path);
	is_invalid(NULL, path);
	setenv("RDTRAIN_SECRET_FILE", "/tmp", 1);
	is_invalid(NULL, "not a regular file");
	setenv("RDTRAIN_SECRET", "this one", 1); /* it goes before the file */
	is_ok(NULL);
	assert_string_equal(id.secret, "this one");
}

#define test(f) cmocka_unit_test_setup(f, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(without_a_launcher_it_is_a_world_of_one),
		test(our_variables_say_all),
		test(options_win_over_variables_and_these_over_torchrun),
		test(a_rank_in_options_counts_only_with_a_world),
		test(under_torchrun_rank_0_starts_the_service_beside_the_store),
		test(under_torchrun_a_given_rendezvous_is_used_and_not_started),
		test(half_a_set_names_what_is_missing),
		test(a_bad_number_is_named_with_its_variable),
		test(bad_options_are_named),
		test(bad_texts_are_named_with_their_variables),
		test(a_world_of_one_needs_no_place_and_no_secret),
		test(a_launcher_that_cannot_be_used_is_an_error_not_n_worlds_of_one),
		test(a_launcher_of_one_process_is_a_world_of_one),
		test(the_secret_is_the_first_line_of_a_file_that_only_its_owner_reads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
