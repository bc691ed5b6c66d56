/* SPDX-License-Identifier: BSD-3-Clause */
/* Secrets in files, and the names of jobs that they belong to. */
#ifndef RDT_SECRET_H
#define RDT_SECRET_H

#include <stdbool.h>
#include <stdio.h>

/*
 * Opens a file of secrets; `what` says in an error where the name came from. INVALID when it cannot
 * be read, is no regular file, or is open to others than its owner.
 */
int rdt_secret_open(const char *what, const char *path, FILE **file);

/* The first line of such a file, without blanks around it, into secret[room]. */
int rdt_secret_read(const char *what, const char *path, char *secret, size_t room);

/* Job names are 1 to 63 printable characters without blanks, and neither "*" nor begin with '#':
 * they stand in files of secrets. */
bool rdt_job_name_ok(const char *job);

/* What a job name may be, for the end of a sentence. */
#define RDT_JOB_NAME_RULE "a job's name is 1 to 63 printable characters without blanks"

#endif
