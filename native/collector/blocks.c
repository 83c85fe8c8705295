/* The table of live blocks. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "state.h"

#define FIRST_SLOTS 1024u
#define HUGE_PAGE (2u << 20)

/* Large tables lie on huge pages: blocks are looked up all over the table, and a TLB miss costs as
 * much as a cache miss. */
static struct block *make_slots(uint64_t slots)
{
	size_t bytes = slots * sizeof(struct block);
	void *memory;

	if (bytes < HUGE_PAGE)
		return calloc(slots, sizeof(struct block));
	if (posix_memalign(&memory, HUGE_PAGE, bytes) != 0)
		return NULL;
	madvise(memory, bytes, MADV_HUGEPAGE);
	return memset(memory, 0, bytes);
}

static bool grow(struct blocks *blocks)
{
	uint64_t slots = blocks->mask ? (blocks->mask + 1) * 2 : FIRST_SLOTS;
	struct blocks larger = {make_slots(slots), slots - 1, blocks->count};

	if (!larger.slots)
		return false;
	for (uint64_t i = 0; blocks->mask && i <= blocks->mask; i++) {
		const struct block *block = &blocks->slots[i];
		if (!block->key)
			continue;
		uint64_t at = block_slot(&larger, block->key);
		while (larger.slots[at].key)
			at = (at + 1) & larger.mask;
		larger.slots[at] = *block;
	}
	free(blocks->slots);
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
	uint64_t at = block_slot(blocks, block->key);
	while (blocks->slots[at].key) {
		if (blocks->slots[at].key == block->key) {
			*replaced = blocks->slots[at];
			blocks->slots[at] = *block;
			return true;
		}
		at = (at + 1) & blocks->mask;
	}
	blocks->slots[at] = *block;
	blocks->count++;
	return true;
}

/* Closes the hole at `hole` with whatever probed past it. */
static void shift_back(struct blocks *blocks, uint64_t hole)
{
	uint64_t at = hole;

	for (;;) {
		at = (at + 1) & blocks->mask;
		uint64_t key = blocks->slots[at].key;
		if (!key)
			break;
		uint64_t home = block_slot(blocks, key);
		if (((at - home) & blocks->mask) >= ((at - hole) & blocks->mask)) {
			blocks->slots[hole] = blocks->slots[at];
			hole = at;
		}
	}
	blocks->slots[hole].key = 0;
}

bool blocks_take(struct blocks *blocks, uint64_t key, struct block *out)
{
	if (!blocks->mask)
		return false;
	for (uint64_t at = block_slot(blocks, key); blocks->slots[at].key;
	     at = (at + 1) & blocks->mask) {
		if (blocks->slots[at].key != key)
			continue;
		*out = blocks->slots[at];
		shift_back(blocks, at);
		blocks->count--;
		return true;
	}
	return false;
}

const struct block *blocks_find(const struct blocks *blocks, uint64_t key)
{
	for (uint64_t at = block_slot(blocks, key); blocks->slots[at].key;
	     at = (at + 1) & blocks->mask)
		if (blocks->slots[at].key == key)
			return &blocks->slots[at];
	return NULL;
}

int blocks_copy(struct blocks *to, const struct blocks *from)
{
	*to = *from;
	if (!from->mask)
		return 0;
	to->slots = malloc((from->mask + 1) * sizeof(struct block));
	if (!to->slots)
		return -ENOMEM;
	memcpy(to->slots, from->slots, (from->mask + 1) * sizeof(struct block));
	return 0;
}
