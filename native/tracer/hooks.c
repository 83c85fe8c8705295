/* The allocation functions. Each runs the fast-path test and calls the real function; an event to record
 * takes a slow path. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "guard.h"
#include "join.h"
#include "look.h"
#include "real.h"
#include "record.h"
#include "state.h"

#define TRACE_OUT_OF_LINE __attribute__((noinline))

/* State of a slow path between open_allocation() and close_allocation(). Nested calls (an allocator that
 * uses malloc, libc during the tracer's set-up) are not entered and record nothing.
 *
 *   record => entered */
struct slow_call {
	bool entered;
	bool record;
};

static struct slow_call open_allocation(size_t size)
{
	struct slow_call call = {.entered = trace_enter()};

	call.record = call.entered && trace_sample_ready(size);
	if (call.entered)
		trace_allocator_enter();
	return call;
}

static TRACE_INLINE void *close_allocation(struct slow_call call, void *block, size_t size)
{
	if (call.entered)
		trace_allocator_leave();
	if (call.record && block) {
		trace_walk_set();
		trace_allocated(TRACE_MALLOC, block, size, 0);
		trace_walk_reset();
	} else if (block && (!call.entered || !trace_session_is_over()))
		trace_ignore_block(block);
	if (call.entered)
		trace_leave();
	return block;
}

static TRACE_OUT_OF_LINE void *slow_malloc(size_t size)
{
	struct slow_call call = open_allocation(size);

	return close_allocation(call, trace_real.malloc(size), size);
}

static TRACE_INLINE void *hook_malloc(size_t size)
{
	return trace_sample_due(size) ? slow_malloc(size) : trace_real.malloc(size);
}

TRACE_EXPORT void *malloc(size_t size)
{
	return hook_malloc(size);
}

static TRACE_OUT_OF_LINE void *slow_calloc(size_t count, size_t size)
{
	struct slow_call call = open_allocation(count * size);

	return close_allocation(call, trace_real.calloc(count, size), count * size);
}

TRACE_EXPORT void *calloc(size_t count, size_t size)
{
	return trace_sample_due(count * size) ? slow_calloc(count, size)
					      : trace_real.calloc(count, size);
}

/* In a sampled run the blocks that come here are those recorded: large ones, and few others. */
static TRACE_INLINE void look_before_free(const void *block)
{
	if (trace_unlikely(!trace_session.exact))
		trace_look_before_fall();
	else
		trace_look_before_free(block);
}

static TRACE_OUT_OF_LINE void slow_free(void *block, const void *caller)
{
	if (!block || trace_is_bootstrap(block))
		return;
	if (trace_enter()) {
		look_before_free(block);
		trace_freeing(TRACE_MALLOC, block, caller);
		trace_leave();
	}
	trace_real.free(block);
}

TRACE_EXPORT void free(void *block)
{
	if (trace_free_due(block))
		slow_free(block, __builtin_return_address(0));
	else
		trace_real.free(block);
}

static void *move_from_bootstrap(const void *block, size_t size)
{
	void *moved = hook_malloc(size);
	size_t old = ((const size_t *)block)[-1];

	if (moved)
		memcpy(moved, block, old < size ? old : size);
	return moved;
}

static inline bool record_realloc_free(void *block, const void *caller)
{
	return block && trace_free_due(block) && trace_freeing(TRACE_MALLOC, block, caller);
}

/* The free of the old block is recorded before the real call, since afterwards another thread may own
 * its address. If the call fails, a RESTORE record undoes it. */
static TRACE_OUT_OF_LINE void *slow_realloc(void *block, size_t size, bool due, const void *caller)
{
	if (trace_is_bootstrap(block))
		return move_from_bootstrap(block, size);
	if (!trace_enter())
		return trace_real.realloc(block, size);

	if (block)
		look_before_free(block);
	bool record = due && trace_sample_ready(size);
	bool was_live = record_realloc_free(block, caller);
	trace_allocator_enter();
	void *moved = trace_real.realloc(block, size);
	trace_allocator_leave();
	bool failed = !moved && size;
	if (failed && was_live)
		trace_restore(TRACE_MALLOC, block);
	if (moved && record)
		trace_allocated(TRACE_MALLOC, moved, size, 0);
	trace_leave();
	return moved;
}

static TRACE_INLINE void *hook_realloc(void *block, size_t size)
{
	bool due = trace_sample_due(size);

	if (due || (block && trace_free_due(block)))
		return slow_realloc(block, size, due, __builtin_return_address(0));
	return trace_real.realloc(block, size);
}

TRACE_EXPORT void *realloc(void *block, size_t size)
{
	return hook_realloc(block, size);
}

TRACE_EXPORT void *reallocarray(void *block, size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return hook_realloc(block, bytes);
}

static TRACE_OUT_OF_LINE void *slow_memalign(size_t alignment, size_t size)
{
	struct slow_call call = open_allocation(size);

	return close_allocation(call, trace_real.memalign(alignment, size), size);
}

TRACE_EXPORT void *memalign(size_t alignment, size_t size)
{
	return trace_sample_due(size) ? slow_memalign(alignment, size)
				      : trace_real.memalign(alignment, size);
}

static TRACE_OUT_OF_LINE void *slow_aligned_alloc(size_t alignment, size_t size)
{
	struct slow_call call = open_allocation(size);

	return close_allocation(call, trace_real.aligned_alloc(alignment, size), size);
}

TRACE_EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
	return trace_sample_due(size) ? slow_aligned_alloc(alignment, size)
				      : trace_real.aligned_alloc(alignment, size);
}

static TRACE_OUT_OF_LINE int slow_posix_memalign(void **block, size_t alignment, size_t size)
{
	struct slow_call call = open_allocation(size);
	int error = trace_real.posix_memalign(block, alignment, size);

	close_allocation(call, error ? NULL : *block, size);
	return error;
}

TRACE_EXPORT int posix_memalign(void **block, size_t alignment, size_t size)
{
	return trace_sample_due(size) ? slow_posix_memalign(block, alignment, size)
				      : trace_real.posix_memalign(block, alignment, size);
}

static TRACE_OUT_OF_LINE void *slow_valloc(size_t size)
{
	struct slow_call call = open_allocation(size);

	return close_allocation(call, trace_real.valloc(size), size);
}

TRACE_EXPORT void *valloc(size_t size)
{
	return trace_sample_due(size) ? slow_valloc(size) : trace_real.valloc(size);
}

static TRACE_OUT_OF_LINE void *slow_pvalloc(size_t size)
{
	struct slow_call call = open_allocation(size);

	return close_allocation(call, trace_real.pvalloc(size), size);
}

TRACE_EXPORT void *pvalloc(size_t size)
{
	return trace_sample_due(size) ? slow_pvalloc(size) : trace_real.pvalloc(size);
}
