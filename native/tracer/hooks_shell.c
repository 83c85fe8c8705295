/* system(): libc starts its shell by an internal call, which no hook sees, with `environ`, which hides the
 * session. */
#define _GNU_SOURCE
#include <errno.h>
#include <gnu/libc-version.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "environment.h"
#include "hooks_exec.h"
#include "process_lock.h"
#include "real.h"
#include "state.h"
#include "syscall.h"

#define LOCK_WAIT_NS 100000L
#define SHELL "/bin/sh"
#define SPAWN_FAILED (127 << 8) /* the wait status of a shell that could not be started */

/* Signals that all running calls of system() ignore together.
 *
 *   calls > 0 => SIGINT and SIGQUIT are ignored, and `before` has their actions */
static struct {
	_Atomic pid_t owner;
	int calls;
	struct sigaction before[2];
} ignored;

static const int ignored_signals[2] = {SIGINT, SIGQUIT};

static void lock_ignored(void)
{
	while (!trace_process_lock(&ignored.owner))
		trace_sleep(LOCK_WAIT_NS);
}

static void ignore_signals(void)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};

	lock_ignored();
	for (int i = 0; ignored.calls == 0 && i < 2; i++)
		trace_real.sigaction(ignored_signals[i], &ignore, &ignored.before[i]);
	ignored.calls++;
	atomic_store(&ignored.owner, 0);
}

static void restore_signals(void)
{
	lock_ignored();
	ignored.calls--;
	for (int i = 0; ignored.calls == 0 && i < 2; i++)
		trace_real.sigaction(ignored_signals[i], &ignored.before[i], NULL);
	atomic_store(&ignored.owner, 0);
}

/* Does system() of this C library keep the shell from reading a command as options? */
static bool separates_options(void)
{
	return strverscmp(gnu_get_libc_version(), "2.38") >= 0;
}

static int spawn_shell(pid_t *pid, const char *line, const sigset_t *mask)
{
	char *command = (char *)(uintptr_t)line;
	char *argv[] = {"sh", "-c", command, NULL, NULL};
	posix_spawnattr_t attributes;
	sigset_t defaults;

	if (separates_options()) {
		argv[2] = "--";
		argv[3] = command;
	}
	sigemptyset(&defaults);
	for (int i = 0; i < 2; i++)
		if (ignored.before[i].sa_handler != SIG_IGN)
			sigaddset(&defaults, ignored_signals[i]);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, mask);
	posix_spawnattr_setsigdefault(&attributes, &defaults);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	int error = trace_posix_spawn(pid, SHELL, NULL, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	return error;
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) != pid)
		if (errno != EINTR)
			return -1;
	return status;
}

/* As system(3) describes, with the hook of posix_spawn(). A thread cannot be cancelled here: the cleanup
 * would need the C++ unwinder, which this library must not load. */
static int run_shell(const char *line)
{
	sigset_t blocked, before;
	pid_t pid;
	int cancellable, saved = errno;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable);
	ignore_signals();
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	trace_real.pthread_sigmask(SIG_BLOCK, &blocked, &before);
	int error = spawn_shell(&pid, line, &before);
	int status = error ? SPAWN_FAILED : wait_for(pid);
	if (error)
		saved = error;
	else if (status < 0)
		saved = errno;
	restore_signals();
	trace_real.pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_setcancelstate(cancellable, NULL);
	errno = saved;
	return status;
}

TRACE_EXPORT int system(const char *line)
{
	if (!trace_environment_is_known())
		return trace_real.system(line);
	return line ? run_shell(line) : run_shell("exit 0") == 0;
}
