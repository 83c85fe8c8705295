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
	size_t objects = 0;

	for (unsigned i = 0; i < CLASSES; i++)
		objects += 2 * arena_class_at(arena, i)->batch_size;
	return sizeof(struct arena_tcache) + objects * sizeof(void *);
}

/* On fresh zeroed memory, before any other thread can see the cache. */
void arena_tcache_init(struct tcache_group *group, struct tcache *base)
{
	struct arena_tcache *tcache = arena_tcache(base);
	void **objects = tcache->objects;

	for (unsigned i = 0; i < CLASSES; i++) {
		tcache->magazines[i].objects = objects;
		tcache->magazines[i].capacity =
			2 * arena_class_at(arena_of_group(group), i)->batch_size;
		objects += tcache->magazines[i].capacity;
	}
}

struct arena_tcache *arena_tcache_join(struct mematlas_arena *arena)
{
	return arena_tcache(tcache_join(&arena->group));
}

/* The item's address is looked up again, because a slot freed by two threads at the same instant
 * may be in a span that is gone by now. */
static bool reclaim_slot(struct mematlas_arena *arena, struct arena_tcache *tcache, uint64_t item)
{
	struct run *run;
	char *object = arena->base + (item >> 32) * UNIT;
	struct slot *slot = arena_slot_at(arena, object, &run);

	if (!slot || !slot_reclaim(slot, (uint32_t)item))
		return false;
	struct magazine *magazine = &tcache->magazines[run->class_index];
	if (GET(magazine->filled) == magazine->capacity)
		size_class_flush(arena, magazine, magazine->capacity / 2);
	magazine->objects[GET(magazine->filled)] = object;
	BUMP(magazine->filled);
	return true;
}

/* The slots of a batch are spread over many cache lines, and all of them are needed at once. */
static void prefetch(struct mematlas_arena *arena, uint64_t item)
{
	struct run *run;
	struct slot *slot = arena_slot_at(arena, arena->base + (item >> 32) * UNIT, &run);

	if (slot)
		__builtin_prefetch(slot, 1);
}

/* Takes a list of batches, frees their slots into the magazines of the calling thread, and the
 * batches themselves. A slot that the owner freed too meanwhile is counted as a double free. */
static void receive_batches(struct mematlas_arena *arena, struct arena_tcache *tcache,
			    uint32_t number)
{
	while (number) {
		struct batch *batch = batch_at(&arena->group, number);
		uint32_t next = GET(batch->next);

		for (uint32_t i = 0; i < batch->count; i++)
			prefetch(arena, batch->items[i]);
		for (uint32_t i = 0; i < batch->count; i++)
			if (!reclaim_slot(arena, tcache, batch->items[i]))
				BUMP(tcache->base.late_double_frees);
		batch_free(&arena->group, number);
		number = next;
	}
}

void arena_tcache_collect(struct mematlas_arena *arena, struct arena_tcache *tcache)
{
	struct tcache_group *group = &arena->group;
	uint32_t count = atomic_load_explicit(&group->tcache_count, memory_order_acquire);

	remote_free_flush(group, &tcache->base);
	for (uint32_t i = 0; i < count; i++) {
		struct tcache *other =
			atomic_load_explicit(&group->tcaches[i], memory_order_acquire);
		if (other)
			receive_batches(arena, tcache,
					other == &tcache->base ? remote_free_receive(other)
							       : remote_free_steal(other));
	}
}

/* False: no slot to be had. Receives first, because a slot that is free already costs no lock. */
static bool refill(struct mematlas_arena *arena, struct arena_tcache *tcache, unsigned index)
{
	struct magazine *magazine = &tcache->magazines[index];
	struct size_class *class = arena_class_for(arena, tcache, index);

	receive_batches(arena, tcache, remote_free_receive(&tcache->base));
	if (GET(magazine->filled) || size_class_refill(arena, class, magazine, false))
		return true;
	/* Before the class grows, since free slots may be in other threads' queues. */
	arena_tcache_collect(arena, tcache);
	if (GET(magazine->filled) || size_class_refill(arena, class, magazine, true))
		return true;
	arena_release_spans(arena); /* empty spans may hold what is left of the capacity */
	return size_class_refill(arena, class, magazine, true);
}

__attribute__((always_inline)) static inline void *pop_slot(struct mematlas_arena *arena,
							    struct arena_tcache *tcache,
							    struct magazine *magazine,
							    uint32_t filled)
{
	void *object = magazine->objects[filled - 1];
	struct run *run = arena_run_at(arena, object);
	uint64_t offset = (uint64_t)((char *)object - GET(run->start));

	SET(magazine->filled, filled - 1);
	slot_alloc(&run->slots[offset * run->reciprocal >> 32], tcache->base.id_bits);
	BUMP(tcache->allocs);
	return object;
}

__attribute__((noinline)) static void *alloc_slow(struct mematlas_arena *arena, unsigned index)
{
	struct arena_tcache *tcache = arena_tcache_join(arena);
	struct magazine *magazine = tcache ? &tcache->magazines[index] : NULL;

	if (tcache && (GET(magazine->filled) || refill(arena, tcache, index)))
		return pop_slot(arena, tcache, magazine, GET(magazine->filled));
	atomic_fetch_add_explicit(&arena->failed_allocs, 1, memory_order_relaxed);
	return NULL;
}

static void *alloc_small(struct mematlas_arena *arena, unsigned index)
{
	struct arena_tcache *tcache = arena_tcache(tcache_lookup(&arena->group));
	struct magazine *magazine = tcache ? &tcache->magazines[index] : NULL;
	uint32_t filled = tcache ? GET(magazine->filled) : 0;

	if (__builtin_expect(filled == 0, 0))
		return alloc_slow(arena, index);
	return pop_slot(arena, tcache, magazine, filled);
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
static void *alloc_aligned(struct mematlas_arena *arena, uint64_t size, uint64_t alignment)
{
	uint64_t least = size > alignment ? size : alignment;

	if (alignment & (alignment - 1))
		return NULL;
	for (unsigned i = 0; alignment <= PAGE && least <= SMALL_MAX && i < CLASSES; i++) {
		uint32_t slot_size = arena_class_at(arena, i)->size;
		if (slot_size >= least && slot_size % alignment == 0)
			return alloc_small(arena, i);
	}
	return alloc_pages_or_large(arena, size ? size : 1, alignment);
}

void *mematlas_arena_alloc(struct mematlas_arena *arena, uint64_t size, uint64_t alignment)
{
	if (__builtin_expect(alignment > UNIT, 0))
		return alloc_aligned(arena, size, alignment);
	if (size <= BY_16_MAX)
		return alloc_small(arena, arena->by_16[(size + 15) / 16]);
	if (size <= SMALL_MAX)
		return alloc_small(arena, arena->by_128[(size + 127) / 128]);
	return alloc_pages_or_large(arena, size, UNIT);
}

static int free_pages_or_large(struct mematlas_arena *arena, void *block)
{
	tcache_group_ready(&arena->group);
	if (!arena_contains(arena, block))
		return arena_large_free(arena, block);
	struct run *run = arena_run_at(arena, block);
	if (run && GET(run->state) == RUN_SPAN)
		return -EINVAL;
	return page_heap_free_block(arena, block);
}

__attribute__((noinline)) static int free_slow(struct mematlas_arena *arena, struct run *run,
					       struct slot *slot, void *block)
{
	struct arena_tcache *tcache = arena_tcache_join(arena);

	if (!tcache)
		return -ENOMEM;
	if (!slot_is_owned(slot, tcache->base.id_bits))
		return remote_free_slot(&arena->group, &tcache->base, slot,
					(uint32_t)((uint64_t)((char *)block - arena->base) / UNIT),
					run->size_class->batch_size);
	struct magazine *magazine = &tcache->magazines[run->class_index];
	if (GET(magazine->filled) == magazine->capacity)
		size_class_flush(arena, magazine, magazine->capacity / 2);
	return mematlas_arena_free(arena, block); /* the magazine has a free entry now */
}

int mematlas_arena_free(struct mematlas_arena *arena, void *block)
{
	struct run *run = arena_contains(arena, block) ? arena_run_at(arena, block) : NULL;

	if (__builtin_expect(!run || GET(run->state) != RUN_SPAN, 0))
		return free_pages_or_large(arena, block);
	struct slot *slot = run_slot_at(run, block);
	if (__builtin_expect(!slot, 0))
		return -EINVAL;
	struct arena_tcache *tcache = arena_tcache(tcache_lookup(&arena->group));
	if (__builtin_expect(!tcache, 0))
		return free_slow(arena, run, slot, block);
	struct magazine *magazine = &tcache->magazines[run->class_index];
	uint32_t filled = GET(magazine->filled);
	if (__builtin_expect(filled == magazine->capacity, 0))
		return free_slow(arena, run, slot, block);
	tcache_begin_free(&tcache->base);
	bool freed = slot_free(slot, tcache->base.id_bits);
	if (freed) {
		magazine->objects[filled] = block;
		SET(magazine->filled, filled + 1);
		BUMP(tcache->base.frees);
	}
	tcache_end_free(&tcache->base);
	return freed ? 0 : free_slow(arena, run, slot, block);
}

void arena_tcache_flush(struct tcache_group *group, struct tcache *base)
{
	struct mematlas_arena *arena = arena_of_group(group);
	struct arena_tcache *tcache = arena_tcache(base);

	remote_free_flush(group, base);
	receive_batches(arena, tcache, remote_free_receive(base));
	for (unsigned i = 0; i < CLASSES; i++)
		if (GET(tcache->magazines[i].filled))
			size_class_flush(arena, &tcache->magazines[i],
					 GET(tcache->magazines[i].filled));
}
