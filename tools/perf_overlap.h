/* SPDX-License-Identifier: BSD-3-Clause */
/* rdtrain perf --overlap: how much of an allreduce hides behind computation. */
#ifndef RDT_PERF_OVERLAP_H
#define RDT_PERF_OVERLAP_H

#include "tools/perf.h"

/* Collective. Rank 0 prints a line for each size. */
int perf_overlap(const struct perf_settings *settings, rdt_comm *comm);

#endif
