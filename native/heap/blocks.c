#include "heap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../array.h"
#include "../cleanup.h"

/* Block numbers above this carry a flag in the index. */
#define MOST_BLOCKS 0x7FFFFFFEU

static int resize(void *array, size_t count, size_t each)
{
	void **pointer = array;
	void *moved = realloc(*pointer, count * each);

	if (!moved)
		return -ENOMEM;
	*pointer = moved;
	return 0;
}

static int reserve(struct heap_blocks *blocks)
{
	uint32_t capacity = blocks->capacity ? blocks->capacity : 512;

	if (blocks->count < blocks->capacity)
		return 0;
	if (blocks->count >= MOST_BLOCKS)
		return -EFBIG;
	capacity = capacity > MOST_BLOCKS / 2 ? MOST_BLOCKS : capacity * 2;
	if (resize(&blocks->address, capacity, 8) < 0 || resize(&blocks->size, capacity, 8) < 0 ||
	    resize(&blocks->type, capacity, 4) < 0 || resize(&blocks->origin, capacity, 1) < 0 ||
	    resize(&blocks->layout, capacity, 1) < 0)
		return -ENOMEM;
	blocks->capacity = capacity;
	return 0;
}

int heap_add_block(struct heap *heap, uint64_t address, uint64_t size, int origin)
{
	struct heap_blocks *blocks = &heap->blocks;
	int error = reserve(blocks);

	if (error < 0)
		return error;
	blocks->address[blocks->count] = address;
	blocks->size[blocks->count] = size;
	blocks->type[blocks->count] = 0;
	blocks->origin[blocks->count] = (uint8_t)origin;
	blocks->layout[blocks->count++] = MEMATLAS_HEAP_WORDS;
	return 0;
}

int heap_add_torn(struct heap *heap, struct mematlas_heap_allocator *sum, int origin,
		  uint64_t start, uint64_t size)
{
	sum->torn += size;
	heap_finding(heap, MEMATLAS_HEAP_TORN_SLAB, start, size, (uint32_t)origin);
	return heap_add_block(heap, start, size, MEMATLAS_HEAP_TORN);
}

int mematlas_heap_add(struct mematlas_heap *handle, const uint64_t *addresses,
		      const uint64_t *sizes, uint64_t count, int origin)
{
	int error = 0;

	for (uint64_t i = 0; i < count && !error; i++)
		error = heap_add_block((struct heap *)handle, addresses[i], sizes[i], origin);
	return error;
}

static void move(struct heap_blocks *blocks, uint32_t to, uint32_t from)
{
	blocks->address[to] = blocks->address[from];
	blocks->size[to] = blocks->size[from];
	blocks->type[to] = blocks->type[from];
	blocks->origin[to] = blocks->origin[from];
	blocks->layout[to] = blocks->layout[from];
}

/* Does [start, end) touch one of the spans? */
static bool touches(const struct heap_span *spans, size_t count, uint64_t start, uint64_t end)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (spans[middle].end <= start)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && spans[low].start < end;
}

int heap_subdivide(struct heap *heap, const struct heap_span *spans, size_t count)
{
	struct heap_blocks *blocks = &heap->blocks;
	uint32_t kept = 0;
	int error = 0;

	for (uint32_t i = 0; i < blocks->count; i++)
		if (!touches(spans, count, blocks->address[i],
			     blocks->address[i] + blocks->size[i]))
			move(blocks, kept++, i);
	blocks->count = kept;
	for (size_t i = 0; i < count && !error; i++)
		error = heap_add_area(heap, spans[i].start, spans[i].end,
				      MEMATLAS_HEAP_AREA_REGION);
	return error;
}

static int by_start(const void *a, const void *b)
{
	const struct heap_span *left = a, *right = b;

	return left->start < right->start ? -1 : left->start > right->start;
}

int heap_note_span(struct heap_spans *spans, uint64_t start, uint64_t end)
{
	if (spans->count && spans->items[spans->count - 1].end == start) {
		spans->items[spans->count - 1].end = end;
		return 0;
	}
	if (!ARRAY_RESERVE(spans->items, spans->count, spans->capacity, 256))
		return -ENOMEM;
	spans->items[spans->count++] = (struct heap_span){start, end};
	return 0;
}

int heap_subdivide_all(struct heap *heap, struct heap_spans *spans)
{
	struct heap_span *items = spans->items;
	size_t merged = 0;

	if (spans->count)
		qsort(items, spans->count, sizeof *items, by_start);
	for (size_t i = 0; i < spans->count; i++) {
		if (merged && items[i].start <= items[merged - 1].end) {
			if (items[i].end > items[merged - 1].end)
				items[merged - 1].end = items[i].end;
		} else {
			items[merged++] = items[i];
		}
	}
	spans->count = merged;
	return heap_subdivide(heap, items, merged);
}

bool heap_spans_are_disjoint(struct heap_span *spans, size_t count)
{
	size_t i = 1;

	if (count)
		qsort(spans, count, sizeof *spans, by_start);
	while (i < count && spans[i].start >= spans[i - 1].end)
		i++;
	return i >= count;
}

uint32_t heap_find_added(const struct heap *heap, uint32_t first, uint64_t address)
{
	const struct heap_blocks *blocks = &heap->blocks;
	uint32_t low = first, high = blocks->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (blocks->address[middle] < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < blocks->count && blocks->address[low] == address ? low : HEAP_NONE;
}

void heap_drop_blocks(struct heap *heap, uint32_t first)
{
	struct heap_blocks *blocks = &heap->blocks;
	uint32_t kept = first;

	for (uint32_t i = first; i < blocks->count; i++)
		if (blocks->origin[i] != HEAP_DROPPED)
			move(blocks, kept++, i);
	blocks->count = kept;
}

struct order {
	uint64_t address;
	uint32_t block;
};

static int by_address(const void *a, const void *b)
{
	const struct order *left = a, *right = b;

	if (left->address != right->address)
		return left->address < right->address ? -1 : 1;
	return left->block < right->block ? -1 : 1;
}

static int permute(void *array, const struct order *order, uint32_t count, size_t each)
{
	uint8_t **pointer = array, *moved = malloc(count * each);

	if (!moved)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++)
		memcpy(moved + i * each, *pointer + order[i].block * each, each);
	memcpy(*pointer, moved, count * each);
	free(moved);
	return 0;
}

static bool is_sorted(const struct heap_blocks *blocks)
{
	uint32_t i = 1;

	while (i < blocks->count && blocks->address[i - 1] < blocks->address[i])
		i++;
	return i >= blocks->count;
}

static int sort(struct heap_blocks *blocks)
{
	CLEANUP_FREE struct order *order = NULL;
	uint32_t i;

	if (is_sorted(blocks)) /* allocators are mostly read in order */
		return 0;
	order = malloc(blocks->count * sizeof *order);
	if (!order)
		return -ENOMEM;
	for (i = 0; i < blocks->count; i++)
		order[i] = (struct order){.address = blocks->address[i], .block = i};
	qsort(order, blocks->count, sizeof *order, by_address);
	if (permute(&blocks->address, order, blocks->count, 8) < 0 ||
	    permute(&blocks->size, order, blocks->count, 8) < 0 ||
	    permute(&blocks->type, order, blocks->count, 4) < 0 ||
	    permute(&blocks->origin, order, blocks->count, 1) < 0 ||
	    permute(&blocks->layout, order, blocks->count, 1) < 0)
		return -ENOMEM;
	return 0;
}

/* Blocks that overlap come from damage: the earlier one is cut, a block of no size is left out. */
static void separate(struct heap *heap)
{
	struct heap_blocks *blocks = &heap->blocks;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < blocks->count; i++) {
		uint64_t address = blocks->address[i];

		blocks->size[i] = heap_within(&heap->image, address, blocks->size[i]);
		if (!blocks->size[i] || address % 8 || address + blocks->size[i] < address)
			continue;
		if (kept && address - blocks->address[kept - 1] < blocks->size[kept - 1]) {
			heap_finding(heap, MEMATLAS_HEAP_OVERLAP, address,
				     blocks->address[kept - 1], 0);
			if (address == blocks->address[kept - 1])
				continue;
			blocks->size[kept - 1] = address - blocks->address[kept - 1];
		}
		move(blocks, kept++, i);
	}
	blocks->count = kept;
}

int64_t mematlas_heap_index(struct mematlas_heap *handle)
{
	struct heap *heap = (struct heap *)handle;
	int error = sort(&heap->blocks);

	if (error < 0)
		return error;
	separate(heap);
	error = heap_index_build(heap);
	if (error < 0)
		return error;
	heap->resident =
		realloc(heap->resident, (heap->blocks.count + 1ULL) * sizeof *heap->resident);
	if (!heap->resident)
		return -ENOMEM;
	for (uint32_t i = 0; i < heap->blocks.count; i++)
		heap->resident[i] =
			heap_resident(&heap->image, heap->blocks.address[i], heap->blocks.size[i]);
	return heap->blocks.count;
}

const void *mematlas_heap_column(const struct mematlas_heap *handle, int column)
{
	const struct heap *heap = (const struct heap *)handle;
	const void *const columns[] = {
		[MEMATLAS_HEAP_ADDRESS] = heap->blocks.address,
		[MEMATLAS_HEAP_SIZE] = heap->blocks.size,
		[MEMATLAS_HEAP_TYPE] = heap->blocks.type,
		[MEMATLAS_HEAP_ORIGIN] = heap->blocks.origin,
		[MEMATLAS_HEAP_LAYOUT] = heap->blocks.layout,
		[MEMATLAS_HEAP_RESIDENT] = heap->resident,
	};

	return column >= 0 && column < (int)(sizeof columns / sizeof *columns) ? columns[column]
									       : NULL;
}
