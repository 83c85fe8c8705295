/* Chunks of a region, from header to header. Damage costs the chunks up to the next place where many
 * headers agree. */
#include <errno.h>

#include "glibc.h"

#define CHAIN 24 /* headers in a row that no chance makes */

static bool read_head(const struct glibc *glibc, uint64_t chunk, uint64_t *ret)
{
	return heap_word(&glibc->heap->image, chunk + 8, ret);
}

static bool is_top(const struct glibc *glibc, const struct glibc_region *region, uint64_t chunk)
{
	return chunk == glibc->arenas[region->arena].top;
}

/* Free chunks of other arenas lose the flag of their arena. */
static bool is_chunk(const struct glibc *glibc, const struct glibc_region *region, uint64_t chunk,
		     uint64_t head)
{
	uint64_t size = head & ~CHUNK_FLAGS;
	uint64_t wrong = CHUNK_MAPPED | (region->arena == glibc->main ? CHUNK_OTHER_ARENA : 0);

	return size >= CHUNK_SMALLEST && size % 16 == 0 && !(head & wrong) &&
	       size <= region->end - chunk;
}

/* Whether the size before the next chunk agrees; malloc writes it for free chunks only. */
static bool is_free(const struct glibc *glibc, uint64_t next, uint64_t size, bool *torn)
{
	uint64_t head, before;

	if (!read_head(glibc, next, &head) || head & CHUNK_PREVIOUS_IN_USE)
		return false;
	*torn = !heap_word(&glibc->heap->image, next, &before) || before != size;
	return true;
}

static bool is_chain(const struct glibc *glibc, const struct glibc_region *region, uint64_t chunk)
{
	for (int length = 0; length < CHAIN; length++) {
		uint64_t head;
		bool torn = false;

		if (is_top(glibc, region, chunk))
			return true;
		if (chunk + CHUNK_HEADER > region->end || !read_head(glibc, chunk, &head))
			return false;
		if ((head & ~CHUNK_FLAGS) == CHUNK_FENCE)
			return length >= 2;
		if (!is_chunk(glibc, region, chunk, head))
			return false;
		chunk += head & ~CHUNK_FLAGS;
		is_free(glibc, chunk, head & ~CHUNK_FLAGS, &torn);
		if (torn)
			return false;
	}
	return true;
}

/* The next chunk at or behind an address, or the end of the region. */
static uint64_t resume(const struct glibc *glibc, const struct glibc_region *region, uint64_t chunk)
{
	for (chunk = (chunk + 15) & ~15ULL; chunk + CHUNK_HEADER <= region->end; chunk += 16)
		if (is_chain(glibc, region, chunk))
			return chunk;
	return region->end;
}

static int add_chunk(struct glibc *glibc, uint32_t arena, uint64_t chunk, uint64_t size)
{
	bool torn = false, is_free_chunk = is_free(glibc, chunk + size, size, &torn);

	glibc->sum->chunks++;
	if (torn)
		heap_finding(glibc->heap, MEMATLAS_HEAP_TORN_FREE_CHUNK, chunk, size, arena);
	if (is_free_chunk && !torn) {
		glibc->sum->binned += size;
		return 0;
	}
	return heap_add_block(glibc->heap, chunk + CHUNK_HEADER, size - 8, MEMATLAS_HEAP_GLIBC);
}

/* Where walking goes on behind what is no chunk. `expected`: no damage, but the memory of others. */
static int skip(struct glibc *glibc, const struct glibc_region *region, bool expected,
		uint64_t *chunk)
{
	uint64_t next = resume(glibc, region, *chunk + 16), start = *chunk;

	if (!expected) {
		glibc->sum->torn += next - *chunk;
		heap_finding(glibc->heap, MEMATLAS_HEAP_TORN_CHUNK, *chunk,
			     next == region->end ? 0 : next, region->arena);
	}
	*chunk = next;
	return heap_add_area(glibc->heap, start, next, MEMATLAS_HEAP_AREA_GAP);
}

/* Bytes of the top, which ends with the region at the latest. */
static uint64_t add_top(struct glibc *glibc, const struct glibc_region *region, uint64_t chunk,
			uint64_t size)
{
	if (size < CHUNK_FENCE || size > region->end - chunk) {
		heap_finding(glibc->heap, MEMATLAS_HEAP_TORN_CHUNK, chunk, 0, region->arena);
		size = region->end - chunk;
	}
	glibc->sum->top += size;
	return size;
}

static int walk_region(struct glibc *glibc, const struct glibc_region *region)
{
	uint64_t chunk = region->first, head, size;
	bool expected = true; /* what lies here need not be a chunk */
	int error = 0;

	while (!error && chunk + CHUNK_HEADER <= region->end) {
		if (!read_head(glibc, chunk, &head))
			return 0;
		size = head & ~CHUNK_FLAGS;
		if (is_top(glibc, region, chunk)) {
			chunk += add_top(glibc, region, chunk, size);
			expected = true;
		} else if (size == CHUNK_FENCE) {
			chunk += size;
			expected = true;
		} else if (is_chunk(glibc, region, chunk, head)) {
			error = add_chunk(glibc, region->arena, chunk, size);
			chunk += size;
			expected = false;
		} else {
			error = skip(glibc, region, expected, &chunk);
			expected = false;
		}
	}
	return error;
}

int glibc_walk(struct glibc *glibc)
{
	int error = 0;

	for (uint32_t i = 0; i < glibc->region_count && !error; i++)
		error = walk_region(glibc, &glibc->regions[i]);
	return error;
}
