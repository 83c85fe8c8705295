/* What the collector knows of one process: live blocks, mappings, stacks, sums. No I/O here. */
#ifndef MEMATLAS_COLLECTOR_STATE_H
#define MEMATLAS_COLLECTOR_STATE_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../proc/page_size.h"
#include "mematlas.h"
#include "trace_format.h"

#define TRACE_PAGE 4096u

#define KINDS 6 /* enum trace_kind counts from 1 */

/* A live block. `key` is address | kind << 48. It was born at the clock's
 * (born_high << 31 | born_low) << BORN_SHIFT; see block_born(). */
struct block_facts {
	uint64_t size : 48, born_high : 16;
	uint32_t sum;
	uint32_t always : 1, born_low : 31; /* always: weight 1 whatever its size */
};
struct block {
	uint64_t key;
	struct block_facts is;
};

/* Open addressing, linear probing, deletion by shifting back: no tombstones, so no decay. Keys lie
 * together, a cache line of them in a group, so that a search seldom needs another line. */
#define GROUP 8u
struct block_group {
	uint64_t keys[GROUP]; /* 0: empty */
	struct block_facts facts[GROUP];
};
struct blocks {
	struct block_group *groups;
	uint64_t mask; /* slots - 1; 0 while there are none */
	uint64_t count;
};

static inline uint64_t *blocks_key(const struct blocks *blocks, uint64_t slot)
{
	return &blocks->groups[slot / GROUP].keys[slot % GROUP];
}

static inline struct block_facts *blocks_facts(const struct blocks *blocks, uint64_t slot)
{
	return &blocks->groups[slot / GROUP].facts[slot % GROUP];
}

/* Where large blocks start, by size class; kept only while page faults are sampled. */
struct large {
	struct {
		uint64_t file, key; /* file 0: empty */
	} *slots;
	uint64_t mask, count;
};

struct range {
	uint64_t start, end;
	uint64_t born; /* clock */
	uint32_t sum;
	uint8_t kind;
	uint8_t reserved; /* address space put aside: 0 live bytes */
};

/* Sorted by start, disjoint. */
struct ranges {
	struct range *items;
	size_t count, room;
};

/* Figures of one (stack, kind). The first 64 bytes are what every event touches. */
struct sum {
	uint64_t seen; /* the peak epoch for which `peak*` were last brought up to date */
	double live, live_count;
	double allocated, allocations;
	double freed;
	double bad_frees;
	uint32_t node, kind;
	double live_variance, allocated_variance;
	double brief;         /* bytes of freed blocks that lived less than a millisecond */
	double lives[MEMATLAS_LIFETIMES]; /* freed blocks, by how long they lived */
	double peak, peak_count, peak_variance;
	double resident, huge, swapped, pinned; /* of the last residency join */
};

/* What was born in one cell of time and died in another, later one. */
struct age_sum {
	uint32_t sum; /* index + 1; 0: empty */
	uint32_t born, died;
	double bytes, count, variance;
};

/* Time in cells of 2^shift ticks of the clock, never more than 512: when the run has used them
 * up, or there are too many sums, two cells become one. So a run of any length has as many. */
struct ages {
	struct age_sum *slots;
	uint64_t mask, count;
	uint32_t shift;
};

struct trie {
	struct mematlas_node *nodes;
	uint32_t count, room;
	uint32_t *table; /* node numbers; 0: empty */
	uint32_t mask;
};

struct sums {
	struct sum *items;
	uint32_t count, room;
	uint32_t *table; /* index + 1; 0: empty */
	uint32_t mask;
};

struct code {
	char *bytes; /* name, file, line table, one after the other */
	uint32_t name, file, table; /* lengths */
	uint32_t first_line, format;
	uint64_t hash;
};

struct codes {
	struct code *items;
	uint32_t count, room;
	uint32_t *table; /* IDs; 0: empty */
	uint32_t mask;
};

struct modules {
	struct mematlas_module *items;
	uint32_t count, room;
};

struct state {
	struct blocks blocks;
	struct large large;
	struct ranges ranges;
	struct trie trie;
	struct sums sums;
	struct codes codes;
	struct modules modules;
	struct ages ages;
	uint64_t since; /* clock; what was born before is of the process this one was forked from */
	double tick_s; /* seconds of one tick of the clock; 0: it tells no time */
	double mean; /* bytes between samples; 0: exact */
	double live; /* bytes, all kinds that count */
	double peak;
	uint64_t epoch; /* number of times `peak` rose */
	uint64_t peak_time; /* clock */
	bool finds_owners; /* `large` is kept */
	bool out_of_memory;
};

/* Weight of one record: what it stands for. */
struct weight {
	double count, bytes, variance;
};

static inline struct weight weigh(double mean, uint64_t size, bool always)
{
	if (always || mean == 0)
		return (struct weight){1, (double)size, 0};
	double p = -expm1(-(double)(size ? size : 1) / mean);
	double bytes = (double)size / p;
	return (struct weight){1 / p, bytes, bytes * bytes * (1 - p)};
}

/* Live bytes are what the program asked for: an allocator's own mapping holds blocks that count
 * themselves, and a mapped file is no allocation. */
static inline bool counts_as_live(uint32_t kind)
{
	return kind == TRACE_MALLOC || kind == TRACE_MMAP || kind == TRACE_PYOBJECT;
}

static inline bool is_block_kind(uint32_t kind)
{
	return kind == TRACE_MALLOC || kind == TRACE_PYOBJECT;
}

#define BLOCK_KEY(address, kind) (TRACE_ADDRESS(address) | (uint64_t)(kind) << 48)

/* Neighbouring blocks share a group. */
static inline uint64_t block_slot(const struct blocks *blocks, uint64_t key)
{
	uint64_t group = ((key >> 7) * 0x9e3779b97f4a7c15ull) >> 20;

	return (group * GROUP | ((key >> 4) % GROUP)) & blocks->mask;
}

static inline void block_prefetch(const struct blocks *blocks, uint64_t key)
{
	if (!blocks->mask)
		return;
	uint64_t slot = block_slot(blocks, key);
	__builtin_prefetch(blocks_key(blocks, slot), 1);
	__builtin_prefetch(blocks_facts(blocks, slot), 1);
}

#define BORN_SHIFT 6 /* 47 bits then last for a month at 3 GHz */

static inline struct block block_make(uint64_t key, uint64_t size, uint32_t sum, bool always,
				      uint64_t time)
{
	uint64_t born = time >> BORN_SHIFT;

	return (struct block){
		.key = key,
		.is =
			{
				.size = size >> 48 ? (1ull << 48) - 1 : size,
				.born_high = (born >> 31) & 0xffff,
				.sum = sum,
				.always = always,
				.born_low = born & 0x7fffffff,
			},
	};
}

static inline uint64_t block_born(const struct block_facts *block)
{
	return ((uint64_t)block->born_high << 31 | block->born_low) << BORN_SHIFT;
}

/* blocks.c: add() replaces and hands back an earlier block of that key; its key is 0 if there was none. */
bool blocks_add(struct blocks *blocks, const struct block *block, struct block *replaced);
bool blocks_take(struct blocks *blocks, uint64_t key, struct block *out);
bool blocks_find(const struct blocks *blocks, uint64_t key, struct block *out);
int blocks_copy(struct blocks *to, const struct blocks *from);

/* large.c */
bool large_add(struct large *large, uint64_t key, uint64_t size);
void large_remove(struct large *large, uint64_t key, uint64_t size);
bool large_copy(struct large *to, const struct large *from);
bool block_around(const struct state *state, uint64_t address, struct block *out);

/* ranges.c */
typedef void range_removed(void *context, const struct range *range, uint64_t bytes, int pieces);
size_t ranges_find(const struct ranges *ranges, uint64_t address); /* first that ends after it */
bool ranges_remove(struct ranges *ranges, uint64_t start, uint64_t end, range_removed *removed,
		   void *context);
bool ranges_insert(struct ranges *ranges, const struct range *range);

/* stacks.c */
bool state_init(struct state *state, double mean);
void state_free(struct state *state);
int state_copy(struct state *to, const struct state *from, uint64_t since);
uint32_t trie_add(struct state *state, uint32_t parent, uint64_t word);
uint32_t sum_find(struct state *state, uint32_t node, uint32_t kind); /* index; made if need be */
uint32_t code_add(struct state *state,
		  const struct code *code); /* copies; ID from 1, 0: no memory */
void module_add(struct state *state, const struct mematlas_module *module);

/* apply.c: what happened, one event after the other. */
void state_allocate(struct state *state, uint64_t time, const struct block *block);
bool state_release(struct state *state, uint64_t time, uint64_t key, struct block *out);
void state_restore(struct state *state, uint64_t time, uint64_t freed, const struct block *block);
void state_map(struct state *state, uint64_t time, const struct range *range);
uint32_t state_unmap(struct state *state, uint64_t time, uint64_t start,
		     uint64_t end); /* kind of what was there, 0: nothing */

/* ages.c: when memory was born and died. A weight below 0 takes back what was said before. */
void life_ended(struct state *state, uint32_t sum, uint64_t born, uint64_t died,
		struct weight weight);
bool ages_copy(struct ages *to, const struct ages *from);
void ages_forget(struct ages *ages); /* what has died */

/* Before a figure of `sum` changes: keep what it held at the peak. */
static inline void sum_touch(struct state *state, struct sum *sum)
{
	if (sum->seen == state->epoch)
		return;
	sum->seen = state->epoch;
	sum->peak = sum->live;
	sum->peak_count = sum->live_count;
	sum->peak_variance = sum->live_variance;
}

#endif
