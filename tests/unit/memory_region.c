/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of registered memory, and shareable memory itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/error.h"
#include "lib/memory/region.h"

#define N 64

static void an_address_is_found_in_the_region_that_holds_it(void **state)
{
	static char arena[N * 100];
	struct rdt_mem mems[N] = { 0 };
	struct rdt_mem_table table = { 0 };

	(void)state;
	/* Every other piece of the arena, added in a shuffled order. */
	for (int i = 0; i < N; i++) {
		int at = i * 37 % N;

		mems[at].base = arena + at * 100;
		mems[at].bytes = 60;
		assert_int_equal(rdt_mem_table_add(&table, &mems[at]), 0);
	}
	for (int i = 0; i < N; i++) {
		char *base = arena + i * 100;

		assert_ptr_equal(rdt_mem_table_find(&table, base, 60), &mems[i]);
		assert_ptr_equal(rdt_mem_table_find(&table, base + 59, 1), &mems[i]);
		assert_ptr_equal(rdt_mem_table_find(&table, base + 10, 50), &mems[i]);
		assert_null(rdt_mem_table_find(&table, base + 10, 51));
		assert_null(rdt_mem_table_find(&table, base + 60, 1));
		assert_null(rdt_mem_table_find(&table, base, SIZE_MAX));
	}
	assert_null(rdt_mem_table_find(&table, (void *)((uintptr_t)arena - 1), 1));
	rdt_mem_table_remove(&table, &mems[5]);
	assert_null(rdt_mem_table_find(&table, mems[5].base, 1));
	assert_ptr_equal(rdt_mem_table_find(&table, mems[6].base, 1), &mems[6]);
	rdt_mem_table_remove(&table, &mems[5]); /* not there: no harm */
	assert_int_equal(table.n, N - 1);
	rdt_mem_table_free(&table);
}

static void overlapping_regions_are_refused(void **state)
{
	static char arena[300];
	struct rdt_mem first = { .base = arena + 100, .bytes = 100 };
	struct rdt_mem_table table = { 0 };
	static const struct {
		int at;
		size_t bytes;
		int status;
	} cases[] = {
		{ 0, 100, 0 },
		{ 0, 101, RDT_ERR_INVALID },
		{ 150, 10, RDT_ERR_INVALID },
		{ 100, 100, RDT_ERR_INVALID },
		{ 50, 200, RDT_ERR_INVALID },
		{ 199, 5, RDT_ERR_INVALID },
		{ 200, 50, 0 },
	};

	(void)state;
	assert_int_equal(rdt_mem_table_add(&table, &first), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rdt_mem other = { .base = arena + cases[i].at, .bytes = cases[i].bytes };

		assert_int_equal(rdt_mem_table_add(&table, &other), cases[i].status);
		if (cases[i].status == 0)
			rdt_mem_table_remove(&table, &other);
		else
			assert_non_null(strstr(rdt_last_error(), "overlaps"));
	}
	rdt_mem_table_free(&table);
}

static void a_block_is_zeroed_and_can_be_mapped_again(void **state)
{
	struct rdt_block block;
	char *again;

	(void)state;
	assert_int_equal(rdt_block_map(5000, true, &block), 0);
	assert_true(block.bytes >= 5000);
	for (size_t i = 0; i < block.bytes; i++)
		assert_int_equal(((char *)block.base)[i], 0);
	again = mmap(NULL, block.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, block.memfd, 0);
	assert_ptr_not_equal(again, MAP_FAILED);
	((char *)block.base)[4999] = 42;
	assert_int_equal(again[4999], 42);
	munmap(again, block.bytes);
	rdt_block_unmap(&block);
}

static void a_block_is_this_user_s_alone_and_keeps_its_size(void **state)
{
	struct rdt_block block;
	struct stat st;

	(void)state;
	for (int write = 0; write < 2; write++) {
		void *again;

		assert_int_equal(rdt_block_map(5000, write, &block), 0);
		assert_int_equal(fstat(block.memfd, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
		assert_int_equal(st.st_uid, geteuid());
		assert_int_equal(ftruncate(block.memfd, 0), -1);
		assert_int_equal(ftruncate(block.memfd, 1 << 20), -1);
		assert_int_equal(fcntl(block.memfd, F_ADD_SEALS, F_SEAL_WRITE), -1);
		again = mmap(NULL, block.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, block.memfd, 0);
		assert_true((again != MAP_FAILED) == (write == 1));
		if (write)
			munmap(again, block.bytes);
		*(char *)block.base = 1; /* its owner may */
		rdt_block_unmap(&block);
	}
}

static void more_memory_than_there_is_is_an_error(void **state)
{
	struct rdt_block block;

	(void)state;
	assert_int_equal(rdt_block_map(SIZE_MAX, true, &block), RDT_ERR_NOMEM);
	assert_int_equal(rdt_block_map((size_t)1 << 60, true, &block), RDT_ERR_NOMEM);
	assert_non_null(strstr(rdt_last_error(), "1152921504606846976"));
	/* More than there is, and less than an address space: refused before a page is touched. */
	assert_true(rdt_memory_available() < (uint64_t)1 << 46);
	assert_int_equal(rdt_block_map((size_t)rdt_memory_available() * 2, true, &block),
			 RDT_ERR_NOMEM);
	assert_non_null(strstr(rdt_last_error(), "this machine has"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_address_is_found_in_the_region_that_holds_it),
		cmocka_unit_test(overlapping_regions_are_refused),
		cmocka_unit_test(a_block_is_this_user_s_alone_and_keeps_its_size),
		cmocka_unit_test(a_block_is_zeroed_and_can_be_mapped_again),
		cmocka_unit_test(more_memory_than_there_is_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
