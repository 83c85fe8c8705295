/* Blocks found by an address inside them. A block of 2^k bytes or more is filed under the window of 2^k
 * bytes it starts in: no two live blocks of one such class start in the same window, and the block
 * around an address starts in its window or one of the two before. Blocks below 2^LARGE_FIRST bytes
 * are looked for in the table of live blocks, start by start. */
#include <stdlib.h>
#include <string.h>

#include "state.h"

#define LARGE_FIRST 11
#define SMALL_STEP 16u /* every allocator aligns to this */

static unsigned class_of(uint64_t size)
{
	return 63 - (unsigned)__builtin_clzll(size);
}

/* Filed under: class and window in one word, never 0. */
static uint64_t file_key(unsigned class, uint64_t window)
{
	return (uint64_t)class << 56 | window;
}

static uint64_t slot_of(const struct large *large, uint64_t file)
{
	return (file * 0x9e3779b97f4a7c15ull >> 20) & large->mask;
}

static bool grow(struct large *large)
{
	uint64_t slots = large->mask ? (large->mask + 1) * 2 : 1024;
	struct large more = {calloc(slots, sizeof *large->slots), slots - 1, large->count};

	if (!more.slots)
		return false;
	for (uint64_t i = 0; large->mask && i <= large->mask; i++) {
		if (!large->slots[i].file)
			continue;
		uint64_t at = slot_of(&more, large->slots[i].file);
		while (more.slots[at].file)
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
	uint64_t file = file_key(class, TRACE_ADDRESS(key) >> class);
	uint64_t at = slot_of(large, file);
	while (large->slots[at].file && large->slots[at].file != file)
		at = (at + 1) & large->mask;
	large->count += large->slots[at].file == 0;
	large->slots[at].file = file;
	large->slots[at].key = key;
	return true;
}

void large_remove(struct large *large, uint64_t key, uint64_t size)
{
	if (size >> LARGE_FIRST == 0 || !large->mask)
		return;
	unsigned class = class_of(size);
	uint64_t file = file_key(class, TRACE_ADDRESS(key) >> class);
	uint64_t hole = slot_of(large, file);
	while (large->slots[hole].file && large->slots[hole].file != file)
		hole = (hole + 1) & large->mask;
	if (!large->slots[hole].file || large->slots[hole].key != key)
		return;
	for (uint64_t at = hole;;) {
		at = (at + 1) & large->mask;
		if (!large->slots[at].file)
			break;
		uint64_t home = slot_of(large, large->slots[at].file);
		if (((at - home) & large->mask) >= ((at - hole) & large->mask)) {
			large->slots[hole] = large->slots[at];
			hole = at;
		}
	}
	large->slots[hole].file = 0;
	large->count--;
}

static uint64_t filed(const struct large *large, uint64_t file)
{
	for (uint64_t at = slot_of(large, file); large->slots[at].file; at = (at + 1) & large->mask)
		if (large->slots[at].file == file)
			return large->slots[at].key;
	return 0;
}

static bool covers(const struct blocks *blocks, uint64_t key, uint64_t address, struct block *out)
{
	uint64_t start = TRACE_ADDRESS(key);

	return key && blocks_find(blocks, key, out) && address >= start &&
	       address - start < out->is.size;
}

static bool find_small(const struct blocks *blocks, uint64_t address, struct block *out)
{
	uint64_t start = address & ~(uint64_t)(SMALL_STEP - 1);

	for (unsigned step = 0; step < (1u << LARGE_FIRST) / SMALL_STEP; step++) {
		if (covers(blocks, BLOCK_KEY(start, TRACE_MALLOC), address, out) ||
		    covers(blocks, BLOCK_KEY(start, TRACE_PYOBJECT), address, out))
			return true;
		if (start < SMALL_STEP)
			break;
		start -= SMALL_STEP;
	}
	return false;
}

bool block_around(const struct state *state, uint64_t address, struct block *out)
{
	const struct large *large = &state->large;

	for (unsigned class = LARGE_FIRST; large->mask && class < 48; class++) {
		uint64_t window = address >> class;
		for (unsigned back = 0; back < 3 && back <= window; back++) {
			uint64_t key = filed(large, file_key(class, window - back));
			if (covers(&state->blocks, key, address, out))
				return true;
		}
	}
	return find_small(&state->blocks, address, out);
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
