/* Blocks with a mapping of their own, in a table sorted by address. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "arena.h"

#define SYSTEM_PAGE 4096ull

/* Where a block that begins at an address is, or would be. */
static uint64_t find(const struct large_heap *heap, const char *start)
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

/* The number of the block at an address; -EINVAL: it is inside one; -EFAULT: in none. */
static int64_t find_block(const struct large_heap *heap, const char *address)
{
	uint64_t at = find(heap, address);

	if (at < heap->count && heap->blocks[at].start == address)
		return (int64_t)at;
	if (at && address < heap->blocks[at - 1].start + heap->blocks[at - 1].size)
		return -EINVAL;
	return -EFAULT;
}

static bool make_room(struct large_heap *heap)
{
	if (heap->count < heap->room)
		return true;
	uint64_t room = heap->room ? heap->room * 2 : 64;
	struct large_block *blocks = realloc(heap->blocks, room * sizeof *blocks);
	if (!blocks)
		return false;
	heap->blocks = blocks;
	heap->room = room;
	return true;
}

static void insert(struct large_heap *heap, char *start, uint64_t size)
{
	uint64_t at = find(heap, start);

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

static char *map_aligned(uint64_t size, uint64_t alignment)
{
	uint64_t around = alignment > SYSTEM_PAGE ? size + alignment : size;
	char *start =
		mmap(NULL, around, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED || around == size)
		return start == MAP_FAILED ? NULL : start;
	uint64_t before = -(uintptr_t)start & (alignment - 1);
	if (before)
		munmap(start, before);
	if (alignment - before)
		munmap(start + before + size, alignment - before);
	return start + before;
}

static uint64_t whole_pages(uint64_t size)
{
	return (size + SYSTEM_PAGE - 1) & ~(SYSTEM_PAGE - 1);
}

void *large_take(struct mematlas_arena *arena, uint64_t size, uint64_t alignment)
{
	struct large_heap *heap = &arena->large;
	char *start = map_aligned(whole_pages(size), alignment);

	if (!start)
		return NULL;
	pthread_mutex_lock(&heap->lock);
	bool room = make_room(heap);
	if (room)
		insert(heap, start, whole_pages(size));
	pthread_mutex_unlock(&heap->lock);
	if (!room)
		munmap(start, whole_pages(size));
	return room ? start : NULL;
}

int large_give(struct mematlas_arena *arena, void *block)
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

int64_t large_size(struct mematlas_arena *arena, const void *block)
{
	pthread_mutex_lock(&arena->large.lock);
	int64_t at = find_block(&arena->large, block);
	int64_t size = at < 0 ? at : (int64_t)arena->large.blocks[at].size;
	pthread_mutex_unlock(&arena->large.lock);
	return size;
}

/* The kernel moves the pages, not their contents. */
int large_resize(struct mematlas_arena *arena, void **block, uint64_t size)
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

void large_close(struct mematlas_arena *arena)
{
	for (uint64_t i = 0; i < arena->large.count; i++)
		munmap(arena->large.blocks[i].start, arena->large.blocks[i].size);
	free(arena->large.blocks);
}
