/* Keeps the tracer from recording itself. Every slow path runs between enter and leave. */
#ifndef MEMATLAS_TRACER_GUARD_H
#define MEMATLAS_TRACER_GUARD_H

#include <errno.h>

#include "sampler.h"
#include "thread.h"

/* What is used under the guard is used after it is set and before it is reset: trace_quiesce() relies on
 * the order of these instructions. Costs none itself. */
static inline void trace_guard_is_set(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

/* False: nothing may be recorded here. */
static inline bool trace_enter(void)
{
	if (trace_tls.guard)
		return false;
	trace_tls.guard = TRACE_INSIDE;
	trace_guard_is_set();
	return true;
}

static inline void trace_leave(void)
{
	if (trace_unlikely(trace_tls.shared_ring))
		trace_shared_ring_release();
	trace_guard_is_set();
	trace_tls.guard = TRACE_OUTSIDE;
}

/* Around the real function, between enter and leave: the mappings it makes may be recorded. */
static inline void trace_allocator_enter(void)
{
	trace_tls.guard = TRACE_IN_ALLOCATOR;
}

static inline void trace_allocator_leave(void)
{
	trace_tls.guard = TRACE_INSIDE;
}

/* As trace_enter(), and inside a real allocator too. Returns what trace_leave_nested() takes; -1:
 * nothing may be recorded here. */
static inline int trace_enter_nested(void)
{
	int before = trace_tls.guard;

	if (before == TRACE_INSIDE)
		return -1;
	trace_tls.guard = TRACE_INSIDE;
	trace_guard_is_set();
	return before;
}

static inline void trace_leave_nested(int before)
{
	if (trace_unlikely(trace_tls.shared_ring))
		trace_shared_ring_release();
	trace_guard_is_set();
	trace_tls.guard = before;
}

/* Scope guard for set-up code: nothing is recorded until the end of the scope, which restores the guard
 * and errno. */
struct trace_own_work {
	int guard, error;
};

static inline struct trace_own_work trace_own_work_begin(void)
{
	struct trace_own_work before = {trace_tls.guard, errno};

	trace_tls.guard = TRACE_INSIDE;
	trace_guard_is_set();
	return before;
}

static inline void trace_own_work_end(const struct trace_own_work *before)
{
	trace_tls.guard = before->guard;
	errno = before->error;
}

#define TRACE_OWN_WORK                                                                             \
	__attribute__((cleanup(trace_own_work_end), unused))                                       \
	const struct trace_own_work own_work_ = trace_own_work_begin()

#endif
