/* Stacks as a trie. A node is one frame; its parent is the caller. */
#include "../array.h"
#include "state.h"

#define FIRST_CAPACITY 256u

static uint64_t node_hash(const struct mematlas_node *node)
{
	return hash_mix(node->parent, node->word);
}

static void trie_link(struct trie *trie, uint32_t number)
{
	uint32_t at = (uint32_t)node_hash(&trie->nodes[number]) & trie->mask;

	while (trie->table[at])
		at = (at + 1) & trie->mask;
	trie->table[at] = number;
}

static bool trie_reserve(struct trie *trie)
{
	if (!ARRAY_RESERVE(trie->nodes, trie->count, trie->capacity, FIRST_CAPACITY))
		return false;
	if (hash_table_fits(trie->table, trie->mask, trie->capacity))
		return true;
	if (!hash_table_grow(&trie->table, &trie->mask, trie->capacity))
		return false;
	for (uint32_t i = 1; i < trie->count; i++)
		trie_link(trie, i);
	return true;
}

bool stack_trie_init(struct trie *trie)
{
	if (!trie_reserve(trie))
		return false;
	trie->nodes[0] = (struct mematlas_node){0};
	trie->count = 1;
	return true;
}

uint32_t stack_trie_add(struct state *state, uint32_t parent, uint64_t word)
{
	struct trie *trie = &state->trie;
	struct mematlas_node node = {.parent = parent, .word = word};

	for (uint32_t at = (uint32_t)node_hash(&node) & trie->mask; trie->table[at];
	     at = (at + 1) & trie->mask) {
		const struct mematlas_node *found = &trie->nodes[trie->table[at]];
		if (found->parent == parent && found->word == word)
			return trie->table[at];
	}
	if (!trie_reserve(trie)) {
		state->out_of_memory = true;
		return parent;
	}
	trie->nodes[trie->count] = node;
	trie_link(trie, trie->count);
	return trie->count++;
}

void stack_trie_compact(struct trie *trie, uint32_t *kept)
{
	uint32_t count = 1;

	kept[0] = 0;
	for (uint32_t i = 1; i < trie->count; i++) {
		if (!kept[i])
			continue;
		struct mematlas_node node = trie->nodes[i];
		node.parent = kept[node.parent];
		kept[i] = count;
		trie->nodes[count++] = node;
	}
	trie->count = count;
	trie->nodes = hash_table_shrink(trie->nodes, sizeof *trie->nodes, count, &trie->capacity,
					&trie->table, &trie->mask);
	for (uint32_t i = 1; i < count; i++)
		trie_link(trie, i);
}
