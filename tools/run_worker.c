/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Starting one worker of `rdtrain run`: its process group, its environment, its end with ours.
 * Knows nothing of the other workers or of the loop.
 */
#include "tools/run.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/error.h"

void run_raise_file_limit(struct rlimit *before)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, before))
		*before = (struct rlimit){ RLIM_INFINITY, RLIM_INFINITY };
	files = *before;
	files.rlim_cur = files.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &files); /* pipe(2) says when it is too low */
}

long run_threads(const struct run_settings *s)
{
	cpu_set_t set;
	long cpus = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set)
								 : sysconf(_SC_NPROCESSORS_ONLN);

	return cpus / s->workers > 1 ? cpus / s->workers : 1;
}

static void set_number(const char *name, long value, int overwrite)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", value);
	setenv(name, text, overwrite);
}

static void set_environment(const struct run_place *place)
{
	const struct run_settings *s = place->settings;

	if (place->newcomer) {
		unsetenv("RDTRAIN_RANK");
		unsetenv("RDTRAIN_SIZE");
		setenv("RDTRAIN_JOIN", "1", 1);
	} else {
		unsetenv("RDTRAIN_JOIN");
		set_number("RDTRAIN_RANK", place->rank, 1);
		set_number("RDTRAIN_SIZE", s->workers * s->nodes, 1);
	}
	set_number("RDTRAIN_LOCAL_RANK", place->local_rank, 1);
	set_number("RDTRAIN_LOCAL_SIZE", s->workers, 1);
	setenv("RDTRAIN_RENDEZVOUS", place->rendezvous, 1);
	setenv("RDTRAIN_SECRET", place->secret, 1);
	unsetenv("RDTRAIN_SECRET_FILE");
	setenv("RDTRAIN_JOB", s->job, 1);
	if (s->transport)
		setenv("RDTRAIN_TRANSPORT", s->transport, 1);
	/* A worker sees a pipe; this tells it what is behind. */
	if (isatty(STDOUT_FILENO))
		setenv("RDTRAIN_TERMINAL", "1", 1);
	/* Libraries with threads of their own share the processors out, unless told otherwise. What
	 * is said to OpenMP holds for OpenBLAS as well, but not when it has a number of its own. */
	if (!getenv("OMP_NUM_THREADS"))
		set_number("OPENBLAS_NUM_THREADS", run_threads(s), 0);
	set_number("OMP_NUM_THREADS", run_threads(s), 0);
}

/* The child's side; `failed` is closed by a successful exec, or says errno. */
static void become_worker(const struct run_place *place, pid_t parent, int out, int err, int failed)
{
	char **command = place->settings->command;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), error;
	sigset_t none;

	setpgid(0, 0);
	/* Our end is theirs, whatever ends us. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(RUN_EXIT_CANNOT_EXECUTE);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	(void)setrlimit(RLIMIT_NOFILE, &place->files);
	set_environment(place);
	if (dup2(null, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 &&
	    dup2(err, STDERR_FILENO) >= 0)
		execvp(command[0], command);
	error = errno;
	if (write(failed, &error, sizeof(error)) < 0)
		_exit(RUN_EXIT_CANNOT_EXECUTE);
	_exit(error == ENOENT ? RUN_EXIT_NOT_FOUND : RUN_EXIT_CANNOT_EXECUTE);
}

static void close_pair(int fds[2])
{
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* Reads errno of the failed exec, or the end of the file when it has worked. */
static int exec_error(int from)
{
	int error = 0;
	ssize_t n;

	do
		n = read(from, &error, sizeof(error));
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(error) ? error : 0;
}

int run_start_worker(const struct run_place *place, pid_t *pid, int *out, int *err)
{
	const char *command = place->settings->command[0];
	int outs[2] = { -1, -1 }, errs[2] = { -1, -1 }, failed[2] = { -1, -1 };
	pid_t parent = getpid(), child;
	int error;

	if (pipe2(outs, O_CLOEXEC) || pipe2(errs, O_CLOEXEC) || pipe2(failed, O_CLOEXEC)) {
		rdt_err_errno(RDT_ERR_SYSTEM, "no pipe for rank %d (ulimit -n is %llu)",
			      place->rank, (unsigned long long)place->files.rlim_max);
		goto fail;
	}
	fflush(NULL);
	child = fork();
	if (child < 0) {
		rdt_err_errno(RDT_ERR_SYSTEM, "no process for rank %d", place->rank);
		goto fail;
	}
	if (child == 0)
		become_worker(place, parent, outs[1], errs[1], failed[1]);
	setpgid(child, child); /* here as well: whoever comes first */
	close(failed[1]);
	failed[1] = -1;
	error = exec_error(failed[0]);
	if (error) {
		waitpid(child, NULL, 0);
		errno = error;
		rdt_err_errno(RDT_ERR_SYSTEM, "%s", command);
		close_pair(outs);
		close_pair(errs);
		close_pair(failed);
		return error == ENOENT ? RUN_EXIT_NOT_FOUND : RUN_EXIT_CANNOT_EXECUTE;
	}
	close(outs[1]);
	close(errs[1]);
	close(failed[0]);
	*pid = child;
	*out = outs[0];
	*err = errs[0];
	return 0;
fail:
	close_pair(outs);
	close_pair(errs);
	close_pair(failed);
	return EXIT_FAILURE;
}
