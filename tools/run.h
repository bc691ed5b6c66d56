/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parts of `rdtrain run`:
 *
 *	run.c          the job: service, events, ends
 *	run_options.c  the command line
 *	run_secret.c   the job's secret
 *	run_worker.c   starting one worker
 *	output.c       passing output on
 */
#ifndef RDT_RUN_H
#define RDT_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

#define RUN_EXIT_TIMEOUT 124
#define RUN_EXIT_CANNOT_EXECUTE 126
#define RUN_EXIT_NOT_FOUND 127

struct run_settings {
	long workers, nodes, node;
	long restarts; /* of workers, in all */
	const char *rendezvous, *secret_file, *transport, *job;
	double timeout;
	bool prefix, verbose;
	char **command;
};

/* Ends the process when the command line is wrong. */
void run_parse(int argc, char **argv, struct run_settings *settings);

/* The secret of --secret-file or the environment; random for a job of one host. 0, or a negative
 * status with its sentence. */
int run_find_secret(const struct run_settings *settings, char *secret, size_t room);

/* What a worker is started with. */
struct run_place {
	const struct run_settings *settings;
	int rank, local_rank;
	bool newcomer; /* in the place of one that failed; without a rank until it is admitted */
	const char *rendezvous, *secret;
	struct rlimit files; /* the worker's own limit */
};

/*
 * Starts a worker. *out and *err are the reading ends of its output. 0; or an exit status, when it
 * could not be started or the command could not be executed, with the sentence set; the process is
 * gone then.
 */
int run_start_worker(const struct run_place *place, pid_t *pid, int *out, int *err);

/* OMP_NUM_THREADS for each worker, unless the user has set it. */
long run_threads(const struct run_settings *settings);

/* Workers take two descriptors each here, and one at the service: as many as are allowed. *before
 * is what the limit was. */
void run_raise_file_limit(struct rlimit *before);

#endif
