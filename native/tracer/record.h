/* Events that hooks report. Frees are inline, since every event of an exact run passes here. The caller holds
 * the guard; errno is kept. */
#ifndef MEMATLAS_TRACER_RECORD_H
#define MEMATLAS_TRACER_RECORD_H

#include "live_set.h"
#include "ring.h"
#include "thread.h"

void trace_allocated(enum trace_kind kind, const void *block, size_t size, unsigned flags);
/* By Python; called without the guard. `hook`: frame where a walk may begin. */
void trace_object_allocated(const void *hook, const void *block, size_t size);
/* Undoes the preceding trace_freeing() of that block. */
void trace_restore(enum trace_kind kind, const void *block);
void trace_unmapped(const void *start, size_t length);
/* The memory became writable, or its pages were made resident on request. */
void trace_committed(const void *start, size_t length);
/* `flags`: TRACE_FLAG_CLOSED, TRACE_FLAG_DROPPED. */
void trace_returned(const void *start, size_t length, unsigned flags);
void trace_remapped(const void *start, size_t length, const void *moved, size_t new_length);
/* `point` NULL: the instruction is unknown. False: not recorded. */
bool trace_faulted(const void *address, unsigned weight, unsigned flags,
		   const struct trace_point *point);
/* The block stays unrecorded, so that its free is no bad free. */
void trace_ignore_block(const void *block);

/* As trace_sample(), for a thread that is not set up, or in a sampled run. */
bool trace_sample_slow(size_t size);

/* Is a due sample to be recorded, once the thread is set up? */
static inline bool trace_sample(size_t size)
{
	if (trace_unlikely(!trace_thread_fast()))
		return trace_sample_slow(size);
	trace_tls.left = -1;
	return true;
}

/* A free that needs the thread set up or space in the ring, or of a block that is not live. */
bool trace_free_slow(enum trace_kind kind, const void *block, const void *caller);
/* Waits for the collector's exit snapshot, on the first call. */
void trace_exit_snapshot(void);
/* Reads the clock for a Python record and decides how many of the next ones go without it. */
uint64_t trace_clock_refresh(struct trace_thread *thread);

static inline uint64_t trace_address_word(enum trace_kind kind, const void *block, unsigned flags)
{
	return TRACE_ADDRESS((uint64_t)(uintptr_t)block) | (uint64_t)kind << 48 |
	       (uint64_t)flags << 56;
}

static TRACE_INLINE uint64_t trace_time_of_object(struct trace_thread *thread)
{
	if (trace_likely(thread->untimed &&
			 __atomic_load_n(&trace_untimed_thread, __ATOMIC_RELAXED) == thread)) {
		thread->untimed--;
		return 0;
	}
	return trace_clock_refresh(thread);
}

/* Timestamp of an alloc or free. If another thread can touch the block, the timestamp is ordered after
 * that thread's record. 0: same as this thread's previous record. */
static TRACE_INLINE uint64_t trace_time(struct trace_thread *thread, enum trace_kind kind)
{
	if (trace_bit_is_shared(kind))
		return trace_now_ordered();
	if (kind == TRACE_PYOBJECT && trace_python.small_blocks)
		return trace_time_of_object(thread);
	return trace_now();
}

/* Comes before any free: once the interpreter finalizes, the program has ended, and the blocks live at
 * that moment are what it still held. */
static inline void trace_notice_end(void)
{
	if (trace_python.is_finalizing && trace_unlikely(trace_python.is_finalizing()))
		trace_exit_snapshot();
}

static TRACE_INLINE void trace_keep_caller(struct trace_thread *thread, const void *block,
					   const void *caller)
{
	uint64_t place = thread->head / 2;
	struct trace_freed *freed = &thread->freed[place % TRACE_FREED];

	freed->key = trace_freed_key(block, (uintptr_t)caller, place);
	freed->caller = (uintptr_t)caller;
}

/* True: the block was recorded as live, and is removed. Large blocks of Python are not found, since
 * malloc() recorded them. `caller` NULL: not kept, should the block be freed again. */
static TRACE_INLINE bool trace_freeing(enum trace_kind kind, const void *block, const void *caller)
{
	trace_notice_end();
	struct trace_thread *thread = trace_thread_fast();
	if (trace_unlikely(!thread || thread->head + 2 > thread->limit))
		return trace_free_slow(kind, block, caller);
	if (trace_unlikely(!trace_bit_remove(kind, block)))
		return kind == TRACE_MALLOC && trace_free_slow(kind, block, caller);
	if (caller)
		trace_keep_caller(thread, block, caller);
	trace_record(thread,
		     (uint64_t[]){TRACE_FREE | trace_time(thread, kind) << 8,
				  trace_address_word(kind, block, 0)},
		     2);
	return true;
}

/* Frame of the hook, past all frames of the tracer: the next walk may begin there. Reset before the hook
 * returns. */
static TRACE_INLINE void trace_walk_set(void)
{
	trace_tls.hook = __builtin_frame_address(0);
}

static inline void trace_walk_reset(void)
{
	trace_tls.hook = NULL;
}

#endif
