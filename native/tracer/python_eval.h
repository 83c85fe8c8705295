/* The interpreter as the process file describes it: version, hooks, eval loop. */
#ifndef MEMATLAS_TRACER_PYTHON_EVAL_H
#define MEMATLAS_TRACER_PYTHON_EVAL_H

#include <stdbool.h>

#include "unwind.h"

/* Writes version, hooks and eval loop into the process file. */
void trace_describe_python(void);

/* Searches the walk for parts of the eval loop. `seen`: the frames that are unchanged since the last
 * emitted stack were searched before. False: there were too many entries to search them all. */
bool trace_discover_eval_loop(const struct trace_walk *walk, bool seen);

#endif
