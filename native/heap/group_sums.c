/* What groups of nodes retain: the sum over the nodes of a group that lie under no other of it. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "../cleanup.h"
#include "mematlas.h"

struct tree {
	const struct mematlas_heap_tree *nodes;
	uint32_t *child, *sibling; /* 0: none; node 0 is nobody's child */
	uint32_t *open; /* for each group, its nodes on the way from node 0 */
	uint64_t *bytes, *resident;
};

static void link_children(struct tree *tree)
{
	for (uint32_t node = (uint32_t)tree->nodes->count - 1; node > 0; node--) {
		uint32_t above = tree->nodes->dominator[node];

		tree->sibling[node] = tree->child[above];
		tree->child[above] = node;
	}
}

static void enter(struct tree *tree, uint32_t node)
{
	uint32_t group = tree->nodes->group[node];

	if (group == MEMATLAS_HEAP_NONE || tree->open[group]++)
		return;
	tree->bytes[group] += tree->nodes->retained[node];
	tree->resident[group] += tree->nodes->resident[node];
}

static void leave(struct tree *tree, uint32_t node)
{
	uint32_t group = tree->nodes->group[node];

	if (group != MEMATLAS_HEAP_NONE)
		tree->open[group]--;
}

/* The next node in depth-first order; false: all were seen. */
static bool walk_on(struct tree *tree, uint32_t *node)
{
	uint32_t at = *node, next = tree->child[at];

	while (!next && at) {
		leave(tree, at);
		next = tree->sibling[at];
		at = tree->nodes->dominator[at];
	}
	if (!next)
		return false;
	enter(tree, next);
	*node = next;
	return true;
}

int mematlas_heap_sum_groups(const struct mematlas_heap_tree *nodes, uint32_t groups,
			     uint64_t *bytes, uint64_t *resident)
{
	CLEANUP_FREE uint32_t *child = calloc(nodes->count + 1, sizeof *child);
	CLEANUP_FREE uint32_t *sibling = calloc(nodes->count + 1, sizeof *sibling);
	CLEANUP_FREE uint32_t *open = calloc(groups + 1ULL, sizeof *open);
	struct tree tree = {nodes, child, sibling, open, bytes, resident};
	uint32_t node = 0;

	if (!child || !sibling || !open)
		return -ENOMEM;
	for (uint32_t group = 0; group < groups; group++)
		bytes[group] = resident[group] = 0;
	if (!nodes->count)
		return 0;
	link_children(&tree);
	while (walk_on(&tree, &node))
		;
	return 0;
}
