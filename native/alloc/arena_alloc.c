/* Allocation from an arena: the magazine of the thread and class, then the class's spans. */
#include "arena.h"

static struct arena_tcache *arena_tcache(struct tcache *tcache)
{
	return (struct arena_tcache *)tcache;
}

/* Two batches of each class, so that a magazine that was just refilled can take a batch of
 * frees, and the other way round, without a lock. */
size_t arena_tcache_size(struct mematlas_arena *arena)
{
	size_t slots = 0;

	for (unsigned i = 0; i < CLASSES; i++)
		slots += 2 * arena_class_at(arena, i)->batch_size;
	return sizeof(struct arena_tcache) + slots * sizeof(struct free_slot);
}

/* On fresh zeroed memory, before any other thread can see the cache. */
void arena_tcache_init(struct tcache_group *group, struct tcache *base)
{
	struct arena_tcache *tcache = arena_tcache(base);
	struct free_slot *bottom = tcache->slots;

	for (unsigned i = 0; i < CLASSES; i++) {
		uint32_t capacity = 2 * arena_class_at(arena_of_group(group), i)->batch_size;
		magazine_init(&tcache->magazines[i], &bottom, capacity, base);
	}
}

struct arena_tcache *arena_tcache_join(struct mematlas_arena *arena)
{
	return arena_tcache(tcache_get(&arena->group));
}

static void flush_magazine(struct mematlas_arena *arena, struct arena_tcache *tcache,
			   struct magazine *magazine, uint32_t count)
{
	size_class_flush(arena, arena_class_for(arena, tcache, magazine), magazine, count);
	moved_add(&tcache->base.moved_out, count);
}

static void flush_half(struct mematlas_arena *arena, struct arena_tcache *tcache,
		       struct magazine *magazine)
{
	flush_magazine(arena, tcache, magazine, magazine_filled(magazine) / 2);
}

/* There is a slot. */
static void put_slot(struct mematlas_arena *arena, struct arena_tcache *tcache, struct run *run,
		     struct free_slot slot)
{
	struct magazine *magazine = arena_magazine(tcache, run->magazine);

	if (__builtin_expect(magazine_is_full(magazine), 0))
		flush_half(arena, tcache, magazine);
	magazine_put(magazine, slot.object, slot.slot);
}

/* Frees the slots of a batch into the magazines of the calling thread, and the batch itself. A slot
 * that the owner freed too meanwhile is counted as a double free; its span may be gone. The slots
 * are spread over many cache lines, and all of them are needed at once. */
static void receive_batch(struct mematlas_arena *arena, struct arena_tcache *tcache,
			  uint32_t number)
{
	struct batch *batch = batch_at(&arena->group, number);
	struct free_slot slots[BATCH_CAPACITY];
	struct run *runs[BATCH_CAPACITY];
	uint32_t count = batch->count, reclaimed = 0;

	for (uint32_t i = 0; i < count; i++) {
		slots[i].object = arena->base + (batch->items[i] >> 32) * UNIT;
		slots[i].slot = arena_slot_at(arena, slots[i].object, &runs[i]);
		__builtin_prefetch(slots[i].slot, 1);
	}
	for (uint32_t i = 0; i < count; i++) {
		if (!slots[i].slot || !slot_reclaim(slots[i].slot, (uint32_t)batch->items[i]))
			continue;
		put_slot(arena, tcache, runs[i], slots[i]);
		reclaimed++;
	}
	moved_add(&tcache->base.moved_in, reclaimed);
	SET(tcache->base.late_double_frees,
	    GET(tcache->base.late_double_frees) + count - reclaimed);
	batch_free(&arena->group, number);
}

static bool receive_one(struct mematlas_arena *arena, struct arena_tcache *tcache)
{
	uint32_t number = remote_free_receive(&arena->group, &tcache->base);

	if (number)
		receive_batch(arena, tcache, number);
	return number != 0;
}

static void steal(struct mematlas_arena *arena, struct arena_tcache *tcache, struct tcache *other)
{
	uint32_t next;

	for (uint32_t number = remote_free_steal(&arena->group, other); number; number = next) {
		next = GET(batch_at(&arena->group, number)->next);
		receive_batch(arena, tcache, number);
	}
}

void arena_tcache_collect(struct mematlas_arena *arena, struct arena_tcache *tcache)
{
	struct tcache_group *group = &arena->group;
	uint32_t count = atomic_load_explicit(&group->tcache_count, memory_order_acquire);

	remote_free_flush(group, &tcache->base);
	while (receive_one(arena, tcache))
		;
	for (uint32_t i = 0; i < count; i++) {
		struct tcache *other =
			atomic_load_explicit(&group->tcaches[i], memory_order_acquire);
		if (other && other != &tcache->base)
			steal(arena, tcache, other);
	}
}

static bool refill_magazine(struct mematlas_arena *arena, struct arena_tcache *tcache,
			    struct magazine *magazine, bool may_grow)
{
	uint32_t added = 0;

	if (magazine_is_empty(magazine))
		added = size_class_refill(arena, arena_class_for(arena, tcache, magazine), magazine,
					  may_grow);
	moved_add(&tcache->base.moved_in, added);
	return !magazine_is_empty(magazine);
}

/* False: no slot to be had. Receives first, because a slot that is free already costs no lock. */
static bool refill(struct mematlas_arena *arena, struct arena_tcache *tcache,
		   struct magazine *magazine)
{
	while (magazine_is_empty(magazine) && receive_one(arena, tcache))
		;
	if (refill_magazine(arena, tcache, magazine, false))
		return true;
	/* Before the class grows, since free slots may be in other threads' queues. */
	arena_tcache_collect(arena, tcache);
	if (refill_magazine(arena, tcache, magazine, true))
		return true;
	arena_release_spans(arena); /* empty spans may hold what is left of the capacity */
	return refill_magazine(arena, tcache, magazine, true);
}

__attribute__((noinline)) static void *alloc_slow(struct mematlas_arena *arena, uint32_t offset)
{
	struct arena_tcache *tcache = arena_tcache_join(arena);
	struct magazine *magazine = tcache ? arena_magazine(tcache, offset) : NULL;

	if (tcache && (!magazine_is_empty(magazine) || refill(arena, tcache, magazine)))
		return magazine_alloc(magazine);
	/* Each shard needs a span of its own, of four slots of this size: near its capacity the arena may have one. */
	uint32_t size = tcache ? arena_class_for(arena, tcache, magazine)->size : 0;
	void *block = size >= RELEASE_SLOT_MIN ? page_heap_alloc_block(arena, size) : NULL;
	if (block)
		return block;
	atomic_fetch_add_explicit(&arena->failed_allocs, 1, memory_order_relaxed);
	return NULL;
}

/* `offset` is that of the magazine of the class. */
static inline void *alloc_small(struct mematlas_arena *arena, uint32_t offset)
{
	struct arena_tcache *tcache = arena_tcache(tcache_lookup(&arena->group));

	if (__builtin_expect(!tcache, 0))
		return alloc_slow(arena, offset);
	void *block = magazine_alloc(arena_magazine(tcache, offset));
	return __builtin_expect(block != NULL, 1) ? block : alloc_slow(arena, offset);
}

static void *try_pages_or_large(struct mematlas_arena *arena, uint64_t size, uint64_t alignment)
{
	void *block = NULL;

	if (size < arena_large_min(arena) && alignment <= PAGE)
		block = page_heap_alloc_block(arena, size);
	return block ? block : arena_large_alloc(arena, size, alignment);
}

__attribute__((noinline)) static void *alloc_pages_or_large(struct mematlas_arena *arena,
							    uint64_t size, uint64_t alignment)
{
	void *block = NULL;

	tcache_group_ready(&arena->group);
	if (size <= PTRDIFF_MAX - alignment - PAGE) {
		block = try_pages_or_large(arena, size, alignment);
		if (!block) { /* empty spans may hold what is left of the capacity */
			arena_release_spans(arena);
			block = try_pages_or_large(arena, size, alignment);
		}
	}
	if (!block)
		atomic_fetch_add_explicit(&arena->failed_allocs, 1, memory_order_relaxed);
	return block;
}

/* A span begins at a page, so each slot is aligned to the powers of two that divide its size. */
__attribute__((noinline)) static void *alloc_aligned(struct mematlas_arena *arena, uint64_t size,
						     uint64_t alignment)
{
	uint64_t least = size > alignment ? size : alignment;

	if (alignment & (alignment - 1))
		return NULL;
	for (unsigned i = 0; alignment <= PAGE && least <= SMALL_MAX && i < CLASSES; i++) {
		uint32_t slot_size = arena_class_at(arena, i)->size;
		if (slot_size >= least && slot_size % alignment == 0)
			return alloc_small(arena, magazine_offset(i));
	}
	return alloc_pages_or_large(arena, size ? size : 1, alignment);
}

void *mematlas_arena_alloc(struct mematlas_arena *arena, uint64_t size, uint64_t alignment)
{
	if (__builtin_expect(alignment > UNIT, 0))
		return alloc_aligned(arena, size, alignment);
	if (__builtin_expect(size > SMALL_MAX, 0))
		return alloc_pages_or_large(arena, size, UNIT);
	if (__builtin_expect(size <= BY_16_MAX, 1))
		return alloc_small(arena, arena->by_16[(size + 15) / 16]);
	return alloc_small(arena, arena->by_128[(size + 127) / 128]);
}

/* An address that is not the start of a slot. */
__attribute__((noinline)) static int free_pages_or_large(struct mematlas_arena *arena, void *block)
{
	tcache_group_ready(&arena->group);
	if (!arena_contains(arena, block))
		return arena_large_free(arena, block);
	struct run *run = arena_run_at(arena, block);
	if (run && GET(run->state) == RUN_SPAN)
		return -EINVAL;
	return page_heap_free_block(arena, block);
}

/* By a thread without a cache, or into a full magazine. */
__attribute__((noinline)) static int free_slowest(struct mematlas_arena *arena, void *block,
						  struct run *run, struct slot *slot)
{
	struct arena_tcache *tcache = arena_tcache_join(arena);

	if (!tcache)
		return -ENOMEM;
	struct magazine *magazine = arena_magazine(tcache, run->magazine);
	if (slot_is_owned(slot, tcache->base.id) && magazine_is_full(magazine))
		flush_half(arena, tcache, magazine);
	return mematlas_arena_free(arena, block);
}

/* Mostly a slot of another thread. Calls at the end only, so that no register is saved. */
__attribute__((noinline)) static int free_slow(struct mematlas_arena *arena, void *block,
					       struct run *run, struct slot *slot)
{
	struct tcache *tcache = tcache_lookup(&arena->group);
	uint64_t unit = (uint64_t)((char *)block - arena->base) / UNIT;

	if (!tcache || slot_is_owned(slot, tcache->id))
		return free_slowest(arena, block, run, slot);
	return remote_free_slot(&arena->group, tcache, slot, (uint32_t)unit, run->remote_limit);
}

int mematlas_arena_free(struct mematlas_arena *arena, void *block)
{
	struct run *run;
	struct slot *slot = arena_slot_at(arena, block, &run);

	if (__builtin_expect(!slot, 0))
		return free_pages_or_large(arena, block);
	struct arena_tcache *tcache = arena_tcache(tcache_lookup(&arena->group));
	if (__builtin_expect(!tcache, 0))
		return free_slow(arena, block, run, slot);
	struct magazine *magazine = arena_magazine(tcache, run->magazine);
	if (__builtin_expect(!magazine_free(magazine, &tcache->base, block, slot), 0))
		return free_slow(arena, block, run, slot);
	return 0;
}

void arena_tcache_flush(struct tcache_group *group, struct tcache *base)
{
	struct mematlas_arena *arena = arena_of_group(group);
	struct arena_tcache *tcache = arena_tcache(base);

	remote_free_flush(group, base);
	while (receive_one(arena, tcache))
		;
	for (unsigned i = 0; i < CLASSES; i++)
		if (magazine_filled(&tcache->magazines[i]))
			flush_magazine(arena, tcache, &tcache->magazines[i],
				       magazine_filled(&tcache->magazines[i]));
}
