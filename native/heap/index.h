/* The look from a word to its block, which the scan of all words makes for each of them. */
#ifndef MEMATLAS_HEAP_INDEX_H
#define MEMATLAS_HEAP_INDEX_H

#include "heap.h"

#define INDEX_WINDOW_BITS 22
#define INDEX_WINDOW_WORDS (1U << (INDEX_WINDOW_BITS - 9)) /* 64 granules of 8 bytes in a word */
#define INDEX_COVERED                                                                              \
	0x80000000U /* no block starts in the window: one from before reaches into it */

static inline uint32_t index_find(const struct heap *heap, uint64_t word)
{
	const struct heap_index *index = &heap->index;
	uint64_t offset = word - index->base, window = offset >> INDEX_WINDOW_BITS;
	uint32_t coarse, block;

	if (window >= index->windows)
		return HEAP_NONE;
	coarse = index->coarse[window];
	if (!coarse)
		return HEAP_NONE;
	if (coarse & INDEX_COVERED) {
		block = coarse & ~INDEX_COVERED;
	} else {
		uint64_t at = (uint64_t)(coarse - 1) * INDEX_WINDOW_WORDS +
			      ((offset >> 9) & (INDEX_WINDOW_WORDS - 1));
		/* Bits up to that of the word's granule: the last of them is the block before it. */
		uint64_t bits = index->bits[at] << (63 - ((offset >> 3) & 63));

		block = index->rank[at] + (uint32_t)__builtin_popcountll(bits) - 1;
		/* A pointer to the start of a block needs no look at the block. */
		if (block == HEAP_NONE || (bits >> 63 && !(offset & 7)))
			return block;
	}
	return word - heap->blocks.address[block] < heap->blocks.size[block] ? block : HEAP_NONE;
}

#endif
