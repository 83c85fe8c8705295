/* What an arena holds; whether that adds up; and putting it in order after a fork. */
#include <stdlib.h>

#include "arena.h"

static void read_keepers(struct mematlas_arena *arena, struct mematlas_arena_stats *ret)
{
	uint32_t count = atomic_load_explicit(&arena->exchange.keeper_count, memory_order_acquire);

	for (uint32_t i = 0; i < count; i++) {
		struct arena_keeper *keeper = (struct arena_keeper *)atomic_load_explicit(
			&arena->exchange.keepers[i], memory_order_acquire);
		ret->taken += GET(keeper->taken);
		ret->given += GET(keeper->keeper.given);
		ret->late += GET(keeper->keeper.late);
		for (unsigned class = 0; class < CLASSES; class++)
			ret->cached_bytes += (uint64_t)GET(keeper->magazines[class].filled) *
					     class_at(arena, class)->size;
	}
}

static void read_class(struct size_class *class, struct mematlas_arena_stats *ret)
{
	pthread_mutex_lock(class->lock);
	for (struct run *run = class->all; run; run = run->next_of_class) {
		if (GET(run->state) != RUN_SPAN)
			continue;
		ret->span_bytes += run->pages * PAGE;
		for (uint32_t i = 0; i < run->count; i++) {
			bool used = slot_in_use(&run->slots[i]);
			ret->small_blocks += used;
			ret->small_bytes += used ? class->size : 0;
		}
	}
	pthread_mutex_unlock(class->lock);
}

void mematlas_arena_read_stats(struct mematlas_arena *arena, struct mematlas_arena_stats *ret)
{
	memset(ret, 0, sizeof *ret);
	exchange_settle(&arena->exchange);
	ret->capacity = arena->capacity;
	ret->refused = GET(arena->refused);
	read_keepers(arena, ret);
	for (unsigned i = 0; i < SHARDS * CLASSES; i++)
		read_class(class_at(arena, i), ret);
	pthread_mutex_lock(&arena->heap.lock);
	ret->usable_bytes = (uint64_t)(arena->heap.top - arena->base);
	ret->page_blocks = arena->heap.blocks;
	ret->page_bytes = arena->heap.block_bytes;
	ret->free_bytes = arena->heap.free_bytes;
	ret->released_bytes = arena->heap.released_bytes;
	ret->returned_bytes = arena->heap.returned;
	pthread_mutex_unlock(&arena->heap.lock);
	pthread_mutex_lock(&arena->large.lock);
	ret->large_blocks = arena->large.count;
	ret->large_bytes = arena->large.bytes;
	pthread_mutex_unlock(&arena->large.lock);
}

/* A free slot is seen once: in its span's stack, a magazine or a parcel. */
static bool see(struct mematlas_arena *arena, void *object)
{
	struct run *run = in_reservation(arena, object) ? run_at(arena, object) : NULL;
	struct slot *slot = run && GET(run->state) == RUN_SPAN ? slot_of(run, object) : NULL;

	if (!slot || slot_in_use(slot) || run->seen[slot - run->slots])
		return false;
	run->seen[slot - run->slots] = 1;
	return true;
}

static bool see_parcel(struct mematlas_arena *arena, uint32_t number)
{
	struct parcel *parcel = parcel_at(&arena->exchange, number);

	for (uint32_t i = 0; i < parcel->count; i++)
		if (!see(arena, arena->base + (parcel->items[i] >> 32) * UNIT))
			return false;
	return true;
}

static bool see_keeper(struct mematlas_arena *arena, struct arena_keeper *keeper)
{
	struct keeper *base = &keeper->keeper;

	for (unsigned class = 0; class < CLASSES; class++)
		for (uint32_t i = 0; i < GET(keeper->magazines[class].filled); i++)
			if (!see(arena, keeper->magazines[class].objects[i]))
				return false;
	for (uint32_t parcel = GET(base->inbox); parcel;
	     parcel = GET(parcel_at(&arena->exchange, parcel)->next))
		if (!see_parcel(arena, parcel))
			return false;
	for (unsigned box = 0; box < OUTBOXES; box++)
		if (base->outboxes[box].parcel && !see_parcel(arena, base->outboxes[box].parcel))
			return false;
	return true;
}

static bool see_span(struct mematlas_arena *arena, struct size_class *class, struct run *run)
{
	uint64_t first = (uint64_t)(GET(run->start) - arena->base) >> PAGE_BITS;

	if (run->listed != (run->free_count > 0) || run->free_count > run->count)
		return false;
	for (uint32_t page = 0; page < class->pages; page++)
		if (GET(arena->pages[first + page]) != run)
			return false;
	for (uint32_t i = 0; i < run->free_count; i++)
		if (run->free[i] >= run->count ||
		    !see(arena, GET(run->start) + run->free[i] * run->slot_size))
			return false;
	return true;
}

/* Each slot is in use or was seen; empty spans are counted. */
static bool all_seen(struct size_class *class)
{
	uint32_t empty = 0;

	for (struct run *run = class->all; run; run = run->next_of_class) {
		if (GET(run->state) != RUN_SPAN)
			continue;
		empty += run->free_count == run->count;
		for (uint32_t i = 0; i < run->count; i++)
			if (!run->seen[i] && !slot_in_use(&run->slots[i]))
				return false;
	}
	return empty == class->empty;
}

static bool mark_unseen(struct size_class *class)
{
	bool done = true;

	for (struct run *run = class->all; run; run = run->next_of_class) {
		run->seen = calloc(1, run->count);
		done &= run->seen != NULL;
	}
	return done;
}

static void unmark(struct size_class *class)
{
	for (struct run *run = class->all; run; run = run->next_of_class) {
		free(run->seen);
		run->seen = NULL;
	}
}

static bool check(struct mematlas_arena *arena)
{
	bool sound = pages_sound(arena);

	for (unsigned i = 0; i < SHARDS * CLASSES; i++)
		for (struct run *run = class_at(arena, i)->all; sound && run;
		     run = run->next_of_class)
			sound = GET(run->state) != RUN_SPAN ||
				see_span(arena, class_at(arena, i), run);
	for (uint32_t i = 0; sound && i < GET(arena->exchange.keeper_count); i++)
		sound = see_keeper(arena, (struct arena_keeper *)GET(arena->exchange.keepers[i]));
	for (unsigned i = 0; sound && i < SHARDS * CLASSES; i++)
		sound = all_seen(class_at(arena, i));
	return sound;
}

/* Every usable byte belongs to a span, a block, or a free run. */
static bool adds_up(struct mematlas_arena *arena)
{
	struct mematlas_arena_stats stats;

	mematlas_arena_read_stats(arena, &stats);
	return stats.span_bytes + stats.page_bytes + stats.free_bytes == stats.usable_bytes;
}

int mematlas_arena_check(struct mematlas_arena *arena)
{
	bool ready = true, sound = false;

	exchange_settle(&arena->exchange);
	for (unsigned i = 0; i < SHARDS * CLASSES; i++)
		ready &= mark_unseen(class_at(arena, i));
	if (ready)
		sound = check(arena) && adds_up(arena);
	for (unsigned i = 0; i < SHARDS * CLASSES; i++)
		unmark(class_at(arena, i));
	return !ready ? -ENOMEM : sound ? 0 : -EUCLEAN;
}

/* Free is what has no holder, wherever the threads that are gone had it. */
static void adopt_class(struct size_class *class)
{
	class->empty = 0;
	for (struct run *run = class->all; run; run = run->next_of_class) {
		if (GET(run->state) != RUN_SPAN)
			continue;
		run->free_count = 0;
		for (uint32_t i = run->count; i-- > 0;) {
			struct slot *slot = &run->slots[i];
			if (slot_in_use(slot))
				continue;
			SET(slot->holder, GET(slot->holder) & TURN_MASK);
			SET(slot->posted, 0);
			run->free[run->free_count++] = (uint16_t)i;
		}
		class_relist(class, run);
		class->empty += run->free_count == run->count;
	}
}

void arena_adopt(struct exchange *exchange)
{
	struct mematlas_arena *arena = arena_of(exchange);

	exchange_reset(exchange);
	for (uint32_t i = 0; i < GET(exchange->keeper_count); i++) {
		struct arena_keeper *keeper = (struct arena_keeper *)GET(exchange->keepers[i]);
		for (unsigned class = 0; class < CLASSES; class++)
			SET(keeper->magazines[class].filled, 0);
	}
	for (unsigned i = 0; i < SHARDS * CLASSES; i++)
		adopt_class(class_at(arena, i));
}
