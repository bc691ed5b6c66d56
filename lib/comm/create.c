/* SPDX-License-Identifier: BSD-3-Clause */
/* The life of a communicator: meet the others, agree on the settings, leave. */
#include "comm.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"

#include "journal.h"
#include "prologue.h"
#include "thread.h"
#include "trace.h"
#include "transfer.h"

#define RDT_LEAVE_S 10.0 /* how long rdt_comm_destroy waits for the others */

#define STRING(x) #x
#define VERSION(major, minor, patch) STRING(major) "." STRING(minor) "." STRING(patch)

const char *rdt_version(void)
{
	return VERSION(RDT_VERSION_MAJOR, RDT_VERSION_MINOR, RDT_VERSION_PATCH);
}

int rdt_comm_rank(const rdt_comm *comm)
{
	return comm ? comm->rank : rdt_err(RDT_ERR_INVALID, "rdt_comm_rank: no communicator");
}

int rdt_comm_size(const rdt_comm *comm)
{
	return comm ? comm->size : rdt_err(RDT_ERR_INVALID, "rdt_comm_size: no communicator");
}

/* The settings that must be the same everywhere are rank 0's. */
struct common {
	uint64_t window, rank_order, check;
	struct rdt_model model;
	char algorithm[RDT_COLL_COUNT][RDT_ALGORITHM_NAME];
};

/* The costs by which this rank would choose: a file's, a built-in model's, or those that suit the
 * way in which ranks reach each other. */
static int find_model(const rdt_comm *comm, struct rdt_model *model)
{
	const char *name = comm->config.model;
	bool memory = comm->one_host && comm->host;
	const struct rdt_model *builtin = rdt_model_builtin(name     ? name
							    : memory ? "shm-laptop"
								     : "infiniband-edr");
	char text[16384], error[512];
	FILE *file;
	size_t n;

	if (builtin) {
		*model = *builtin;
		if (!name)
			model->cores = (uint64_t)comm->processors;
		return 0;
	}
	file = fopen(name, "re");
	if (!file)
		return rdt_err_errno(RDT_ERR_INVALID,
				     "RDTRAIN_MODEL=%.128s is neither a built-in model (`rdtrain "
				     "simulate --list-models`) nor a file that can be read",
				     name);
	n = fread(text, 1, sizeof(text) - 1, file);
	text[n] = '\0';
	fclose(file);
	if (rdt_model_parse(model, name, text, error, sizeof(error)))
		return rdt_err(RDT_ERR_INVALID, "RDTRAIN_MODEL: %s", error);
	return 0;
}

static int share_settings(rdt_comm *comm, int64_t deadline)
{
	struct common common = { .window = comm->config.window,
				 .rank_order = comm->config.rank_order,
				 .check = comm->config.check };
	size_t length = sizeof(common);
	int status;

	if (comm->rank == 0) {
		memcpy(common.algorithm, comm->config.algorithm, sizeof(common.algorithm));
		status = find_model(comm, &common.model);
		if (!status)
			status = rdt_peers_put(comm, "settings", &common, sizeof(common));
		return status ? status : rdt_chooser_open(comm, &common.model);
	}
	status = rdt_peers_get(comm, 0, "settings", &common, &length, deadline);
	if (status)
		return status;
	if (length != sizeof(common))
		return rdt_err(RDT_ERR_SYSTEM, "rank 0 sent settings of %zu bytes instead of %zu",
			       length, sizeof(common));
	comm->config.window = common.window;
	comm->config.rank_order = common.rank_order;
	comm->config.check = common.check;
	memcpy(comm->config.algorithm, common.algorithm, sizeof(common.algorithm));
	for (int c = 0; c < RDT_COLL_COUNT; c++)
		comm->config.algorithm[c][RDT_ALGORITHM_NAME - 1] = '\0';
	return rdt_chooser_open(comm, &common.model);
}

static int meet(rdt_comm *comm, const struct rdt_identity *identity)
{
	int64_t deadline = rdt_deadline(comm->config.start_timeout_s);
	int status;

	comm->boot_ops = &rdt_rendezvous_ops;
	status = comm->boot_ops->open(identity, deadline, &comm->boot);
	if (status)
		return status;
	status = rdt_peers_open(comm, deadline);
	if (!status)
		status = rdt_journal_open(comm);
	return status ? status : share_settings(comm, deadline);
}

void rdt_comm_release(rdt_comm *comm, bool orderly)
{
	rdt_thread_stop(comm);
	while (comm->plans)
		rdt_plan_free(comm->plans);
	rdt_transfer_close(comm);
	rdt_journal_close(comm);
	rdt_chooser_close(comm);
	for (int i = 0; i < 2 * RDT_REQUESTS; i++)
		free(comm->requests[i].memory);
	rdt_prologue_close(comm);
	rdt_memory_close(comm);
	if (comm->boot)
		comm->boot_ops->close(comm->boot, orderly);
	if (comm->alone)
		comm->boot_ops->close(comm->alone, orderly);
	rdt_peers_close(comm);
	free(comm->fds);
	free(comm->host);
	free(comm->peers);
	rdt_trace_close(comm->trace);
	explicit_bzero(&comm->identity, sizeof(comm->identity));
	free(comm);
}

static int check_options(const struct rdt_options *options)
{
	if (options && (options->size < sizeof(size_t) || options->size > 65536))
		return rdt_err(RDT_ERR_INVALID,
			       "rdt_options.size is %zu; set it to sizeof(struct rdt_options)",
			       options->size);
	return 0;
}

/* FNV-1a. Parts and later generations have names of their own. */
static uint32_t number_of(const char *job)
{
	uint32_t hash = 2166136261u;

	for (; *job; job++)
		hash = (hash ^ (unsigned char)*job) * 16777619u;
	return hash;
}

int rdt_comm_join(const struct rdt_identity *identity, const struct rdt_config *config,
		  struct rdt_bootstrap *before, rdt_comm **out)
{
	rdt_comm *comm = calloc(1, sizeof(*comm));
	int status;

	if (!comm)
		return rdt_err(RDT_ERR_NOMEM, "out of memory for a communicator");
	comm->rank = identity->rank;
	comm->size = identity->world;
	comm->config = *config;
	comm->identity = *identity;
	comm->owner = getpid();
	comm->before = before;
	comm->generation = number_of(identity->job);
	rdt_requests_init(comm);
	comm->peers = calloc((size_t)comm->size, sizeof(*comm->peers));
	if (!comm->peers) {
		status = rdt_err(RDT_ERR_NOMEM, "out of memory for %d peers", comm->size);
		goto fail;
	}
	for (int r = 0; r < comm->size; r++)
		comm->peers[r].transport = -1;
	status = rdt_progress_fds(comm);
	if (!status && comm->size > 1)
		status = meet(comm, identity);
	if (status)
		goto fail;
	comm->policy = rdt_wait_policy(
		comm->config.local_size ? comm->config.local_size : comm->size, comm->processors);
	status = rdt_thread_start(comm);
	if (status)
		goto fail;
	comm->before = NULL;
	*out = comm;
	return 0;

fail:
	if (comm->boot && !comm->failed)
		rdt_fail(comm, status, -1, "rank %d could not join: %s", comm->rank,
			 rdt_last_error());
	rdt_comm_release(comm, true);
	return status;
}

int rdt_comm_create(const struct rdt_options *given, rdt_comm **out)
{
	struct rdt_options options = { 0 };
	struct rdt_identity identity;
	struct rdt_config config;
	struct rdt_trace *trace = NULL;
	int status;

	if (!out)
		return rdt_err(RDT_ERR_INVALID, "rdt_comm_create: comm is NULL");
	status = check_options(given);
	if (status)
		return status;
	/* A caller built against an older, shorter struct leaves the newer fields at their
	 * defaults. */
	if (given)
		memcpy(&options, given,
		       given->size < sizeof(options) ? given->size : sizeof(options));
	rdt_config_warn_unknown();
	status = rdt_identity_find(&options, &identity);
	if (status)
		return status;
	if (!identity.join) {
		rdt_log_set_rank(identity.rank);
		rdt_info("rank %d of %d (%s), librdtrain %s", identity.rank, identity.world,
			 identity.source, rdt_version());
	}
	status = rdt_config_read(&options, &config);
	/* A newcomer learns its rank when it is admitted. */
	if (!status && !identity.join)
		status = rdt_trace_open(config.trace, identity.rank, identity.world, &trace);
	if (!status && identity.join)
		status = rdt_comm_newcomer(&identity, &config, out);
	else if (!status)
		status = rdt_comm_join(&identity, &config, NULL, out);
	if (!status)
		(*out)->trace = trace;
	else
		rdt_trace_close(trace);
	explicit_bzero(&identity, sizeof(identity));
	return status;
}

void rdt_comm_destroy(rdt_comm *comm)
{
	if (!comm)
		return;
	rdt_thread_stop(comm);
	/* A forked child has a copy of everything, and must not speak for its parent. */
	if (comm->owner == getpid()) {
		double seconds =
			comm->config.timeout_s < RDT_LEAVE_S ? comm->config.timeout_s : RDT_LEAVE_S;

		/* Nobody takes its queue pairs away while another still has a write under way to
		 * it. Whoever does not come in time, or is lost, has had its chance. */
		if (comm->boot && !comm->failed)
			rdt_peers_leave(comm, seconds);
		for (int t = 0; t < comm->n_transports; t++)
			comm->transports[t].ops->leave(comm->transports[t].handle);
	}
	rdt_comm_release(comm, true);
}
