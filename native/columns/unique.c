/* Distinct words by a hash table that holds their numbers: a million nodes have some 10,000 words. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mematlas.h"

#define EMPTY UINT32_MAX

static uint64_t place_of(uint64_t word, unsigned int shift)
{
	return word * 0x9E3779B97F4A7C15ULL >> shift;
}

int64_t mematlas_unique_inverse(const uint64_t *words, uint64_t count, uint64_t capacity,
				uint32_t *numbers, uint64_t *distinct)
{
	unsigned int bits = 4;
	uint64_t found = 0, mask;
	uint32_t *table;

	if (capacity >= 1ULL << 31)
		return -EINVAL;
	while (1ULL << bits < 2 * capacity)
		bits++;
	mask = (1ULL << bits) - 1;
	table = malloc((mask + 1) * sizeof(*table));
	if (!table)
		return -ENOMEM;
	memset(table, 0xff, (mask + 1) * sizeof(*table));
	for (uint64_t i = 0; i < count; i++) {
		uint64_t place = place_of(words[i], 64 - bits);

		while (table[place] != EMPTY && distinct[table[place]] != words[i])
			place = (place + 1) & mask;
		if (table[place] == EMPTY) {
			if (found == capacity) {
				free(table);
				return -ENOSPC;
			}
			distinct[found] = words[i];
			table[place] = (uint32_t)found++;
		}
		numbers[i] = table[place];
	}
	free(table);
	return (int64_t)found;
}
