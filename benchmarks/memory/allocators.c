/* The cost of one operation, of the slowest thread, and what memory it took.
 *
 *     allocators PATTERN THREADS OPERATIONS
 *
 * Prints ns of wall time, ns of CPU time, highest RSS and RSS at the end in KiB. The patterns are in
 * patterns.c. The whole pattern runs once before, with a tenth of the operations, so that no page
 * fault of a cold allocator is counted. Built three times: with -DPOOL, with -DARENA, and with
 * neither for malloc(3), which LD_PRELOAD may replace. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "allocator.h"
#include "patterns.h"

#define MAX_THREADS 64u

static const struct pattern *pattern;
static pthread_barrier_t ready;

#if defined POOL
struct mematlas_pool *pool;
static int create_allocator(void)
{
	return mematlas_pool_create(64, 1 << 16, 64, -1, &pool);
}
#elif defined ARENA
struct mematlas_arena *arena;
static int create_allocator(void)
{
	return mematlas_arena_create(1ull << 34, &arena);
}
#else
static int create_allocator(void)
{
	return 0;
}
#endif

static double now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void *work(void *argument)
{
	struct worker *self = argument;
	unsigned long operations = self->operations;

	self->operations = operations / 10 + 1;
	pattern->run(self);
	self->operations = operations;
	pthread_barrier_wait(&ready);
	double wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_THREAD_CPUTIME_ID);
	pattern->run(self);
	self->wall = (now(CLOCK_MONOTONIC) - wall) / (double)operations;
	self->cpu = (now(CLOCK_THREAD_CPUTIME_ID) - cpu) / (double)operations;
	return NULL;
}

/* A line of /proc/self/status in KiB, -1: there is none. */
static long status_kib(const char *format)
{
	FILE *file = fopen("/proc/self/status", "r");
	char line[256];
	long kib = -1;

	while (file && kib < 0 && fgets(line, sizeof line, file))
		if (sscanf(line, format, &kib) != 1)
			kib = -1;
	if (file)
		fclose(file);
	return kib;
}

static void measure(unsigned threads, unsigned long operations)
{
	static struct worker workers[MAX_THREADS];
	double wall = 0, cpu = 0;

	pthread_barrier_init(&ready, NULL, threads);
	for (unsigned i = 0; i < threads; i++) {
		workers[i] = (struct worker){.number = i,
					     .threads = threads,
					     .operations = operations,
					     .seed = 88172645463325252u + i * 77777u};
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		wall = workers[i].wall > wall ? workers[i].wall : wall;
		cpu = workers[i].cpu > cpu ? workers[i].cpu : cpu;
	}
	printf("%.3f %.3f %ld %ld\n", wall, cpu, status_kib("VmHWM: %ld"),
	       status_kib("VmRSS: %ld"));
}

int main(int argc, char **argv)
{
	pattern = argc == 4 ? find_pattern(argv[1]) : NULL;
	unsigned threads = pattern ? (unsigned)atoi(argv[2]) : 0;
	if (!pattern || threads < pattern->least_threads || threads > MAX_THREADS ||
	    threads % pattern->least_threads)
		return 2;
	if (create_allocator() != 0)
		return 2;
	measure(threads, strtoul(argv[3], NULL, 10));
	return 0;
}
