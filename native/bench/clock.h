#ifndef MEMATLAS_BENCH_CLOCK_H
#define MEMATLAS_BENCH_CLOCK_H

#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC in nanoseconds. The barriers keep the compiler from moving loads and stores out
 * of the timed section. */
static inline uint64_t now_ns(void)
{
	struct timespec now;

	__asm__ volatile("" ::: "memory");
	clock_gettime(CLOCK_MONOTONIC, &now);
	__asm__ volatile("" ::: "memory");
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
