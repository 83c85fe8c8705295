#include "glibc.h"

#include <errno.h>
#include <stdlib.h>

static int read_one(struct glibc *glibc)
{
	struct heap *heap = glibc->heap;
	int error = glibc_find_regions(glibc);

	glibc->sum->copies++;
	glibc->sum->arenas += glibc->arena_count;
	glibc->first_block = heap->blocks.count;
	for (uint32_t i = 0; i < glibc->arena_count; i++) {
		uint64_t state = glibc->arenas[i].address, size = 0;

		heap_word(&heap->image, state + STATE_SYSTEM(glibc->bins), &size);
		glibc->sum->told_system += size;
		if (!error)
			error = heap_add_area(heap, state, state + STATE_SIZE(glibc->bins),
					      MEMATLAS_HEAP_AREA_ALLOCATOR);
	}
	for (uint32_t i = 0; i < glibc->region_count && !error; i++)
		error = heap_add_area(heap, glibc->regions[i].start, glibc->regions[i].end,
				      MEMATLAS_HEAP_AREA_REGION);
	if (!error)
		error = glibc_walk(glibc);
	if (error)
		return error;
	glibc_drop_cached(glibc);
	return 0;
}

int mematlas_heap_read_glibc(struct mematlas_heap *handle, struct mematlas_heap_glibc *ret)
{
	struct heap *heap = (struct heap *)handle;
	struct glibc glibc = {.heap = heap, .sum = ret};
	size_t range = 0;
	uint64_t offset = 0;
	int error = 0;

	*ret = (struct mematlas_heap_glibc){.told_mapped = UINT64_MAX,
					    .told_mapped_chunks = UINT64_MAX};
	while (!error && ret->copies < HEAP_MOST_COPIES &&
	       glibc_find_arenas(&glibc, &range, &offset)) {
		glibc.region_count = glibc.main = 0;
		error = read_one(&glibc);
	}
	free(glibc.arenas);
	free(glibc.regions);
	if (!error && ret->copies)
		error = glibc_read_mapped(heap, ret);
	return error;
}
