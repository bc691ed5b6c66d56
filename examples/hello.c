/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The smallest program: every worker brings a vector, and all of them leave with the sum.
 *
 *	rdtrain run -n 3 -- ./hello
 */
#include <rdtrain/rdtrain.h>

#include <stdio.h>

#define COUNT 4

int main(void)
{
	float v[COUNT];
	rdt_comm *comm;
	int rank;

	/* NULL: who I am, and where the others are, comes from the environment. */
	if (rdt_comm_create(NULL, &comm)) {
		fprintf(stderr, "%s\n", rdt_last_error());
		return 1;
	}
	rank = rdt_comm_rank(comm);
	for (int i = 0; i < COUNT; i++)
		v[i] = (float)(rank * COUNT + i);

	/* in == out: the sum takes the place of what each worker brought. */
	if (rdt_allreduce(comm, v, v, COUNT, RDT_FLOAT32, RDT_SUM)) {
		fprintf(stderr, "rank %d: %s\n", rank, rdt_last_error());
		return 1;
	}
	printf("rank %d of %d: the sum is %g %g %g %g\n", rank, rdt_comm_size(comm), v[0], v[1],
	       v[2], v[3]);
	rdt_comm_destroy(comm);
	return 0;
}
