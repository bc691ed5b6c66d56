/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One-sided access: memory of each rank that the others read, write and change atomically, while
 * its owner computes, sleeps or is in no call of the library at all. On verbs these are RDMA reads,
 * writes and atomics; on one host, loads and stores to mapped memory.
 *
 * A window outlives losses. It has connections of its own, so it goes on when its communicator has
 * failed, and a lost peer fails only what concerns that peer, with RDT_ERR_PEER_LOST:
 * rdt_window_lost() says who is lost.
 *
 * Order: puts and atomics of one rank to one peer take effect in the order of the calls, and a get
 * or an atomic sees what the same rank has put there before. A put may overtake an earlier get of
 * the same place: flush between the two. Between ranks only atomics and flushes order anything.
 *
 * Atomics are atomic with each other, whoever calls them, also the owner of the word, and not with
 * puts, nor with stores of the owner's program. On verbs they all go through the owner's device,
 * the owner's own included, because a device and a processor need not be atomic with each other;
 * a window whose ranks are on several hosts is reached by verbs everywhere, also within a host.
 * What the owner reads with plain loads is what had arrived; read words that change with
 * __atomic_load_n() or the like.
 *
 * Threads: a window is used by one thread at a time; it is independent of its communicator and of
 * other windows.
 */
#ifndef RDTRAIN_WINDOW_H
#define RDTRAIN_WINDOW_H

#include <rdtrain/rdtrain.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

typedef struct rdt_window rdt_window;

/*
 * Exposes `bytes` of this rank's memory, which may differ from rank to rank and be 0. base NULL:
 * memory of the library, zeroed; else memory of the caller, 8-byte aligned, which must stay until
 * rdt_window_destroy. On one host, peers reach with every call what came from the library (here or
 * through rdt_alloc of `comm`); memory of another origin they can put and get where the system
 * permits process_vm_readv, and not change atomically (INVALID). Collective.
 * Errors: as rdt_comm_create; a failure leaves `comm` as it was.
 */
int rdt_window_create(rdt_comm *comm, void *base, size_t bytes, rdt_window **window);

/* This rank's memory; NULL when it has 0 bytes. */
void *rdt_window_base(const rdt_window *window);
/* Bytes that a rank exposes; 0 for a rank that does not exist. */
size_t rdt_window_bytes(const rdt_window *window, int rank);

/*
 * Copies into, or out of, `bytes` bytes at `offset` of `rank`, which may be this rank. Nonblocking:
 * `in` may be changed, and `out` holds the bytes, after the next rdt_window_flush of that rank
 * (they wait only for room in a queue). Local memory that is part of this rank's own exposed memory
 * is sent from, and received into, directly; other memory through a copy.
 */
int rdt_window_put(rdt_window *window, int rank, size_t offset, const void *in, size_t bytes);
int rdt_window_get(rdt_window *window, int rank, size_t offset, void *out, size_t bytes);

/*
 * Adds to, or, where it equals `expected`, replaces the 64-bit word at `offset`, a multiple of 8;
 * *old is what it was before. These two wait for the answer; old may be NULL. NO_DEVICE: the
 * device has no atomics.
 */
int rdt_window_fetch_add(rdt_window *window, int rank, size_t offset, uint64_t add, uint64_t *old);
int rdt_window_compare_swap(rdt_window *window, int rank, size_t offset, uint64_t expected,
			    uint64_t desired, uint64_t *old);
/* The same without waiting: *old is there after the next flush of that rank. */
int rdt_window_fetch_add_start(rdt_window *window, int rank, size_t offset, uint64_t add,
			       uint64_t *old);
int rdt_window_compare_swap_start(rdt_window *window, int rank, size_t offset, uint64_t expected,
				  uint64_t desired, uint64_t *old);

/*
 * Returns when everything that this rank has called for towards `rank` (-1: all ranks) is done,
 * here and there. PEER_LOST when something was not done because its rank is lost, whose rest is
 * given up; what concerned other ranks is done all the same. TIMEOUT: the deadline of the
 * communicator passed; puts and atomics may still be done later, and what was to be read is not
 * written to the caller's memory any more (unless that is the window's own).
 */
int rdt_window_flush(rdt_window *window, int rank);

/*
 * Which ranks are lost or have destroyed their window: as rdt_comm_lost. Looks for news, without
 * waiting.
 */
int rdt_window_lost(rdt_window *window, int *ranks, int max);

/*
 * Frees it, and memory that the library gave. Collective; waits at most 10 s for the others to
 * come, and not at all when one of them is lost: where that matters, agree through the window
 * before. NULL is allowed.
 */
void rdt_window_destroy(rdt_window *window);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
