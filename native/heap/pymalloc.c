/* CPython's allocator of small blocks, found by content: no symbol and no version is needed.
 * Pools lie at multiples of their size in arenas of 1 or 2 MiB. A header states its size class
 * twice, and its count must agree with its free list, so a pool is told from other memory. */
#include "heap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../array.h"
#include "../cleanup.h"

#define POOL 16384U
#define HEADER 48U
#define CLASSES 32U
#define NO_CLASS 0xFFFFU /* carved from the arena and not used yet */
#define MOST_SLOTS ((POOL - HEADER) / 16)
#define MOST_APART                                                                                 \
	(1U << 20) /* neighbours of one arena: some builds of 3.15 have arenas of 2 MiB */

/* Include/internal/pycore_obmalloc.h, the same from 3.10 to 3.15.
 * size == (size_class + 1) * 16 and last_offset == POOL - size
 * count == slots below next_offset - length of the list at free_block */
struct pool_header {
	uint32_t count;
	uint32_t padding;
	uint64_t free_block;
	uint64_t next;
	uint64_t previous;
	uint32_t arena;
	uint32_t size_class;
	uint32_t next_offset;
	uint32_t last_offset;
};
_Static_assert(sizeof(struct pool_header) == HEADER, "header of a pool");

struct pool {
	uint64_t address;
	uint32_t arena;
	bool sound; /* the header agrees with itself */
	bool torn; /* !sound, or the free list does not agree with the header */
};

struct pools {
	struct pool *items;
	size_t count, capacity;
};

static void free_pools(struct pools *pools)
{
	free(pools->items);
}

static uint32_t slot_size(const struct pool_header *header)
{
	return (header->size_class + 1) * 16;
}

/* Slots that were handed out at least once. */
static uint32_t used_slots(const struct pool_header *header)
{
	return (header->next_offset - HEADER) / slot_size(header);
}

/* Does the header agree with itself? */
static bool is_header(const struct pool_header *header)
{
	if (header->size_class >= CLASSES)
		return false;
	return header->last_offset == POOL - slot_size(header) &&
	       header->next_offset >= HEADER + slot_size(header) && header->next_offset <= POOL &&
	       (header->next_offset - HEADER) % slot_size(header) == 0 &&
	       header->count <= used_slots(header);
}

/* Clears the bits of free slots. False: the list leaves the pool, does not end, or contradicts
 * the count. */
static bool read_free_list(const struct pool_header *header, const uint8_t *bytes, uint64_t pool,
			   uint8_t *live)
{
	uint32_t size = slot_size(header), count = used_slots(header), left = count;
	uint64_t at = header->free_block;

	memset(live, 1, count);
	while (at) {
		uint64_t offset = at - pool - HEADER;
		uint64_t slot = offset / size;

		if (offset >= POOL || offset % size || slot >= count || !live[slot])
			return false;
		live[slot] = 0;
		left--;
		memcpy(&at, bytes + HEADER + offset, sizeof at);
	}
	return left == header->count;
}

static int add_pool(struct pools *pools, uint64_t address, const struct pool_header *header,
		    bool sound, bool torn)
{
	if (!ARRAY_RESERVE(pools->items, pools->count, pools->capacity, 256))
		return -ENOMEM;
	pools->items[pools->count++] = (struct pool){
		.address = address,
		.arena = header->arena,
		.sound = sound,
		.torn = torn,
	};
	return 0;
}

static bool is_blank(const struct pool_header *header)
{
	static const struct pool_header blank;

	return memcmp(header, &blank, sizeof blank) == 0 || header->size_class == NO_CLASS;
}

/* Pools of a range, and what lies where pools are expected: told apart by their neighbours. */
static int find_pools(const struct mematlas_heap_range *range, struct pools *pools)
{
	uint64_t address = (range->start + POOL - 1) / POOL * POOL;
	struct pool_header header;
	uint8_t live[MOST_SLOTS];
	int error = 0;

	for (; !error && address - range->start < range->size &&
	       range->size - (address - range->start) >= POOL;
	     address += POOL) {
		const uint8_t *bytes = range->bytes + (address - range->start);

		memcpy(&header, bytes, sizeof header);
		if (is_blank(&header))
			continue;
		bool sound = is_header(&header);
		error = add_pool(pools, address, &header, sound,
				 !sound || !read_free_list(&header, bytes, address, live));
	}
	return error;
}

/* The kernel merges an arena with the .bss of a library below it: such a range counts as data. */
static bool may_hold_pools(const struct mematlas_heap_range *range)
{
	return range->kind == MEMATLAS_HEAP_BRK || range->kind == MEMATLAS_HEAP_ANONYMOUS ||
	       range->kind == MEMATLAS_HEAP_DATA || range->kind == MEMATLAS_HEAP_SHARED;
}

/* The next sound pool in a direction; NULL: none so near that both can be of one arena. */
static const struct pool *sound_beside(const struct pools *pools, size_t at, int step)
{
	uint64_t address = pools->items[at].address;

	for (size_t i = at + (size_t)step; i < pools->count; i += (size_t)step) {
		uint64_t other = pools->items[i].address;

		if ((other > address ? other - address : address - other) >= MOST_APART)
			return NULL;
		if (!pools->items[i].torn)
			return &pools->items[i];
	}
	return NULL;
}

/* A torn pool lies between sound pools of one arena, or its header is sound and has the number of a
 * neighbour's arena. Anything else that is no pool is other memory. */
static bool is_torn_pool(const struct pools *pools, size_t at)
{
	const struct pool *before = sound_beside(pools, at, -1);
	const struct pool *behind = sound_beside(pools, at, 1);
	const struct pool *pool = &pools->items[at];

	if (before && behind && before->arena == behind->arena &&
	    behind->address - before->address < MOST_APART)
		return true;
	return pool->sound && ((before && before->arena == pool->arena) ||
			       (behind && behind->arena == pool->arena));
}

/* One block for all of a torn pool: its words are read, none of its slots is trusted. */
static int add_torn(struct heap *heap, const struct pool *pool)
{
	heap_finding(heap, MEMATLAS_HEAP_TORN_POOL, pool->address, 0, pool->arena);
	return heap_add_block(heap, pool->address, POOL, MEMATLAS_HEAP_PYMALLOC_TORN);
}

static int add_slots(struct heap *heap, const struct pool *pool)
{
	const uint8_t *bytes = heap_at(&heap->image, pool->address, POOL);
	struct pool_header header;
	uint8_t live[MOST_SLOTS];
	int error = 0;

	if (!bytes)
		return 0;
	memcpy(&header, bytes, sizeof header);
	if (!is_header(&header) || !read_free_list(&header, bytes, pool->address, live))
		return 0;
	for (uint32_t i = 0; i < used_slots(&header) && !error; i++)
		if (live[i])
			error = heap_add_block(
				heap, pool->address + HEADER + (uint64_t)i * slot_size(&header),
				slot_size(&header), MEMATLAS_HEAP_PYMALLOC);
	return error;
}

/* Leaves out what is no pool, and counts. */
static void keep_pools(struct pools *pools, struct mematlas_heap_pymalloc *ret)
{
	size_t kept = 0;

	/* Neighbours are asked before any item moves. */
	for (size_t i = 0; i < pools->count; i++)
		if (pools->items[i].torn && !is_torn_pool(pools, i))
			pools->items[i].address = 0;
	for (size_t i = 0; i < pools->count; i++) {
		const struct pool *pool = &pools->items[i];

		if (!pool->address)
			continue;
		ret->torn_pools += pool->torn;
		ret->arenas += !kept || pools->items[kept - 1].arena != pool->arena ||
			       pool->address - pools->items[kept - 1].address >= MOST_APART;
		pools->items[kept++] = *pool;
	}
	pools->count = kept;
	ret->pools = kept;
}

/* What lies in an arena between the live blocks is free: no root. */
static int subdivide(struct heap *heap, const struct pools *pools)
{
	CLEANUP_FREE struct heap_span *spans = malloc((pools->count + 1) * sizeof *spans);
	size_t count = 0;

	if (!spans)
		return -ENOMEM;
	for (size_t i = 0; i < pools->count; i++) {
		uint64_t start = pools->items[i].address;

		if (count && spans[count - 1].end == start)
			spans[count - 1].end += POOL;
		else
			spans[count++] = (struct heap_span){start, start + POOL};
	}
	return heap_subdivide(heap, spans, count);
}

int64_t mematlas_heap_pymalloc(struct mematlas_heap *handle, struct mematlas_heap_pymalloc *ret)
{
	CLEANUP(free_pools) struct pools pools = {0};
	struct heap *heap = (struct heap *)handle;
	uint32_t before;
	int error = 0;

	memset(ret, 0, sizeof *ret);
	for (size_t i = 0; i < heap->image.count && !error; i++)
		if (may_hold_pools(&heap->image.ranges[i]))
			error = find_pools(&heap->image.ranges[i], &pools);
	if (error)
		return error;
	keep_pools(&pools, ret);
	error = subdivide(heap, &pools);
	before = heap->blocks.count;
	for (size_t i = 0; i < pools.count && !error; i++)
		error = pools.items[i].torn ? add_torn(heap, &pools.items[i])
					    : add_slots(heap, &pools.items[i]);
	return error ? error : (int64_t)(heap->blocks.count - before);
}
