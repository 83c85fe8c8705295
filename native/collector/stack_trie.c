/* Stacks as a trie. A node is one frame; its parent is the caller. */
#include <string.h>

#include "../array.h"
#include "state.h"

#define FIRST_CAPACITY 256u

static struct trie_slot *home_of(const struct trie *trie, uint32_t hash)
{
	return &trie->slots[hash & trie->mask];
}

static void trie_link(struct trie *trie, uint32_t number)
{
	const struct mematlas_node *node = &trie->nodes[number];
	uint32_t at = node->hash & trie->mask;

	while (trie->slots[at].number)
		at = (at + 1) & trie->mask;
	trie->slots[at] = (struct trie_slot){node->word, node->parent, number};
}

static bool is_full(uint64_t count, uint64_t slots)
{
	return 4 * count > 3 * slots;
}

/* False: no memory, and unchanged. */
static bool resize_slots(struct trie *trie, uint64_t slots)
{
	struct trie_slot *made = calloc(slots, sizeof *made);

	if (!made)
		return false;
	prefer_huge_pages(made, slots * sizeof *made);
	free(trie->slots);
	trie->slots = made;
	trie->mask = (uint32_t)(slots - 1);
	for (uint32_t i = 1; i < trie->count; i++)
		trie_link(trie, i);
	return true;
}

static bool trie_reserve(struct trie *trie)
{
	uint32_t before = trie->capacity;

	if (!ARRAY_RESERVE(trie->nodes, trie->count, trie->capacity, FIRST_CAPACITY))
		return false;
	if (trie->capacity > before)
		prefer_huge_pages(trie->nodes, (size_t)trie->capacity * sizeof *trie->nodes);
	if (trie->slots && !is_full(trie->count, (uint64_t)trie->mask + 1))
		return true;
	return resize_slots(trie, trie->slots ? ((uint64_t)trie->mask + 1) * 2 : FIRST_CAPACITY);
}

bool stack_trie_init(struct trie *trie)
{
	if (!trie_reserve(trie))
		return false;
	trie->nodes[0] = (struct mematlas_node){0};
	trie->count = 1;
	return true;
}

void stack_trie_prefetch(const struct trie *trie, uint32_t hash)
{
	__builtin_prefetch(home_of(trie, hash));
}

uint32_t stack_trie_add_hashed(struct state *state, uint32_t parent, uint64_t word, uint32_t hash)
{
	struct trie *trie = &state->trie;

	for (uint32_t at = hash & trie->mask; trie->slots[at].number; at = (at + 1) & trie->mask)
		if (trie->slots[at].word == word && trie->slots[at].parent == parent)
			return trie->slots[at].number;
	if (trie->most && trie->count >= trie->most)
		return parent;
	if (!trie_reserve(trie)) {
		state->out_of_memory = true;
		return parent;
	}
	trie->nodes[trie->count] =
		(struct mematlas_node){.parent = parent, .hash = hash, .word = word};
	trie_link(trie, trie->count);
	return trie->count++;
}

uint32_t stack_trie_add(struct state *state, uint32_t parent, uint64_t word)
{
	uint32_t hash = stack_trie_hash(state->trie.nodes[parent].hash, word);

	return stack_trie_add_hashed(state, parent, word, hash);
}

/* Makes the memory fit what is left. What cannot be made smaller stays as it is. */
static void trie_shrink(struct trie *trie)
{
	uint32_t capacity = FIRST_CAPACITY;
	uint64_t slots = FIRST_CAPACITY;

	while (capacity < 2 * (uint64_t)trie->count)
		capacity *= 2;
	while (is_full(2 * (uint64_t)trie->count, slots))
		slots *= 2;
	if (capacity < trie->capacity) {
		void *moved = realloc(trie->nodes, capacity * sizeof *trie->nodes);
		trie->nodes = moved ? moved : trie->nodes;
		trie->capacity = capacity;
	}
	if (slots <= trie->mask && resize_slots(trie, slots))
		return;
	memset(trie->slots, 0, ((size_t)trie->mask + 1) * sizeof *trie->slots);
	for (uint32_t i = 1; i < trie->count; i++)
		trie_link(trie, i);
}

/* Words may have changed. */
void stack_trie_compact(struct trie *trie, uint32_t *kept)
{
	uint32_t count = 1;

	kept[0] = 0;
	for (uint32_t i = 1; i < trie->count; i++) {
		if (!kept[i])
			continue;
		struct mematlas_node node = trie->nodes[i];
		node.parent = kept[node.parent];
		node.hash = stack_trie_hash(trie->nodes[node.parent].hash, node.word);
		kept[i] = count;
		trie->nodes[count++] = node;
	}
	trie->count = count;
	trie_shrink(trie);
}
