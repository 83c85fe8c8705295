/* The two hooks that all forms of exec end in. */
#ifndef MEMATLAS_TRACER_HOOKS_EXEC_H
#define MEMATLAS_TRACER_HOOKS_EXEC_H

int trace_execve(const char *path, char *const argv[], char *const environment[]);
int trace_execvpe(const char *file, char *const argv[], char *const environment[]);

#endif
