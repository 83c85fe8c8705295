/* The arena: blocks never overlap, invalid frees change nothing, and free memory returns to the
 * kernel. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mematlas.h"
#include "check.h"

#define THREADS 4
#define TABLE 512
#define CAPACITY (1ull << 30)

static struct mematlas_arena *arena;
static _Atomic(uint64_t *) shared[256]; /* blocks that threads pass to each other */

static uint64_t random_next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return *seed >> 33;
}

/* Mostly slots, sometimes whole pages, seldom large blocks. */
static uint64_t random_size(uint64_t *seed)
{
	uint64_t kind = random_next(seed) % 1000;

	if (kind < 900)
		return 16 + random_next(seed) % 1000;
	if (kind < 985)
		return 16 + random_next(seed) % 150000;
	return kind < 998 ? 140000 + random_next(seed) % 300000
			  : (2u << 20) + random_next(seed) % 100000;
}

static struct mematlas_arena_stats stats(void)
{
	struct mematlas_arena_stats now;

	mematlas_arena_read_stats(arena, &now);
	return now;
}

static void make(void)
{
	CHECK(mematlas_arena_create(CAPACITY, &arena) == 0);
}

static void end(void)
{
	struct mematlas_arena_stats now = stats();

	CHECK(mematlas_arena_check(arena) == 0);
	CHECK(now.small_blocks == 0 && now.page_blocks == 0 && now.large_blocks == 0);
	CHECK(now.allocs == now.frees);
	mematlas_arena_destroy(arena);
}

/* A block carries its size and a name at both ends, which must be intact when it is freed. */
static uint64_t *alloc_marked(uint64_t size, uint64_t alignment, uint64_t name)
{
	uint64_t *block = mematlas_arena_alloc(arena, size, alignment);

	CHECK(block && ((uintptr_t)block & ((alignment ? alignment : 16) - 1)) == 0);
	CHECK(mematlas_arena_usable_size(arena, block) >= (int64_t)size);
	block[0] = size;
	block[1] = name;
	if (size >= 24)
		memcpy((char *)block + size - 8, &block[1], 8);
	return block;
}

static void check_mark(uint64_t *block)
{
	if (block[0] >= 24)
		CHECK(memcmp((char *)block + block[0] - 8, &block[1], 8) == 0);
}

static void free_marked(uint64_t *block)
{
	check_mark(block);
	block[0] = 0xdeadbeef;
	CHECK(mematlas_arena_free(arena, block) == 0);
}

static void *pass_blocks(void *argument)
{
	uint64_t me = (uint64_t)(uintptr_t)argument, seed = me * 0x9e3779b97f4a7c15ull;
	uint64_t *own[TABLE] = {0};

	for (int step = 0; step < 60000; step++) {
		uint64_t **at = &own[random_next(&seed) % TABLE];
		if (*at && random_next(&seed) % 4 == 0)
			*at = atomic_exchange(&shared[random_next(&seed) % 256], *at);
		if (*at)
			free_marked(*at);
		*at = alloc_marked(random_size(&seed), random_next(&seed) % 50 ? 0 : 64, seed);
	}
	for (unsigned i = 0; i < TABLE; i++)
		if (own[i])
			free_marked(own[i]);
	return NULL;
}

static uint64_t resident_pages(void)
{
	static unsigned char resident[CAPACITY / 4096];
	uint64_t start, length, count = 0, page = (uint64_t)sysconf(_SC_PAGESIZE);

	mematlas_arena_range(arena, &start, &length);
	CHECK(mincore((void *)(uintptr_t)start, stats().usable_bytes, resident) == 0);
	uint64_t pages = stats().usable_bytes / page;
	for (uint64_t i = 0; i < pages; i++)
		count += resident[i] & 1;
	return count;
}

static void test_threads(void)
{
	pthread_t threads[THREADS];

	make();
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, pass_blocks, (void *)(i + 1)) == 0);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	for (unsigned i = 0; i < 256; i++)
		if (shared[i])
			free_marked(shared[i]);
	CHECK(mematlas_arena_check(arena) == 0);
	mematlas_arena_trim(arena);
	CHECK(stats().usable_bytes == stats().released_bytes && resident_pages() == 0);
	end();
}

static void test_mistakes(void)
{
	char elsewhere[64];

	make();
	char *small = mematlas_arena_alloc(arena, 100, 0),
	     *pages = mematlas_arena_alloc(arena, 200000, 0);
	char *large = mematlas_arena_alloc(arena, 5 << 20, 0);
	CHECK(mematlas_arena_free(arena, small + 16) == -EINVAL);
	CHECK(mematlas_arena_free(arena, small + 1) == -EINVAL);
	CHECK(mematlas_arena_free(arena, pages + 8192) == -EINVAL);
	CHECK(mematlas_arena_free(arena, pages + 16) == -EINVAL);
	CHECK(mematlas_arena_free(arena, large + 4096) == -EINVAL);
	CHECK(mematlas_arena_free(arena, elsewhere) == -EFAULT);
	CHECK(mematlas_arena_free(arena, NULL) == -EFAULT);
	CHECK(mematlas_arena_usable_size(arena, small) == 112 &&
	      mematlas_arena_usable_size(arena, elsewhere) < 0);
	CHECK(mematlas_arena_free(arena, small) == 0 &&
	      mematlas_arena_free(arena, small) == -EALREADY);
	CHECK(mematlas_arena_free(arena, pages) == 0 &&
	      mematlas_arena_free(arena, pages) == -EALREADY);
	CHECK(mematlas_arena_free(arena, large) == 0 &&
	      mematlas_arena_free(arena, large) == -EFAULT);
	CHECK(!mematlas_arena_alloc(arena, UINT64_MAX, 0) && !mematlas_arena_alloc(arena, 100, 24));
	CHECK(!mematlas_arena_calloc(arena, UINT64_MAX / 2, 4));
	void *gone = small;
	CHECK(mematlas_arena_resize(arena, &gone, 10) == -EALREADY && gone == small);
	end();
	CHECK(mematlas_arena_create(0, &arena) == -EINVAL);
	CHECK(mematlas_arena_create(1ull << 40, &arena) == -EINVAL);
	mematlas_arena_destroy(NULL);
}

static void test_alignment(void)
{
	void *blocks[200];
	unsigned count = 0;

	make();
	for (uint64_t alignment = 1; alignment <= 1ull << 22; alignment *= 2)
		for (uint64_t size = 0; size < 200000; size = size * 3 + 1) {
			char *block = mematlas_arena_alloc(arena, size, alignment);
			CHECK(block && ((uintptr_t)block & (alignment - 1)) == 0);
			memset(block, 0xa5, size);
			if (count < 200)
				blocks[count++] = block;
			else
				CHECK(mematlas_arena_free(arena, block) == 0);
		}
	while (count)
		CHECK(mematlas_arena_free(arena, blocks[--count]) == 0);
	end();
}

static void test_resize(void)
{
	uint64_t seed = 5, size = 16, step;
	unsigned char *block;

	make();
	block = mematlas_arena_calloc(arena, 1, size);
	for (step = 0; step < 2000; step++) {
		uint64_t wanted = random_size(&seed), common = wanted < size ? wanted : size;
		for (uint64_t i = 0; i < size; i += 7)
			block[i] = (unsigned char)(i ^ step);
		CHECK(mematlas_arena_resize(arena, (void **)&block, wanted) == 0);
		for (uint64_t i = 0; i < common; i += 7)
			CHECK(block[i] == (unsigned char)(i ^ step));
		size = wanted;
	}
	CHECK(mematlas_arena_free(arena, block) == 0);
	unsigned char *zeroed = mematlas_arena_calloc(arena, 1000, 10);
	for (unsigned i = 0; i < 10000; i++)
		CHECK(zeroed[i] == 0);
	CHECK(mematlas_arena_free(arena, zeroed) == 0);
	end();
}

/* Frees an address near a live block. Returns whether the arena refused the address. */
static bool free_wrong_address(uint64_t *const *live, unsigned held, uint64_t *seed)
{
	char *near = (char *)live[random_next(seed) % held] + 1 + random_next(seed) % 100000;

	for (unsigned i = 0; i < held; i++)
		if (near == (char *)live[i])
			return false;
	return mematlas_arena_free(arena, near) != 0;
}

/* Random frees, valid, repeated and of wrong addresses, leave live blocks intact. */
static void test_fuzz(uint64_t seed)
{
	static uint64_t *live[4096];
	unsigned held = 0, refused = 0;

	make();
	for (int step = 0; step < 100000; step++) {
		uint64_t kind = random_next(&seed) % 8;
		if (kind < 4 && held < 4096) {
			live[held++] = alloc_marked(random_size(&seed), 0, seed);
		} else if (kind < 6 && held) {
			unsigned at = (unsigned)(random_next(&seed) % held);
			uint64_t *block = live[at];
			free_marked(block);
			live[at] = live[--held];
			CHECK(mematlas_arena_free(arena, block) != 0);
		} else if (held) {
			refused += free_wrong_address(live, held, &seed);
		}
	}
	CHECK(refused > 1000);
	CHECK(mematlas_arena_check(arena) == 0);
	while (held)
		free_marked(live[--held]);
	end();
}

static void *hold_some(void *argument)
{
	uint64_t *blocks[100];

	for (unsigned i = 0; i < 100; i++)
		blocks[i] = alloc_marked(200, 0, i);
	for (unsigned i = 1; i < 100; i++)
		free_marked(blocks[i]); /* the thread's magazine holds some now */
	pthread_barrier_wait(argument);
	pthread_barrier_wait(argument);
	free_marked(blocks[0]);
	return NULL;
}

static void test_fork(void)
{
	pthread_barrier_t barrier;
	pthread_t thread;
	int status;

	make();
	CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
	CHECK(pthread_create(&thread, NULL, hold_some, &barrier) == 0);
	pthread_barrier_wait(&barrier);
	uint64_t *own = alloc_marked(200, 0, 7);
	pid_t child = fork();
	if (child == 0) {
		if (mematlas_arena_check(arena) || stats().small_blocks != 2)
			_exit(1);
		free_marked(own);
		for (unsigned i = 0; i < 10000; i++)
			alloc_marked(200, 0, i);
		_exit(mematlas_arena_check(arena) || stats().small_blocks != 10001 ? 2 : 0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	pthread_barrier_wait(&barrier);
	CHECK(pthread_join(thread, NULL) == 0);
	check_mark(own);
	free_marked(own);
	end();
	pthread_barrier_destroy(&barrier);
}

static void alloc_touched(void **blocks, unsigned count, uint64_t size)
{
	for (unsigned i = 0; i < count; i++) {
		blocks[i] = mematlas_arena_alloc(arena, size, 0);
		CHECK(blocks[i]);
		memset(blocks[i], 1, size);
	}
}

/* Runs of pages are released one by one, before they merge. */
static void test_trim(void)
{
	static void *blocks[1000];

	make();
	alloc_touched(blocks, 1000, 200000);
	for (unsigned parity = 0; parity < 2; parity++) {
		for (unsigned i = parity; i < 1000; i += 2)
			CHECK(mematlas_arena_free(arena, blocks[i]) == 0);
		mematlas_arena_trim(arena);
		CHECK(mematlas_arena_check(arena) == 0);
	}
	CHECK(stats().usable_bytes == stats().released_bytes && resident_pages() == 0);
	end();
}

/* Slots of several pages go back one by one, also out of spans that are in use in part. */
static void test_trim_slots(void)
{
	static void *blocks[1000];
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	make();
	alloc_touched(blocks, 1000, 65536);
	for (unsigned i = 0; i < 1000; i++)
		if (i % 4)
			CHECK(mematlas_arena_free(arena, blocks[i]) == 0);
	CHECK(mematlas_arena_trim(arena) == 750 * 65536 && mematlas_arena_trim(arena) == 0);
	CHECK(mematlas_arena_check(arena) == 0 && resident_pages() * page == 250 * 65536);
	for (unsigned i = 0; i < 1000; i += 4)
		CHECK(mematlas_arena_free(arena, blocks[i]) == 0);
	mematlas_arena_trim(arena);
	CHECK(stats().returned_bytes == 1000 * 65536 && resident_pages() == 0);
	end();
}

/* More free memory than the arena retains: what blocks return to released runs is counted once. */
static void test_retained(void)
{
	static void *blocks[1280];
	const uint64_t touched = 1280ull * 204800;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	make();
	alloc_touched(blocks, 1280, 204800);
	for (unsigned i = 0; i < 1280; i++)
		CHECK(mematlas_arena_free(arena, blocks[i]) == 0);
	struct mematlas_arena_stats now = stats();
	CHECK(now.returned_bytes <= touched && now.returned_bytes >= touched / 2);
	CHECK(resident_pages() * page <= now.free_bytes - now.released_bytes);
	mematlas_arena_trim(arena);
	CHECK(stats().returned_bytes == touched && resident_pages() == 0);
	end();
}

/* A full arena returns NULL, until any thread has freed a block. */
static void *free_all(void *argument)
{
	void **blocks = argument;

	for (unsigned i = 0; blocks[i]; i++)
		CHECK(mematlas_arena_free(arena, blocks[i]) == 0);
	return NULL;
}

static void test_full(void)
{
	static void *blocks[5000];
	unsigned count = 0;
	pthread_t thread;

	CHECK(mematlas_arena_create(4 << 20, &arena) == 0);
	while ((blocks[count] = mematlas_arena_alloc(arena, 1024, 0)))
		count++;
	CHECK(count == (4 << 20) / 1024 && stats().failed_allocs == 1);
	CHECK(pthread_create(&thread, NULL, free_all, blocks) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	for (unsigned i = 0; i < count; i++)
		CHECK((blocks[i] = mematlas_arena_alloc(arena, 1024, 0)));
	free_all(blocks);
	end();
}

int main(void)
{
	test_mistakes();
	test_alignment();
	test_resize();
	test_fuzz(1);
	test_fuzz(2);
	test_threads();
	test_fork();
	test_trim();
	test_trim_slots();
	test_retained();
	test_full();
	return 0;
}
