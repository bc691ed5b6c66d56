/* SPDX-License-Identifier: BSD-3-Clause */
/* See fault.h. One process has one fault, whatever communicators and transports it has. */
#include "fault.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/transport/transport.h"

#define DELAY_NS 30000000

extern const struct rdt_transport_ops __real_rdt_shm_ops, __real_rdt_rails_ops;
extern struct rdt_transport_ops __wrap_rdt_shm_ops, __wrap_rdt_rails_ops;
struct rdt_transport_ops __wrap_rdt_shm_ops, __wrap_rdt_rails_ops;

static struct fault armed;
static uint64_t steps;
static bool happened;
static int64_t held_until;   /* DELAY; 0: not held */
static int failed_peer = -1; /* ERROR: nothing gets to this one any more; -1: none */
static bool failed;	     /* until it is told */
static char *flipped;	     /* the put with the wrong bit */

uint64_t fault_dice(uint64_t *seed, uint64_t n)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (z ^ z >> 31) % n;
}

const char *fault_name(enum fault_kind kind)
{
	static const char *const names[] = { "none",	    "lost put",
					     "late put",    "double notification",
					     "flipped bit", "completion error",
					     "death" };

	return names[kind];
}

void fault_arm(const struct fault *fault)
{
	armed = fault ? *fault : (struct fault){ 0 };
	steps = 0;
	happened = failed = false;
	failed_peer = -1;
	held_until = 0;
}

uint64_t fault_steps(void)
{
	return steps;
}

bool fault_happened(void)
{
	return happened;
}

/* A copy with the wrong bit; the transport takes it as memory that is not registered, and copies
 * it once more. */
static int put_flipped(const struct rdt_transport_ops *real, struct rdt_ep *ep,
		       const struct rdt_put *put)
{
	uint64_t dice = armed.seed, bit = fault_dice(&dice, put->length * 8);
	struct rdt_put wrong = *put;
	int status;

	if (!flipped)
		flipped = malloc(RDT_PUT_BOUNCE_MAX);
	if (!flipped || put->length > RDT_PUT_BOUNCE_MAX)
		abort();
	memcpy(flipped, put->src, put->length);
	flipped[bit / 8] = (char)(flipped[bit / 8] ^ 1 << bit % 8);
	wrong.src = flipped;
	wrong.region = NULL;
	status = real->put(ep, &wrong);
	happened = status == 0;
	return status;
}

/* The notification once more. */
static int put_double(const struct rdt_transport_ops *real, struct rdt_ep *ep,
		      const struct rdt_put *put)
{
	struct rdt_put again = { .channel = put->channel, .flags = put->flags };
	int status = real->put(ep, put);

	if (status || put->flags & RDT_PUT_SILENT)
		return status;
	while ((status = real->put(ep, &again)) == RDT_AGAIN) {
		status = real->progress(rdt_ep_head(ep)->transport);
		if (status < 0)
			return status;
	}
	happened = status == 0;
	return status;
}

static int put_late(const struct rdt_transport_ops *real, struct rdt_ep *ep,
		    const struct rdt_put *put)
{
	int64_t now = rdt_now();

	if (!held_until)
		held_until = now + DELAY_NS;
	if (now < held_until)
		return RDT_AGAIN;
	happened = true;
	return real->put(ep, put);
}

static int put(const struct rdt_transport_ops *real, struct rdt_ep *ep, const struct rdt_put *put)
{
	enum fault_kind kind = !happened && steps >= armed.step ? armed.kind : FAULT_NONE;
	int status = 0;

	/* A connection that had an error flushes what comes after. */
	if (happened && rdt_ep_head(ep)->peer == failed_peer) {
		rdt_ep_head(ep)->posted++;
		return 0;
	}
	switch (kind) {
	case FAULT_NONE: status = real->put(ep, put); break;
	case FAULT_DROP: happened = true; break;
	case FAULT_DELAY: status = put_late(real, ep, put); break;
	case FAULT_DOUBLE: status = put_double(real, ep, put); break;
	case FAULT_FLIP:
		status = put->length ? put_flipped(real, ep, put) : real->put(ep, put);
		break;
	case FAULT_ERROR:
		happened = failed = true;
		failed_peer = rdt_ep_head(ep)->peer;
		rdt_ep_head(ep)->posted++; /* and it will never be complete */
		break;
	case FAULT_DEATH: kill(getpid(), SIGKILL); break;
	}
	steps += status == 0;
	return status;
}

static int progress(const struct rdt_transport_ops *real, struct rdt_transport *transport)
{
	return failed ? RDT_ERR_SYSTEM : real->progress(transport);
}

static bool failure(const struct rdt_transport_ops *real, struct rdt_transport *transport,
		    struct rdt_transport_failure *out)
{
	if (!failed)
		return real->failure(transport, out);
	failed = false;
	*out = (struct rdt_transport_failure){ .status = RDT_ERR_SYSTEM, .peer = -1 };
	snprintf(out->text, sizeof(out->text), "a write to rank %d ended with an error (a test)",
		 failed_peer);
	return true;
}

/* What is held back will not wake anybody. */
static int arm(const struct rdt_transport_ops *real, struct rdt_transport *transport)
{
	int status = real->arm(transport);

	return status == 0 && held_until && !happened ? 1 : status;
}

/* The operations have no argument that says whose they are: one set for each transport. */
#define AROUND(name)                                                                               \
	static int name##_put(struct rdt_ep *ep, const struct rdt_put *p)                          \
	{                                                                                          \
		return put(&__real_rdt_##name##_ops, ep, p);                                       \
	}                                                                                          \
	static int name##_progress(struct rdt_transport *transport)                                \
	{                                                                                          \
		return progress(&__real_rdt_##name##_ops, transport);                              \
	}                                                                                          \
	static bool name##_failure(struct rdt_transport *transport,                                \
				   struct rdt_transport_failure *out)                              \
	{                                                                                          \
		return failure(&__real_rdt_##name##_ops, transport, out);                          \
	}                                                                                          \
	static int name##_arm(struct rdt_transport *transport)                                     \
	{                                                                                          \
		return arm(&__real_rdt_##name##_ops, transport);                                   \
	}                                                                                          \
	__attribute__((constructor)) static void name##_stand_around(void)                         \
	{                                                                                          \
		__wrap_rdt_##name##_ops = __real_rdt_##name##_ops;                                 \
		__wrap_rdt_##name##_ops.put = name##_put;                                          \
		__wrap_rdt_##name##_ops.progress = name##_progress;                                \
		__wrap_rdt_##name##_ops.failure = name##_failure;                                  \
		__wrap_rdt_##name##_ops.arm = name##_arm;                                          \
	}

AROUND(shm)
AROUND(rails)
