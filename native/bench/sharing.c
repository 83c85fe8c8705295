/* True and false sharing: threads change counters in one cache line, or one counter, at once. All
 * threads run until the first one sets a flag, so no thread ever runs alone. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "affinity.h"
#include "clock.h"
#include "mematlas.h"
#include "start_barrier.h"

#define CHECK_EVERY 64u /* operations between two checks of the flag */

struct sharing {
	struct start_barrier barrier;
	_Alignas(BENCH_LINE) _Atomic uint32_t stop;
	_Alignas(BENCH_LINE) int mode;
	uint64_t duration_ns;
};

struct sharing_thread {
	_Alignas(BENCH_LINE) struct sharing *sharing;
	_Atomic uint64_t *counter;
	int cpu;
	int error;
	bool keeps_time; /* a timer thread would have to preempt one of the others */
	uint64_t operations, elapsed_ns, interruptions;
	pthread_t thread;
};

static void store_batch(_Atomic uint64_t *counter)
{
	volatile uint64_t *plain = (volatile uint64_t *)counter;

	for (unsigned i = 0; i < CHECK_EVERY; i++)
		*plain += 1;
}

static void add_batch(_Atomic uint64_t *counter)
{
	for (unsigned i = 0; i < CHECK_EVERY; i++)
		atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void swap_batch(_Atomic uint64_t *counter)
{
	for (unsigned i = 0; i < CHECK_EVERY; i++) {
		uint64_t seen = atomic_load_explicit(counter, memory_order_relaxed);

		while (!atomic_compare_exchange_weak_explicit(
			counter, &seen, seen + 1, memory_order_relaxed, memory_order_relaxed))
			;
	}
}

static void load_batch(_Atomic uint64_t *counter)
{
	for (unsigned i = 0; i < CHECK_EVERY; i++)
		(void)atomic_load_explicit(counter, memory_order_relaxed);
}

static void (*const batches[])(_Atomic uint64_t *) = {
	[MEMATLAS_SHARING_STORE] = store_batch,
	[MEMATLAS_SHARING_ADD] = add_batch,
	[MEMATLAS_SHARING_SWAP] = swap_batch,
	[MEMATLAS_SHARING_LOAD] = load_batch,
};

static uint64_t involuntary_switches(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return (uint64_t)usage.ru_nivcsw;
}

static void *run_thread(void *argument)
{
	struct sharing_thread *self = argument;
	struct sharing *sharing = self->sharing;
	void (*batch)(_Atomic uint64_t *) = batches[sharing->mode];

	self->error = affinity_set_cpu(self->cpu);
	start_barrier_wait(&sharing->barrier);
	self->interruptions = involuntary_switches();
	uint64_t began = now_ns();
	while (!atomic_load_explicit(&sharing->stop, memory_order_relaxed)) {
		batch(self->counter);
		self->operations += CHECK_EVERY;
		if (self->keeps_time && self->operations % (8 * CHECK_EVERY) == 0 &&
		    now_ns() - began >= sharing->duration_ns)
			atomic_store(&sharing->stop, 1);
	}
	self->elapsed_ns = now_ns() - began;
	self->interruptions = involuntary_switches() - self->interruptions;
	return NULL;
}

static int run_threads(struct sharing *sharing, struct sharing_thread *threads)
{
	uint32_t started = 0;
	int error = 0;

	for (; !error && started < sharing->barrier.threads; started += !error)
		error = -pthread_create(&threads[started].thread, NULL, run_thread,
					&threads[started]);
	if (error) {
		atomic_store(&sharing->stop, 1);
		start_barrier_cancel(&sharing->barrier);
	}
	for (uint32_t i = 0; i < started; i++) {
		pthread_join(threads[i].thread, NULL);
		error = error ? error : threads[i].error;
	}
	return error;
}

int mematlas_sharing_run(int mode, uint64_t base, uint64_t distance, const int32_t *cpus,
			 uint32_t threads, uint64_t duration_ns,
			 struct mematlas_sharing_result *ret)
{
	struct sharing sharing = {
		.barrier.threads = threads, .mode = mode, .duration_ns = duration_ns};

	if (mode < 0 || mode > MEMATLAS_SHARING_LOAD || !threads || base % 8 || distance % 8)
		return -EINVAL;
	struct sharing_thread *running = aligned_alloc(BENCH_LINE, threads * sizeof(*running));
	if (!running)
		return -ENOMEM;
	for (uint32_t i = 0; i < threads; i++)
		running[i] = (struct sharing_thread){
			.sharing = &sharing,
			.counter = (_Atomic uint64_t *)(uintptr_t)(base + i * distance),
			.cpu = cpus[i],
			.keeps_time = i == 0};
	int error = run_threads(&sharing, running);
	for (uint32_t i = 0; i < threads; i++)
		ret[i] = (struct mematlas_sharing_result){
			running[i].operations, running[i].elapsed_ns, running[i].interruptions};
	free(running);
	return error;
}
