/* Placement of an arena's pages: NUMA policy and transparent huge pages. */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "arena.h"
#include "page_size.h"

int arena_place_range(const struct mematlas_arena *arena, char *start, uint64_t bytes)
{
	const struct mematlas_arena_placement *placement = &arena->placement;
	int error = 0;

	if (placement->mode >= 0)
		error = mematlas_bind((uintptr_t)start, bytes, placement->mode, placement->nodes,
				      sizeof placement->nodes * 8, 0);
	if (!error && placement->huge && madvise(start, bytes, MADV_HUGEPAGE) != 0)
		error = -errno;
	return error;
}

int mematlas_arena_place(struct mematlas_arena *arena,
			 const struct mematlas_arena_placement *placement)
{
	arena->placement = *placement;
	arena->huge_page = placement->huge ? page_size_pmd() : 0;
	return arena_place_range(arena, arena->base, arena->capacity);
}
