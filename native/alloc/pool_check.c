/* Statistics of a pool, the check of its invariants, and its rebuild in a forked child. */
#include <stdlib.h>
#include <string.h>

#include "pool.h"

_Static_assert(sizeof(struct mematlas_pool_stats) == 11 * sizeof(uint64_t),
	       "no padding in the API");

static void read_tcaches(struct mematlas_pool *pool, struct mematlas_pool_stats *ret)
{
	uint32_t count = atomic_load_explicit(&pool->group.tcache_count, memory_order_acquire);

	for (uint32_t i = 0; i < count; i++) {
		struct tcache *tcache =
			atomic_load_explicit(&pool->group.tcaches[i], memory_order_acquire);
		struct tcache_counts counts = tcache_read(tcache);
		struct magazine_counts magazine =
			magazine_read(&((struct pool_tcache *)tcache)->magazine);
		ret->allocs += counts.allocs + magazine.takes;
		ret->frees += counts.frees + magazine.puts;
		ret->late_double_frees += counts.late_double_frees;
		ret->cached += magazine.filled;
	}
}

void mematlas_pool_read_stats(struct mematlas_pool *pool, struct mematlas_pool_stats *ret)
{
	struct pool_memory *memory = pool->memory;

	memset(ret, 0, sizeof *ret);
	ret->object_size = pool->object_size;
	ret->stride = pool->stride;
	ret->count = pool->count;
	ret->mapping_bytes = pool->mapping_size;
	ret->allocs = GET(memory->allocs);
	ret->frees = GET(memory->frees);
	ret->failed_allocs = GET(memory->failed_allocs);
	ret->reclaimed = GET(memory->reclaimed);
	if (!pool->uses_free_list)
		read_tcaches(pool, ret);
	for (uint64_t number = 0; number < pool->count; number++)
		ret->in_use += slot_in_use(&pool->slots[number]);
}

struct walk {
	struct mematlas_pool *pool;
	uint8_t *marks; /* by object; 1: found free */
	uint64_t free; /* objects marked */
	uint64_t bump;
	bool sound;
};

static void mark_free(struct walk *walk, uint64_t number)
{
	if (number >= walk->bump || walk->marks[number]) {
		walk->sound = false;
		return;
	}
	bool used = slot_in_use(&walk->pool->slots[number]);
	if (used && walk->pool->group.private)
		walk->sound = false;
	walk->marks[number] = 1;
	walk->free += !used;
}

static void mark_batch(struct walk *walk, uint32_t number)
{
	struct batch *batch = batch_at(&walk->pool->group, number);

	for (uint32_t i = 0; walk->sound && i < batch->count; i++)
		mark_free(walk, batch->items[i] >> 32);
}

static void mark_batches(struct walk *walk, uint64_t first)
{
	uint32_t number = (uint32_t)(first & NUMBER_MASK);

	for (; walk->sound && number; number = GET(batch_at(&walk->pool->group, number)->next))
		mark_batch(walk, number);
}

static void mark_tcache(struct walk *walk, struct tcache *base)
{
	struct pool_tcache *tcache = (struct pool_tcache *)base;
	struct magazine *magazine = &tcache->magazine;

	if (GET(magazine->puts) - GET(magazine->takes) > magazine->capacity)
		walk->sound = false;
	for (uint32_t i = 0; walk->sound && i < magazine_filled(magazine); i++) {
		const struct free_slot *at = &magazine->bottom[i];
		uint64_t number = pool_object_number(walk->pool, at->object);
		if (number < walk->bump && at->slot == &walk->pool->slots[number])
			mark_free(walk, number);
		else
			walk->sound = false;
	}
	mark_batches(walk, GET(base->remote_queue));
	for (unsigned i = 0; i < OUTGOING_BATCHES; i++)
		if (base->outgoing[i].batch)
			mark_batch(walk, base->outgoing[i].number);
}

static void mark_free_list(struct walk *walk)
{
	uint32_t number = (uint32_t)(GET(walk->pool->memory->free_list) & INDEX_MASK);

	while (walk->sound && number != NO_OBJECT) {
		mark_free(walk, number);
		if (walk->sound) /* else the number may be beyond the links */
			number = GET(walk->pool->links[number]);
	}
}

/* Verifies the equation beside struct mematlas_pool. */
int mematlas_pool_check(struct mematlas_pool *pool)
{
	struct walk walk = {.pool = pool, .marks = calloc(1, pool->count)};
	struct mematlas_pool_stats stats;

	if (!walk.marks)
		return -ENOMEM;
	tcache_group_ready(&pool->group);
	walk.bump = GET(pool->memory->bump);
	walk.sound = walk.bump <= pool->count;
	if (pool->uses_free_list)
		mark_free_list(&walk);
	else
		mark_batches(&walk, GET(pool->transfer_cache));
	for (uint32_t i = 0; walk.sound && i < GET(pool->group.tcache_count); i++)
		mark_tcache(&walk, GET(pool->group.tcaches[i]));
	mematlas_pool_read_stats(pool, &stats);
	free(walk.marks);
	uint64_t accounted = pool->count - walk.bump + stats.in_use + walk.free;
	/* A killed process may have left an object on no list, or one in use on the list. */
	walk.sound &= pool->group.private ? accounted == pool->count : accounted <= pool->count;
	return walk.sound ? 0 : -EUCLEAN;
}

/* `partial` is the number of a batch that is not full yet, 0 for none. */
static void add_free(struct mematlas_pool *pool, uint32_t number, uint32_t *partial)
{
	struct tcache_group *group = &pool->group;

	slot_reset(&pool->slots[number]);
	if (pool->uses_free_list) {
		pool_free_list_push(pool, number);
		return;
	}
	if (!*partial)
		*partial = batch_alloc(group);
	if (!*partial)
		return; /* leaks the object in this process */
	struct batch *batch = batch_at(group, *partial);
	batch->items[batch->count++] = (uint64_t)number << 32;
	if (batch->count == pool->batch_size) {
		batch_push(group, &pool->transfer_cache, *partial);
		*partial = 0;
	}
}

void pool_rebuild(struct tcache_group *group)
{
	struct mematlas_pool *pool = pool_of_group(group);
	uint32_t partial = 0;

	tcache_group_reset(group);
	for (uint32_t i = 0; i < GET(group->tcache_count); i++) {
		struct pool_tcache *tcache = (struct pool_tcache *)GET(group->tcaches[i]);
		uint32_t filled = magazine_filled(&tcache->magazine);
		magazine_drop(&tcache->magazine, filled);
		moved_add(&tcache->base.moved_out, filled);
	}
	SET(pool->transfer_cache, 0);
	SET(pool->memory->free_list, NO_OBJECT);
	/* Both words of a slot that was never allocated are 0. A free object of the lost list still has
	 * its mark, and would never be listed again if bump passed the mark by. */
	uint64_t bump = pool->count;
	while (bump && !GET(pool->slots[bump - 1].owner) &&
	       !GET(pool->slots[bump - 1].remote_freed))
		bump--;
	SET(pool->memory->bump, bump);
	for (uint64_t number = 0; number < bump; number++)
		if (!slot_in_use(&pool->slots[number]))
			add_free(pool, (uint32_t)number, &partial);
	if (partial)
		batch_push(group, &pool->transfer_cache, partial);
}
