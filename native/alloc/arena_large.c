/* Large blocks: mappings of their own, in a table sorted by address. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "../array.h"
#include "arena.h"
#include "lock.h"
#include "page_size.h"

/* Index of the first block that begins at an address or above. Lock held, as in the functions
 * below. */
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

/* There must be room, by ARRAY_RESERVE(). */
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

/* Whole huge pages in an arena of huge pages, so that the end of a block lies in one, too. */
static uint64_t whole_pages(const struct mematlas_arena *arena, uint64_t size)
{
	uint64_t mask = (arena->huge_page ? arena->huge_page : page_size_base()) - 1;

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

/* False: no memory for the table; the caller unmaps. */
static bool add_block(struct large_heap *heap, char *start, uint64_t size)
{
	LOCK_SCOPE(&heap->lock);
	if (!ARRAY_RESERVE(heap->blocks, heap->count, heap->capacity, 64))
		return false;
	insert(heap, start, size);
	return true;
}

/* Returns the size of the removed block, or an error of find_block(). */
static int64_t remove_block(struct large_heap *heap, const char *start)
{
	LOCK_SCOPE(&heap->lock);
	int64_t at = find_block(heap, start);
	if (at < 0)
		return at;
	int64_t size = (int64_t)heap->blocks[at].size;
	erase(heap, (uint64_t)at);
	return size;
}

/* NULL: no memory, or the kernel refuses to place the mapping. */
static char *map_placed(const struct mematlas_arena *arena, uint64_t bytes, uint64_t alignment)
{
	char *start =
		map_aligned(bytes, alignment > arena->huge_page ? alignment : arena->huge_page);

	if (start && arena_place_range(arena, start, bytes)) {
		munmap(start, bytes);
		return NULL;
	}
	return start;
}

/* The mapping is made without the lock, because mmap(2) may wait for the lock of the address
 * space. */
void *arena_large_alloc(struct mematlas_arena *arena, uint64_t size, uint64_t alignment)
{
	uint64_t bytes = whole_pages(arena, size);

	if (!arena_charge(arena, bytes))
		return NULL;
	char *start = map_placed(arena, bytes, alignment);
	if (start && add_block(&arena->large, start, bytes))
		return start;
	if (start)
		munmap(start, bytes);
	arena_uncharge(arena, bytes);
	return NULL;
}

/* Out of the table first: once it is unmapped, another thread may get the same address. */
int arena_large_free(struct mematlas_arena *arena, void *block)
{
	int64_t size = remove_block(&arena->large, block);

	if (size < 0)
		return (int)size;
	munmap(block, (uint64_t)size);
	arena_uncharge(arena, (uint64_t)size);
	return 0;
}

int64_t arena_large_size(struct mematlas_arena *arena, const void *block)
{
	LOCK_SCOPE(&arena->large.lock);
	int64_t at = find_block(&arena->large, block);
	return at < 0 ? at : (int64_t)arena->large.blocks[at].size;
}

/* mremap(2) moves page table entries and copies no bytes. It keeps advice and policy, and moves a
 * huge page only to an address that is aligned for one. Else the kernel splits the page. Returns
 * MAP_FAILED with errno.
 *
 * A move that fails may have unmapped the target first, and another thread may have its memory
 * there by then. So the target is left as it is: at worst address space without memory. A program
 * that advised a part of the block has two mappings, which no move takes: EFAULT. */
static char *remap(const struct mematlas_arena *arena, char *old, uint64_t old_bytes,
		   uint64_t bytes)
{
	char *moved = mremap(old, old_bytes, bytes, arena->huge_page ? 0 : MREMAP_MAYMOVE);

	if (moved != MAP_FAILED || !arena->huge_page || errno == EFAULT)
		return moved;
	char *target = map_aligned(bytes, arena->huge_page);
	return target ? mremap(old, old_bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, target)
		      : MAP_FAILED;
}

int arena_large_resize(struct mematlas_arena *arena, void **block, uint64_t size)
{
	struct large_heap *heap = &arena->large;
	uint64_t bytes = whole_pages(arena, size);

	LOCK_SCOPE(&heap->lock);
	int64_t at = find_block(heap, *block);
	if (at < 0)
		return (int)at;
	uint64_t old = heap->blocks[at].size;
	if (bytes > old && !arena_charge(arena, bytes - old))
		return -ENOMEM;
	char *moved = remap(arena, *block, old, bytes);
	if (moved == MAP_FAILED) {
		int error = errno;
		if (bytes > old)
			arena_uncharge(arena, bytes - old);
		return error == EFAULT ? -EFAULT : -ENOMEM;
	}
	if (bytes < old)
		arena_uncharge(arena, old - bytes);
	erase(heap, (uint64_t)at);
	insert(heap, moved, bytes);
	*block = moved;
	return 0;
}

/* No other thread uses the arena any more. */
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
