/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which algorithm a call gets. Only what is equal on all ranks may count here: the call's
 * arguments, what was agreed when the plan was made, rank 0's settings and model.
 */
#include "comm.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "collectives/select.h"

#include "shape.h"

/* One for each agreement about buffers: peers may put into OUTPUT, buffers are mapped. */
struct rdt_chooser {
	struct rdt_model model;
	struct rdt_selector *selectors[4];
};

int rdt_chooser_open(rdt_comm *comm, const struct rdt_model *model)
{
	comm->chooser = calloc(1, sizeof(*comm->chooser));
	if (!comm->chooser)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for the choice of algorithms");
	comm->chooser->model = *model;
	return 0;
}

void rdt_chooser_close(rdt_comm *comm)
{
	for (int i = 0; comm->chooser && i < 4; i++)
		free(comm->chooser->selectors[i]);
	free(comm->chooser);
	comm->chooser = NULL;
}

static struct rdt_simulation simulation_of(const rdt_comm *comm, const struct rdt_shape *shape)
{
	return (struct rdt_simulation){
		.model = &comm->chooser->model,
		.ranks = comm->size,
		.ranks_per_host = comm->host ? 0 : 1,
		.host = comm->host,
		.elem_size = 4,
		.remote_output = shape->remote_output,
		.mapped = shape->mapped,
		.window = comm->config.window,
		.checked = comm->config.check,
	};
}

/* The bytes by which the simulator measures a call. */
static uint64_t measure(const rdt_comm *comm, const struct rdt_shaper *s)
{
	bool blocks = rdt_collective_blocks(s->call->collective);

	return s->longest * (blocks ? (uint64_t)comm->size : 1);
}

/* *out NULL: not known, on no rank. NOMEM is this rank's alone: it must not choose otherwise than
 * the others. */
static int fastest(rdt_comm *comm, const struct rdt_shaper *s, const struct rdt_algorithm **out)
{
	int index = s->shape.remote_output + 2 * s->shape.mapped;
	struct rdt_selector **selector = &comm->chooser->selectors[index];

	if (!*selector) {
		struct rdt_simulation what = simulation_of(comm, &s->shape);

		*selector = malloc(sizeof(**selector));
		if (!*selector)
			goto no_memory;
		rdt_selector_init(*selector, &what, comm->config.rank_order);
	}
	*out = rdt_select(*selector, s->call->collective, measure(comm, s), &s->shape);
	if (*out || !(*selector)->no_memory)
		return 0;
no_memory:
	return rdt_err(RDT_ERR_NOMEM, "out of memory for the choice of algorithms");
}

static void list(const rdt_comm *comm, const struct rdt_shaper *s, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++)
		if (a->collective == s->call->collective &&
		    rdt_algorithm_applies(a, comm->size, &s->shape) && used < size)
			used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "",
						 a->name);
}

/* Is RDTRAIN_CHECK=1 all that is against it? */
static bool unchecked(const rdt_comm *comm, const struct rdt_shaper *s,
		      const struct rdt_algorithm *a)
{
	struct rdt_shape shape = s->shape;

	shape.host = comm->host;
	return comm->config.check && rdt_algorithm_applies(a, comm->size, &shape);
}

/* Rank 0's RDTRAIN_ALLREDUCE and the like. */
static const struct rdt_algorithm *forced(const rdt_comm *comm, const struct rdt_shaper *s,
					  const char *name)
{
	enum rdt_collective collective = s->call->collective;
	const struct rdt_algorithm *a = rdt_algorithm_find(collective, name);
	bool ordered = !comm->config.rank_order || !rdt_collective_reduces(collective) ||
		       (a && a->flags & RDT_ALG_RANK_ORDER);
	char others[256];

	if (a && ordered && rdt_algorithm_applies(a, comm->size, &s->shape))
		return a;
	list(comm, s, others, sizeof(others));
	rdt_err(RDT_ERR_INVALID, "the setting for %s asks for the algorithm \"%s\": %s; %s apply",
		rdt_collective_name(collective), name,
		!a	   ? "there is none of that name"
		: !ordered ? "it does not sum in the order of ranks, as RDTRAIN_RANK_ORDER asks"
		: unchecked(comm, s, a)
			? "it reads in other ranks' memory, of which RDTRAIN_CHECK=1 can check "
			  "nothing"
			: "it does not suit these hosts, memory or block lengths",
		others);
	return NULL;
}

void rdt_choice_force(rdt_comm *comm, enum rdt_collective collective, const char *name)
{
	snprintf(comm->config.algorithm[collective], RDT_ALGORITHM_NAME, "%s", name);
}

int rdt_choose(rdt_comm *comm, const struct rdt_shaper *s, const struct rdt_algorithm **out)
{
	enum rdt_collective collective = s->call->collective;
	const char *name = comm->config.algorithm[collective];
	const struct rdt_algorithm *a = NULL;

	*out = NULL;
	if (*name) {
		*out = forced(comm, s, name);
		return *out ? 0 : RDT_ERR_INVALID;
	}
	/* Alone there is nothing to choose. */
	if (comm->size > 1) {
		int status = fastest(comm, s, &a);

		if (status)
			return status;
	}
	for (const struct rdt_algorithm *other = rdt_algorithms; !a && other->name; other++) {
		unsigned needed = comm->config.rank_order && rdt_collective_reduces(collective)
					  ? RDT_ALG_RANK_ORDER
					  : 0;

		if (other->collective == collective && (other->flags & needed) == needed &&
		    rdt_algorithm_applies(other, comm->size, &s->shape))
			a = other;
	}
	*out = a;
	return a ? 0
		 : rdt_err(RDT_ERR_INVALID, "no algorithm for %s applies to this communicator",
			   rdt_collective_name(collective));
}

int rdt_predicted(rdt_comm *comm, const struct rdt_call *call, const struct rdt_agreed *agreed,
		  uint64_t *time_ps)
{
	enum rdt_simulated outcome = RDT_SIMULATE_TOO_BIG;
	struct rdt_prediction prediction;
	const struct rdt_algorithm *algorithm;
	struct rdt_simulation what;
	struct rdt_shaper shaper;
	int status;

	*time_ps = UINT64_MAX;
	if (!comm->chooser)
		return 0;
	status = rdt_shaper_open(&shaper, comm, call, agreed);
	if (status)
		return status;
	status = rdt_choose(comm, &shaper, &algorithm);
	what = simulation_of(comm, &shaper.shape);
	what.bytes = measure(comm, &shaper);
	if (!status)
		outcome = rdt_simulate(algorithm, &what, &prediction);
	rdt_shaper_close(&shaper);
	if (outcome == RDT_SIMULATE_NO_MEMORY)
		return rdt_err(RDT_ERR_NOMEM, "out of memory to predict a time");
	if (outcome == RDT_SIMULATED)
		*time_ps = prediction.time_ps;
	return status == RDT_ERR_INVALID ? 0 : status;
}

void rdt_choice_explain(rdt_comm *comm, const struct rdt_shaper *s, char *text, size_t size)
{
	struct rdt_candidate candidates[RDT_CANDIDATES];
	struct rdt_simulation what;
	size_t used = 0;
	int n;

	text[0] = '\0';
	if (!comm->chooser)
		return;
	what = simulation_of(comm, &s->shape);
	what.bytes = measure(comm, s);
	n = rdt_predict(&what, s->call->collective, comm->config.rank_order, candidates);
	for (int i = 0; i < n && used < size; i++)
		if (candidates[i].outcome == RDT_SIMULATED &&
		    rdt_algorithm_applies(candidates[i].algorithm, comm->size, &s->shape))
			used += (size_t)snprintf(
				text + used, size - used, "%s%s %.1f us",
				used ? ", " : "; predicted: ", candidates[i].algorithm->name,
				(double)candidates[i].prediction.time_ps / 1e6);
}
