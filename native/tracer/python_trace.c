/* Callbacks of the Python allocator hooks. */
#include "python_trace.h"

#include "guard.h"
#include "python.h"
#include "record.h"

static bool freeing(void *block)
{
	if (!trace_enter())
		return false;
	bool was_live = trace_freeing(TRACE_PYOBJECT, block, NULL);
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

void trace_register_python(void)
{
	static struct trace_python_callbacks callbacks = {
		.allocated = trace_object_allocated,
		.freeing = freeing,
		.restore = restore,
	};

	callbacks.every_free = trace_session.exact;
	trace_python_register(&callbacks);
}
