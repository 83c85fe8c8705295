/* Transposition of matrices: by rows, recursively by halves, and by tiles. Blocks of doubles are turned
 * in registers, by the kernel that was the fastest on the first parts of the matrix. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "choice.h"
#include "clock.h"
#include "mematlas.h"
#include "page_kind.h"
#include "transpose.h"

#define TILE 64u /* elements on a side */
#define LEAF 16u /* where a recursion without vectors ends */
#define BAND 64u /* rows of a trial, or as many as the kernel takes at once */
#define BLOCK 256u /* side of a trial of the recursion: a multiple of each leaf */

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

/* The part that kernels take: whole multiples of 8, from the target's first whole line on. NumPy's large
 * arrays begin 16 bytes into a line. */
static struct matrix vector_part(const struct matrix *m, uint64_t *head)
{
	*head = m->size == 8 && m->to_row % 64 == 0 ? -(uintptr_t)m->to % 64 / 8 : 0;
	*head = *head < m->rows ? *head : m->rows;
	return part(m, *head, 0, (m->rows - *head) / 8 * 8, m->columns / 8 * 8);
}

static struct choice *choose(uint16_t work, const struct matrix *m, uint32_t allowed)
{
	struct choice_key key = {
		.work = work,
		.allowed = (uint16_t)allowed,
		.rows = choice_bits(m->rows),
		.columns = choice_bits(m->columns),
		.from_step = choice_step(m->from_row),
		.to_step = choice_step(m->to_row),
		.from_pages = (uint8_t)page_kind_of(m->from, m->rows * m->from_row),
		.to_pages = (uint8_t)page_kind_of(m->to, m->columns * m->to_row),
	};

	return choice_for(&key);
}

/* For mematlas_transpose_kernel(). Names, since other choices take the place of old ones. */
static __thread const char *used[MEMATLAS_TRANSPOSE_TILES + 1];

static void note_used(int method, const struct choice *choice, const struct kernel *kernels)
{
	used[method] = choice->settled ? kernels[choice->best].name : NULL;
}

/* What the kernels left, each part by `method`. */
static void do_rest(const struct matrix *m, const struct matrix *done, uint64_t head,
		    void (*method)(const struct matrix *))
{
	struct matrix above = part(m, 0, 0, head, m->columns);
	struct matrix right = part(m, head, done->columns, done->rows, m->columns - done->columns);
	struct matrix below =
		part(m, head + done->rows, 0, m->rows - head - done->rows, m->columns);

	method(&above);
	method(&right);
	method(&below);
}

/* The longer side is halved, at a multiple of 8 where there is one. */
static void split(const struct matrix *m, struct matrix *one, struct matrix *other)
{
	bool tall = m->rows >= m->columns;
	uint64_t length = tall ? m->rows : m->columns;
	uint64_t half = length >= 16 ? length / 16 * 8 : length / 2;

	*one = tall ? part(m, 0, 0, half, m->columns) : part(m, 0, 0, m->rows, half);
	*other = tall ? part(m, half, 0, m->rows - half, m->columns)
		      : part(m, 0, half, m->rows, m->columns - half);
}

/* leaf NULL: a leaf without vectors. */
static void halve_to(const struct matrix *m, const struct kernel *leaf)
{
	struct matrix one, other;

	if (m->rows <= (leaf ? leaf->rows : LEAF) && m->columns <= (leaf ? leaf->columns : LEAF)) {
		if (leaf)
			transpose_block(block_vectors_best(), leaf, m, m->from + m->columns * 8);
		else
			by_rows(m);
		return;
	}
	split(m, &one, &other);
	halve_to(&one, leaf);
	halve_to(&other, leaf);
}

static void halve_and_choose(const struct matrix *m, struct choice *choice)
{
	struct matrix one, other;

	if (choice->settled) {
		halve_to(m, &leaf_kernels[choice->best]);
		return;
	}
	if (m->rows <= BLOCK && m->columns <= BLOCK) {
		struct choice_trial trial = choice_begin(choice);
		halve_to(m, &leaf_kernels[trial.kernel]);
		transpose_fence();
		choice_end(choice, &trial, m->rows * m->columns);
		return;
	}
	split(m, &one, &other);
	halve_and_choose(&one, choice);
	halve_and_choose(&other, choice);
}

static void halve_plainly(const struct matrix *m)
{
	halve_to(m, NULL);
}

/* Cache-oblivious: the longer side is halved until a part fits a cache of any size. Where the recursion
 * ends, and whether its stores bypass the caches, is no theory of caches, but a fact of the machine. */
static void by_halves(const struct matrix *m)
{
	uint64_t head;
	struct matrix whole = vector_part(m, &head);
	uint32_t allowed = kernels_for(leaf_kernels, LEAF_KERNELS, &whole);

	used[MEMATLAS_TRANSPOSE_HALVES] = NULL;
	if (!allowed || !whole.rows || !whole.columns) {
		halve_plainly(m);
		return;
	}
	struct choice *choice = choose(MEMATLAS_WORK_HALVES, &whole, allowed);
	halve_and_choose(&whole, choice);
	transpose_fence();
	note_used(MEMATLAS_TRANSPOSE_HALVES, choice, leaf_kernels);
	do_rest(m, &whole, head, halve_plainly);
}

static void tile_with(const struct kernel *kernel, const struct matrix *m)
{
	const struct block_vectors *vectors = block_vectors_best();

	for (uint64_t r = 0; r < m->rows; r += kernel->rows)
		for (uint64_t c = 0; c < m->columns; c += kernel->columns) {
			uint64_t rows = m->rows - r, columns = m->columns - c;
			bool last = columns <= kernel->columns;
			struct matrix tile =
				part(m, r, c, rows < kernel->rows ? rows : kernel->rows,
				     last ? columns : kernel->columns);
			const char *below = m->from + (r + tile.rows) * m->from_row;
			transpose_block(vectors, kernel, &tile,
					last ? below : tile.from + kernel->columns * 8ul);
		}
}

static void tile_and_choose(const struct matrix *m, struct choice *choice)
{
	uint64_t rows;

	for (uint64_t r = 0; r < m->rows; r += rows) {
		rows = m->rows - r;
		struct matrix band = part(m, r, 0, rows, m->columns);
		if (choice->settled) {
			tile_with(&tile_kernels[choice->best], &band);
			return;
		}
		struct choice_trial trial = choice_begin(choice);
		uint64_t whole = tile_kernels[trial.kernel].rows;
		whole = whole > BAND ? whole : BAND;
		rows = band.rows = rows < whole ? rows : whole;
		tile_with(&tile_kernels[trial.kernel], &band);
		transpose_fence();
		choice_end(choice, &trial, rows * m->columns);
	}
}

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
	uint64_t head;
	struct matrix whole = vector_part(m, &head);
	uint32_t allowed = kernels_for(tile_kernels, TILE_KERNELS, &whole);

	used[MEMATLAS_TRANSPOSE_TILES] = NULL;
	if (!allowed || !whole.rows || !whole.columns) {
		by_small_tiles(m);
		return;
	}
	struct choice *choice = choose(MEMATLAS_WORK_TILES, &whole, allowed);
	tile_and_choose(&whole, choice);
	transpose_fence();
	note_used(MEMATLAS_TRANSPOSE_TILES, choice, tile_kernels);
	do_rest(m, &whole, head, by_small_tiles);
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

const char *mematlas_transpose_kernel(int method)
{
	return method >= 0 && method <= MEMATLAS_TRANSPOSE_TILES ? used[method] : NULL;
}
