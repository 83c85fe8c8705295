/* What hooks report of blocks. Inline, for every event of an exact run comes through here. The caller
 * holds the guard; errno comes back as it was. */
#ifndef MEMATLAS_TRACER_RECORD_H
#define MEMATLAS_TRACER_RECORD_H

#include "live_set.h"
#include "ring.h"
#include "tracer.h"

static inline uint64_t trace_address_word(enum trace_kind kind, const void *block, unsigned flags)
{
	return TRACE_ADDRESS((uint64_t)(uintptr_t)block) | (uint64_t)kind << 48 |
	       (uint64_t)flags << 56;
}

/* record.c: of an object of Python's, see there. */
uint64_t trace_time_anew(struct trace_thread *thread);

static TRACE_INLINE uint64_t trace_time_of_object(struct trace_thread *thread)
{
	if (trace_likely(thread->untimed &&
			 __atomic_load_n(&trace_timeless, __ATOMIC_RELAXED) == thread)) {
		thread->untimed--;
		return 0;
	}
	return trace_time_anew(thread);
}

/* When a block was handed out or given back: where another thread may be at it, after that one's record.
 * 0: when this thread's last record was. */
static TRACE_INLINE uint64_t trace_time(struct trace_thread *thread, enum trace_kind kind)
{
	if (trace_bit_is_shared(kind))
		return trace_now_ordered();
	if (kind == TRACE_PYOBJECT && trace_python.small_blocks)
		return trace_time_of_object(thread);
	return trace_now();
}

/* record.c: a free where it is not, or of a block that is not live. */
bool trace_freeing_otherwise(enum trace_kind kind, const void *block);
void trace_take_last_look(void);

/* Before anything is given back. A program in Python is over when its interpreter begins to take everything
 * down: what is live then is what it held at its end. */
static inline void trace_notice_end(void)
{
	if (trace_python.is_finalizing && trace_unlikely(trace_python.is_finalizing()))
		trace_take_last_look();
}

/* True: it was live, and is no more. */
static TRACE_INLINE bool trace_freeing(enum trace_kind kind, const void *block)
{
	trace_notice_end();
	struct trace_thread *thread = trace_thread_at_hand();
	if (trace_unlikely(!thread || thread->head + 2 > thread->limit))
		return trace_freeing_otherwise(kind, block);
	if (trace_unlikely(
		    !trace_bit_remove(kind, block))) /* Python asks for large blocks elsewhere */
		return kind == TRACE_MALLOC && trace_freeing_otherwise(kind, block);
	trace_record(thread,
		     (uint64_t[]){TRACE_FREE | trace_time(thread, kind) << 8,
				  trace_address_word(kind, block, 0)},
		     2);
	return true;
}

#endif
