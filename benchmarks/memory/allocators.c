/* The nanoseconds for one alloc and one free, of the slowest thread.
 *
 *     allocators tight|handoff|larson|mixed THREADS OPERATIONS
 *
 * Built three times: with -DPOOL, with -DARENA, and with neither for malloc(3), which LD_PRELOAD
 * may replace. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined POOL || defined ARENA
#include "mematlas.h"
#endif

#define RING 4096u
#define SHARED 4096u
#define LIVE 5000u
#define MAX_THREADS 64u

static unsigned long operations;
static unsigned threads;
static pthread_barrier_t ready;
static struct {
	_Alignas(128) _Atomic unsigned long allocated;
	_Alignas(128) _Atomic unsigned long freed;
	_Alignas(128) void *objects[RING];
} ring;
static void *_Atomic shared[SHARED];

struct worker {
	_Alignas(128) pthread_t thread;
	unsigned number;
	uint64_t seed;
	double ns;
};

#if defined POOL
static struct mematlas_pool *pool;
static int create_allocator(void)
{
	return mematlas_pool_create(64, 1 << 16, 64, -1, &pool);
}
static inline void *alloc_object(size_t size)
{
	(void)size;
	return mematlas_pool_alloc(pool);
}
static inline void free_object(void *object)
{
	mematlas_pool_free(pool, object);
}
#elif defined ARENA
static struct mematlas_arena *arena;
static int create_allocator(void)
{
	return mematlas_arena_create(1ull << 34, &arena);
}
static inline void *alloc_object(size_t size)
{
	return mematlas_arena_alloc(arena, size, 0);
}
static inline void free_object(void *object)
{
	mematlas_arena_free(arena, object);
}
#else
static int create_allocator(void)
{
	return 0;
}
static inline void *alloc_object(size_t size)
{
	return malloc(size);
}
static inline void free_object(void *object)
{
	free(object);
}
#endif

static uint64_t random_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void tight(struct worker *self)
{
	(void)self;
	for (unsigned long i = 0; i < operations; i++) {
		void *object = alloc_object(64);
		*(volatile unsigned long *)object = i;
		free_object(object);
	}
}

static void produce(void)
{
	unsigned long freed = 0;

	for (unsigned long allocated = 0; allocated < operations;) {
		if (allocated - freed ==
		    RING) /* until half is free, so that the queue costs less than the objects */
			while (allocated - (freed = atomic_load_explicit(&ring.freed,
									 memory_order_acquire)) >
			       RING / 2)
				sched_yield();
		void *object = alloc_object(64);
		if (!object) {
			sched_yield();
			continue;
		}
		*(volatile unsigned long *)object = allocated;
		ring.objects[allocated++ % RING] = object;
		if (allocated % 16 == 0 || allocated == operations)
			atomic_store_explicit(&ring.allocated, allocated, memory_order_release);
	}
}

static void handoff(struct worker *self)
{
	unsigned long allocated = 0;

	if (self->number == 0) {
		produce();
		return;
	}
	for (unsigned long freed = 0; freed < operations;) {
		while (allocated == freed &&
		       (allocated = atomic_load_explicit(&ring.allocated, memory_order_acquire)) ==
			       freed)
			sched_yield();
		free_object(ring.objects[freed++ % RING]);
		if (freed % 16 == 0 || freed == operations)
			atomic_store_explicit(&ring.freed, freed, memory_order_release);
	}
}

static size_t small_size(uint64_t *seed)
{
	return 16 + (random_next(seed) >> 20) % 1000;
}

static size_t any_size(uint64_t *seed)
{
	uint64_t kind = random_next(seed) % 100, random = random_next(seed) >> 20;

	return 16 + random % (kind < 80 ? 500 : kind < 98 ? 8000 : 100000);
}

/* Replaces one of many live blocks at a time. With `pass`, one block in ten comes from another
 * thread. */
static void replace(struct worker *self, size_t (*size)(uint64_t *), int pass)
{
	void **table = calloc(LIVE, sizeof *table);

	for (unsigned long i = 0; i < operations; i++) {
		void **at = &table[(random_next(&self->seed) >> 20) % LIVE];
		if (pass && (random_next(&self->seed) >> 30) % 10 == 0)
			*at = atomic_exchange(&shared[(random_next(&self->seed) >> 20) % SHARED],
					      *at);
		if (*at)
			free_object(*at);
		*at = alloc_object(size(&self->seed));
		*(volatile char *)*at = 1;
	}
	for (unsigned i = 0; i < LIVE; i++)
		if (table[i])
			free_object(table[i]);
	free(table);
}

static void larson(struct worker *self)
{
	replace(self, small_size, 0);
}

static void mixed(struct worker *self)
{
	replace(self, any_size, 1);
}

static void (*pattern)(struct worker *);

static void *work(void *argument)
{
	struct worker *self = argument;

	pthread_barrier_wait(&ready);
	double start = now();
	pattern(self);
	self->ns = (now() - start) / (double)operations;
	return NULL;
}

/* Returns the nanoseconds of the slowest thread. */
static double measure(void)
{
	static struct worker workers[MAX_THREADS];
	double slowest = 0;

	pthread_barrier_init(&ready, NULL, threads);
	for (unsigned i = 0; i < threads; i++) {
		workers[i].number = i;
		workers[i].seed = 88172645463325252u + i * 77777u;
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		slowest = workers[i].ns > slowest ? workers[i].ns : slowest;
	}
	return slowest;
}

static void find_pattern(const char *name)
{
	static const struct {
		const char *name;
		void (*pattern)(struct worker *);
	} patterns[] = {
		{"tight", tight}, {"handoff", handoff}, {"larson", larson}, {"mixed", mixed}};

	for (unsigned i = 0; i < 4; i++)
		if (strcmp(name, patterns[i].name) == 0)
			pattern = patterns[i].pattern;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	find_pattern(argv[1]);
	threads = (unsigned)atoi(argv[2]);
	operations = strtoul(argv[3], NULL, 10);
	if (!pattern || !threads || threads > MAX_THREADS || (pattern == handoff && threads != 2))
		return 2;
	if (create_allocator() != 0)
		return 2;
	printf("%.3f\n", measure());
	return 0;
}
