/* Taking blocks from an arena and giving them back: a thread's own part of it. */
#include "arena.h"

static struct arena_keeper *arena_keeper(struct keeper *keeper)
{
	return (struct arena_keeper *)keeper;
}

size_t arena_keeper_size(struct mematlas_arena *arena)
{
	size_t objects = 0;

	for (unsigned i = 0; i < CLASSES; i++)
		objects += 2 * class_at(arena, i)->batch;
	return sizeof(struct arena_keeper) + objects * sizeof(void *);
}

void arena_prepare_keeper(struct exchange *exchange, struct keeper *base)
{
	struct arena_keeper *keeper = arena_keeper(base);
	void **objects = keeper->objects;

	for (unsigned i = 0; i < CLASSES; i++) {
		keeper->magazines[i].objects = objects;
		keeper->magazines[i].room = 2 * class_at(arena_of(exchange), i)->batch;
		objects += keeper->magazines[i].room;
	}
}

struct arena_keeper *arena_join(struct mematlas_arena *arena)
{
	return arena_keeper(keeper_join(&arena->exchange));
}

/* Slots that others gave back for us. An address is looked up anew: of a slot that was given twice at
 * once, the span may be gone. */
static bool take_back(struct mematlas_arena *arena, struct arena_keeper *keeper, uint64_t item)
{
	char *object = arena->base + (item >> 32) * UNIT;
	struct run *run = run_at(arena, object);
	struct slot *slot = run && GET(run->state) == RUN_SPAN ? slot_of(run, object) : NULL;

	if (!slot || !slot_take_back(slot, (uint32_t)item))
		return false;
	struct magazine *magazine = &keeper->magazines[run->class];
	if (GET(magazine->filled) == magazine->room)
		class_return(arena, magazine, magazine->room / 2);
	magazine->objects[GET(magazine->filled)] = object;
	BUMP(magazine->filled);
	return true;
}

static void prefetch(struct mematlas_arena *arena, uint64_t item)
{
	char *object = arena->base + (item >> 32) * UNIT;
	struct run *run = run_at(arena, object);
	struct slot *slot = run && GET(run->state) == RUN_SPAN ? slot_of(run, object) : NULL;

	if (slot)
		__builtin_prefetch(slot, 1);
}

void arena_receive(struct mematlas_arena *arena, struct arena_keeper *keeper, uint32_t number)
{
	while (number) {
		struct parcel *parcel = parcel_at(&arena->exchange, number);
		uint32_t next = GET(parcel->next);

		for (uint32_t i = 0; i < parcel->count; i++)
			prefetch(arena, parcel->items[i]);
		for (uint32_t i = 0; i < parcel->count; i++)
			if (!take_back(arena, keeper, parcel->items[i]))
				BUMP(keeper->keeper.late);
		parcel_put(&arena->exchange, number);
		number = next;
	}
}

/* What other threads have not yet come to take back. */
void arena_collect(struct mematlas_arena *arena, struct arena_keeper *keeper)
{
	struct exchange *exchange = &arena->exchange;
	uint32_t count = atomic_load_explicit(&exchange->keeper_count, memory_order_acquire);

	exchange_send_all(exchange, &keeper->keeper);
	for (uint32_t i = 0; i < count; i++) {
		struct keeper *other =
			atomic_load_explicit(&exchange->keepers[i], memory_order_acquire);
		if (other)
			arena_receive(arena, keeper,
				      other == &keeper->keeper ? exchange_receive(other)
							       : exchange_rob(other));
	}
}

static bool fetch(struct mematlas_arena *arena, struct arena_keeper *keeper, unsigned class)
{
	struct magazine *magazine = &keeper->magazines[class];
	struct size_class *home = class_of(arena, keeper, class);

	arena_receive(arena, keeper, exchange_receive(&keeper->keeper));
	if (GET(magazine->filled) || class_fetch(arena, home, magazine, false))
		return true;
	arena_collect(arena, keeper);
	return GET(magazine->filled) || class_fetch(arena, home, magazine, true);
}

__attribute__((always_inline)) static inline void *hand_out(struct mematlas_arena *arena,
							    struct arena_keeper *keeper,
							    struct magazine *magazine,
							    uint32_t filled)
{
	void *object = magazine->objects[filled - 1];
	struct run *run = run_at(arena, object);
	uint64_t offset = (uint64_t)((char *)object - GET(run->start));

	SET(magazine->filled, filled - 1);
	slot_take(&run->slots[offset * run->reciprocal >> 32], &keeper->keeper);
	BUMP(keeper->taken);
	return object;
}

__attribute__((noinline)) static void *take_slowly(struct mematlas_arena *arena, unsigned class)
{
	struct arena_keeper *keeper = arena_join(arena);
	struct magazine *magazine = keeper ? &keeper->magazines[class] : NULL;

	if (keeper && (GET(magazine->filled) || fetch(arena, keeper, class)))
		return hand_out(arena, keeper, magazine, GET(magazine->filled));
	atomic_fetch_add_explicit(&arena->refused, 1, memory_order_relaxed);
	return NULL;
}

static void *take_small(struct mematlas_arena *arena, unsigned class)
{
	struct arena_keeper *keeper = arena_keeper(keeper_recent(&arena->exchange));
	struct magazine *magazine = keeper ? &keeper->magazines[class] : NULL;
	uint32_t filled = keeper ? GET(magazine->filled) : 0;

	if (__builtin_expect(filled == 0, 0))
		return take_slowly(arena, class);
	return hand_out(arena, keeper, magazine, filled);
}

__attribute__((noinline)) static void *take_whole(struct mematlas_arena *arena, uint64_t size,
						  uint64_t alignment)
{
	void *block = NULL;

	exchange_settle(&arena->exchange);
	if (size <= PTRDIFF_MAX - alignment - PAGE) {
		if (size < LARGE_MIN && alignment <= PAGE)
			block = pages_take_block(arena, size);
		if (!block)
			block = large_take(arena, size, alignment);
	}
	if (!block)
		atomic_fetch_add_explicit(&arena->refused, 1, memory_order_relaxed);
	return block;
}

/* Spans begin at a page, so a slot is aligned as far as its size is. */
static void *take_aligned(struct mematlas_arena *arena, uint64_t size, uint64_t alignment)
{
	uint64_t at_least = size > alignment ? size : alignment;

	if (alignment & (alignment - 1))
		return NULL;
	for (unsigned i = 0; alignment <= PAGE && at_least <= SMALL_MAX && i < CLASSES; i++) {
		uint32_t slot = class_at(arena, i)->size;
		if (slot >= at_least && slot % alignment == 0)
			return take_small(arena, i);
	}
	return take_whole(arena, size ? size : 1, alignment);
}

void *mematlas_arena_take(struct mematlas_arena *arena, uint64_t size, uint64_t alignment)
{
	if (__builtin_expect(alignment > UNIT, 0))
		return take_aligned(arena, size, alignment);
	if (size <= 1024)
		return take_small(arena, arena->by_16[(size + 15) / 16]);
	if (size <= SMALL_MAX)
		return take_small(arena, arena->by_128[(size + 127) / 128]);
	return take_whole(arena, size, UNIT);
}

/* No slot begins there: a block of its own, or a mistake. */
static int give_whole(struct mematlas_arena *arena, void *block)
{
	exchange_settle(&arena->exchange);
	if (!in_reservation(arena, block))
		return large_give(arena, block);
	struct run *run = run_at(arena, block);
	if (run && GET(run->state) == RUN_SPAN)
		return -EINVAL;
	return pages_give_block(arena, block);
}

__attribute__((noinline)) static int give_slowly(struct mematlas_arena *arena, struct run *run,
						 struct slot *slot, void *block)
{
	struct arena_keeper *keeper = arena_join(arena);

	if (!keeper)
		return -ENOMEM;
	uint32_t holder = GET(slot->holder);
	if ((holder & ~TURN_MASK) != keeper->keeper.mark || GET(slot->posted) == holder)
		return exchange_give(&arena->exchange, &keeper->keeper, slot,
				     (uint32_t)((uint64_t)((char *)block - arena->base) / UNIT),
				     run->home->batch);
	struct magazine *magazine = &keeper->magazines[run->class];
	if (GET(magazine->filled) == magazine->room)
		class_return(arena, magazine, magazine->room / 2);
	return mematlas_arena_give(arena, block); /* there is room now */
}

int mematlas_arena_give(struct mematlas_arena *arena, void *block)
{
	struct run *run = in_reservation(arena, block) ? run_at(arena, block) : NULL;

	if (__builtin_expect(!run || GET(run->state) != RUN_SPAN, 0))
		return give_whole(arena, block);
	struct slot *slot = slot_of(run, block);
	if (__builtin_expect(!slot, 0))
		return -EINVAL;
	struct arena_keeper *keeper = arena_keeper(keeper_recent(&arena->exchange));
	if (__builtin_expect(!keeper, 0))
		return give_slowly(arena, run, slot, block);
	struct magazine *magazine = &keeper->magazines[run->class];
	uint32_t filled = GET(magazine->filled);
	if (__builtin_expect(filled == magazine->room, 0))
		return give_slowly(arena, run, slot, block);
	keeper_begin(&keeper->keeper);
	bool freed = slot_free(slot, &keeper->keeper);
	if (freed) {
		magazine->objects[filled] = block;
		SET(magazine->filled, filled + 1);
		BUMP(keeper->keeper.given);
	}
	keeper_end(&keeper->keeper);
	return freed ? 0 : give_slowly(arena, run, slot, block);
}

void arena_leave(struct exchange *exchange, struct keeper *base)
{
	struct mematlas_arena *arena = arena_of(exchange);
	struct arena_keeper *keeper = arena_keeper(base);

	exchange_send_all(exchange, base);
	arena_receive(arena, keeper, exchange_receive(base));
	for (unsigned i = 0; i < CLASSES; i++)
		if (GET(keeper->magazines[i].filled))
			class_return(arena, &keeper->magazines[i],
				     GET(keeper->magazines[i].filled));
}
