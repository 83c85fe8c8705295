/* Blocks of doubles, transposed in registers. */
#ifndef MEMATLAS_BENCH_TRANSPOSE_H
#define MEMATLAS_BENCH_TRANSPOSE_H

#include <stdbool.h>
#include <stdint.h>

/* `rows` x `columns` elements of `size` bytes, *_row bytes from one row to the next. */
struct matrix {
	const char *from;
	char *to;
	uint64_t rows, columns, from_row, to_row;
	unsigned size;
};

/* What a kernel prefetches while it turns a tile: to L1 the rows below, to L2 the tile that follows. */
enum ahead { NOTHING, NEXT_ROWS, NEXT_TILE };

/* A way to transpose a block. `rows` and `columns` are the largest that the kernel takes at once; a recursion
 * ends at that size. The target gets `strip` rows of the source at a time.
 * rows, columns and strip are multiples of 8; buffered => rows * columns <= MOST_IN_TILE */
struct kernel {
	const char *name;
	uint32_t rows, columns, strip;
	bool buffered, bypass; /* bypass: non-temporal stores, to whole lines of the target */
	enum ahead ahead;
};

#define MOST_IN_TILE 4096u /* doubles: as many as an L1 cache holds */

/* Tiles of loops, and leaves of the recursion, in the order of the bits of kernels_for(). */
enum { TILE_KERNELS = 11, LEAF_KERNELS = 5 };
extern const struct kernel tile_kernels[TILE_KERNELS];
extern const struct kernel leaf_kernels[LEAF_KERNELS];

/* The kernels for one width of vectors. */
struct block_vectors {
	const char *name;
	void (*direct)(const struct matrix *m, const struct kernel *kernel, const char *next);
	void (*buffered)(const struct matrix *m, const struct kernel *kernel, const char *next);
};

/* The widest first. NULL: this CPU lacks the vectors, or there is no such entry. */
enum { BLOCK_WIDTHS = 3 };
const struct block_vectors *block_vectors(unsigned index);
/* The widest that this CPU has. */
const struct block_vectors *block_vectors_best(void);

/* The kernels that suit the matrix, as bits; 0: the elements are not doubles. Rows of a target that is not
 * aligned to lines are stored without bypass. */
uint32_t kernels_for(const struct kernel *kernels, unsigned count, const struct matrix *m);
/* Transpose a block of whole multiples of 8, no larger than the kernel takes. `next` is the source of the
 * following tile, only prefetched: no memory needs to be there. */
void transpose_block(const struct block_vectors *vectors, const struct kernel *kernel,
		     const struct matrix *m, const char *next);
/* After stores with bypass: order them before the caller's next store. */
void transpose_fence(void);

#endif
