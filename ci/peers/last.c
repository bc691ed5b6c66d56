/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Small allreduces of which rank 0 is always the last to come, so that its call never has to wait
 * and its instructions are those of the path alone. ci/costs counts them: callgrind collects inside
 * the one function that the call is. Built for MPI with -DWITH_MPI.
 * usage: last BYTES CALLS
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef WITH_MPI
#include <mpi.h>
#else
#include <rdtrain/rdtrain.h>

static rdt_comm *comm;
#endif

__attribute__((noinline)) void counted(float *v, int count)
{
#ifdef WITH_MPI
	MPI_Allreduce(MPI_IN_PLACE, v, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
#else
	if (rdt_allreduce(comm, v, v, (size_t)count, RDT_FLOAT32, RDT_SUM)) {
		fprintf(stderr, "%s\n", rdt_last_error());
		exit(1);
	}
#endif
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) / 4 : 2, calls = argc > 2 ? atoi(argv[2]) : 100, rank;
	const struct timespec later = { .tv_nsec = 2000000 };
	float *v;

#ifdef WITH_MPI
	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	v = malloc((size_t)count * sizeof(*v));
#else
	void *memory;

	if (rdt_comm_create(NULL, &comm) || rdt_alloc(comm, (size_t)count * sizeof(*v), &memory)) {
		fprintf(stderr, "%s\n", rdt_last_error());
		return 1;
	}
	v = memory;
	rank = rdt_comm_rank(comm);
#endif
	for (int i = 0; i < count; i++)
		v[i] = 1;
	for (int i = 0; i < calls; i++) {
		if (rank == 0)
			nanosleep(&later, NULL);
		counted(v, count);
	}
#ifdef WITH_MPI
	MPI_Finalize();
#else
	rdt_comm_destroy(comm);
#endif
	return 0;
}
