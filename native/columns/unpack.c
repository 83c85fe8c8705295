/* Packed columns, unpacked a block at a time. What they say of themselves is not believed. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "mematlas.h"

#define BLOCK 1024u

struct packed {
	const struct mematlas_packing *packing;
	const uint64_t *words; /* instead of those in the column */
	const uint8_t *own_words, *planes, *gaps, *above;
	uint64_t rows;
	uint64_t odd;  /* odd rows met so far */
	uint64_t next; /* the one to come; `rows` if there is none */
	uint32_t before; /* value of the row before */
};

int64_t mematlas_column_size(const struct mematlas_packing *packing, uint64_t rows)
{
	uint32_t odd = packing->odd, gap = packing->gap_width, high = packing->odd_width;

	if (rows > UINT32_MAX || odd > rows || packing->words > rows ||
	    packing->way > MEMATLAS_PACKING_WORDS)
		return -EINVAL;
	if (packing->width > 8 || gap > 4 || high + packing->width > 8)
		return -EINVAL;
	if (odd ? !gap || !high : gap || high)
		return -EINVAL;
	if (packing->way == MEMATLAS_PACKING_WORDS ? rows && !packing->words : packing->words != 0)
		return -EINVAL;
	return (int64_t)(packing->words * 8ULL + packing->width * rows +
			 (uint64_t)odd * (gap + high));
}

static uint64_t take(const uint8_t *from, uint64_t plane, unsigned int width)
{
	uint64_t number = 0;

	for (unsigned int byte = 0; byte < width; byte++, from += plane)
		number |= (uint64_t)*from << 8 * byte;
	return number;
}

static bool find_next(struct packed *packed, uint64_t after)
{
	const struct mematlas_packing *packing = packed->packing;

	if (packed->odd >= packing->odd) {
		packed->next = packed->rows;
		return true;
	}
	packed->next = after + take(packed->gaps + packed->odd, packing->odd, packing->gap_width);
	return packed->next < packed->rows;
}

static void add_plane(const uint8_t *restrict from, uint32_t count, unsigned int shift,
		      uint64_t *restrict numbers)
{
	for (uint32_t i = 0; i < count; i++)
		numbers[i] += (uint64_t)from[i] << shift;
}

static bool numbers_of(struct packed *packed, uint64_t start, uint32_t count, uint64_t *numbers)
{
	const struct mematlas_packing *packing = packed->packing;

	for (uint32_t i = 0; i < count; i++)
		numbers[i] = packing->base;
	for (unsigned int byte = 0; byte < packing->width; byte++)
		add_plane(packed->planes + byte * packed->rows + start, count, 8 * byte, numbers);
	while (packed->next < start + count) {
		uint64_t high = take(packed->above + packed->odd, packing->odd, packing->odd_width);

		numbers[packed->next - start] += high << 8 * packing->width;
		packed->odd++;
		if (!find_next(packed, packed->next + 1))
			return false;
	}
	return true;
}

static bool values_of(struct packed *packed, uint64_t start, uint32_t count, uint64_t *values)
{
	const struct mematlas_packing *packing = packed->packing;

	switch (packing->way) {
	case MEMATLAS_PACKING_STEPS:
		for (uint32_t i = 0; i < count; i++) {
			uint32_t step = (uint32_t)values[i];

			packed->before += step >> 1 ^ (step & 1 ? UINT32_MAX : 0);
			values[i] = packed->before;
		}
		break;
	case MEMATLAS_PACKING_BEHIND:
		for (uint32_t i = 0; i < count; i++)
			values[i] = (uint32_t)(packing->first + start + i - values[i]);
		break;
	case MEMATLAS_PACKING_WORDS:
		for (uint32_t i = 0; i < count; i++) {
			if (values[i] >= packing->words)
				return false;
			if (packed->words)
				values[i] = packed->words[values[i]];
			else
				memcpy(&values[i], packed->own_words + 8 * values[i],
				       sizeof *values);
		}
		break;
	default:
		break;
	}
	return true;
}

static void to_doubles(const uint64_t *values, uint32_t count, double *column)
{
	for (uint32_t i = 0; i < count; i++)
		column[i] = (double)values[i];
}

/* Returns all bits of the values, to tell what is too large. */
static uint64_t to_wholes(const uint64_t *restrict values, uint32_t count, unsigned int bytes,
			  void *restrict column)
{
	uint64_t bits = 0;

	for (uint32_t i = 0; i < count; i++)
		bits |= values[i];
	if (bytes == 1)
		for (uint32_t i = 0; i < count; i++)
			((uint8_t *)column)[i] = (uint8_t)values[i];
	else if (bytes == 2)
		for (uint32_t i = 0; i < count; i++)
			((uint16_t *)column)[i] = (uint16_t)values[i];
	else if (bytes == 4)
		for (uint32_t i = 0; i < count; i++)
			((uint32_t *)column)[i] = (uint32_t)values[i];
	else
		memcpy(column, values, count * sizeof *values);
	return bits;
}

static bool fits(const struct mematlas_packing *packing, uint32_t type, uint32_t bytes)
{
	if (type == MEMATLAS_COLUMN_DOUBLE)
		return bytes == 8 && packing->way <= MEMATLAS_PACKING_WHOLE;
	return type == MEMATLAS_COLUMN_WHOLE &&
	       (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8);
}

int mematlas_column_unpack(const struct mematlas_packing *packing, const uint8_t *bytes_packed,
			   uint64_t length, uint64_t rows, const uint64_t *words, uint32_t type,
			   uint32_t bytes, void *column)
{
	int64_t size = mematlas_column_size(packing, rows);
	uint64_t values[BLOCK], bits = 0;
	struct packed packed = {packing, words, bytes_packed, NULL, NULL, NULL, rows, 0, 0, 0};

	if (size < 0 || (uint64_t)size != length || !fits(packing, type, bytes))
		return -EINVAL;
	packed.planes = bytes_packed + 8ULL * packing->words;
	packed.gaps = packed.planes + packing->width * rows;
	packed.above = packed.gaps + (uint64_t)packing->gap_width * packing->odd;
	if (!find_next(&packed, 0))
		return -EINVAL;
	for (uint64_t start = 0; start < rows; start += BLOCK) {
		uint32_t count = rows - start < BLOCK ? (uint32_t)(rows - start) : BLOCK;
		uint8_t *to = (uint8_t *)column + start * bytes;

		if (!numbers_of(&packed, start, count, values) ||
		    !values_of(&packed, start, count, values))
			return -EINVAL;
		if (type == MEMATLAS_COLUMN_WHOLE)
			bits |= to_wholes(values, count, bytes, to);
		else if (packing->way == MEMATLAS_PACKING_WHOLE)
			to_doubles(values, count, (double *)(void *)to);
		else
			memcpy(to, values, count * sizeof *values);
	}
	return bytes < 8 && bits >> 8 * bytes ? -ERANGE : 0;
}

int mematlas_column_odd(const struct mematlas_packing *packing, const uint8_t *bytes_packed,
			uint64_t length, uint64_t rows, uint32_t *ret_rows, uint64_t *values)
{
	int64_t size = mematlas_column_size(packing, rows);
	struct packed packed = {packing, NULL, NULL, NULL, bytes_packed, NULL, rows, 0, 0, 0};

	if (size < 0 || (uint64_t)size != length || packing->way > MEMATLAS_PACKING_WHOLE ||
	    packing->width || packing->base)
		return -EINVAL;
	packed.above = packed.gaps + (uint64_t)packing->gap_width * packing->odd;
	if (!find_next(&packed, 0))
		return -EINVAL;
	while (packed.next < rows) {
		ret_rows[packed.odd] = (uint32_t)packed.next;
		values[packed.odd] =
			take(packed.above + packed.odd, packing->odd, packing->odd_width);
		packed.odd++;
		if (!find_next(&packed, packed.next + 1))
			return -EINVAL;
	}
	return 0;
}
