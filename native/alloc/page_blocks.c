/* Blocks of whole pages, each a run of the page heap. */
#include "arena.h"
#include "lock.h"

void *page_heap_alloc_block(struct mematlas_arena *arena, uint64_t size)
{
	uint64_t pages = (size + PAGE - 1) >> PAGE_BITS;

	LOCK_SCOPE(&arena->heap.lock);
	struct run *run = page_heap_alloc_run(arena, pages);
	if (!run)
		return NULL;
	SET(run->state, RUN_BLOCK);
	page_heap_set_ends(arena, run, run);
	arena->heap.block_bytes += pages * PAGE;
	arena->heap.blocks++;
	return run->start;
}

/* The error for an address that is not the start of a block. Heap's lock held. */
static int bad_address_error(struct mematlas_arena *arena, const char *address)
{
	struct page_heap *heap = &arena->heap;

	if (address >= heap->top)
		return -EFAULT;
	for (unsigned bin = 0; bin < BINS; bin++)
		for (struct run *run = heap->bins[bin].next; run != &heap->bins[bin];
		     run = run->next)
			if (address >= run->start && address < run->start + run->pages * PAGE)
				return -EALREADY;
	return -EINVAL;
}

/* The run of the block that begins at an address of the reservation, or NULL. Heap's lock held. */
static struct run *find_block(struct mematlas_arena *arena, const void *block)
{
	struct run *run = arena_run_at(arena, block);

	return run && GET(run->state) == RUN_BLOCK && run->start == (const char *)block ? run
											: NULL;
}

int page_heap_free_block(struct mematlas_arena *arena, void *block)
{
	LOCK_SCOPE(&arena->heap.lock);
	struct run *run = find_block(arena, block);
	if (!run)
		return bad_address_error(arena, block);
	arena->heap.block_bytes -= run->pages * PAGE;
	arena->heap.blocks--;
	run->resident = run->pages;
	page_heap_free_run(arena, run);
	return 0;
}

int64_t page_heap_block_size(struct mematlas_arena *arena, const void *block)
{
	LOCK_SCOPE(&arena->heap.lock);
	struct run *run = find_block(arena, block);
	return run ? (int64_t)(run->pages * PAGE) : bad_address_error(arena, block);
}
