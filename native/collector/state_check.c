/* The invariants of state.h, checked one by one. */
#include <stdlib.h>

#include "../cleanup.h"
#include "state.h"

/* Estimates are sums of doubles in another order than here. */
static bool nearly(double a, double b)
{
	return fabs(a - b) <= 1e-6 * (fabs(a) + fabs(b)) + 1e-3;
}

static const char *check_large(const struct state *state)
{
	const struct large *large = &state->large;
	uint64_t count = 0;
	struct block block;

	for (uint64_t i = 0; large->mask && i <= large->mask; i++) {
		if (!large->slots[i].window)
			continue;
		count++;
		if (!blocks_find(&state->blocks, large->slots[i].key, &block))
			return "an indexed block is live";
	}
	return count == large->count ? NULL : "large.count is the number of windows";
}

static const char *check_ranges(const struct ranges *ranges)
{
	for (size_t i = 0; i < ranges->count; i++) {
		if (ranges->items[i].start >= ranges->items[i].end)
			return "a range is not empty";
		if (i && ranges->items[i - 1].end > ranges->items[i].start)
			return "ranges are sorted and disjoint";
	}
	return ranges->count <= ranges->capacity ? NULL : "ranges fit their array";
}

static const char *check_nodes(const struct trie *trie)
{
	uint32_t linked = 0;

	for (uint32_t i = 1; i < trie->count; i++) {
		const struct mematlas_node *node = &trie->nodes[i];
		if (node->parent >= i)
			return "a node comes after its parent";
		if (node->hash != stack_trie_hash(trie->nodes[node->parent].hash, node->word))
			return "the hash of a node is that of its path";
	}
	for (uint32_t at = 0; at <= trie->mask; at++)
		linked += trie->slots[at].number != 0;
	return linked == trie->count - 1 ? NULL : "every node but the root is in the table";
}

static const char *check_trie(const struct state *state)
{
	for (uint32_t i = 0; i < state->stats.count; i++)
		if (state->stats.items[i].node >= state->trie.count ||
		    !state->stats.items[i].kind || state->stats.items[i].kind >= KINDS)
			return "statistics are of a node and a kind";
	if (state->trie.most && state->trie.count > state->trie.most)
		return "the trie has no more nodes than `most`";
	return check_nodes(&state->trie);
}

static const char *check_ages(const struct age_matrix *matrix)
{
	uint64_t count = 0;

	for (uint64_t i = 0; matrix->slots && i <= matrix->mask; i++) {
		if (!matrix->slots[i].stats)
			continue;
		count++;
		if (matrix->slots[i].born >= matrix->slots[i].died)
			return "memory dies in a later cell";
	}
	return count == matrix->count ? NULL : "age_matrix.count is the number of entries";
}

/* The live bytes of each statistics, summed anew from blocks and mappings. */
static void add_live(const struct state *state, struct weight *live)
{
	struct blocks_cursor cursor = {0};
	const struct block_info *block;
	uint64_t key;

	while ((block = blocks_next(&state->blocks, &cursor, &key))) {
		struct weight weight = weight_of(state->mean, block->size, block->always);
		live[block->stats].bytes += weight.bytes;
		live[block->stats].count += weight.count;
	}
	for (size_t i = 0; i < state->ranges.count; i++) {
		const struct range *range = &state->ranges.items[i];
		if (!counts_as_live(range->kind))
			continue;
		live[range->stats].bytes +=
			range->reserved ? 0 : (double)(range->end - range->start);
		live[range->stats].count += 1;
	}
}

/* `live`: of its blocks and mappings. */
static const char *check_stats(const struct state *state, const struct stack_stats *stats,
			       const struct weight *live)
{
	bool whole = !state->since && !state->continues && counts_as_live(stats->kind);

	if (!nearly(stats->live, live->bytes))
		return "live bytes are those of the live blocks";
	if (!nearly(stats->live_count, live->count))
		return "the live count is that of the live blocks";
	if (whole && !nearly(stats->allocated - stats->freed, stats->live))
		return "what is allocated and not freed is live";
	return NULL;
}

static const char *check_sums(const struct state *state)
{
	CLEANUP_FREE struct weight *live = calloc(state->stats.count + 1, sizeof *live);
	double total = 0;

	if (!live)
		return "there is memory for the check";
	add_live(state, live);
	for (uint32_t i = 0; i < state->stats.count; i++) {
		const char *wrong = check_stats(state, &state->stats.items[i], &live[i]);
		if (wrong)
			return wrong;
		total += state->stats.items[i].live;
	}
	if (!nearly(total, state->live))
		return "the process's live bytes are those of its stacks";
	return state->live > state->peak + 1e-3 ? "the peak is the most that was live" : NULL;
}

static const char *check_modules(const struct modules *modules)
{
	uint64_t last = 0;

	for (uint32_t i = 0; i < modules->count; i++) {
		const struct mematlas_module *one = &modules->items[i];
		uint64_t epoch = MODULE_EPOCH(one->start);
		if (epoch != MODULE_EPOCH(one->end - 1))
			return "a module has one epoch";
		last = epoch > last ? epoch : last;
		for (uint32_t j = 0; j < i && epoch < MODULE_EPOCHS - 1; j++)
			if (modules->items[j].start < one->end &&
			    one->start < modules->items[j].end)
				return "modules of one epoch do not overlap";
	}
	return last == modules->last_epoch ? NULL : "last_epoch is the highest epoch";
}

/* Returns the invariant that does not hold, in words; NULL: all hold. For tests: it takes time
 * in the size of the state. */
const char *state_check(const struct state *state)
{
	const char *wrong = blocks_check(&state->blocks);

	if (!wrong)
		wrong = check_large(state);
	if (!wrong)
		wrong = check_ranges(&state->ranges);
	if (!wrong)
		wrong = check_trie(state);
	if (!wrong)
		wrong = check_modules(&state->modules);
	if (!wrong)
		wrong = check_ages(&state->age_matrix);
	return wrong ? wrong : check_sums(state);
}
