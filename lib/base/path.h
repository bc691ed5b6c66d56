/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of files that each worker writes for itself: patterns from the environment. */
#ifndef RDT_PATH_H
#define RDT_PATH_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Writes `pattern` to path[size], with %h replaced by the host's name, %p by the process id, %r by
 * `rank` when that is not negative, and %% by a percent sign. Cuts off what does not fit. Returns
 * whether the name is this worker's own: %p or %r was in it.
 */
bool rdt_path_expand(const char *pattern, int rank, char *path, size_t size);

#endif
