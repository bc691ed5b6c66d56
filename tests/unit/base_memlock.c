/* SPDX-License-Identifier: BSD-3-Clause */
/* The memlock check, on made-up numbers and on this process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "lib/base/memlock.h"
#include <rdtrain/rdtrain.h>

static void an_unlimited_process_may_lock_anything(void **state)
{
	struct rdt_memlock m = { .limit = UINT64_MAX, .locked = 1ull << 50 };

	(void)state;
	assert_false(rdt_memlock_exceeded(&m, UINT64_MAX));
}

static void the_limit_itself_may_be_reached_but_not_passed(void **state)
{
	struct rdt_memlock m = { .limit = 65536, .locked = 61440 };

	(void)state;
	assert_false(rdt_memlock_exceeded(&m, 0));
	assert_false(rdt_memlock_exceeded(&m, 4096));
	assert_true(rdt_memlock_exceeded(&m, 4097));
	assert_true(rdt_memlock_exceeded(&m, UINT64_MAX)); /* no overflow */
	m.locked = 131072;				   /* the limit was lowered afterwards */
	assert_true(rdt_memlock_exceeded(&m, 0));
}

static void the_need_is_counted_in_whole_pages(void **state)
{
	(void)state;
	assert_int_equal(rdt_memlock_need((void *)0x10000, 1, 4096), 4096);
	assert_int_equal(rdt_memlock_need((void *)0x10000, 4096, 4096), 4096);
	assert_int_equal(rdt_memlock_need((void *)0x10fff, 1, 4096), 4096);
	assert_int_equal(rdt_memlock_need((void *)0x10fff, 2, 4096), 8192);
	assert_int_equal(rdt_memlock_need((void *)0x10001, 65536, 65536), 131072);
}

static void the_sentence_names_limit_need_and_remedy(void **state)
{
	struct rdt_memlock m = { .limit = 64 << 10, .locked = 12 << 10 };

	(void)state;
	assert_int_equal(rdt_memlock_err(&m, 100 << 10, "a region of 99999 bytes"),
			 RDT_ERR_MEMLOCK);
	assert_non_null(strstr(rdt_last_error(), "a region of 99999 bytes"));
	assert_non_null(strstr(rdt_last_error(), "needs 100 KiB"));
	assert_non_null(strstr(rdt_last_error(), "12 KiB are locked"));
	assert_non_null(strstr(rdt_last_error(), "allows 64 KiB"));
	assert_non_null(strstr(rdt_last_error(), "ulimit -l unlimited"));
	assert_non_null(strstr(rdt_last_error(), "--ulimit memlock=-1"));
}

static void this_process_s_limit_is_read(void **state)
{
	struct rlimit old, low;
	struct rdt_memlock m;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &old), 0);
	low = (struct rlimit){ .rlim_cur = 16384, .rlim_max = old.rlim_max };
	if (old.rlim_max != RLIM_INFINITY && old.rlim_max < 16384)
		skip();
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &low), 0);
	rdt_memlock_read(&m);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &old), 0);
	assert_int_equal(m.limit, 16384);
	assert_int_equal(m.locked, 0); /* this test pins nothing */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_unlimited_process_may_lock_anything),
		cmocka_unit_test(the_limit_itself_may_be_reached_but_not_passed),
		cmocka_unit_test(the_need_is_counted_in_whole_pages),
		cmocka_unit_test(the_sentence_names_limit_need_and_remedy),
		cmocka_unit_test(this_process_s_limit_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
