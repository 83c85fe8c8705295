/* Which blocks are recorded as live. Inline where exact mode passes with every event. */
#ifndef MEMATLAS_TRACER_LIVE_H
#define MEMATLAS_TRACER_LIVE_H

#include "python.h"
#include "tracer.h"

#define TRACE_PIECE_BITS 32u /* addresses a piece of a bitmap stands for */
#define TRACE_PIECE_BYTES (1ull << (TRACE_PIECE_BITS - 6))

typedef uint64_t *_Atomic trace_piece;
extern trace_piece trace_pieces[2][1u << 15]; /* malloc's blocks, Python's */
/* Stands for a piece there was no memory for: everything in it counts as live, so that bad frees go
 * unnoticed, no more. */
extern uint64_t trace_no_piece;
uint64_t *trace_piece_add(trace_piece *place);

bool trace_table_add(enum trace_kind kind, const void *block);
bool trace_table_remove(enum trace_kind kind, const void *block);

extern char __libc_single_threaded __attribute__((weak)); /* since glibc 2.32 */

/* May another thread change a word of the bitmap at the same time? Python's blocks are mostly its
 * interpreter's, whose lock their caller holds; an arena, and so a word, belongs to one interpreter. */
static inline bool trace_bit_is_shared(enum trace_kind kind)
{
	if (kind == TRACE_PYOBJECT)
		return trace_python.unlocked;
	return !(&__libc_single_threaded && __libc_single_threaded);
}

/* In one instruction each: a signal may come, another thread not. */
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

static inline trace_piece *trace_piece_of(enum trace_kind kind, const void *block)
{
	return &trace_pieces[kind == TRACE_PYOBJECT][(uintptr_t)block >> TRACE_PIECE_BITS & 0x7fff];
}

static inline uint64_t *trace_piece_word(uint64_t *piece, const void *block)
{
	return &piece[(uint32_t)(uintptr_t)block >> 9];
}

static inline uint64_t trace_piece_bit(const void *block)
{
	return 1ull << ((uintptr_t)block >> 3 & 63);
}

/* False: no room, do not record it. */
static inline bool trace_live_add(enum trace_kind kind, const void *block)
{
	if (!trace_session.exact)
		return trace_table_add(kind, block);
	trace_piece *place = trace_piece_of(kind, block);
	uint64_t *piece = atomic_load_explicit(place, memory_order_acquire);
	if (trace_unlikely(!piece))
		piece = trace_piece_add(place);
	if (trace_unlikely(piece == &trace_no_piece))
		return true;
	if (trace_bit_is_shared(kind))
		__atomic_fetch_or(trace_piece_word(piece, block), trace_piece_bit(block),
				  __ATOMIC_RELAXED);
	else
		trace_bit_set(trace_piece_word(piece, block), trace_piece_bit(block));
	return true;
}

/* In exact mode. */
static inline bool trace_bit_remove(enum trace_kind kind, const void *block)
{
	uint64_t *piece = atomic_load_explicit(trace_piece_of(kind, block), memory_order_acquire);
	if (trace_unlikely((uintptr_t)block & 7 || !piece || piece == &trace_no_piece))
		return piece == &trace_no_piece && !((uintptr_t)block & 7);
	uint64_t *word = trace_piece_word(piece, block), bit = trace_piece_bit(block);
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
