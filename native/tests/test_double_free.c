/* Threads that give the same object at the same instant: at least one is told it was right, and however
 * many are, the object is free once and no more. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mematlas.h"
#include "check.h"

#define GIVERS 2u
#define ROUNDS 3000u
#define COUNT 1000u

static struct mematlas_pool *pool;
static struct mematlas_arena *arena;
static _Atomic(void *) object;
static _Atomic unsigned round_number, finished, accepted;

static void *take(void)
{
	return pool ? mematlas_pool_alloc(pool) : mematlas_arena_alloc(arena, 100, 0);
}

static int give(void *what)
{
	return pool ? mematlas_pool_free(pool, what) : mematlas_arena_free(arena, what);
}

static void give_once(void)
{
	if (give(object) == 0)
		atomic_fetch_add(&accepted, 1);
}

static void *work(void *argument)
{
	(void)argument;
	for (unsigned seen = 0; seen < ROUNDS;) {
		while (atomic_load(&round_number) == seen)
			sched_yield();
		seen++;
		give_once();
		atomic_fetch_add(&finished, 1);
	}
	return NULL;
}

/* Objects that were accepted twice lie about twice until they are taken: no two takes get the same. */
static void check_distinct(void)
{
	static void *all[COUNT];
	unsigned count = pool ? COUNT : COUNT / 2;

	for (unsigned i = 0; i < count; i++) {
		uint64_t *one = all[i] = take();
		CHECK(one);
		one[0] = i;
	}
	CHECK(!pool || !take());
	for (unsigned i = 0; i < count; i++)
		CHECK(*(uint64_t *)all[i] == i && give(all[i]) == 0);
}

static void run(void)
{
	pthread_t threads[GIVERS];
	unsigned twice = 0;

	round_number = finished = 0;
	for (unsigned i = 0; i < GIVERS; i++)
		CHECK(pthread_create(&threads[i], NULL, work, NULL) == 0);
	for (unsigned round = 0; round < ROUNDS; round++) {
		object = take();
		CHECK(object);
		accepted = 0;
		atomic_store(&round_number, round + 1);
		if (round % 2)
			give_once(); /* its taker, too */
		while (atomic_load(&finished) < (round + 1) * GIVERS)
			sched_yield();
		CHECK(accepted >= 1);
		twice += accepted - 1;
	}
	for (unsigned i = 0; i < GIVERS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	check_distinct();
	CHECK((pool ? mematlas_pool_check(pool) : mematlas_arena_check(arena)) == 0);
	printf("%s: %u of %u rounds had an object accepted twice\n", pool ? "pool" : "arena", twice,
	       ROUNDS);
}

int main(void)
{
	struct mematlas_pool_stats stats;

	CHECK(mematlas_pool_create(100, COUNT, 16, -1, &pool) == 0);
	run();
	mematlas_pool_read_stats(pool, &stats);
	CHECK(stats.in_use == 0);
	mematlas_pool_destroy(pool);
	pool = NULL;
	CHECK(mematlas_arena_create(1 << 26, &arena) == 0);
	run();
	mematlas_arena_destroy(arena);
	return 0;
}
