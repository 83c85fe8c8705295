#include "graph.h"

#include "../array.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool ascending(const struct mematlas_heap_range *ranges, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		if (!ranges[i].size || ranges[i].start + (ranges[i].size - 1) < ranges[i].start)
			return false;
		if (i && ranges[i - 1].start + (ranges[i - 1].size - 1) >= ranges[i].start)
			return false;
	}
	return true;
}

int mematlas_heap_create(const struct mematlas_heap_range *ranges, uint64_t count,
			 uint64_t page_size, struct mematlas_heap **ret)
{
	struct heap *heap;

	if (!page_size || page_size & (page_size - 1) || count > UINT32_MAX ||
	    !ascending(ranges, count))
		return -EINVAL;
	heap = calloc(1, sizeof *heap);
	if (!heap)
		return -ENOMEM;
	heap->image.page_size = page_size;
	heap->image.count = count;
	heap->image.ranges = calloc(count ? count : 1, sizeof *ranges);
	if (!heap->image.ranges || heap_type(heap, MEMATLAS_HEAP_TYPE_UNKNOWN, 0) < 0) {
		mematlas_heap_destroy((struct mematlas_heap *)heap);
		return -ENOMEM;
	}
	if (count)
		memcpy(heap->image.ranges, ranges, count * sizeof *ranges);
	*ret = (struct mematlas_heap *)heap;
	return 0;
}

void mematlas_heap_destroy(struct mematlas_heap *handle)
{
	struct heap *heap = (struct heap *)handle;

	if (!heap)
		return;
	heap_python_destroy(heap->python);
	heap_index_destroy(&heap->index);
	heap_graph_destroy(&heap->graph);
	free(heap->image.ranges);
	free(heap->blocks.address);
	free(heap->blocks.size);
	free(heap->blocks.type);
	free(heap->blocks.origin);
	free(heap->blocks.layout);
	free(heap->types);
	free(heap->type_slots);
	free(heap->findings);
	free(heap->resident);
	free(heap->areas);
	free(heap);
}

/* Areas ascend by kind and start. Returns how many are not behind the place of one. */
static uint32_t place(const struct heap *heap, uint64_t start, uint32_t kind)
{
	uint32_t low = 0, high = heap->area_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct mematlas_heap_area *area = &heap->areas[middle];

		if (area->kind < kind || (area->kind == kind && area->start <= start))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int heap_add_area(struct heap *heap, uint64_t start, uint64_t end, int kind)
{
	uint32_t at = place(heap, start, (uint32_t)kind);

	if (!ARRAY_RESERVE(heap->areas, heap->area_count, heap->area_capacity, 16))
		return -ENOMEM;
	memmove(heap->areas + at + 1, heap->areas + at,
		(heap->area_count - at) * sizeof *heap->areas);
	heap->areas[at] =
		(struct mematlas_heap_area){.start = start, .end = end, .kind = (uint32_t)kind};
	heap->area_count++;
	return 0;
}

int mematlas_heap_add_area(struct mematlas_heap *handle, uint64_t start, uint64_t end, int kind)
{
	if (start >= end)
		return -EINVAL;
	return heap_add_area((struct heap *)handle, start, end, kind);
}

bool heap_in_area(const struct heap *heap, uint64_t address, int kind)
{
	uint32_t at = place(heap, address, (uint32_t)kind);

	return at && heap->areas[at - 1].kind == (uint32_t)kind &&
	       address < heap->areas[at - 1].end;
}

uint64_t heap_next_area(const struct heap *heap, uint64_t address, int kind)
{
	uint32_t at = place(heap, address, (uint32_t)kind);

	return at < heap->area_count && heap->areas[at].kind == (uint32_t)kind
		       ? heap->areas[at].start
		       : UINT64_MAX;
}

int64_t mematlas_heap_areas(const struct mematlas_heap *handle,
			    const struct mematlas_heap_area **ret)
{
	const struct heap *heap = (const struct heap *)handle;

	*ret = heap->areas;
	return heap->area_count;
}
