/* SPDX-License-Identifier: BSD-3-Clause */
/* The sentence behind a status: one per thread, read by rdt_last_error(). */
#ifndef RDT_ERROR_H
#define RDT_ERROR_H

#include <rdtrain/rdtrain.h>

/*
 * Sets this thread's sentence and returns `status`, so that failing reads `return rdt_err(...)`.
 * A sentence says what happened, where (rank, host, device, address) and what to do about it.
 */
int rdt_err(enum rdt_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same with ": strerror(errno)" appended; for RDT_ERR_SYSTEM and its like. */
int rdt_err_errno(enum rdt_status status, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Internal: not a failure, try again after progress. Never returned to a user. */
#define RDT_AGAIN 1

#endif
