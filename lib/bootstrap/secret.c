/* SPDX-License-Identifier: BSD-3-Clause */
/* Reads secrets from files that only their owner can read (secret.h). */
#include "lib/bootstrap/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/error.h"

int rdt_secret_open(const char *what, const char *path, FILE **file)
{
	struct stat st;
	/* Non-blocking: a FIFO of that name must not hold us. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int status;

	if (fd < 0)
		return rdt_err_errno(RDT_ERR_INVALID, "%s names %s, which cannot be opened", what,
				     path);
	if (fstat(fd, &st)) {
		status = rdt_err_errno(RDT_ERR_INVALID, "%s names %s, which cannot be examined",
				       what, path);
		goto close_fd;
	}
	if (!S_ISREG(st.st_mode)) {
		status = rdt_err(RDT_ERR_INVALID, "%s names %s, which is not a regular file", what,
				 path);
		goto close_fd;
	}
	if (st.st_mode & 077) {
		status = rdt_err(RDT_ERR_INVALID,
				 "%s names %s, whose mode %03o lets others than its owner at the "
				 "secret; run: chmod 600 %s",
				 what, path, (unsigned)(st.st_mode & 0777), path);
		goto close_fd;
	}
	*file = fdopen(fd, "re");
	if (*file)
		return RDT_OK;
	status = rdt_err_errno(RDT_ERR_NOMEM, "cannot read %s", path);
close_fd:
	close(fd);
	return status;
}

int rdt_secret_read(const char *what, const char *path, char *secret, size_t room)
{
	char line[512];
	char *begin = line, *end;
	FILE *file;
	int status = rdt_secret_open(what, path, &file);

	if (status)
		return status;
	setvbuf(file, NULL, _IONBF, 0); /* no copy of the secret in a buffer we do not own */
	if (!fgets(line, sizeof(line), file))
		line[0] = 0;
	fclose(file);
	begin += strspn(begin, " \t\r\n");
	end = begin + strlen(begin);
	while (end > begin && strchr(" \t\r\n", end[-1]))
		end--;
	*end = 0;
	if (begin == end)
		status = rdt_err(RDT_ERR_INVALID,
				 "%s names %s, whose first line is empty; write the job's secret "
				 "there",
				 what, path);
	else if ((size_t)(end - begin) >= room)
		status = rdt_err(RDT_ERR_INVALID,
				 "%s names %s, whose first line is longer than a secret may be "
				 "(%zu characters)",
				 what, path, room - 1);
	else
		memcpy(secret, begin, (size_t)(end - begin) + 1);
	explicit_bzero(line, sizeof(line));
	return status;
}

bool rdt_job_name_ok(const char *job)
{
	size_t length = strnlen(job, 64);

	if (length == 0 || length > 63 || job[0] == '#' || !strcmp(job, "*"))
		return false;
	for (const char *c = job; *c; c++)
		if (*c <= ' ' || *c > '~')
			return false;
	return true;
}
