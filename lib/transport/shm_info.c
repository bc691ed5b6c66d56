/* SPDX-License-Identifier: BSD-3-Clause */
/* What `rdtrain info` says of shared memory on this machine. */
#include "shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void say(rdt_info_fn line, void *arg, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void say(rdt_info_fn line, void *arg, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	line(arg, text);
}

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

/* Can memory be shared as connect() does it: a memfd, opened again through /proc, and a pidfd? */
static bool try_sharing(rdt_info_fn line, void *arg)
{
	int fd, again = -1, pidfd = -1;
	bool watched = true;
	char path[64];

	fd = memfd_create("rdtrain-info", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0) {
		say(line, arg, "shm does not work here: memfd_create fails: %s", strerror(errno));
		return false;
	}
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), fd);
	again = open(path, O_RDWR | O_CLOEXEC);
	if (again < 0)
		say(line, arg,
		    "shm does not work here: /proc/PID/fd cannot be opened: %s (is /proc mounted, "
		    "for this pid namespace, and the process dumpable?)",
		    strerror(errno));
	else
		pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (again >= 0 && pidfd < 0 && errno == ENOSYS) {
		watched = false;
		say(line, arg,
		    "the kernel has no pidfd: a process that dies is noticed through the "
		    "rendezvous "
		    "only");
	} else if (again >= 0 && pidfd < 0)
		say(line, arg,
		    "shm does not work here: pidfd_open fails: %s (a container's seccomp profile?)",
		    strerror(errno));
	close(fd);
	if (again >= 0)
		close(again);
	if (pidfd >= 0)
		close(pidfd);
	if (again < 0 || (pidfd < 0 && watched))
		return false;
	say(line, arg,
	    "shm works between processes of one user, one pid namespace and one user namespace "
	    "(memfd, /proc/PID/fd, pidfd)");
	return true;
}

static void tell_of_ordinary_memory(rdt_info_fn line, void *arg)
{
	const char *refused = rdt_shm_cma_refused();
	int scope = rdt_shm_ptrace_scope();
	char yama[64] = "no Yama";

	if (scope >= 0)
		snprintf(yama, sizeof(yama), "kernel.yama.ptrace_scope %d", scope);
	if (refused)
		say(line, arg,
		    "memory that is not from rdt_alloc: through scratch, no process_vm_writev: "
		    "%s (%s)",
		    refused, yama);
	else
		say(line, arg, "memory that is not from rdt_alloc: by process_vm_writev (%s%s)",
		    yama, scope == 1 ? ", workers permit it with PR_SET_PTRACER" : "");
}

static void tell_of_huge_pages(rdt_info_fn line, void *arg)
{
	static const char enabled[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
	char text[128];

	if (!read_first_line(enabled, text, sizeof(text)))
		say(line, arg, "huge pages for shared memory: not in this kernel");
	else if (strstr(text, "[advise]") || strstr(text, "[always]") || strstr(text, "[force]") ||
		 strstr(text, "[within_size]"))
		say(line, arg, "huge pages for shared memory: %s", text);
	else
		say(line, arg, "huge pages for shared memory: %s (echo advise > %s allows them)",
		    text, enabled);
}

bool rdt_shm_info(rdt_info_fn line, void *arg)
{
	bool works = try_sharing(line, arg);

	tell_of_ordinary_memory(line, arg);
	tell_of_huge_pages(line, arg);
	return works;
}
