/* Pools without thread caches: shared between processes, or with too few objects to cache any. */
#include "pool.h"

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

/* False: somebody else holds the object. */
static bool hold(struct mematlas_pool *pool, uint32_t number)
{
	uint32_t holder = GET(pool->holder), nobody = 0;

	if (!holder)
		holder = pool_holder_claim(pool);
	return atomic_compare_exchange_strong(&pool->slots[number].owner, &nobody, holder);
}

/* An object of the list, or one never used. NO_OBJECT: there is none. The loop ends, because each
 * turn takes an object off the list; other processes may write a cycle, so the turns are counted. */
static uint32_t hold_listed(struct mematlas_pool *pool)
{
	for (uint64_t turns = 0; turns <= pool->count; turns++) {
		uint32_t number = pool_free_list_pop(pool);
		if (number == NO_OBJECT)
			break;
		/* Before the owner word: the next thread that frees the object puts it back. */
		atomic_exchange(&pool->slots[number].remote_freed, 0);
		if (hold(pool, number))
			return number;
	}
	for (uint64_t turns = 0; turns <= pool->count;
	     turns++) { /* others may write to bump, too */
		uint32_t number = bump(pool);
		if (number == NO_OBJECT || hold(pool, number))
			return number;
	}
	return (uint32_t)NO_OBJECT;
}

/* The last resort: an object of a dead holder, or one that a killed process left on no list. The
 * search reads all slots, so a full pool is searched again only when a holder has ended or begun. */
static uint32_t hold_lost(struct mematlas_pool *pool)
{
	struct pool_holders before;

	if (!GET(pool->holder))
		pool_holder_claim(pool); /* frees what an earlier process of its number held */
	if (!pool_holder_may_have_died(pool, &before))
		return (uint32_t)NO_OBJECT;
	uint64_t reclaimed = pool_holder_reclaim(pool);
	if (reclaimed)
		atomic_fetch_add(&pool->memory->reclaimed, reclaimed);
	uint32_t number = reclaimed ? hold_listed(pool) : (uint32_t)NO_OBJECT;
	for (uint64_t i = 0; number == NO_OBJECT && i < pool->count; i++)
		if (!GET(pool->slots[i].owner) && hold(pool, (uint32_t)i))
			number = (uint32_t)i;
	if (number == NO_OBJECT)
		pool_holder_found_nothing(pool, &before);
	return number;
}

void *pool_uncached_alloc(struct mematlas_pool *pool)
{
	tcache_group_ready(&pool->group);
	uint32_t number = hold_listed(pool);
	if (number == NO_OBJECT && !pool->group.private)
		number = hold_lost(pool);
	if (number == NO_OBJECT) {
		atomic_fetch_add_explicit(&pool->memory->failed_allocs, 1, memory_order_relaxed);
		return NULL;
	}
	atomic_fetch_add_explicit(&pool->memory->allocs, 1, memory_order_relaxed);
	return pool_object_at(pool, number);
}

int pool_uncached_free(struct mematlas_pool *pool, uint32_t number)
{
	tcache_group_ready(&pool->group);
	/* The exchange reports a double free to one of two threads that race. */
	if (!pool_free_list_release(pool, number, GET(pool->slots[number].owner)))
		return -EALREADY;
	atomic_fetch_add_explicit(&pool->memory->frees, 1, memory_order_relaxed);
	return 0;
}
