/* From a word to the block that holds it: a bitmap of starts with ranks, one cache line a look. */
#include "index.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

void heap_index_destroy(struct heap_index *index)
{
	if (index->coarse)
		munmap(index->coarse, index->coarse_bytes);
	free(index->bits);
	free(index->rank);
	*index = (struct heap_index){0};
}

/* A block for each window it touches; a window in which a block starts gets a number. */
static uint32_t number_windows(struct heap_index *index, const struct heap_blocks *blocks)
{
	uint32_t windows = 0;

	for (uint32_t i = 0; i < blocks->count; i++) {
		uint64_t start = (blocks->address[i] - index->base) >> INDEX_WINDOW_BITS;
		uint64_t end = (blocks->address[i] + blocks->size[i] - 1 - index->base) >>
			       INDEX_WINDOW_BITS;

		if (!index->coarse[start] || index->coarse[start] & INDEX_COVERED)
			index->coarse[start] = ++windows;
		for (uint64_t window = start + 1; window <= end; window++)
			index->coarse[window] = INDEX_COVERED | i;
	}
	return windows;
}

static void set_bits(struct heap_index *index, const struct heap_blocks *blocks)
{
	for (uint32_t i = 0; i < blocks->count; i++) {
		uint64_t offset = blocks->address[i] - index->base;
		uint64_t word = (uint64_t)(index->coarse[offset >> INDEX_WINDOW_BITS] - 1) *
					INDEX_WINDOW_WORDS +
				((offset >> 9) & (INDEX_WINDOW_WORDS - 1));

		index->bits[word] |= 1ULL << ((offset >> 3) & 63);
	}
}

int heap_index_build(struct heap *heap)
{
	struct heap_index *index = &heap->index;
	const struct heap_blocks *blocks = &heap->blocks;
	uint64_t last, words;
	uint32_t before = 0;
	void *coarse;

	heap_index_destroy(index);
	if (!blocks->count)
		return 0;
	last = blocks->address[blocks->count - 1] + blocks->size[blocks->count - 1] - 1;
	index->base = blocks->address[0] >> INDEX_WINDOW_BITS << INDEX_WINDOW_BITS;
	index->windows = ((last - index->base) >> INDEX_WINDOW_BITS) + 1;
	index->coarse_bytes = index->windows * sizeof *index->coarse;
	/* The address space is wide and sparse: most of the table is never touched. */
	coarse = mmap(NULL, index->coarse_bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (coarse == MAP_FAILED)
		return -ENOMEM;
	index->coarse = coarse;
	words = (uint64_t)number_windows(index, blocks) * INDEX_WINDOW_WORDS;
	index->bits = calloc(words, sizeof *index->bits);
	index->rank = malloc(words * sizeof *index->rank);
	if (!index->bits || !index->rank) {
		heap_index_destroy(index);
		return -ENOMEM;
	}
	set_bits(index, blocks);
	for (uint64_t i = 0; i < words; i++) {
		index->rank[i] = before;
		before += (uint32_t)__builtin_popcountll(index->bits[i]);
	}
	return 0;
}

uint32_t heap_find(const struct heap *heap, uint64_t word)
{
	return index_find(heap, word);
}

uint32_t mematlas_heap_find(const struct mematlas_heap *handle, uint64_t word)
{
	return heap_find((const struct heap *)handle, word);
}

void mematlas_heap_find_all(const struct mematlas_heap *handle, const uint64_t *words,
			    uint64_t count, uint32_t *ret)
{
	for (uint64_t i = 0; i < count; i++)
		ret[i] = index_find((const struct heap *)handle, words[i]);
}
