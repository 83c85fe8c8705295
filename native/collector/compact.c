/* The state of a process at the begin of a segment of its recording: what has come and gone is forgotten, so
 * that the state of a program that runs for weeks is as large as what it holds. */
#include <stdlib.h>

#include "state.h"

#define PYTHON_WORD (1ull << 63)
#define CODE_SHIFT 32

bool kept_init(struct kept *kept, const struct state *state)
{
	kept->stats = calloc((size_t)state->stats.count + 1, sizeof *kept->stats);
	kept->nodes = calloc((size_t)state->trie.count + 1, sizeof *kept->nodes);
	kept->codes = calloc((size_t)state->codes.count + 1, sizeof *kept->codes);
	return kept->stats && kept->nodes && kept->codes;
}

void kept_free(struct kept *kept)
{
	free(kept->stats);
	free(kept->nodes);
	free(kept->codes);
}

static void mark_blocks(const struct blocks *blocks, uint32_t *stats)
{
	struct blocks_cursor cursor = {0};
	const struct block_info *info;
	uint64_t key;

	while ((info = blocks_next(blocks, &cursor, &key)))
		stats[info->stats] = 1;
}

static void renumber_blocks(const struct blocks *blocks, const uint32_t *stats)
{
	struct blocks_cursor cursor = {0};
	struct block_info *info;
	uint64_t key;

	while ((info = blocks_next(blocks, &cursor, &key)))
		info->stats = stats[info->stats] - 1;
}

/* 0: the word has none that is known. */
static uint32_t code_of(uint64_t word, uint32_t known)
{
	uint32_t code = word & PYTHON_WORD ? (uint32_t)(word >> CODE_SHIFT) & 0x7fffffff : 0;

	return code <= known ? code : 0;
}

/* What live memory refers to, and what that refers to. Parents of nodes come later, with the code of nodes. */
static void mark(const struct state *state, struct kept *kept)
{
	mark_blocks(&state->blocks, kept->stats);
	for (size_t i = 0; i < state->ranges.count; i++)
		kept->stats[state->ranges.items[i].stats] = 1;
	for (size_t i = 0; i < state->touches.count; i++)
		kept->nodes[state->touches.items[i].stats] = 1;
	for (uint32_t i = 0; i < state->stats.count; i++)
		if (kept->stats[i])
			kept->nodes[state->stats.items[i].node] = 1;
}

static void compact_nodes(struct state *state, struct kept *kept)
{
	struct trie *trie = &state->trie;
	uint32_t known = state->codes.count;

	for (uint32_t i = trie->count - 1; i > 0; i--) {
		if (!kept->nodes[i])
			continue;
		kept->nodes[trie->nodes[i].parent] = 1;
		kept->codes[code_of(trie->nodes[i].word, known)] = 1;
	}
	kept->codes[0] = 0;
	codes_compact(&state->codes, kept->codes);
	for (uint32_t i = 1; i < trie->count; i++) {
		uint64_t word = trie->nodes[i].word;
		uint32_t code = code_of(word, known);
		if (kept->nodes[i] && code)
			trie->nodes[i].word = (word & ~(0x7fffffffull << CODE_SHIFT)) |
					      (uint64_t)kept->codes[code] << CODE_SHIFT;
	}
	stack_trie_compact(trie, kept->nodes);
}

void state_compact(struct state *state, struct kept *kept, uint64_t time)
{
	mark(state, kept);
	compact_nodes(state, kept);
	stack_stats_compact(&state->stats, kept);
	renumber_blocks(&state->blocks, kept->stats);
	for (size_t i = 0; i < state->ranges.count; i++)
		state->ranges.items[i].stats = kept->stats[state->ranges.items[i].stats] - 1;
	for (size_t i = 0; i < state->touches.count; i++)
		state->touches.items[i].stats = kept->nodes[state->touches.items[i].stats];
	state_clear_history(state);
	age_matrix_begin(&state->age_matrix, time);
	state->continues = true;
	state->peak_time = time;
}
