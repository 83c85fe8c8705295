/* One way to use an allocator, timed: ns for taking an object and giving it back, by thread.
 *
 *     allocators tight|handoff|larson|mixed THREADS OPERATIONS
 *
 * Built three times: with -DPOOL and -DARENA for ours, without for malloc, whoever's that is. */
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

static unsigned long operations;
static unsigned threads;
static pthread_barrier_t ready;
static struct {
	_Alignas(128) _Atomic unsigned long put;
	_Alignas(128) _Atomic unsigned long got;
	_Alignas(128) void *objects[RING];
} ring;
static void *_Atomic shared[SHARED];

struct worker {
	_Alignas(128) pthread_t thread;
	unsigned number;
	uint64_t dice;
	double ns;
};

#if defined POOL
static struct mematlas_pool *pool;
static int open_allocator(void)
{
	return mematlas_pool_create(64, 1 << 16, 64, -1, &pool);
}
static inline void *take(size_t size)
{
	(void)size;
	return mematlas_pool_alloc(pool);
}
static inline void give(void *object)
{
	mematlas_pool_free(pool, object);
}
#elif defined ARENA
static struct mematlas_arena *arena;
static int open_allocator(void)
{
	return mematlas_arena_create(1ull << 34, &arena);
}
static inline void *take(size_t size)
{
	return mematlas_arena_alloc(arena, size, 0);
}
static inline void give(void *object)
{
	mematlas_arena_free(arena, object);
}
#else
static int open_allocator(void)
{
	return 0;
}
static inline void *take(size_t size)
{
	return malloc(size);
}
static inline void give(void *object)
{
	free(object);
}
#endif

static uint64_t draw(uint64_t *dice)
{
	*dice ^= *dice << 13;
	*dice ^= *dice >> 7;
	*dice ^= *dice << 17;
	return *dice;
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
		void *object = take(64);
		*(volatile unsigned long *)object = i;
		give(object);
	}
}

static void produce(void)
{
	unsigned long got = 0;

	for (unsigned long put = 0; put < operations;) {
		if (put - got ==
		    RING) /* wait for room for many: a queue must not cost more than what it carries */
			while (put - (got = atomic_load_explicit(&ring.got, memory_order_acquire)) >
			       RING / 2)
				sched_yield();
		void *object = take(64);
		if (!object) {
			sched_yield();
			continue;
		}
		*(volatile unsigned long *)object = put;
		ring.objects[put++ % RING] = object;
		if (put % 16 == 0 || put == operations)
			atomic_store_explicit(&ring.put, put, memory_order_release);
	}
}

static void handoff(struct worker *self)
{
	unsigned long put = 0;

	if (self->number == 0) {
		produce();
		return;
	}
	for (unsigned long got = 0; got < operations;) {
		while (put == got &&
		       (put = atomic_load_explicit(&ring.put, memory_order_acquire)) == got)
			sched_yield();
		give(ring.objects[got++ % RING]);
		if (got % 16 == 0 || got == operations)
			atomic_store_explicit(&ring.got, got, memory_order_release);
	}
}

static size_t small_size(uint64_t *dice)
{
	return 16 + (draw(dice) >> 20) % 1000;
}

static size_t any_size(uint64_t *dice)
{
	uint64_t kind = draw(dice) % 100, random = draw(dice) >> 20;

	return 16 + random % (kind < 80 ? 500 : kind < 98 ? 8000 : 100000);
}

/* One of many live blocks is replaced at a time. With `exchange`, one in ten was another thread's. */
static void replace(struct worker *self, size_t (*size)(uint64_t *), int exchange)
{
	void **table = calloc(LIVE, sizeof *table);

	for (unsigned long i = 0; i < operations; i++) {
		void **at = &table[(draw(&self->dice) >> 20) % LIVE];
		if (exchange && (draw(&self->dice) >> 30) % 10 == 0)
			*at = atomic_exchange(&shared[(draw(&self->dice) >> 20) % SHARED], *at);
		if (*at)
			give(*at);
		*at = take(size(&self->dice));
		*(volatile char *)*at = 1;
	}
	for (unsigned i = 0; i < LIVE; i++)
		if (table[i])
			give(table[i]);
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
	double began = now();
	pattern(self);
	self->ns = (now() - began) / (double)operations;
	return NULL;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*pattern)(struct worker *);
	} patterns[] = {
		{"tight", tight}, {"handoff", handoff}, {"larson", larson}, {"mixed", mixed}};
	static struct worker workers[64];
	double slowest = 0;

	for (unsigned i = 0; argc == 4 && i < 4; i++)
		if (strcmp(argv[1], patterns[i].name) == 0)
			pattern = patterns[i].pattern;
	threads = argc == 4 ? (unsigned)atoi(argv[2]) : 0;
	if (!pattern || !threads || threads > 64 || (pattern == handoff && threads != 2) ||
	    open_allocator() != 0)
		return 2;
	operations = strtoul(argv[3], NULL, 10);
	pthread_barrier_init(&ready, NULL, threads);
	for (unsigned i = 0; i < threads; i++) {
		workers[i].number = i;
		workers[i].dice = 88172645463325252u + i * 77777u;
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		slowest = workers[i].ns > slowest ? workers[i].ns : slowest;
	}
	printf("%.3f\n", slowest);
	return 0;
}
