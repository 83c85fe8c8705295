/* A common start for the threads of a benchmark. A futex barrier would wake them one after
 * another. */
#ifndef MEMATLAS_BENCH_START_BARRIER_H
#define MEMATLAS_BENCH_START_BARRIER_H

#include <stdatomic.h>
#include <stdint.h>

/* Two cache lines, since x86 CPUs prefetch lines in pairs. */
#define BENCH_LINE 128u

/* ready <= threads */
struct start_barrier {
	_Alignas(BENCH_LINE) _Atomic uint32_t ready;
	_Alignas(BENCH_LINE) _Atomic uint32_t cancelled;
	uint32_t threads;
};

/* Spin until all threads are ready or the start is cancelled. Yields now and then, because there
 * may be more threads than CPUs. */
void start_barrier_wait(struct start_barrier *barrier);
/* Release the waiting threads because one thread could not be created. */
void start_barrier_cancel(struct start_barrier *barrier);

#endif
