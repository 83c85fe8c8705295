/* Between the Python side of the tracer and the rest of it. */
#include <string.h>

#include "tracer.h"

static void allocated(void *block, size_t size)
{
	if (!trace_enter())
		return;
	if (trace_slow_sample(size))
		trace_allocated(TRACE_PYOBJECT, block, size, 0);
	trace_leave();
}

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
	static const struct trace_python_callbacks callbacks = {
		.allocated = allocated,
		.freeing = freeing,
		.restore = restore,
	};

	trace_python_hook(&callbacks);
}

void trace_describe_python(void)
{
	struct trace_process *process = trace_session.process;

	memcpy(process->eval_start, trace_python.eval_start, sizeof process->eval_start);
	memcpy(process->eval_end, trace_python.eval_end, sizeof process->eval_end);
	process->python_hooked = trace_python.hooked;
	__atomic_store_n(&process->python_version, trace_python.version, __ATOMIC_RELEASE);
}
