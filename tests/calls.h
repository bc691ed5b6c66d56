/* SPDX-License-Identifier: BSD-3-Clause */
/* Every collective of rdtrain.h in every form, behind one function: for tests that go through them
 * all. */
#ifndef RDT_TEST_CALLS_H
#define RDT_TEST_CALLS_H

#include <rdtrain/rdtrain.h>

enum test_form { TEST_BLOCKING, TEST_START, TEST_PLAN, TEST_FORMS };

enum test_kind {
	TEST_ALLREDUCE,
	TEST_REDUCE_SCATTER,
	TEST_REDUCE_SCATTERV,
	TEST_ALLGATHER,
	TEST_ALLGATHERV,
	TEST_BROADCAST,
	TEST_REDUCE,
	TEST_GATHER,
	TEST_GATHERV,
	TEST_SCATTER,
	TEST_SCATTERV,
	TEST_ALLTOALL,
	TEST_ALLTOALLV,
	TEST_BARRIER,
	TEST_COLLECTIVES, /* those before are collective */
	TEST_SEND = TEST_COLLECTIVES,
	TEST_RECV,
	TEST_KINDS
};

struct test_call {
	enum test_kind kind;
	const void *in;
	void *out; /* broadcast: the buffer */
	size_t count;
	const size_t *counts, *out_counts; /* of the v functions; out_counts: alltoallv */
	enum rdt_type type;
	enum rdt_op op;
	int root; /* send, receive: the peer */
};

static inline const char *test_kind_name(enum test_kind kind)
{
	static const char *const names[TEST_KINDS] = {
		"allreduce", "reduce_scatter", "reduce_scatterv", "allgather", "allgatherv",
		"broadcast", "reduce",	       "gather",	  "gatherv",   "scatter",
		"scatterv",  "alltoall",       "alltoallv",	  "barrier",   "send",
		"recv",
	};

	return names[kind];
}

static inline const char *test_form_name(enum test_form form)
{
	static const char *const names[TEST_FORMS] = { "blocking", "start", "plan" };

	return names[form];
}

/* Makes the call in one form; *request is set by TEST_START, *plan by TEST_PLAN. */
static inline int test_make(rdt_comm *comm, const struct test_call *c, enum test_form form,
			    rdt_request **request, rdt_plan **plan)
{
#define FORM(name, ...)                                                                            \
	(form == TEST_BLOCKING ? rdt_##name(comm, __VA_ARGS__)                                     \
	 : form == TEST_START  ? rdt_##name##_start(comm, __VA_ARGS__, request)                    \
			       : rdt_##name##_plan(comm, __VA_ARGS__, plan))
	switch (c->kind) {
	case TEST_ALLREDUCE: return FORM(allreduce, c->in, c->out, c->count, c->type, c->op);
	case TEST_REDUCE_SCATTER:
		return FORM(reduce_scatter, c->in, c->out, c->count, c->type, c->op);
	case TEST_REDUCE_SCATTERV:
		return FORM(reduce_scatterv, c->in, c->out, c->counts, c->type, c->op);
	case TEST_ALLGATHER: return FORM(allgather, c->in, c->out, c->count, c->type);
	case TEST_ALLGATHERV: return FORM(allgatherv, c->in, c->out, c->counts, c->type);
	case TEST_BROADCAST: return FORM(broadcast, c->out, c->count, c->type, c->root);
	case TEST_REDUCE: return FORM(reduce, c->in, c->out, c->count, c->type, c->op, c->root);
	case TEST_GATHER: return FORM(gather, c->in, c->out, c->count, c->type, c->root);
	case TEST_GATHERV: return FORM(gatherv, c->in, c->out, c->counts, c->type, c->root);
	case TEST_SCATTER: return FORM(scatter, c->in, c->out, c->count, c->type, c->root);
	case TEST_SCATTERV: return FORM(scatterv, c->in, c->out, c->counts, c->type, c->root);
	case TEST_ALLTOALL: return FORM(alltoall, c->in, c->out, c->count, c->type);
	case TEST_ALLTOALLV:
		return FORM(alltoallv, c->in, c->counts, c->out, c->out_counts, c->type);
	case TEST_BARRIER:
		return form == TEST_BLOCKING ? rdt_barrier(comm)
		       : form == TEST_START  ? rdt_barrier_start(comm, request)
					     : rdt_barrier_plan(comm, plan);
	case TEST_SEND: return FORM(send, c->in, c->count, c->type, c->root);
	case TEST_RECV: return FORM(recv, c->out, c->count, c->type, c->root);
	default: return RDT_ERR_INVALID;
	}
#undef FORM
}

/* Makes the call, and waits: a plan is started once and destroyed. The first failure. */
static inline int test_run(rdt_comm *comm, const struct test_call *c, enum test_form form)
{
	rdt_request *request = NULL;
	rdt_plan *plan = NULL;
	int status = test_make(comm, c, form, &request, &plan);

	if (status || form == TEST_BLOCKING)
		return status;
	if (form == TEST_START)
		return rdt_wait(request);
	status = rdt_plan_start(plan);
	if (!status)
		status = rdt_plan_wait(plan);
	rdt_plan_destroy(plan);
	return status;
}

#endif
