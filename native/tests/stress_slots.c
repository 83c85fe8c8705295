/* No slot is lost and none has two owners, over as many operations as asked for.
 *
 *     stress_slots pool|shared|arena OPERATIONS THREADS
 *
 * Every thread writes its mark into what it takes, and finds it there until it gives the object back or
 * hands it to others. In the end all objects are back, and all can be taken once more. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mematlas.h"
#include "check.h"

#define COUNT 20000u
#define HELD 1000u
#define HANDED 512u
#define SIZE 48u

static struct mematlas_pool *pool;
static struct mematlas_arena *arena;
static uint64_t operations;
static _Atomic(uint64_t *) handed[HANDED];

static uint64_t *take(void)
{
	return pool ? mematlas_pool_alloc(pool) : mematlas_arena_alloc(arena, SIZE, 0);
}

static void give(uint64_t *object)
{
	CHECK((pool ? mematlas_pool_free(pool, object) : mematlas_arena_free(arena, object)) == 0);
}

static uint64_t draw(uint64_t *dice)
{
	*dice ^= *dice << 13;
	*dice ^= *dice >> 7;
	*dice ^= *dice << 17;
	return *dice;
}

static void *work(void *argument)
{
	uint64_t mark = (uint64_t)(uintptr_t)argument, dice = mark * 88172645463325252u;
	uint64_t **mine = calloc(HELD, sizeof *mine);

	CHECK(mine);
	for (uint64_t done = 0; done < operations; done += 2) {
		uint64_t random = draw(&dice);
		uint64_t **at = &mine[(random >> 8) % HELD];
		if (*at) {
			CHECK((*at)[0] == mark && (*at)[1] == ~mark);
			(*at)[0] = (*at)[1] = 0;
			if (random % 16 == 0)
				*at = atomic_exchange(&handed[(random >> 30) % HANDED], *at);
			if (*at)
				give(*at);
		}
		*at = take();
		CHECK(*at);
		CHECK(!pool || ((*at)[0] == 0 &&
				(*at)[1] == 0)); /* free memory of a pool is as it was left */
		(*at)[0] = mark;
		(*at)[1] = ~mark;
	}
	for (unsigned i = 0; i < HELD; i++)
		if (mine[i]) {
			CHECK(mine[i][0] == mark);
			mine[i][0] = mine[i][1] = 0;
			give(mine[i]);
		}
	free(mine);
	return NULL;
}

static void open_one(const char *kind)
{
	int fd = strcmp(kind, "shared") == 0 ? memfd_create("stress", 0) : -1;

	if (strcmp(kind, "arena") == 0)
		CHECK(mematlas_arena_create(1u << 30, &arena) == 0);
	else
		CHECK(mematlas_pool_create(SIZE, COUNT, 16, fd, &pool) == 0);
}

static void check_end(uint64_t threads)
{
	static uint64_t *all[COUNT];
	struct mematlas_pool_stats of_pool;
	struct mematlas_arena_stats of_arena;

	for (unsigned i = 0; i < HANDED; i++)
		if (handed[i])
			give(handed[i]);
	CHECK((pool ? mematlas_pool_check(pool) : mematlas_arena_check(arena)) == 0);
	if (pool) {
		mematlas_pool_read_stats(pool, &of_pool);
		CHECK(of_pool.in_use == 0 && of_pool.late_double_frees == 0);
		CHECK(of_pool.allocs == of_pool.frees && of_pool.allocs >= threads * operations / 2);
	} else {
		mematlas_arena_read_stats(arena, &of_arena);
		CHECK(of_arena.small_blocks == 0 && of_arena.late_double_frees == 0);
		CHECK(of_arena.allocs == of_arena.frees &&
		      of_arena.allocs >= threads * operations / 2);
	}
	for (unsigned i = 0; i < COUNT; i++) {
		all[i] = take();
		CHECK(all[i]);
		all[i][0] = i;
	}
	CHECK(!pool || !take());
	for (unsigned i = 0; i < COUNT; i++) {
		CHECK(all[i][0] == i);
		give(all[i]);
	}
}

int main(int argc, char **argv)
{
	CHECK(argc == 4);
	uint64_t threads = strtoull(argv[3], NULL, 10);
	pthread_t *running = calloc(threads, sizeof *running);
	CHECK(threads && threads <= 16 && running);
	operations = strtoull(argv[2], NULL, 10) / threads;
	open_one(argv[1]);
	for (uintptr_t i = 0; i < threads; i++)
		CHECK(pthread_create(&running[i], NULL, work, (void *)(i + 1)) == 0);
	for (uint64_t i = 0; i < threads; i++)
		CHECK(pthread_join(running[i], NULL) == 0);
	check_end(threads);
	mematlas_pool_destroy(pool);
	mematlas_arena_destroy(arena);
	free(running);
	printf("%llu operations, %llu threads: none lost, none doubled\n",
	       (unsigned long long)(operations * threads), (unsigned long long)threads);
	return 0;
}
