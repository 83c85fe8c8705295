/* Statistics of an arena, the check of its invariants, and its rebuild in a forked child. */
#include <stdlib.h>

#include "arena.h"

_Static_assert(sizeof(struct mematlas_arena_stats) == 17 * sizeof(uint64_t),
	       "no padding in the API");

static void read_tcache(struct mematlas_arena *arena, struct arena_tcache *tcache,
			struct mematlas_arena_stats *ret)
{
	struct tcache_counts counts = tcache_read(&tcache->base);

	for (unsigned class = 0; class < CLASSES; class++) {
		struct magazine_counts of_class = magazine_read(&tcache->magazines[class]);
		counts.allocs += of_class.takes;
		counts.frees += of_class.puts;
		ret->cached_bytes += of_class.filled * arena_class_at(arena, class)->size;
	}
	ret->allocs += counts.allocs;
	ret->frees += counts.frees;
	ret->late_double_frees += counts.late_double_frees;
}

static void read_tcaches(struct mematlas_arena *arena, struct mematlas_arena_stats *ret)
{
	uint32_t count = atomic_load_explicit(&arena->group.tcache_count, memory_order_acquire);

	for (uint32_t i = 0; i < count; i++)
		read_tcache(arena,
			    (struct arena_tcache *)atomic_load_explicit(&arena->group.tcaches[i],
									memory_order_acquire),
			    ret);
}

static void read_class(struct size_class *class, struct mematlas_arena_stats *ret)
{
	pthread_mutex_lock(class->lock);
	for (struct run *run = class->all; run; run = run->next_in_class) {
		if (GET(run->state) != RUN_SPAN)
			continue;
		ret->span_bytes += run->pages * PAGE;
		for (uint32_t i = 0; i < run->count; i++) {
			bool used = slot_in_use(&run_slots(run)[i]);
			ret->small_blocks += used;
			ret->small_bytes += used ? class->size : 0;
		}
	}
	ret->cached_bytes += (uint64_t)class->transferred * class->size;
	pthread_mutex_unlock(class->lock);
}

void mematlas_arena_read_stats(struct mematlas_arena *arena, struct mematlas_arena_stats *ret)
{
	memset(ret, 0, sizeof *ret);
	tcache_group_ready(&arena->group);
	ret->capacity = arena->capacity;
	ret->failed_allocs = GET(arena->failed_allocs);
	read_tcaches(arena, ret);
	for (unsigned i = 0; i < SHARDS * CLASSES; i++)
		read_class(arena_class_at(arena, i), ret);
	pthread_mutex_lock(&arena->heap.lock);
	ret->usable_bytes = (uint64_t)(arena->heap.top - arena->base);
	ret->page_blocks = arena->heap.blocks;
	ret->page_bytes = arena->heap.block_bytes;
	ret->free_bytes = arena->heap.free_bytes;
	ret->released_bytes = arena->heap.released_bytes;
	ret->returned_bytes = arena->heap.returned_bytes;
	pthread_mutex_unlock(&arena->heap.lock);
	pthread_mutex_lock(&arena->large.lock);
	ret->large_blocks = arena->large.count;
	ret->large_bytes = arena->large.bytes;
	pthread_mutex_unlock(&arena->large.lock);
}

/* Each free slot is in exactly one place: the stack of its span, a magazine, a transfer cache, or a
 * batch. False if the slot is in use or has been marked already. */
static bool mark_free(struct mematlas_arena *arena, void *object)
{
	struct run *run;
	struct slot *slot = arena_slot_at(arena, object, &run);

	if (!slot || slot_in_use(slot) || run->marks[slot - run_slots(run)])
		return false;
	run->marks[slot - run_slots(run)] = 1;
	return true;
}

static bool mark_batch(struct mematlas_arena *arena, uint32_t number)
{
	struct batch *batch = batch_at(&arena->group, number);

	for (uint32_t i = 0; i < batch->count; i++)
		if (!mark_free(arena, arena->base + (batch->items[i] >> 32) * UNIT))
			return false;
	return true;
}

static bool mark_slots(struct mematlas_arena *arena, const struct free_slot *slots, uint32_t count)
{
	struct run *run;

	for (uint32_t i = 0; i < count; i++)
		if (arena_slot_at(arena, slots[i].object, &run) != slots[i].slot ||
		    !mark_free(arena, slots[i].object))
			return false;
	return true;
}

static bool mark_transfer(struct mematlas_arena *arena, struct size_class *class)
{
	return class->transferred <= (class->transfer ? TRANSFER_BATCHES * class->batch_size : 0) &&
	       mark_slots(arena, class->transfer, class->transferred);
}

static bool mark_magazine(struct mematlas_arena *arena, struct magazine *magazine)
{
	return GET(magazine->puts) - GET(magazine->takes) <= magazine->capacity &&
	       mark_slots(arena, magazine->bottom, magazine_filled(magazine));
}

static bool mark_tcache(struct mematlas_arena *arena, struct arena_tcache *tcache)
{
	struct tcache *base = &tcache->base;

	for (unsigned i = 0; i < CLASSES; i++)
		if (!mark_magazine(arena, &tcache->magazines[i]))
			return false;
	for (uint32_t number = (uint32_t)(GET(base->remote_queue) & NUMBER_MASK); number;
	     number = GET(batch_at(&arena->group, number)->next))
		if (!mark_batch(arena, number))
			return false;
	for (unsigned i = 0; i < OUTGOING_BATCHES; i++)
		if (base->outgoing[i].batch && !mark_batch(arena, base->outgoing[i].number))
			return false;
	return true;
}

static bool mark_span(struct mematlas_arena *arena, struct size_class *class, struct run *run)
{
	uint64_t first = (uint64_t)(GET(run->start) - arena->base) >> PAGE_BITS;

	if (run->listed != (run->free_count > 0) || run->free_count > run->count ||
	    GET(run->in_span) != run->count)
		return false;
	for (uint32_t page = 0; page < class->pages; page++)
		if (GET(arena->pages[first + page]) != run)
			return false;
	for (uint32_t i = 0; i < run->free_count; i++)
		if (run->free[i] >= run->count ||
		    !mark_free(arena, GET(run->start) + run->free[i] * run->slot_size))
			return false;
	return true;
}

/* Each slot is in use or marked, and the number of empty spans is right. */
static bool all_accounted(struct size_class *class)
{
	uint32_t empty = 0;

	for (struct run *run = class->all; run; run = run->next_in_class) {
		if (GET(run->state) != RUN_SPAN)
			continue;
		empty += run->free_count == run->count;
		for (uint32_t i = 0; i < run->count; i++)
			if (!run->marks[i] && !slot_in_use(&run_slots(run)[i]))
				return false;
	}
	return empty == class->empty;
}

static bool alloc_marks(struct size_class *class)
{
	bool done = true;

	for (struct run *run = class->all; run; run = run->next_in_class) {
		run->marks = calloc(1, run->count);
		done &= run->marks != NULL;
	}
	return done;
}

static void free_marks(struct size_class *class)
{
	for (struct run *run = class->all; run; run = run->next_in_class) {
		free(run->marks);
		run->marks = NULL;
	}
}

static bool mark_class(struct mematlas_arena *arena, struct size_class *class)
{
	for (struct run *run = class->all; run; run = run->next_in_class)
		if (GET(run->state) == RUN_SPAN && !mark_span(arena, class, run))
			return false;
	return mark_transfer(arena, class);
}

static bool check(struct mematlas_arena *arena)
{
	bool sound = page_heap_is_sound(arena) && arena_large_is_sound(arena);

	for (unsigned i = 0; sound && i < SHARDS * CLASSES; i++)
		sound = mark_class(arena, arena_class_at(arena, i));
	for (uint32_t i = 0; sound && i < GET(arena->group.tcache_count); i++)
		sound = mark_tcache(arena, (struct arena_tcache *)GET(arena->group.tcaches[i]));
	for (unsigned i = 0; sound && i < SHARDS * CLASSES; i++)
		sound = all_accounted(arena_class_at(arena, i));
	return sound;
}

/* The first equation beside struct page_heap, and the one beside arena->charged. */
static bool bytes_add_up(struct mematlas_arena *arena)
{
	struct mematlas_arena_stats stats;

	mematlas_arena_read_stats(arena, &stats);
	uint64_t charged = stats.span_bytes + stats.page_bytes + stats.large_bytes;
	return stats.span_bytes + stats.page_bytes + stats.free_bytes == stats.usable_bytes &&
	       charged == GET(arena->charged) && charged <= arena->capacity;
}

int mematlas_arena_check(struct mematlas_arena *arena)
{
	bool ready = true, sound = false;

	tcache_group_ready(&arena->group);
	for (unsigned i = 0; i < SHARDS * CLASSES; i++)
		ready &= alloc_marks(arena_class_at(arena, i));
	if (ready)
		sound = check(arena) && bytes_add_up(arena);
	for (unsigned i = 0; i < SHARDS * CLASSES; i++)
		free_marks(arena_class_at(arena, i));
	return !ready ? -ENOMEM : sound ? 0 : -EUCLEAN;
}

/* Each slot without an owner is free, including those in the caches and batches of lost threads. */
static void rebuild_class(struct size_class *class)
{
	class->empty = 0;
	class->transferred = 0;
	for (struct run *run = class->all; run; run = run->next_in_class) {
		if (GET(run->state) != RUN_SPAN)
			continue;
		run->free_count = 0;
		for (uint32_t i = run->count; i-- > 0;) {
			struct slot *slot = &run_slots(run)[i];
			if (slot_in_use(slot))
				continue;
			slot_reset(slot);
			run->free[run->free_count++] = (uint16_t)i;
		}
		size_class_relist(class, run);
		class->empty += run->free_count == run->count;
	}
}

static void drop_magazine(struct arena_tcache *tcache, struct magazine *magazine)
{
	uint32_t filled = magazine_filled(magazine);

	magazine_drop(magazine, filled);
	moved_add(&tcache->base.moved_out, filled);
}

void arena_rebuild(struct tcache_group *group)
{
	struct mematlas_arena *arena = arena_of_group(group);

	tcache_group_reset(group);
	for (uint32_t i = 0; i < GET(group->tcache_count); i++) {
		struct arena_tcache *tcache = (struct arena_tcache *)GET(group->tcaches[i]);
		for (unsigned class = 0; class < CLASSES; class++)
			drop_magazine(tcache, &tcache->magazines[class]);
	}
	for (unsigned i = 0; i < SHARDS * CLASSES; i++)
		rebuild_class(arena_class_at(arena, i));
}
