/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rendezvous service: one event loop, many jobs, TLS 1.3 with each job's pre-shared key. Linked
 * by the program `rdtrain` only (libevent): `rdtrain rendezvous`, and embedded in `rdtrain run`.
 */
#ifndef RDT_SERVER_H
#define RDT_SERVER_H

#include <stdbool.h>

#include <event2/event.h>
#include <rdtrain/rdtrain.h>

struct rdt_server;

struct rdt_server_config {
	const char *listen; /* "HOST:PORT", "[v6]:PORT", "*:PORT"; port 0: any free one */
	/* Secrets: `secret` admits any job name; `secret_file` has lines "JOB SECRET" ("*" for any
	 * job; # comments; mode must keep others out). One of the two. */
	const char *secret;
	const char *secret_file;
	/*
	 * Called for each thing worth a log line: a member joined or left; a stranger was turned
	 * away and why. Strangers get a line each, but ten a second at most; a line says how many
	 * more there were.
	 */
	void (*log)(void *arg, const char *line);
	void *arg;
	bool strangers_only; /* log nothing of members */

	/* The rest is optional: zero is the default that stands in brackets. */
	/* Called when the last member of all jobs has gone. */
	void (*empty)(void *arg);
	double handshake_s;	  /* from connect to a complete hello [5] */
	unsigned max_connections; /* [what RLIMIT_NOFILE allows, less 64] */
	unsigned max_per_address; /* connections from one address [4096] */
	unsigned max_strangers;	  /* not authenticated yet, from one (IPv6: one /64) [256]; of all
				   * connections, half */
	unsigned max_jobs;	  /* at the same time [4096]; of one job's parts and generations a
				   * quarter, or 64 if that is more */
	size_t max_store_bytes;	  /* keys and values of one job [256 MiB] */
	size_t max_output_bytes;  /* waiting for one member to read them [16 MiB] */
};

/* Binds and starts to serve on `base`; the caller runs the loop. */
int rdt_server_new(struct event_base *base, const struct rdt_server_config *config,
		   struct rdt_server **server);
/* The port that was bound. */
int rdt_server_port(const struct rdt_server *server);
/* How many members its jobs have now. */
unsigned rdt_server_members(const struct rdt_server *server);
/* Ends the service. The last connections close when `base` runs again or is freed. */
void rdt_server_free(struct rdt_server *server);

#endif
