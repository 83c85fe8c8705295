/* Pools without keepers: shared between processes, or too small to leave objects with threads. */
#include "pool.h"

#define TAKEN (1u << 16) /* the holder word of whoever it is */

void pool_push_common(struct mematlas_pool *pool, uint32_t number)
{
	_Atomic uint64_t *head = &pool->memory->head;
	uint64_t seen = GET(*head);
	uint64_t changed;

	do {
		SET(pool->next[number], (uint32_t)(seen & INDEX_MASK));
		changed = ((seen >> INDEX_BITS) + 1) << INDEX_BITS | number;
	} while (!atomic_compare_exchange_weak_explicit(head, &seen, changed, memory_order_release,
							memory_order_relaxed));
}

static uint32_t pop_free(struct mematlas_pool *pool)
{
	_Atomic uint64_t *head = &pool->memory->head;
	uint64_t seen = atomic_load_explicit(head, memory_order_acquire);
	uint64_t changed;

	do {
		uint32_t number = (uint32_t)(seen & INDEX_MASK);
		if (number == NONE)
			return (uint32_t)NONE;
		/* May be stale when another thread takes the object first; the tag then differs. */
		changed = ((seen >> INDEX_BITS) + 1) << INDEX_BITS | GET(pool->next[number]);
	} while (!atomic_compare_exchange_weak_explicit(head, &seen, changed, memory_order_acquire,
							memory_order_acquire));
	return (uint32_t)(seen & INDEX_MASK);
}

static uint32_t take_fresh(struct mematlas_pool *pool)
{
	uint64_t first = GET(pool->memory->fresh);

	do
		if (first >= pool->count)
			return (uint32_t)NONE;
	while (!atomic_compare_exchange_weak(&pool->memory->fresh, &first, first + 1));
	return (uint32_t)first;
}

void *pool_take_common(struct mematlas_pool *pool)
{
	exchange_settle(&pool->exchange);
	uint32_t number = pop_free(pool);
	if (number == NONE)
		number = take_fresh(pool);
	if (number == NONE) {
		atomic_fetch_add_explicit(&pool->memory->refused, 1, memory_order_relaxed);
		return NULL;
	}
	SET(pool->slots[number].holder, TAKEN);
	atomic_fetch_add_explicit(&pool->memory->taken, 1, memory_order_relaxed);
	return object_at(pool, number);
}

int pool_give_common(struct mematlas_pool *pool, uint32_t number)
{
	exchange_settle(&pool->exchange);
	/* Of two threads that give the same object, one is told so. */
	if (!atomic_exchange_explicit(&pool->slots[number].holder, 0, memory_order_relaxed))
		return -EALREADY;
	atomic_fetch_add_explicit(&pool->memory->given, 1, memory_order_relaxed);
	pool_push_common(pool, number);
	return 0;
}
