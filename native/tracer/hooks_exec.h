/* The hooks that the other forms of exec, and system(), end in. */
#ifndef MEMATLAS_TRACER_HOOKS_EXEC_H
#define MEMATLAS_TRACER_HOOKS_EXEC_H

#include <spawn.h>

int trace_execve(const char *path, char *const argv[], char *const environment[]);
int trace_execvpe(const char *file, char *const argv[], char *const environment[]);
int trace_posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		      const posix_spawnattr_t *attributes, char *const argv[],
		      char *const environment[]);

#endif
