/* SPDX-License-Identifier: BSD-3-Clause */
/* rdtrain perf --calibrate: measures the costs by which algorithms are chosen. */
#ifndef RDT_CALIBRATE_H
#define RDT_CALIBRATE_H

#include "tools/perf.h"

/*
 * Collective, of two ranks or more. Rank 0 writes the model to `file` and prints how near its
 * predictions come. INVALID when the file cannot be written or there is one rank only.
 */
int perf_calibrate(rdt_comm *comm, const char *file);

#endif
