/* Threads that free one object at the same instant: at least one call succeeds, and however many
 * do, the object is freed once. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mematlas.h"
#include "../alloc/slot.h"
#include "check.h"

#define THREADS 2u
#define ROUNDS 3000u
#define COUNT 1000u

static struct mematlas_pool *pool;
static struct mematlas_arena *arena;
static _Atomic(void *) object;
static _Atomic unsigned round_number, finished, accepted;

static void *alloc_one(void)
{
	return pool ? mematlas_pool_alloc(pool) : mematlas_arena_alloc(arena, 100, 0);
}

static int free_one(void *what)
{
	return pool ? mematlas_pool_free(pool, what) : mematlas_arena_free(arena, what);
}

static void free_once(void)
{
	if (free_one(object) == 0)
		atomic_fetch_add(&accepted, 1);
}

static void *work(void *argument)
{
	(void)argument;
	for (unsigned seen = 0; seen < ROUNDS;) {
		while (atomic_load(&round_number) == seen)
			sched_yield();
		seen++;
		free_once();
		atomic_fetch_add(&finished, 1);
	}
	return NULL;
}

/* An object freed twice is queued twice until its owner reclaims it. No two allocs may return
 * it. */
static void check_distinct(void)
{
	static void *all[COUNT];
	unsigned count = pool ? COUNT : COUNT / 2;

	for (unsigned i = 0; i < count; i++) {
		uint64_t *one = all[i] = alloc_one();
		CHECK(one);
		one[0] = i;
	}
	CHECK(!pool || !alloc_one());
	for (unsigned i = 0; i < count; i++)
		CHECK(*(uint64_t *)all[i] == i && free_one(all[i]) == 0);
}

static void run(void)
{
	pthread_t threads[THREADS];
	unsigned twice = 0;

	round_number = finished = 0;
	for (unsigned i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, work, NULL) == 0);
	for (unsigned round = 0; round < ROUNDS; round++) {
		object = alloc_one();
		CHECK(object);
		accepted = 0;
		atomic_store(&round_number, round + 1);
		if (round % 2)
			free_once(); /* by the thread that allocated it, too */
		while (atomic_load(&finished) < (round + 1) * THREADS)
			sched_yield();
		CHECK(accepted >= 1);
		twice += accepted - 1;
	}
	for (unsigned i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	check_distinct();
	CHECK((pool ? mematlas_pool_check(pool) : mematlas_arena_check(arena)) == 0);
	printf("%s: %u of %u rounds had a double free that both calls accepted\n",
	       pool ? "pool" : "arena", twice, ROUNDS);
}

/* Two threads free a slot, and the second message waits in a batch until the slot is allocated with the same
 * word again, 2^16 allocs later. That alloc is not freed by the message, nor refuses its own free. */
static void check_repeated_word(void)
{
	const uint32_t word = 7 * GENERATION_STEP + 1;
	struct slot slot = {0};

	for (unsigned late = 0; late < 2; late++) {
		slot_alloc(&slot, word);
		SET(slot.remote_freed, word);
		CHECK(slot_reclaim(&slot, word)); /* the first message */
		if (late)
			SET(slot.remote_freed, word); /* the second thread's store */
		slot_alloc(&slot, word);
		CHECK(slot_in_use(&slot) && !slot_reclaim(&slot, word) && slot_in_use(&slot));
		CHECK(slot_free(&slot, 1) && !slot_in_use(&slot));
	}
	/* A thread that was late with an earlier word does not void the message of this alloc. */
	slot_alloc(&slot, word);
	SET(slot.remote_freed, word);
	SET(slot.remote_freed, word - GENERATION_STEP);
	CHECK(!slot_reclaim(&slot, word - GENERATION_STEP) && slot_reclaim(&slot, word));
}

int main(void)
{
	struct mematlas_pool_stats stats;

	check_repeated_word();
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
