/* The C++ operators. Those of the C++ library call malloc() and free(), whose hooks record the blocks.
 * Those of a replacement allocator do not, so their blocks are recorded here. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "guard.h"
#include "hook_table.h"
#include "join.h"
#include "look.h"
#include "modules.h"
#include "real.h"
#include "record.h"
#include "state.h"

/* The operators differ in what their arguments mean, not in how they are passed. */
typedef void *new_function(size_t, size_t, size_t);
typedef void delete_function(void *, size_t, size_t);

enum { UNKNOWN, CALLS_MALLOC, ALLOCATES };
static _Atomic int nature;

/* An operator that allocates itself is in the same module as the malloc() in use. */
static TRACE_SLOW bool find_nature(const void *real)
{
	trace_resolve();
	nature = trace_same_module(real, (const void *)(uintptr_t)trace_real.malloc) ? ALLOCATES
										     : CALLS_MALLOC;
	return nature == ALLOCATES;
}

static inline bool allocates(const void *real)
{
	int known = atomic_load_explicit(&nature, memory_order_relaxed);

	return trace_unlikely(known == UNKNOWN) ? find_nature(real) : known == ALLOCATES;
}

static TRACE_SLOW void *find(const char *name, const void *caller)
{
	struct trace_symbol found;

	return trace_symbol_for(caller, name, &found) ? found.address : NULL;
}

static __attribute__((noinline)) void *record_new(void *block, size_t size, uint64_t events_before)
{
	if (!block || trace_tls.nested_events != events_before || !trace_enter())
		return block;
	if (trace_sample_ready(size))
		trace_allocated(TRACE_MALLOC, block, size, 0);
	else
		trace_ignore_block(block);
	trace_leave();
	return block;
}

/* The guard stays held, since the real operator may call free(), which would record a bad free. */
static __attribute__((noinline)) void recorded_delete(delete_function *real, void *block,
						      size_t second, size_t third,
						      const void *caller)
{
	bool entered = block && trace_enter();

	if (entered) {
		trace_look_before_free(block);
		trace_freeing(TRACE_MALLOC, block, caller);
		trace_allocator_enter();
	}
	real(block, second, third);
	if (entered)
		trace_leave();
}

/* Where no operator new is loaded: as the C++ standard defines it, without exceptions. */
static TRACE_SLOW void *fallback_new(size_t size)
{
	uint64_t before = trace_tls.nested_events;

	size += !size;
	void *block = trace_real.malloc(size);

	if (!block)
		trace_real.abort();
	return trace_sample_due(size) ? record_new(block, size, before) : block;
}

static void real_free(void *block, size_t unused, size_t unused_too)
{
	(void)unused;
	(void)unused_too;
	trace_real.free(block);
}

static TRACE_SLOW void fallback_delete(void *block, const void *caller)
{
	if (trace_is_bootstrap(block))
		return;
	if (trace_free_due(block))
		recorded_delete(real_free, block, 0, 0, caller);
	else
		trace_real.free(block);
}

/* The real operator may throw, so the guard is not held while it runs. */
#define NEW(symbol)                                                                                \
	TRACE_EXPORT void *symbol(size_t size, size_t second, size_t third);                       \
	TRACE_EXPORT void *symbol(size_t size, size_t second, size_t third)                        \
	{                                                                                          \
		static new_function *_Atomic known;                                                \
		new_function *real = atomic_load_explicit(&known, memory_order_relaxed);           \
		if (trace_unlikely(!real)) {                                                       \
			real = (new_function *)find(#symbol, __builtin_return_address(0));         \
			if (!real)                                                                 \
				return fallback_new(size);                                         \
			known = real;                                                              \
		}                                                                                  \
		if (!allocates((const void *)(uintptr_t)real))                                     \
			return real(size, second, third);                                          \
		if (!trace_sample_due(size))                                                       \
			return real(size, second, third);                                          \
		uint64_t before = trace_tls.nested_events;                                         \
		return record_new(real(size, second, third), size, before);                        \
	}

#define DELETE(symbol)                                                                             \
	TRACE_EXPORT void symbol(void *block, size_t second, size_t third);                        \
	TRACE_EXPORT void symbol(void *block, size_t second, size_t third)                         \
	{                                                                                          \
		static delete_function *_Atomic known;                                             \
		delete_function *real = atomic_load_explicit(&known, memory_order_relaxed);        \
		if (trace_unlikely(!real)) {                                                       \
			real = (delete_function *)find(#symbol, __builtin_return_address(0));      \
			if (!real) {                                                               \
				fallback_delete(block, __builtin_return_address(0));               \
				return;                                                            \
			}                                                                          \
			known = real;                                                              \
		}                                                                                  \
		if (allocates((const void *)(uintptr_t)real) && trace_free_due(block))             \
			recorded_delete(real, block, second, third, __builtin_return_address(0));  \
		else                                                                               \
			real(block, second, third);                                                \
	}

TRACE_HOOK_OPERATORS(NEW, DELETE)
