/* Creation of arenas, zeroed and resized blocks. */
#include <stdlib.h>

#include "arena.h"
#include "membarrier.h"

/* Before fork(2), so that the child finds no lock in the middle of a change. The registry's lock
 * is held by the caller; the others follow in the lock order of arena.h. */
static void lock_all(struct tcache_group *group)
{
	struct mematlas_arena *arena = arena_of_group(group);

	for (unsigned i = 0; i < SHARDS; i++)
		pthread_mutex_lock(&arena->shards[i].lock);
	pthread_mutex_lock(&arena->heap.lock);
	pthread_mutex_lock(&arena->large.lock);
}

/* In parent and child. The child owns the locks too, because its only thread is the one that
 * took them. */
static void unlock_all(struct tcache_group *group)
{
	struct mematlas_arena *arena = arena_of_group(group);

	pthread_mutex_unlock(&arena->large.lock);
	pthread_mutex_unlock(&arena->heap.lock);
	for (unsigned i = SHARDS; i-- > 0;)
		pthread_mutex_unlock(&arena->shards[i].lock);
}

/* The capacity is rounded up to GROW_BYTES. -ENOSYS: no membarrier(2), without which slots of a
 * dead thread cannot be reclaimed safely. */
int mematlas_arena_create(uint64_t capacity, struct mematlas_arena **ret)
{
	if (!capacity || capacity > CAPACITY_MAX)
		return -EINVAL;
	if (!membarrier_register())
		return -ENOSYS;
	struct mematlas_arena *arena = aligned_alloc(TCACHE_LINE, sizeof *arena);
	if (!arena)
		return -ENOMEM;
	memset(arena, 0, sizeof *arena);
	arena->capacity = (capacity + GROW_BYTES - 1) / GROW_BYTES * GROW_BYTES;
	arena->placement.mode = -1;
	pthread_mutex_init(&arena->heap.lock, NULL);
	pthread_mutex_init(&arena->large.lock, NULL);
	size_class_init_all(arena);
	arena->group.private = true;
	arena->group.tcache_size = arena_tcache_size(arena);
	arena->group.init = arena_tcache_init;
	arena->group.flush = arena_tcache_flush;
	arena->group.rebuild = arena_rebuild;
	arena->group.lock = lock_all;
	arena->group.unlock = unlock_all;
	int error = page_heap_open(arena);
	if (!error)
		error = tcache_group_open(&arena->group);
	if (error) {
		page_heap_close(arena);
		free(arena);
		return error;
	}
	*ret = arena;
	return 0;
}

/* No thread may be inside of a call. Thread caches of other threads are unmapped here; their
 * entries are dropped at the next join, because they name the group by its serial. */
void mematlas_arena_destroy(struct mematlas_arena *arena)
{
	if (!arena)
		return;
	tcache_group_close(&arena->group);
	arena_large_close(arena);
	page_heap_close(arena);
	arena_metadata_close(arena);
	free(arena);
}

void mematlas_arena_range(const struct mematlas_arena *arena, uint64_t *ret_start,
			  uint64_t *ret_length)
{
	*ret_start = (uint64_t)(uintptr_t)arena->base;
	*ret_length = arena->capacity;
}

void *mematlas_arena_calloc(struct mematlas_arena *arena, uint64_t count, uint64_t size)
{
	uint64_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		return NULL;
	void *block = mematlas_arena_alloc(arena, bytes, 0);
	/* A large block is a fresh mapping, which the kernel has zeroed. */
	if (block && arena_contains(arena, block))
		memset(block, 0, bytes);
	return block;
}

int64_t mematlas_arena_usable_size(struct mematlas_arena *arena, const void *block)
{
	tcache_group_ready(&arena->group);
	if (!arena_contains(arena, block))
		return arena_large_size(arena, block);
	struct run *run;
	struct slot *slot = arena_slot_at(arena, block, &run);
	if (!run || GET(run->state) != RUN_SPAN)
		return page_heap_block_size(arena, block);
	if (!slot)
		return -EINVAL;
	return slot_in_use(slot) ? (int64_t)run->slot_size : -EALREADY;
}

/* Frees the old block last. If that fails, another thread freed the block meanwhile: the new one
 * is given up, and *block is unchanged. */
static int move_block(struct mematlas_arena *arena, void **block, uint64_t old, uint64_t size)
{
	void *moved = mematlas_arena_alloc(arena, size, 0);

	if (!moved)
		return -ENOMEM;
	memcpy(moved, *block, old < size ? old : size);
	int error = mematlas_arena_free(arena, *block);
	if (error) {
		mematlas_arena_free(arena, moved);
		return error;
	}
	*block = moved;
	return 0;
}

/* A block keeps its place while its size class holds the new size and at least half of it would
 * be used. On an error *block stays valid. */
int mematlas_arena_resize(struct mematlas_arena *arena, void **block, uint64_t size)
{
	int64_t old = mematlas_arena_usable_size(arena, *block);

	if (old < 0)
		return (int)old;
	if (size > PTRDIFF_MAX - PAGE)
		return -ENOMEM;
	if (size <= (uint64_t)old && (size >= (uint64_t)old / 2 || old == UNIT))
		return 0;
	if (arena_contains(arena, *block) || size < arena_large_min(arena))
		return move_block(arena, block, (uint64_t)old, size);
	int error = arena_large_resize(arena, block, size);
	/* A program that advised a part of the block has split its mapping, which then cannot
	 * grow. */
	return error == -EFAULT ? move_block(arena, block, (uint64_t)old, size) : error;
}

/* Slots in magazines of other threads stay there, since only their owners may touch these.
 * Returns bytes. */
uint64_t mematlas_arena_trim(struct mematlas_arena *arena)
{
	struct arena_tcache *tcache = arena_tcache_join(arena);
	uint64_t before = page_heap_returned(arena);

	if (tcache) {
		arena_tcache_collect(arena, tcache);
		arena_tcache_flush(&arena->group, &tcache->base);
	}
	arena_release_spans(arena);
	arena_release_slots(arena);
	page_heap_trim(arena);
	return page_heap_returned(arena) - before;
}
