/* Unpacks columns block by block. A recording may be damaged or malicious, so everything is
 * checked. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "mematlas.h"

#define BLOCK 1024u

/* odd <= packing->odd; rows before `next` are not odd, but for those already met */
struct packed {
	const struct mematlas_packing *packing;
	const uint64_t *words; /* used instead of own_words, if not NULL */
	const uint8_t *own_words, *planes, *gaps, *above;
	uint64_t rows;
	uint64_t odd; /* index of the next odd row */
	uint64_t next; /* its row; `rows` if there is none */
	uint32_t before; /* value of the previous row */
};

static bool widths_fit(const struct mematlas_packing *packing)
{
	uint32_t gap = packing->gap_width, high = packing->odd_width;

	if (packing->width > 8 || gap > 4 || high + packing->width > 8)
		return false;
	return packing->odd ? gap && high : !gap && !high;
}

int64_t mematlas_column_size(const struct mematlas_packing *packing, uint64_t rows)
{
	uint32_t odd = packing->odd, gap = packing->gap_width, high = packing->odd_width;
	bool has_words = packing->way == MEMATLAS_PACKING_WORDS && rows;

	if (rows > UINT32_MAX || odd > rows || packing->words > rows ||
	    packing->way > MEMATLAS_PACKING_WORDS)
		return -EINVAL;
	if (!widths_fit(packing) || has_words != (packing->words != 0))
		return -EINVAL;
	return (int64_t)(packing->words * 8ULL + packing->width * rows +
			 (uint64_t)odd * (gap + high));
}

static uint64_t read_planes(const uint8_t *from, uint64_t plane, unsigned int width)
{
	uint64_t number = 0;

	for (unsigned int byte = 0; byte < width; byte++, from += plane)
		number |= (uint64_t)*from << 8 * byte;
	return number;
}

static bool next_odd(struct packed *packed, uint64_t after)
{
	const struct mematlas_packing *packing = packed->packing;

	if (packed->odd >= packing->odd) {
		packed->next = packed->rows;
		return true;
	}
	packed->next =
		after + read_planes(packed->gaps + packed->odd, packing->odd, packing->gap_width);
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
		uint64_t high =
			read_planes(packed->above + packed->odd, packing->odd, packing->odd_width);

		numbers[packed->next - start] += high << 8 * packing->width;
		packed->odd++;
		if (!next_odd(packed, packed->next + 1))
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

/* Returns the bits of all values, by which a value too large is found. */
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

static void store(const struct mematlas_packing *packing, uint32_t type, uint32_t bytes,
		  const uint64_t *values, uint32_t count, uint8_t *to, uint64_t *bits)
{
	if (type == MEMATLAS_COLUMN_WHOLE)
		*bits |= to_wholes(values, count, bytes, to);
	else if (packing->way == MEMATLAS_PACKING_WHOLE)
		to_doubles(values, count, (double *)(void *)to);
	else
		memcpy(to, values, count * sizeof *values);
}

/* false: the column is malformed, or not of that length. */
static bool begin(struct packed *ret, const struct mematlas_packing *packing, const uint8_t *bytes,
		  uint64_t length, uint64_t rows)
{
	int64_t size = mematlas_column_size(packing, rows);

	if (size < 0 || (uint64_t)size != length)
		return false;
	*ret = (struct packed){.packing = packing, .own_words = bytes, .rows = rows};
	ret->planes = bytes + 8ULL * packing->words;
	ret->gaps = ret->planes + packing->width * rows;
	ret->above = ret->gaps + (uint64_t)packing->gap_width * packing->odd;
	return next_odd(ret, 0);
}

int mematlas_column_unpack(const struct mematlas_packing *packing, const uint8_t *bytes_packed,
			   uint64_t length, uint64_t rows, const uint64_t *words, uint32_t type,
			   uint32_t bytes, void *ret_column)
{
	uint64_t values[BLOCK], bits = 0;
	struct packed packed;

	if (!begin(&packed, packing, bytes_packed, length, rows) || !fits(packing, type, bytes))
		return -EINVAL;
	packed.words = words;
	for (uint64_t start = 0; start < rows; start += BLOCK) {
		uint32_t count = rows - start < BLOCK ? (uint32_t)(rows - start) : BLOCK;

		if (!numbers_of(&packed, start, count, values) ||
		    !values_of(&packed, start, count, values))
			return -EINVAL;
		store(packing, type, bytes, values, count, (uint8_t *)ret_column + start * bytes,
		      &bits);
	}
	return bytes < 8 && bits >> 8 * bytes ? -ERANGE : 0;
}

int mematlas_column_odd(const struct mematlas_packing *packing, const uint8_t *bytes_packed,
			uint64_t length, uint64_t rows, uint32_t *ret_rows, uint64_t *ret_values)
{
	struct packed packed;

	if (!begin(&packed, packing, bytes_packed, length, rows) ||
	    packing->way > MEMATLAS_PACKING_WHOLE || packing->width || packing->base)
		return -EINVAL;
	while (packed.next < rows) {
		ret_rows[packed.odd] = (uint32_t)packed.next;
		ret_values[packed.odd] =
			read_planes(packed.above + packed.odd, packing->odd, packing->odd_width);
		packed.odd++;
		if (!next_odd(&packed, packed.next + 1))
			return -EINVAL;
	}
	return 0;
}
