/* Events that hooks report. The caller holds the guard; errno is kept. */
#include "record.h"

#include <errno.h>

#include "guard.h"
#include "late_modules.h"
#include "life.h"
#include "modules.h"
#include "stack.h"

#define STRIDE 8u /* one Python record in this many is timestamped during a burst */
#define BURST_TICKS (1u << 16) /* at most, between two timestamped records of a burst */
#define BURST_LENGTH 256u /* timestamped records after which timestamps are omitted */

/* The child of a bare clone() is noticed here: its parent's rings are not its own. */
static __attribute__((noinline)) struct trace_thread *this_thread(void)
{
	if (trace_is_forked())
		trace_after_fork_in_child();
	return trace_is_joined() ? trace_thread_get() : NULL;
}

static bool is_block(enum trace_kind kind)
{
	return kind == TRACE_MALLOC || kind == TRACE_PYOBJECT;
}

/* Bytes until the next slow path while there is no session: for ever, or, where attach may come, until
 * it may have come. */
static int64_t idle_gap(void)
{
	return trace_is_preloaded() ? INT64_MAX : 1 << 20;
}

bool trace_sample_slow(size_t size)
{
	if (!trace_is_joined()) {
		trace_tls.left = trace_session_is_over() ? idle_gap() : 0;
		return false;
	}
	if (trace_session.exact) {
		trace_tls.left = -1;
		return true;
	}
	bool drawn = trace_tls.counting;
	struct trace_thread *thread = this_thread();
	if (!thread) {
		trace_tls.left = INT64_MAX;
		return false;
	}
	/* A thread's first allocation comes here before a gap was drawn: count it against the first gap. */
	if (!drawn && !trace_sample_due(size))
		return false;
	trace_tls.left = trace_draw_gap(thread);
	return true;
}

static TRACE_SLOW void patch_late_modules(void)
{
	if (trace_has_late_modules())
		trace_look_for_late_modules();
}

/* Reading the clock costs as much as a hundred instructions. Under a burst of small Python allocations
 * only 1 record in 8 is timestamped; the next 7 reuse that timestamp (error about 10 us, or the length of
 * a pause that follows). */
__attribute__((noinline)) uint64_t trace_clock_refresh(struct trace_thread *thread)
{
	uint64_t now = trace_now();

#if defined(__x86_64__) /* other clocks tick too slowly to tell a burst */
	thread->burst = now - thread->timed < BURST_TICKS ? thread->burst + 1 : 0;
	thread->untimed = trace_session.exact && thread->burst > BURST_LENGTH ? STRIDE - 1 : 0;
	thread->timed = now;
	__atomic_store_n(&trace_untimed_thread, thread, __ATOMIC_RELAXED);
#else
	(void)thread;
#endif
	return now;
}

static TRACE_INLINE uint64_t time_of(struct trace_thread *thread, enum trace_kind kind)
{
	return is_block(kind) ? trace_time(thread, kind) : trace_now_ordered();
}

static TRACE_INLINE void allocated(enum trace_kind kind, const void *block, size_t size,
				   unsigned flags)
{
	int saved = errno;
	struct trace_thread *thread = trace_thread_fast();

	if (trace_unlikely(!thread))
		thread = this_thread();
	if (trace_unlikely(trace_session.attached))
		patch_late_modules();
	if (trace_likely(thread != NULL)) {
		/* The clock is read first, so that the walk overlaps its latency. */
		uint64_t time = time_of(thread, kind), head = thread->head;
		uint32_t stack =
			trace_stack(thread, kind == TRACE_PYOBJECT && !trace_python.unlocked);
		if (stack && trace_begin(thread, 4) &&
		    (!is_block(kind) || trace_live_add(kind, block))) {
			if (trace_unlikely(thread->head != head))
				time = trace_now_ordered();
			trace_record(thread,
				     (uint64_t[]){TRACE_ALLOC | time << 8,
						  trace_address_word(kind, block, flags), size,
						  stack},
				     4);
			trace_tls.nested_events += kind == TRACE_MALLOC;
		} else {
			thread->untimed =
				0; /* the timestamp belonged to a record that is not written */
		}
	}
	errno = saved;
}

void trace_allocated(enum trace_kind kind, const void *block, size_t size, unsigned flags)
{
	allocated(kind, block, size, flags);
}

void trace_object_allocated(const void *hook, const void *block, size_t size)
{
	if (!trace_enter())
		return;
	if (trace_sample(size)) {
		trace_tls.hook = hook;
		allocated(TRACE_PYOBJECT, block, size, 0);
		trace_walk_reset();
	}
	trace_leave();
}

bool trace_faulted(const void *address, unsigned weight, unsigned flags,
		   const struct trace_point *point)
{
	struct trace_thread *thread = this_thread();

	if (!thread)
		return false;
	uint32_t stack = point ? trace_stack_at(thread, point) : 0;
	if (!trace_begin(thread, 3))
		return false;
	uint64_t where = trace_address_word(0, address, flags),
		 sample = stack | (uint64_t)weight << 32;
	trace_record(thread, (uint64_t[]){TRACE_FAULT | trace_now() << 8, where, sample}, 3);
	return true;
}

static void report_bad_free(struct trace_thread *thread, enum trace_kind kind, const void *block)
{
	struct trace_last_free before = trace_threads_find_freed(block);
	uint32_t stack = trace_stack(thread, false);

	if (!stack || !trace_begin(thread, 4))
		return;
	uint64_t word = trace_address_word(kind, block, 0);
	uint64_t where = stack | (uint64_t)before.record << 32;
	trace_record(thread,
		     (uint64_t[]){TRACE_BAD_FREE | trace_now() << 8, word, where, before.caller},
		     4);
}

/* `caller`: of a free, kept should the block be freed again; else NULL. */
static void record_pair(struct trace_thread *thread, uint64_t type, enum trace_kind kind,
			const void *block, const void *caller)
{
	if (!trace_begin(thread, 2))
		return;
	if (caller)
		trace_keep_caller(thread, block, caller);
	uint64_t time = trace_time(thread, kind), word = trace_address_word(kind, block, 0);
	trace_record(thread, (uint64_t[]){type | time << 8, word}, 2);
}

TRACE_SLOW void trace_exit_snapshot(void)
{
	int saved = errno;

	trace_exit();
	errno = saved;
}

TRACE_SLOW bool trace_free_slow(enum trace_kind kind, const void *block, const void *caller)
{
	int saved = errno;
	bool live = trace_live_remove(kind, block);

	if (live || trace_session.exact) {
		struct trace_thread *thread = this_thread();
		if (thread && live)
			record_pair(thread, TRACE_FREE, kind, block,
				    trace_session.exact ? caller : NULL);
		else if (thread && kind == TRACE_MALLOC && !trace_session.attached)
			report_bad_free(thread, kind, block);
	}
	errno = saved;
	return live;
}

void trace_restore(enum trace_kind kind, const void *block)
{
	int saved = errno;
	struct trace_thread *thread = this_thread();

	if (thread && trace_live_add(kind, block))
		record_pair(thread, TRACE_RESTORE, kind, block, NULL);
	errno = saved;
}

void trace_unmapped(const void *start, size_t length)
{
	int saved = errno;
	struct trace_thread *thread = this_thread();

	if (thread && trace_begin(thread, 3))
		trace_record(thread,
			     (uint64_t[]){TRACE_UNMAP | trace_now() << 8, (uintptr_t)start, length},
			     3);
	errno = saved;
}

void trace_committed(const void *start, size_t length)
{
	int saved = errno;
	struct trace_thread *thread = this_thread();
	uint32_t stack = thread ? trace_stack(thread, false) : 0;

	if (stack && trace_begin(thread, 4))
		trace_record(thread,
			     (uint64_t[]){TRACE_COMMIT | trace_now_ordered() << 8, (uintptr_t)start,
					  length, stack},
			     4);
	errno = saved;
}

void trace_returned(const void *start, size_t length, unsigned flags)
{
	int saved = errno;
	struct trace_thread *thread = this_thread();

	if (thread && trace_begin(thread, 3)) {
		uint64_t where = trace_address_word(0, start, flags);
		trace_record(thread,
			     (uint64_t[]){TRACE_RETURN | trace_now_ordered() << 8, where, length},
			     3);
	}
	errno = saved;
}

/* mremap keeps the pages' contents, so the stack that moved or grew the mapping becomes its owner. The
 * collector copies the kind (an allocation, or an allocator's arena) from the old range. */
void trace_remapped(const void *start, size_t length, const void *moved, size_t new_length)
{
	trace_unmapped(start, length);
	trace_allocated(TRACE_MMAP, moved, new_length, TRACE_FLAG_ALWAYS | TRACE_FLAG_MOVED);
}

void trace_ignore_block(const void *block)
{
	if (!trace_is_joined())
		trace_live_defer(block);
	else if (trace_session.exact)
		trace_live_add(TRACE_MALLOC, block);
}
