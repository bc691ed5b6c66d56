/* SPDX-License-Identifier: BSD-3-Clause */
/* What `rdtrain info` says of shared memory on this machine. */
#include "shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static bool read_first_line(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;

	if (fd >= 0) {
		n = read(fd, text, size - 1);
		close(fd);
	}
	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return n > 0;
}

/* Can memory be shared as connect() does it: a memfd, opened again through /proc? */
static const char *why_not(void)
{
	int fd = memfd_create("rdtrain-info", MFD_CLOEXEC), again;
	char path[64];

	if (fd < 0)
		return "memfd_create fails";
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), fd);
	again = open(path, O_RDWR | O_CLOEXEC);
	close(fd);
	if (again < 0)
		return "/proc/PID/fd cannot be opened";
	close(again);
	return NULL;
}

bool rdt_shm_info(rdt_info_fn line, void *arg)
{
	const char *cma = rdt_shm_cma_refused(), *reason = why_not();
	char text[256], huge[128];

	if (reason)
		snprintf(text, sizeof(text), "shm does not work here: %s (%s)", reason,
			 strerror(errno));
	else
		snprintf(text, sizeof(text),
			 "shm works between processes of one user and one pid namespace");
	line(arg, text);
	snprintf(text, sizeof(text), "memory that is not from rdt_alloc: %s%s",
		 cma ? "through scratch: " : "by process_vm_writev", cma ? cma : "");
	line(arg, text);
	if (read_first_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled", huge,
			    sizeof(huge)))
		snprintf(text, sizeof(text), "huge pages for shared memory: %s%s", huge,
			 strstr(huge, "[advise]") || strstr(huge, "[always]")
				 ? ""
				 : " (echo advise > "
				   "/sys/kernel/mm/transparent_hugepage/shmem_enabled would allow "
				   "them)");
	else
		snprintf(text, sizeof(text), "huge pages for shared memory: not in this kernel");
	line(arg, text);
	return !reason;
}
