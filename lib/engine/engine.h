/* SPDX-License-Identifier: BSD-3-Clause */
/* The engine: runs programs over links. It neither waits nor allocates. */
#ifndef RDT_ENGINE_H
#define RDT_ENGINE_H

#include "program.h"

/* Begins an operation; the program must not be running. Sends nothing yet. */
void rdt_engine_start(struct rdt_program *program);

/*
 * Does every step that can be done now. Returns how many it did, or a negative status when a put
 * failed. program->running is false once the operation is over: every wait satisfied, and every put
 * locally complete, so that INPUT may be written again.
 */
int rdt_engine_advance(struct rdt_program *program);

/* Calls `tell` with each peer that the program cannot go on without; a peer may be told twice. */
void rdt_engine_waits_for(const struct rdt_program *program, void (*tell)(void *arg, int peer),
			  void *arg);

#endif
