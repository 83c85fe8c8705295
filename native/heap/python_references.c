/* Counts of references: what an object says, and what is found. An object that nothing reaches and
 * whose count is higher has lost a reference: somebody forgot a Py_DECREF(). */
#include "python.h"

#include <string.h>

struct counter {
	const struct heap *heap;
	uint32_t *found;
};

static void count_word(void *to, uint64_t word)
{
	const struct counter *counter = to;
	uint32_t block = heap_find(counter->heap, word);

	if (block != HEAP_NONE && counter->found[block] < UINT32_MAX &&
	    python_type_of(counter->heap, block) && python_object(counter->heap, block) == word)
		counter->found[block]++;
}

/* Immortal objects have the sign bit of the lower half: 3.12 and later. */
static uint32_t count_of(const struct heap *heap, uint32_t block)
{
	uint64_t word = 0;

	if (!python_type_of(heap, block) ||
	    !heap_word(&heap->image, python_object(heap, block), &word) || (int32_t)word < 0)
		return UINT32_MAX;
	return (uint32_t)word;
}

void mematlas_heap_python_references(const struct mematlas_heap *handle, uint32_t *counts,
				     uint32_t *found)
{
	const struct heap *heap = (const struct heap *)handle;
	struct counter counter = {.heap = heap, .found = found};

	memset(found, 0, heap->blocks.count * sizeof *found);
	for (uint32_t i = 0; i < heap->blocks.count; i++) {
		counts[i] = count_of(heap, i);
		heap_visit(heap, i, count_word, &counter);
	}
}
