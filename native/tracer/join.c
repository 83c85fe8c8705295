/* Joins a session and leaves it again. */
#define _GNU_SOURCE
#include "join.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "environment.h"
#include "faults.h"
#include "guard.h"
#include "life.h"
#include "memory.h"
#include "modules.h"
#include "process_file.h"
#include "python_eval.h"
#include "python_trace.h"
#include "quiesce.h"
#include "real.h"
#include "session_socket.h"
#include "unwind.h"

static bool join_session(const char *text)
{
	if (!trace_session_open(text))
		return false;
	trace_environment_start();
	return trace_process_file_open(0, 0) && trace_life_start() && trace_live_start() &&
	       trace_unwind_start();
}

/* Under a limit on address space, the program needs the memory that its tracer cannot use. */
static void refuse_session(void)
{
	trace_disable("could not join the session");
	if (trace_session.process)
		trace_process_file_close();
}

/* A malloc() linked into the program takes precedence over a preloaded one. */
static bool is_malloc_bypassed(void)
{
	const struct link_map *module = trace_first_module(), *own = trace_own_module();
	struct trace_symbol found;

	for (; module && module != own; module = module->l_next)
		if (trace_symbol_in(module, "malloc", &found))
			return true;
	return false;
}

static void begin(void)
{
	__atomic_store_n(&trace_exact_generation, trace_session.exact ? trace_generation : 0,
			 __ATOMIC_RELAXED);
	atomic_store(&trace_state, TRACE_JOINED);
}

static void start(void)
{
	TRACE_OWN_WORK;

	trace_resolve();
	if (!join_session(getenv(TRACE_SESSION_VARIABLE))) {
		refuse_session();
		return;
	}
	trace_tls.left = 0;
	trace_session.process->own_malloc = is_malloc_bypassed();
	trace_register_python();
	if (trace_python_find())
		trace_python_hook();
	trace_describe_python();
	trace_life_running();
	begin();
	trace_live_add_deferred();
	trace_faults_start();
}

bool trace_start(void)
{
	int expected = TRACE_UNSTARTED;

	/* The environment is unset until libc has started: then the next call joins. */
	if (environ && atomic_compare_exchange_strong(&trace_state, &expected, TRACE_JOINING))
		start();
	return atomic_load(&trace_state) == TRACE_JOINED;
}

static bool has_left; /* no mapping of the last session is left */

/* Threads that are inside end there soon; no other enters. */
static void leave(void)
{
	__atomic_add_fetch(&trace_generation, 1, __ATOMIC_SEQ_CST);
	has_left = trace_quiesce();
	if (has_left)
		trace_session_detach();
}

int trace_join(const char *text)
{
	int before = atomic_load(&trace_state);

	if (before == TRACE_JOINED || before == TRACE_JOINING ||
	    !atomic_compare_exchange_strong(&trace_state, &before, TRACE_JOINING))
		return -EBUSY;
	TRACE_OWN_WORK;

	trace_resolve();
	trace_session.attached = true;
	if (trace_session.process && !has_left) {
		leave();
		if (!has_left)
			trace_session_abandon();
	}
	has_left = false;
	if (!join_session(text)) {
		refuse_session();
		return -ENOENT;
	}
	trace_tls.left = 0;
	trace_publish_maps();
	trace_life_running();
	begin();
	return 0;
}

void trace_quit(void)
{
	if (trace_is_joined())
		trace_disable(TRACE_DETACHED);
	trace_socket_close();
}

void trace_give_back(void)
{
	if (trace_session_is_over() && trace_session.process && !has_left)
		leave();
}
