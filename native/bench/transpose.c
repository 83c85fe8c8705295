/* Transposition of matrices: by rows, recursively by halves, and by tiles. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "clock.h"
#include "mematlas.h"

#define TILE 64u /* elements on a side */
#define LEAF 16u /* where the recursion ends */

/* `rows` x `columns` elements of `size` bytes, *_row bytes from one row to the next. */
struct matrix {
	const char *from;
	char *to;
	uint64_t rows, columns, from_row, to_row;
	unsigned size;
};

static struct matrix part(const struct matrix *m, uint64_t row, uint64_t column, uint64_t rows,
			  uint64_t columns)
{
	struct matrix p = *m;

	p.from += row * m->from_row + column * m->size;
	p.to += column * m->to_row + row * m->size;
	p.rows = rows;
	p.columns = columns;
	return p;
}

#define COPY_AS(type)                                                                              \
	for (uint64_t r = 0; r < m->rows; r++)                                                     \
		for (uint64_t c = 0; c < m->columns; c++)                                          \
	*(type *)(m->to + c * m->to_row + r * sizeof(type)) =                                      \
		*(const type *)(m->from + r * m->from_row + c * sizeof(type))

typedef struct {
	uint64_t halves[2];
} wide;

/* Consecutive stores go to different cache lines, as in the loop that most programs have. */
static void by_rows(const struct matrix *m)
{
	switch (m->size) {
	case 1:
		COPY_AS(uint8_t);
		break;
	case 2:
		COPY_AS(uint16_t);
		break;
	case 4:
		COPY_AS(uint32_t);
		break;
	case 8:
		COPY_AS(uint64_t);
		break;
	default:
		COPY_AS(wide);
	}
}

/* Cache-oblivious: the longer side is halved until a part fits a cache of any size. */
static void by_halves(const struct matrix *m)
{
	struct matrix one, other;
	uint64_t half;

	if (m->rows <= LEAF && m->columns <= LEAF) {
		by_rows(m);
		return;
	}
	if (m->rows >= m->columns) {
		half = m->rows / 2;
		one = part(m, 0, 0, half, m->columns);
		other = part(m, half, 0, m->rows - half, m->columns);
	} else {
		half = m->columns / 2;
		one = part(m, 0, 0, m->rows, half);
		other = part(m, 0, half, m->rows, m->columns - half);
	}
	by_halves(&one);
	by_halves(&other);
}

#if defined(__x86_64__)

#define WIDE_ROWS 32u     /* a tile of doubles: stored 256 bytes at a time, */
#define WIDE_COLUMNS 128u /* loaded 1024 bytes at a time */

/* Transpose 8 x 8 doubles in registers, so that each column becomes a whole cache line. Prefetches
 * no more than `next`, because rows a power of two apart share few cache sets. */
__attribute__((target("avx512f"))) static inline void transpose_8x8(const char *from,
								    uint64_t from_row, double *to,
								    const char *next)
{
	__m512d row[8], pair[8], quad[8];

	for (unsigned i = 0; i < 8; i++) {
		row[i] = _mm512_loadu_pd((const double *)(from + i * from_row));
		_mm_prefetch(next + i * from_row, _MM_HINT_T0);
	}
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
		__m512d low = _mm512_shuffle_f64x2(quad[i], quad[4 + i], 0x88);
		__m512d high = _mm512_shuffle_f64x2(quad[i], quad[4 + i], 0xdd);
		_mm512_store_pd(to + (size_t)i * WIDE_ROWS, low);
		_mm512_store_pd(to + (size_t)(4 + i) * WIDE_ROWS, high);
	}
}

/* Through a buffer, so that the target's lines are written in order by non-temporal stores,
 * whichever cache sets its rows share. `next` is the following tile. */
__attribute__((target("avx512f"))) static void transpose_wide_tile(const struct matrix *m,
								   const char *next)
{
	_Alignas(64) double tile[WIDE_ROWS * WIDE_COLUMNS];

	for (uint64_t r = 0; r < WIDE_ROWS; r += 8) {
		const char *from = m->from + r * m->from_row;
		const char *soon = r + 8 < WIDE_ROWS ? from + 8 * m->from_row : next;
		for (uint64_t c = 0; c < WIDE_COLUMNS; c += 8)
			transpose_8x8(from + c * 8, m->from_row, &tile[c * WIDE_ROWS + r],
				      soon + c * 8);
	}
	for (uint64_t c = 0; c < WIDE_COLUMNS; c++)
		for (uint64_t r = 0; r < WIDE_ROWS; r += 8)
			_mm512_stream_pd((double *)(m->to + c * m->to_row + r * 8),
					 _mm512_load_pd(&tile[c * WIDE_ROWS + r]));
}

/* Transpose all whole tiles of doubles, and return the rows and columns that they cover. */
static void by_wide_tiles(const struct matrix *m, uint64_t *rows, uint64_t *columns)
{
	*rows = m->rows / WIDE_ROWS * WIDE_ROWS;
	*columns = m->columns / WIDE_COLUMNS * WIDE_COLUMNS;
	for (uint64_t r = 0; r < *rows; r += WIDE_ROWS)
		for (uint64_t c = 0; c < *columns; c += WIDE_COLUMNS) {
			struct matrix tile = part(m, r, c, WIDE_ROWS, WIDE_COLUMNS);
			bool last = c + WIDE_COLUMNS == *columns;
			transpose_wide_tile(&tile, last ? tile.from : tile.from + WIDE_COLUMNS * 8);
		}
	_mm_sfence();
}

static bool suits_wide_tiles(const struct matrix *m)
{
	return m->size == 8 && __builtin_cpu_supports("avx512f") && m->to_row % 64 == 0 &&
	       (uintptr_t)m->to % 8 == 0;
}

#endif

/* Through a small buffer, so that the row length of neither side causes conflict misses. */
static void transpose_tile(const struct matrix *m)
{
	_Alignas(64) char tile[TILE * TILE * sizeof(wide)];
	struct matrix in = *m;

	in.to = tile;
	in.to_row = m->rows * m->size;
	by_rows(&in);
	for (uint64_t c = 0; c < m->columns; c++)
		memcpy(m->to + c * m->to_row, tile + c * in.to_row, in.to_row);
}

static void by_small_tiles(const struct matrix *m)
{
	for (uint64_t r = 0; r < m->rows; r += TILE)
		for (uint64_t c = 0; c < m->columns; c += TILE) {
			uint64_t rows = m->rows - r < TILE ? m->rows - r : TILE;
			uint64_t columns = m->columns - c < TILE ? m->columns - c : TILE;
			struct matrix tile = part(m, r, c, rows, columns);
			transpose_tile(&tile);
		}
}

static void by_tiles(const struct matrix *m)
{
	uint64_t head = 0, rows = 0, columns = 0;

#if defined(__x86_64__)
	if (suits_wide_tiles(m)) {
		/* Rows before the target's first whole cache line. NumPy's large arrays begin 16
		 * bytes into a line. */
		head = -(uintptr_t)m->to % 64 / 8;
		head = head < m->rows ? head : m->rows;
		struct matrix whole = part(m, head, 0, m->rows - head, m->columns);
		by_wide_tiles(&whole, &rows, &columns);
	}
#endif
	struct matrix above = part(m, 0, 0, head, m->columns);
	struct matrix right = part(m, head, columns, rows, m->columns - columns);
	struct matrix below = part(m, head + rows, 0, m->rows - head - rows, m->columns);
	by_small_tiles(&above);
	by_small_tiles(&right);
	by_small_tiles(&below);
}

int mematlas_transpose(int method, uint64_t from, uint64_t from_row, uint64_t to, uint64_t to_row,
		       uint64_t rows, uint64_t columns, uint32_t size, uint64_t *ret_ns)
{
	static void (*const methods[])(const struct matrix *) = {by_rows, by_halves, by_tiles};
	struct matrix m = {(const char *)(uintptr_t)from,
			   (char *)(uintptr_t)to,
			   rows,
			   columns,
			   from_row,
			   to_row,
			   size};

	if (method < 0 || method > MEMATLAS_TRANSPOSE_TILES || size == 0 || size > 16 ||
	    (size & (size - 1)))
		return -EINVAL;
	uint64_t began = now_ns();
	methods[method](&m);
	*ret_ns = now_ns() - began;
	return 0;
}
