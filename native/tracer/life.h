/* Fork, exec and exit of the traced process. */
#ifndef MEMATLAS_TRACER_LIFE_H
#define MEMATLAS_TRACER_LIFE_H

#include <stdbool.h>

/* Maps the fork mark. False: no memory. */
bool trace_life_start(void);
/* Reports the process as running, once its file is complete. */
void trace_life_running(void);

void trace_before_fork(void);
/* Also called lazily, for a child of a fork that runs no handlers. */
void trace_after_fork_in_child(void);
void trace_before_exec(void);
void trace_exec_failed(void);
/* Waits for a snapshot, as at an exit; the process may go on. */
void trace_before_abort(void);
/* Waits for the collector's exit snapshot, ten seconds at most. */
void trace_exit(void);

#endif
