/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tests of several ranks: a rendezvous service and n processes on this machine, with a deadline. A
 * rank's function returns 0 when all is well; anything else, a signal, or the deadline fails the
 * run.
 */
#ifndef RDT_TEST_RANKS_H
#define RDT_TEST_RANKS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <rdtrain/rdtrain.h>

#define RANKS_MAX 16

struct ranks_result {
	int status[RANKS_MAX]; /* as from waitpid */
	bool timed_out;
};

/*
 * Forks n ranks with RDTRAIN_* set, runs fn in each, and waits for them; whoever is still there
 * after `seconds` is killed. Returns true when every rank's function returned 0.
 */
bool ranks_run(int n, double seconds, int (*fn)(int rank, int n, void *arg), void *arg);

/* The same, and what each rank came to: for tests that kill some of them. */
bool ranks_run_result(int n, double seconds, int (*fn)(int rank, int n, void *arg), void *arg,
		      struct ranks_result *result);

/*
 * With RDTRAIN_TRANSPORT=verbs on a machine without a usable device: says why and exits with 77,
 * which ctest counts as skipped; with RDTRAIN_TEST_REQUIRE_VERBS=1 too it exits with 1. For the top
 * of main().
 */
void ranks_need_device(void);

/* Is RDTRAIN_CHECK=1 set? Algorithms by which ranks read in each other's memory do not apply then.
 */
bool ranks_checked(void);

/* Inside a rank: the process id of another. */
pid_t ranks_pid(int rank);

/* Inside a rank: kills the rendezvous service. */
void ranks_kill_service(void);

/* A page of memory that all ranks of a run share, zeroed at the start. */
void *ranks_shared(void);

/*
 * In a rank: until `total` have come to this counter, in all the rounds so far; false after 30 s. A
 * rank that is through with a sum may be so before the others, and nobody may die of whom they
 * still need something.
 */
bool ranks_meet(uint32_t *counter, uint32_t total);

/* rdt_comm_lost() as one bit a rank. */
static inline uint32_t ranks_lost(rdt_comm *comm)
{
	int ranks[RANKS_MAX], n = rdt_comm_lost(comm, ranks, RANKS_MAX);
	uint32_t set = 0;

	for (int i = 0; i < n; i++)
		set |= 1u << ranks[i];
	return set;
}

/* In a rank: prints the place and makes the rank fail. */
int ranks_failed(const char *file, int line, const char *what);

/* `return` a failure when the condition does not hold; for use in a rank's function. */
#define RANK_CHECK(condition)                                                                      \
	do {                                                                                       \
		if (!(condition))                                                                  \
			return ranks_failed(__FILE__, __LINE__, #condition);                       \
	} while (0)

#endif
