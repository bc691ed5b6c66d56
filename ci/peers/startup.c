/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How long it takes to begin: rank 0 prints, in milliseconds from the slowest rank, the making of
 * the communicator, the first allreduce of 8 bytes, and the second, which is one of many.
 */
#include <stdio.h>
#include <time.h>

#include <rdtrain/rdtrain.h>

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int allreduce(rdt_comm *comm, double *v)
{
	return rdt_allreduce(comm, v, v, 1, RDT_FLOAT64, RDT_SUM);
}

int main(void)
{
	double began = now_ms(), took[3], v = 1;
	rdt_comm *comm = NULL;
	int status = rdt_comm_create(NULL, &comm);

	took[0] = now_ms() - began;
	for (int i = 1; i < 3 && !status; i++) {
		began = now_ms();
		status = allreduce(comm, &v);
		took[i] = now_ms() - began;
	}
	if (!status)
		status = rdt_allreduce(comm, took, took, 3, RDT_FLOAT64, RDT_MAX);
	if (status)
		fprintf(stderr, "%s\n", rdt_last_error());
	else if (rdt_comm_rank(comm) == 0)
		printf("%d %.1f %.1f %.3f\n", rdt_comm_size(comm), took[0], took[1], took[2]);
	if (comm)
		rdt_comm_destroy(comm);
	return status != 0;
}
