/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bootstrap: how the ranks of a job meet, before any of them can write to another. A small store
 * with a fence, and a watch for members that are lost. Knows nothing of transports or collectives.
 * The implementation here is the client of the project's rendezvous service (client*.c, wire.c,
 * tls.c); the service itself is server*.c, which only the program `rdtrain` links.
 *
 * One thread at a time. Functions return 0 or a negative enum rdt_status with the sentence set.
 */
#ifndef RDT_BOOTSTRAP_H
#define RDT_BOOTSTRAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rdtrain/rdtrain.h>

#define RDT_KEY_MAX 64	      /* bytes of a key, with its terminator */
#define RDT_BLOB_MAX 16384    /* bytes of a value */
#define RDT_SIGNATURE_MAX 256 /* bytes of a fence's signature text, with its terminator */
#define RDT_WORLD_MAX 65536
#define RDT_JOB_NONCE_BYTES 16

struct rdt_bootstrap; /* begins with `ops` */

/* Who this process is, and where the others are to be met. */
struct rdt_identity {
	int rank, world;
	char rendezvous[256]; /* HOST:PORT, [v6]:PORT */
	char job[64];
	char secret[256];   /* "" when there is none */
	char source[128];   /* who said so: "options", "RDTRAIN_*", "torchrun", "no launcher" */
	bool start_service; /* rank 0 under torchrun: the service is this rank's to start */
	bool join; /* no rank yet: to be admitted to a later generation of the job that runs */
};

/*
 * Settles rank, world and rendezvous from the options (may be NULL), RDTRAIN_*, or torchrun's
 * variables, in this order; a process without any of them is a world of one. Half a set of
 * variables is RDT_ERR_INVALID, naming the missing one.
 */
int rdt_identity_find(const struct rdt_options *options, struct rdt_identity *identity);

enum rdt_bootstrap_event_kind {
	RDT_EVENT_LOST,	   /* a member's connection ended without a good-bye: it is dead */
	RDT_EVENT_LEFT,	   /* a member said good-bye */
	RDT_EVENT_ABORT,   /* a member called abort; text says why */
	RDT_EVENT_SERVICE, /* the service itself is gone; text says how it was noticed. Loss of
			    * members is no longer noticed through it; links that are up go on
			    * working */
};

struct rdt_bootstrap_event {
	enum rdt_bootstrap_event_kind kind;
	int rank;
	char text[512];
};

/* How the job has ended, the same for every member. */
struct rdt_verdict {
	int status;
	int rank; /* who found it; -1: the service */
	const char *text;
	const unsigned char *lost; /* one bit a rank */
};

/* What a rank brings when it regroups, bits. */
enum rdt_regroup_kind {
	RDT_REGROUP_STANDS = 1, /* it has joined the generation that was agreed on last */
	RDT_REGROUP_ADMIT = 2,	/* the job is well, and takes in who waits; else: survivors */
};

enum rdt_generation_kind {
	RDT_GROUP_STANDS = 1,	   /* all have joined the generation: it is made */
	RDT_GROUP_LEFT_BEHIND = 2, /* processes that live were left behind */
	RDT_GROUP_NOBODY = 4,	   /* there is nobody to admit (any more) */
};

/* The next generation, as agreed on. */
struct rdt_generation {
	unsigned kind; /* enum rdt_generation_kind */
	int rank, world;
	char job[64];
};

/* What a fence found. */
struct rdt_fence {
	uint64_t flags; /* every rank's flags, ANDed */
	bool equal;	/* all signatures were equal */
	/* when not equal: two ranks that differ, and what they said */
	int rank_a, rank_b;
	char signature_a[RDT_SIGNATURE_MAX], signature_b[RDT_SIGNATURE_MAX];
};

struct rdt_bootstrap_ops {
	size_t size;
	const char *name;

	/*
	 * Connects, authenticates and joins as identity->rank; retries a refused connection until
	 * the deadline (rdt_now() time). Returns at once when this rank is in; the others may still
	 * be on their way. AUTH: secret wrong or missing (within a second). MISMATCH: another world
	 * size than the ranks before. INVALID: the rank is taken. UNREACHABLE: nobody there until
	 * the deadline.
	 */
	int (*open)(const struct rdt_identity *identity, int64_t deadline,
		    struct rdt_bootstrap **b);

	/* Random bytes made by the service for this job and incarnation, the same for all its
	 * members. They are settled when the first fence is. */
	void (*nonce)(struct rdt_bootstrap *b, unsigned char nonce[RDT_JOB_NONCE_BYTES]);

	/* Stores a value under (my rank, key); a key is put once. */
	int (*put)(struct rdt_bootstrap *b, const char *key, const void *value, size_t length);
	/* The others have read what this rank has put under `key`: the service may drop it. Waits
	 * for nothing, and a key that was never put is no error. */
	int (*forget)(struct rdt_bootstrap *b, const char *key);
	/* Waits until (rank, key) has been put, and reads it: at most *length bytes, the real
	 * length into *length. PEER_LOST, ABORTED as soon as the watch says so. */
	int (*get)(struct rdt_bootstrap *b, int rank, const char *key, void *value, size_t *length,
		   int64_t deadline);
	/*
	 * get() that does not wait for the put: 1, or 0 when (rank, key) has not been put yet. What
	 * it does wait for is the service's answer, which comes at once; idle() is not called.
	 */
	int (*look)(struct rdt_bootstrap *b, int rank, const char *key, void *value,
		    size_t *length);
	/*
	 * Waits for every member's fence of the same number (the k-th fence of one rank meets the
	 * k-th of the others) and combines what they brought. Signatures are text; unequal ones are
	 * no error here: the answer comes at once, and the caller words the error. TIMEOUT names
	 * the ranks that did not come.
	 * A member that waits in its first fence, and has put and asked nothing before, outlives
	 * the service's end: it joins the next service at the same place, until the deadline. Not
	 * so in a part or a later generation of a job ("job/...").
	 */
	int (*fence)(struct rdt_bootstrap *b, const char *signature, uint64_t flags,
		     struct rdt_fence *result, int64_t deadline);
	/*
	 * While get() and fence() wait, they call idle(arg) at least every millisecond, so that
	 * what the caller has in flight goes on: peers may need it before they can come to the
	 * fence themselves. It returns how much it did, or a negative status, which ends the wait
	 * and is its result; it must not call watch(), and look() only while fence() waits. NULL:
	 * nothing to do meanwhile.
	 */
	void (*set_idle)(struct rdt_bootstrap *b, int (*idle)(void *arg), void *arg);
	/*
	 * Tells all members that the job has failed, and which ranks this one holds for lost (one
	 * bit each; NULL: none). Does not wait. The first to say so counts; every member that hears
	 * of a failure answers with an abort of its own.
	 */
	int (*abort)(struct rdt_bootstrap *b, int status, const unsigned char *lost,
		     const char *why);
	/* The verdict on a failure: 1 and *verdict, which stays valid; 0: not yet; negative: the
	 * service is gone. Does not wait. */
	int (*verdict)(struct rdt_bootstrap *b, struct rdt_verdict *verdict);

	/*
	 * Agrees with the other members on a next generation: round by round, until all that came
	 * have joined what was agreed on in the round before. `kind`: enum rdt_regroup_kind. Every
	 * round is answered alike to all. Who does not come while there is time is left behind, and
	 * an error tells it so when it comes.
	 */
	int (*regroup)(struct rdt_bootstrap *b, unsigned kind, struct rdt_generation *group,
		       int64_t deadline);
	/* Has one of the group gone since it was agreed on? Then all regroup. */
	bool (*broken)(struct rdt_bootstrap *b);
	/* How many wait to be admitted, as last heard. */
	int (*waiting)(struct rdt_bootstrap *b);
	/* `next` rests on the service that `b` started, if it did: the service is let go when both
	 * have been closed. */
	void (*bequeath)(struct rdt_bootstrap *b, struct rdt_bootstrap *next);

	/* Poll this for reading, then call watch(). -1 when the service is gone. */
	int (*fd)(struct rdt_bootstrap *b);
	/* Call watch() by then (rdt_now() time), whatever there is to read: it also asks whether
	 * the service's host is still there. INT64_MAX: no more. */
	int64_t (*watch_by)(struct rdt_bootstrap *b);
	/* Takes the next event, without waiting: 1 and *event, or 0. Events seen during get() and
	 * fence() are kept and handed out here. */
	int (*watch)(struct rdt_bootstrap *b, struct rdt_bootstrap_event *event);

	/* Says good-bye when `orderly` (else the others will see this rank as lost) and frees. */
	void (*close)(struct rdt_bootstrap *b, bool orderly);
};

extern const struct rdt_bootstrap_ops rdt_rendezvous_ops;

#endif
