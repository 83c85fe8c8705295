/* The clock that intervals are measured by. */
#ifndef MEMATLAS_MONOTONIC_H
#define MEMATLAS_MONOTONIC_H

#include <time.h>

/* Seconds of CLOCK_MONOTONIC. */
static inline double clock_monotonic_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* CPU time of this thread. */
static inline double clock_thread_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#endif
