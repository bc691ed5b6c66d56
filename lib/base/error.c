/* SPDX-License-Identifier: BSD-3-Clause */
/* Status words, and the sentence of this thread's last failure. */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char sentence[1024];

const char *rdt_last_error(void)
{
	return sentence;
}

const char *rdt_strerror(int status)
{
	switch (status) {
	case RDT_OK: return "success";
	case RDT_ERR_INVALID: return "invalid argument";
	case RDT_ERR_NOMEM: return "out of memory or device resources";
	case RDT_ERR_MEMLOCK: return "locked-memory limit too low";
	case RDT_ERR_NO_DEVICE: return "no usable device";
	case RDT_ERR_UNREACHABLE: return "unreachable";
	case RDT_ERR_TIMEOUT: return "deadline passed";
	case RDT_ERR_PEER_LOST: return "peer lost";
	case RDT_ERR_MISMATCH: return "ranks disagree";
	case RDT_ERR_AUTH: return "not authenticated";
	case RDT_ERR_ABORTED: return "aborted";
	case RDT_ERR_SYSTEM: return "system call failed";
	case RDT_ERR_CORRUPT: return "data corrupted on the way";
	}
	return "unknown status";
}

/* Formats aside first: the arguments may point into the old sentence. */
static void set(const char *format, va_list args, const char *suffix)
{
	char text[sizeof(sentence)];
	int n = vsnprintf(text, sizeof(text), format, args);

	if (suffix && n >= 0 && (size_t)n < sizeof(text))
		snprintf(text + n, sizeof(text) - (size_t)n, ": %s", suffix);
	memcpy(sentence, text, sizeof(sentence));
}

int rdt_set_error(int status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	set(format, args, NULL);
	va_end(args);
	return status;
}

int rdt_err(enum rdt_status status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	set(format, args, NULL);
	va_end(args);
	return status;
}

int rdt_err_errno(enum rdt_status status, const char *format, ...)
{
	char reason[128];
	va_list args;
	const char *text = strerror_r(errno, reason, sizeof(reason));

	va_start(args, format);
	set(format, args, text);
	va_end(args);
	return status;
}
