/* Thread creation, dlclose and exit, and the library's own constructor and destructor. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "environment.h"
#include "guard.h"
#include "join.h"
#include "late_modules.h"
#include "life.h"
#include "modules.h"
#include "real.h"
#include "stack.h"
#include "state.h"

/* What a thread begins with, from its creation until it runs. Not on the heap, which is the program's. */
struct thread_start {
	_Atomic bool taken;
	void *(*routine)(void *);
	void *argument;
};
#define STARTS 256u

/* NULL: that many threads are about to run; the next ones are registered by their first event. */
static struct thread_start *take_start(void)
{
	static struct thread_start starts[STARTS];
	static _Atomic unsigned next;
	unsigned first = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed);

	for (unsigned i = 0; i < STARTS; i++) {
		struct thread_start *start = &starts[(first + i) % STARTS];
		if (!atomic_exchange(&start->taken, true))
			return start;
	}
	return NULL;
}

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
	struct thread_start *start = argument;
	void *(*routine)(void *) = start->routine;
	void *passed = start->argument;

	trace_tls.routine = (uintptr_t)routine;
	atomic_store(&start->taken, false);
	register_thread();
	return routine(passed);
}

TRACE_EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr,
				void *(*routine)(void *), void *argument)
{
	struct thread_start *start = NULL;

	if (!trace_session_is_over() && !trace_tls.guard)
		start = take_start();
	if (!start)
		return trace_real.pthread_create(thread, attr, routine, argument);
	start->routine = routine;
	start->argument = argument;
	int error = trace_real.pthread_create(thread, attr, run_thread, start);
	if (error)
		atomic_store(&start->taken, false);
	return error;
}

TRACE_EXPORT int dlclose(void *handle)
{
	trace_modules_before_close();
	int result = trace_real.dlclose(handle);

	trace_modules_after_close();
	trace_modules_changed();
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

/* The process goes on after this if a handler of SIGABRT jumps away. */
TRACE_EXPORT __attribute__((noreturn)) void abort(void)
{
	trace_before_abort();
	trace_real.abort();
	__builtin_unreachable();
}

/* assert() ends the process by an abort() inside the C library, which declares these with assertions
 * alone. */
void __assert_fail(const char *, const char *, unsigned, const char *);
void __assert_perror_fail(int, const char *, unsigned, const char *);
void __assert(const char *, const char *, int);

TRACE_EXPORT __attribute__((noreturn)) void __assert_fail(const char *assertion, const char *file,
							  unsigned line, const char *function)
{
	trace_before_abort();
	trace_real.__assert_fail(assertion, file, line, function);
	__builtin_unreachable();
}

TRACE_EXPORT __attribute__((noreturn)) void __assert_perror_fail(int error, const char *file,
								 unsigned line,
								 const char *function)
{
	trace_before_abort();
	trace_real.__assert_perror_fail(error, file, line, function);
	__builtin_unreachable();
}

TRACE_EXPORT __attribute__((noreturn)) void __assert(const char *assertion, const char *file,
						     int line)
{
	trace_before_abort();
	trace_real.__assert(assertion, file, line);
	__builtin_unreachable();
}

__attribute__((constructor)) static void constructor(void)
{
	trace_resolve();
	if (!trace_is_preloaded())
		return; /* mematlas_attach() starts tracing */
	trace_start();
	trace_environment_hide();
	if (!trace_session_is_over())
		pthread_atfork(trace_before_fork, NULL, trace_after_fork_in_child);
}

__attribute__((destructor)) static void destructor(void)
{
	trace_exit();
}
