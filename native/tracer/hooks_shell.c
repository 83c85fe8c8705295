/* system() and popen(): libc starts their shell by an internal call, which no hook sees, with `environ`,
 * which hides the session. */
#define _GNU_SOURCE
#include <alloca.h>
#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "environment.h"
#include "hooks_exec.h"
#include "hooks_shell.h"
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

/* The environment of popen()'s shell, `environ` while libc starts the shell. The memory is used again,
 * never unmapped: another thread may be reading it.
 *
 *   memory: the array, the text, and the array as it was written */
static struct {
	_Atomic pid_t owner;
	size_t size, list; /* bytes of the memory, and of the array */
	char *memory;
	char **before; /* `environ` of the program */
	const char *written;
} shell;

/* popen() before glibc 2.29 forks. */
static __thread bool starts_shell __attribute__((tls_model("initial-exec")));

static bool reserve(size_t needed)
{
	if (needed <= shell.size)
		return true;
	size_t size = (2 * needed + TRACE_FILE_ALIGN - 1) / TRACE_FILE_ALIGN * TRACE_FILE_ALIGN;
	char *memory = trace_pages(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (memory == MAP_FAILED)
		return false;
	shell.memory = memory;
	shell.size = size;
	return true;
}

/* Lets `environ` be what the shell gets. False: the shell gets the program's own. */
static bool complete_environment(void)
{
	struct trace_environment_plan plan =
		trace_environment_plan(environ, trace_program_read(AT_FDCWD, SHELL, 0));
	size_t list = plan.entries * sizeof(char *);
	size_t text = (plan.characters + sizeof(char *)) / sizeof(char *) * sizeof(char *);

	if (!plan.entries || !reserve(list + text + list))
		return false;
	char **array = (char **)shell.memory;
	shell.before = environ;
	trace_environment_complete(&plan, environ, array, shell.memory + list);
	for (shell.list = sizeof *array; *array; array++)
		shell.list += sizeof *array;
	shell.written = memcpy(shell.memory + list + text, shell.memory, shell.list);
	environ = (char **)shell.memory;
	return true;
}

/* setenv() in another thread may have made a copy of the array meanwhile, or may have changed the array. Its
 * result stays, without the session. */
static void restore_environment(void)
{
	bool own = environ == (char **)shell.memory;

	if (own && memcmp(shell.memory, shell.written, shell.list) == 0) {
		environ = shell.before;
		return;
	}
	trace_environment_hide();
	/* The text belongs to the program's environment from now on. */
	shell.memory = NULL;
	shell.size = 0;
}

void trace_shell_after_fork(void)
{
	pid_t owner = atomic_load(&shell.owner);

	if (!starts_shell && owner && owner != getpid() && shell.memory &&
	    environ == (char **)shell.memory)
		restore_environment();
}

TRACE_EXPORT FILE *popen(const char *line, const char *mode)
{
	trace_shell_after_fork(); /* of a child whose fork ran no handlers */
	if (!trace_environment_is_known() || trace_session.sandboxed || !try_lock(&shell.owner))
		return trace_real.popen(line, mode);
	bool completed = complete_environment();
	starts_shell = true;
	FILE *stream = trace_real.popen(line, mode);
	int saved = errno;
	starts_shell = false;
	if (completed)
		restore_environment();
	errno = saved;
	atomic_store(&shell.owner, 0);
	return stream;
}
