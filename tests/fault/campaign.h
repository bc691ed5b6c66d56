/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kill campaign: run after run, a rank is killed (or stopped) at a random moment, and it is
 * looked at what the others return, how soon, and what is left behind.
 *
 *	campaign.c	 options, the runs, what is wrong with one, the times that are printed
 *	campaign_case.c	 what happens in a run, from the seed and the run's number alone
 *	campaign_run.c	 one run: service, ranks, the kill, everybody's end
 *	campaign_rank.c	 what a rank does
 *	campaign_hosts.c the campaign of the other host, in the form with two
 */
#ifndef CAMPAIGN_H
#define CAMPAIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <rdtrain/rdtrain.h>

#define CAMPAIGN_RANKS 6

enum campaign_phase {
	PHASE_ALLREDUCE,
	PHASE_ALLTOALL,
	PHASE_PLAN,   /* while plans are made */
	PHASE_SHRINK, /* while the survivors of another death shrink */
	PHASE_START,  /* while the ranks meet */
	PHASES
};

enum campaign_form { FORM_BLOCKING, FORM_START, FORM_PLAN, FORMS };
enum campaign_memory { MEMORY_ALLOC, MEMORY_REGISTER, MEMORY_MALLOC, MEMORIES };
enum campaign_fault {
	FAULT_KILL,
	FAULT_STOP,
	FAULT_LINK, /* the link between the hosts drops everything */
	FAULTS
};

/* What becomes of a stopped rank. */
enum campaign_wake {
	WAKE_NEVER,  /* killed when the others have ended */
	WAKE_AFTER,  /* goes on when the others have ended */
	WAKE_DURING, /* goes on when the others have their error and still run */
	WAKES
};

struct campaign_case {
	uint64_t seed;
	int number, n, victim;
	int first; /* shrink: who is killed before; else -1 */
	enum campaign_phase phase;
	enum campaign_form form;
	enum campaign_memory memory;
	enum campaign_fault fault;
	enum campaign_wake wake;
	size_t count;
	bool in_place;
	double delay_s; /* from when all are ready (start: from the first fork) to the fault */
};

struct campaign_options {
	int runs, first;
	uint64_t seed;
	const char *transport;
	int only; /* a phase; -1: all */
	double deadline_s, start_deadline_s, limit_s;
	double pace; /* how many times slower than a common machine this one is */
	size_t max_count;
	bool alone, verbose;
	int host, hosts;
	const char *address; /* of host 0 */
	const char *link;    /* NULL, or how the link fails: "down" or "loss" */
};

/* What a rank has found, in memory that the campaign shares with it. */
struct campaign_rank {
	pid_t pid;
	int ready;		    /* in the loop of operations */
	int64_t joined_at, gone_at; /* at the rendezvous, as the service saw it; 0: never */
	int64_t called_at, began_at, error_at; /* the last call; the one that failed */
	int status, again;		       /* of the call that failed, and of one more */
	uint64_t lost;			       /* a bit for each */
	uint32_t operations, wrong;
	int input_changed, fds_left, qps_left;
	/* going on without the lost: a verified sum in a communicator of next_size */
	int64_t recovered_at;
	int next_status, next_size, stale; /* stale: something wrote into buffers given back */
	char doing[48], text[400];
	/* by the campaign */
	int ended, exit_status;
};

struct campaign_shared {
	int port; /* of the service; 0: not up yet; -1: failed */
	struct campaign_rank rank[CAMPAIGN_RANKS];
};

/* What a run came to. */
struct campaign_result {
	int64_t first_at, fault_at;
	bool timed_out;
	char left_behind[200]; /* "": nothing */
	char trouble[200];     /* of the service, or in cutting the link; "": none */
	struct campaign_rank rank[CAMPAIGN_RANKS];
};

void campaign_case_make(const struct campaign_options *options, int number,
			struct campaign_case *c);
void campaign_case_describe(const struct campaign_case *c, char *text, size_t size);
const char *campaign_phase_name(int phase);

/* The host of a rank: neighbours share one, as far as possible. */
int campaign_host_of(const struct campaign_options *options, int n, int rank);

/* Runs it. False: the run itself could not be made; says why. The ranks' output is in `log_dir`. */
bool campaign_run(const struct campaign_options *options, const struct campaign_case *c,
		  const char *log_dir, struct campaign_result *result);

/* In the rank's process; does not return. */
void campaign_rank_main(const struct campaign_options *options, const struct campaign_case *c,
			struct campaign_shared *shared, int rank) __attribute__((noreturn));

/* How many queue pairs the devices of this machine have, of process `pid` or (0) of all; -1: it
 * cannot be said. */
int campaign_queue_pairs(pid_t pid);

/* The other host. Without one these do nothing and succeed. */
bool campaign_hosts_meet(const struct campaign_options *options);
/* Both send `size` bytes and get the other's; `theirs` is `mine` without another host. */
bool campaign_hosts_exchange(const void *mine, void *theirs, size_t size);
/* How far the other host's clock is ahead of this one's. */
bool campaign_hosts_clock(const struct campaign_options *options, int64_t *ahead);

#endif
