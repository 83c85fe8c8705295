/* Types of blocks: a kind and a key, numbered in the order in which they were met. */
#include "heap.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST 64

static uint32_t slot_of(const struct heap *heap, uint32_t kind, uint64_t key)
{
	uint64_t hash = (key ^ kind) * 0x9E3779B97F4A7C15ULL;
	uint32_t slot = (uint32_t)(hash >> 32) & heap->type_mask;

	for (;; slot = (slot + 1) & heap->type_mask) {
		uint32_t held = heap->type_slots[slot];

		if (!held ||
		    (heap->types[held - 1].key == key && heap->types[held - 1].kind == kind))
			return slot;
	}
}

/* Slots stay at most half full. */
static int grow(struct heap *heap)
{
	uint32_t capacity = heap->type_capacity ? heap->type_capacity * 2 : FIRST;
	struct mematlas_heap_type *types;
	uint32_t *slots;

	if (capacity > UINT32_MAX / 4)
		return -ENOMEM;
	types = realloc(heap->types, capacity * sizeof *types);
	if (!types)
		return -ENOMEM;
	heap->types = types;
	slots = calloc((size_t)capacity * 2, sizeof *slots);
	if (!slots)
		return -ENOMEM;
	free(heap->type_slots);
	heap->type_slots = slots;
	heap->type_mask = capacity * 2 - 1;
	heap->type_capacity = capacity;
	for (uint32_t i = 0; i < heap->type_count; i++)
		slots[slot_of(heap, types[i].kind, types[i].key)] = i + 1;
	return 0;
}

int64_t heap_type(struct heap *heap, int kind, uint64_t key)
{
	uint32_t slot;

	if (heap->type_count == heap->type_capacity && grow(heap) < 0)
		return -ENOMEM;
	slot = slot_of(heap, (uint32_t)kind, key);
	if (!heap->type_slots[slot]) {
		heap->types[heap->type_count++] =
			(struct mematlas_heap_type){.key = key, .kind = (uint32_t)kind};
		heap->type_slots[slot] = heap->type_count;
	}
	return heap->type_slots[slot] - 1;
}

int64_t mematlas_heap_types(const struct mematlas_heap *handle,
			    const struct mematlas_heap_type **ret)
{
	const struct heap *heap = (const struct heap *)handle;

	*ret = heap->types;
	return heap->type_count;
}
