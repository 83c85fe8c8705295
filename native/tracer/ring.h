/* Records out of the traced thread into its ring: begin() waits for room, publish() makes the record
 * visible. Inline, for every event comes through here. */
#ifndef MEMATLAS_TRACER_RING_H
#define MEMATLAS_TRACER_RING_H

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "tracer.h"

uint64_t trace_count_up(void); /* where no clock is to be had */
bool trace_make_room(struct trace_thread *thread, unsigned words); /* waits for the collector */

static inline uint64_t trace_now(void)
{
	if (trace_unlikely(trace_session.counting))
		return trace_count_up();
#if defined(__x86_64__)
	return __rdtsc() - trace_session.clock_base;
#elif defined(__aarch64__)
	uint64_t ticks;
	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
	return ticks - trace_session.clock_base;
#else
	return 0;
#endif
}

/* After every instruction before it. */
static inline uint64_t trace_now_ordered(void)
{
#if defined(__x86_64__)
	_mm_lfence();
#elif defined(__aarch64__)
	__asm__ volatile("isb" ::: "memory");
#endif
	return trace_now();
}

static inline bool trace_begin(struct trace_thread *thread, unsigned words)
{
	return trace_likely(thread->head + words <= thread->limit) ||
	       trace_make_room(thread, words);
}

static inline void trace_word(struct trace_thread *thread, uint64_t word)
{
	thread->words[thread->head++ & thread->mask] = word;
}

static inline void trace_publish(struct trace_thread *thread)
{
	__atomic_store_n(&thread->ring->head, thread->head, __ATOMIC_RELEASE);
}

/* A record of `count` words, begun. */
static inline void trace_record(struct trace_thread *thread, const uint64_t *words, unsigned count)
{
	uint64_t head = thread->head, mask = thread->mask, *ring = thread->words;

	for (unsigned i = 0; i < count; i++)
		ring[(head + i) & mask] = words[i];
	thread->head = head + count;
	trace_publish(thread);
}

/* [length] then the bytes, padded with 0 to words. */
void trace_bytes(struct trace_thread *thread, const char *bytes, size_t length);
static inline unsigned trace_bytes_words(size_t length)
{
	return (unsigned)(1 + (length + 7) / 8);
}

#endif
