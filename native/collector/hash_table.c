/* Tables of numbers with open addressing. A table is twice as long as the array it indexes. */
#include <stdlib.h>

#include "state.h"

uint64_t hash_mix(uint64_t a, uint64_t b)
{
	uint64_t x = (a ^ (b + 0x9e3779b97f4a7c15ull)) * 0xff51afd7ed558ccdull;

	x ^= x >> 32;
	x *= 0xc4ceb9fe1a85ec53ull;
	return x ^ x >> 29;
}

bool hash_table_fits(const uint32_t *table, uint32_t mask, uint32_t numbers)
{
	return table && mask == numbers * 2 - 1;
}

bool hash_table_grow(uint32_t **table, uint32_t *mask, uint32_t numbers)
{
	uint32_t *larger = calloc((size_t)numbers * 2, sizeof **table);

	if (!larger)
		return false;
	free(*table);
	*table = larger;
	*mask = numbers * 2 - 1;
	return true;
}
