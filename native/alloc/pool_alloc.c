/* Allocation from a pool: the magazine of the thread, then batches, then other threads' queues. */
#include "pool.h"

static struct pool_tcache *pool_tcache(struct tcache *tcache)
{
	return (struct pool_tcache *)tcache;
}

static inline __attribute__((always_inline)) void *pop_slot(struct mematlas_pool *pool,
							    struct pool_tcache *tcache,
							    uint32_t filled)
{
	void *object = tcache->objects[filled - 1];

	SET(tcache->filled, filled - 1);
	slot_alloc(&pool->slots[pool_object_number(pool, object)], tcache->base.id_bits);
	return object;
}

/* The magazine is empty, so a batch fits. */
static void unpack_batch(struct mematlas_pool *pool, struct pool_tcache *tcache, uint32_t number)
{
	struct batch *batch = batch_at(&pool->group, number);
	uint32_t filled = GET(tcache->filled);

	for (uint32_t i = 0; i < batch->count; i++)
		tcache->objects[filled++] = pool_object_at(pool, batch->items[i] >> 32);
	SET(tcache->filled, filled);
	SET(tcache->refilled, GET(tcache->refilled) + batch->count);
	batch_free(&pool->group, number);
}

/* Drops stale items from received batches and moves the rest to the transfer cache, where all
 * threads find the objects. */
static void receive_batches(struct mematlas_pool *pool, struct tcache *tcache, uint32_t number)
{
	while (number) {
		struct batch *batch = batch_at(&pool->group, number);
		uint32_t next = GET(batch->next), kept = 0;

		for (uint32_t i = 0; i < batch->count; i++) /* the sender's CPU has the lines */
			__builtin_prefetch(&pool->slots[batch->items[i] >> 32], 1);
		for (uint32_t i = 0; i < batch->count; i++) {
			uint64_t item = batch->items[i];
			if (slot_reclaim(&pool->slots[item >> 32], (uint32_t)item))
				batch->items[kept++] = item;
		}
		SET(tcache->late_double_frees,
		    GET(tcache->late_double_frees) + batch->count - kept);
		batch->count = kept;
		if (kept)
			batch_push(&pool->group, &pool->transfer_cache, number);
		else
			batch_free(&pool->group, number);
		number = next;
	}
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
	uint32_t filled = 0;
	for (uint64_t number = last; number-- > first;)
		tcache->objects[filled++] = pool_object_at(pool, number);
	SET(tcache->filled, filled);
	SET(tcache->refilled, GET(tcache->refilled) + filled);
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
	receive_batches(pool, &tcache->base, remote_free_receive(&tcache->base));
	uint32_t count = atomic_load_explicit(&group->tcache_count, memory_order_acquire);
	for (uint32_t i = 0; i < count && !refill_from_transfer_cache(pool, tcache); i++) {
		struct tcache *other =
			atomic_load_explicit(&group->tcaches[i], memory_order_acquire);
		if (other && other != &tcache->base)
			receive_batches(pool, &tcache->base, remote_free_steal(other));
	}
	return GET(tcache->filled) || refill_from_transfer_cache(pool, tcache);
}

/* In the order of cost. False: all objects are in use, or in magazines of other threads. */
static bool refill(struct mematlas_pool *pool, struct pool_tcache *tcache)
{
	receive_batches(pool, &tcache->base, remote_free_receive(&tcache->base));
	return refill_from_transfer_cache(pool, tcache) || refill_from_bump(pool, tcache) ||
	       refill_by_stealing(pool, tcache);
}

__attribute__((noinline)) static void *alloc_slow(struct mematlas_pool *pool)
{
	struct tcache *tcache = pool->uses_free_list ? NULL : tcache_join(&pool->group);

	if (pool->uses_free_list)
		return pool_uncached_alloc(pool);
	if (tcache && (GET(pool_tcache(tcache)->filled) || refill(pool, pool_tcache(tcache))))
		return pop_slot(pool, pool_tcache(tcache), GET(pool_tcache(tcache)->filled));
	atomic_fetch_add_explicit(&pool->memory->failed_allocs, 1, memory_order_relaxed);
	return NULL;
}

/* A lookup in thread-local storage, a pop and a store to the slot. Everything else is out of
 * line. */
void *mematlas_pool_alloc(struct mematlas_pool *pool)
{
	struct pool_tcache *tcache = pool_tcache(tcache_lookup(&pool->group));

	uint32_t filled = tcache ? GET(tcache->filled) : 0;

	if (__builtin_expect(filled == 0, 0))
		return alloc_slow(pool);
	return pop_slot(pool, tcache, filled);
}

/* Moves objects from the magazine to the transfer cache. False: no memory for the batch. */
static bool flush_batch(struct mematlas_pool *pool, struct pool_tcache *tcache, uint32_t count)
{
	uint32_t number = batch_alloc(&pool->group);
	uint32_t left = GET(tcache->filled) - count;

	if (!number)
		return false;
	struct batch *batch = batch_at(&pool->group, number);
	for (uint32_t i = 0; i < count; i++)
		batch->items[i] = pool_object_number(pool, tcache->objects[left + i]) << 32;
	batch->count = count;
	SET(tcache->filled, left);
	SET(tcache->refilled, GET(tcache->refilled) - count);
	batch_push(&pool->group, &pool->transfer_cache, number);
	return true;
}

void pool_tcache_flush(struct tcache_group *group, struct tcache *base)
{
	struct mematlas_pool *pool = pool_of_group(group);
	struct pool_tcache *tcache = pool_tcache(base);

	remote_free_flush(group, base);
	for (uint32_t filled; (filled = GET(tcache->filled)) != 0;)
		if (!flush_batch(pool, tcache,
				 filled < pool->batch_size ? filled : pool->batch_size))
			return; /* the next thread with this cache has the rest */
}

__attribute__((noinline)) static int free_slow(struct mematlas_pool *pool, uint32_t number)
{
	struct tcache *tcache = pool->uses_free_list ? NULL : tcache_join(&pool->group);
	struct slot *slot = &pool->slots[number];

	if (pool->uses_free_list)
		return pool_uncached_free(pool, number);
	if (!tcache)
		return -ENOMEM;
	struct pool_tcache *own = pool_tcache(tcache);
	if (!slot_is_owned(slot, tcache->id_bits))
		return remote_free_slot(&pool->group, tcache, slot, number, pool->batch_size);
	if (GET(own->filled) >= pool->magazine_capacity &&
	    !flush_batch(pool, own, pool->batch_size))
		return -ENOMEM;
	return mematlas_pool_free(
		pool, pool_object_at(pool, number)); /* the magazine has a free entry now */
}

/* -EINVAL: inside the objects, but not the start of one. -EFAULT: outside. */
static int bad_address_error(const struct mematlas_pool *pool, const void *object)
{
	uint64_t offset = (uint64_t)((const char *)object - pool->objects);

	return offset < pool->stride * pool->count ? -EINVAL : -EFAULT;
}

/* -EINVAL, -EFAULT: no object. -EALREADY: it is free, see free_slow(). The address is checked
 * before the slot is read, so any pointer may be passed. */
int mematlas_pool_free(struct mematlas_pool *pool, void *object)
{
	uint64_t number = pool_object_number(pool, object);
	struct pool_tcache *tcache = pool_tcache(tcache_lookup(&pool->group));

	if (__builtin_expect(number >= pool->count || pool_object_at(pool, number) != object, 0))
		return bad_address_error(pool, object);
	if (__builtin_expect(!tcache, 0))
		return free_slow(pool, (uint32_t)number);
	uint32_t filled = GET(tcache->filled);
	if (__builtin_expect(filled >= pool->magazine_capacity, 0))
		return free_slow(pool, (uint32_t)number);
	tcache_begin_free(&tcache->base);
	bool freed = slot_free(&pool->slots[number], tcache->base.id_bits);
	if (freed) {
		tcache->objects[filled] = object;
		SET(tcache->filled, filled + 1);
		BUMP(tcache->base.frees);
	}
	tcache_end_free(&tcache->base);
	return freed ? 0 : free_slow(pool, (uint32_t)number);
}
