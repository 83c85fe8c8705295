/* glibc's malloc in a copied memory, found by content. Source: malloc/malloc.c, malloc/arena.c. */
#ifndef MEMATLAS_HEAP_GLIBC_H
#define MEMATLAS_HEAP_GLIBC_H

#include "heap.h"

#define CHUNK_FLAGS 7ULL
#define CHUNK_PREVIOUS_IN_USE 1ULL
#define CHUNK_MAPPED 2ULL
#define CHUNK_OTHER_ARENA 4ULL
#define CHUNK_HEADER 16ULL
#define CHUNK_SMALLEST 0x20ULL
#define CHUNK_FENCE 0x10ULL /* size of the chunks that end memory followed by another's */

/* Offsets in struct malloc_state, from that of `bins`, which differs by version. */
#define STATE_TOP(bins) ((bins) - 16)
#define STATE_NEXT(bins) ((bins) + 254 * 8 + 16)
#define STATE_SYSTEM(bins) (STATE_NEXT(bins) + 24)
#define STATE_SIZE(bins) (STATE_NEXT(bins) + 40)
#define STATE_WITHOUT_FASTBINS 24U

struct glibc_arena {
	uint64_t address;
	uint64_t top;
};

/* Memory that holds chunks: start < end. */
struct glibc_region {
	uint64_t start, end;
	uint64_t first; /* where the first chunk is expected */
	uint32_t arena;
};

/* One copy of glibc's malloc: a program may have several. The arenas ascend once regions are found. */
struct glibc {
	struct heap *heap;
	struct mematlas_heap_glibc *sum;
	uint32_t bins; /* offset in struct malloc_state */
	uint32_t main; /* index of main_arena */
	uint32_t first_block; /* its blocks are [first_block, count) */
	struct glibc_arena *arenas;
	struct glibc_region *regions; /* ascending */
	uint32_t arena_count, arena_capacity;
	uint32_t region_count, region_capacity;
	uint32_t steps; /* along rings of arenas, of all copies */
	const struct mematlas_heap_range *data; /* that of main_arena */
};

/* Looks for main_arena from *at on; false: no more. On success the ring of arenas is in `glibc`. */
bool glibc_find_arenas(struct glibc *glibc, size_t *range, uint64_t *offset);
int glibc_find_regions(struct glibc *glibc);
/* Adds the chunks of all regions that are not in a bin. */
int glibc_walk(struct glibc *glibc);
/* Leaves out what thread caches and fast bins hold. */
void glibc_drop_cached(struct glibc *glibc);
int glibc_read_mapped(struct heap *heap, struct mematlas_heap_glibc *sum);
/* Reads what malloc itself says of mapped chunks; true: this copy of malloc has used brk(2). */
bool glibc_read_parameters(struct glibc *glibc);

#endif
