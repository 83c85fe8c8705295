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

/* What a kernel prefetches while it turns a tile. */
enum ahead { NOTHING, NEXT_ROWS, NEXT_TILE };

/* A way to transpose a block. `rows` and `columns` are multiples of 8, the largest that the kernel takes
 * at once; a recursion ends at that size. */
struct kernel {
	const char *name;
	uint32_t rows, columns;
	bool buffered, bypass; /* bypass: non-temporal stores, to whole lines of the target */
	enum ahead ahead;
};

/* Tiles of loops, and leaves of the recursion, in the order of the bits of block_kernels(). */
enum { TILE_KERNELS = 7, LEAF_KERNELS = 3 };
extern const struct kernel tile_kernels[TILE_KERNELS];
extern const struct kernel leaf_kernels[LEAF_KERNELS];

/* The kernels that suit the matrix, as bits; 0: this CPU has no vectors for them, or the elements are not
 * doubles. Rows of a target that is not aligned to lines are stored without bypass. */
uint32_t kernels_for(const struct kernel *kernels, unsigned count, const struct matrix *m);
/* Transpose a block of whole multiples of 8, no larger than the kernel takes. `next` is the source of the
 * following tile. */
void transpose_block(const struct kernel *kernel, const struct matrix *m, const char *next);
/* After stores with bypass: order them before the caller's next store. */
void transpose_fence(void);

#endif
