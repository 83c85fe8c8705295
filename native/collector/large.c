/* Finds the block around an address. A block of 2^k to 2^(k+1) - 1 bytes is indexed by the aligned
 * window of 2^k bytes that its start is in. No two live blocks of one size class start in the same
 * window, and a block around an address starts in the address's window or in one of the two before.
 * Blocks below 2^LARGE_FIRST bytes are not indexed. Every start they may have is tried in the table
 * of live blocks. */
#include <stdlib.h>
#include <string.h>

#include "state.h"

#define LARGE_FIRST 11
#define SMALL_STEP 16u /* no allocator aligns to less */

static unsigned class_of(uint64_t size)
{
	return 63 - (unsigned)__builtin_clzll(size);
}

/* Size class and window in one word, which is never 0. */
static uint64_t window_of(unsigned class, uint64_t number)
{
	return (uint64_t)class << 56 | number;
}

static uint64_t slot_of(const struct large *large, uint64_t window)
{
	return (window * 0x9e3779b97f4a7c15ull >> 20) & large->mask;
}

static bool grow(struct large *large)
{
	uint64_t slots = large->mask ? (large->mask + 1) * 2 : 1024;
	struct large more = {calloc(slots, sizeof *large->slots), slots - 1, large->count};

	if (!more.slots)
		return false;
	for (uint64_t i = 0; large->mask && i <= large->mask; i++) {
		if (!large->slots[i].window)
			continue;
		uint64_t at = slot_of(&more, large->slots[i].window);
		while (more.slots[at].window)
			at = (at + 1) & more.mask;
		more.slots[at] = large->slots[i];
	}
	free(large->slots);
	*large = more;
	return true;
}

bool large_add(struct large *large, uint64_t key, uint64_t size)
{
	if (size >> LARGE_FIRST == 0)
		return true;
	if ((large->count * 2 > large->mask || !large->mask) && !grow(large))
		return false;
	unsigned class = class_of(size);
	uint64_t window = window_of(class, TRACE_ADDRESS(key) >> class);
	uint64_t at = slot_of(large, window);
	while (large->slots[at].window && large->slots[at].window != window)
		at = (at + 1) & large->mask;
	large->count += large->slots[at].window == 0;
	large->slots[at].window = window;
	large->slots[at].key = key;
	return true;
}

void large_remove(struct large *large, uint64_t key, uint64_t size)
{
	if (size >> LARGE_FIRST == 0 || !large->mask)
		return;
	unsigned class = class_of(size);
	uint64_t window = window_of(class, TRACE_ADDRESS(key) >> class);
	uint64_t hole = slot_of(large, window);
	while (large->slots[hole].window && large->slots[hole].window != window)
		hole = (hole + 1) & large->mask;
	if (!large->slots[hole].window || large->slots[hole].key != key)
		return;
	for (uint64_t at = hole;;) {
		at = (at + 1) & large->mask;
		if (!large->slots[at].window)
			break;
		uint64_t home = slot_of(large, large->slots[at].window);
		if (((at - home) & large->mask) >= ((at - hole) & large->mask)) {
			large->slots[hole] = large->slots[at];
			hole = at;
		}
	}
	large->slots[hole].window = 0;
	large->count--;
}

static uint64_t find_window(const struct large *large, uint64_t window)
{
	for (uint64_t at = slot_of(large, window); large->slots[at].window;
	     at = (at + 1) & large->mask)
		if (large->slots[at].window == window)
			return large->slots[at].key;
	return 0;
}

static bool covers(const struct blocks *blocks, uint64_t key, uint64_t address, struct block *ret)
{
	uint64_t start = TRACE_ADDRESS(key);

	return key && blocks_find(blocks, key, ret) && address >= start &&
	       address - start < ret->info.size;
}

static bool find_small(const struct blocks *blocks, uint64_t address, struct block *ret)
{
	uint64_t start = address & ~(uint64_t)(SMALL_STEP - 1);

	for (unsigned step = 0; step < (1u << LARGE_FIRST) / SMALL_STEP; step++) {
		if (covers(blocks, BLOCK_KEY(start, TRACE_MALLOC), address, ret) ||
		    covers(blocks, BLOCK_KEY(start, TRACE_PYOBJECT), address, ret))
			return true;
		if (start < SMALL_STEP)
			break;
		start -= SMALL_STEP;
	}
	return false;
}

bool block_around(const struct state *state, uint64_t address, struct block *ret)
{
	const struct large *large = &state->large;

	for (unsigned class = LARGE_FIRST; large->mask && class < 48; class++) {
		uint64_t number = address >> class;
		for (unsigned back = 0; back < 3 && back <= number; back++) {
			uint64_t key = find_window(large, window_of(class, number - back));
			if (covers(&state->blocks, key, address, ret))
				return true;
		}
	}
	return find_small(&state->blocks, address, ret);
}

bool large_copy(struct large *to, const struct large *from)
{
	size_t bytes = (from->mask + 1) * sizeof *from->slots;

	*to = *from;
	if (!from->mask)
		return true;
	to->slots = malloc(bytes);
	if (to->slots)
		memcpy(to->slots, from->slots, bytes);
	return to->slots != NULL;
}
