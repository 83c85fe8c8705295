/* The order of rows by stack and kind, a byte of these at a time from the lowest on. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mematlas.h"

#define DIGITS 8u

static uint64_t key_of(const uint8_t *row)
{
	uint32_t parts[2];

	memcpy(parts, row, sizeof parts);
	return (uint64_t)parts[0] << 32 | parts[1];
}

static void place_by(const uint64_t *keys, uint64_t count, unsigned int shift,
		     const uint32_t *lengths, const uint32_t *from, uint32_t *to)
{
	uint32_t places[256];

	for (uint32_t digit = 0, place = 0; digit < 256; place += lengths[digit++])
		places[digit] = place;
	for (uint64_t i = 0; i < count; i++)
		to[places[keys[from[i]] >> shift & 0xFF]++] = from[i];
}

static int sort(const uint64_t *keys, uint64_t count, uint32_t *order)
{
	uint32_t (*lengths)[256] = calloc(DIGITS, sizeof *lengths);
	uint32_t *other = malloc(count * sizeof *other), *from = order, *to = other;
	bool enough = lengths && other;

	for (uint64_t row = 0; enough && row < count; row++) {
		order[row] = (uint32_t)row;
		for (unsigned int digit = 0; digit < DIGITS; digit++)
			lengths[digit][keys[row] >> 8 * digit & 0xFF]++;
	}
	for (unsigned int digit = 0; enough && digit < DIGITS; digit++) {
		if (lengths[digit][keys[0] >> 8 * digit & 0xFF] == count)
			continue; /* the same in all */
		place_by(keys, count, 8 * digit, lengths[digit], from, to);
		uint32_t *next = from;
		from = to;
		to = next;
	}
	if (enough && from != order)
		memcpy(order, from, count * sizeof *order);
	free(lengths);
	free(other);
	return enough ? 1 : -ENOMEM;
}

int mematlas_rows_order(const uint8_t *rows, uint64_t count, uint32_t size, uint32_t *order)
{
	uint64_t *keys;
	bool ascending = true;
	int sorted;

	if (size < 8 || count > UINT32_MAX)
		return -EINVAL;
	for (uint64_t row = 1; ascending && row < count; row++)
		ascending = key_of(rows + (row - 1) * size) <= key_of(rows + row * size);
	if (ascending)
		return 0;
	keys = malloc(count * sizeof *keys);
	if (!keys)
		return -ENOMEM;
	for (uint64_t row = 0; row < count; row++)
		keys[row] = key_of(rows + row * size);
	sorted = sort(keys, count, order);
	free(keys);
	return sorted;
}
