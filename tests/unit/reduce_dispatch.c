/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Types, operations and the choice of the instruction set. The choice is made once in a process, so
 * every test that looks at it does so in a child of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/reduce/reduce.h"

/* Runs `holds` in a child with RDTRAIN_CPU set (NULL: unset) and its warnings in `log`. */
static bool in_child(const char *cpu, bool (*holds)(const char *cpu), char *log, size_t log_size)
{
	int logged[2], status;
	char file[32];
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(logged), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		snprintf(file, sizeof(file), "/dev/fd/%d", logged[1]);
		setenv("RDTRAIN_DEBUG_FILE", file, 1);
		setenv("RDTRAIN_DEBUG", "WARN", 1);
		if (cpu)
			setenv("RDTRAIN_CPU", cpu, 1);
		else
			unsetenv("RDTRAIN_CPU");
		_exit(holds(cpu) ? 0 : 1);
	}
	close(logged[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	n = read(logged[0], log, log_size - 1); /* one line at most: it is in the pipe */
	close(logged[0]);
	assert_true(n >= 0);
	log[n] = '\0';
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status) == 0;
}

static bool uses_the_best(const char *cpu)
{
	(void)cpu;
	return !strcmp(rdt_reduce_isa(), rdt_reduce_isas()[0]);
}

static bool uses_what_was_asked(const char *cpu)
{
	for (int type = 0; type <= RDT_UINT64; type++)
		for (int op = 0; op <= RDT_PROD; op++)
			if (rdt_reduce_kernel((enum rdt_type)type, (enum rdt_op)op) !=
			    rdt_reduce_kernel_isa(cpu, (enum rdt_type)type, (enum rdt_op)op))
				return false;
	return !strcmp(rdt_reduce_isa(), cpu);
}

static bool runs_here(const char *isa)
{
	for (const char *const *i = rdt_reduce_isas(); *i; i++)
		if (!strcmp(*i, isa))
			return true;
	return false;
}

static void the_best_set_is_used_unless_told_otherwise(void **state)
{
	static const char *const same[] = { NULL, "", "best" };
	char log[512];

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_true(in_child(same[i], uses_the_best, log, sizeof(log)));
		assert_string_equal(log, "");
	}
}

static void any_set_of_this_processor_can_be_forced(void **state)
{
	static const char *const sets[] = { "baseline", "avx2", "avx512" };
	char log[512];
	int tried = 0;

	(void)state;
	for (int i = 0; i < 3; i++)
		if (in_child(sets[i], runs_here, log, sizeof(log))) {
			assert_true(in_child(sets[i], uses_what_was_asked, log, sizeof(log)));
			assert_string_equal(log, "");
			tried++;
		}
	assert_true(tried >= 1); /* the baseline runs everywhere */
}

static void a_set_that_cannot_run_here_is_warned_about_and_ignored(void **state)
{
	static const char *const sets[] = { "sse9", "avx2", "avx512" };
	char log[512];

	(void)state;
	for (int i = 0; i < 3; i++) {
		if (in_child(sets[i], runs_here, log, sizeof(log)))
			continue;
		assert_true(in_child(sets[i], uses_the_best, log, sizeof(log)));
		assert_non_null(strstr(log, "RDTRAIN_CPU="));
		assert_non_null(strstr(log, sets[i]));
	}
}

static void every_type_and_operation_has_a_kernel_in_every_set(void **state)
{
	(void)state;
	for (const char *const *isa = rdt_reduce_isas(); *isa; isa++)
		for (int type = 0; type <= RDT_UINT64; type++) {
			for (int op = 0; op <= RDT_PROD; op++)
				assert_non_null(rdt_reduce_kernel_isa(*isa, (enum rdt_type)type,
								      (enum rdt_op)op));
			assert_ptr_equal(rdt_reduce_kernel_isa(*isa, (enum rdt_type)type, RDT_SUM),
					 rdt_reduce_kernel_isa(*isa, (enum rdt_type)type, RDT_AVG));
		}
}

static void what_is_no_type_operation_or_set_has_no_kernel(void **state)
{
	(void)state;
	assert_null(rdt_reduce_kernel((enum rdt_type)(RDT_UINT64 + 1), RDT_SUM));
	assert_null(rdt_reduce_kernel((enum rdt_type) - 1, RDT_SUM));
	assert_null(rdt_reduce_kernel(RDT_INT8, (enum rdt_op)(RDT_PROD + 1)));
	assert_null(rdt_reduce_kernel(RDT_INT8, (enum rdt_op) - 1));
	assert_null(rdt_reduce_kernel_isa("sse9", RDT_INT8, RDT_SUM));
	assert_null(rdt_reduce_kernel_isa(NULL, RDT_INT8, RDT_SUM));
}

static void types_know_their_sizes_and_names(void **state)
{
	static const struct {
		enum rdt_type type;
		size_t size;
		const char *name;
	} types[] = {
		{ RDT_FLOAT32, 4, "float32" }, { RDT_FLOAT64, 8, "float64" },
		{ RDT_FLOAT16, 2, "float16" }, { RDT_BFLOAT16, 2, "bfloat16" },
		{ RDT_INT8, 1, "int8" },       { RDT_UINT8, 1, "uint8" },
		{ RDT_INT32, 4, "int32" },     { RDT_UINT32, 4, "uint32" },
		{ RDT_INT64, 8, "int64" },     { RDT_UINT64, 8, "uint64" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		assert_int_equal(rdt_type_size(types[i].type), types[i].size);
		assert_string_equal(rdt_type_name(types[i].type), types[i].name);
	}
	assert_int_equal(rdt_type_size((enum rdt_type)10), 0);
	assert_int_equal(rdt_type_size((enum rdt_type) - 1), 0);
	assert_null(rdt_type_name((enum rdt_type)10));
	assert_null(rdt_type_name((enum rdt_type) - 1));
}

static void operations_know_their_names(void **state)
{
	(void)state;
	assert_string_equal(rdt_op_name(RDT_SUM), "sum");
	assert_string_equal(rdt_op_name(RDT_AVG), "avg");
	assert_string_equal(rdt_op_name(RDT_MIN), "min");
	assert_string_equal(rdt_op_name(RDT_MAX), "max");
	assert_string_equal(rdt_op_name(RDT_PROD), "prod");
	assert_null(rdt_op_name((enum rdt_op)5));
	assert_null(rdt_op_name((enum rdt_op) - 1));
}

int main(void)
{
	/* The first three before the parent itself has chosen. */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_best_set_is_used_unless_told_otherwise),
		cmocka_unit_test(any_set_of_this_processor_can_be_forced),
		cmocka_unit_test(a_set_that_cannot_run_here_is_warned_about_and_ignored),
		cmocka_unit_test(every_type_and_operation_has_a_kernel_in_every_set),
		cmocka_unit_test(what_is_no_type_operation_or_set_has_no_kernel),
		cmocka_unit_test(types_know_their_sizes_and_names),
		cmocka_unit_test(operations_know_their_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
