/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A transport for tests: all ranks live in one process and one thread, and a put is delivered when
 * the test says so, by the dice of a seed. It reads its source and writes its target only then,
 * completes later still, and refuses some puts for want of room. Puts of one pair arrive in order,
 * as on a queue pair; everything else may overtake.
 */
#ifndef RDT_TEST_FAKE_H
#define RDT_TEST_FAKE_H

#include "lib/transport/transport.h"

#define FAKE_RANKS 16

struct fake_net;

struct fake_net *fake_net_new(int ranks, uint64_t seed);
void fake_net_free(struct fake_net *net);
/* The transport of one rank, for use with fake_ops. */
struct rdt_transport *fake_transport(struct fake_net *net, int rank);
/* The endpoint from one rank to another. */
struct rdt_ep *fake_ep(struct fake_net *net, int from, int to);
/* Memory as a peer would import it; freed with the net. */
struct rdt_remote *fake_remote(struct fake_net *net, void *base, size_t bytes);

/* Delivers or completes one thing, by the dice. False when nothing is under way. */
bool fake_step(struct fake_net *net);
/* 0..n-1 from the same dice. */
unsigned fake_dice(struct fake_net *net, unsigned n);
/* Nothing is under way any more. */
bool fake_idle(const struct fake_net *net);

extern const struct rdt_transport_ops fake_ops;

#endif
