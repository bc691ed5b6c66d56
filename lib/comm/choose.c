/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which algorithm a call gets. Only what is equal on all ranks may count here: the call's
 * arguments, what was agreed when the plan was made, rank 0's settings.
 */
#include "comm.h"

#include <string.h>

#include "shape.h"

static int list(rdt_comm *comm, const struct rdt_shaper *s, enum rdt_collective collective,
		char *text, size_t size)
{
	size_t used = 0;
	int n = 0;

	text[0] = '\0';
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++)
		if (a->collective == collective &&
		    rdt_algorithm_applies(a, comm->size, &s->shape) && used < size)
			used += (size_t)snprintf(text + used, size - used, "%s%s", n++ ? ", " : "",
						 a->name);
	return n;
}

static const struct rdt_algorithm *forced(rdt_comm *comm, const struct rdt_call *call,
					  const struct rdt_shaper *s, const char *name)
{
	const struct rdt_algorithm *a = rdt_algorithm_find(call->collective, name);
	const char *collective = rdt_collective_name(call->collective);
	char others[256];

	if (a && rdt_algorithm_applies(a, comm->size, &s->shape))
		return a;
	list(comm, s, call->collective, others, sizeof(others));
	rdt_err(RDT_ERR_INVALID,
		a ? "the algorithm \"%s\" that was asked for does not apply to this %s (its hosts, "
		    "memory or block lengths); these do: %s"
		  : "there is no algorithm \"%s\" for %s; these apply: %s",
		name, collective, others);
	return NULL;
}

const struct rdt_algorithm *rdt_choose(rdt_comm *comm, const struct rdt_call *call,
				       const struct rdt_shaper *s)
{
	const char *name = comm->config.algorithm[call->collective];

	if (*name)
		return forced(comm, call, s, name);
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++)
		if (a->collective == call->collective &&
		    rdt_algorithm_applies(a, comm->size, &s->shape))
			return a;
	rdt_err(RDT_ERR_INVALID, "no algorithm for %s applies to this communicator",
		rdt_collective_name(call->collective));
	return NULL;
}
