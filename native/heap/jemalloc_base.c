/* Memory of jemalloc's own structures: blocks of 2 MiB that state their size and lead to the next. */
#include <errno.h>
#include <string.h>

#include "../array.h"
#include "jemalloc.h"

#define STEP (2ULL << 20)
#define MOST_STEPS 64U /* the blocks of a process grow with its number of blocks */
#define MOST_BLOCKS 65536U

/* struct base_block_s: size, next, and an edata that lies 16 bytes behind the start. */
static uint64_t block_size(const struct jemalloc *jemalloc, uint64_t start)
{
	const struct heap_image *image = &jemalloc->heap->image;
	uint64_t size, next, inside;

	if (!heap_word(image, start, &size) || !heap_word(image, start + 8, &next) ||
	    !heap_word(image, start + 24, &inside))
		return 0;
	if (!size || size % STEP || start + size < start || next % JEMALLOC_PAGE ||
	    inside < start || inside - start > size)
		return 0;
	return heap_within(image, start, size);
}

static uint32_t place(const struct jemalloc *jemalloc, uint64_t address)
{
	uint32_t low = 0, high = jemalloc->base_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (jemalloc->base[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int jemalloc_add_base(struct jemalloc *jemalloc, uint64_t address)
{
	uint32_t at = place(jemalloc, address);
	uint64_t start = address & ~(STEP - 1);

	if ((at && address < jemalloc->base[at - 1].end) || jemalloc->base_count == MOST_BLOCKS)
		return 0;
	for (uint32_t i = 0; i < MOST_STEPS && start >= STEP; i++, start -= STEP) {
		uint64_t size = block_size(jemalloc, start);

		if (size <= address - start)
			continue;
		if (!ARRAY_RESERVE(jemalloc->base, jemalloc->base_count, jemalloc->base_capacity,
				   16))
			return -ENOMEM;
		memmove(jemalloc->base + at + 1, jemalloc->base + at,
			(jemalloc->base_count - at) * sizeof *jemalloc->base);
		jemalloc->base[at] = (struct heap_span){start, start + size};
		jemalloc->base_count++;
		return 0;
	}
	return 0;
}
