/* The wrappers of CPython's allocators. */
#include "python_wrappers.h"

#include "python_code.h"
#include "sampler.h"

#define SMALL 512 /* largest block of pymalloc; it passes larger requests to malloc() */

struct trace_python_wrapped trace_python_wrapped;

/* A block that the real allocator obtained from malloc() was recorded there. */
static TRACE_INLINE void report_block(void *block, size_t size, uint64_t events_before)
{
	if (block && trace_nested_events == events_before)
		trace_python_wrapped.report->allocated(__builtin_frame_address(0), block, size);
}

/* A thread that loaded the old vtable before the swap calls with the old context, which is NULL. */
static inline const struct allocator *real_of(const void *context)
{
	return trace_likely(context != NULL) ? context : &trace_python_wrapped.domains[DOMAIN_OBJ];
}

static TRACE_INLINE bool is_due(enum trace_python_real kind, size_t size)
{
	return (kind == MIMALLOC || size <= SMALL) && trace_sample_due(size);
}

static TRACE_INLINE void *call_malloc(enum trace_python_real kind, const struct allocator *real,
				      size_t size)
{
	trace_arena_depth += kind == MIMALLOC;
	void *block = real->malloc(real->context, size);
	trace_arena_depth -= kind == MIMALLOC;
	return block;
}

static TRACE_INLINE void *call_calloc(enum trace_python_real kind, const struct allocator *real,
				      size_t count, size_t size)
{
	trace_arena_depth += kind == MIMALLOC;
	void *block = real->calloc(real->context, count, size);
	trace_arena_depth -= kind == MIMALLOC;
	return block;
}

static TRACE_INLINE void *call_realloc(enum trace_python_real kind, const struct allocator *real,
				       void *block, size_t size)
{
	trace_arena_depth += kind == MIMALLOC;
	void *moved = real->realloc(real->context, block, size);
	trace_arena_depth -= kind == MIMALLOC;
	return moved;
}

static __attribute__((noinline)) void *slow_malloc(enum trace_python_real kind,
						   const struct allocator *real, size_t size)
{
	uint64_t before = trace_nested_events;
	void *block = call_malloc(kind, real, size);

	report_block(block, size, before);
	return block;
}

static TRACE_INLINE void *hook_malloc(enum trace_python_real kind, const void *context, size_t size)
{
	const struct allocator *real = real_of(context);

	if (is_due(kind, size))
		return slow_malloc(kind, real, size);
	return call_malloc(kind, real, size);
}

static __attribute__((noinline)) void *slow_calloc(enum trace_python_real kind,
						   const struct allocator *real, size_t count,
						   size_t size)
{
	uint64_t before = trace_nested_events;
	void *block = call_calloc(kind, real, count, size);

	report_block(block, count * size, before);
	return block;
}

static TRACE_INLINE void *hook_calloc(enum trace_python_real kind, const void *context,
				      size_t count, size_t size)
{
	const struct allocator *real = real_of(context);
	size_t bytes;

	if (!__builtin_mul_overflow(count, size, &bytes) && is_due(kind, bytes))
		return slow_calloc(kind, real, count, size);
	return call_calloc(kind, real, count, size);
}

static __attribute__((noinline)) void *slow_realloc(enum trace_python_real kind,
						    const struct allocator *real, void *block,
						    size_t size, bool due)
{
	bool was_live =
		block && trace_free_due(block) && trace_python_wrapped.report->freeing(block);
	uint64_t before = trace_nested_events;
	void *moved = call_realloc(kind, real, block, size);

	if (!moved && was_live)
		trace_python_wrapped.report->restore(block);
	else if (due)
		report_block(moved, size, before);
	return moved;
}

/* A block of malloc() that shrinks to a small one stays with malloc(), whose hook records it. Only exact
 * mode could tell by the address, so report_block() compares the event count. */
static TRACE_INLINE void *hook_realloc(enum trace_python_real kind, const void *context,
				       void *block, size_t size)
{
	const struct allocator *real = real_of(context);
	bool due = is_due(kind, size);

	if (due || (block && trace_free_due(block)))
		return slow_realloc(kind, real, block, size, due);
	return call_realloc(kind, real, block, size);
}

static void *python_malloc(void *context, size_t size)
{
	return hook_malloc(PYMALLOC, context, size);
}

static void *python_calloc(void *context, size_t count, size_t size)
{
	return hook_calloc(PYMALLOC, context, count, size);
}

static void *python_realloc(void *context, void *block, size_t size)
{
	return hook_realloc(PYMALLOC, context, block, size);
}

static void *mimalloc_malloc(void *context, size_t size)
{
	return hook_malloc(MIMALLOC, context, size);
}

static void *mimalloc_calloc(void *context, size_t count, size_t size)
{
	return hook_calloc(MIMALLOC, context, count, size);
}

static void *mimalloc_realloc(void *context, void *block, size_t size)
{
	return hook_realloc(MIMALLOC, context, block, size);
}

/* Threads without a Python state call the raw domain, whose real allocator works without one. */
static const void *raw_context(const void *context)
{
	return context ? context : &trace_python_wrapped.domains[DOMAIN_RAW];
}

static void *raw_malloc(void *context, size_t size)
{
	return hook_malloc(MIMALLOC, raw_context(context), size);
}

static void *raw_calloc(void *context, size_t count, size_t size)
{
	return hook_calloc(MIMALLOC, raw_context(context), count, size);
}

static void *raw_realloc(void *context, void *block, size_t size)
{
	return hook_realloc(MIMALLOC, raw_context(context), block, size);
}

/* A freed code object still has its type pointer; no block is too small for one. */
static inline void count_freed_code(const void *block)
{
	if (!trace_python.code_type || ((const void *const *)block)[1] != trace_python.code_type)
		return;
	atomic_fetch_add_explicit(&trace_python.codes_freed_at[trace_code_slot(block)], 1,
				  memory_order_relaxed);
	atomic_fetch_add_explicit(&trace_python.codes_freed, 1, memory_order_relaxed);
}

static __attribute__((noinline)) void slow_free(const struct allocator *real, void *block)
{
	if (block) {
		count_freed_code(block);
		trace_python_wrapped.report->freeing(block);
	}
	real->free(real->context, block);
}

static void python_free(void *context, void *block)
{
	const struct allocator *real = real_of(context);

	if (trace_free_due(block))
		slow_free(real, block);
	else
		real->free(real->context, block);
}

static void *arena_alloc(void *context, size_t size)
{
	(void)context;
	trace_arena_depth++;
	void *arena = trace_python_wrapped.arena.alloc(trace_python_wrapped.arena.context, size);
	trace_arena_depth--;
	return arena;
}

static void arena_free(void *context, void *arena, size_t size)
{
	(void)context;
	trace_python_wrapped.arena.free(trace_python_wrapped.arena.context, arena, size);
}

struct allocator trace_python_wrapper(enum domain domain, enum trace_python_real kind)
{
	const struct allocator raw = {NULL, raw_malloc, raw_calloc, raw_realloc, python_free};
	const struct allocator pymalloc = {NULL, python_malloc, python_calloc, python_realloc,
					   python_free};
	const struct allocator mimalloc = {NULL, mimalloc_malloc, mimalloc_calloc, mimalloc_realloc,
					   python_free};
	struct allocator wrapper = domain == DOMAIN_RAW ? raw
				   : kind == MIMALLOC   ? mimalloc
							: pymalloc;

	wrapper.context = &trace_python_wrapped.domains[domain];
	return wrapper;
}

struct arena_allocator trace_python_arena_wrapper(void)
{
	return (struct arena_allocator){NULL, arena_alloc, arena_free};
}

bool trace_python_is_wrapper(const struct allocator *allocator)
{
	return allocator->free == python_free;
}
