/* SPDX-License-Identifier: BSD-3-Clause */
/* Going on without some workers, and with new ones; see elastic.h. */
#include "elastic.h"

#include <stdlib.h>
#include <string.h>

void *elastic_save(const struct elastic_piece *pieces, int n)
{
	size_t bytes = 0;
	char *copy;

	for (int i = 0; i < n; i++)
		bytes += pieces[i].bytes;
	copy = malloc(bytes);
	if (!copy)
		return NULL;
	bytes = 0;
	for (int i = 0; i < n; i++) {
		memcpy(copy + bytes, pieces[i].at, pieces[i].bytes);
		bytes += pieces[i].bytes;
	}
	return copy;
}

void elastic_restore(const void *copy, const struct elastic_piece *pieces, int n)
{
	const char *from = copy;

	for (int i = 0; i < n; i++) {
		memcpy(pieces[i].at, from, pieces[i].bytes);
		from += pieces[i].bytes;
	}
}

int elastic_survive(rdt_comm **comm)
{
	rdt_comm *survivors;
	int status = rdt_comm_shrink(*comm, &survivors);

	if (status)
		return status;
	rdt_comm_destroy(*comm);
	*comm = survivors;
	return 0;
}

int elastic_admit(rdt_comm *comm, rdt_comm **larger)
{
	int32_t waiting = rdt_comm_waiting(comm);
	int status;

	*larger = NULL;
	/* Workers hear of newcomers at different times: the first one decides. */
	status = rdt_broadcast(comm, &waiting, 1, RDT_INT32, 0);
	return status || waiting <= 0 ? status : rdt_comm_grow(comm, larger);
}

int elastic_share(rdt_comm *comm, uint64_t steps, const struct elastic_piece *pieces, int n)
{
	int size = rdt_comm_size(comm), root = 0, status;
	uint64_t *all = calloc((size_t)size, sizeof(*all));

	if (!all)
		return RDT_ERR_NOMEM;
	status = rdt_allgather(comm, &steps, all, 1, RDT_UINT64);
	for (int r = 1; r < size && !status; r++)
		if (all[r] > all[root])
			root = r;
	for (int i = 0; i < n && !status; i++)
		status = rdt_broadcast(comm, pieces[i].at, pieces[i].bytes, RDT_UINT8, root);
	free(all);
	return status;
}
