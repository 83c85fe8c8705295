/* Blocks of an arena keep their contents while threads come and go, free each other's blocks, trim
 * the arena and read its statistics.
 *
 *     stress_blocks OPERATIONS THREADS
 *
 * Each byte of a block follows from the number in its first 8 bytes, and all are compared when the
 * block is freed, mostly by another thread. In the end nothing is in use, the sums agree, and all
 * memory returns to the kernel. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mematlas.h"
#include "check.h"
#include "random.h"

#define SHARED 2048u
#define LIVES 8u /* threads that follow each other */

struct block {
	uint64_t number;
	uint64_t size;
	unsigned char rest[];
};

static struct mematlas_arena *arena;
static struct block *_Atomic shared[SHARED];
static uint64_t operations;

static uint64_t random_size(uint64_t *seed)
{
	uint64_t kind = random_next(seed) % 100, random = random_next(seed) >> 20;

	return sizeof(struct block) + random % (kind < 80 ? 300 : kind < 99 ? 4000 : 60000);
}

static struct block *alloc_block(uint64_t *seed)
{
	uint64_t size = random_size(seed);
	struct block *block = mematlas_arena_alloc(arena, size, 0);

	CHECK(block);
	block->number = random_next(seed);
	block->size = size;
	memset(block->rest, (unsigned char)block->number, size - sizeof *block);
	return block;
}

static void free_block(struct block *block)
{
	uint64_t length = block->size - sizeof *block;

	if (length) {
		CHECK(block->rest[0] == (unsigned char)block->number);
		CHECK(memcmp(block->rest, block->rest + 1, length - 1) == 0);
	}
	memset(block, 0, sizeof *block);
	CHECK(mematlas_arena_free(arena, block) == 0);
}

static void *live(void *argument)
{
	uint64_t seed = (uint64_t)(uintptr_t)argument * 88172645463325252u;
	struct mematlas_arena_stats stats;

	for (uint64_t i = 0; i < operations; i++) {
		uint64_t at = (random_next(&seed) >> 16) % SHARED;
		struct block *block = atomic_exchange(&shared[at], alloc_block(&seed));
		if (block)
			free_block(block);
		if (i % 5000 == 4999)
			mematlas_arena_trim(arena);
		if (i % 500 == 499) {
			mematlas_arena_read_stats(arena, &stats);
			CHECK(stats.allocs < 1ull << 60 && stats.cached_bytes <= stats.capacity);
		}
	}
	return NULL;
}

/* One thread after another, so that caches are abandoned and taken over. */
static void *follow(void *argument)
{
	for (uintptr_t i = 1; i <= LIVES; i++) {
		pthread_t thread;
		CHECK(pthread_create(&thread, NULL, live,
				     (void *)((uintptr_t)argument * LIVES + i)) == 0);
		CHECK(pthread_join(thread, NULL) == 0);
	}
	return NULL;
}

static void check_end(void)
{
	struct mematlas_arena_stats stats;

	for (unsigned i = 0; i < SHARED; i++)
		if (shared[i])
			free_block(shared[i]);
	CHECK(mematlas_arena_check(arena) == 0);
	mematlas_arena_trim(arena);
	mematlas_arena_read_stats(arena, &stats);
	CHECK(stats.small_blocks == 0 && stats.page_blocks == 0 && stats.late_double_frees == 0);
	CHECK(stats.allocs == stats.frees && stats.cached_bytes == 0);
	CHECK(stats.released_bytes == stats.usable_bytes);
	CHECK(mematlas_arena_check(arena) == 0);
}

int main(int argc, char **argv)
{
	CHECK(argc == 3);
	uint64_t threads = strtoull(argv[2], NULL, 10);
	pthread_t *running = calloc(threads, sizeof *running);
	CHECK(threads && threads <= 64 && running);
	operations = strtoull(argv[1], NULL, 10) / threads / LIVES;
	CHECK(mematlas_arena_create(1u << 30, &arena) == 0);
	for (uintptr_t i = 0; i < threads; i++)
		CHECK(pthread_create(&running[i], NULL, follow, (void *)i) == 0);
	for (uint64_t i = 0; i < threads; i++)
		CHECK(pthread_join(running[i], NULL) == 0);
	check_end();
	mematlas_arena_destroy(arena);
	free(running);
	printf("%llu operations, %llu threads: all contents intact\n",
	       (unsigned long long)(operations * threads * LIVES), (unsigned long long)threads);
	return 0;
}
