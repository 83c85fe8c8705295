/* Fork, exec and exit of the traced process. */
#ifndef MEMATLAS_TRACER_LIFE_H
#define MEMATLAS_TRACER_LIFE_H

#include <stdbool.h>

/* Called once a session is joined. */
bool trace_life_start(void);
void trace_life_running(void);

void trace_before_fork(void);
/* Also called lazily, for a child of a fork that runs no handlers. */
void trace_after_fork_in_child(void);
void trace_before_exec(void);
void trace_exec_failed(void);
/* Lets the collector take the exit snapshot; waits a second at most. */
void trace_exit(void);

#endif
