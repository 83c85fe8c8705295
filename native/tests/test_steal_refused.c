/* A seccomp filter that a program installs after the creation of an arena or a pool refuses
 * membarrier(2), without which no thread may steal slots: an alloc returns NULL, and the slots stay
 * with their owner. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "check.h"
#include "mematlas.h"
#include "refuse_call.h"

#define COUNT 4096u

static struct mematlas_pool *pool;
static struct mematlas_arena *arena;
static void *blocks[COUNT + 1];

static void *alloc_one(void)
{
	return pool ? mematlas_pool_alloc(pool) : mematlas_arena_alloc(arena, 1024, 0);
}

static int free_one(void *block)
{
	return pool ? mematlas_pool_free(pool, block) : mematlas_arena_free(arena, block);
}

/* Frees the blocks of the main thread into its queue. The filter is that of this thread alone, and
 * so is what the thread can steal: the main thread may not run, since it waits. */
static void *free_and_steal(void *argument)
{
	unsigned count = 0;

	(void)argument;
	for (; blocks[count]; count++)
		CHECK(free_one(blocks[count]) == 0);
	refuse_call(SYS_membarrier, EPERM);
	CHECK(!alloc_one());
	return NULL;
}

static void run(void)
{
	pthread_t thread;
	unsigned count = 0;

	while ((blocks[count] = alloc_one()))
		count++;
	CHECK(count == COUNT);
	CHECK(pthread_create(&thread, NULL, free_and_steal, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK((pool ? mematlas_pool_check(pool) : mematlas_arena_check(arena)) == 0);
	for (unsigned i = 0; i < COUNT; i++)
		CHECK((blocks[i] = alloc_one()));
	for (unsigned i = 0; i < COUNT; i++)
		CHECK(free_one(blocks[i]) == 0);
}

int main(void)
{
	CHECK(mematlas_pool_create(1024, COUNT, 64, -1, &pool) == 0);
	run();
	mematlas_pool_destroy(pool);
	pool = NULL;
	CHECK(mematlas_arena_create(COUNT * 1024ull, &arena) == 0);
	run();
	mematlas_arena_destroy(arena);
	return 0;
}
