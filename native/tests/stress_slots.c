/* No slot is lost, and none is allocated twice, over a given number of operations.
 *
 *     stress_slots pool|shared|arena OPERATIONS THREADS
 *
 * Each thread marks the objects it allocates, and the mark must be intact when the thread frees the
 * object or passes it to another thread. In the end all objects are free, and all can be allocated
 * once more. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mematlas.h"
#include "check.h"
#include "random.h"

#define COUNT 20000u
#define HELD 1000u
#define SHARED 512u
#define SIZE 48u

static struct mematlas_pool *pool;
static struct mematlas_arena *arena;
static uint64_t operations;
static _Atomic(uint64_t *) shared[SHARED];

static uint64_t *alloc_one(void)
{
	return pool ? mematlas_pool_alloc(pool) : mematlas_arena_alloc(arena, SIZE, 0);
}

static void free_one(uint64_t *object)
{
	CHECK((pool ? mematlas_pool_free(pool, object) : mematlas_arena_free(arena, object)) == 0);
}

static void *work(void *argument)
{
	uint64_t mark = (uint64_t)(uintptr_t)argument, seed = mark * 88172645463325252u;
	uint64_t **own = calloc(HELD, sizeof *own);

	CHECK(own);
	for (uint64_t done = 0; done < operations; done += 2) {
		uint64_t random = random_next(&seed);
		uint64_t **at = &own[(random >> 8) % HELD];
		if (*at) {
			CHECK((*at)[0] == mark && (*at)[1] == ~mark);
			(*at)[0] = (*at)[1] = 0;
			if (random % 16 == 0)
				*at = atomic_exchange(&shared[(random >> 30) % SHARED], *at);
			if (*at)
				free_one(*at);
		}
		*at = alloc_one();
		CHECK(*at);
		CHECK(!pool || ((*at)[0] == 0 &&
				(*at)[1] == 0)); /* a pool leaves free objects as they are */
		(*at)[0] = mark;
		(*at)[1] = ~mark;
	}
	for (unsigned i = 0; i < HELD; i++)
		if (own[i]) {
			CHECK(own[i][0] == mark);
			own[i][0] = own[i][1] = 0;
			free_one(own[i]);
		}
	free(own);
	return NULL;
}

static void create_allocator(const char *kind)
{
	int fd = strcmp(kind, "shared") == 0 ? memfd_create("stress", 0) : -1;

	if (strcmp(kind, "arena") == 0)
		CHECK(mematlas_arena_create(1u << 30, &arena) == 0);
	else
		CHECK(mematlas_pool_create(SIZE, COUNT, 16, fd, &pool) == 0);
}

static void check_stats(uint64_t threads)
{
	uint64_t in_use, late, allocs, frees;

	if (pool) {
		struct mematlas_pool_stats stats;
		mematlas_pool_read_stats(pool, &stats);
		in_use = stats.in_use, late = stats.late_double_frees;
		allocs = stats.allocs, frees = stats.frees;
	} else {
		struct mematlas_arena_stats stats;
		mematlas_arena_read_stats(arena, &stats);
		in_use = stats.small_blocks, late = stats.late_double_frees;
		allocs = stats.allocs, frees = stats.frees;
	}
	CHECK(in_use == 0 && late == 0);
	CHECK(allocs == frees && allocs >= threads * operations / 2);
}

/* Allocates and frees each object of the pool, or as many blocks of the arena. */
static void check_all_free(void)
{
	static uint64_t *all[COUNT];

	for (unsigned i = 0; i < COUNT; i++) {
		all[i] = alloc_one();
		CHECK(all[i]);
		all[i][0] = i;
	}
	CHECK(!pool || !alloc_one());
	for (unsigned i = 0; i < COUNT; i++) {
		CHECK(all[i][0] == i);
		free_one(all[i]);
	}
}

static void check_end(uint64_t threads)
{
	for (unsigned i = 0; i < SHARED; i++)
		if (shared[i])
			free_one(shared[i]);
	CHECK((pool ? mematlas_pool_check(pool) : mematlas_arena_check(arena)) == 0);
	check_stats(threads);
	check_all_free();
}

int main(int argc, char **argv)
{
	CHECK(argc == 4);
	uint64_t threads = strtoull(argv[3], NULL, 10);
	pthread_t *running = calloc(threads, sizeof *running);
	CHECK(threads && threads <= 16 && running);
	operations = strtoull(argv[2], NULL, 10) / threads;
	create_allocator(argv[1]);
	for (uintptr_t i = 0; i < threads; i++)
		CHECK(pthread_create(&running[i], NULL, work, (void *)(i + 1)) == 0);
	for (uint64_t i = 0; i < threads; i++)
		CHECK(pthread_join(running[i], NULL) == 0);
	check_end(threads);
	mematlas_pool_destroy(pool);
	mematlas_arena_destroy(arena);
	free(running);
	printf("%llu operations, %llu threads: none lost, none allocated twice\n",
	       (unsigned long long)(operations * threads), (unsigned long long)threads);
	return 0;
}
