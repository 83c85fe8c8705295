/* What a pool holds; whether that adds up; and putting it in order after a fork. */
#include <stdlib.h>
#include <string.h>

#include "pool.h"

static void read_keepers(struct mematlas_pool *pool, struct mematlas_pool_stats *ret)
{
	uint32_t count = atomic_load_explicit(&pool->exchange.keeper_count, memory_order_acquire);

	for (uint32_t i = 0; i < count; i++) {
		struct keeper *keeper =
			atomic_load_explicit(&pool->exchange.keepers[i], memory_order_acquire);
		ret->taken += objects_taken((struct pool_keeper *)keeper);
		ret->given += GET(keeper->given);
		ret->late += GET(keeper->late);
		ret->cached += GET(((struct pool_keeper *)keeper)->filled);
	}
}

void mematlas_pool_read_stats(struct mematlas_pool *pool, struct mematlas_pool_stats *ret)
{
	struct pool_memory *memory = pool->memory;

	memset(ret, 0, sizeof *ret);
	ret->object_size = memory->object_size;
	ret->stride = memory->stride;
	ret->count = memory->count;
	ret->mapping_bytes = memory->mapping_size;
	ret->taken = GET(memory->taken);
	ret->given = GET(memory->given);
	ret->refused = GET(memory->refused);
	if (!pool->common)
		read_keepers(pool, ret);
	for (uint64_t number = 0; number < pool->count; number++)
		ret->in_use += slot_in_use(&pool->slots[number]);
}

struct walk {
	struct mematlas_pool *pool;
	uint8_t *seen;
	uint64_t found;
	bool sound;
};

static void see(struct walk *walk, uint64_t number)
{
	if (number >= walk->pool->count || walk->seen[number] ||
	    slot_in_use(&walk->pool->slots[number])) {
		walk->sound = false;
		return;
	}
	walk->seen[number] = 1;
	walk->found++;
}

static void see_parcel(struct walk *walk, uint32_t number)
{
	struct parcel *parcel = parcel_at(&walk->pool->exchange, number);

	for (uint32_t i = 0; walk->sound && i < parcel->count; i++)
		see(walk, parcel->items[i] >> 32);
}

static void see_parcels(struct walk *walk, uint64_t first)
{
	uint32_t number = (uint32_t)(first & INDEX_MASK);

	for (; walk->sound && number; number = GET(parcel_at(&walk->pool->exchange, number)->next))
		see_parcel(walk, number);
}

static void see_keeper(struct walk *walk, struct keeper *keeper)
{
	struct pool_keeper *mine = (struct pool_keeper *)keeper;

	for (uint32_t i = 0; walk->sound && i < GET(mine->filled); i++)
		see(walk, object_number(walk->pool, mine->objects[i]));
	see_parcels(walk, GET(keeper->inbox));
	for (unsigned box = 0; box < OUTBOXES; box++)
		if (keeper->outboxes[box].parcel)
			see_parcel(walk, keeper->outboxes[box].parcel);
}

static void see_common(struct walk *walk)
{
	uint32_t number = (uint32_t)(GET(walk->pool->memory->head) & INDEX_MASK);

	for (; walk->sound && number != NONE; number = GET(walk->pool->next[number]))
		see(walk, number);
}

int mematlas_pool_check(struct mematlas_pool *pool)
{
	struct walk walk = {.pool = pool, .seen = calloc(1, pool->count), .sound = true};
	struct mematlas_pool_stats stats;

	if (!walk.seen)
		return -ENOMEM;
	exchange_settle(&pool->exchange);
	if (pool->common)
		see_common(&walk);
	else
		see_parcels(&walk, GET(pool->full));
	for (uint32_t i = 0; walk.sound && i < GET(pool->exchange.keeper_count); i++)
		see_keeper(&walk, GET(pool->exchange.keepers[i]));
	uint64_t fresh = pool->count - GET(pool->memory->fresh);
	mematlas_pool_read_stats(pool, &stats);
	free(walk.seen);
	/* An object given twice at once is in two parcels until they are opened. */
	return walk.sound && fresh + walk.found + stats.in_use == pool->count ? 0 : -EUCLEAN;
}

static void make_free(struct mematlas_pool *pool, uint32_t number, uint32_t *open)
{
	struct exchange *exchange = &pool->exchange;

	SET(pool->slots[number].holder, GET(pool->slots[number].holder) & TURN_MASK);
	SET(pool->slots[number].posted, 0);
	if (pool->common) {
		pool_push_common(pool, number);
		return;
	}
	if (!*open)
		*open = parcel_get(exchange);
	if (!*open)
		return; /* no memory: lost to this process */
	struct parcel *parcel = parcel_at(exchange, *open);
	parcel->items[parcel->count++] = (uint64_t)number << 32;
	if (parcel->count == pool->batch) {
		parcel_push(exchange, &pool->full, *open);
		*open = 0;
	}
}

static void make_lists(struct mematlas_pool *pool)
{
	uint32_t open = 0;

	exchange_reset(&pool->exchange);
	for (uint32_t i = 0; i < GET(pool->exchange.keeper_count); i++) {
		struct pool_keeper *keeper = (struct pool_keeper *)GET(pool->exchange.keepers[i]);
		SET(keeper->brought, GET(keeper->brought) - GET(keeper->filled));
		SET(keeper->filled, 0);
	}
	SET(pool->full, 0);
	SET(pool->memory->head, NONE);
	uint64_t fresh = pool->count; /* those above were never taken */
	while (fresh && !GET(pool->slots[fresh - 1].holder))
		fresh--;
	SET(pool->memory->fresh, fresh);
	for (uint64_t number = 0; number < fresh; number++)
		if (!slot_in_use(&pool->slots[number]))
			make_free(pool, (uint32_t)number, &open);
	if (open)
		parcel_push(&pool->exchange, &pool->full, open);
}

void pool_adopt(struct exchange *exchange)
{
	make_lists(pool_of(exchange));
}
