/* Threads that change counters at once: what it costs that their counters share a cache line, or are
 * the same. Every thread works until one flag says stop, so none ever runs without the others. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "clock.h"
#include "mematlas.h"
#include "affinity.h"

#define BATCH 64u /* operations between looks at the flag */
#define LINE 128u /* two lines: neighbours are fetched in pairs */

struct contest {
	_Alignas(LINE) _Atomic uint32_t ready;
	_Alignas(LINE) _Atomic uint32_t stop;
	_Alignas(LINE) int mode;
	uint32_t threads;
	uint64_t duration_ns;
};

struct contender {
	_Alignas(LINE) struct contest *contest;
	_Atomic uint64_t *counter;
	int cpu;
	int error;
	bool keeps_time; /* a clock in another thread would have to interrupt one of these */
	uint64_t operations, elapsed_ns, interruptions;
	pthread_t thread;
};

static void store_batch(_Atomic uint64_t *counter)
{
	volatile uint64_t *plain = (volatile uint64_t *)counter;

	for (unsigned i = 0; i < BATCH; i++)
		*plain += 1;
}

static void add_batch(_Atomic uint64_t *counter)
{
	for (unsigned i = 0; i < BATCH; i++)
		atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void swap_batch(_Atomic uint64_t *counter)
{
	for (unsigned i = 0; i < BATCH; i++) {
		uint64_t seen = atomic_load_explicit(counter, memory_order_relaxed);

		while (!atomic_compare_exchange_weak_explicit(
			counter, &seen, seen + 1, memory_order_relaxed, memory_order_relaxed))
			;
	}
}

static void load_batch(_Atomic uint64_t *counter)
{
	for (unsigned i = 0; i < BATCH; i++)
		(void)atomic_load_explicit(counter, memory_order_relaxed);
}

static void (*const batches[])(_Atomic uint64_t *) = {
	[MEMATLAS_SHARING_STORE] = store_batch,
	[MEMATLAS_SHARING_ADD] = add_batch,
	[MEMATLAS_SHARING_SWAP] = swap_batch,
	[MEMATLAS_SHARING_LOAD] = load_batch,
};

static uint64_t interruptions_so_far(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return (uint64_t)usage.ru_nivcsw;
}

static void *contend(void *argument)
{
	struct contender *self = argument;
	struct contest *contest = self->contest;
	void (*batch)(_Atomic uint64_t *) = batches[contest->mode];

	self->error = self->cpu < 0 ? 0 : pin_thread(self->cpu);
	await_all(&contest->ready, contest->threads, &contest->stop);
	self->interruptions = interruptions_so_far();
	uint64_t began = now_ns();
	while (!atomic_load_explicit(&contest->stop, memory_order_relaxed)) {
		batch(self->counter);
		self->operations += BATCH;
		if (self->keeps_time && self->operations % (8 * BATCH) == 0 &&
		    now_ns() - began >= contest->duration_ns)
			atomic_store(&contest->stop, 1);
	}
	self->elapsed_ns = now_ns() - began;
	self->interruptions = interruptions_so_far() - self->interruptions;
	return NULL;
}

static int start_all(struct contender *contenders, uint32_t threads, uint32_t *started)
{
	int error = 0;

	for (*started = 0; *started < threads; ++*started) {
		struct contender *each = &contenders[*started];

		error = pthread_create(&each->thread, NULL, contend, each);
		if (error)
			break;
	}
	return -error;
}

static int run(struct contest *contest, struct contender *contenders)
{
	uint32_t started;
	int error = start_all(contenders, contest->threads, &started);

	if (error)
		atomic_store(&contest->stop, 1);
	for (uint32_t i = 0; i < started; i++) {
		pthread_join(contenders[i].thread, NULL);
		if (!error)
			error = contenders[i].error;
	}
	return error;
}

int mematlas_sharing_run(int mode, uint64_t base, uint64_t distance, const int32_t *cpus,
			 uint32_t threads, uint64_t duration_ns,
			 struct mematlas_sharing_result *ret)
{
	struct contest contest = {.mode = mode, .threads = threads, .duration_ns = duration_ns};
	struct contender *contenders;

	if (mode < 0 || mode > MEMATLAS_SHARING_LOAD || !threads || base % 8 || distance % 8)
		return -EINVAL;
	contenders = aligned_alloc(LINE, threads * sizeof(*contenders));
	if (!contenders)
		return -ENOMEM;
	for (uint32_t i = 0; i < threads; i++) {
		_Atomic uint64_t *counter = (_Atomic uint64_t *)(uintptr_t)(base + i * distance);

		contenders[i] = (struct contender){.contest = &contest,
						   .counter = counter,
						   .cpu = cpus[i],
						   .keeps_time = i == 0};
	}
	int error = run(&contest, contenders);
	for (uint32_t i = 0; i < threads; i++)
		ret[i] = (struct mematlas_sharing_result){contenders[i].operations,
							  contenders[i].elapsed_ns,
							  contenders[i].interruptions};
	free(contenders);
	return error;
}
