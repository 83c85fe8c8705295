/* Patterns of allocation. Those named after a program follow what the collection mimalloc-bench says
 * of it, in own words and code:
 *
 *   larson         Larson and Krishnan: a server; a thread replaces one of many live blocks at a time
 *   mstress        Leijen: blocks of a power law, some kept for ever, some swapped with other threads
 *   xmalloc        Lever and Boreham: one half of the threads allocates what the other half frees
 *   cache-scratch  Berger, Hoard: each thread frees a block that another thread made beside others'
 *   sh6bench       MicroQuill: half of the blocks is freed last in, first out, the rest in order
 *   sh8bench       MicroQuill: as sh6bench, and one block in four is freed by another thread */
#define _GNU_SOURCE
#include "patterns.h"

#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "allocator.h"

#define RING 4096u
#define SHARED 4096u
#define LIVE 5000u

static struct ring {
	_Alignas(128) _Atomic unsigned long allocated;
	_Alignas(128) _Atomic unsigned long freed;
	_Alignas(128) void *objects[RING];
} rings[32];
static void *_Atomic shared[SHARED];

static uint64_t random_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void touch(void *object, unsigned long value)
{
	*(volatile unsigned long *)object = value;
}

static void *swap_shared(uint64_t *seed, void *object)
{
	return atomic_exchange(&shared[(random_next(seed) >> 20) % SHARED], object);
}

static void tight(struct worker *self)
{
	for (unsigned long i = 0; i < self->operations; i++) {
		void *object = alloc_object(64);
		touch(object, i);
		free_object(object);
	}
}

static size_t size_64(uint64_t *seed)
{
	(void)seed;
	return 64;
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

static size_t tiny_size(uint64_t *seed)
{
	return 8 + (random_next(seed) >> 20) % 120;
}

static size_t power_size(uint64_t *seed)
{
	uint64_t random = random_next(seed);
	unsigned doublings = (unsigned)__builtin_ctzll(random | 1u << 12);

	return (16 + (random >> 40) % 16) << doublings;
}

static void produce(struct worker *self, struct ring *ring, size_t (*size)(uint64_t *))
{
	unsigned long freed = atomic_load(&ring->freed), allocated = atomic_load(&ring->allocated);

	for (unsigned long end = allocated + self->operations; allocated < end;) {
		if (allocated - freed ==
		    RING) /* until half is free, so that the queue costs less than the objects */
			while (allocated - (freed = atomic_load_explicit(&ring->freed,
									 memory_order_acquire)) >
			       RING / 2)
				sched_yield();
		void *object = alloc_object(size(&self->seed));
		if (!object) {
			sched_yield();
			continue;
		}
		touch(object, allocated);
		ring->objects[allocated++ % RING] = object;
		if (allocated % 16 == 0 || allocated == end)
			atomic_store_explicit(&ring->allocated, allocated, memory_order_release);
	}
}

static void consume(struct worker *self, struct ring *ring)
{
	unsigned long freed = atomic_load(&ring->freed), allocated = freed;

	for (unsigned long end = freed + self->operations; freed < end;) {
		while (allocated == freed &&
		       (allocated = atomic_load_explicit(&ring->allocated, memory_order_acquire)) ==
			       freed)
			sched_yield();
		free_object(ring->objects[freed++ % RING]);
		if (freed % 16 == 0 || freed == end)
			atomic_store_explicit(&ring->freed, freed, memory_order_release);
	}
}

static void handoff(struct worker *self)
{
	if (self->number % 2 == 0)
		produce(self, &rings[self->number / 2], size_64);
	else
		consume(self, &rings[self->number / 2]);
}

static void xmalloc(struct worker *self)
{
	if (self->number % 2 == 0)
		produce(self, &rings[self->number / 2], tiny_size);
	else
		consume(self, &rings[self->number / 2]);
}

/* Replaces one of many live blocks at a time. With `pass`, one block in ten comes from another
 * thread. */
static void replace(struct worker *self, size_t (*size)(uint64_t *), int pass)
{
	void **table = calloc(LIVE, sizeof *table);

	for (unsigned long i = 0; i < self->operations; i++) {
		void **at = &table[(random_next(&self->seed) >> 20) % LIVE];
		if (pass && (random_next(&self->seed) >> 30) % 10 == 0)
			*at = swap_shared(&self->seed, *at);
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

#define BURST 1000u

static void mstress(struct worker *self)
{
	unsigned long kept = 0, most_kept = self->operations / 20;
	void **keep = calloc(most_kept + 1, sizeof *keep);

	for (unsigned long i = 0; i < self->operations; i += BURST) {
		void *burst[BURST];
		for (unsigned j = 0; j < BURST; j++) {
			burst[j] = alloc_object(power_size(&self->seed));
			touch(burst[j], j);
		}
		for (unsigned j = 0; j < BURST; j++) {
			uint64_t kind = random_next(&self->seed) % 100;
			if (kind < 5 && kept < most_kept) {
				keep[kept++] = burst[j];
				continue;
			}
			if (kind < 25)
				burst[j] = swap_shared(&self->seed, burst[j]);
			if (burst[j])
				free_object(burst[j]);
		}
	}
	while (kept)
		free_object(keep[--kept]);
	free(keep);
}

/* Beside each other in memory, unless the allocator keeps the blocks of two threads apart. */
static void scratch(struct worker *self)
{
	void *given = alloc_object(8);

	given = atomic_exchange(&shared[self->number], given);
	while (!given) {
		sched_yield();
		given = atomic_exchange(&shared[(self->number + 1) % self->threads], NULL);
	}
	free_object(given);
	for (unsigned long i = 0; i < self->operations; i++) {
		void *object = alloc_object(8);
		for (unsigned j = 0; j < 20; j++)
			touch(object, j);
		free_object(object);
	}
}

#define GROUP 400u

static void sh(struct worker *self, int pass)
{
	for (unsigned long i = 0; i < self->operations; i += GROUP) {
		void *group[GROUP];
		for (unsigned j = 0; j < GROUP; j++) {
			group[j] = alloc_object(16 + (i / GROUP + j) * 8 % 992);
			touch(group[j], j);
		}
		for (unsigned j = 3; pass && j < GROUP; j += 4)
			group[j] = swap_shared(&self->seed, group[j]);
		for (unsigned j = GROUP; j-- > GROUP / 2;)
			if (group[j])
				free_object(group[j]);
		for (unsigned j = 0; j < GROUP / 2; j++)
			if (group[j])
				free_object(group[j]);
	}
}

static void sh6(struct worker *self)
{
	sh(self, 0);
}

static void sh8(struct worker *self)
{
	sh(self, 1);
}

const struct pattern *find_pattern(const char *name)
{
	static const struct pattern patterns[] = {
		{"tight", tight, 1},           {"handoff", handoff, 2}, {"larson", larson, 1},
		{"mixed", mixed, 1},           {"mstress", mstress, 1}, {"xmalloc", xmalloc, 2},
		{"cache-scratch", scratch, 1}, {"sh6bench", sh6, 1},    {"sh8bench", sh8, 1}};

	for (unsigned i = 0; i < sizeof patterns / sizeof *patterns; i++)
		if (strcmp(name, patterns[i].name) == 0)
			return &patterns[i];
	return NULL;
}
