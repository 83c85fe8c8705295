/* Distinct values and the inverse, by a hash table. A million nodes have some 10,000 distinct
 * words. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../cleanup.h"
#include "mematlas.h"

#define EMPTY UINT32_MAX

/* The upper bits of the product, which depend on all bits of the value. `shift` is 64 - the bits
 * of the mask. */
static uint64_t slot_of(uint64_t value, unsigned int shift)
{
	return value * 0x9E3779B97F4A7C15ULL >> shift;
}

/* values[i] == ret_distinct[ret_inverse[i]]. -ENOSPC: more than `capacity` distinct values; the
 * caller tries again with more. */
int64_t mematlas_unique_inverse(const uint64_t *values, uint64_t count, uint64_t capacity,
				uint32_t *ret_inverse, uint64_t *ret_distinct)
{
	unsigned int bits = 4;
	uint64_t found = 0;

	if (capacity >= 1ULL << 31)
		return -EINVAL;
	while (1ULL << bits < 2 * capacity)
		bits++;
	uint64_t mask = (1ULL << bits) - 1;
	CLEANUP_FREE uint32_t *table = malloc((mask + 1) * sizeof(*table));
	if (!table)
		return -ENOMEM;
	memset(table, 0xff, (mask + 1) * sizeof(*table));
	for (uint64_t i = 0; i < count; i++) {
		uint64_t slot = slot_of(values[i], 64 - bits);

		while (table[slot] != EMPTY && ret_distinct[table[slot]] != values[i])
			slot = (slot + 1) & mask;
		if (table[slot] == EMPTY) {
			if (found == capacity)
				return -ENOSPC;
			ret_distinct[found] = values[i];
			table[slot] = (uint32_t)found++;
		}
		ret_inverse[i] = table[slot];
	}
	return (int64_t)found;
}
