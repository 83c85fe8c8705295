/* A trie that grows. Children are found by a hash table of (parent, label). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mematlas.h"

#define FIRST_CAPACITY 1024ULL

/* 1 <= count <= capacity <= UINT32_MAX; parents[n] < n for n > 0 */
struct mematlas_tree {
	/* 2 * capacity slots, a power of two; 0: empty, because the root is no child. */
	uint32_t *table;
	uint32_t *parents, *labels;
	uint64_t count, capacity;
};

/* The product moves all bits of parent and label to the upper half; the shift brings these down
 * to the mask. */
static uint64_t slot_of(const struct mematlas_tree *tree, uint32_t parent, uint32_t label)
{
	uint64_t both = ((uint64_t)parent << 32 | label) * 0x9E3779B97F4A7C15ULL;

	return (both ^ both >> 32) & (2 * tree->capacity - 1);
}

/* The node must not be in the table. There is an empty slot: half of the table is. */
static void link_node(struct mematlas_tree *tree, uint32_t node)
{
	uint64_t slot = slot_of(tree, tree->parents[node], tree->labels[node]);

	while (tree->table[slot])
		slot = (slot + 1) & (2 * tree->capacity - 1);
	tree->table[slot] = node;
}

/* -ENOMEM: too many nodes or no memory. The tree stays as it was then: arrays may be longer than
 * `capacity` says. */
static int grow(struct mematlas_tree *tree)
{
	uint64_t capacity = tree->capacity ? 2 * tree->capacity : FIRST_CAPACITY;
	uint32_t *table = calloc(2 * capacity, sizeof(*table));
	uint32_t *parents, *labels;

	if (capacity > UINT32_MAX || !table) {
		free(table);
		return -ENOMEM;
	}
	parents = realloc(tree->parents, capacity * sizeof(*parents));
	if (parents)
		tree->parents = parents;
	labels = realloc(tree->labels, capacity * sizeof(*labels));
	if (labels)
		tree->labels = labels;
	if (!parents || !labels) {
		free(table);
		return -ENOMEM;
	}
	free(tree->table);
	tree->table = table;
	tree->capacity = capacity;
	for (uint64_t node = 1; node < tree->count; node++)
		link_node(tree, (uint32_t)node);
	return 0;
}

int mematlas_tree_create(struct mematlas_tree **ret)
{
	struct mematlas_tree *tree = calloc(1, sizeof(*tree));

	if (!tree)
		return -ENOMEM;
	if (grow(tree)) {
		mematlas_tree_destroy(tree);
		return -ENOMEM;
	}
	tree->parents[0] = tree->labels[0] = 0;
	tree->count = 1;
	*ret = tree;
	return 0;
}

void mematlas_tree_destroy(struct mematlas_tree *tree)
{
	if (!tree)
		return;
	free(tree->table);
	free(tree->parents);
	free(tree->labels);
	free(tree);
}

/* The number of the child, added if it is missing. Grows before it looks, so that the slot stays
 * valid. */
int64_t mematlas_tree_child(struct mematlas_tree *tree, uint32_t parent, uint32_t label)
{
	uint64_t slot;

	if (parent >= tree->count)
		return -EINVAL;
	if (tree->count == tree->capacity && grow(tree))
		return -ENOMEM;
	slot = slot_of(tree, parent, label);
	for (uint32_t node; (node = tree->table[slot]);
	     slot = (slot + 1) & (2 * tree->capacity - 1))
		if (tree->parents[node] == parent && tree->labels[node] == label)
			return node;
	tree->parents[tree->count] = parent;
	tree->labels[tree->count] = label;
	tree->table[slot] = (uint32_t)tree->count;
	return (int64_t)tree->count++;
}

/* `nodes` gets the node of this tree for each node of the other one. Each word of the other tree
 * stands for the labels starts[word] .. starts[word + 1]. */
int mematlas_tree_merge(struct mematlas_tree *tree, uint32_t under, const uint32_t *parents,
			const uint32_t *words, uint64_t count, const uint32_t *starts,
			const uint32_t *labels, uint32_t *nodes)
{
	for (uint64_t node = 0; node < count; node++) {
		int64_t at = under;

		if (node) {
			if (parents[node] >= node)
				return -EINVAL;
			at = nodes[parents[node]];
			for (uint32_t i = starts[words[node]]; i < starts[words[node] + 1]; i++) {
				at = mematlas_tree_child(tree, (uint32_t)at, labels[i]);
				if (at < 0)
					return (int)at;
			}
		}
		nodes[node] = (uint32_t)at;
	}
	return 0;
}

uint64_t mematlas_tree_read(const struct mematlas_tree *tree, uint32_t *parents, uint32_t *labels)
{
	if (parents)
		memcpy(parents, tree->parents, tree->count * sizeof(*parents));
	if (labels)
		memcpy(labels, tree->labels, tree->count * sizeof(*labels));
	return tree->count;
}
