/* Attach and detach: the tracer in a program that runs already. Called by the program itself
 * (mematlas.trace), or in one of its threads by a remote call of `mematlas attach`. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "guard.h"
#include "hook_table.h"
#include "join.h"
#include "late_modules.h"
#include "life.h"
#include "patch.h"
#include "python.h"
#include "python_eval.h"
#include "python_trace.h"
#include "real.h"
#include "state.h"

/* Declared as arrays, under other names: only the addresses matter, and the types differ. */
#define IF_PATCHED(text) text
#define IF_PRELOADED(text)
#define DECLARE(name) extern char hook_##name[] __asm__(#name);
#define DECLARE_HOOK(result, name, parameters, stub, patched) IF_##patched(DECLARE(name))
#define DECLARE_ALIAS(name, patched) IF_##patched(DECLARE(name))
TRACE_HOOKS(DECLARE_HOOK)
TRACE_HOOK_ALIASES(DECLARE_ALIAS)
TRACE_HOOK_OPERATORS(DECLARE, DECLARE)

#define ENTRY(name) {#name, hook_##name},
#define HOOK_ENTRY(result, name, parameters, stub, patched) IF_##patched(ENTRY(name))
#define ALIAS_ENTRY(name, patched) IF_##patched(ENTRY(name))
static const struct trace_hook hooks[] = {TRACE_HOOKS(HOOK_ENTRY) TRACE_HOOK_ALIASES(ALIAS_ENTRY)
						  TRACE_HOOK_OPERATORS(ENTRY, ENTRY)};

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
	trace_python_hook();
	trace_describe_python();
}

static void unhook(void)
{
	trace_python_unhook();
}

static void *hook_in_thread(void *unused)
{
	trace_tls.guard =
		TRACE_INSIDE; /* the interpreter's set-up of this thread is not the program's */
	with_interpreter(hook);
	return unused;
}

static void *unhook_in_thread(void *unused)
{
	trace_tls.guard = TRACE_INSIDE;
	with_interpreter(unhook);
	return unused;
}

/* Replacing the allocators needs the GIL. A thread under a remote call must not wait for the GIL, which
 * it may hold itself, so a new thread waits. That thread receives none of the program's signals. */
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

static void run_with_python(bool has_interpreter, void (*work)(void), void *(*thread)(void *))
{
	if (!trace_python_find())
		return;
	if (has_interpreter)
		work();
	else
		in_thread(thread);
}

/* Returns 0, -EBUSY (traced already), -ENOENT (the session cannot be reached) or -ENOMEM. */
int mematlas_attach(const char *session, int has_interpreter)
{
	static bool follows_forks;
	int error = trace_join(session);

	if (error)
		return error;
	TRACE_OWN_WORK;

	if (!follows_forks)
		follows_forks =
			pthread_atfork(trace_before_fork, NULL, trace_after_fork_in_child) == 0;
	trace_register_python();
	trace_modules_hold();
	bool patched = trace_patch_start(hooks, sizeof hooks / sizeof *hooks);
	trace_modules_release();
	if (!patched) {
		trace_disable("no memory for the hooks");
		return -ENOMEM;
	}
	run_with_python(has_interpreter, hook, hook_in_thread);
	return 0;
}

/* Afterwards no call of the program reaches the tracer. */
int mematlas_detach(const char *unused, int has_interpreter)
{
	(void)unused;
	if (!trace_patch_is_active())
		return -ESRCH;
	TRACE_OWN_WORK;

	trace_quit();
	trace_modules_hold();
	trace_patch_end();
	trace_modules_release();
	run_with_python(has_interpreter, unhook, unhook_in_thread);
	trace_give_back();
	return 0;
}
