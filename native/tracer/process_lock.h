/* A lock that names its owner's process: one held when another thread forked is free in the child. */
#ifndef MEMATLAS_TRACER_PROCESS_LOCK_H
#define MEMATLAS_TRACER_PROCESS_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>

#include "syscall.h"

/* Does not wait. The owner stores 0 to release the lock. */
static inline bool trace_process_lock(_Atomic pid_t *owner)
{
	pid_t self = (pid_t)trace_syscall(SYS_getpid), before = atomic_load(owner);

	return before != self && atomic_compare_exchange_strong(owner, &before, self);
}

#endif
