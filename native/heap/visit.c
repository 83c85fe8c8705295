#include "heap.h"

#include <string.h>

void heap_visit(const struct heap *heap, uint32_t block, heap_visitor *visit, void *to)
{
	const struct heap_blocks *blocks = &heap->blocks;
	uint8_t layout = blocks->layout[block];
	uint64_t size = blocks->size[block] & ~7ULL, word;
	const uint8_t *bytes;

	if (layout == MEMATLAS_HEAP_OPAQUE)
		return;
	if (heap->readers[layout]) {
		heap->readers[layout](heap, block, visit, to);
		return;
	}
	bytes = heap_at(&heap->image, blocks->address[block], size);
	for (uint64_t at = 0; bytes && at < size; at += 8) {
		memcpy(&word, bytes + at, 8);
		visit(to, word);
	}
}
