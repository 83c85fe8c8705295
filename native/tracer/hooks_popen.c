/* popen(): libc starts its shell by an internal call, which no hook sees, with `environ`, which hides the
 * session. */
#define _GNU_SOURCE
#include "hooks_popen.h"

#include <alloca.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "environment.h"
#include "memory.h"
#include "process_lock.h"
#include "real.h"
#include "state.h"

#define SHELL "/bin/sh"

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

void trace_popen_after_fork(void)
{
	pid_t owner = atomic_load(&shell.owner);

	if (!starts_shell && owner && owner != getpid() && shell.memory &&
	    environ == (char **)shell.memory)
		restore_environment();
}

TRACE_EXPORT FILE *popen(const char *line, const char *mode)
{
	trace_popen_after_fork(); /* of a child whose fork ran no handlers */
	if (!trace_environment_is_known() || trace_session.sandboxed || !trace_process_lock(&shell.owner))
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
