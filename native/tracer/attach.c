/* Into a program that is running, and out of it again. Called by the program itself (mematlas.trace), or
 * by a thread of it that `mematlas attach` borrowed. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "tracer.h"

TRACE_EXPORT int mematlas_attach(const char *session, int has_interpreter);
TRACE_EXPORT int mematlas_detach(const char *unused, int has_interpreter);

static void with_interpreter(void (*work)(void))
{
	int (*ensure)(void) = (int (*)(void))trace_python_symbol("PyGILState_Ensure");
	void (*release)(int) = (void (*)(int))trace_python_symbol("PyGILState_Release");
	int (*initialized)(void) = (int (*)(void))trace_python_symbol("Py_IsInitialized");

	if (!ensure || !release || !initialized || !initialized())
		return;
	int held = ensure();
	work();
	release(held);
}

static void hook(void)
{
	trace_hook_python();
	trace_describe_python();
}

static void unhook(void)
{
	trace_python_unhook();
}

static void *hook_in_thread(void *unused)
{
	trace_tls.guard = TRACE_INSIDE; /* the interpreter's own doings for this thread are ours */
	with_interpreter(hook);
	return unused;
}

static void *unhook_in_thread(void *unused)
{
	trace_tls.guard = TRACE_INSIDE;
	with_interpreter(unhook);
	return unused;
}

/* Allocators change hands with the interpreter's lock held. A borrowed thread cannot wait for that: it may
 * be the one that holds it. A thread of our own can; it gets none of the program's signals. */
static void in_thread(void *(*work)(void *))
{
	pthread_attr_t attributes;
	pthread_t thread;
	sigset_t all, before;

	sigfillset(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	trace_real.pthread_sigmask(SIG_SETMASK, &all, &before);
	trace_real.pthread_create(&thread, &attributes, work, NULL);
	trace_real.pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
}

static void meet_python(bool has_interpreter, void (*work)(void), void *(*thread)(void *))
{
	if (!trace_python_find())
		return;
	if (has_interpreter)
		work();
	else
		in_thread(thread);
}

/* 0, or -EBUSY: traced already; -ENOENT: the session cannot be reached; -ENOMEM. */
int mematlas_attach(const char *session, int has_interpreter)
{
	static bool follows_forks;
	int saved = errno, guard = trace_tls.guard;
	int error = trace_join(session);

	if (error)
		return error;
	trace_tls.guard = TRACE_INSIDE;
	if (!follows_forks)
		follows_forks =
			pthread_atfork(trace_before_fork, NULL, trace_after_fork_in_child) == 0;
	if (!trace_patch_start()) {
		trace_disable("no memory for the hooks");
		error = -ENOMEM;
	} else {
		meet_python(has_interpreter, hook, hook_in_thread);
	}
	trace_tls.guard = guard;
	errno = saved;
	return error;
}

/* From then on no call of the program comes by here; what was mapped stays, unused. */
int mematlas_detach(const char *unused, int has_interpreter)
{
	int saved = errno, guard = trace_tls.guard;

	(void)unused;
	if (!trace_patch_is_in())
		return -ESRCH;
	trace_quit();
	trace_tls.guard = TRACE_INSIDE;
	trace_patch_end();
	meet_python(has_interpreter, unhook, unhook_in_thread);
	trace_tls.guard = guard;
	errno = saved;
	return 0;
}
