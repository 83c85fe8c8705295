/* mematlas_alloc_work: what allocation costs, with whatever malloc this process was given by
 * LD_PRELOAD, or with mematlas's own pool or arena. Prints the library malloc is in, the operations and the
 * nanoseconds of all threads; of `hold` the resident bytes.
 *
 *   mematlas_alloc_work ALLOCATOR PATTERN SIZE LIVE THREADS MILLISECONDS
 *
 * SIZE 0 draws sizes from 16 to 4096 bytes, small ones as often as large ones by their logarithm. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alloc_work.h"

#define ARENA_BYTES (16ull << 30) /* of address space */

static atomic_bool started, stopped;
static atomic_uint ready;

static void *take_malloc(size_t size)
{
	return malloc(size);
}

static void give_malloc(void *object)
{
	free(object);
}

static struct mematlas_pool *pool;

static void *take_pool(size_t size)
{
	(void)size;
	return mematlas_pool_take(pool);
}

static void give_pool(void *object)
{
	mematlas_pool_give(pool, object);
}

static struct mematlas_arena *arena;

static void *take_arena(size_t size)
{
	return mematlas_arena_take(arena, size, 16);
}

static void give_arena(void *object)
{
	mematlas_arena_give(arena, object);
}

uint64_t draw(uint64_t *seed)
{
	*seed ^= *seed << 13; /* xorshift64 */
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

size_t draw_size(const struct work *work, uint64_t *seed)
{
	if (work->size)
		return work->size;
	uint64_t random = draw(seed);
	size_t octave = (size_t)16 << (random >> 32) % 8;
	return octave + (random & 0xffffff) % octave;
}

void *take_one(const struct work *work, uint64_t *seed)
{
	size_t size = draw_size(work, seed);
	char *object = work->take(size);

	if (!object) {
		fprintf(stderr, "no memory for %zu bytes\n", size);
		exit(1);
	}
	object[0] = (char)size; /* used as a program would, and not optimised away */
	return object;
}

bool work_goes_on(void)
{
	return !atomic_load_explicit(&stopped, memory_order_relaxed);
}

void work_begins(void)
{
	atomic_fetch_add(&ready, 1);
	while (!atomic_load_explicit(&started, memory_order_acquire))
		sched_yield();
}

static void run_threads(struct worker *workers, const struct work *work)
{
	for (unsigned i = 0; i < work->threads; i++)
		if (pthread_create(&workers[i].thread, NULL, work->pattern, &workers[i]) != 0) {
			fprintf(stderr, "thread %u could not be started\n", i + 1);
			exit(1);
		}
	while (atomic_load(&ready) < work->threads)
		sched_yield();
	atomic_store_explicit(&started, true, memory_order_release);
	usleep((useconds_t)work->milliseconds * 1000);
	atomic_store(&stopped, true);
	for (unsigned i = 0; i < work->threads; i++)
		pthread_join(workers[i].thread, NULL);
}

static void measure(struct work *work)
{
	struct worker *workers = aligned_alloc(128, work->threads * sizeof(*workers));
	uint64_t operations = 0, ns = 0;

	for (unsigned i = 0; i < work->threads; i++)
		workers[i] =
			(struct worker){.work = work, .number = i, .seed = 88172645463325252u + i};
	pair_up(workers, work);
	run_threads(workers, work);
	for (unsigned i = 0; i < work->threads; i++) {
		operations += workers[i].operations;
		ns += workers[i].operations ? workers[i].ns : 0;
		if (i % 2 == 0)
			free(workers[i].channel);
	}
	printf("operations %llu\nns %llu\n", (unsigned long long)operations,
	       (unsigned long long)ns);
	free(workers);
}

static int choose_allocator(struct work *work, const char *name)
{
	uint64_t count = ((uint64_t)work->live + 256) * work->threads;

	if (strcmp(name, "malloc") == 0) {
		work->take = take_malloc;
		work->give = give_malloc;
		return 0;
	}
	if (strcmp(name, "arena") == 0) {
		work->take = take_arena;
		work->give = give_arena;
		return mematlas_arena_create(ARENA_BYTES, &arena);
	}
	if (strcmp(name, "pool") != 0)
		return -EINVAL;
	work->take = take_pool;
	work->give = give_pool;
	return mematlas_pool_create(work->size, count, 16, -1, &pool);
}

/* Tells whose malloc this is: a library that LD_PRELOAD did not find is only a warning. */
static void print_library(void)
{
	Dl_info info;

	if (dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) && info.dli_fname)
		printf("library %s\n", info.dli_fname);
}

static unsigned long number(const char *text)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*text == '\0' || *end != '\0') {
		fprintf(stderr, "not a number: %s\n", text);
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	struct work work;

	if (argc != 7) {
		fprintf(stderr,
			"usage: %s malloc|pool|arena churn|batch|handoff|hold "
			"SIZE LIVE THREADS MILLISECONDS\n",
			argv[0]);
		return 2;
	}
	work = (struct work){.size = number(argv[3]),
			     .live = number(argv[4]),
			     .threads = (unsigned)number(argv[5]),
			     .milliseconds = (unsigned)number(argv[6])};
	if (!work.live || !work.threads || choose_allocator(&work, argv[1]) != 0) {
		fprintf(stderr, "no allocator %s for this size and number\n", argv[1]);
		return 2;
	}
	print_library();
	if (strcmp(argv[2], "hold") == 0)
		return hold_memory(&work);
	work.pattern = find_pattern(argv[2]);
	if (!work.pattern || (work.pattern == hand_off && work.threads % 2)) {
		fprintf(stderr, "no pattern %s for %u threads\n", argv[2], work.threads);
		return 2;
	}
	measure(&work);
	return 0;
}
