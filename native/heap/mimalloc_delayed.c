/* A block of a full page that another thread frees goes to a list of the heap that owns the page, not to one of
 * the page: the page counts it as used. Source: free.c, mi_free_block_delayed_mt(). */
#include "mimalloc.h"

#define HEAP_BYTES 4096U /* where in a heap the list may stand: it moved with versions */
#define KEYS_AT 32U /* behind the list: thread, arena, cookie, keys */

/* The list stands before the thread of the heap; 0: not found. */
static uint64_t find_list(const struct mimalloc *mimalloc, uint64_t heap, uint64_t thread)
{
	uint64_t word;

	for (uint32_t at = 8; at < HEAP_BYTES; at += 8)
		if (heap_word(&mimalloc->heap->image, heap + at, &word) && word == thread)
			return heap + at - 8;
	return 0;
}

/* Each block is met once, so a ring ends. */
static void drop_list(struct mimalloc *mimalloc, const struct mimalloc_owner *owner, uint64_t list)
{
	struct heap_blocks *blocks = &mimalloc->heap->blocks;
	uint64_t at, keys[2] = {0};

	heap_word(&mimalloc->heap->image, list + KEYS_AT, &keys[0]);
	heap_word(&mimalloc->heap->image, list + KEYS_AT + 8, &keys[1]);
	if (!heap_word(&mimalloc->heap->image, list, &at))
		return;
	while (at) {
		uint32_t block = heap_find_added(mimalloc->heap, mimalloc->first_block, at);

		if (block == HEAP_NONE || blocks->origin[block] == HEAP_DROPPED) {
			heap_finding(mimalloc->heap, MEMATLAS_HEAP_TORN_CACHE, list, at,
				     MEMATLAS_HEAP_MIMALLOC);
			return;
		}
		blocks->origin[block] = HEAP_DROPPED;
		mimalloc->sum->cached_blocks++;
		mimalloc->sum->cached += blocks->size[block];
		if (!mimalloc_next(&mimalloc->heap->image, at, owner->encoded ? keys : NULL,
				   owner->heap, &at))
			return;
	}
}

void mimalloc_drop_delayed(struct mimalloc *mimalloc)
{
	for (uint32_t i = 0; i < mimalloc->owner_count; i++) {
		const struct mimalloc_owner *owner = &mimalloc->owners[i];
		uint64_t list = find_list(mimalloc, owner->heap, owner->thread);

		if (list) {
			mimalloc->sum->caches++;
			drop_list(mimalloc, owner, list);
		} else {
			mimalloc->sum->missing_caches++;
			heap_finding(mimalloc->heap, MEMATLAS_HEAP_MISSING_CACHE, owner->heap, 0,
				     MEMATLAS_HEAP_MIMALLOC);
		}
	}
	heap_drop_blocks(mimalloc->heap, mimalloc->first_block);
}
