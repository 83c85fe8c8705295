/* Between the Python side of the tracer and the rest of it. */
#include <string.h>

#include "record.h"
#include "tracer.h"

static bool freeing(void *block)
{
	if (!trace_enter())
		return false;
	bool was_live = trace_freeing(TRACE_PYOBJECT, block);
	trace_leave();
	return was_live;
}

static void restore(void *block)
{
	if (!trace_enter())
		return;
	trace_restore(TRACE_PYOBJECT, block);
	trace_leave();
}

void trace_hook_python(void)
{
	static struct trace_python_callbacks callbacks = {
		.allocated = trace_object_allocated,
		.freeing = freeing,
		.restore = restore,
	};

	callbacks.every_free = trace_session.exact;
	trace_python_hook(&callbacks);
}

static bool in_eval_loop(uintptr_t pc)
{
	for (unsigned i = 0; i < TRACE_EVAL_RANGES && trace_python.eval_end[i]; i++)
		if (pc > trace_python.eval_start[i] && pc <= trace_python.eval_end[i])
			return true;
	return false;
}

static void add_eval_range(uintptr_t start, uintptr_t end)
{
	static _Atomic unsigned used = 1; /* the first is the function's own symbol */
	unsigned index = atomic_fetch_add(&used, 1);

	if (index >= TRACE_EVAL_RANGES) {
		atomic_store(&used, TRACE_EVAL_RANGES);
		return;
	}
	trace_python.eval_start[index] = start;
	__atomic_store_n(&trace_python.eval_end[index], end, __ATOMIC_RELEASE);
	trace_session.process->eval_start[index] = start;
	__atomic_store_n(&trace_session.process->eval_end[index], end, __ATOMIC_RELEASE);
}

#define EVAL_PLACES 16u

/* Compilers split the eval loop, and symbols name but one of its parts. Yet each of its calls keeps
 * a frame of its own on the C stack, and so tells whose code that is. */
bool trace_learn_eval_loop(const struct trace_walk *walk, bool known)
{
	uintptr_t until = known ? walk->frames[walk->same].sp : UINTPTR_MAX;
	uintptr_t places[EVAL_PLACES], start, end;
	unsigned from = walk->count;
	unsigned count = trace_python_entries(places, EVAL_PLACES, until);

	for (unsigned i = 0; i < count; i++) {
		uintptr_t pc = trace_walk_owner(walk, places[i], &from);
		if (pc && !in_eval_loop(pc) &&
		    trace_cfi_function(pc - 1, trace_eh_frame_hdr(pc), &start, &end))
			add_eval_range(start, end);
	}
	return count < EVAL_PLACES;
}

void trace_describe_python(void)
{
	struct trace_process *process = trace_session.process;

	memcpy(process->eval_start, trace_python.eval_start, sizeof process->eval_start);
	memcpy(process->eval_end, trace_python.eval_end, sizeof process->eval_end);
	process->python_hooked = trace_python.hooked;
	process->python_free_threaded = trace_python.free_threaded;
	__atomic_store_n(&process->python_version, trace_python.version, __ATOMIC_RELEASE);
}
