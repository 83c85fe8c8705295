/* system() and popen(): libc starts their shell by an internal call, which no hook sees, with `environ`,
 * which hides the session. */
#define _GNU_SOURCE
#include <alloca.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "environment.h"
#include "hooks_exec.h"
#include "memory.h"
#include "real.h"
#include "state.h"
#include "syscall.h"

#define LOCK_WAIT_NS 100000L
#define SHELL "/bin/sh"
#define SPAWN_FAILED (127 << 8) /* the wait status of a shell that could not be started */

/* A lock that names its owner's process: one held when another thread forked is free in the child. */
static bool try_lock(_Atomic pid_t *owner)
{
	pid_t self = getpid(), before = atomic_load(owner);

	return before != self && atomic_compare_exchange_strong(owner, &before, self);
}

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
	while (!try_lock(&ignored.owner))
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

static int spawn_shell(pid_t *pid, const char *line, const sigset_t *mask)
{
	char *argv[] = {"sh", "-c", (char *)(uintptr_t)line, NULL};
	posix_spawnattr_t attributes;
	sigset_t defaults;

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
	int cancellable;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable);
	ignore_signals();
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	trace_real.pthread_sigmask(SIG_BLOCK, &blocked, &before);
	int error = spawn_shell(&pid, line, &before);
	int status = error ? SPAWN_FAILED : wait_for(pid);
	int saved = error ? error : errno;
	restore_signals();
	trace_real.pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_setcancelstate(cancellable, NULL);
	errno = saved;
	return status;
}

TRACE_EXPORT int system(const char *line)
{
	int saved = errno;

	if (!trace_environment_is_known())
		return trace_real.system(line);
	int status = line ? run_shell(line) : run_shell("exit 0") == 0;
	if (status >= 0)
		errno = saved;
	return status;
}

/* The environment of popen()'s shell, `environ` while libc starts the shell. The memory is used again,
 * never unmapped: another thread may be reading it.
 */
static struct {
	_Atomic pid_t owner;
	size_t size;
	char *memory;
} shell;

static char **shell_environment(void)
{
	struct trace_environment_plan plan =
		trace_environment_plan(environ, trace_program_read(AT_FDCWD, SHELL, 0));
	size_t list = plan.entries * sizeof(char *), needed = list + plan.characters + 1;

	if (!plan.entries)
		return NULL;
	if (needed > shell.size) {
		size_t size =
			(2 * needed + TRACE_FILE_ALIGN - 1) / TRACE_FILE_ALIGN * TRACE_FILE_ALIGN;
		char *memory =
			trace_pages(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		if (memory == MAP_FAILED)
			return NULL;
		shell.memory = memory;
		shell.size = size;
	}
	trace_environment_complete(&plan, environ, (char **)shell.memory, shell.memory + list);
	return (char **)shell.memory;
}

TRACE_EXPORT FILE *popen(const char *line, const char *mode)
{
	char **before = environ, **completed = NULL;

	if (!trace_environment_is_known() || trace_session.sandboxed || !try_lock(&shell.owner))
		return trace_real.popen(line, mode);
	completed = shell_environment();
	if (completed)
		environ = completed;
	FILE *stream = trace_real.popen(line, mode);
	if (completed && environ == completed)
		environ = before;
	else if (completed) /* setenv() in another thread has made a copy */
		trace_environment_hide();
	atomic_store(&shell.owner, 0);
	return stream;
}
