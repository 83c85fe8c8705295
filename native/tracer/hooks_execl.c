/* The forms of exec that libc implements by an internal execve(), which no hook sees. */
#define _GNU_SOURCE
#include <alloca.h>
#include <stdarg.h>
#include <unistd.h>

#include "hooks_exec.h"
#include "state.h"

extern char **environ;

TRACE_EXPORT int execv(const char *path, char *const argv[])
{
	return trace_execve(path, argv, environ);
}

TRACE_EXPORT int execvp(const char *file, char *const argv[])
{
	return trace_execvpe(file, argv, environ);
}

/* Reads the arguments after `first` up to their NULL into an array on the stack. */
#define COLLECT(first, list, argv)                                                                 \
	do {                                                                                       \
		va_list counted_;                                                                  \
		size_t count_ = 1;                                                                 \
		va_copy(counted_, list);                                                           \
		while (va_arg(counted_, char *))                                                   \
			count_++;                                                                  \
		va_end(counted_);                                                                  \
		argv = alloca((count_ + 1) * sizeof *argv);                                        \
		argv[0] = (char *)(uintptr_t)(first);                                              \
		for (size_t i_ = 1; i_ <= count_; i_++)                                            \
			argv[i_] = va_arg(list, char *);                                           \
	} while (0)

TRACE_EXPORT int execl(const char *path, const char *first, ...)
{
	char **argv;
	va_list list;

	va_start(list, first);
	COLLECT(first, list, argv);
	va_end(list);
	return trace_execve(path, argv, environ);
}

TRACE_EXPORT int execlp(const char *file, const char *first, ...)
{
	char **argv;
	va_list list;

	va_start(list, first);
	COLLECT(first, list, argv);
	va_end(list);
	return trace_execvpe(file, argv, environ);
}

TRACE_EXPORT int execle(const char *path, const char *first, ...)
{
	char **argv;
	va_list list;

	va_start(list, first);
	COLLECT(first, list, argv);
	char *const *environment = va_arg(list, char *const *);
	va_end(list);
	return trace_execve(path, argv, environment);
}
