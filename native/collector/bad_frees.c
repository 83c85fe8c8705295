/* Frees of pointers that were no live blocks: which block was meant, and what is wrong. Rare, so that nothing is
 * kept in order for them but the log of frees. */
#include <errno.h>
#include <stdlib.h>

#include "../array.h"
#include "collector.h"

void freed_log_start(struct bad_frees *bad_frees)
{
	bad_frees->freed = calloc(FREED_LOG, sizeof *bad_frees->freed);
}

void bad_frees_free(struct process *process)
{
	free(process->bad_frees.items);
	free(process->bad_frees.freed);
	process->bad_frees = (struct bad_frees){0};
}

/* The last free of the block; NULL: there was none, or it is forgotten. */
static const struct freed_block *find_freed(const struct bad_frees *bad_frees, uint64_t key)
{
	uint64_t count = bad_frees->freed_count;

	for (uint64_t age = 1; age <= FREED_LOG && age <= count; age++) {
		const struct freed_block *freed = &bad_frees->freed[(count - age) % FREED_LOG];
		if (freed->block.key == key)
			return freed;
	}
	return NULL;
}

/* All blocks are looked at: an index of them would cost every event. A program with many blocks and many bad frees
 * would keep the collector from its work, so the sum of slots and blocks looked at has a limit. */
static bool find_around(struct bad_frees *bad_frees, const struct blocks *blocks, uint64_t address,
			struct block *ret)
{
	struct blocks_cursor cursor = {0};
	const struct block_info *info;
	uint64_t key;

	if (bad_frees->searched >= MOST_SEARCHED)
		return false;
	bad_frees->searched += blocks->mask + blocks->count;
	while ((info = blocks_next(blocks, &cursor, &key))) {
		if (key >> ADDRESS_BITS != TRACE_MALLOC)
			continue;
		if (address - TRACE_ADDRESS(key) < info->size) {
			*ret = (struct block){key, *info};
			return true;
		}
	}
	return false;
}

static bool is_static(const struct modules *modules, uint64_t address)
{
	for (uint32_t i = 0; i < modules->count; i++) {
		const struct mematlas_module *module = &modules->items[i];
		if (*module->path &&
		    address - MODULE_ADDRESS(module->start) < module->end - module->start)
			return true;
	}
	return false;
}

static void describe_block(const struct state *state, const struct block *block,
			   struct mematlas_bad_free *bad)
{
	if (block->info.stats != NO_STATS)
		bad->block_node = state->stats.items[block->info.stats].node;
	bad->block_address = TRACE_ADDRESS(block->key);
	bad->block_bytes = block->info.size;
}

/* The line that freed the block is named only if its free is the last one of the block: the tracer may know
 * an earlier one of the same address only. */
static void describe_freed(struct state *state, const struct ring *ring,
			   const struct freed_block *freed, struct freed_by before,
			   struct mematlas_bad_free *bad)
{
	describe_block(state, &freed->block, bad);
	bad->freed_s = (double)freed->time;
	if (before.caller && freed->record == before.record)
		bad->freed_node =
			stack_trie_add(state, 0, module_word(state, &ring->loaded, before.caller));
}

static uint32_t reason_of(struct process *process, const struct ring *ring, struct freed_by before,
			  struct mematlas_bad_free *bad)
{
	struct state *state = &process->state;
	uint64_t key = BLOCK_KEY(bad->address, TRACE_MALLOC);
	const struct freed_block *freed = find_freed(&process->bad_frees, key);
	const struct trace_ring *shared = ring_shared(process, (uint32_t)(ring - process->rings));
	struct block block;

	if (freed)
		describe_freed(state, ring, freed, before, bad);
	if (freed || before.caller)
		return MEMATLAS_FREE_TWICE;
	if (find_around(&process->bad_frees, &state->blocks, bad->address, &block)) {
		describe_block(state, &block, bad);
		return MEMATLAS_FREE_INTERIOR;
	}
	if (is_static(&state->modules, bad->address))
		return MEMATLAS_FREE_STATIC;
	return bad->address >= shared->stack_low && bad->address < shared->stack_high
		       ? MEMATLAS_FREE_STACK
		       : MEMATLAS_FREE_UNKNOWN;
}

void bad_free_add(struct process *process, const struct ring *ring, uint64_t address, uint32_t node,
		  struct freed_by before)
{
	struct bad_frees *all = &process->bad_frees;

	if (all->count == MOST_BAD_FREES ||
	    !ARRAY_RESERVE(all->items, all->count, all->capacity, 16))
		return;
	struct mematlas_bad_free *bad = &all->items[all->count++];
	*bad = (struct mematlas_bad_free){
		.address = address, .time_s = (double)ring->time, .node = node, .freed_s = -1};
	bad->reason = reason_of(process, ring, before, bad);
}

int64_t mematlas_collector_bad_frees(struct mematlas_collector *collector, int index,
				     struct mematlas_bad_free *rows, uint64_t capacity)
{
	const struct process *process = process_active_at(collector, index);

	if (!process)
		return -ESRCH;
	const struct bad_frees *all = &process->bad_frees;
	uint64_t count = all->count < capacity ? all->count : capacity;
	for (uint64_t i = 0; i < count; i++) {
		rows[i] = all->items[i];
		rows[i].time_s = clock_since_start_s(collector, (uint64_t)rows[i].time_s);
		if (rows[i].freed_s >= 0)
			rows[i].freed_s = clock_since_start_s(collector, (uint64_t)rows[i].freed_s);
	}
	return (int64_t)count;
}
