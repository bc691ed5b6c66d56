/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Running the schedule of collectives/board.c, one window of it, where all peers' boards are mapped
 * here: in one cache line each way. The number of the run stands at the beginning of a board and
 * takes the place of the notification, so that a small vector and the news of it travel together.
 * Everybody else asks
 * lib/engine/engine.h; lib/comm/request.c comes here for what it does in a hurry.
 */
#ifndef RDT_BOARD_H
#define RDT_BOARD_H

#include "program.h"

/* Can this program, bound and with its links' memory mapped, run like that? Alike on all ranks. */
bool rdt_board_suits(const struct rdt_program *program);

void rdt_board_start(struct rdt_program *program);
/* How many things it did; program->running is false when it is over. */
int rdt_board_advance(struct rdt_program *program);
void rdt_board_waits_for(const struct rdt_program *program, void (*tell)(void *arg, int peer),
			 void *arg);

#endif
