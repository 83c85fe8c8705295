/* The live blocks of a process by address and kind. */
#ifndef MEMATLAS_COLLECTOR_BLOCKS_H
#define MEMATLAS_COLLECTOR_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trace_format.h"

#define ADDRESS_BITS 48
#define BLOCK_KEY_MASK ((1ull << (ADDRESS_BITS + 8)) - 1)
#define BLOCK_KEY(address, kind) (TRACE_ADDRESS(address) | (uint64_t)(kind) << ADDRESS_BITS)

/* A live block.
 * key == address | kind << 48
 * born_high << 31 | born_low == clock at its birth >> BORN_SHIFT; see block_born() */
struct block_info {
	uint64_t size : 48, born_high : 16;
	uint32_t stats; /* index */
	uint32_t always : 1, born_low : 31; /* always: weight 1 whatever its size */
};
struct block {
	uint64_t key;
	struct block_info info;
};

/* The blocks of one kind that start in 512 bytes of address space, at one of 64 places, in no order.
 *
 * starts[i] == place of block i < count; the bytes behind are 255. After `starts` come `count` of block_info */
#define CELL_SHIFT 9u
#define CELL_PLACES 64u
#define CELL_CLASSES 5u
struct block_cell {
	union {
		struct block_cell *next; /* of a cell that is not in use */
		struct {
			uint32_t class; /* of size */
			uint32_t count;
		};
	};
	uint64_t starts[]; /* 8 bytes each */
};

/* Number of a block's cell, its place there, and its key by both. Blocks start at multiples of 8; the others, if ever,
 * have cells of their own. */
#define CELL_NUMBER(key) ((key) >> CELL_SHIFT | (key) << 61)
#define CELL_PLACE(key) ((unsigned)((key) >> 3) % CELL_PLACES)
#define CELL_KEY(number, place)                                                                    \
	(((number) << CELL_SHIFT & BLOCK_KEY_MASK) | (uint64_t)(place) << 3 | (number) >> 61)

struct cell_slot {
	uint64_t number;
	struct block_cell *cell; /* NULL: empty */
};

/* Open addressing, linear probing; cells are removed when the table is made anew.
 *
 * slots == mask + 1, a power of two; cells == number of slots with a cell; count == number of their blocks
 * 8 * cells <= 5 * slots + 8
 * a cell in slot s: no slot from cell_home(number) to s is empty */
struct blocks {
	struct cell_slot *slots;
	uint64_t mask; /* 0 while there are no slots */
	uint64_t count, cells;
	struct block_cell *unused[CELL_CLASSES];
	struct cell_chunk *chunks;
	char *fresh; /* memory of the newest chunk that was not used yet */
	size_t fresh_bytes;
};
_Static_assert(sizeof(struct block_info) == 16,
	       "three blocks and the head of their cell fill a cache line");

/* Four neighbours share a cache line. */
static inline uint64_t cell_home(const struct blocks *blocks, uint64_t number)
{
	uint64_t group = ((number >> 2) * 0x9e3779b97f4a7c15ull) >> 20;

	return (group << 2 | (number & 3)) & blocks->mask;
}

/* Fetches what a lookup reads first, and after that took effect, what it reads then. */
static inline void block_prefetch(const struct blocks *blocks, uint64_t key)
{
	if (blocks->mask)
		__builtin_prefetch(&blocks->slots[cell_home(blocks, CELL_NUMBER(key))]);
}
static inline void block_prefetch_cell(const struct blocks *blocks, uint64_t key)
{
	if (!blocks->mask)
		return;
	const struct cell_slot *slot = &blocks->slots[cell_home(blocks, CELL_NUMBER(key))];
	if (!slot->cell || slot->number != CELL_NUMBER(key))
		return;
	__builtin_prefetch(slot->cell, 1);
	__builtin_prefetch((const char *)slot->cell + 64, 1);
}

#define BORN_SHIFT 6 /* 47 bits then last for a month at 3 GHz */

static inline struct block block_make(uint64_t key, uint64_t size, uint32_t stats, bool always,
				      uint64_t time)
{
	const uint64_t max_size = (1ull << ADDRESS_BITS) - 1;
	uint64_t born = time >> BORN_SHIFT;

	return (struct block){
		.key = key,
		.info =
			{
				.size = size > max_size ? max_size : size,
				.born_high = (born >> 31) & 0xffff,
				.stats = stats,
				.always = always,
				.born_low = born & 0x7fffffff,
			},
	};
}

static inline uint64_t block_born(const struct block_info *block)
{
	return ((uint64_t)block->born_high << 31 | block->born_low) << BORN_SHIFT;
}

/* blocks.c: blocks_add() replaces an earlier block of the same key and returns it in `replaced`,
 * whose key is 0 if there was none. */
bool blocks_add(struct blocks *blocks, const struct block *block, struct block *replaced);
bool blocks_remove(struct blocks *blocks, uint64_t key, struct block *ret);
bool blocks_find(const struct blocks *blocks, uint64_t key, struct block *ret);
int blocks_copy(struct blocks *to, const struct blocks *from); /* -ENOMEM: `to` is empty */
void blocks_free(struct blocks *blocks);
/* Returns the next block, from a cursor of zeroes on; NULL: that was the last. */
struct blocks_cursor {
	uint64_t slot;
	uint32_t at;
};
struct block_info *blocks_next(const struct blocks *blocks, struct blocks_cursor *cursor,
			       uint64_t *key);
const char *blocks_check(const struct blocks *blocks); /* as state_check() */

#endif
