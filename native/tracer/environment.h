/* Environments of programs that the traced program starts: they are traced too. */
#ifndef MEMATLAS_TRACER_ENVIRONMENT_H
#define MEMATLAS_TRACER_ENVIRONMENT_H

#include <stdbool.h>
#include <stddef.h>

/* Takes over the session's directory and this library's path. */
void trace_environment_start(void);

/* What an environment lacks. `entries` == 0: nothing, use it as it is. */
struct trace_environment_plan {
	size_t entries, characters; /* capacity needed for the copy */
	bool strip; /* remove the tracer instead: the program could not reach the session */
};
struct trace_environment_plan trace_environment_plan(char *const *environment);

/* Writes the completed copy into arrays of the planned capacity. */
void trace_environment_complete(const struct trace_environment_plan *plan, char *const *environment,
				char **entries, char *text);

#endif
