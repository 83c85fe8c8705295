/* The parts of mematlas_alloc_work. alloc_main.c calls the patterns, and the patterns call
 * alloc_work.c. */
#ifndef MEMATLAS_BENCH_ALLOC_WORK_H
#define MEMATLAS_BENCH_ALLOC_WORK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "clock.h"
#include "mematlas.h"
#include "start_barrier.h"

struct workload {
	size_t size; /* bytes of an object; 0: random, see workload_random_size() */
	size_t live; /* objects that a thread holds at a time */
	unsigned threads, milliseconds;
	void *(*alloc)(size_t size);
	void (*free)(void *object);
	void *(*pattern)(void *worker); /* thread function */
};

struct channel;

struct worker {
	_Alignas(BENCH_LINE) const struct workload *workload;
	struct channel *channel; /* pattern_handoff only; shared by workers 2n and 2n + 1 */
	unsigned number;
	uint64_t seed;
	uint64_t operations; /* pairs of one alloc and one free */
	uint64_t ns;
	pthread_t thread;
};

/* alloc_work.c */
uint64_t workload_random(uint64_t *seed);
/* Log-uniform in [16, 4096) bytes where the workload has no fixed size. */
size_t workload_random_size(const struct workload *workload, uint64_t *seed);
/* Allocate and write one object. Exit with status 1 if the allocator returns NULL. */
void *workload_alloc(const struct workload *workload, uint64_t *seed);
/* Block until workload_run_threads() has started all threads. */
void workload_wait_for_start(void);
bool workload_is_running(void);
/* Run the pattern in all workers for workload->milliseconds. */
void workload_run_threads(struct worker *workers, const struct workload *workload);

/* alloc_patterns.c */
void *(*pattern_find(const char *name))(void *);
void *pattern_handoff(void *worker);
/* Connect each even worker with the next odd one if the pattern is pattern_handoff. */
void pattern_connect(struct worker *workers, const struct workload *workload);

/* alloc_hold.c: print the resident bytes of a workload. Returns the exit status. */
int hold_run(const struct workload *workload);

#endif
