/* Rows that a recording holds turned: the first byte of each, then the second of each, and so on. */
#include <errno.h>

#include "mematlas.h"

#define TILE 64u /* rows and bytes at a time: what is read and what is written stays in the cache */

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void mematlas_rows_turn(const uint8_t *restrict rows, uint64_t count, uint64_t bytes,
			uint8_t *restrict turned)
{
	for (uint64_t row = 0; row < count; row += TILE)
		for (uint64_t byte = 0; byte < bytes; byte += TILE)
			for (uint64_t b = byte; b < least(byte + TILE, bytes); b++)
				for (uint64_t r = row; r < least(row + TILE, count); r++)
					turned[b * count + r] = rows[r * bytes + b];
}

static void join4(const uint8_t *restrict from, uint64_t rows, uint32_t *restrict column)
{
	const uint8_t *b = from + rows, *c = b + rows, *d = c + rows;

	for (uint64_t row = 0; row < rows; row++)
		column[row] = (uint32_t)from[row] | (uint32_t)b[row] << 8 | (uint32_t)c[row] << 16 |
			      (uint32_t)d[row] << 24;
}

static void join8(const uint8_t *restrict from, uint64_t rows, uint64_t *restrict column)
{
	const uint8_t *b = from + rows, *c = b + rows, *d = c + rows, *e = d + rows, *f = e + rows,
		      *g = f + rows, *h = g + rows;

	for (uint64_t row = 0; row < rows; row++)
		column[row] = (uint64_t)from[row] | (uint64_t)b[row] << 8 | (uint64_t)c[row] << 16 |
			      (uint64_t)d[row] << 24 | (uint64_t)e[row] << 32 |
			      (uint64_t)f[row] << 40 | (uint64_t)g[row] << 48 |
			      (uint64_t)h[row] << 56;
}

int mematlas_rows_column(const uint8_t *turned, uint64_t rows, uint32_t place, uint32_t bytes,
			 void *column)
{
	if (bytes == 4)
		join4(turned + place * rows, rows, column);
	else if (bytes == 8)
		join8(turned + place * rows, rows, column);
	else
		return -EINVAL;
	return 0;
}
