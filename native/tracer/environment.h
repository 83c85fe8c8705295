/* The two variables that carry the session to programs: hidden from the traced program, restored in the
 * environments of programs that it starts. */
#ifndef MEMATLAS_TRACER_ENVIRONMENT_H
#define MEMATLAS_TRACER_ENVIRONMENT_H

#include <stdbool.h>
#include <stddef.h>

#include "program_file.h"

/* Takes over this library's path. */
void trace_environment_start(void);
/* Is there a session to pass on, joined or not? */
bool trace_environment_is_known(void);

/* Removes the variables from `environ`, whose array main() gets too, in place. */
void trace_environment_hide(void);

/* What a program's environment must become. `entries` == 0: nothing, use it as it is. */
struct trace_environment_plan {
	size_t entries, characters; /* capacity needed for the copy */
	enum trace_left_kind left; /* why the program runs untraced, or TRACE_LEFT_NOT */
	int library; /* descriptor to load the tracer from, where its path is out of reach; < 0: none */
	const char *preload; /* the variable as found, of that length, or NULL */
	size_t preload_length;
};
struct trace_environment_plan trace_environment_plan(char *const *environment,
						     enum trace_left_kind left);

/* Writes the copy into arrays of the planned capacity, whatever other threads have set since, and counts a program that runs untraced. */
void trace_environment_complete(const struct trace_environment_plan *plan, char *const *environment,
				char **entries, char *text);

#endif
