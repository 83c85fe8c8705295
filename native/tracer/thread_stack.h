/* Where the stack of the calling thread is. */
#ifndef MEMATLAS_TRACER_THREAD_STACK_H
#define MEMATLAS_TRACER_THREAD_STACK_H

#include <stdbool.h>
#include <stdint.h>

/* For a thread made by pthread_create(). False: the thread runs on another stack. */
bool trace_find_thread_stack(uintptr_t *low, uintptr_t *high);

#endif
