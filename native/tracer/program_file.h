/* Program files as read before their exec: whether their loader would load the tracer. Safe after vfork()
 * and in signal handlers: system calls and the stack only; errno is kept. */
#ifndef MEMATLAS_TRACER_PROGRAM_FILE_H
#define MEMATLAS_TRACER_PROGRAM_FILE_H

#include "../include/trace_format.h"

/* Reads the file that execveat(directory, path, flags) would execute; of a script, its interpreter.
 * TRACE_LEFT_NOT: the tracer can be loaded, or nothing is known. */
enum trace_left_kind trace_program_read(int directory, const char *path, int flags);
/* Likewise for execvp(file), which searches $PATH. */
enum trace_left_kind trace_program_search(const char *file);

#endif
