/* SPDX-License-Identifier: BSD-3-Clause */
/* Times MPI_Allreduce, of whichever MPI it is compiled with; see bench.h.
 * usage: mpi_allreduce FROM TO FACTOR */
#include <mpi.h>

#include "bench.h"

static void allreduce(float *buffer, size_t count, int which)
{
	(void)which;
	MPI_Allreduce(MPI_IN_PLACE, buffer, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

static void barrier(void)
{
	MPI_Barrier(MPI_COMM_WORLD);
}

static void largest(double *samples, int n)
{
	MPI_Allreduce(MPI_IN_PLACE, samples, n, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
	struct bench b = { .allreduce = allreduce, .barrier = barrier, .largest = largest };
	size_t from = bench_size(argc, argv, 1, 8), to = bench_size(argc, argv, 2, 64u << 20);

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &b.rank);
	b.pool = aligned_alloc(4096, bench_pool(to));
	bench_run(&b, from, to, argc > 3 ? atof(argv[3]) : 1);
	free(b.pool);
	MPI_Finalize();
	return 0;
}
