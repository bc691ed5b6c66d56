/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory of a communicator: allocated or the user's, registered with every open transport. */
#include "comm.h"

#include <stdlib.h>

#include "thread.h"

static void deregister(rdt_comm *comm, struct rdt_mem *mem)
{
	for (int t = 0; t < comm->n_transports; t++)
		if (mem->handle[t])
			comm->transports[t].ops->mem_deregister(mem->handle[t]);
}

/* Registers mem with all transports, or with none. */
static int register_all(rdt_comm *comm, struct rdt_mem *mem)
{
	int memfd = mem->block.base ? mem->block.memfd : -1;

	for (int t = 0; t < comm->n_transports; t++) {
		int status = comm->transports[t].ops->mem_register(comm->transports[t].handle,
								   mem->base, mem->bytes, memfd, 0,
								   &mem->handle[t]);

		if (status) {
			mem->handle[t] = NULL;
			deregister(comm, mem);
			return status;
		}
	}
	return 0;
}

int rdt_memory_new(rdt_comm *comm, size_t bytes, struct rdt_mem **out)
{
	struct rdt_mem *mem = calloc(1, sizeof(*mem));
	int status;

	if (!mem)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for a registration");
	status = rdt_block_map(bytes, true, &mem->block);
	if (status)
		goto free_mem;
	mem->comm = comm;
	mem->base = mem->block.base;
	mem->bytes = mem->block.bytes;
	status = register_all(comm, mem);
	if (status)
		goto unmap;
	*out = mem;
	return 0;

unmap:
	rdt_block_unmap(&mem->block);
free_mem:
	free(mem);
	return status;
}

void rdt_memory_free(rdt_comm *comm, struct rdt_mem *mem)
{
	deregister(comm, mem);
	if (mem->block.base)
		rdt_block_unmap(&mem->block);
	free(mem);
}

void rdt_memory_close(rdt_comm *comm)
{
	for (size_t i = 0; i < comm->memory.n; i++)
		rdt_memory_free(comm, comm->memory.entries[i]);
	rdt_mem_table_free(&comm->memory);
}

static int add(rdt_comm *comm, struct rdt_mem *mem)
{
	int status = rdt_mem_table_add(&comm->memory, mem);

	if (status)
		rdt_memory_free(comm, mem);
	return status;
}

static void take_out(rdt_comm *comm, struct rdt_mem *mem)
{
	rdt_mem_table_remove(&comm->memory, mem);
	rdt_memory_free(comm, mem);
	comm->frees++;
}

int rdt_alloc(rdt_comm *comm, size_t bytes, void **ptr)
{
	struct rdt_mem *mem = NULL;
	int status;

	if (!comm || !ptr)
		return rdt_err(RDT_ERR_INVALID, "rdt_alloc: %s is NULL", comm ? "ptr" : "comm");
	rdt_enter(comm);
	status = rdt_memory_new(comm, bytes, &mem);
	if (!status)
		status = add(comm, mem);
	rdt_leave(comm);
	if (!status)
		*ptr = mem->base;
	return status;
}

int rdt_free(rdt_comm *comm, void *ptr)
{
	struct rdt_mem *mem;
	bool known;

	if (!comm)
		return rdt_err(RDT_ERR_INVALID, "rdt_free: comm is NULL");
	if (!ptr)
		return 0;
	rdt_enter(comm);
	mem = rdt_mem_table_find(&comm->memory, ptr, 1);
	known = mem && mem->base == ptr && mem->block.base;
	if (known)
		take_out(comm, mem);
	rdt_leave(comm);
	return known ? 0
		     : rdt_err(RDT_ERR_INVALID,
			       "rdt_free: %p did not come from rdt_alloc of this communicator",
			       ptr);
}

static int register_users(rdt_comm *comm, void *ptr, size_t bytes, struct rdt_mem **out)
{
	struct rdt_mem *mem = calloc(1, sizeof(*mem));
	int status;

	if (!mem)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for a registration");
	mem->comm = comm;
	mem->base = ptr;
	mem->bytes = bytes;
	status = rdt_mem_table_add(&comm->memory, mem);
	if (status)
		goto free_mem;
	status = register_all(comm, mem);
	if (status)
		goto remove;
	*out = mem;
	return 0;

remove:
	rdt_mem_table_remove(&comm->memory, mem);
free_mem:
	free(mem);
	return status;
}

int rdt_mem_register(rdt_comm *comm, void *ptr, size_t bytes, rdt_mem **out)
{
	int status;

	if (!comm || !ptr || !bytes || !out)
		return rdt_err(RDT_ERR_INVALID, "rdt_mem_register: %s",
			       !comm  ? "comm is NULL"
			       : !ptr ? "ptr is NULL"
			       : !out ? "mem is NULL"
				      : "0 bytes cannot be registered");
	rdt_enter(comm);
	status = register_users(comm, ptr, bytes, out);
	rdt_leave(comm);
	return status;
}

int rdt_mem_deregister(rdt_mem *mem)
{
	rdt_comm *comm;

	if (!mem)
		return 0;
	if (mem->block.base)
		return rdt_err(RDT_ERR_INVALID,
			       "rdt_mem_deregister: this memory came from rdt_alloc; use rdt_free");
	comm = mem->comm;
	rdt_enter(comm);
	take_out(comm, mem);
	rdt_leave(comm);
	return 0;
}
