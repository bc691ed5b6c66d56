/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who is this process? Reads rank, world and rendezvous from the options and from the variables of
 * launchers. Only looks: it connects nowhere. A launcher that is there but cannot be used is an
 * error, never N worlds of one.
 */
#include "lib/bootstrap/bootstrap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/log.h"
#include "lib/bootstrap/address.h"
#include "lib/bootstrap/secret.h"

#define PORT_MAX 65535

/* Launchers that say who we are but bring no rendezvous. */
static const struct {
	const char *name, *rank, *world;
} foreign[] = {
	{ "Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE" },
	{ "PMI", "PMI_RANK", "PMI_SIZE" },
	{ "Slurm", "SLURM_PROCID", "SLURM_NTASKS" },
};
#define FOREIGN (sizeof(foreign) / sizeof(foreign[0]))

/* A text variable; set but empty is as good as not set. */
static const char *text_variable(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

/* A decimal number without signs, blanks or tails. */
static int whole_number(const char *name, const char *value, long low, long high, int *number)
{
	char *end = NULL;
	long n = -1;

	errno = 0;
	if (*value >= '0' && *value <= '9')
		n = strtol(value, &end, 10);
	if (!end || *end || errno || n < low || n > high)
		return rdt_err(RDT_ERR_INVALID,
			       "%s is '%.40s'; it must be a whole number from %ld to %ld", name,
			       value, low, high);
	*number = (int)n;
	return RDT_OK;
}

/* Rank and world from a pair of variables. *found is false when neither is set. */
static int pair(const char *rank_name, const char *world_name, struct rdt_identity *id, bool *found)
{
	const char *rank = getenv(rank_name), *world = getenv(world_name);
	int status;

	*found = rank || world;
	if (!*found)
		return RDT_OK;
	if (!rank || !world)
		return rdt_err(RDT_ERR_INVALID, "%s is set but %s is not; set both, or neither",
			       rank ? rank_name : world_name, rank ? world_name : rank_name);
	status = whole_number(world_name, world, 1, RDT_WORLD_MAX, &id->world);
	if (!status)
		status = whole_number(rank_name, rank, 0, id->world - 1, &id->rank);
	return status;
}

static int copy_text(const char *what, const char *value, char *to, size_t room)
{
	size_t length = strlen(value);

	if (length >= room)
		return rdt_err(RDT_ERR_INVALID, "%s has %zu characters; it may have %zu at most",
			       what, length, room - 1);
	memcpy(to, value, length + 1);
	return RDT_OK;
}

/* An address that can be connected to. */
static int take_rendezvous(const char *what, const char *value, struct rdt_identity *id)
{
	struct rdt_address address;

	if (!rdt_address_parse(value, &address) || address.port_number == 0)
		return rdt_err(RDT_ERR_INVALID,
			       "%s is '%.80s', which is no HOST:PORT or [IPV6]:PORT, port 1 to %d",
			       what, value, PORT_MAX);
	return copy_text(what, value, id->rendezvous, sizeof(id->rendezvous));
}

/* ---- the parts, in the order in which find() needs them ----------------------------------------
 */

/* The place and the secret that were given explicitly. */
static int find_rendezvous(const struct rdt_options *options, struct rdt_identity *id)
{
	const char *value = text_variable("RDTRAIN_RENDEZVOUS");

	if (options && options->rendezvous && *options->rendezvous)
		return take_rendezvous("the option rendezvous", options->rendezvous, id);
	return value ? take_rendezvous("RDTRAIN_RENDEZVOUS", value, id) : RDT_OK;
}

static int find_secret(const struct rdt_options *options, struct rdt_identity *id)
{
	const char *value = text_variable("RDTRAIN_SECRET");
	const char *file = text_variable("RDTRAIN_SECRET_FILE");

	if (options && options->secret && *options->secret)
		return copy_text("the option secret", options->secret, id->secret,
				 sizeof(id->secret));
	if (value)
		return copy_text("RDTRAIN_SECRET", value, id->secret, sizeof(id->secret));
	if (file)
		return rdt_secret_read("RDTRAIN_SECRET_FILE", file, id->secret, sizeof(id->secret));
	return RDT_OK;
}

static int find_job(const struct rdt_options *options, bool torchrun, struct rdt_identity *id)
{
	const char *what = "RDTRAIN_JOB", *value = text_variable(what);

	if (options && options->job && *options->job) {
		what = "the option job";
		value = options->job;
	} else if (!value && torchrun) {
		what = "TORCHELASTIC_RUN_ID";
		value = text_variable(what);
		if (!value)
			value = "torchrun";
	} else if (!value) {
		value = "default";
	}
	if (!rdt_job_name_ok(value))
		return rdt_err(RDT_ERR_INVALID, "%s is '%.80s'; " RDT_JOB_NAME_RULE, what, value);
	return copy_text(what, value, id->job, sizeof(id->job));
}

/* torchrun's own store has MASTER_PORT; ours is beside it, and rank 0 starts it. */
static int torchrun_rendezvous(struct rdt_identity *id)
{
	const char *host = text_variable("MASTER_ADDR"), *master = text_variable("MASTER_PORT");
	const char *own = text_variable("RDTRAIN_PORT");
	char text[sizeof(id->rendezvous) + 16];
	int port = 0, status;

	if (!host || (!master && !own))
		return rdt_err(RDT_ERR_INVALID,
			       "RANK and WORLD_SIZE are set but %s is not; start the workers with "
			       "torchrun, or set RDTRAIN_RENDEZVOUS",
			       host ? "MASTER_PORT" : "MASTER_ADDR");
	if (own) {
		status = whole_number("RDTRAIN_PORT", own, 1, PORT_MAX, &port);
	} else {
		status = whole_number("MASTER_PORT", master, 1, PORT_MAX, &port);
		if (!status && port++ == PORT_MAX)
			status = rdt_err(RDT_ERR_INVALID,
					 "MASTER_PORT is %d and leaves no port after it for the "
					 "rendezvous; set RDTRAIN_PORT",
					 PORT_MAX);
	}
	if (status)
		return status;
	if (strlen(host) >= sizeof(id->rendezvous) - 10)
		return rdt_err(RDT_ERR_INVALID, "MASTER_ADDR has %zu characters, which is no host",
			       strlen(host));
	snprintf(text, sizeof(text), strchr(host, ':') && host[0] != '[' ? "[%s]:%d" : "%s:%d",
		 host, port);
	id->start_service = id->rank == 0 && id->world > 1;
	return take_rendezvous("MASTER_ADDR with its port", text, id);
}

/* Another launcher's rank and world, when it started more than one process. */
static int find_foreign(struct rdt_identity *id, bool *found)
{
	for (size_t i = 0; i < FOREIGN; i++) {
		const char *world = getenv(foreign[i].world);
		int n = 0, status;

		*found = false;
		/* Alone, a size says nothing about this process: shells inside an allocation
		 * have Slurm's. */
		if (!world || !getenv(foreign[i].rank))
			continue;
		status = whole_number(foreign[i].world, world, 0, 100000000, &n);
		if (status)
			return status;
		if (n <= 1)
			continue;
		if (!id->rendezvous[0])
			return rdt_err(
				RDT_ERR_INVALID,
				"%s started this process as one of %d (%s), and the workers "
				"have no place to meet; start `rdtrain rendezvous` on one host "
				"and give all workers RDTRAIN_RENDEZVOUS=HOST:PORT and "
				"RDTRAIN_SECRET_FILE, or start them with `rdtrain run`",
				foreign[i].name, n, foreign[i].world);
		snprintf(id->source, sizeof(id->source), "%s, RDTRAIN_RENDEZVOUS", foreign[i].name);
		return pair(foreign[i].rank, foreign[i].world, id, found);
	}
	return RDT_OK;
}

/* torchrun's four variables; one of them alone is half a set. */
static int find_torchrun(struct rdt_identity *id, bool *found)
{
	int status = pair("RANK", "WORLD_SIZE", id, found);

	if (status)
		return status;
	snprintf(id->source, sizeof(id->source), "torchrun");
	if (!*found && !id->rendezvous[0] &&
	    (text_variable("MASTER_ADDR") || text_variable("MASTER_PORT")))
		return rdt_err(RDT_ERR_INVALID,
			       "%s is set but RANK and WORLD_SIZE are not; start the workers with "
			       "torchrun, or unset it for a single process",
			       text_variable("MASTER_ADDR") ? "MASTER_ADDR" : "MASTER_PORT");
	return RDT_OK;
}

static int find_rank(const struct rdt_options *options, struct rdt_identity *id, bool *torchrun)
{
	bool found = false;
	int status;

	if (options && options->world != 0) {
		if (options->world < 1 || options->world > RDT_WORLD_MAX)
			return rdt_err(RDT_ERR_INVALID,
				       "the option world is %d; it must be 1 to %d", options->world,
				       RDT_WORLD_MAX);
		if (options->rank < 0 || options->rank >= options->world)
			return rdt_err(
				RDT_ERR_INVALID,
				"the option rank is %d; it must be 0 to %d, one less than the "
				"option world",
				options->rank, options->world - 1);
		id->rank = options->rank;
		id->world = options->world;
		snprintf(id->source, sizeof(id->source), "options");
		return RDT_OK;
	}
	status = pair("RDTRAIN_RANK", "RDTRAIN_SIZE", id, &found);
	snprintf(id->source, sizeof(id->source), "RDTRAIN_*");
	if (status || found)
		return status;
	status = find_torchrun(id, torchrun);
	if (status || *torchrun)
		return status;
	status = find_foreign(id, &found);
	if (status || found)
		return status;
	if (id->rendezvous[0])
		return rdt_err(RDT_ERR_INVALID,
			       "the rendezvous is set to %s but RDTRAIN_RANK and RDTRAIN_SIZE are "
			       "not, nor any launcher's; set both",
			       id->rendezvous);
	id->rank = 0;
	id->world = 1;
	snprintf(id->source, sizeof(id->source), "no launcher");
	return RDT_OK;
}

/* A newcomer has no rank yet, and must know where the job is. */
static int find_newcomer(const struct rdt_options *options, struct rdt_identity *id)
{
	int status = find_rendezvous(options, id);

	if (!status && !id->rendezvous[0])
		status =
			rdt_err(RDT_ERR_INVALID,
				"RDTRAIN_JOIN or the option join is set, but not where the job is; "
				"set RDTRAIN_RENDEZVOUS to the HOST:PORT of its rendezvous");
	if (!status)
		status = find_job(options, false, id);
	if (!status)
		status = find_secret(options, id);
	snprintf(id->source, sizeof(id->source), "a newcomer");
	if (!status)
		rdt_info("to be admitted to job %s, rendezvous %s", id->job, id->rendezvous);
	return status;
}

int rdt_identity_find(const struct rdt_options *options, struct rdt_identity *id)
{
	const char *join = text_variable("RDTRAIN_JOIN");
	const char *keepalive = text_variable("RDTRAIN_KEEPALIVE");
	bool torchrun = false;
	int status = 0, seconds;

	memset(id, 0, sizeof(*id));
	if (keepalive) /* address.c takes it from there */
		status = whole_number("RDTRAIN_KEEPALIVE", keepalive, 1, RDT_KEEPALIVE_MAX,
				      &seconds);
	if (status)
		return status;
	if (join && strcmp(join, "0") && strcmp(join, "1"))
		return rdt_err(RDT_ERR_INVALID, "RDTRAIN_JOIN is '%.40s'; it must be 0 or 1", join);
	id->join = (options && options->join) || (join && *join == '1');
	if (id->join)
		return find_newcomer(options, id);
	status = find_rendezvous(options, id);
	if (!status)
		status = find_rank(options, id, &torchrun);
	if (!status)
		status = find_job(options, torchrun, id);
	/* A world of one meets nobody: it needs neither place nor secret. */
	if (!status && id->world > 1)
		status = find_secret(options, id);
	if (!status && id->world > 1 && !id->rendezvous[0]) {
		if (torchrun)
			status = torchrun_rendezvous(id);
		else
			status = rdt_err(
				RDT_ERR_INVALID,
				"rank %d of %d (from %s) has no place to meet the others; set "
				"RDTRAIN_RENDEZVOUS to the HOST:PORT of `rdtrain rendezvous`",
				id->rank, id->world, id->source);
	}
	if (status)
		explicit_bzero(id->secret, sizeof(id->secret));
	else
		rdt_info("rank %d of %d from %s; job %s, rendezvous %s", id->rank, id->world,
			 id->source, id->job, id->rendezvous[0] ? id->rendezvous : "none");
	return status;
}
