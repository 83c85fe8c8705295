/* Arenas as a whole; blocks that change size. */
#include <stdlib.h>

#include "arena.h"
#include "membarrier.h"

static void lock_all(struct exchange *exchange)
{
	struct mematlas_arena *arena = arena_of(exchange);

	for (unsigned i = 0; i < SHARDS; i++)
		pthread_mutex_lock(&arena->shards[i].lock);
	pthread_mutex_lock(&arena->heap.lock);
	pthread_mutex_lock(&arena->large.lock);
}

static void unlock_all(struct exchange *exchange)
{
	struct mematlas_arena *arena = arena_of(exchange);

	pthread_mutex_unlock(&arena->large.lock);
	pthread_mutex_unlock(&arena->heap.lock);
	for (unsigned i = SHARDS; i-- > 0;)
		pthread_mutex_unlock(&arena->shards[i].lock);
}

int mematlas_arena_create(uint64_t capacity, struct mematlas_arena **ret)
{
	if (!capacity || capacity > CAPACITY_MAX)
		return -EINVAL;
	if (!membarrier_register())
		return -ENOSYS;
	struct mematlas_arena *arena = aligned_alloc(128, sizeof *arena);
	if (!arena)
		return -ENOMEM;
	memset(arena, 0, sizeof *arena);
	arena->capacity = (capacity + GROWTH - 1) / GROWTH * GROWTH;
	pthread_mutex_init(&arena->heap.lock, NULL);
	pthread_mutex_init(&arena->large.lock, NULL);
	classes_open(arena);
	arena->exchange.private = true;
	arena->exchange.keeper_size = arena_keeper_size(arena);
	arena->exchange.prepare = arena_prepare_keeper;
	arena->exchange.leave = arena_leave;
	arena->exchange.adopt = arena_adopt;
	arena->exchange.lock = lock_all;
	arena->exchange.unlock = unlock_all;
	int error = pages_open(arena);
	if (!error)
		error = exchange_open(&arena->exchange);
	if (error) {
		pages_close(arena);
		free(arena);
	} else {
		*ret = arena;
	}
	return error;
}

void mematlas_arena_destroy(struct mematlas_arena *arena)
{
	if (!arena)
		return;
	exchange_close(&arena->exchange);
	large_close(arena);
	pages_close(arena);
	free(arena);
}

void mematlas_arena_range(const struct mematlas_arena *arena, uint64_t *ret_start,
			  uint64_t *ret_length)
{
	*ret_start = (uint64_t)(uintptr_t)arena->base;
	*ret_length = arena->capacity;
}

void *mematlas_arena_take_zeroed(struct mematlas_arena *arena, uint64_t count, uint64_t size)
{
	uint64_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		return NULL;
	void *block = mematlas_arena_take(arena, bytes, 0);
	/* What lies outside the reservation was mapped just now. */
	if (block && in_reservation(arena, block))
		memset(block, 0, bytes);
	return block;
}

int64_t mematlas_arena_size(struct mematlas_arena *arena, const void *block)
{
	exchange_settle(&arena->exchange);
	if (!in_reservation(arena, block))
		return large_size(arena, block);
	struct run *run = run_at(arena, block);
	if (!run || GET(run->state) != RUN_SPAN)
		return pages_block_size(arena, block);
	struct slot *slot = slot_of(run, block);
	if (!slot)
		return -EINVAL;
	return slot_in_use(slot) ? (int64_t)run->slot_size : -EALREADY;
}

static int move(struct mematlas_arena *arena, void **block, uint64_t old, uint64_t size)
{
	void *moved = mematlas_arena_take(arena, size, 0);

	if (!moved)
		return -ENOMEM;
	memcpy(moved, *block, old < size ? old : size);
	int error = mematlas_arena_give(arena, *block);
	if (error) {
		mematlas_arena_give(arena, moved);
		return error;
	}
	*block = moved;
	return 0;
}

int mematlas_arena_resize(struct mematlas_arena *arena, void **block, uint64_t size)
{
	int64_t old = mematlas_arena_size(arena, *block);

	if (old < 0)
		return (int)old;
	if (size > PTRDIFF_MAX - PAGE)
		return -ENOMEM;
	if (size <= (uint64_t)old && (size >= (uint64_t)old / 2 || old == UNIT))
		return 0;
	if (!in_reservation(arena, *block) && size >= LARGE_MIN)
		return large_resize(arena, block, size);
	return move(arena, block, (uint64_t)old, size);
}

uint64_t mematlas_arena_trim(struct mematlas_arena *arena)
{
	struct arena_keeper *keeper = arena_join(arena);

	if (keeper) {
		arena_collect(arena, keeper);
		arena_leave(&arena->exchange, &keeper->keeper);
	}
	for (unsigned i = 0; i < SHARDS * CLASSES; i++) {
		struct size_class *class = class_at(arena, i);
		pthread_mutex_lock(class->lock);
		class_dissolve(arena, class, 0);
		pthread_mutex_unlock(class->lock);
	}
	return pages_trim(arena);
}
