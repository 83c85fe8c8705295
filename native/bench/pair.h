/* Two doubles, for processors without a path of their own: NEON on aarch64. STNP is only a hint, the nearest
 * that aarch64 has to a non-temporal store. */
#ifndef MEMATLAS_BENCH_PAIR_H
#define MEMATLAS_BENCH_PAIR_H

#if !defined(__x86_64__)
#include <string.h>

typedef double pair __attribute__((vector_size(16)));

static inline pair load_pair(const double *p)
{
	pair v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void store_pair(double *p, pair v)
{
	memcpy(p, &v, sizeof(v));
}

static inline void bypass_pair(double *p, pair v)
{
#if defined(__aarch64__)
	double low = v[0], high = v[1];

	__asm__ volatile("stnp %d0, %d1, [%2]" ::"w"(low), "w"(high), "r"(p) : "memory");
#else
	store_pair(p, v);
#endif
}

#if defined(__aarch64__)
#define PAIR_NAME "NEON"
#else
#define PAIR_NAME "plain"
#endif
#endif

#endif
