/* Tables of numbers with open addressing. A table is twice as long as the array it indexes. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "state.h"

#define HUGE_PAGE (2u << 20)

void prefer_huge_pages(void *memory, size_t bytes)
{
	uintptr_t start = ((uintptr_t)memory + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
	uintptr_t end = ((uintptr_t)memory + bytes) & ~(uintptr_t)(HUGE_PAGE - 1);

	if (bytes >= HUGE_PAGE && end > start)
		madvise((void *)start, end - start, MADV_HUGEPAGE);
}

uint64_t hash_mix(uint64_t a, uint64_t b)
{
	uint64_t x = (a ^ (b + 0x9e3779b97f4a7c15ull)) * 0xff51afd7ed558ccdull;

	x ^= x >> 32;
	x *= 0xc4ceb9fe1a85ec53ull;
	return x ^ x >> 29;
}

#define SMALLEST 256u

void *hash_table_shrink(void *items, size_t size, uint32_t count, uint32_t *capacity,
			uint32_t **table, uint32_t *mask)
{
	uint32_t smaller = SMALLEST;

	if (!*table)
		return items;
	while (smaller < 2 * (uint64_t)count)
		smaller *= 2;
	void *moved = NULL;
	if (smaller < *capacity && hash_table_grow(table, mask, smaller))
		moved = realloc(items, smaller * size);
	else
		memset(*table, 0, ((size_t)*mask + 1) * sizeof **table);
	if (smaller < *capacity && *mask == smaller * 2 - 1)
		*capacity = smaller; /* an array that could not be made shorter is long enough */
	return moved ? moved : items;
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
