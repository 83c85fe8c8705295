/* Pools of CPython's allocator, made here, read from outside and damaged in many ways. */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "../heap/heap.h"

#define POOL 16384U
#define HEADER 48U
#define POOLS 8U
#define START 0x7f0000000000ULL

static uint8_t memory[(POOLS + 2) * POOL];

static void put(unsigned at, uint64_t value, size_t size)
{
	memcpy(memory + at, &value, size);
}

/* A pool of `used` slots of `size` bytes, of which each third is free. Returns the live ones. */
static unsigned make_pool(unsigned number, unsigned arena, unsigned size, unsigned used)
{
	unsigned at = number * POOL, live = used;
	uint64_t next = 0;

	memset(memory + at, 0, POOL);
	for (unsigned slot = 0; slot < used; slot += 3, live--) {
		put(at + HEADER + slot * size, next, 8);
		next = START + at + HEADER + slot * size;
	}
	put(at, live, 4);
	put(at + 8, next, 8);
	put(at + 32, arena, 4);
	put(at + 36, size / 16 - 1, 4);
	put(at + 40, HEADER + used * size, 4);
	put(at + 44, POOL - size, 4);
	return live;
}

static unsigned make_arena(void)
{
	unsigned live = 0;

	memset(memory, 0, sizeof memory);
	for (unsigned i = 0; i < POOLS; i++)
		live += make_pool(i, 3, 16 * (i * 4 + 1), 3 + i * 4);
	return live;
}

/* Returns a heap whose only other block lies where the arena may be. */
static struct heap *read_heap(int64_t *blocks, struct mematlas_heap_pymalloc *found)
{
	struct mematlas_heap_range range = {
		.start = START,
		.size = sizeof memory,
		.bytes = memory,
		.kind = MEMATLAS_HEAP_ANONYMOUS,
	};
	uint64_t address = START + 2 * POOL + 16, size = 3 * POOL;
	struct mematlas_heap *heap;

	CHECK(mematlas_heap_create(&range, 1, 4096, &heap) == 0);
	CHECK(mematlas_heap_add(heap, &address, &size, 1, MEMATLAS_HEAP_GLIBC_MMAPPED) == 0);
	*blocks = mematlas_heap_pymalloc(heap, found);
	CHECK(mematlas_heap_index(heap) == *blocks + (found->pools == 0));
	return (struct heap *)heap;
}

static void test_blocks(void)
{
	struct mematlas_heap_pymalloc found;
	unsigned live = make_arena();
	int64_t blocks;
	struct heap *heap = read_heap(&blocks, &found);

	CHECK(blocks == live);
	CHECK(found.arenas == 1 && found.pools == POOLS && found.torn_pools == 0);
	CHECK(heap_find(heap, START + HEADER) == HEAP_NONE); /* slot 0 is free */
	CHECK(heap->blocks.address[heap_find(heap, START + HEADER + 20)] == START + HEADER + 16);
	CHECK(heap->finding_total == 0);
	mematlas_heap_destroy((struct mematlas_heap *)heap);
}

/* A free list that leaves its pool: the pool is one block, the others are read as before. */
static void test_torn(void)
{
	struct mematlas_heap_pymalloc found;
	unsigned live = make_arena() - make_pool(4, 3, 16 * 17, 19);
	int64_t blocks;

	put(4 * POOL + 8, START + 6 * POOL + HEADER, 8);
	struct heap *heap = read_heap(&blocks, &found);
	CHECK(blocks == live + 1 && found.torn_pools == 1);
	CHECK(heap->finding_total == 1);
	CHECK(heap->findings[0].kind == MEMATLAS_HEAP_TORN_POOL);
	CHECK(heap->findings[0].address == START + 4 * POOL);
	CHECK(heap->blocks.origin[heap_find(heap, START + 4 * POOL)] ==
	      MEMATLAS_HEAP_PYMALLOC_TORN);
	mematlas_heap_destroy((struct mematlas_heap *)heap);
	/* The whole header is overwritten: its neighbours tell that a pool is missing. */
	make_arena();
	memset(memory + 4 * POOL, 0xA5, HEADER);
	heap = read_heap(&blocks, &found);
	CHECK(blocks == live + 1 && found.torn_pools == 1);
	mematlas_heap_destroy((struct mematlas_heap *)heap);
}

/* Neither a copy of a pool at another address nor text is taken for a pool. */
static void test_other_memory(void)
{
	struct mematlas_heap_pymalloc found;
	int64_t blocks;
	struct heap *heap;

	memset(memory, 0, sizeof memory);
	make_pool(1, 9, 64, 20);
	memcpy(memory + 5 * POOL, memory + POOL, POOL);
	memset(memory + POOL, 'x', POOL);
	heap = read_heap(&blocks, &found);
	CHECK(blocks == 0 && found.pools == 0 && heap->finding_total == 0);
	mematlas_heap_destroy((struct mematlas_heap *)heap);
}

static void test_damage(void)
{
	srand(1);
	for (unsigned round = 0; round < 1000; round++) {
		struct mematlas_heap_pymalloc found;
		int64_t blocks;

		make_arena();
		for (unsigned i = 0; i <= round % 7; i++) {
			unsigned within = (unsigned)rand() % (round % 2 ? HEADER : POOL);

			memory[(unsigned)rand() % POOLS * POOL + within] = (uint8_t)rand();
		}
		struct heap *heap = read_heap(&blocks, &found);
		CHECK(found.torn_pools <= found.pools && found.pools <= POOLS);
		CHECK(heap->finding_total == found.torn_pools);
		mematlas_heap_destroy((struct mematlas_heap *)heap);
	}
}

int main(void)
{
	test_blocks();
	test_torn();
	test_other_memory();
	test_damage();
	return 0;
}
