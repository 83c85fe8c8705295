/* Packs columns. All numbers of a column get the width that most of them need; the high bytes of
 * the few larger ones, the odd rows, are stored apart (exceptions, as in PFOR). Two passes over a
 * column, block by block, so that a block stays in the cache. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../cleanup.h"
#include "mematlas.h"

#define BLOCK 1024u
#define MAX_WORDS                                                                                  \
	(1u << 20) /* the index into a larger dictionary is hardly narrower than the values */
#define FEW_WORDS (1u << 15)
#define WHOLE_BELOW 9223372036854775808.0 /* 2^63 */

struct column {
	const uint8_t *values;
	uint64_t count;
	uint32_t bytes; /* of a value */
	const uint32_t *numbers; /* MEMATLAS_PACKING_WORDS: indices into the dictionary */
	struct mematlas_packing *packing;
};

/* same == all numbers are `first`; sum of lengths[] == rows, if whole */
struct found {
	uint64_t lengths[9]; /* lengths[n]: numbers that need n bytes */
	uint64_t first;
	bool same;
	bool whole; /* doubles only: all are whole numbers, and none is -0 */
};

static bool to_whole(uint64_t bits, uint64_t *ret)
{
	double value;

	memcpy(&value, &bits, sizeof value);
	if (!(value >= 0 && value < WHOLE_BELOW) || bits >> 63)
		return false;
	*ret = (uint64_t)value;
	return (double)*ret == value;
}

static void load(const struct column *column, uint64_t start, uint32_t count, uint64_t *ret)
{
	const uint8_t *from = column->values + start * column->bytes;

	if (column->bytes == 8) {
		memcpy(ret, from, count * sizeof *ret);
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint32_t value;

		memcpy(&value, from + i * sizeof value, sizeof value);
		ret[i] = value;
	}
}

static bool load_wholes(const struct column *column, uint64_t start, uint32_t count, uint64_t *ret)
{
	load(column, start, count, ret);
	for (uint32_t i = 0; i < count; i++)
		if (!to_whole(ret[i], &ret[i]))
			return false;
	return true;
}

/* Zigzag: a difference d >= 0 is 2 d, and one below 0 is -2 d - 1. */
static void load_steps(const struct column *column, uint64_t start, uint32_t count, uint64_t *ret)
{
	uint64_t before = 0;

	load(column, start, count, ret);
	if (start)
		load(column, start - 1, 1, &before);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t value = (uint32_t)ret[i], step = value - (uint32_t)before;

		ret[i] = step << 1 ^ (step >> 31 ? UINT32_MAX : 0);
		before = value;
	}
}

/* The numbers to pack of the rows from `start` on. False: a double is not a whole number. */
static bool numbers_of(const struct column *column, uint64_t start, uint32_t count, uint64_t *ret)
{
	switch (column->packing->way) {
	case MEMATLAS_PACKING_WORDS:
		for (uint32_t i = 0; i < count; i++)
			ret[i] = column->numbers[start + i];
		return true;
	case MEMATLAS_PACKING_WHOLE:
		return load_wholes(column, start, count, ret);
	case MEMATLAS_PACKING_STEPS:
		load_steps(column, start, count, ret);
		return true;
	case MEMATLAS_PACKING_BEHIND:
		load(column, start, count, ret);
		for (uint32_t i = 0; i < count; i++)
			ret[i] = (uint32_t)(column->packing->first + start + i - ret[i]);
		return true;
	default:
		load(column, start, count, ret);
		return true;
	}
}

static unsigned int length_of(uint64_t number)
{
	return number ? (71u - (unsigned int)__builtin_clzll(number)) / 8 : 0;
}

static void measure(const struct column *column, struct found *found)
{
	uint64_t numbers[BLOCK];

	*found = (struct found){.same = true, .whole = true};
	for (uint64_t start = 0; start < column->count; start += BLOCK) {
		uint64_t left = column->count - start;
		uint32_t count = left < BLOCK ? (uint32_t)left : BLOCK;

		if (!numbers_of(column, start, count, numbers)) {
			found->whole = false;
			return;
		}
		if (!start)
			found->first = numbers[0];
		for (uint32_t i = 0; i < count; i++) {
			found->lengths[length_of(numbers[i])]++;
			found->same &= numbers[i] == found->first;
		}
	}
}

static unsigned int longest(const struct found *found)
{
	unsigned int most = 8;

	while (most && !found->lengths[most])
		most--;
	return most;
}

/* Chooses the widths with the fewest bytes. The estimate, which is returned, takes gaps to be as
 * wide as they can be. */
static uint64_t choose(const struct found *found, uint64_t count, struct mematlas_packing *packing)
{
	unsigned int most = longest(found);
	uint64_t odd = 0, best = UINT64_MAX;

	packing->base = packing->odd = packing->width = packing->gap_width = packing->odd_width = 0;
	if (found->same) {
		packing->base = found->first;
		return 0;
	}
	for (unsigned int width = most + 1; width-- > 0;) {
		unsigned int gap = count < 1u << 8    ? 1
				   : count < 1u << 16 ? 2
				   : count < 1u << 24 ? 3
						      : 4;
		uint64_t cost = width * count + odd * (gap + most - width);

		if (cost < best) {
			best = cost;
			packing->width = (uint8_t)width;
			packing->odd = (uint32_t)odd;
			packing->gap_width = odd ? (uint8_t)gap : 0;
			packing->odd_width = odd ? (uint8_t)(most - width) : 0;
		}
		odd += found->lengths[width];
	}
	return best;
}

static void write_planes(uint8_t *to, uint64_t plane, const uint64_t *numbers, uint32_t count,
			 unsigned int width)
{
	for (unsigned int byte = 0; byte < width; byte++, to += plane)
		for (uint32_t i = 0; i < count; i++)
			to[i] = (uint8_t)(numbers[i] >> 8 * byte);
}

/* Writes the planes and the odd rows. Returns the end. */
static uint8_t *write_column(const struct column *column, uint8_t *to)
{
	const struct mematlas_packing *packing = column->packing;
	uint64_t numbers[BLOCK], next = 0, odd = 0;
	uint8_t *gaps = to + packing->width * column->count;
	uint8_t *above = gaps + (uint64_t)packing->gap_width * packing->odd;

	for (uint64_t start = 0; start < column->count; start += BLOCK) {
		uint64_t left = column->count - start;
		uint32_t count = left < BLOCK ? (uint32_t)left : BLOCK;

		numbers_of(column, start, count, numbers);
		write_planes(to + start, column->count, numbers, count, packing->width);
		for (uint32_t i = 0; packing->odd && i < count; i++) {
			uint64_t high = numbers[i] >> 8 * packing->width, gap = start + i - next;

			if (!high)
				continue;
			write_planes(gaps + odd, packing->odd, &gap, 1, packing->gap_width);
			write_planes(above + odd, packing->odd, &high, 1, packing->odd_width);
			next = start + i + 1;
			odd++;
		}
	}
	return above + (uint64_t)packing->odd_width * packing->odd;
}

static uint64_t next_capacity(uint64_t capacity, uint64_t most)
{
	if (capacity == most)
		return 0;
	return capacity * 16 < most ? capacity * 16 : most;
}

/* Makes a dictionary of the column's values and the index of each value. *ret_count is 0 if there
 * are too many different values. -ENOMEM. */
static int make_dictionary(const struct column *column, uint32_t **ret_numbers,
			   uint64_t **ret_words, uint64_t *ret_count)
{
	uint64_t most = column->count / 2 < MAX_WORDS ? column->count / 2 : MAX_WORDS;
	const uint64_t *values = (const uint64_t *)(const void *)column->values;
	int64_t found = -ENOSPC;

	*ret_count = 0;
	*ret_words = NULL;
	*ret_numbers = malloc(column->count * sizeof **ret_numbers);
	if (!*ret_numbers)
		return -ENOMEM;
	for (uint64_t capacity = most < FEW_WORDS ? most : FEW_WORDS; found == -ENOSPC && capacity;
	     capacity = next_capacity(capacity, most)) {
		free(*ret_words);
		*ret_words = malloc(capacity * sizeof **ret_words);
		if (!*ret_words)
			return -ENOMEM;
		found = mematlas_unique_inverse(values, column->count, capacity, *ret_numbers,
						*ret_words);
	}
	if (found > 0)
		*ret_count = (uint64_t)found;
	return found == -ENOMEM ? -ENOMEM : 0;
}

/* Packs with a dictionary if that takes fewer bytes than `bits`. Returns the size; 0: it does
 * not. */
static int64_t pack_dictionary(const struct column *column, uint64_t bits, uint8_t *packed)
{
	struct column numbered = *column;
	struct mematlas_packing *packing = column->packing, as_bits = *packing;
	struct found found;
	CLEANUP_FREE uint32_t *numbers = NULL;
	CLEANUP_FREE uint64_t *words = NULL;
	uint64_t count;
	int error = make_dictionary(column, &numbers, &words, &count);

	if (error || !count)
		return error;
	numbered.numbers = numbers;
	packing->way = MEMATLAS_PACKING_WORDS;
	measure(&numbered, &found);
	if (8 * count + choose(&found, column->count, packing) >= bits) {
		*packing = as_bits;
		return 0;
	}
	packing->words = (uint32_t)count;
	memcpy(packed, words, 8 * count);
	return write_column(&numbered, packed + 8 * count) - packed;
}

static bool fits(const void *values, uint64_t count, uint32_t bytes, uint32_t way)
{
	bool wide = way == MEMATLAS_PACKING_WHOLE || way == MEMATLAS_PACKING_WORDS;
	bool narrow = way == MEMATLAS_PACKING_STEPS || way == MEMATLAS_PACKING_BEHIND;

	return count <= UINT32_MAX && (bytes == 4 || bytes == 8) &&
	       (uintptr_t)values % bytes == 0 && way <= MEMATLAS_PACKING_WORDS &&
	       (bytes == 8 ? !narrow : !wide);
}

/* Chooses the widths for one way of packing. Returns about how many bytes it takes; UINT64_MAX: the
 * values cannot be packed so. */
static uint64_t estimate(const struct column *column, uint32_t way)
{
	struct found found;

	column->packing->way = (uint8_t)way;
	measure(column, &found);
	return found.whole ? choose(&found, column->count, column->packing) : UINT64_MAX;
}

static int64_t pack_words(const struct column *column, uint8_t *packed)
{
	uint64_t bits = estimate(column, MEMATLAS_PACKING_BITS);
	int64_t size = bits ? pack_dictionary(column, bits, packed) : 0;

	return size ? size : write_column(column, packed) - packed;
}

/* Packs in this way, or as bits if that takes fewer bytes. Doubles that are whole numbers never
 * become bits, because their readers expect numbers. */
static int64_t pack_way(const struct column *column, uint32_t way, uint8_t *packed)
{
	uint64_t asked = estimate(column, way);
	struct mematlas_packing as_asked = *column->packing;
	bool settled = asked == 0 || (asked != UINT64_MAX && way == MEMATLAS_PACKING_WHOLE);

	if (way != MEMATLAS_PACKING_BITS && !settled &&
	    estimate(column, MEMATLAS_PACKING_BITS) <= asked)
		return write_column(column, packed) - packed;
	*column->packing = as_asked;
	return write_column(column, packed) - packed;
}

int64_t mematlas_column_pack(const void *values, uint64_t count, uint32_t bytes, uint32_t way,
			     uint32_t first, struct mematlas_packing *ret, uint8_t *ret_packed)
{
	struct column column = {values, count, bytes, NULL, ret};

	if (!fits(values, count, bytes, way))
		return -EINVAL;
	*ret = (struct mematlas_packing){.first = first};
	if (!count)
		return 0;
	if (way == MEMATLAS_PACKING_WORDS)
		return pack_words(&column, ret_packed);
	return pack_way(&column, way, ret_packed);
}
