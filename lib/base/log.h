/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The log: RDTRAIN_DEBUG=WARN|INFO|TRACE (default: only warnings, none with NONE), to stderr or to
 * RDTRAIN_DEBUG_FILE (%h host, %p process). The only global state of the library. A line is written
 * by one write(2), so that ranks sharing a terminal do not tear each other's lines.
 */
#ifndef RDT_LOG_H
#define RDT_LOG_H

#include <stdbool.h>

enum rdt_log_level { RDT_LOG_NONE, RDT_LOG_WARN, RDT_LOG_INFO, RDT_LOG_TRACE };

bool rdt_log_on(enum rdt_log_level level);
void rdt_log(enum rdt_log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Once known, lines carry this process's rank: "rdtrain INFO host:pid [2] ...". */
void rdt_log_set_rank(int rank);

#define rdt_warn(...) rdt_log(RDT_LOG_WARN, __VA_ARGS__)
#define rdt_info(...)                                                                              \
	do {                                                                                       \
		if (rdt_log_on(RDT_LOG_INFO))                                                      \
			rdt_log(RDT_LOG_INFO, __VA_ARGS__);                                        \
	} while (0)
#define rdt_trace(...)                                                                             \
	do {                                                                                       \
		if (rdt_log_on(RDT_LOG_TRACE))                                                     \
			rdt_log(RDT_LOG_TRACE, __VA_ARGS__);                                       \
	} while (0)

#endif
