/* mematlas_pool_check() and mematlas_arena_check() notice each broken invariant. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../alloc/arena.h"
#include "../alloc/pool.h"
#include "check.h"

static struct mematlas_pool *pool;
static struct mematlas_arena *arena;

/* Changes a word, expects -EUCLEAN, and restores the word. */
#define BREAK(word, change, allocator)                                                             \
	do {                                                                                       \
		__typeof__(word) intact_ = (word);                                                 \
		(word) = (__typeof__(word))(intact_ change);                                       \
		CHECK(mematlas_##allocator##_check(allocator) == -EUCLEAN);                        \
		(word) = intact_;                                                                  \
		CHECK(mematlas_##allocator##_check(allocator) == 0);                               \
	} while (0)

static void test_pool(void)
{
	CHECK(mematlas_pool_create(64, 10000, 64, -1, &pool) == 0);
	void *used = mematlas_pool_alloc(pool), *freed = mematlas_pool_alloc(pool);
	CHECK(used && freed && mematlas_pool_free(pool, freed) == 0);
	struct slot *slot = &pool->slots[pool_object_number(pool, used)];
	struct pool_tcache *tcache = (struct pool_tcache *)tcache_lookup(&pool->group);

	CHECK(tcache && mematlas_pool_check(pool) == 0);
	BREAK(tcache->magazine.puts, -GENERATION_STEP, pool); /* an object is nowhere */
	BREAK(tcache->slots[0].object, +64, pool);    /* another is there twice */
	BREAK(tcache->slots[0].slot, +1, pool);       /* an object has another's slot */
	BREAK(slot->owner, *0, pool);                 /* a free slot is in no list */
	BREAK(pool->memory->bump, +1, pool);          /* an object is both fresh and free */
	mematlas_pool_destroy(pool);
}

static void test_shared_pool(void)
{
	CHECK(mematlas_pool_create(64, 100, 64, -1, &pool) == 0);
	void *first = mematlas_pool_alloc(pool), *second = mematlas_pool_alloc(pool);
	CHECK(pool->uses_free_list && mematlas_pool_free(pool, first) == 0);
	CHECK(mematlas_pool_free(pool, second) == 0 && mematlas_pool_check(pool) == 0);
	uint64_t number = pool_object_number(pool, second);
	BREAK(pool->memory->free_list, | INDEX_MASK, pool); /* the list is lost */
	BREAK(pool->links[number], *0 + number, pool);     /* the list is a cycle */
	BREAK(pool->memory->free_list, *0 + INDEX_MASK - 1, pool); /* leads out of the pool */
	BREAK(pool->links[number], *0 + INDEX_MASK - 1, pool);
	mematlas_pool_destroy(pool);
}

/* As a process leaves an object that was killed while another took the object: on the list and in
 * use. Holder 1 has the least owner word of all. */
static void test_listed_and_in_use(void)
{
	int fd = memfd_create("pool", MFD_CLOEXEC);
	struct mematlas_pool_stats stats;

	CHECK(fd >= 0 && mematlas_pool_create(64, 100, 64, fd, &pool) == 0);
	void *object = mematlas_pool_alloc(pool);
	uint32_t number = (uint32_t)pool_object_number(pool, object);
	for (uint32_t owner = 1; owner < 4; owner++) {
		pool->slots[number].owner = owner;
		pool_free_list_push(pool, number);
		mematlas_pool_read_stats(pool, &stats);
		CHECK(stats.in_use == 1 && mematlas_pool_check(pool) == 0);
	}
	mematlas_pool_destroy(pool);
	close(fd);
}

/* A run finds a slot at each multiple of the slot size, and nowhere else in its pages. */
static void test_slot_at(void)
{
	CHECK(arena_class_at(arena, CLASSES - 1)->size == SMALL_MAX);
	for (unsigned i = 0; i < CLASSES; i++) {
		uint32_t size = arena_class_at(arena, i)->size;
		char *block = mematlas_arena_alloc(arena, size, 0);
		struct run *run;
		CHECK(block && arena_slot_at(arena, block, &run) && run->slot_size == size);
		for (uint64_t offset = 0; offset < run->pages * PAGE; offset++) {
			bool begins = offset % size == 0 && offset / size < run->count;
			struct slot *slot = run_slot_at(run, GET(run->start) + offset);
			CHECK(slot == (begins ? &run_slots(run)[offset / size] : NULL));
		}
		CHECK(mematlas_arena_free(arena, block) == 0);
	}
}

static void test_arena_slots(struct arena_tcache *tcache, void *used)
{
	struct run *run;
	struct slot *slot = arena_slot_at(arena, used, &run);
	struct magazine *magazine = arena_magazine(tcache, run->magazine);

	CHECK(slot && magazine_filled(magazine) > 1);
	BREAK(magazine->puts, -GENERATION_STEP, arena);
	BREAK(magazine->bottom->object, +run->slot_size, arena);
	BREAK(magazine->bottom->slot, +1, arena);
	BREAK(slot->owner, *0, arena);
	BREAK(run->free_count, -1, arena);
	BREAK(run->free[0], *0 + run->count, arena);
	BREAK(run->in_span, -1, arena);
	BREAK(run->listed, ^1, arena);
	BREAK(run->size_class->empty, +1, arena);
	BREAK(run->size_class->transferred, +1, arena);
}

static void test_arena_pages(void)
{
	struct page_heap *heap = &arena->heap;
	void *block = mematlas_arena_alloc(arena, BINS * PAGE, 0);

	CHECK(block && mematlas_arena_free(arena, block) == 0);
	struct run *run = heap->bins[BINS - 1].next;

	CHECK(run != &heap->bins[BINS - 1]);
	BREAK(heap->free_bytes, +PAGE, arena);
	BREAK(heap->block_bytes, -PAGE, arena);
	BREAK(heap->released_bytes, +PAGE, arena);
	BREAK(heap->bin_bitmap[0], ^1, arena);
	BREAK(run->pages, -1, arena);
	BREAK(run->resident, +run->pages, arena);
	BREAK(run->state, *0 + RUN_BLOCK, arena);
	BREAK(arena->large.bytes, +1, arena);
	BREAK(arena->large.blocks[0].size, +1, arena);
}

int main(void)
{
	test_pool();
	test_shared_pool();
	test_listed_and_in_use();
	CHECK(mematlas_arena_create(1ull << 28, &arena) == 0);
	void *used = mematlas_arena_alloc(arena, 100, 0);
	CHECK(used && mematlas_arena_alloc(arena, 100000, 0) &&
	      mematlas_arena_alloc(arena, LARGE_MIN, 0));
	CHECK(mematlas_arena_check(arena) == 0);
	test_slot_at();
	test_arena_slots((struct arena_tcache *)tcache_lookup(&arena->group), used);
	test_arena_pages();
	mematlas_arena_destroy(arena);
	return 0;
}
