/* Allocation from a pool: the magazine of the thread, then batches, then other threads' queues. */
#include "pool.h"

static struct pool_tcache *pool_tcache(struct tcache *tcache)
{
	return (struct pool_tcache *)tcache;
}

/* On fresh zeroed memory, before any other thread can see the cache. */
void pool_tcache_init(struct tcache_group *group, struct tcache *tcache)
{
	struct free_slot *bottom = pool_tcache(tcache)->slots;

	magazine_init(&pool_tcache(tcache)->magazine, &bottom, 2 * pool_of_group(group)->batch_size,
		      tcache);
}

static void push_number(struct mematlas_pool *pool, struct pool_tcache *tcache, uint64_t number)
{
	magazine_put(&tcache->magazine, pool_object_at(pool, number), &pool->slots[number]);
}

/* The magazine is empty, so a batch fits. */
static void unpack_batch(struct mematlas_pool *pool, struct pool_tcache *tcache, uint32_t number)
{
	struct batch *batch = batch_at(&pool->group, number);

	for (uint32_t i = 0; i < batch->count; i++)
		push_number(pool, tcache, batch->items[i] >> 32);
	moved_add(&tcache->base.moved_in, batch->count);
	batch_free(&pool->group, number);
}

/* Frees the objects of a batch, and drops stale items from the batch. */
static struct batch *reclaim_batch(struct mematlas_pool *pool, struct tcache *tcache,
				   uint32_t number)
{
	struct batch *batch = batch_at(&pool->group, number);
	uint32_t kept = 0;

	for (uint32_t i = 0; i < batch->count; i++) /* the sender's CPU has the lines */
		__builtin_prefetch(&pool->slots[batch->items[i] >> 32], 1);
	for (uint32_t i = 0; i < batch->count; i++) {
		uint64_t item = batch->items[i];
		if (slot_reclaim(&pool->slots[item >> 32], (uint32_t)item))
			batch->items[kept++] = item;
	}
	SET(tcache->late_double_frees, GET(tcache->late_double_frees) + batch->count - kept);
	batch->count = kept;
	return batch;
}

/* Moves a list of stolen batches to the transfer cache, where all threads find the objects. */
static void receive_stolen(struct mematlas_pool *pool, struct tcache *tcache, uint32_t number)
{
	while (number) {
		uint32_t next = GET(batch_at(&pool->group, number)->next);

		if (reclaim_batch(pool, tcache, number)->count)
			batch_push(&pool->group, &pool->transfer_cache, number);
		else
			batch_free(&pool->group, number);
		number = next;
	}
}

/* Moves objects that other threads freed into the magazine. False: the queue is empty. */
static bool refill_from_queue(struct mematlas_pool *pool, struct pool_tcache *tcache)
{
	uint32_t number;

	while (magazine_is_empty(&tcache->magazine) &&
	       (number = remote_free_receive(&pool->group, &tcache->base)) != 0) {
		reclaim_batch(pool, &tcache->base, number);
		unpack_batch(pool, tcache, number);
	}
	return !magazine_is_empty(&tcache->magazine);
}

/* Objects that were never used, so that memory is touched only as it is needed. False: all have
 * been used. */
static bool refill_from_bump(struct mematlas_pool *pool, struct pool_tcache *tcache)
{
	_Atomic uint64_t *bump = &pool->memory->bump;
	uint64_t first = GET(*bump), last;

	do {
		if (first >= pool->count)
			return false;
		last = first + pool->batch_size;
		if (last > pool->count)
			last = pool->count;
	} while (!atomic_compare_exchange_weak(bump, &first, last));
	/* The magazine pops its last entry, so allocs ascend by address. */
	for (uint64_t number = last; number-- > first;)
		push_number(pool, tcache, number);
	moved_add(&tcache->base.moved_in, last - first);
	return true;
}

/* False: the transfer cache is empty. */
static bool refill_from_transfer_cache(struct mematlas_pool *pool, struct pool_tcache *tcache)
{
	uint32_t number = batch_pop(&pool->group, &pool->transfer_cache);

	if (number)
		unpack_batch(pool, tcache, number);
	return number != 0;
}

/* The only free objects left may be in batches that their receivers have not reclaimed yet. */
static bool refill_by_stealing(struct mematlas_pool *pool, struct pool_tcache *tcache)
{
	struct tcache_group *group = &pool->group;

	remote_free_flush(group, &tcache->base);
	uint32_t count = atomic_load_explicit(&group->tcache_count, memory_order_acquire);
	for (uint32_t i = 0; i < count && !refill_from_transfer_cache(pool, tcache); i++) {
		struct tcache *other =
			atomic_load_explicit(&group->tcaches[i], memory_order_acquire);
		if (other && other != &tcache->base)
			receive_stolen(pool, &tcache->base, remote_free_steal(group, other));
	}
	return refill_from_queue(pool, tcache) || refill_from_transfer_cache(pool, tcache);
}

/* In the order of cost. False: all objects are in use, or in magazines of other threads. */
static bool refill(struct mematlas_pool *pool, struct pool_tcache *tcache)
{
	return refill_from_queue(pool, tcache) || refill_from_transfer_cache(pool, tcache) ||
	       refill_from_bump(pool, tcache) || refill_by_stealing(pool, tcache);
}

__attribute__((noinline)) static void *alloc_slow(struct mematlas_pool *pool)
{
	if (pool->uses_free_list)
		return pool_uncached_alloc(pool);
	struct pool_tcache *tcache = pool_tcache(tcache_get(&pool->group));
	if (tcache && (!magazine_is_empty(&tcache->magazine) || refill(pool, tcache)))
		return magazine_alloc(&tcache->magazine);
	atomic_fetch_add_explicit(&pool->memory->failed_allocs, 1, memory_order_relaxed);
	return NULL;
}

/* A lookup in thread-local storage, a pop and a store to the slot. Everything else is out of
 * line. */
void *mematlas_pool_alloc(struct mematlas_pool *pool)
{
	struct pool_tcache *tcache = pool_tcache(tcache_lookup(&pool->group));

	if (__builtin_expect(!tcache, 0))
		return alloc_slow(pool);
	void *object = magazine_alloc(&tcache->magazine);
	return __builtin_expect(object != NULL, 1) ? object : alloc_slow(pool);
}

/* Moves objects from the magazine to the transfer cache. False: no memory for the batch. */
static bool flush_batch(struct mematlas_pool *pool, struct pool_tcache *tcache, uint32_t count)
{
	uint32_t number = batch_alloc(&pool->group);
	struct free_slot *left =
		tcache->magazine.bottom + magazine_filled(&tcache->magazine) - count;

	if (!number)
		return false;
	struct batch *batch = batch_at(&pool->group, number);
	for (uint32_t i = 0; i < count; i++)
		batch->items[i] = (uint64_t)(left[i].slot - pool->slots) << 32;
	batch->count = count;
	magazine_drop(&tcache->magazine, count);
	moved_add(&tcache->base.moved_out, count);
	batch_push(&pool->group, &pool->transfer_cache, number);
	return true;
}

void pool_tcache_flush(struct tcache_group *group, struct tcache *base)
{
	struct mematlas_pool *pool = pool_of_group(group);
	struct pool_tcache *tcache = pool_tcache(base);

	remote_free_flush(group, base);
	for (uint32_t filled; (filled = magazine_filled(&tcache->magazine)) != 0;)
		if (!flush_batch(pool, tcache,
				 filled < pool->batch_size ? filled : pool->batch_size))
			return; /* the next thread with this cache has the rest */
}

/* Not the start of an object, or any address of a pool without thread caches. -EINVAL: inside the
 * objects. -EFAULT: outside. */
__attribute__((noinline)) static int free_uncached(struct mematlas_pool *pool, const void *object)
{
	uint64_t offset = (uint64_t)((const char *)object - pool->objects);
	uint64_t number = pool_object_number(pool, object);

	if (number >= pool->count || pool_object_at(pool, number) != object)
		return offset < pool->stride * pool->count ? -EINVAL : -EFAULT;
	return pool_uncached_free(pool, (uint32_t)number);
}

/* By a thread without a cache, or into a full magazine. */
__attribute__((noinline)) static int free_slowest(struct mematlas_pool *pool, void *object,
						  struct slot *slot)
{
	if (pool->uses_free_list)
		return free_uncached(pool, object);
	struct pool_tcache *tcache = pool_tcache(tcache_get(&pool->group));
	if (!tcache)
		return -ENOMEM;
	if (slot_is_owned(slot, tcache->base.id) && magazine_is_full(&tcache->magazine) &&
	    !flush_batch(pool, tcache, pool->batch_size))
		return -ENOMEM;
	return mematlas_pool_free(pool, object);
}

/* Mostly an object of another thread. Calls at the end only, so that no register is saved. */
__attribute__((noinline)) static int free_slow(struct mematlas_pool *pool, void *object,
					       struct slot *slot)
{
	struct tcache *tcache = tcache_lookup(&pool->group);

	if (!tcache || slot_is_owned(slot, tcache->id))
		return free_slowest(pool, object, slot);
	return remote_free_slot(&pool->group, tcache, slot, (uint32_t)(slot - pool->slots),
				pool->batch_size);
}

/* The address is checked before the slot is read, so any pointer may be passed. */
int mematlas_pool_free(struct mematlas_pool *pool, void *object)
{
	struct slot *slot = pool_slot_at(pool, object);

	if (__builtin_expect(!slot, 0))
		return free_uncached(pool, object);
	struct pool_tcache *tcache = pool_tcache(tcache_lookup(&pool->group));
	if (__builtin_expect(
		    !tcache || !magazine_free(&tcache->magazine, &tcache->base, object, slot), 0))
		return free_slow(pool, object, slot);
	return 0;
}
