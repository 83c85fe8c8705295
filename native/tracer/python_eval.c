/* The interpreter as the process file describes it. */
#include "python_eval.h"

#include <string.h>

#include "python.h"
#include "state.h"

static bool in_eval_loop(uintptr_t pc)
{
	for (unsigned i = 0; i < TRACE_EVAL_RANGES && trace_python.eval_end[i]; i++)
		if (pc > trace_python.eval_start[i] && pc <= trace_python.eval_end[i])
			return true;
	return false;
}

static void add_eval_range(uintptr_t start, uintptr_t end)
{
	static _Atomic unsigned used = 1; /* range 0 is that of the function's symbol */
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

#define MAX_ENTRIES 16u

/* Compilers split the eval loop into parts, and its symbol covers only one. But every call of the loop
 * keeps an interpreter frame on the C stack: the function that owns that address is a part of it. */
bool trace_discover_eval_loop(const struct trace_walk *walk, bool seen)
{
	uintptr_t until = seen ? walk->frames[walk->same].sp : UINTPTR_MAX;
	uintptr_t entries[MAX_ENTRIES], start, end;
	unsigned from = walk->count;
	unsigned count = trace_python_entries(entries, MAX_ENTRIES, until);

	for (unsigned i = 0; i < count; i++) {
		uintptr_t pc = trace_walk_owner(walk, entries[i], &from);
		if (pc && !in_eval_loop(pc) &&
		    trace_cfi_function(pc - 1, trace_eh_frame_hdr(pc), &start, &end))
			add_eval_range(start, end);
	}
	return count < MAX_ENTRIES;
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
