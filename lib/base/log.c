/* SPDX-License-Identifier: BSD-3-Clause */
/* The log; see log.h. Opened on first use, once for the process. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "path.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static enum rdt_log_level level = RDT_LOG_WARN;
static int fd = STDERR_FILENO;
static char host[HOST_NAME_MAX + 1];
static _Atomic int my_rank = -1;

static const char *const names[] = { "NONE", "WARN", "INFO", "TRACE" };

static int open_file(const char *pattern)
{
	char path[PATH_MAX];

	rdt_path_expand(pattern, -1, path, sizeof(path));
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static void setup(void)
{
	const char *want = getenv("RDTRAIN_DEBUG");
	const char *file = getenv("RDTRAIN_DEBUG_FILE");
	char text[PATH_MAX + 160];
	int n;

	gethostname(host, sizeof(host) - 1);
	if (file && *file) {
		int f = open_file(file);

		if (f >= 0)
			fd = f;
		else {
			n = snprintf(text, sizeof(text),
				     "rdtrain WARN: cannot open RDTRAIN_DEBUG_FILE=%s: %s; logging "
				     "to stderr\n",
				     file, strerror(errno));
			if (n > 0 && write(fd, text, (size_t)n) < 0)
				return;
		}
	}
	if (!want || !*want)
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcasecmp(want, names[i]) == 0) {
			level = (enum rdt_log_level)i;
			return;
		}
	n = snprintf(text, sizeof(text),
		     "rdtrain WARN: RDTRAIN_DEBUG=%.64s is none of NONE, WARN, INFO, TRACE; using "
		     "WARN\n",
		     want);
	if (n > 0 && write(fd, text, (size_t)n) < 0)
		return;
}

bool rdt_log_on(enum rdt_log_level at)
{
	pthread_once(&once, setup);
	return at <= level;
}

void rdt_log_set_rank(int rank)
{
	atomic_store_explicit(&my_rank, rank, memory_order_relaxed);
}

void rdt_log(enum rdt_log_level at, const char *format, ...)
{
	char line[2048];
	int rank = atomic_load_explicit(&my_rank, memory_order_relaxed);
	size_t n;
	int w;
	va_list args;

	if (!rdt_log_on(at))
		return;
	if (rank >= 0)
		w = snprintf(line, sizeof(line), "rdtrain %s %s:%d [%d] ", names[at], host,
			     getpid(), rank);
	else
		w = snprintf(line, sizeof(line), "rdtrain %s %s:%d ", names[at], host, getpid());
	n = w > 0 ? (size_t)w : 0;
	va_start(args, format);
	w = vsnprintf(line + n, sizeof(line) - n - 1, format, args);
	va_end(args);
	if (w > 0)
		n += (size_t)w < sizeof(line) - n - 1 ? (size_t)w : sizeof(line) - n - 2;
	line[n++] = '\n';
	while (write(fd, line, n) < 0 && errno == EINTR)
		;
}
