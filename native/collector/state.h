/* What the records of one process add up to: live blocks, mappings, stacks, statistics. No I/O
 * here. */
#ifndef MEMATLAS_COLLECTOR_STATE_H
#define MEMATLAS_COLLECTOR_STATE_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../proc/page_size.h"
#include "blocks.h"
#include "mematlas.h"
#include "trace_format.h"

#define RECORD_KINDS 6 /* enum trace_kind counts from 1 */
#define KINDS 10       /* with those of enum mematlas_kind */
_Static_assert(TRACE_FILEMAP == RECORD_KINDS - 1, "RECORD_KINDS covers enum trace_kind");
_Static_assert(MEMATLAS_KIND_COMMITTED == RECORD_KINDS, "enum mematlas_kind goes on from there");
_Static_assert(MEMATLAS_KIND_COPY == KINDS - 1, "KINDS covers enum mematlas_kind");

/* Index of large blocks by size class and start; kept only while page faults are sampled.
 * count == number of slots whose window is not 0 */
struct large {
	struct {
		uint64_t window; /* size class and address window, see large.c; 0: empty */
		uint64_t key;
	} *slots;
	uint64_t mask, count;
};

struct range {
	uint64_t start, end;
	uint64_t born; /* clock */
	uint32_t stats; /* index */
	uint8_t kind;
	uint8_t reserved; /* address space without pages: 0 live bytes */
	uint8_t closed;   /* PROT_NONE, after the program could access it */
};

/* items[i].start < items[i].end <= items[i + 1].start */
struct ranges {
	struct range *items;
	size_t count, capacity;
};

/* Statistics of one (stack, kind). The first cache line is what every event changes.
 *
 * live, live_count, live_variance == sums over the live blocks and ranges of this stack and kind
 * allocated - freed == live, unless the process was forked
 * peak* hold what live* were when the process's live bytes peaked, if epoch == state.epoch; if not,
 * nothing changed since then, and live* are it */
struct stack_stats {
	uint64_t epoch; /* the peak for which `peak*` were last brought up to date */
	double live, live_count;
	double allocated, allocations;
	double freed;
	double bad_frees;
	uint32_t node, kind;
	double live_variance, allocated_variance;
	double temporary; /* bytes of freed blocks that lived less than a millisecond */
	double lifetimes[MEMATLAS_LIFETIME_CLASSES]; /* freed blocks, by how long they lived */
	double peak, peak_count, peak_variance;
	double told_allocations, told_freed, told_live_count, told_bad_frees; /* stats_is_news() */
	double resident, huge, swapped, held_free; /* of the last residency join */
	double shared, share; /* of `resident`: on shared pages, and this process's part of that */
};
_Static_assert(offsetof(struct stack_stats, live_variance) == 64, "an event changes one line");

/* Memory born in one cell of time that died in another: born < died. */
struct age_cell {
	uint32_t stats; /* index + 1; 0: empty */
	uint32_t born, died;
	double bytes, count, variance;
};

/* Time is cut into cells of 2^shift ticks of the clock, at most 512 of them from `base` on. When a run
 * has used them up, or there are too many entries, two cells become one. So the matrix of a run of any
 * length is bounded. Births before `base` are told to 2^coarse ticks.
 *
 *   count == number of slots that are not empty, 2 * count <= mask + 2
 *   base >> coarse < 512 */
struct age_matrix {
	struct age_cell *slots;
	uint64_t mask, count, base;
	uint32_t shift, coarse;
};

/* Open addressing, linear probing. A slot has all that a lookup compares. */
struct trie_slot {
	uint64_t word;
	uint32_t parent, number; /* number 0: empty */
};

/* nodes[0] is the root, "no stack"; nodes[n].parent < n for n > 0. Each (parent, word) occurs
 * once. The hash of a node does not depend on the number of its parent, so that all lookups of a stack
 * can begin at once.
 *
 * count <= most, if most is not 0
 * nodes[n].hash == stack_trie_hash(nodes[nodes[n].parent].hash, nodes[n].word) for n > 0
 * slots == mask + 1, a power of two; count - 1 of them have a number; 4 * (count - 1) <= 3 * slots */
struct trie {
	struct mematlas_node *nodes;
	uint32_t count, capacity;
	struct trie_slot *slots;
	uint32_t mask;
	uint32_t most;
};

struct stats_slot {
	uint32_t node;
	uint32_t number; /* index + 1; 0: empty */
};

/* Each (node, kind) occurs once. Those of one node are in slots from its home on.
 *
 * slots == mask + 1 == 2 * capacity, or there is no memory */
struct stack_stats_table {
	struct stack_stats *items;
	uint32_t count, capacity;
	struct stats_slot *slots;
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
	uint32_t count, capacity;
	uint32_t *table; /* IDs; 0: empty */
	uint32_t mask;
};

/* A native word of the trie is address | epoch << 57. The epoch counts the modules that were mapped at
 * the address before; the range and bias of a stored module have its epoch too.
 *
 * items[i], items[j] overlap only if i == j, unless their epoch is the last one
 * last_epoch == the highest epoch of an item */
#define MODULE_EPOCHS 64u
#define MODULE_EPOCH_SHIFT 57
#define MODULE_ADDRESS(word) ((word) & ((1ull << MODULE_EPOCH_SHIFT) - 1))
#define MODULE_EPOCH(word) ((uint64_t)(word) >> MODULE_EPOCH_SHIFT & (MODULE_EPOCHS - 1))
#define MODULE_WORD(address, epoch)                                                                \
	(MODULE_ADDRESS(address) | (uint64_t)(epoch) << MODULE_EPOCH_SHIFT)
#define MODULE_TOO_MANY "[too many modules at one address]"
struct modules {
	struct mematlas_module *items;
	uint32_t count, capacity;
	uint32_t last_epoch;
};
_Static_assert(MODULE_EPOCH_SHIFT >= 56, "user addresses have 56 bits where pages have 5 levels");
_Static_assert(MODULE_EPOCHS == 1u << (63 - MODULE_EPOCH_SHIFT), "bit 63 is that of Python words");

/* What a thread last recorded as mapped. The ranges of `items` do not overlap. */
struct loaded_module {
	uint64_t start, end, epoch;
};
struct loaded_modules {
	struct loaded_module *items;
	uint32_t count, capacity;
};

/* live == sum of stats[i].live over the kinds that counts_as_live(); live <= peak */
struct state {
	struct blocks blocks;
	struct large large;
	struct ranges ranges;
	struct ranges touches; /* born: weight; stats: node of the stack that touched */
	struct ranges before; /* pages resident when an attached process was found */
	struct trie trie;
	struct stack_stats_table stats;
	struct codes codes;
	struct modules modules;
	struct age_matrix age_matrix;
	uint64_t since; /* clock at the fork: blocks born before are the parent's. 0: not forked */
	bool continues; /* what was allocated before the segment is live, and not counted as allocated */
	double tick_s; /* seconds of one tick of the clock; 0: the clock has no rate */
	double mean; /* bytes between samples; 0: exact */
	double live; /* bytes */
	double peak;
	uint64_t epoch; /* number of times `peak` rose */
	uint64_t peak_time; /* clock */
	uint64_t
		cut_stacks; /* definitions of stacks that end at a caller, since the trie was full */
	bool has_cut; /* what counts at a caller may be live, or come from an ID defined before */
	bool finds_owners; /* `large` is kept */
	bool out_of_memory;
};

/* What one record stands for: itself when exact, 1/p records when sampling. */
struct weight {
	double count, bytes, variance;
};

static inline struct weight weight_of(double mean, uint64_t size, bool always)
{
	if (always || mean == 0)
		return (struct weight){1, (double)size, 0};
	double p = -expm1(-(double)(size ? size : 1) / mean);
	double bytes = (double)size / p;
	return (struct weight){1 / p, bytes, bytes * bytes * (1 - p)};
}

/* Adding and subtracting estimates leaves rounding errors. */
static inline double rounded(double value)
{
	return fabs(value) < 1e-3 ? 0 : value;
}

/* Live bytes are what the program asked for. An allocator's own mapping holds blocks that count
 * themselves, and a mapped file is no allocation. */
static inline bool counts_as_live(uint32_t kind)
{
	return kind == TRACE_MALLOC || kind == TRACE_MMAP || kind == TRACE_PYOBJECT ||
	       kind == MEMATLAS_KIND_COMMITTED;
}

static inline bool is_block_kind(uint32_t kind)
{
	return kind == TRACE_MALLOC || kind == TRACE_PYOBJECT;
}

/* large.c */
bool large_add(struct large *large, uint64_t key, uint64_t size);
void large_remove(struct large *large, uint64_t key, uint64_t size);
bool large_copy(struct large *to, const struct large *from);
bool block_around(const struct state *state, uint64_t address, struct block *ret);

/* ranges.c: `pieces` is by how many the ranges became more: -1, 0 or 1. */
typedef void range_removed(void *context, const struct range *range, uint64_t bytes, int pieces);
size_t ranges_find(const struct ranges *ranges, uint64_t address); /* first that ends after it */
bool ranges_remove(struct ranges *ranges, uint64_t start, uint64_t end, range_removed *removed,
		   void *context);
bool ranges_insert(struct ranges *ranges, const struct range *range);

/* hash_table.c: hash_table_shrink() makes an array and its table smaller if they are mostly empty, and
 * leaves the table empty in any case. Returns the array, which may have moved. */
void *hash_table_shrink(void *items, size_t size, uint32_t count, uint32_t *capacity,
			uint32_t **table, uint32_t *mask);
/* hash_table.c: tables of numbers that index an array; `numbers` is its capacity. The capacity grows first. Without
 * memory for the table too, nothing may be added before hash_table_grow succeeds: probing ends at an empty slot, and a
 * table as long as its array may have none. hash_table_grow leaves the new table empty; the caller links all numbers. */
uint64_t hash_mix(uint64_t a, uint64_t b);
bool hash_table_fits(const uint32_t *table, uint32_t mask, uint32_t numbers);
bool hash_table_grow(uint32_t **table, uint32_t *mask, uint32_t numbers); /* false: unchanged */

/* hash_table.c: for large memory with spread lookups: a TLB miss costs as much as a cache miss, and the
 * kernel takes as long for 10 small pages as for a huge one. */
void prefer_huge_pages(void *memory, size_t bytes);

/* stack_trie.c, stack_stats.c: both add what is missing. Without memory the answer is the parent,
 * or statistics 0, and state.out_of_memory is set. */
bool stack_trie_init(struct trie *trie);
uint32_t stack_trie_add(struct state *state, uint32_t parent, uint64_t word);
static inline uint32_t stack_trie_hash(uint32_t parent, uint64_t word)
{
	uint64_t mixed = (word ^ (uint64_t)parent << 24) * 0x9e3779b97f4a7c15ull;

	return (uint32_t)(mixed >> 32 ^ mixed >> 13) + parent;
}
/* The same in steps: `hash` is stack_trie_hash() of the node. */
void stack_trie_prefetch(const struct trie *trie, uint32_t hash);
uint32_t stack_trie_add_hashed(struct state *state, uint32_t parent, uint64_t word, uint32_t hash);
bool stack_stats_reserve(struct stack_stats_table *table);
uint32_t stack_stats_find(struct state *state, uint32_t node, uint32_t kind); /* index */
void stack_stats_prefetch(const struct stack_stats_table *table, uint32_t node);
void stack_stats_clear(struct stack_stats_table *table);

/* code_table.c */
uint32_t code_add(struct state *state,
		  const struct code *code); /* copies; ID from 1, 0: no memory */

/* module_table.c: adds a module unless it is known, and returns its epoch. A module without a path is
 * code without a file. */
uint64_t module_add(struct state *state, const struct mematlas_module *module);
bool loaded_modules_add(struct loaded_modules *loaded, const struct mematlas_module *module,
			uint64_t epoch); /* false: no memory */
/* Returns the word of a return address: with the epoch of the module that holds the call. */
uint64_t module_word(const struct state *state, const struct loaded_modules *loaded, uint64_t pc);

/* state.c */
bool state_init(struct state *state, double mean);
void state_free(struct state *state);
int state_copy(struct state *to, const struct state *from, uint64_t since); /* for a forked child */
/* Forgets what is live and what was. Numbers of statistics that the caller keeps are void. */
void state_restart(struct state *state);

/* What a new segment of a recording keeps, by old number. Callers mark what they refer to by 1; after
 * state_compact() entries are new numbers, those of statistics plus 1. 0: forgotten. */
struct kept {
	uint32_t *stats; /* by index */
	uint32_t *nodes;
	uint32_t *codes; /* by ID */
};
bool kept_init(struct kept *kept, const struct state *state);
void kept_free(struct kept *kept);
/* compact.c: begins a segment at `time`: forgets statistics without live memory, then nodes and code
 * that nothing refers to. What remains has allocated nothing yet. */
void state_compact(struct state *state, struct kept *kept, uint64_t time);
void stack_trie_compact(struct trie *trie, uint32_t *kept); /* parents are marked, too */
void stack_stats_compact(struct stack_stats_table *table,
			 struct kept *kept); /* after that of nodes */
void codes_compact(struct codes *codes, uint32_t *kept);
/* Forgets what was allocated and freed; what is live stays. */
void state_clear_history(struct state *state);
/* Has this changed since it was last told? */
static inline bool stats_is_news(const struct stack_stats *stats)
{
	return stats->allocations != stats->told_allocations || stats->freed != stats->told_freed ||
	       stats->live_count != stats->told_live_count ||
	       stats->bad_frees != stats->told_bad_frees;
}

/* state_check.c: the equations above. NULL if they hold, else which one does not; for tests. */
const char *state_check(const struct state *state);

/* apply.c: one event after the other. */
void state_allocate(struct state *state, uint64_t time, const struct block *block);
bool state_release(struct state *state, uint64_t time, uint64_t key, struct block *ret);
void state_restore(struct state *state, uint64_t time, uint64_t freed, const struct block *block);
void state_map(struct state *state, uint64_t time, const struct range *range);
/* To be called once `range` is in place: counts it as allocated and live. */
void state_mapped(struct state *state, uint64_t time, const struct range *range);
uint64_t state_mapping_length(const struct state *state, uint64_t start); /* 0: none begins there */
struct unmapped {
	uint32_t kind; /* of the first range removed; 0: none */
	bool reserved;
};
struct unmapped state_unmap(struct state *state, uint64_t time, uint64_t start, uint64_t end);

/* The pages of that range are gone: those from before, and those that were touched. */
void state_forget_pages(struct state *state, uint64_t start, uint64_t end);

/* touches.c: `size` is that of the page. */
void touches_add(struct state *state, uint64_t address, uint64_t size, uint32_t node,
		 uint32_t weight);
void touches_forget(struct state *state, uint64_t start, uint64_t end);

/* commits.c: ends are rounded up to pages. `flags`: TRACE_FLAG_CLOSED, TRACE_FLAG_DROPPED. */
void state_commit(struct state *state, uint64_t time, uint64_t start, uint64_t end, uint32_t node);
void state_return(struct state *state, uint64_t time, uint64_t start, uint64_t end, unsigned flags);

/* age_matrix.c: a weight below 0 undoes an earlier call. */
void age_matrix_add(struct state *state, uint32_t stats, uint64_t born, uint64_t died,
		    struct weight weight);
bool age_matrix_copy(struct age_matrix *to, const struct age_matrix *from);
void age_matrix_clear(struct age_matrix *matrix);
void age_matrix_begin(struct age_matrix *matrix,
		      uint64_t base); /* empty, with fine cells from `base` on */

/* To be called before a live value of `stats` changes. */
static inline void stack_stats_save_peak(struct state *state, struct stack_stats *stats)
{
	if (stats->epoch == state->epoch)
		return;
	stats->epoch = state->epoch;
	stats->peak = stats->live;
	stats->peak_count = stats->live_count;
	stats->peak_variance = stats->live_variance;
}

#endif
