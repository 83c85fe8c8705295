/* A process forks while other threads allocate and free. The child's copy of the allocators is
 * consistent, wherever those threads were. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mematlas.h"
#include "check.h"

#define THREADS 3
#define FORKS 40
#define COUNT 4000u
#define HELD 200u

static struct mematlas_pool *pool;
static struct mematlas_arena *arena;
static atomic_uint joined;
static atomic_bool stopped;
static _Atomic(void *) shared[64];

static void *work(void *argument)
{
	uint64_t seed = (uint64_t)(uintptr_t)argument * 88172645463325252u;
	void *slots[HELD] = {mematlas_pool_alloc(pool)},
	     *blocks[HELD] = {mematlas_arena_alloc(arena, 1, 0)};

	joined++;
	while (!stopped) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		unsigned at = (unsigned)(seed >> 33) % HELD;
		if (slots[at] && seed >> 60 == 0)
			slots[at] = atomic_exchange(&shared[seed >> 40 & 63], slots[at]);
		if (slots[at])
			CHECK(mematlas_pool_free(pool, slots[at]) == 0);
		slots[at] = mematlas_pool_alloc(pool);
		CHECK(slots[at]);
		if (blocks[at])
			CHECK(mematlas_arena_free(arena, blocks[at]) == 0);
		blocks[at] = mematlas_arena_alloc(arena, (seed >> 20) % 60000, 0);
		CHECK(blocks[at]);
	}
	for (unsigned i = 0; i < HELD; i++) {
		CHECK(!slots[i] || mematlas_pool_free(pool, slots[i]) == 0);
		CHECK(!blocks[i] || mematlas_arena_free(arena, blocks[i]) == 0);
	}
	return NULL;
}

/* In the child: each object that was free at the fork can be allocated and freed. Returns 0, or the
 * number of the check that failed. */
static int use_pool(void)
{
	static void *objects[COUNT];
	struct mematlas_pool_stats stats;
	unsigned allocated = 0;

	mematlas_pool_read_stats(pool, &stats);
	while (allocated < COUNT && (objects[allocated] = mematlas_pool_alloc(pool)))
		allocated++;
	if (allocated + stats.in_use != COUNT)
		return 2;
	while (allocated)
		if (mematlas_pool_free(pool, objects[--allocated]))
			return 3;
	return 0;
}

static int use_arena(void)
{
	static void *blocks[2000];

	for (unsigned i = 0; i < 2000; i++)
		if (!(blocks[i] = mematlas_arena_alloc(arena, i * 20, 0)))
			return 4;
	for (unsigned i = 0; i < 2000; i++)
		if (mematlas_arena_free(arena, blocks[i]))
			return 5;
	return 0;
}

static int use_copy(void)
{
	if (mematlas_pool_check(pool) || mematlas_arena_check(arena))
		return 1;
	int failed = use_pool();
	if (!failed)
		failed = use_arena();
	if (failed)
		return failed;
	return mematlas_pool_check(pool) || mematlas_arena_check(arena) ? 6 : 0;
}

static void fork_once(unsigned number)
{
	int status;
	pid_t child = fork();

	if (child == 0)
		_exit(use_copy());
	CHECK(child > 0 && waitpid(child, &status, 0) == child);
	if (status)
		fprintf(stderr, "child %u: status %#x\n", number, (unsigned)status);
	CHECK(status == 0);
}

int main(void)
{
	pthread_t threads[THREADS];

	CHECK(mematlas_pool_create(64, COUNT, 64, -1, &pool) == 0);
	CHECK(mematlas_arena_create(1ull << 30, &arena) == 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
	/* A thread's first alloc calls calloc(), whose lock AddressSanitizer before GCC 14 leaves
	 * held in a child. */
	while (joined < THREADS)
		usleep(1000);
	for (unsigned i = 0; i < FORKS; i++) {
		usleep(1000);
		fork_once(i);
	}
	stopped = true;
	for (unsigned i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	for (unsigned i = 0; i < 64; i++)
		CHECK(!shared[i] || mematlas_pool_free(pool, shared[i]) == 0);
	CHECK(mematlas_pool_check(pool) == 0 && mematlas_arena_check(arena) == 0);
	mematlas_pool_destroy(pool);
	mematlas_arena_destroy(arena);
	return 0;
}
