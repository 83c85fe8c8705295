/* Records out of the traced thread into its ring: trace_begin() reserves words, trace_publish() makes a
 * record visible. Inline, since every event passes here. */
#ifndef MEMATLAS_TRACER_RING_H
#define MEMATLAS_TRACER_RING_H

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "state.h"
#include "thread.h"

/* Counts the shared counter up: TRACE_CLOCK_COUNTER. */
uint64_t trace_counter_next(void);
/* Waits until `words` fit the ring. False: they never will. */
bool trace_ring_reserve(struct trace_thread *thread, unsigned words);
/* Backs the ring's first `words` with memory. False: there is none. */
bool trace_populate(struct trace_thread *thread, uint64_t words);
/* Backs the page of shared memory at that address. False: there is no memory for it. */
bool trace_populate_page(const void *shared);

static inline uint64_t trace_now(void)
{
	if (trace_unlikely(trace_session.counting))
		return trace_counter_next();
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

/* Reads the clock after every earlier instruction has completed. */
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
	       trace_ring_reserve(thread, words);
}

static inline void trace_word(struct trace_thread *thread, uint64_t word)
{
	thread->words[thread->head++ & thread->mask] = word;
}

static inline void trace_publish(struct trace_thread *thread)
{
	__atomic_store_n(&thread->ring->head, thread->head, __ATOMIC_RELEASE);
}

/* Writes and publishes a record of `count` reserved words. */
static inline void trace_record(struct trace_thread *thread, const uint64_t *words, unsigned count)
{
	uint64_t head = thread->head, mask = thread->mask, *ring = thread->words;

	for (unsigned i = 0; i < count; i++)
		ring[(head + i) & mask] = words[i];
	thread->head = head + count;
	trace_publish(thread);
}

/* Writes a byte string: [length], then the bytes padded with 0 to whole words. */
void trace_bytes(struct trace_thread *thread, const char *bytes, size_t length);
static inline unsigned trace_bytes_words(size_t length)
{
	return (unsigned)(1 + (length + 7) / 8);
}

#endif
