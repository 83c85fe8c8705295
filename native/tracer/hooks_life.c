/* Thread creation, dlclose and exit, and the library's own constructor and destructor. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "guard.h"
#include "join.h"
#include "life.h"
#include "patch.h"
#include "real.h"
#include "stack.h"
#include "state.h"

struct thread_start {
	void *(*routine)(void *);
	void *argument;
};

/* Claims a ring and finds the stack's bounds before the thread uses much of its stack. */
static void register_thread(void)
{
	if (!trace_enter())
		return;
	if (trace_ready())
		trace_thread_get();
	trace_leave();
}

static void *run_thread(void *argument)
{
	struct thread_start start = *(struct thread_start *)argument;

	trace_tls.routine = (uintptr_t)start.routine;
	register_thread();
	trace_real.free(argument);
	return start.routine(start.argument);
}

TRACE_EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr,
				void *(*routine)(void *), void *argument)
{
	struct thread_start *start = NULL;

	if (!trace_session_is_over() && !trace_tls.guard)
		start = trace_real.malloc(sizeof *start);
	if (!start)
		return trace_real.pthread_create(thread, attr, routine, argument);
	*start = (struct thread_start){routine, argument};
	int error = trace_real.pthread_create(thread, attr, run_thread, start);
	if (error)
		trace_real.free(start);
	return error;
}

TRACE_EXPORT int dlclose(void *handle)
{
	int result = trace_real.dlclose(handle);

	trace_modules_changed();
	if (trace_session.attached && !trace_session_is_over())
		trace_patch_closed();
	return result;
}

TRACE_EXPORT __attribute__((noreturn)) void _exit(int status)
{
	trace_exit();
	trace_real._exit(status);
	__builtin_unreachable();
}

TRACE_EXPORT __attribute__((noreturn, alias("_exit"))) void _Exit(int status);

TRACE_EXPORT __attribute__((noreturn)) void quick_exit(int status)
{
	trace_exit();
	trace_real.quick_exit(status);
	__builtin_unreachable();
}

__attribute__((constructor)) static void constructor(void)
{
	trace_resolve();
	if (!trace_is_preloaded())
		return; /* mematlas_attach() starts tracing */
	trace_start();
	if (!trace_session_is_over())
		pthread_atfork(trace_before_fork, NULL, trace_after_fork_in_child);
}

__attribute__((destructor)) static void destructor(void)
{
	trace_exit();
}
