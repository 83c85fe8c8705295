/* The set of blocks recorded as live. Inline where every event of an exact run passes. */
#ifndef MEMATLAS_TRACER_LIVE_H
#define MEMATLAS_TRACER_LIVE_H

#include "python.h"
#include "state.h"

#define TRACE_CHUNK_BITS 32u /* of the addresses one bitmap chunk covers */
#define TRACE_CHUNK_BYTES (1ull << (TRACE_CHUNK_BITS - 6))
#define TRACE_CHUNKS (1u << (TRACE_ADDRESS_BITS - TRACE_CHUNK_BITS))

typedef uint64_t *_Atomic trace_chunk;
extern trace_chunk trace_chunks[2][TRACE_CHUNKS]; /* malloc's blocks, Python's */
/* Placeholder for a bitmap chunk that could not be allocated. It treats all blocks as live, so only
 * bad-free detection is lost. */
extern uint64_t trace_no_chunk;
uint64_t *trace_chunk_add(trace_chunk *slot);

/* Resets whatever an earlier session recorded. */
bool trace_live_start(void);
/* Keeps a block allocated before tracing could start, for trace_live_add_deferred(). */
void trace_live_defer(const void *block);
void trace_live_add_deferred(void);

bool trace_table_add(enum trace_kind kind, const void *block);
bool trace_table_remove(enum trace_kind kind, const void *block);

/* glibc's __libc_single_threaded, since 2.32; before, and until trace_live_start(), a zero. */
extern const volatile char *trace_single_threaded;

/* May another thread change a word of the bitmap at the same time? Callers of Python's allocator mostly
 * hold the GIL, and an arena, hence a word, belongs to one interpreter. */
static inline bool trace_bit_is_shared(enum trace_kind kind)
{
	if (kind == TRACE_PYOBJECT)
		return trace_python.unlocked;
	return !*trace_single_threaded;
}

/* One instruction each: atomic with respect to signals, not to other threads. */
#if defined(__x86_64__)
static inline void trace_bit_set(uint64_t *word, uint64_t bit)
{
	__asm__("orq %1, %0" : "+m"(*word) : "r"(bit) : "cc");
}
static inline void trace_bit_clear(uint64_t *word, uint64_t bit)
{
	__asm__("andq %1, %0" : "+m"(*word) : "r"(~bit) : "cc");
}
#else
static inline void trace_bit_set(uint64_t *word, uint64_t bit)
{
	__atomic_fetch_or(word, bit, __ATOMIC_RELAXED);
}
static inline void trace_bit_clear(uint64_t *word, uint64_t bit)
{
	__atomic_fetch_and(word, ~bit, __ATOMIC_RELAXED);
}
#endif

static inline trace_chunk *trace_chunk_of(enum trace_kind kind, const void *block)
{
	return &trace_chunks[kind == TRACE_PYOBJECT]
			    [(uintptr_t)block >> TRACE_CHUNK_BITS & (TRACE_CHUNKS - 1)];
}

static inline uint64_t *trace_chunk_word(uint64_t *chunk, const void *block)
{
	return &chunk[(uint32_t)(uintptr_t)block >> 9];
}

static inline uint64_t trace_chunk_bit(const void *block)
{
	return 1ull << ((uintptr_t)block >> 3 & 63);
}

/* False: the set is full; do not record the block. */
static inline bool trace_live_add(enum trace_kind kind, const void *block)
{
	if (!trace_session.exact)
		return trace_table_add(kind, block);
	trace_chunk *slot = trace_chunk_of(kind, block);
	uint64_t *chunk = atomic_load_explicit(slot, memory_order_acquire);
	if (trace_unlikely(!chunk))
		chunk = trace_chunk_add(slot);
	if (trace_unlikely(chunk == &trace_no_chunk))
		return true;
	if (trace_bit_is_shared(kind))
		__atomic_fetch_or(trace_chunk_word(chunk, block), trace_chunk_bit(block),
				  __ATOMIC_RELAXED);
	else
		trace_bit_set(trace_chunk_word(chunk, block), trace_chunk_bit(block));
	return true;
}

/* Exact mode only. True: the block was live. */
static inline bool trace_bit_remove(enum trace_kind kind, const void *block)
{
	uint64_t *chunk = atomic_load_explicit(trace_chunk_of(kind, block), memory_order_acquire);
	if (trace_unlikely((uintptr_t)block & 7 || !chunk || chunk == &trace_no_chunk))
		return chunk == &trace_no_chunk && !((uintptr_t)block & 7);
	uint64_t *word = trace_chunk_word(chunk, block), bit = trace_chunk_bit(block);
	if (trace_bit_is_shared(kind))
		return __atomic_fetch_and(word, ~bit, __ATOMIC_RELAXED) & bit;
	bool was = __atomic_load_n(word, __ATOMIC_RELAXED) & bit;
	if (was)
		trace_bit_clear(word, bit);
	return was;
}

static inline bool trace_live_remove(enum trace_kind kind, const void *block)
{
	return trace_session.exact ? trace_bit_remove(kind, block)
				   : trace_table_remove(kind, block);
}

#endif
