/* SPDX-License-Identifier: BSD-3-Clause */
/* Which secret a job has: one for all jobs, or a file of them (server.h). Read once, at the start.
 */
#include "lib/bootstrap/server_parts.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/bootstrap/secret.h"

struct srv_secret {
	struct srv_secret *next;
	char job[64]; /* or "*" */
	char secret[256];
};

struct srv_secrets {
	struct srv_secret *first;
};

static int add(struct srv_secrets *s, const char *job, const char *secret)
{
	struct srv_secret *e = calloc(1, sizeof(*e));

	if (!e)
		return rdt_err(RDT_ERR_NOMEM, "no memory for the secret of job %s", job);
	memcpy(e->job, job, strlen(job) + 1);
	memcpy(e->secret, secret, strlen(secret) + 1);
	e->next = s->first;
	s->first = e;
	return RDT_OK;
}

static const struct srv_secret *find(const struct srv_secrets *s, const char *job)
{
	for (const struct srv_secret *e = s->first; e; e = e->next)
		if (!strcmp(e->job, job))
			return e;
	return NULL;
}

/* "JOB SECRET", a comment, or nothing. No sentence repeats a word of a line that is wrong: it may
 * be the secret. */
static int add_line(struct srv_secrets *s, const char *path, int number, char *line)
{
	static const char blanks[] = " \t\r\n";
	char *job = line + strspn(line, blanks);
	char *secret = job + strcspn(job, blanks);
	char *end;

	if (*job == 0 || *job == '#')
		return RDT_OK;
	if (*secret)
		*secret++ = 0;
	secret += strspn(secret, blanks);
	end = secret + strlen(secret);
	while (end > secret && strchr(blanks, end[-1]))
		*--end = 0;
	if (strcmp(job, "*") && !rdt_job_name_ok(job))
		return rdt_err(RDT_ERR_INVALID, "%s:%d: the name of the job: " RDT_JOB_NAME_RULE,
			       path, number);
	if (end == secret)
		return rdt_err(RDT_ERR_INVALID,
			       "%s:%d: one word; a line is JOB SECRET, and * is any job. A file "
			       "that holds one secret alone goes into RDTRAIN_SECRET_FILE",
			       path, number);
	if (end - secret >= (ptrdiff_t)sizeof(s->first->secret))
		return rdt_err(RDT_ERR_INVALID, "%s:%d: the secret is longer than %zu characters",
			       path, number, sizeof(s->first->secret) - 1);
	if (find(s, job))
		return rdt_err(RDT_ERR_INVALID, "%s:%d: job %s has a secret already", path, number,
			       job);
	return add(s, job, secret);
}

static int add_file(struct srv_secrets *s, const char *path)
{
	char line[1024];
	FILE *file;
	int number = 0, status;

	status = rdt_secret_open("the secret file", path, &file);
	if (status)
		return status;
	setvbuf(file, NULL, _IONBF, 0); /* no copy of the secrets in a buffer we do not own */
	while (!status && fgets(line, sizeof(line), file)) {
		number++;
		if (strlen(line) == sizeof(line) - 1)
			status = rdt_err(RDT_ERR_INVALID, "%s:%d: the line is too long", path,
					 number);
		else
			status = add_line(s, path, number, line);
	}
	if (!status && ferror(file))
		status = rdt_err_errno(RDT_ERR_INVALID, "cannot read %s", path);
	if (!status && !s->first)
		status = rdt_err(RDT_ERR_INVALID,
				 "%s holds no secret; write a line \"JOB SECRET\", or \"* SECRET\" "
				 "for any job",
				 path);
	explicit_bzero(line, sizeof(line));
	fclose(file);
	return status;
}

int rdt_srv_secrets_new(const struct rdt_server_config *config, struct srv_secrets **secrets)
{
	struct srv_secrets *s;
	bool text = config->secret && *config->secret;
	bool file = config->secret_file && *config->secret_file;
	int status;

	if (!text && !file)
		return rdt_err(RDT_ERR_AUTH,
			       "the rendezvous service has no secret, and without one everybody "
			       "could join; set RDTRAIN_SECRET or give a secret file");
	if (text && file)
		return rdt_err(
			RDT_ERR_INVALID,
			"the rendezvous service has a secret and the secret file %s; give one "
			"of the two",
			config->secret_file);
	if (text && strlen(config->secret) >= sizeof(s->first->secret))
		return rdt_err(RDT_ERR_INVALID, "the secret is longer than %zu characters",
			       sizeof(s->first->secret) - 1);
	s = calloc(1, sizeof(*s));
	if (!s)
		return rdt_err(RDT_ERR_NOMEM, "no memory for secrets");
	status = text ? add(s, "*", config->secret) : add_file(s, config->secret_file);
	if (status) {
		rdt_srv_secrets_free(s);
		return status;
	}
	*secrets = s;
	return RDT_OK;
}

void rdt_srv_secrets_free(struct srv_secrets *secrets)
{
	if (!secrets)
		return;
	while (secrets->first) {
		struct srv_secret *e = secrets->first;

		secrets->first = e->next;
		explicit_bzero(e, sizeof(*e));
		free(e);
	}
	free(secrets);
}

bool rdt_srv_secrets_find(const struct srv_secrets *secrets, struct rdt_psk *psk)
{
	const struct srv_secret *e;
	char job[sizeof(psk->job)];

	memcpy(job, psk->job, sizeof(job));
	if (!rdt_job_name_ok(job))
		return false;
	e = find(secrets, job);
	if (!e) {
		/* "train/1f..." is a part of the job "train" (rdt_comm_split), with its secret. */
		char whole[sizeof(job)];

		memcpy(whole, job, sizeof(whole));
		whole[strcspn(whole, "/")] = 0;
		e = find(secrets, whole);
	}
	if (!e)
		e = find(secrets, "*");
	return e && !rdt_psk_derive(job, e->secret, psk);
}
