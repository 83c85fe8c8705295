/* The order of rows by stack and kind: a radix sort by bytes, the lowest first. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../cleanup.h"
#include "mematlas.h"

#define DIGITS 8u

/* The first eight bytes of a row: stack, then kind. Rows need no alignment. */
static uint64_t key_of(const uint8_t *row)
{
	uint32_t parts[2];

	memcpy(parts, row, sizeof parts);
	return (uint64_t)parts[0] << 32 | parts[1];
}

/* Stable, which a sort from the lowest digit up requires. `lengths` counts each digit over all
 * rows. */
static void sort_by_digit(const uint64_t *keys, uint64_t count, unsigned int shift,
			  const uint32_t *lengths, const uint32_t *from, uint32_t *to)
{
	uint32_t next[256];

	for (uint32_t digit = 0, start = 0; digit < 256; start += lengths[digit++])
		next[digit] = start;
	for (uint64_t i = 0; i < count; i++)
		to[next[keys[from[i]] >> shift & 0xFF]++] = from[i];
}

static void count_digits(const uint64_t *keys, uint64_t count, uint32_t (*lengths)[256])
{
	for (uint64_t row = 0; row < count; row++)
		for (unsigned int digit = 0; digit < DIGITS; digit++)
			lengths[digit][keys[row] >> 8 * digit & 0xFF]++;
}

/* Returns 1 or -ENOMEM. Most digits are equal in all keys, since stacks and kinds are small
 * numbers. */
static int sort(const uint64_t *keys, uint64_t count, uint32_t *order)
{
	CLEANUP_FREE uint32_t (*lengths)[256] = calloc(DIGITS, sizeof *lengths);
	CLEANUP_FREE uint32_t *other = malloc(count * sizeof *other);
	uint32_t *from = order, *to = other;

	if (!lengths || !other)
		return -ENOMEM;
	for (uint64_t row = 0; row < count; row++)
		order[row] = (uint32_t)row;
	count_digits(keys, count, lengths);
	for (unsigned int digit = 0; digit < DIGITS; digit++) {
		if (lengths[digit][keys[0] >> 8 * digit & 0xFF] == count)
			continue; /* all keys have the same digit */
		sort_by_digit(keys, count, 8 * digit, lengths[digit], from, to);
		uint32_t *next = from;
		from = to;
		to = next;
	}
	if (from != order)
		memcpy(order, from, count * sizeof *order);
	return 1;
}

/* Returns 0: the rows are in order already, and ret_order is unset; 1: sorted. */
int mematlas_rows_order(const uint8_t *rows, uint64_t count, uint32_t size, uint32_t *ret_order)
{
	bool ascending = true;

	if (size < 8 || count > UINT32_MAX)
		return -EINVAL;
	for (uint64_t row = 1; ascending && row < count; row++)
		ascending = key_of(rows + (row - 1) * size) <= key_of(rows + row * size);
	if (ascending)
		return 0;
	CLEANUP_FREE uint64_t *keys = malloc(count * sizeof *keys);
	if (!keys)
		return -ENOMEM;
	for (uint64_t row = 0; row < count; row++)
		keys[row] = key_of(rows + row * size);
	return sort(keys, count, ret_order);
}
