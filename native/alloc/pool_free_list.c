/* The free list of pools without thread caches.
 *
 * The owner word of a slot alone says whether an object is free, and changes by one exchange. The
 * list only finds free objects quickly. A process may be killed between the two: the object is then
 * free and on no list, or on the list and in use, and neither harms. slot.remote_freed, which such
 * pools need for nothing else, is LISTED while the object is on the list, so that it is there once. */
#include "pool.h"

#define LISTED (OWNER_MASK + 1) /* no owner word: slot_in_use() compares the two */

/* Links and heads are shared with other processes, which can write any number. The head has a tag
 * that grows with each change, against an object that is popped and pushed again meanwhile. */
static void push(struct mematlas_pool *pool, uint32_t number)
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

void pool_free_list_push(struct mematlas_pool *pool, uint32_t number)
{
	if (atomic_exchange(&pool->slots[number].remote_freed, LISTED) != LISTED)
		push(pool, number);
}

uint32_t pool_free_list_pop(struct mematlas_pool *pool)
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
		uint32_t next = GET(pool->links[number]) & INDEX_MASK;
		changed = ((seen >> INDEX_BITS) + 1) << INDEX_BITS | next;
	} while (!atomic_compare_exchange_weak_explicit(list, &seen, changed, memory_order_acquire,
							memory_order_acquire));
	return (uint32_t)(seen & INDEX_MASK);
}

bool pool_free_list_release(struct mematlas_pool *pool, uint32_t number, uint32_t owner)
{
	if (!owner || !atomic_compare_exchange_strong(&pool->slots[number].owner, &owner, 0))
		return false;
	pool_free_list_push(pool, number);
	return true;
}
