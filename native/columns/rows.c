/* Rows to columns. Recordings of format 2 have rows byte by byte, the first byte of each row, then
 * the second of each, and so on. */
#include <errno.h>
#include <string.h>

#include "mematlas.h"

#define TILE 64u /* rows at once, which stay in the cache with their columns */

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
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

int mematlas_rows_column(const uint8_t *turned, uint64_t rows, uint32_t offset, uint32_t bytes,
			 void *column)
{
	if (bytes == 4)
		join4(turned + offset * rows, rows, column);
	else if (bytes == 8)
		join8(turned + offset * rows, rows, column);
	else
		return -EINVAL;
	return 0;
}

void mematlas_rows_split(const uint8_t *restrict rows, uint64_t count,
			 const uint32_t *restrict order, const uint8_t *restrict bytes,
			 uint32_t columns, uint8_t *restrict split)
{
	uint64_t size = 0;

	for (uint32_t column = 0; column < columns; column++)
		size += bytes[column];
	for (uint64_t start = 0; start < count; start += TILE) {
		uint64_t end = least(start + TILE, count), offset = 0;

		for (uint32_t column = 0; column < columns; offset += bytes[column++]) {
			uint64_t width = bytes[column];
			uint8_t *to = split + offset * count;

			for (uint64_t row = start; row < end; row++) {
				const uint8_t *from =
					rows + (order ? order[row] : row) * size + offset;

				if (width == 8)
					memcpy(to + row * 8, from, 8);
				else
					memcpy(to + row * width, from, width);
			}
		}
	}
}
