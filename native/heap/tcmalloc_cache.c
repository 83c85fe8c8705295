/* Free blocks in tcmalloc's caches. A thread's cache is an array of lists that state the size of their
 * blocks, the cache of a size class an array of chains beside its number. */
#include <string.h>

#include "tcmalloc.h"

#define LIST_BYTES 32U /* struct FreeList: list, length, low water, most, overages, size */
#define LIST_SIZE 24U /* offset of the size */
#define CENTRAL_CLASS 8U /* offsets in struct CentralFreeList */
#define CENTRAL_COUNT 120U
#define CENTRAL_SLOTS 128U
#define CENTRAL_MOST_SLOTS 64U
#define CENTRAL_USED (CENTRAL_SLOTS + CENTRAL_MOST_SLOTS * 16)
#define CENTRAL_BYTES 1216U /* a multiple of 64 */

static uint32_t find_block(const struct tcmalloc *tcmalloc, uint64_t address)
{
	return heap_find_added(tcmalloc->heap, tcmalloc->first_block, address);
}

/* Leaves out the blocks of a list of one size. Each is met once, so a ring ends. Returns their number;
 * -1: the list leads to no block. */
static int64_t drop_list(struct tcmalloc *tcmalloc, uint64_t at, uint32_t size)
{
	struct heap_blocks *blocks = &tcmalloc->heap->blocks;
	uint64_t from = at;
	int64_t count = 0;

	for (; at; count++) {
		uint32_t block = find_block(tcmalloc, at);

		if (block == HEAP_NONE || blocks->origin[block] == HEAP_DROPPED ||
		    blocks->size[block] != size) {
			heap_finding(tcmalloc->heap, MEMATLAS_HEAP_TORN_CACHE, from, at,
				     MEMATLAS_HEAP_TCMALLOC);
			return -1;
		}
		blocks->origin[block] = HEAP_DROPPED;
		tcmalloc->sum->cached_blocks++;
		tcmalloc->sum->cached += size;
		if (!heap_word(&tcmalloc->heap->image, at, &at))
			return -1;
	}
	return count;
}

/* Do the sizes of an array of lists equal the size classes? */
static bool is_thread_cache(const struct tcmalloc *tcmalloc, const uint8_t *at)
{
	for (uint32_t i = 1; i < tcmalloc->class_count; i++) {
		uint32_t size;

		memcpy(&size, at + i * LIST_BYTES + LIST_SIZE, sizeof size);
		if (size != tcmalloc->classes[i])
			return false;
	}
	return true;
}

static void drop_thread_cache(struct tcmalloc *tcmalloc, const uint8_t *at, uint64_t address)
{
	tcmalloc->sum->caches++;
	for (uint32_t i = 1; i < tcmalloc->class_count; i++) {
		uint64_t list;
		uint32_t length;
		int64_t count;

		memcpy(&list, at + i * LIST_BYTES, sizeof list);
		memcpy(&length, at + i * LIST_BYTES + 8, sizeof length);
		count = drop_list(tcmalloc, list, tcmalloc->classes[i]);
		if (count >= 0 && count != length)
			heap_finding(tcmalloc->heap, MEMATLAS_HEAP_TORN_CACHE,
				     address + i * LIST_BYTES, list, MEMATLAS_HEAP_TCMALLOC);
	}
}

static void scan_range(struct tcmalloc *tcmalloc, const struct mematlas_heap_range *range)
{
	uint64_t bytes = (uint64_t)tcmalloc->class_count * LIST_BYTES;

	for (uint64_t at = -range->start % 8; range->size >= bytes && at <= range->size - bytes;
	     at += 8) {
		uint32_t size;

		memcpy(&size, range->bytes + at + LIST_BYTES + LIST_SIZE, sizeof size);
		if (size != tcmalloc->classes[1] || !is_thread_cache(tcmalloc, range->bytes + at))
			continue;
		drop_thread_cache(tcmalloc, range->bytes + at, range->start + at);
		at += bytes - 8;
	}
}

/* The caches of all classes follow one another, numbered, in the data of the program or library. */
static bool is_central(const struct tcmalloc *tcmalloc, const uint8_t *at)
{
	for (uint32_t i = 1; i < tcmalloc->class_count; i++) {
		uint64_t number;

		memcpy(&number, at + (uint64_t)i * CENTRAL_BYTES + CENTRAL_CLASS, sizeof number);
		if (number != i)
			return false;
	}
	return true;
}

static void drop_central(struct tcmalloc *tcmalloc, const uint8_t *at, uint64_t address)
{
	for (uint32_t i = 1; i < tcmalloc->class_count; i++) {
		const uint8_t *list = at + (uint64_t)i * CENTRAL_BYTES;
		uint32_t used;
		uint64_t count, chain;

		memcpy(&used, list + CENTRAL_USED, sizeof used);
		memcpy(&count, list + CENTRAL_COUNT, sizeof count);
		if (used > CENTRAL_MOST_SLOTS || count != tcmalloc->listed[i])
			heap_finding(tcmalloc->heap, MEMATLAS_HEAP_TORN_CACHE,
				     address + (uint64_t)i * CENTRAL_BYTES, 0,
				     MEMATLAS_HEAP_TCMALLOC);
		for (uint32_t slot = 0; slot < used && slot < CENTRAL_MOST_SLOTS; slot++) {
			memcpy(&chain, list + CENTRAL_SLOTS + slot * 16, sizeof chain);
			drop_list(tcmalloc, chain, tcmalloc->classes[i]);
		}
	}
}

static bool scan_data(struct tcmalloc *tcmalloc, const struct mematlas_heap_range *range)
{
	uint64_t bytes = (uint64_t)tcmalloc->class_count * CENTRAL_BYTES;

	for (uint64_t at = -range->start % 8; range->size >= bytes && at <= range->size - bytes;
	     at += 8) {
		uint64_t number;

		memcpy(&number, range->bytes + at + CENTRAL_BYTES + CENTRAL_CLASS, sizeof number);
		if (number != 1 || !is_central(tcmalloc, range->bytes + at))
			continue;
		drop_central(tcmalloc, range->bytes + at, range->start + at);
		return true;
	}
	return false;
}

static bool drop_centrals(struct tcmalloc *tcmalloc)
{
	const struct heap_image *image = &tcmalloc->heap->image;
	const struct mematlas_heap_range *own = heap_range(image, tcmalloc->map.root);

	/* Several copies have their caches near their page maps. */
	if (own && scan_data(tcmalloc, own))
		return true;
	for (size_t i = 0; i < image->count; i++)
		if (image->ranges[i].kind == MEMATLAS_HEAP_DATA && &image->ranges[i] != own &&
		    scan_data(tcmalloc, &image->ranges[i]))
			return true;
	return false;
}

void tcmalloc_drop_cached(struct tcmalloc *tcmalloc)
{
	const struct heap_image *image = &tcmalloc->heap->image;

	for (size_t i = 0; i < image->count; i++)
		if (image->ranges[i].kind != MEMATLAS_HEAP_CODE &&
		    image->ranges[i].kind != MEMATLAS_HEAP_REGISTERS)
			scan_range(tcmalloc, &image->ranges[i]);
	if (!drop_centrals(tcmalloc) || !tcmalloc->sum->caches) {
		tcmalloc->sum->missing_caches++;
		heap_finding(tcmalloc->heap, MEMATLAS_HEAP_MISSING_CACHE, tcmalloc->map.root, 0,
			     MEMATLAS_HEAP_TCMALLOC);
	}
	heap_drop_blocks(tcmalloc->heap, tcmalloc->first_block);
}
