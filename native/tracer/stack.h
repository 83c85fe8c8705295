/* The calling thread's stack as a number, unique in its ring. */
#ifndef MEMATLAS_TRACER_STACK_H
#define MEMATLAS_TRACER_STACK_H

#include "thread.h"

void trace_stack_start(struct trace_thread *thread);
/* Returns the ID of the calling thread's stack; 0 on failure. `locked`: it holds the GIL. */
uint32_t trace_stack(struct trace_thread *thread, bool locked);
/* The same for an interrupted thread, in its signal handler. */
uint32_t trace_stack_at(struct trace_thread *thread, const struct trace_point *point);

/* After dlclose(): forgets modules and their unwind rules. */
void trace_modules_changed(void);

#endif
