/* SPDX-License-Identifier: BSD-3-Clause */
/* Times rdt_allreduce; see bench.h.
 * usage: rdtrain_allreduce FROM TO FACTOR [alloc|malloc [blocking|plan]] */
#include <string.h>

#include <rdtrain/rdtrain.h>

#include "bench.h"

static rdt_comm *comm;
static rdt_plan *plans[BENCH_BUFFERS];

static void must(int status)
{
	if (!status)
		return;
	fprintf(stderr, "%s\n", rdt_last_error());
	exit(1);
}

static void make_plan(float *buffer, size_t count, int which)
{
	rdt_plan_destroy(plans[which]);
	must(rdt_allreduce_plan(comm, buffer, buffer, count, RDT_FLOAT32, RDT_SUM, &plans[which]));
}

static void run_plan(float *buffer, size_t count, int which)
{
	(void)buffer;
	(void)count;
	must(rdt_plan_start(plans[which]));
	must(rdt_plan_wait(plans[which]));
}

static void call(float *buffer, size_t count, int which)
{
	(void)which;
	must(rdt_allreduce(comm, buffer, buffer, count, RDT_FLOAT32, RDT_SUM));
}

static void barrier(void)
{
	must(rdt_barrier(comm));
}

static void largest(double *samples, int n)
{
	must(rdt_allreduce(comm, samples, samples, (size_t)n, RDT_FLOAT64, RDT_MAX));
}

int main(int argc, char **argv)
{
	struct bench b = { .allreduce = call, .barrier = barrier, .largest = largest };
	size_t from = bench_size(argc, argv, 1, 8), to = bench_size(argc, argv, 2, 64u << 20);

	must(rdt_comm_create(NULL, &comm));
	b.rank = rdt_comm_rank(comm);
	if (argc > 4 && strcmp(argv[4], "malloc") == 0)
		b.pool = aligned_alloc(4096, bench_pool(to));
	else
		must(rdt_alloc(comm, bench_pool(to), (void **)&b.pool));
	if (argc > 5 && strcmp(argv[5], "plan") == 0) {
		b.prepare = make_plan;
		b.allreduce = run_plan;
	}
	bench_run(&b, from, to, argc > 3 ? atof(argv[3]) : 1);
	rdt_comm_destroy(comm);
	return 0;
}
