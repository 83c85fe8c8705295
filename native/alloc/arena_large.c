/* Large blocks: mappings of their own, in a table sorted by address. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "arena.h"
#include "page_size.h"

/* Index of the first block that begins at an address or above. Lock held, as in the functions below. */
static uint64_t lower_bound(const struct large_heap *heap, const char *start)
{
	uint64_t low = 0, high = heap->count;

	while (low < high) {
		uint64_t middle = (low + high) / 2;
		if (heap->blocks[middle].start < start)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Index of the block that begins at an address; -EINVAL: inside a block; -EFAULT: in no block. */
static int64_t find_block(const struct large_heap *heap, const char *address)
{
	uint64_t at = lower_bound(heap, address);

	if (at < heap->count && heap->blocks[at].start == address)
		return (int64_t)at;
	if (at && address < heap->blocks[at - 1].start + heap->blocks[at - 1].size)
		return -EINVAL;
	return -EFAULT;
}

static bool grow_table(struct large_heap *heap)
{
	if (heap->count < heap->capacity)
		return true;
	uint64_t capacity = heap->capacity ? heap->capacity * 2 : 64;
	struct large_block *blocks = realloc(heap->blocks, capacity * sizeof *blocks);
	if (!blocks)
		return false;
	heap->blocks = blocks;
	heap->capacity = capacity;
	return true;
}

static void insert(struct large_heap *heap, char *start, uint64_t size)
{
	uint64_t at = lower_bound(heap, start);

	memmove(heap->blocks + at + 1, heap->blocks + at,
		(heap->count - at) * sizeof *heap->blocks);
	heap->blocks[at] = (struct large_block){start, size};
	heap->count++;
	heap->bytes += size;
}

static void erase(struct large_heap *heap, uint64_t at)
{
	heap->bytes -= heap->blocks[at].size;
	heap->count--;
	memmove(heap->blocks + at, heap->blocks + at + 1,
		(heap->count - at) * sizeof *heap->blocks);
}

static uint64_t whole_pages(uint64_t size)
{
	uint64_t mask = page_size_base() - 1;

	return (size + mask) & ~mask;
}

/* `size` is a multiple of the page size, `alignment` a power of two. */
static char *map_aligned(uint64_t size, uint64_t alignment)
{
	uint64_t length = alignment > page_size_base() ? size + alignment : size;
	char *start =
		mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED || length == size)
		return start == MAP_FAILED ? NULL : start;
	uint64_t before = -(uintptr_t)start & (alignment - 1);
	if (before)
		munmap(start, before);
	if (alignment - before)
		munmap(start + before + size, alignment - before);
	return start + before;
}

void *arena_large_alloc(struct mematlas_arena *arena, uint64_t size, uint64_t alignment)
{
	struct large_heap *heap = &arena->large;
	uint64_t bytes = whole_pages(size);
	char *start = map_aligned(bytes, alignment);

	if (!start)
		return NULL;
	pthread_mutex_lock(&heap->lock);
	bool has_entry = grow_table(heap);
	if (has_entry)
		insert(heap, start, bytes);
	pthread_mutex_unlock(&heap->lock);
	if (has_entry)
		return start;
	munmap(start, bytes);
	return NULL;
}

int arena_large_free(struct mematlas_arena *arena, void *block)
{
	struct large_heap *heap = &arena->large;

	pthread_mutex_lock(&heap->lock);
	int64_t at = find_block(heap, block);
	uint64_t size = at < 0 ? 0 : heap->blocks[at].size;
	if (at >= 0)
		erase(heap, (uint64_t)at);
	pthread_mutex_unlock(&heap->lock);
	if (at >= 0)
		munmap(block, size);
	return at < 0 ? (int)at : 0;
}

int64_t arena_large_size(struct mematlas_arena *arena, const void *block)
{
	pthread_mutex_lock(&arena->large.lock);
	int64_t at = find_block(&arena->large, block);
	int64_t size = at < 0 ? at : (int64_t)arena->large.blocks[at].size;
	pthread_mutex_unlock(&arena->large.lock);
	return size;
}

/* mremap(2) moves page table entries and copies no bytes. */
int arena_large_resize(struct mematlas_arena *arena, void **block, uint64_t size)
{
	struct large_heap *heap = &arena->large;
	int error = 0;

	pthread_mutex_lock(&heap->lock);
	int64_t at = find_block(heap, *block);
	if (at >= 0) {
		char *moved =
			mremap(*block, heap->blocks[at].size, whole_pages(size), MREMAP_MAYMOVE);
		if (moved == MAP_FAILED) {
			error = -ENOMEM;
		} else {
			erase(heap, (uint64_t)at);
			insert(heap, moved, whole_pages(size));
			*block = moved;
		}
	}
	pthread_mutex_unlock(&heap->lock);
	return at < 0 ? (int)at : error;
}

void arena_large_close(struct mematlas_arena *arena)
{
	for (uint64_t i = 0; i < arena->large.count; i++)
		munmap(arena->large.blocks[i].start, arena->large.blocks[i].size);
	free(arena->large.blocks);
}

/* Verifies the equations beside struct large_heap. */
bool arena_large_is_sound(struct mematlas_arena *arena)
{
	const struct large_heap *heap = &arena->large;
	uint64_t bytes = 0;

	for (uint64_t i = 0; i < heap->count; i++) {
		const struct large_block *block = &heap->blocks[i];
		if (i && block[-1].start + block[-1].size > block->start)
			return false;
		bytes += block->size;
	}
	return heap->count <= heap->capacity && bytes == heap->bytes;
}
