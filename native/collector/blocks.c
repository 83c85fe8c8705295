/* The hash table of live blocks. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "state.h"

#define FIRST_SLOTS 1024u
#define CACHE_LINE 64u
#define HUGE_PAGE (2u << 20)

static size_t bytes_of(uint64_t slots)
{
	return slots / GROUP * sizeof(struct block_group);
}

/* Lookups are spread all over the table, and a TLB miss costs as much as a cache miss. So large
 * tables get huge pages. */
static struct block_group *make_groups(uint64_t slots)
{
	size_t bytes = bytes_of(slots);
	bool large = bytes >= HUGE_PAGE;
	void *memory;

	if (posix_memalign(&memory, large ? HUGE_PAGE : CACHE_LINE, bytes) != 0)
		return NULL;
	if (large)
		madvise(memory, bytes, MADV_HUGEPAGE);
	return memory;
}

static void store(struct blocks *blocks, uint64_t slot, uint64_t key, struct block_info info)
{
	*blocks_key(blocks, slot) = key;
	*blocks_info(blocks, slot) = info;
}

/* The slot of the key, or the empty slot where it belongs. */
static inline uint64_t seek(const struct blocks *blocks, uint64_t key)
{
	uint64_t slot = block_slot(blocks, key);

	for (;;) {
		uint64_t there = *blocks_key(blocks, slot);
		if (there == key || !there)
			return slot;
		slot = (slot + 1) & blocks->mask;
	}
}

static bool grow(struct blocks *blocks)
{
	uint64_t slots = blocks->mask ? (blocks->mask + 1) * 2 : FIRST_SLOTS;
	struct blocks larger = {make_groups(slots), slots - 1, blocks->count};

	if (!larger.groups)
		return false;
	memset(larger.groups, 0, bytes_of(slots));
	for (uint64_t i = 0; blocks->mask && i <= blocks->mask; i++) {
		uint64_t key = *blocks_key(blocks, i);
		if (key)
			store(&larger, seek(&larger, key), key, *blocks_info(blocks, i));
	}
	free(blocks->groups);
	*blocks = larger;
	return true;
}

bool blocks_add(struct blocks *blocks, const struct block *block, struct block *replaced)
{
	replaced->key = 0;
	if (blocks->count * 8 >= (blocks->mask + 1) * 5 || !blocks->mask) {
		if (!grow(blocks))
			return false;
	}
	uint64_t slot = seek(blocks, block->key);
	if (*blocks_key(blocks, slot))
		*replaced = (struct block){block->key, *blocks_info(blocks, slot)};
	else
		blocks->count++;
	store(blocks, slot, block->key, block->info);
	return true;
}

/* Moves back the keys that had probed past the hole. */
static void shift_back(struct blocks *blocks, uint64_t hole)
{
	uint64_t slot = hole;

	for (;;) {
		slot = (slot + 1) & blocks->mask;
		uint64_t key = *blocks_key(blocks, slot);
		if (!key)
			break;
		uint64_t home = block_slot(blocks, key);
		if (((slot - home) & blocks->mask) >= ((slot - hole) & blocks->mask)) {
			store(blocks, hole, key, *blocks_info(blocks, slot));
			hole = slot;
		}
	}
	*blocks_key(blocks, hole) = 0;
}

static bool find(const struct blocks *blocks, uint64_t key, uint64_t *slot, struct block *ret)
{
	if (!blocks->mask)
		return false;
	*slot = seek(blocks, key);
	if (!*blocks_key(blocks, *slot))
		return false;
	*ret = (struct block){key, *blocks_info(blocks, *slot)};
	return true;
}

bool blocks_remove(struct blocks *blocks, uint64_t key, struct block *ret)
{
	uint64_t slot;

	if (!find(blocks, key, &slot, ret))
		return false;
	shift_back(blocks, slot);
	blocks->count--;
	return true;
}

bool blocks_find(const struct blocks *blocks, uint64_t key, struct block *ret)
{
	uint64_t slot;

	return find(blocks, key, &slot, ret);
}

int blocks_copy(struct blocks *to, const struct blocks *from)
{
	*to = *from;
	if (!from->mask)
		return 0;
	to->groups = make_groups(from->mask + 1);
	if (!to->groups)
		return -ENOMEM;
	memcpy(to->groups, from->groups, bytes_of(from->mask + 1));
	return 0;
}
