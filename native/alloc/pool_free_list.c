/* Pools without thread caches: shared between processes, or with too few objects to cache any. */
#include "pool.h"

/* The owner word of every object in use. The list needs no owner, only the state. */
#define IN_USE (1u << OWNER_SHIFT)

/* The caller owns the object. The head has a tag that grows with each change, against an object
 * that is popped and pushed again meanwhile. */
void pool_free_list_push(struct mematlas_pool *pool, uint32_t number)
{
	_Atomic uint64_t *list = &pool->memory->free_list;
	uint64_t seen = GET(*list);
	uint64_t changed;

	do {
		SET(pool->links[number], (uint32_t)(seen & INDEX_MASK));
		changed = ((seen >> INDEX_BITS) + 1) << INDEX_BITS | number;
	} while (!atomic_compare_exchange_weak_explicit(list, &seen, changed, memory_order_release,
							memory_order_relaxed));
}

/* NO_OBJECT: the list is empty. In a shared pool any process may write the head, so a number
 * beyond the pool ends the list. */
static uint32_t pop(struct mematlas_pool *pool)
{
	_Atomic uint64_t *list = &pool->memory->free_list;
	uint64_t seen = atomic_load_explicit(list, memory_order_acquire);
	uint64_t changed;

	do {
		uint32_t number = (uint32_t)(seen & INDEX_MASK);
		if (number >= pool->count) /* NO_OBJECT too: the list is empty */
			return (uint32_t)NO_OBJECT;
		/* Stale if another thread pops the object first. The tag then differs and the
		 * exchange fails. */
		changed = ((seen >> INDEX_BITS) + 1) << INDEX_BITS | GET(pool->links[number]);
	} while (!atomic_compare_exchange_weak_explicit(list, &seen, changed, memory_order_acquire,
							memory_order_acquire));
	return (uint32_t)(seen & INDEX_MASK);
}

/* Objects that were never used; NO_OBJECT: all have been. */
static uint32_t bump(struct mematlas_pool *pool)
{
	uint64_t first = GET(pool->memory->bump);

	do
		if (first >= pool->count)
			return (uint32_t)NO_OBJECT;
	while (!atomic_compare_exchange_weak(&pool->memory->bump, &first, first + 1));
	return (uint32_t)first;
}

void *pool_free_list_alloc(struct mematlas_pool *pool)
{
	tcache_group_ready(&pool->group);
	uint32_t number = pop(pool);
	if (number == NO_OBJECT)
		number = bump(pool);
	if (number == NO_OBJECT) {
		atomic_fetch_add_explicit(&pool->memory->failed_allocs, 1, memory_order_relaxed);
		return NULL;
	}
	SET(pool->slots[number].owner, IN_USE);
	atomic_fetch_add_explicit(&pool->memory->allocs, 1, memory_order_relaxed);
	return pool_object_at(pool, number);
}

int pool_free_list_free(struct mematlas_pool *pool, uint32_t number)
{
	tcache_group_ready(&pool->group);
	/* The exchange reports a double free to one of two threads that race. */
	if (!atomic_exchange_explicit(&pool->slots[number].owner, 0, memory_order_relaxed))
		return -EALREADY;
	atomic_fetch_add_explicit(&pool->memory->frees, 1, memory_order_relaxed);
	pool_free_list_push(pool, number);
	return 0;
}
