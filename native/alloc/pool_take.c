/* Taking objects from a pool and giving them back. */
#include "pool.h"

static struct pool_keeper *pool_keeper(struct keeper *keeper)
{
	return (struct pool_keeper *)keeper;
}

static inline __attribute__((always_inline)) void *hand_out(struct mematlas_pool *pool,
							    struct pool_keeper *keeper,
							    uint32_t filled)
{
	void *object = keeper->objects[filled - 1];

	SET(keeper->filled, filled - 1);
	slot_take(&pool->slots[object_number(pool, object)], &keeper->keeper);
	return object;
}

/* Empties a parcel into a magazine with room for it. */
static void unpack(struct mematlas_pool *pool, struct pool_keeper *keeper, uint32_t number)
{
	struct parcel *parcel = parcel_at(&pool->exchange, number);
	uint32_t filled = GET(keeper->filled);

	for (uint32_t i = 0; i < parcel->count; i++)
		keeper->objects[filled++] = object_at(pool, parcel->items[i] >> 32);
	SET(keeper->filled, filled);
	SET(keeper->brought, GET(keeper->brought) + parcel->count);
	parcel_put(&pool->exchange, number);
}

/* Takes back what others sent: of each parcel only what was still to be taken back stays in it. */
static void open_parcels(struct mematlas_pool *pool, struct keeper *keeper, uint32_t number)
{
	while (number) {
		struct parcel *parcel = parcel_at(&pool->exchange, number);
		uint32_t next = GET(parcel->next), kept = 0;

		for (uint32_t i = 0; i < parcel->count; i++) /* they are in the sender's cache */
			__builtin_prefetch(&pool->slots[parcel->items[i] >> 32], 1);
		for (uint32_t i = 0; i < parcel->count; i++) {
			uint64_t item = parcel->items[i];
			if (slot_take_back(&pool->slots[item >> 32], (uint32_t)item))
				parcel->items[kept++] = item;
		}
		SET(keeper->late, GET(keeper->late) + parcel->count - kept);
		parcel->count = kept;
		if (kept)
			parcel_push(&pool->exchange, &pool->full, number);
		else
			parcel_put(&pool->exchange, number);
		number = next;
	}
}

static bool fetch_fresh(struct mematlas_pool *pool, struct pool_keeper *keeper)
{
	_Atomic uint64_t *fresh = &pool->memory->fresh;
	uint64_t first = GET(*fresh), last;

	do {
		if (first >= pool->count)
			return false;
		last = first + pool->batch;
		if (last > pool->count)
			last = pool->count;
	} while (!atomic_compare_exchange_weak(fresh, &first, last));
	/* Handed out from the end of the magazine: lowest addresses first. */
	uint32_t filled = 0;
	for (uint64_t number = last; number-- > first;)
		keeper->objects[filled++] = object_at(pool, number);
	SET(keeper->filled, filled);
	SET(keeper->brought, GET(keeper->brought) + filled);
	return true;
}

static bool fetch_full(struct mematlas_pool *pool, struct pool_keeper *keeper)
{
	uint32_t number = parcel_pop(&pool->exchange, &pool->full);

	if (number)
		unpack(pool, keeper, number);
	return number != 0;
}

/* Nothing is left but what others have not yet come to open. */
static bool fetch_from_others(struct mematlas_pool *pool, struct pool_keeper *keeper)
{
	struct exchange *exchange = &pool->exchange;

	exchange_send_all(exchange, &keeper->keeper);
	open_parcels(pool, &keeper->keeper, exchange_receive(&keeper->keeper));
	uint32_t count = atomic_load_explicit(&exchange->keeper_count, memory_order_acquire);
	for (uint32_t i = 0; i < count && !fetch_full(pool, keeper); i++) {
		struct keeper *other =
			atomic_load_explicit(&exchange->keepers[i], memory_order_acquire);
		if (other && other != &keeper->keeper)
			open_parcels(pool, &keeper->keeper, exchange_rob(other));
	}
	return GET(keeper->filled) || fetch_full(pool, keeper);
}

static bool fetch(struct mematlas_pool *pool, struct pool_keeper *keeper)
{
	open_parcels(pool, &keeper->keeper, exchange_receive(&keeper->keeper));
	return fetch_full(pool, keeper) || fetch_fresh(pool, keeper) ||
	       fetch_from_others(pool, keeper);
}

__attribute__((noinline)) static void *take_slowly(struct mematlas_pool *pool)
{
	struct keeper *keeper = pool->common ? NULL : keeper_join(&pool->exchange);

	if (pool->common)
		return pool_take_common(pool);
	if (keeper && (GET(pool_keeper(keeper)->filled) || fetch(pool, pool_keeper(keeper))))
		return hand_out(pool, pool_keeper(keeper), GET(pool_keeper(keeper)->filled));
	atomic_fetch_add_explicit(&pool->memory->refused, 1, memory_order_relaxed);
	return NULL;
}

void *mematlas_pool_take(struct mematlas_pool *pool)
{
	struct pool_keeper *keeper = pool_keeper(keeper_recent(&pool->exchange));

	uint32_t filled = keeper ? GET(keeper->filled) : 0;

	if (__builtin_expect(filled == 0, 0))
		return take_slowly(pool);
	return hand_out(pool, keeper, filled);
}

/* Moves a batch out of a magazine to everybody. False: no memory for the parcel. */
static bool give_batch(struct mematlas_pool *pool, struct pool_keeper *keeper, uint32_t batch)
{
	uint32_t number = parcel_get(&pool->exchange);
	uint32_t left = GET(keeper->filled) - batch;

	if (!number)
		return false;
	struct parcel *parcel = parcel_at(&pool->exchange, number);
	for (uint32_t i = 0; i < batch; i++)
		parcel->items[i] = object_number(pool, keeper->objects[left + i]) << 32;
	parcel->count = batch;
	SET(keeper->filled, left);
	SET(keeper->brought, GET(keeper->brought) - batch);
	parcel_push(&pool->exchange, &pool->full, number);
	return true;
}

void pool_leave(struct exchange *exchange, struct keeper *base)
{
	struct mematlas_pool *pool = pool_of(exchange);
	struct pool_keeper *keeper = pool_keeper(base);

	exchange_send_all(exchange, base);
	for (uint32_t filled; (filled = GET(keeper->filled)) != 0;)
		if (!give_batch(pool, keeper, filled < pool->batch ? filled : pool->batch))
			return; /* the thread that inherits the keeper has them */
}

__attribute__((noinline)) static int give_slowly(struct mematlas_pool *pool, uint32_t number)
{
	struct keeper *keeper = pool->common ? NULL : keeper_join(&pool->exchange);
	struct slot *slot = &pool->slots[number];

	if (pool->common)
		return pool_give_common(pool, number);
	if (!keeper)
		return -ENOMEM;
	struct pool_keeper *mine = pool_keeper(keeper);
	if ((GET(slot->holder) & ~TURN_MASK) != keeper->mark ||
	    GET(slot->posted) == GET(slot->holder))
		return exchange_give(&pool->exchange, keeper, slot, number, pool->batch);
	if (GET(mine->filled) >= pool->magazine && !give_batch(pool, mine, pool->batch))
		return -ENOMEM;
	return mematlas_pool_give(pool, object_at(pool, number)); /* there is room now */
}

/* An address that is none of an object. */
static int explain(const struct mematlas_pool *pool, const void *object)
{
	uint64_t offset = (uint64_t)((const char *)object - pool->objects);

	return offset < pool->stride * pool->count ? -EINVAL : -EFAULT;
}

int mematlas_pool_give(struct mematlas_pool *pool, void *object)
{
	uint64_t number = object_number(pool, object);
	struct pool_keeper *keeper = pool_keeper(keeper_recent(&pool->exchange));

	if (__builtin_expect(number >= pool->count || object_at(pool, number) != object, 0))
		return explain(pool, object);
	if (__builtin_expect(!keeper, 0))
		return give_slowly(pool, (uint32_t)number);
	uint32_t filled = GET(keeper->filled);
	if (__builtin_expect(filled >= pool->magazine, 0))
		return give_slowly(pool, (uint32_t)number);
	keeper_begin(&keeper->keeper);
	bool freed = slot_free(&pool->slots[number], &keeper->keeper);
	if (freed) {
		keeper->objects[filled] = object;
		SET(keeper->filled, filled + 1);
		BUMP(keeper->keeper.given);
	}
	keeper_end(&keeper->keeper);
	return freed ? 0 : give_slowly(pool, (uint32_t)number);
}
