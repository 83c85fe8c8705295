/* The effect of each event on a process's state. A block event takes constant time, because the
 * shares of the peak are saved by the first change of each stack's statistics after the peak. */
#include "state.h"

/* After the peak was saved. A rise above the peak begins a new epoch: then no stack has saved
 * its share yet. */
static void add_live(struct state *state, struct stack_stats *stats, uint64_t time,
		     struct weight weight)
{
	stack_stats_save_peak(state, stats);
	stats->live += weight.bytes;
	stats->live_count += weight.count;
	stats->live_variance += weight.variance;
	state->live += weight.bytes;
	if (state->live > state->peak) {
		state->peak = state->live;
		state->peak_time = time;
		state->epoch++;
	}
}

static void remove_live(struct state *state, struct stack_stats *stats, struct weight weight)
{
	stack_stats_save_peak(state, stats);
	stats->live -= weight.bytes;
	stats->live_count -= weight.count;
	stats->live_variance -= weight.variance;
	state->live -= weight.bytes;
}

/* `replaced` gets the block that was at the address, key 0 if none. False: no memory, and the
 * state is unchanged. */
static bool insert_block(struct state *state, const struct block *block, struct block *replaced)
{
	if (!blocks_add(&state->blocks, block, replaced)) {
		state->out_of_memory = true;
		return false;
	}
	if (state->finds_owners) {
		if (replaced->key)
			large_remove(&state->large, replaced->key, replaced->info.size);
		if (!large_add(&state->large, block->key, block->info.size))
			state->out_of_memory = true;
	}
	return true;
}

void state_allocate(struct state *state, uint64_t time, const struct block *block)
{
	struct block replaced;

	if (!insert_block(state, block, &replaced))
		return;
	if (replaced.key) { /* its free was not recorded */
		struct stack_stats *stats = &state->stats.items[replaced.info.stats];
		struct weight weight =
			weight_of(state->mean, replaced.info.size, replaced.info.always);
		stats->freed += weight.bytes;
		remove_live(state, stats, weight);
		age_matrix_add(state, replaced.info.stats, block_born(&replaced.info), time,
			       weight);
	}
	struct stack_stats *stats = &state->stats.items[block->info.stats];
	struct weight weight = weight_of(state->mean, block->info.size, block->info.always);
	stats->allocated += weight.bytes;
	stats->allocations += weight.count;
	stats->allocated_variance += weight.variance;
	add_live(state, stats, time, weight);
}

/* False: no such block is live; it was not sampled, or allocated before the recording. */
bool state_release(struct state *state, uint64_t time, uint64_t key, struct block *ret)
{
	if (!blocks_remove(&state->blocks, key, ret))
		return false;
	if (state->finds_owners)
		large_remove(&state->large, key, ret->info.size);
	struct stack_stats *stats = &state->stats.items[ret->info.stats];
	struct weight weight = weight_of(state->mean, ret->info.size, ret->info.always);
	stats->freed += weight.bytes;
	remove_live(state, stats, weight);
	age_matrix_add(state, ret->info.stats, block_born(&ret->info), time, weight);
	return true;
}

/* Takes back a free at time `freed`: what was counted as its lifetime is subtracted again. */
void state_restore(struct state *state, uint64_t time, uint64_t freed, const struct block *block)
{
	struct block replaced;

	if (!insert_block(state, block, &replaced))
		return;
	struct stack_stats *stats = &state->stats.items[block->info.stats];
	struct weight weight = weight_of(state->mean, block->info.size, block->info.always);
	if (replaced.key)
		return;
	stats->freed -= weight.bytes;
	add_live(state, stats, time, weight);
	weight = (struct weight){-weight.count, -weight.bytes, -weight.variance};
	age_matrix_add(state, block->info.stats, block_born(&block->info), freed, weight);
}

struct removal {
	struct state *state;
	uint64_t time;
	struct unmapped first;
};

static void note_removed(void *context, const struct range *range, uint64_t bytes, int pieces)
{
	struct removal *removal = context;
	struct stack_stats *stats = &removal->state->stats.items[range->stats];
	double size = range->reserved ? 0 : (double)bytes;

	if (!removal->first.kind)
		removal->first = (struct unmapped){range->kind, range->reserved};
	if (counts_as_live(range->kind)) {
		stats->freed += size;
		struct weight weight = {-pieces, size, 0};
		remove_live(removal->state, stats, weight);
		age_matrix_add(removal->state, range->stats, range->born, removal->time, weight);
	}
}

static void forget(void *context, const struct range *range, uint64_t bytes, int pieces)
{
	(void)context;
	(void)range;
	(void)bytes;
	(void)pieces;
}

void state_forget_pages(struct state *state, uint64_t start, uint64_t end)
{
	end = page_ceil(end);
	touches_forget(state, start, end);
	if (state->before.count && end > start &&
	    !ranges_remove(&state->before, start, end, forget, NULL))
		state->out_of_memory = true;
}

/* Any part of any number of mappings, in whole pages. Returns kind and state of the first one,
 * for a mapping that mremap(2) moves. */
struct unmapped state_unmap(struct state *state, uint64_t time, uint64_t start, uint64_t end)
{
	struct removal removal = {state, time, {0}};

	state_forget_pages(state, start, end);
	end = page_ceil(end);
	if (end > start && !ranges_remove(&state->ranges, start, end, note_removed, &removal))
		state->out_of_memory = true;
	return removal.first;
}

void state_map(struct state *state, uint64_t time, const struct range *range)
{
	state_unmap(state, time, range->start, range->end); /* its unmapping was not recorded */
	if (!ranges_insert(&state->ranges, range)) {
		state->out_of_memory = true;
		return;
	}
	state_mapped(state, time, range);
}

/* The statistics of a mapping that is in `ranges` already. Reserved address space counts no
 * bytes before it is committed. */
void state_mapped(struct state *state, uint64_t time, const struct range *range)
{
	struct stack_stats *stats = &state->stats.items[range->stats];
	double size = range->reserved ? 0 : (double)(range->end - range->start);

	if (!counts_as_live(range->kind))
		return;
	stats->allocated += size;
	stats->allocations += 1;
	add_live(state, stats, time, (struct weight){1, size, 0});
}

/* A mapping may have been cut; its pieces have the same birth. */
uint64_t state_mapping_length(const struct state *state, uint64_t start)
{
	const struct ranges *ranges = &state->ranges;
	size_t at = ranges_find(ranges, start);
	uint64_t end = start;

	if (at == ranges->count || ranges->items[at].start != start)
		return 0;
	for (size_t i = at; i < ranges->count && ranges->items[i].start == end &&
			    ranges->items[i].born == ranges->items[at].born;
	     i++)
		end = ranges->items[i].end;
	return end - start;
}
