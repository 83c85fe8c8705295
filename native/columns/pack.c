/* Columns of rows, packed: a number takes the bytes that most of its column need, the few larger ones
 * stand apart. Two passes over a column, a block at a time, so that what is loaded stays in the cache. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mematlas.h"

#define BLOCK 1024u
#define MOST_WORDS (1u << 20) /* with more, numbers are hardly narrower than the words */
#define FEW_WORDS (1u << 15)
#define WHOLE_BELOW 9223372036854775808.0 /* 2^63 */

struct column {
	const uint8_t *values;
	uint64_t count;
	uint32_t bytes; /* of a value */
	const uint32_t *numbers; /* of words */
	struct mematlas_packing *packing;
};

struct found {
	uint64_t lengths[9]; /* numbers that need so many bytes */
	uint64_t first;
	bool same; /* all are as the first */
	bool whole; /* doubles: all are whole numbers, and none is -0 */
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

/* Numbers of the rows from `start` on. False: a double among them is not whole. */
static bool numbers_of(const struct column *column, uint64_t start, uint32_t count, uint64_t *ret)
{
	const struct mematlas_packing *packing = column->packing;
	uint64_t before = 0;

	if (packing->way == MEMATLAS_PACKING_WORDS) {
		for (uint32_t i = 0; i < count; i++)
			ret[i] = column->numbers[start + i];
		return true;
	}
	load(column, start, count, ret);
	switch (packing->way) {
	case MEMATLAS_PACKING_WHOLE:
		for (uint32_t i = 0; i < count; i++)
			if (!to_whole(ret[i], &ret[i]))
				return false;
		break;
	case MEMATLAS_PACKING_STEPS:
		if (start)
			load(column, start - 1, 1, &before);
		for (uint32_t i = 0; i < count; i++) {
			uint32_t value = (uint32_t)ret[i], step = value - (uint32_t)before;

			ret[i] = step << 1 ^ (step >> 31 ? UINT32_MAX : 0);
			before = value;
		}
		break;
	case MEMATLAS_PACKING_BEHIND:
		for (uint32_t i = 0; i < count; i++)
			ret[i] = (uint32_t)(packing->first + start + i - ret[i]);
		break;
	default:
		break;
	}
	return true;
}

static unsigned int length_of(uint64_t number)
{
	return number ? (71u - (unsigned int)__builtin_clzll(number)) / 8 : 0;
}

static void look(const struct column *column, struct found *found)
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

/* Chooses widths. Gaps are taken for as wide as they can be. Returns about how many bytes it will be. */
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

static void put_planes(uint8_t *to, uint64_t plane, const uint64_t *numbers, uint32_t count,
		       unsigned int width)
{
	for (unsigned int byte = 0; byte < width; byte++, to += plane)
		for (uint32_t i = 0; i < count; i++)
			to[i] = (uint8_t)(numbers[i] >> 8 * byte);
}

/* Writes planes, and odd rows after them. Returns the end of it. */
static uint8_t *put(const struct column *column, uint8_t *to)
{
	const struct mematlas_packing *packing = column->packing;
	uint64_t numbers[BLOCK], next = 0, odd = 0;
	uint8_t *gaps = to + packing->width * column->count;
	uint8_t *above = gaps + (uint64_t)packing->gap_width * packing->odd;

	for (uint64_t start = 0; start < column->count; start += BLOCK) {
		uint64_t left = column->count - start;
		uint32_t count = left < BLOCK ? (uint32_t)left : BLOCK;

		numbers_of(column, start, count, numbers);
		put_planes(to + start, column->count, numbers, count, packing->width);
		for (uint32_t i = 0; packing->odd && i < count; i++) {
			uint64_t high = numbers[i] >> 8 * packing->width, gap = start + i - next;

			if (!high)
				continue;
			put_planes(gaps + odd, packing->odd, &gap, 1, packing->gap_width);
			put_planes(above + odd, packing->odd, &high, 1, packing->odd_width);
			next = start + i + 1;
			odd++;
		}
	}
	return above + (uint64_t)packing->odd_width * packing->odd;
}

/* Numbers the words of a column; of none if that does not pay. -ENOMEM. */
static int number_words(const struct column *column, uint32_t **ret_numbers, uint64_t **ret_words,
			uint64_t *ret_count)
{
	uint64_t most = column->count / 2 < MOST_WORDS ? column->count / 2 : MOST_WORDS;
	uint64_t *words = NULL;
	uint32_t *numbers = malloc(column->count * sizeof *numbers);
	int64_t found = -ENOSPC;

	for (uint64_t capacity = most < FEW_WORDS ? most : FEW_WORDS; found == -ENOSPC && capacity;
	     capacity = capacity == most       ? 0
			: capacity * 16 < most ? capacity * 16
					       : most) {
		free(words);
		words = malloc(capacity * sizeof *words);
		found = numbers && words ? mematlas_unique_inverse(
						   (const uint64_t *)(const void *)column->values,
						   column->count, capacity, numbers, words)
					 : -ENOMEM;
	}
	*ret_numbers = numbers;
	*ret_words = words;
	*ret_count = found > 0 ? (uint64_t)found : 0;
	return found == -ENOMEM ? -ENOMEM : 0;
}

static int64_t pack_words(const struct column *column, uint64_t bits, uint8_t *packed)
{
	struct column numbered = *column;
	struct mematlas_packing *packing = column->packing, as_bits = *packing;
	struct found found;
	uint32_t *numbers;
	uint64_t *words, count;
	int64_t taken = number_words(column, &numbers, &words, &count);

	if (!taken && count) {
		numbered.numbers = numbers;
		packing->way = MEMATLAS_PACKING_WORDS;
		look(&numbered, &found);
		if (8 * count + choose(&found, column->count, packing) < bits) {
			packing->words = (uint32_t)count;
			memcpy(packed, words, 8 * count);
			taken = put(&numbered, packed + 8 * count) - packed;
		} else {
			*packing = as_bits;
		}
	}
	free(numbers);
	free(words);
	return taken;
}

static bool fits(const void *values, uint64_t count, uint32_t bytes, uint32_t way)
{
	bool wide = way == MEMATLAS_PACKING_WHOLE || way == MEMATLAS_PACKING_WORDS;
	bool narrow = way == MEMATLAS_PACKING_STEPS || way == MEMATLAS_PACKING_BEHIND;

	return count <= UINT32_MAX && (bytes == 4 || bytes == 8) &&
	       (uintptr_t)values % bytes == 0 && way <= MEMATLAS_PACKING_WORDS &&
	       (bytes == 8 ? !narrow : !wide);
}

int64_t mematlas_column_pack(const void *values, uint64_t count, uint32_t bytes, uint32_t way,
			     uint32_t first, struct mematlas_packing *packing, uint8_t *packed)
{
	struct column column = {values, count, bytes, NULL, packing};
	struct mematlas_packing as_asked;
	struct found found;
	uint64_t asked = UINT64_MAX, bits;
	int64_t taken;

	if (!fits(values, count, bytes, way))
		return -EINVAL;
	*packing = (struct mematlas_packing){.first = first};
	if (!count)
		return 0;
	if (way != MEMATLAS_PACKING_BITS && way != MEMATLAS_PACKING_WORDS) {
		packing->way = (uint8_t)way;
		look(&column, &found);
		if (found.whole)
			asked = choose(&found, count, packing);
		as_asked = *packing;
		if (asked == 0 || (found.whole && way == MEMATLAS_PACKING_WHOLE))
			return put(&column, packed) - packed;
	}
	packing->way = MEMATLAS_PACKING_BITS;
	look(&column, &found);
	bits = choose(&found, count, packing);
	if (asked < bits)
		*packing = as_asked;
	if (way == MEMATLAS_PACKING_WORDS && bits) {
		taken = pack_words(&column, bits, packed);
		if (taken)
			return taken;
	}
	return put(&column, packed) - packed;
}
