/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The settings: one table of all RDTRAIN_* variables, read once for each communicator. `rdtrain
 * info` prints it. Variables of the launcher (RDTRAIN_RANK and so on) are read by
 * lib/bootstrap/launcher.c and those of the log by lib/base/log.c; they stand in the table too, so
 * that it is complete and misspelt names can be told.
 */
#ifndef RDT_CONFIG_H
#define RDT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <rdtrain/rdtrain.h>

#include "collectives/schedule.h"

#define RDT_ALGORITHM_NAME 32 /* bytes of an algorithm's name, with its terminator */

enum rdt_transport_choice { RDT_TRANSPORT_AUTO, RDT_TRANSPORT_SHM, RDT_TRANSPORT_VERBS };

struct rdt_config {
	enum rdt_transport_choice transport;
	double timeout_s, start_timeout_s;
	const char *host_id, *ifname, *model, *trace,
		*ib_hca; /* NULL: not set; from the environment, never freed */
	int ib_timeout, ib_retry_cnt, ib_tc, ib_sl; /* -1: not set */
	int ib_rails;				    /* 0: not set */
	int local_size;				    /* workers on this host; 0: not told */
	bool cma;
	bool progress_thread;
	/* Not a setting: the communicator behind a window; window.c */
	bool onesided;
	/* Rank 0's hold for all. */
	uint64_t window;				    /* bytes; 0: chosen by size */
	char algorithm[RDT_COLL_COUNT][RDT_ALGORITHM_NAME]; /* by collective; "": chosen */
	bool rank_order; /* only algorithms that sum in the order of ranks */
	bool check;	 /* a hash travels with all data */
};

/* Options win over the environment. INVALID names the option or variable, and what it may be. */
int rdt_config_read(const struct rdt_options *options, struct rdt_config *config);

/* "auto", "shm", "verbs" */
const char *rdt_transport_choice_name(enum rdt_transport_choice choice);

/* Warns about variables that begin with RDTRAIN_ and are not in the table. */
void rdt_config_warn_unknown(void);

/* A line for each variable: name, value or default, what it does. */
void rdt_config_print(FILE *to);

#endif
