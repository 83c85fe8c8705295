/* Bandwidth loops for all widths of vectors, selected at run time. */
#include <stddef.h>
#include <string.h>

#include "pair.h"
#include "stream.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define NAME(x) sse2_##x
#define NAME_TEXT "SSE2"
#define TARGET
#define VECTOR __m128d
#define WIDTH 2u
#define LOAD(p) _mm_loadu_pd(p)
#define STORE(p, v) _mm_storeu_pd(p, v)
#define STORE_ALIGNED(p, v) _mm_store_pd(p, v)
#define BYPASS(p, v) _mm_stream_pd(p, v)
#define SPREAD(x) _mm_set1_pd(x)
#define SUM(x, y) _mm_add_pd(x, y)
#define PRODUCT(x, y) _mm_mul_pd(x, y)
#define FENCE() _mm_sfence()
#include "stream_loops.h"

#define NAME(x) avx2_##x
#define NAME_TEXT "AVX2"
#define TARGET __attribute__((target("avx2")))
#define VECTOR __m256d
#define WIDTH 4u
#define LOAD(p) _mm256_loadu_pd(p)
#define STORE(p, v) _mm256_storeu_pd(p, v)
#define STORE_ALIGNED(p, v) _mm256_store_pd(p, v)
#define BYPASS(p, v) _mm256_stream_pd(p, v)
#define SPREAD(x) _mm256_set1_pd(x)
#define SUM(x, y) _mm256_add_pd(x, y)
#define PRODUCT(x, y) _mm256_mul_pd(x, y)
#define FENCE() _mm_sfence()
#include "stream_loops.h"

#define NAME(x) avx512_##x
#define NAME_TEXT "AVX-512"
#define TARGET __attribute__((target("avx512f")))
#define VECTOR __m512d
#define WIDTH 8u
#define LOAD(p) _mm512_loadu_pd(p)
#define STORE(p, v) _mm512_storeu_pd(p, v)
#define STORE_ALIGNED(p, v) _mm512_store_pd(p, v)
#define BYPASS(p, v) _mm512_stream_pd(p, v)
#define SPREAD(x) _mm512_set1_pd(x)
#define SUM(x, y) _mm512_add_pd(x, y)
#define PRODUCT(x, y) _mm512_mul_pd(x, y)
#define FENCE() _mm_sfence()
#include "stream_loops.h"

const struct stream_loops *stream_loops_named(const char *name)
{
	if (strcmp(name, "AVX-512") == 0)
		return __builtin_cpu_supports("avx512f") ? &avx512_loops : NULL;
	if (strcmp(name, "AVX2") == 0)
		return __builtin_cpu_supports("avx2") ? &avx2_loops : NULL;
	return strcmp(name, "SSE2") == 0 ? &sse2_loops : NULL;
}

const struct stream_loops *stream_loops_best(void)
{
	const struct stream_loops *best = stream_loops_named("AVX-512");

	if (!best)
		best = stream_loops_named("AVX2");
	return best ? best : &sse2_loops;
}

const struct stream_loops *stream_loops_narrower(void)
{
	return stream_loops_best() == &avx512_loops ? &avx2_loops : NULL;
}

#else
#define NAME(x) pair_##x
#define NAME_TEXT PAIR_NAME
#define TARGET
#define VECTOR pair
#define WIDTH 2u
#define LOAD(p) load_pair(p)
#define STORE(p, v) store_pair(p, v)
#define STORE_ALIGNED(p, v) store_pair(p, v)
#define BYPASS(p, v) bypass_pair(p, v)
#define SPREAD(x) ((pair){(x), (x)})
#define SUM(x, y) ((x) + (y))
#define PRODUCT(x, y) ((x) * (y))
#define FENCE() __sync_synchronize()
#include "stream_loops.h"

const struct stream_loops *stream_loops_named(const char *name)
{
	return strcmp(name, pair_loops.name) == 0 ? &pair_loops : NULL;
}

const struct stream_loops *stream_loops_best(void)
{
	return &pair_loops;
}

const struct stream_loops *stream_loops_narrower(void)
{
	return NULL;
}
#endif
