/* A table of memory by the stack that touched it and the owner: sampled page faults, and the residency
 * join of what they touched. */
#include <string.h>

#include "../array.h"
#include "collector.h"

static uint32_t slot_of(const struct fault_sites *sites, const struct mematlas_fault_site *site)
{
	uint64_t x = ((uint64_t)site->stack << 32 | site->owner) * 0x9e3779b97f4a7c15ull;

	return (uint32_t)((x ^ site->kind * 0xff51afd7ed558ccdull) >> 29) & sites->mask;
}

static bool same(const struct mematlas_fault_site *a, const struct mematlas_fault_site *b)
{
	return a->stack == b->stack && a->owner == b->owner && a->kind == b->kind;
}

static bool rehash(struct fault_sites *sites)
{
	if (!hash_table_grow(&sites->table, &sites->mask, sites->capacity))
		return false;
	for (uint32_t i = 0; i < sites->count; i++) {
		uint32_t at = slot_of(sites, &sites->items[i]);
		while (sites->table[at])
			at = (at + 1) & sites->mask;
		sites->table[at] = i + 1;
	}
	return true;
}

struct mematlas_fault_site *fault_sites_find(struct fault_sites *sites,
					     const struct mematlas_fault_site *key)
{
	if (!ARRAY_RESERVE(sites->items, sites->count, sites->capacity, 64) ||
	    (!hash_table_fits(sites->table, sites->mask, sites->capacity) && !rehash(sites)))
		return NULL;
	uint32_t at = slot_of(sites, key);
	for (; sites->table[at]; at = (at + 1) & sites->mask)
		if (same(&sites->items[sites->table[at] - 1], key))
			return &sites->items[sites->table[at] - 1];
	sites->items[sites->count] = *key;
	sites->table[at] = ++sites->count;
	return &sites->items[sites->count - 1];
}

void fault_sites_clear(struct fault_sites *sites)
{
	if (sites->table)
		memset(sites->table, 0, ((size_t)sites->mask + 1) * sizeof *sites->table);
	sites->count = sites->part_count = 0;
	sites->samples = 0;
}
