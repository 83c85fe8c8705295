/* The test on every hook's fast path, whether a block is to be recorded. A few instructions, no call, no
 * atomic operation. */
#ifndef MEMATLAS_TRACER_SAMPLER_H
#define MEMATLAS_TRACER_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trace_thread;

/* TRACE_IN_ALLOCATOR: a hook runs the real allocator, whose mappings may be recorded. TRACE_INSIDE: the
 * tracer itself runs, and nothing may be recorded (signal handlers and libc included), since a record
 * may be half written. */
enum trace_guard { TRACE_OUTSIDE = 0, TRACE_IN_ALLOCATOR = 1, TRACE_INSIDE = 2 };

/* All per-thread state that a fast path touches. Zero is a valid start: the first allocation takes the
 * slow path, which sets the thread up.
 *
 *   shared_ring => thread is that of ring 0, and guard != TRACE_OUTSIDE */
struct trace_tls {
	int64_t left; /* bytes until the next sample; negative: take the slow path */
	int32_t guard; /* enum trace_guard */
	int32_t arena_depth; /* > 0: an allocator is mapping memory for itself */
	bool counting; /* `left` has been drawn */
	bool shared_ring; /* `thread` is the shared ring, held until the hook returns */
	uint32_t generation; /* of `thread` */
	int32_t tid; /* found once; 0: not yet */
	bool runs_python; /* a stack of the thread had a frame of the interpreter */
	bool huge_faults; /* the thread has the event that samples more of its huge faults */
	uintptr_t stack_low, stack_high; /* found once; 0: not yet */
	uintptr_t routine; /* start routine of the thread; 0: unknown */
	uintptr_t dropped_start, dropped_end; /* pages that the thread gave back last */
	uint64_t nested_events; /* malloc() blocks recorded by this thread */
	const void *hook; /* frame of the hook, where a walk may begin; NULL: at the caller */
	struct trace_thread *thread;
};

extern __thread struct trace_tls trace_tls __attribute__((tls_model("initial-exec")));

#define trace_arena_depth trace_tls.arena_depth
#define trace_nested_events trace_tls.nested_events

/* Counting filter: one byte per hash bucket of addresses, the number of recorded live blocks in it
 * (255 is final). In exact mode every byte is 1 and with tracing off every byte is 0, so hooks need no
 * other test. */
#define TRACE_FILTER_SIZE (1u << 17)
extern uint8_t trace_filter[TRACE_FILTER_SIZE];

#define TRACE_INLINE inline __attribute__((always_inline))
#define trace_likely(x) __builtin_expect(!!(x), 1)
#define trace_unlikely(x) __builtin_expect(!!(x), 0)

/* Blocks within 1 KiB of heap share a cache line of the filter, so the filter is as local as the heap. */
static inline uint32_t trace_filter_index(const void *block)
{
	uint64_t address = (uint64_t)(uintptr_t)block;
	uint64_t line = ((address >> 10) * 0x9e3779b97f4a7c15ull) >> (64 - 11);

	return (uint32_t)(line << 6 | ((address >> 4) & 63));
}

/* Counts `size` bytes down. True: sample this block (always in exact mode). */
static inline bool trace_sample_due(size_t size)
{
	trace_tls.left -= (int64_t)((size + !size) & 0x7fffffffffffull);
	return trace_unlikely(trace_tls.left < 0);
}

/* May `block` be recorded as live? False is certain; true needs a look-up. */
static inline bool trace_free_due(const void *block)
{
	return trace_unlikely(trace_filter[trace_filter_index(block)] != 0);
}

#endif
