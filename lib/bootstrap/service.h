/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rendezvous service as a child process, for launchers that bring none (torchrun): rank 0 runs
 * the program `rdtrain rendezvous`, found by RDTRAIN_PROGRAM or in PATH.
 */
#ifndef RDT_SERVICE_H
#define RDT_SERVICE_H

#include <sys/types.h>

#include "lib/bootstrap/bootstrap.h"

/*
 * Starts the service on identity->rendezvous and returns when it listens. It ends with this
 * process, or once its last member has left. UNREACHABLE with what it said when it cannot serve.
 */
int rdt_service_start(const struct rdt_identity *identity, int64_t deadline, pid_t *pid);

/* Ends the service now. */
void rdt_service_stop(pid_t pid);

/* Lets the service end by itself, when its members have gone, until the deadline; then stops it. */
void rdt_service_finish(pid_t pid, int64_t deadline);

#endif
