/* Blocks of doubles, transposed in registers: the kernels, and which of them a matrix allows. */
#include "transpose.h"

#include <string.h>

#include "pair.h"

/* Which is the fastest depends on the CPU, the row length and the pages. Shapes are those that were best
 * somewhere: panels in strips, whose next panel is on its way to L2; two lines of a target row at once, or one;
 * buffers; and the same without non-temporal stores, for matrices that stay in a cache. */
const struct kernel tile_kernels[TILE_KERNELS] = {
	{"256 x 256 in strips of 16, non-temporal", 256, 256, 16, false, true, NEXT_TILE},
	{"256 x 512 in strips of 16, non-temporal", 256, 512, 16, false, true, NEXT_TILE},
	{"128 x 128 in strips of 16, non-temporal", 128, 128, 16, false, true, NEXT_TILE},
	{"128 x 64 in strips of 8, non-temporal", 128, 64, 8, false, true, NEXT_TILE},
	{"64 x 64 in strips of 16, non-temporal", 64, 64, 16, false, true, NEXT_TILE},
	{"16 x 32, non-temporal", 16, 32, 16, false, true, NOTHING},
	{"32 x 64 buffered, non-temporal", 32, 64, 32, true, true, NEXT_TILE},
	{"32 x 128 buffered, non-temporal", 32, 128, 32, true, true, NEXT_ROWS},
	{"16 x 32", 16, 32, 16, false, false, NOTHING},
	{"64 x 64 in strips of 16", 64, 64, 16, false, false, NEXT_TILE},
	{"32 x 64 buffered", 32, 64, 32, true, false, NEXT_TILE},
};
const struct kernel leaf_kernels[LEAF_KERNELS] = {
	{"leaf of 64", 64, 64, 64, false, false, NOTHING},
	{"leaf of 64 in strips of 16, non-temporal", 64, 64, 16, false, true, NEXT_TILE},
	{"leaf of 128 in strips of 16, non-temporal", 128, 128, 16, false, true, NEXT_TILE},
	{"leaf of 128, non-temporal", 128, 128, 128, false, true, NOTHING},
	{"leaf of 256 in strips of 16, non-temporal", 256, 256, 16, false, true, NEXT_TILE},
};

/* A macro, since a level is part of the instruction. Prefetching an unmapped address does nothing. */
#define TO_L1 3
#define TO_L2 2
#define prefetch_rows(at, step, level)                                                             \
	do {                                                                                       \
		for (uint64_t ahead_row = 0; ahead_row < 8; ahead_row++)                           \
			__builtin_prefetch((const void *)((at) + ahead_row * (step)), 0, level);   \
	} while (0)

#if defined(__x86_64__)
#include <immintrin.h>

/* Turn 8 x 8 doubles by three rounds of shuffles. */
__attribute__((target("avx512f"), always_inline)) static inline void turn_512(const char *from,
									      uint64_t step,
									      __m512d turned[8])
{
	__m512d row[8], pair[8], quad[8];

	for (unsigned i = 0; i < 8; i++)
		row[i] = _mm512_loadu_pd(from + i * step);
	for (int i = 0; i < 4; i++) {
		pair[2 * i] = _mm512_unpacklo_pd(row[2 * i], row[2 * i + 1]);
		pair[2 * i + 1] = _mm512_unpackhi_pd(row[2 * i], row[2 * i + 1]);
	}
	for (int i = 0; i < 2; i++) {
		quad[i] = _mm512_shuffle_f64x2(pair[i], pair[2 + i], 0x88);
		quad[2 + i] = _mm512_shuffle_f64x2(pair[i], pair[2 + i], 0xdd);
		quad[4 + i] = _mm512_shuffle_f64x2(pair[4 + i], pair[6 + i], 0x88);
		quad[6 + i] = _mm512_shuffle_f64x2(pair[4 + i], pair[6 + i], 0xdd);
	}
	for (unsigned i = 0; i < 4; i++) {
		turned[i] = _mm512_shuffle_f64x2(quad[i], quad[4 + i], 0x88);
		turned[4 + i] = _mm512_shuffle_f64x2(quad[i], quad[4 + i], 0xdd);
	}
}

#define NAME(x) avx512_##x
#define NAME_TEXT "AVX-512"
#define TARGET __attribute__((target("avx512f")))
#define TURN(from, step, to, to_step, put)                                                         \
	do {                                                                                       \
		__m512d turned[8];                                                                 \
		turn_512(from, step, turned);                                                      \
		for (unsigned k = 0; k < 8; k++)                                                   \
			put((to) + k * (to_step), turned[k]);                                      \
	} while (0)
#define PUT(p, v) _mm512_storeu_pd(p, v)
#define PUT_ALIGNED(p, v) _mm512_store_pd(p, v)
#define BYPASS(p, v) _mm512_stream_pd((void *)(p), v)
#define COPY_LINE(to, from) _mm512_stream_pd((void *)(to), _mm512_load_pd(from))
#include "transpose_block.h"

/* Turn 4 x 4 doubles. Halves are loaded apart, which spares the port of the shuffles. */
__attribute__((target("avx2"), always_inline)) static inline void turn_256(const char *from,
									   uint64_t step,
									   __m256d turned[4])
{
	__m256d half[4];

	for (unsigned i = 0; i < 4; i++) {
		const char *at = from + (i & 1) * step + (i >> 1) * 16;
		__m128d low = _mm_loadu_pd((const double *)at);
		__m128d high = _mm_loadu_pd((const double *)(at + 2 * step));
		half[i] = _mm256_insertf128_pd(_mm256_castpd128_pd256(low), high, 1);
	}
	for (unsigned i = 0; i < 2; i++) {
		turned[2 * i] = _mm256_unpacklo_pd(half[2 * i], half[2 * i + 1]);
		turned[2 * i + 1] = _mm256_unpackhi_pd(half[2 * i], half[2 * i + 1]);
	}
}

#define NAME(x) avx2_##x
#define NAME_TEXT "AVX2"
#define TARGET __attribute__((target("avx2")))
/* Both halves of a line one after the other, so that a non-temporal store fills the line. */
#define TURN(from, step, to, to_step, put)                                                         \
	do {                                                                                       \
		for (unsigned column = 0; column < 8; column += 4) {                               \
			__m256d left[4], right[4];                                                 \
			turn_256((from) + column * 8, step, left);                                 \
			turn_256((from) + 4 * (step) + column * 8, step, right);                   \
			for (unsigned k = 0; k < 4; k++) {                                         \
				put((to) + (column + k) * (to_step), left[k]);                     \
				put((to) + (column + k) * (to_step) + 32, right[k]);               \
			}                                                                          \
		}                                                                                  \
	} while (0)
#define PUT(p, v) _mm256_storeu_pd((double *)(p), v)
#define PUT_ALIGNED(p, v) _mm256_store_pd((double *)(p), v)
#define BYPASS(p, v) _mm256_stream_pd((double *)(p), v)
#define COPY_LINE(to, from)                                                                        \
	do {                                                                                       \
		_mm256_stream_pd((double *)(to), _mm256_load_pd(from));                            \
		_mm256_stream_pd((double *)(to) + 4, _mm256_load_pd((from) + 4));                  \
	} while (0)
#include "transpose_block.h"

#define NAME(x) pair_##x
#define NAME_TEXT "SSE2"
#define PAIR __m128d
#define LOAD_PAIR(p) _mm_loadu_pd((const double *)(p))
#define LOW_OF(a, b) _mm_unpacklo_pd(a, b)
#define HIGH_OF(a, b) _mm_unpackhi_pd(a, b)
#define PUT(p, v) _mm_storeu_pd((double *)(p), v)
#define PUT_ALIGNED(p, v) _mm_store_pd((double *)(p), v)
#define BYPASS(p, v) _mm_stream_pd((double *)(p), v)

#else

#define NAME(x) pair_##x
#define NAME_TEXT PAIR_NAME
#define PAIR pair
#define LOAD_PAIR(p) load_pair((const double *)(p))
#define LOW_OF(a, b) ((pair){(a)[0], (b)[0]})
#define HIGH_OF(a, b) ((pair){(a)[1], (b)[1]})
#define PUT(p, v) store_pair((double *)(p), v)
#define PUT_ALIGNED(p, v) store_pair((double *)(p), v)
#define BYPASS(p, v) bypass_pair((double *)(p), v)

#endif

#define TARGET
/* Two columns of the source at a time: all of one line of the target, then all of the next. */
#define TURN(from, step, to, to_step, put)                                                         \
	do {                                                                                       \
		for (unsigned column = 0; column < 8; column += 2) {                               \
			const char *source = (from) + column * 8;                                  \
			char *line = (to) + column * (to_step);                                    \
			PAIR high[4];                                                              \
			for (unsigned k = 0; k < 4; k++) {                                         \
				PAIR one = LOAD_PAIR(source + 2 * k * (step));                     \
				PAIR two = LOAD_PAIR(source + (2 * k + 1) * (step));               \
				high[k] = HIGH_OF(one, two);                                       \
				put(line + k * 16, LOW_OF(one, two));                              \
			}                                                                          \
			for (unsigned k = 0; k < 4; k++)                                           \
				put(line + (to_step) + k * 16, high[k]);                           \
		}                                                                                  \
	} while (0)
#define COPY_LINE(to, from)                                                                        \
	do {                                                                                       \
		for (unsigned k = 0; k < 4; k++)                                                   \
			BYPASS((to) + k * 16, LOAD_PAIR((from) + k * 2));                          \
	} while (0)
#include "transpose_block.h"

#if defined(__x86_64__)

const struct block_vectors *block_vectors(unsigned index)
{
	if (index == 0)
		return __builtin_cpu_supports("avx512f") ? &avx512_blocks : NULL;
	if (index == 1)
		return __builtin_cpu_supports("avx2") ? &avx2_blocks : NULL;
	return index == 2 ? &pair_blocks : NULL;
}

void transpose_fence(void)
{
	_mm_sfence();
}

#else

const struct block_vectors *block_vectors(unsigned index)
{
	return index == 0 ? &pair_blocks : NULL;
}

void transpose_fence(void)
{
	__sync_synchronize();
}

#endif

const struct block_vectors *block_vectors_best(void)
{
	for (unsigned i = 0; i < BLOCK_WIDTHS; i++)
		if (block_vectors(i))
			return block_vectors(i);
	return NULL; /* not reached: pairs need nothing that a CPU may lack */
}

uint32_t kernels_for(const struct kernel *kernels, unsigned count, const struct matrix *m)
{
	bool lines = m->to_row % 64 == 0 && (uintptr_t)m->to % 64 == 0;
	uint32_t found = 0;

	for (unsigned i = 0; m->size == 8 && i < count; i++)
		found |= (uint32_t)(lines || !kernels[i].bypass) << i;
	return found;
}

void transpose_block(const struct block_vectors *vectors, const struct kernel *kernel,
		     const struct matrix *m, const char *next)
{
	(kernel->buffered ? vectors->buffered : vectors->direct)(m, kernel, next);
}
