/* Bump allocator for run descriptors, slots and stacks. */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "arena.h"

#define METADATA_CHUNK (1ull << 20)
#define METADATA_ALIGNMENT 64u

/* At the start of each mapping. `bytes` is the length of the whole mapping. */
struct metadata_chunk {
	struct metadata_chunk *next;
	uint64_t bytes;
};

_Static_assert(sizeof(struct metadata_chunk) <= METADATA_ALIGNMENT, "fits before the first item");

/* The rest of the chunk before is lost, at most what one descriptor takes. Heap's lock held. */
static bool add_chunk(struct page_heap *heap, uint64_t bytes)
{
	struct metadata_chunk *chunk = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
					    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (chunk == MAP_FAILED)
		return false;
	*chunk = (struct metadata_chunk){.next = heap->metadata_chunks, .bytes = bytes};
	heap->metadata_chunks = chunk;
	heap->metadata = (char *)chunk + METADATA_ALIGNMENT;
	heap->metadata_end = (char *)chunk + bytes;
	return true;
}

void *arena_metadata_alloc(struct mematlas_arena *arena, uint64_t bytes)
{
	struct page_heap *heap = &arena->heap;

	bytes = (bytes + METADATA_ALIGNMENT - 1) & ~(METADATA_ALIGNMENT - 1ull);
	if ((uint64_t)(heap->metadata_end - heap->metadata) < bytes) {
		uint64_t needed = bytes + METADATA_ALIGNMENT;
		if (!add_chunk(heap, needed > METADATA_CHUNK ? needed : METADATA_CHUNK))
			return NULL;
	}
	void *memory = heap->metadata;
	heap->metadata += bytes;
	return memory;
}

/* Last of all: runs and slots lie in these mappings. */
void arena_metadata_close(struct mematlas_arena *arena)
{
	struct metadata_chunk *chunk = arena->heap.metadata_chunks, *next;

	for (; chunk; chunk = next) {
		next = chunk->next;
		munmap(chunk, chunk->bytes);
	}
}
