/* A look is the collector's join of resident pages with live blocks. RSS falls only by calls that hooks see, or by
 * reclaim: so a look is asked for just before a new peak ends, and the call waits for the answer, not for ever. */
#ifndef MEMATLAS_TRACER_LOOK_H
#define MEMATLAS_TRACER_LOOK_H

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "state.h"

/* Between two readings of RSS. A peak that lasts longer is seen, as RSS grows by few MiB in that time. */
#if defined(__x86_64__)
#define TRACE_LOOK_GAP (1u << 19) /* 130 to 260 us */
#else
#define TRACE_LOOK_GAP (1u << 12) /* 164 us at 25 MHz, 4 us at 1 GHz */
#endif

/* Ticks when RSS was read last. Not of the session's clock, which may count every reading. */
extern _Atomic uint64_t trace_looked_at;

static inline uint64_t trace_look_ticks(void)
{
#if defined(__x86_64__)
	return __rdtsc();
#else
	uint64_t ticks;
	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
	return ticks;
#endif
}

/* Forgets what an earlier image, or the parent, knew. `forked`: RSS is the parent's so far. */
void trace_look_start(bool forked);
void trace_look(uint64_t ticks);

/* Before memory is given back: with the guard held, and before a record of this call is begun. */
static TRACE_INLINE void trace_look_before_fall(void)
{
	uint64_t ticks = trace_look_ticks();

	if (trace_unlikely(ticks - atomic_load_explicit(&trace_looked_at, memory_order_relaxed) >=
			   TRACE_LOOK_GAP))
		trace_look(ticks);
}

/* The same for blocks in an exact run, where every free passes: blocks with a mapping of their own begin near the
 * start of a page, and so does one in 32 of the others. */
static TRACE_INLINE void trace_look_before_free(const void *block)
{
	if (trace_unlikely(!((uintptr_t)block & 0xf80)))
		trace_look_before_fall();
}

/* The collector sleeps up to 20 ms where nothing happens. */
void trace_wake_collector(void);

#endif
