/* A process's state as a whole: made, copied for a forked child, freed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

bool state_init(struct state *state, double mean)
{
	*state = (struct state){.mean = mean, .epoch = 1};
	if (!stack_trie_init(&state->trie) || !stack_stats_reserve(&state->stats)) {
		state_free(state);
		return false;
	}
	return true;
}

void state_free(struct state *state)
{
	for (uint32_t i = 0; i < state->codes.count; i++)
		free(state->codes.items[i].bytes);
	blocks_free(&state->blocks);
	free(state->large.slots);
	free(state->ranges.items);
	free(state->before.items);
	free(state->touches.items);
	free(state->trie.nodes);
	free(state->trie.slots);
	free(state->stats.items);
	free(state->stats.slots);
	free(state->codes.items);
	free(state->codes.table);
	free(state->modules.items);
	free(state->age_matrix.slots);
	*state = (struct state){0};
}

static void *copy_of(const void *items, size_t bytes, bool *failed)
{
	void *copy = malloc(bytes ? bytes : 1);

	if (copy && items)
		memcpy(copy, items, bytes);
	*failed = *failed || !copy;
	return copy;
}

static void copy_codes(struct codes *to, const struct codes *from, bool *failed)
{
	to->table = NULL;
	to->items = copy_of(from->items, from->capacity * sizeof *from->items, failed);
	if (from->table)
		to->table = copy_of(from->table, ((size_t)from->mask + 1) * sizeof *from->table,
				    failed);
	if (!to->items) {
		to->count = 0;
		return;
	}
	for (uint32_t i = 0; i < from->count; i++) {
		const struct code *code = &from->items[i];
		size_t length = (size_t)code->name + code->file + code->table;
		to->items[i].bytes = copy_of(code->bytes, length, failed);
	}
}

/* A forked child has its parent's live memory and has done nothing itself. */
void state_clear_history(struct state *state)
{
	for (uint32_t i = 0; i < state->stats.count; i++) {
		struct stack_stats *stats = &state->stats.items[i];
		stats->told_allocations = stats->told_freed = stats->told_bad_frees = 0;
		stats->told_live_count =
			stats->live_count == 0 ? 0 : NAN; /* what is live is news */
		stats->allocated = stats->allocations = stats->allocated_variance = 0;
		stats->freed = stats->bad_frees = 0;
		stats->peak = stats->peak_count = stats->peak_variance = 0;
		memset(stats->lifetimes, 0, sizeof stats->lifetimes);
		stats->temporary = 0;
	}
	age_matrix_clear(&state->age_matrix);
	state->cut_stacks = 0;
	state->peak = state->live;
	state->epoch++;
}

int state_copy(struct state *to, const struct state *from, uint64_t since)
{
	bool failed = false;

	*to = *from;
	failed = blocks_copy(&to->blocks, &from->blocks) < 0;
	failed |= !large_copy(&to->large, &from->large);
	to->ranges.items =
		copy_of(from->ranges.items, from->ranges.count * sizeof(struct range), &failed);
	to->ranges.capacity = to->ranges.count;
	to->before.items =
		copy_of(from->before.items, from->before.count * sizeof(struct range), &failed);
	to->before.capacity = to->before.count;
	to->touches.items =
		copy_of(from->touches.items, from->touches.count * sizeof(struct range), &failed);
	to->touches.capacity = to->touches.count;
	to->trie.nodes = copy_of(from->trie.nodes,
				 from->trie.capacity * sizeof(struct mematlas_node), &failed);
	to->trie.slots = copy_of(from->trie.slots,
				 ((size_t)from->trie.mask + 1) * sizeof(struct trie_slot), &failed);
	to->stats.items = copy_of(from->stats.items,
				  from->stats.capacity * sizeof(struct stack_stats), &failed);
	to->stats.slots =
		copy_of(from->stats.slots,
			((size_t)from->stats.mask + 1) * sizeof(struct stats_slot), &failed);
	to->modules.items = copy_of(from->modules.items,
				    from->modules.count * sizeof(struct mematlas_module), &failed);
	to->modules.capacity = to->modules.count;
	copy_codes(&to->codes, &from->codes, &failed);
	failed |= !age_matrix_copy(&to->age_matrix, &from->age_matrix);
	if (failed) {
		state_free(to);
		return -ENOMEM;
	}
	state_clear_history(to);
	to->since = since;
	return 0;
}

/* Stacks, code and modules stay, since rings refer to them by number. */
void state_restart(struct state *state)
{
	blocks_free(&state->blocks);
	free(state->large.slots);
	free(state->age_matrix.slots);
	state->large = (struct large){0};
	state->age_matrix = (struct age_matrix){0};
	state->ranges.count = state->touches.count = state->before.count = 0;
	stack_stats_clear(&state->stats);
	state->since = 0;
	state->continues = false;
	state->live = state->peak = 0;
	state->peak_time = 0;
	state->epoch++;
}
