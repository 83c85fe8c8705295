/* exec and posix_spawn: the programs they start are traced too. */
#define _GNU_SOURCE
#include "hooks_exec.h"

#include <alloca.h>
#include <fcntl.h>
#include <unistd.h>

#include "environment.h"
#include "life.h"
#include "real.h"
#include "state.h"

/* A session that this program has left is passed on: another program may be able to join it. In a sandbox no
 * system call is made. */
#define READ_PROGRAM(read)                                                                         \
	(trace_environment_is_known() && !trace_session.sandboxed ? (read) : TRACE_LEFT_NOT)

/* The copy is on the stack: after vfork() the heap is the parent's. */
#define COMPLETED(read, environment)                                                               \
	({                                                                                         \
		struct trace_environment_plan plan_ =                                              \
			trace_environment_plan(environment, READ_PROGRAM(read));                   \
		char *const *completed_ = (environment);                                           \
		if (plan_.entries) {                                                               \
			char **list_ = alloca(plan_.entries * sizeof *list_);                      \
			trace_environment_complete(&plan_, environment, list_,                     \
						   alloca(plan_.characters + 1));                  \
			completed_ = list_;                                                        \
		}                                                                                  \
		completed_;                                                                        \
	})

/* The ending image gets its exit snapshot; it continues running if the call fails. */
#define EXECUTE(call)                                                                              \
	({                                                                                         \
		trace_before_exec();                                                               \
		int result_ = (call);                                                              \
		trace_exec_failed();                                                               \
		result_;                                                                           \
	})

int trace_execve(const char *path, char *const argv[], char *const environment[])
{
	return EXECUTE(trace_real.execve(
		path, argv, COMPLETED(trace_program_read(AT_FDCWD, path, 0), environment)));
}

int trace_execvpe(const char *file, char *const argv[], char *const environment[])
{
	return EXECUTE(
		trace_real.execvpe(file, argv, COMPLETED(trace_program_search(file), environment)));
}

TRACE_EXPORT int execve(const char *path, char *const argv[], char *const environment[])
	__attribute__((alias("trace_execve")));
TRACE_EXPORT int execvpe(const char *file, char *const argv[], char *const environment[])
	__attribute__((alias("trace_execvpe")));

TRACE_EXPORT int fexecve(int fd, char *const argv[], char *const environment[])
{
	return EXECUTE(trace_real.fexecve(
		fd, argv, COMPLETED(trace_program_read(fd, "", AT_EMPTY_PATH), environment)));
}

TRACE_EXPORT int execveat(int directory, const char *path, char *const argv[],
			  char *const environment[], int flags)
{
	return EXECUTE(trace_real.execveat(
		directory, path, argv,
		COMPLETED(trace_program_read(directory, path, flags), environment), flags));
}

int trace_posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		      const posix_spawnattr_t *attributes, char *const argv[],
		      char *const environment[])
{
	return trace_real.posix_spawn(
		pid, path, actions, attributes, argv,
		COMPLETED(trace_program_read(AT_FDCWD, path, 0), environment));
}

TRACE_EXPORT int posix_spawn(pid_t *pid, const char *path,
			     const posix_spawn_file_actions_t *actions,
			     const posix_spawnattr_t *attributes, char *const argv[],
			     char *const environment[]) __attribute__((alias("trace_posix_spawn")));

TRACE_EXPORT int posix_spawnp(pid_t *pid, const char *file,
			      const posix_spawn_file_actions_t *actions,
			      const posix_spawnattr_t *attributes, char *const argv[],
			      char *const environment[])
{
	return trace_real.posix_spawnp(pid, file, actions, attributes, argv,
				       COMPLETED(trace_program_search(file), environment));
}
