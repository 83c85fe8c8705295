/* The live blocks of a process, in cells found by a hash table. What is near in the program's memory is near here: a
 * program that uses the memory of a freed block again, as most do soon, makes the collector find its cell in the cache.
 *
 * A cell grows with its blocks, and the hash table with the number of cells. Empty cells stay in the table until then,
 * since most are soon used again. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

#define FIRST_SLOTS 64u
#define CACHE_LINE 64u
#define HUGE_PAGE (2u << 20)
#define FIRST_CHUNK (16u << 10)
#define MAX_CHUNK HUGE_PAGE
#define NO_BLOCK 0xffu

/* By class of a cell: words of `starts`, and blocks. */
static const struct {
	uint8_t words, capacity;
} classes[CELL_CLASSES] = {{1, 3}, {1, 7}, {2, 14}, {4, 29}, {8, CELL_PLACES}};

/* Cells lie behind one another in chunks, which stay until blocks_free(). */
struct cell_chunk {
	struct cell_chunk *next;
	size_t bytes;
};
_Static_assert(sizeof(struct cell_chunk) <= CACHE_LINE, "the first cell begins at the second line");

static inline struct block_info *infos_of(const struct block_cell *cell)
{
	return (struct block_info *)(cell->starts + classes[cell->class].words);
}

static inline uint8_t *starts_of(const struct block_cell *cell)
{
	return (uint8_t *)cell->starts;
}

static size_t cell_bytes(unsigned class)
{
	size_t bytes = sizeof(struct block_cell) + classes[class].words * sizeof(uint64_t) +
		       classes[class].capacity * sizeof(struct block_info);

	return (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

static void *make_lines(size_t bytes)
{
	void *memory;

	if (posix_memalign(&memory, bytes >= HUGE_PAGE ? HUGE_PAGE : CACHE_LINE, bytes) != 0)
		return NULL;
	prefer_huge_pages(memory, bytes);
	return memory;
}

/* What is left of the chunk before is lost. It is less than a cell. */
static bool add_chunk(struct blocks *blocks)
{
	size_t bytes = blocks->chunks ? blocks->chunks->bytes * 2 : FIRST_CHUNK;

	if (bytes > MAX_CHUNK)
		bytes = MAX_CHUNK;
	struct cell_chunk *chunk = make_lines(bytes);
	if (!chunk)
		return false;
	*chunk = (struct cell_chunk){blocks->chunks, bytes};
	blocks->chunks = chunk;
	blocks->fresh = (char *)chunk + CACHE_LINE;
	blocks->fresh_bytes = bytes - CACHE_LINE;
	return true;
}

static struct block_cell *cell_make(struct blocks *blocks, unsigned class)
{
	struct block_cell *cell = blocks->unused[class];
	size_t bytes = cell_bytes(class);

	if (cell) {
		blocks->unused[class] = cell->next;
	} else {
		if (blocks->fresh_bytes < bytes && !add_chunk(blocks))
			return NULL;
		cell = (struct block_cell *)blocks->fresh;
		blocks->fresh += bytes;
		blocks->fresh_bytes -= bytes;
	}
	cell->class = class;
	cell->count = 0;
	memset(cell->starts, NO_BLOCK, classes[class].words * sizeof(uint64_t));
	return cell;
}

static void cell_drop(struct blocks *blocks, struct block_cell *cell)
{
	uint32_t class = cell->class;

	cell->next = blocks->unused[class];
	blocks->unused[class] = cell;
}

static void cell_fill(struct block_cell *to, const struct block_cell *from)
{
	to->count = from->count;
	memcpy(to->starts, from->starts, from->count);
	memcpy(infos_of(to), infos_of(from), from->count * sizeof(struct block_info));
}

/* False: no memory, and the cell is unchanged. */
static bool cell_resize(struct blocks *blocks, struct cell_slot *slot, unsigned class)
{
	struct block_cell *made = cell_make(blocks, class);

	if (!made)
		return false;
	cell_fill(made, slot->cell);
	cell_drop(blocks, slot->cell);
	slot->cell = made;
	return true;
}

/* The index of the block at the place, or NO_BLOCK. All bytes of a word are compared at once. */
static inline unsigned find_in(const struct block_cell *cell, unsigned place)
{
	const uint64_t ones = 0x0101010101010101ull;

	for (unsigned word = 0; word < classes[cell->class].words; word++) {
		uint64_t differ = cell->starts[word] ^ ones * place;
		uint64_t equal = (differ - ones) & ~differ & ones << 7;
		if (equal) /* the lowest bit is exact */
			return 8 * word + (unsigned)__builtin_ctzll(equal) / 8;
	}
	return NO_BLOCK;
}

static inline void append(struct block_cell *cell, unsigned place, struct block_info info)
{
	uint32_t at = cell->count++;

	infos_of(cell)[at] = info;
	starts_of(cell)[at] = (uint8_t)place;
}

/* The last block takes the index of the removed one. */
static inline void remove_at(struct block_cell *cell, unsigned at)
{
	struct block_info *infos = infos_of(cell);
	uint8_t *starts = starts_of(cell);
	uint32_t last = --cell->count;

	infos[at] = infos[last];
	starts[at] = starts[last];
	starts[last] = NO_BLOCK;
}

/* The slot of the cell, or the empty slot where it belongs. */
static inline struct cell_slot *seek(const struct blocks *blocks, uint64_t number)
{
	for (uint64_t at = cell_home(blocks, number);; at = (at + 1) & blocks->mask) {
		struct cell_slot *slot = &blocks->slots[at];
		if (slot->number == number || !slot->cell)
			return slot;
	}
}

static struct cell_slot *find_cell(const struct blocks *blocks, uint64_t key)
{
	if (!blocks->mask)
		return NULL;
	struct cell_slot *slot = seek(blocks, CELL_NUMBER(key));
	return slot->cell ? slot : NULL;
}

static void move_cells(struct blocks *to, const struct blocks *from)
{
	for (uint64_t i = 0; from->mask && i <= from->mask; i++) {
		const struct cell_slot *slot = &from->slots[i];
		if (slot->cell && slot->cell->count)
			*seek(to, slot->number) = *slot;
		else if (slot->cell)
			cell_drop(to, slot->cell);
	}
}

/* Drops empty cells, and makes the table twice as long where too many are left. */
static bool rebuild(struct blocks *blocks)
{
	struct blocks made = *blocks;
	uint64_t slots = FIRST_SLOTS;

	made.cells = 0;
	for (uint64_t i = 0; blocks->mask && i <= blocks->mask; i++)
		made.cells += blocks->slots[i].cell && blocks->slots[i].cell->count;
	while (made.cells * 2 >= slots)
		slots *= 2;
	made.slots = make_lines(slots * sizeof *made.slots);
	made.mask = slots - 1;
	if (!made.slots)
		return false;
	memset(made.slots, 0, slots * sizeof *made.slots);
	move_cells(&made, blocks);
	free(blocks->slots);
	*blocks = made;
	return true;
}

static struct cell_slot *add_cell(struct blocks *blocks, uint64_t key)
{
	if ((blocks->cells * 8 >= (blocks->mask + 1) * 5 || !blocks->mask) && !rebuild(blocks))
		return NULL;
	struct block_cell *cell = cell_make(blocks, 0);
	if (!cell)
		return NULL;
	struct cell_slot *slot = seek(blocks, CELL_NUMBER(key));
	*slot = (struct cell_slot){CELL_NUMBER(key), cell};
	blocks->cells++;
	return slot;
}

bool blocks_add(struct blocks *blocks, const struct block *block, struct block *replaced)
{
	struct cell_slot *slot = find_cell(blocks, block->key);

	replaced->key = 0;
	if (!slot)
		slot = add_cell(blocks, block->key);
	if (!slot)
		return false;
	struct block_cell *cell = slot->cell;
	unsigned at = find_in(cell, CELL_PLACE(block->key));
	if (at != NO_BLOCK) {
		*replaced = (struct block){block->key, infos_of(cell)[at]};
		infos_of(cell)[at] = block->info;
		return true;
	}
	if (cell->count == classes[cell->class].capacity &&
	    !cell_resize(blocks, slot, cell->class + 1))
		return false;
	append(slot->cell, CELL_PLACE(block->key), block->info);
	blocks->count++;
	return true;
}

bool blocks_find(const struct blocks *blocks, uint64_t key, struct block *ret)
{
	const struct cell_slot *slot = find_cell(blocks, key);
	unsigned at = slot ? find_in(slot->cell, CELL_PLACE(key)) : NO_BLOCK;

	if (at == NO_BLOCK)
		return false;
	*ret = (struct block){key, infos_of(slot->cell)[at]};
	return true;
}

bool blocks_remove(struct blocks *blocks, uint64_t key, struct block *ret)
{
	struct cell_slot *slot = find_cell(blocks, key);
	unsigned at = slot ? find_in(slot->cell, CELL_PLACE(key)) : NO_BLOCK;

	if (at == NO_BLOCK)
		return false;
	struct block_cell *cell = slot->cell;
	*ret = (struct block){key, infos_of(cell)[at]};
	remove_at(cell, at);
	blocks->count--;
	if (cell->class && cell->count < classes[cell->class - 1].capacity / 2u)
		cell_resize(blocks, slot, cell->class - 1); /* without memory it stays */
	return true;
}

struct block_info *blocks_next(const struct blocks *blocks, struct blocks_cursor *cursor,
			       uint64_t *key)
{
	while (blocks->mask && cursor->slot <= blocks->mask) {
		const struct cell_slot *slot = &blocks->slots[cursor->slot];
		if (slot->cell && cursor->at < slot->cell->count) {
			unsigned at = cursor->at++;
			*key = CELL_KEY(slot->number, starts_of(slot->cell)[at]);
			return &infos_of(slot->cell)[at];
		}
		cursor->slot++;
		cursor->at = 0;
	}
	return NULL;
}

void blocks_free(struct blocks *blocks)
{
	struct cell_chunk *chunk = blocks->chunks;

	while (chunk) {
		struct cell_chunk *next = chunk->next;
		free(chunk);
		chunk = next;
	}
	free(blocks->slots);
	*blocks = (struct blocks){0};
}

static bool copy_cells(struct blocks *to, const struct blocks *from)
{
	for (uint64_t i = 0; i <= from->mask; i++) {
		const struct cell_slot *slot = &from->slots[i];
		if (!slot->cell)
			continue;
		struct block_cell *cell = cell_make(to, slot->cell->class);
		if (!cell)
			return false;
		cell_fill(cell, slot->cell);
		to->slots[i] = (struct cell_slot){slot->number, cell};
	}
	return true;
}

int blocks_copy(struct blocks *to, const struct blocks *from)
{
	*to = (struct blocks){0};
	if (!from->mask)
		return 0;
	to->slots = make_lines((from->mask + 1) * sizeof *to->slots);
	if (!to->slots)
		return -ENOMEM;
	memset(to->slots, 0, (from->mask + 1) * sizeof *to->slots);
	to->mask = from->mask;
	to->count = from->count;
	to->cells = from->cells;
	if (copy_cells(to, from))
		return 0;
	blocks_free(to);
	return -ENOMEM;
}

static bool is_reachable(const struct blocks *blocks, uint64_t at)
{
	uint64_t home = cell_home(blocks, blocks->slots[at].number);

	for (uint64_t slot = home; slot != at; slot = (slot + 1) & blocks->mask)
		if (!blocks->slots[slot].cell)
			return false;
	return true;
}

static const char *check_cell(const struct block_cell *cell)
{
	if (cell->class >= CELL_CLASSES || cell->count > classes[cell->class].capacity)
		return "a cell has no more blocks than fit";
	for (uint32_t i = 0; i < classes[cell->class].words * 8u; i++) {
		uint8_t place = starts_of(cell)[i];
		if (i >= cell->count ? place != NO_BLOCK : place >= CELL_PLACES)
			return "the blocks of a cell have places, the others none";
		if (i < cell->count && find_in(cell, place) != i)
			return "no two blocks of a cell have the same place";
	}
	return NULL;
}

static const char *check_slot(const struct blocks *blocks, uint64_t at)
{
	const char *wrong = check_cell(blocks->slots[at].cell);

	if (wrong)
		return wrong;
	return is_reachable(blocks, at) ? NULL : "no empty slot between a cell and its home";
}

const char *blocks_check(const struct blocks *blocks)
{
	uint64_t count = 0, cells = 0;

	if (blocks->mask & (blocks->mask + 1))
		return "slots is a power of two";
	for (uint64_t i = 0; blocks->mask && i <= blocks->mask; i++) {
		if (!blocks->slots[i].cell)
			continue;
		const char *wrong = check_slot(blocks, i);
		if (wrong)
			return wrong;
		cells++;
		count += blocks->slots[i].cell->count;
	}
	if (count != blocks->count || cells != blocks->cells)
		return "blocks.count is the number of blocks, blocks.cells that of cells";
	return 8 * cells > 5 * (blocks->mask + 1) + 8 ? "cells are not too full" : NULL;
}
