/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What things cost on a machine: the LogGP model (Alexandrov, Ionescu, Schauser and Scheiman,
 * "LogGP: incorporating long messages into the LogP model", 1995), with a copying and a rendezvous
 * regime for libraries that have those, and the cost of local steps.
 *
 * All costs are integers, so that every machine predicts the same times and chooses the same
 * algorithm: times are in picoseconds, costs per byte in femtoseconds. The text form has both in
 * nanoseconds.
 *
 * A put of B bytes between hosts: the CPU of the sender is busy for `put`; then the network
 * interface for `gap` + B x `byte`, one message at a time; the first byte arrives `latency` later
 * and occupies the receiving interface for the same time, one message at a time there too; the
 * receiver's CPU is busy for `wait` when it consumes the notification. The sender's operation is
 * over `complete` after the arrival. Within a host the CPU of the sender copies for `put` +
 * B x `byte`, and the notification is visible `latency` later; gap, complete and the regimes are
 * not used there.
 *
 * Where a host has more ranks than `cores`, they take turns: a rank that waits is not there when
 * the notification comes, but goes on `turn` later, and each has its share of a processor only.
 * That is rdt_model_crowd().
 *
 * Where data are checked, both ends of a put hash it, and what has data is two puts: the data and a
 * record of them.
 */
#ifndef RDT_MODEL_H
#define RDT_MODEL_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum rdt_link_kind {
	RDT_LINK_HOST, /* between ranks of one host */
	RDT_LINK_NET,  /* between hosts */
	RDT_LINK_KINDS
};

struct rdt_link_cost {
	uint64_t latency;
	uint64_t put;	   /* CPU, for each put */
	uint64_t wait;	   /* CPU, for each notification consumed */
	uint64_t gap;	   /* interface, for each message */
	uint64_t byte;	   /* fs: interface (net) or sender's CPU (host), for each byte */
	uint64_t complete; /* from the arrival until the sender knows of it */
	/* Two-sided libraries only; all 0 for puts into registered memory. A message of up to
	 * `eager_max` bytes is copied by the CPU at both ends; a longer one is announced first. */
	uint64_t eager_max;  /* bytes */
	uint64_t eager_byte; /* fs: CPU, for each byte, at each end */
	uint64_t rendezvous; /* from the put to when its data may leave */
};

struct rdt_model {
	char name[32];
	struct rdt_link_cost link[RDT_LINK_KINDS];
	uint64_t reduce;      /* CPU, for each REDUCE */
	uint64_t reduce_byte; /* fs: CPU, for each byte of each source */
	uint64_t copy;	      /* CPU, for each COPY */
	uint64_t copy_byte;   /* fs: CPU, for each byte; also for each further destination of a
				 REDUCE */
	uint64_t memory_byte; /* fs: for each byte that the ranks of a host read or write together;
				 0: memory is never the limit */
	/* Only of an operation whose data are checked, RDTRAIN_CHECK=1: */
	uint64_t hash;	    /* CPU, at each end of each put: to hash what says what was put */
	uint64_t hash_byte; /* fs: CPU, at each end, for each byte put */
	uint64_t rails;	    /* network interfaces of a host; its ranks are dealt out to them */
	uint64_t cores;	    /* processors of a host; 0: one for each rank */
	uint64_t turn; /* until a rank that waits runs again, where there are fewer than ranks */
};

/* The costs to `ranks` that share a host. */
void rdt_model_crowd(struct rdt_model *model, int ranks);

/* The models that are built in, NULL-terminated; the first is the default. */
extern const struct rdt_model *const rdt_models[];

/* NULL: there is none of that name. */
const struct rdt_model *rdt_model_builtin(const char *name);

/*
 * Reads lines of "name = value", in nanoseconds or (eager_max, rails) whole numbers; # begins a
 * comment. "base = NAME" takes everything from a built-in model first; what is named nowhere is 0,
 * or 1 rail. `file` is for messages only. Returns 0; or -1 and the reason in `error`: which file
 * and line, and what to write instead.
 */
int rdt_model_parse(struct rdt_model *model, const char *file, const char *text, char *error,
		    size_t size);

/* In the form that rdt_model_parse() reads. */
void rdt_model_print(FILE *to, const struct rdt_model *model);

#endif
