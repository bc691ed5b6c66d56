/* SPDX-License-Identifier: BSD-3-Clause */
/* Room for the records of RDTRAIN_CHECK=1 (lib/engine/check.h) behind a plan's scratch, and what
 * peers are told of it. All of them do nothing without that setting. Private to lib/comm. */
#ifndef RDT_COMM_RECORDS_H
#define RDT_COMM_RECORDS_H

#include "comm.h"

/* Once the program has its schedules and links. */
int rdt_records_make(rdt_plan *plan);
void rdt_records_free(rdt_plan *plan);
/* Where the records lie, behind `bytes` of scratch; returns how many bytes there are with them. */
uint64_t rdt_records_place(rdt_plan *plan, uint64_t bytes);
/* Do they suit the schedules that a varying plan has got? */
int rdt_records_fit(const rdt_plan *plan);

/* At most how many bytes _export writes. */
size_t rdt_records_blob(const rdt_comm *comm);
size_t rdt_records_export(const rdt_plan *plan, unsigned char *blob);
/* What the peer of link `l` has exported; *at: how long that was. */
int rdt_records_import(rdt_plan *plan, int l, const unsigned char *blob, size_t length, size_t *at);

#endif
