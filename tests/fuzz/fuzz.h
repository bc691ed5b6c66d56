/* SPDX-License-Identifier: BSD-3-Clause */
/* What libFuzzer calls, and what the targets share. A target is built with clang only, by the
 * preset `fuzz`; tests/fuzz/corpus/NAME holds what it begins with and what once failed. */
#ifndef RDT_TEST_FUZZ_H
#define RDT_TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold. */
#define FUZZ_CHECK(condition)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__,           \
				#condition);                                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* The input as text of its own size: what reads past the end is found. */
static inline char *fuzz_text(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	FUZZ_CHECK(text);
	memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

/* The input as a file that its owner alone may read; the same name for all inputs. */
static inline const char *fuzz_file(const uint8_t *data, size_t size)
{
	static char path[] = "/tmp/rdtrain-fuzz-XXXXXX";
	static int fd = -1;

	if (fd < 0) {
		fd = mkstemp(path);
		FUZZ_CHECK(fd >= 0);
	}
	FUZZ_CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
	return path;
}

#endif
