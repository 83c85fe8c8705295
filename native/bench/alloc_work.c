#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "alloc_work.h"

static atomic_bool started, stopped;
static atomic_uint ready;

uint64_t workload_random(uint64_t *seed)
{
	*seed ^= *seed << 13; /* xorshift64 */
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

size_t workload_random_size(const struct workload *workload, uint64_t *seed)
{
	if (workload->size)
		return workload->size;
	uint64_t random = workload_random(seed);
	size_t octave = (size_t)16 << (random >> 32) % 8;
	return octave + (random & 0xffffff) % octave;
}

void *workload_alloc(const struct workload *workload, uint64_t *seed)
{
	size_t size = workload_random_size(workload, seed);
	char *object = workload->alloc(size);

	if (!object) {
		fprintf(stderr, "no memory for %zu bytes\n", size);
		exit(1);
	}
	object[0] = (char)size; /* keeps the compiler from removing the pair of alloc and free */
	return object;
}

bool workload_is_running(void)
{
	return !atomic_load_explicit(&stopped, memory_order_relaxed);
}

void workload_wait_for_start(void)
{
	atomic_fetch_add(&ready, 1);
	while (!atomic_load_explicit(&started, memory_order_acquire))
		sched_yield();
}

void workload_run_threads(struct worker *workers, const struct workload *workload)
{
	for (unsigned i = 0; i < workload->threads; i++)
		if (pthread_create(&workers[i].thread, NULL, workload->pattern, &workers[i]) != 0) {
			fprintf(stderr, "thread %u could not be started\n", i + 1);
			exit(1);
		}
	while (atomic_load(&ready) < workload->threads)
		sched_yield();
	atomic_store_explicit(&started, true, memory_order_release);
	usleep((useconds_t)workload->milliseconds * 1000);
	atomic_store(&stopped, true);
	for (unsigned i = 0; i < workload->threads; i++)
		pthread_join(workers[i].thread, NULL);
}
