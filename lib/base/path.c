/* SPDX-License-Identifier: BSD-3-Clause */
#include "path.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool rdt_path_expand(const char *pattern, int rank, char *path, size_t size)
{
	char host[HOST_NAME_MAX + 1] = "";
	bool own = false;
	size_t n = 0;

	gethostname(host, sizeof(host) - 1);
	for (const char *p = pattern; *p && n + 1 < size; p++) {
		char word[HOST_NAME_MAX + 1];
		size_t length;

		if (p[0] == '%' && p[1] == 'h')
			strcpy(word, host);
		else if (p[0] == '%' && p[1] == 'p')
			snprintf(word, sizeof(word), "%d", getpid());
		else if (p[0] == '%' && p[1] == 'r' && rank >= 0)
			snprintf(word, sizeof(word), "%d", rank);
		else {
			path[n++] = *p;
			if (p[0] == '%' && p[1] == '%')
				p++;
			continue;
		}
		p++;
		own = own || *p != 'h';
		length = strlen(word);
		if (length > size - 1 - n)
			length = size - 1 - n;
		memcpy(path + n, word, length);
		n += length;
	}
	path[n] = '\0';
	return own;
}
