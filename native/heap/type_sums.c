/* What each type retains: the sum over its blocks that lie under no other block of the type. */
#include <errno.h>
#include <stdlib.h>

#include "../cleanup.h"
#include "graph.h"

struct tree {
	uint32_t *child, *sibling; /* 0: none; node 0 is nobody's child */
	uint32_t *open; /* for each type, its blocks on the way from node 0 */
};

static uint32_t type_of(const struct heap *heap, uint32_t node)
{
	return heap->blocks.type[node - heap->graph.strong - 1];
}

static void link_children(const struct heap_graph *graph, struct tree *tree)
{
	for (uint32_t node = graph->nodes - 1; node > 0; node--) {
		uint32_t above = graph->dominator[node];

		tree->sibling[node] = tree->child[above];
		tree->child[above] = node;
	}
}

static void enter(const struct heap *heap, struct tree *tree, uint32_t node, uint64_t *bytes,
		  uint64_t *resident)
{
	const struct heap_graph *graph = &heap->graph;
	uint32_t type;

	if (!graph_is_block(graph, node))
		return;
	type = type_of(heap, node);
	if (tree->open[type]++)
		return;
	bytes[type] += graph->retained[node];
	resident[type] += graph->retained_resident[node];
}

static void leave(const struct heap *heap, struct tree *tree, uint32_t node)
{
	if (graph_is_block(&heap->graph, node))
		tree->open[type_of(heap, node)]--;
}

/* The next node in depth-first order; false: all were seen. */
static bool walk_on(const struct heap *heap, struct tree *tree, uint32_t *node, uint64_t *bytes,
		    uint64_t *resident)
{
	uint32_t at = *node, next = tree->child[at];

	while (!next && at) {
		leave(heap, tree, at);
		next = tree->sibling[at];
		at = heap->graph.dominator[at];
	}
	if (!next)
		return false;
	enter(heap, tree, next, bytes, resident);
	*node = next;
	return true;
}

int mematlas_heap_sum_types(const struct mematlas_heap *handle, uint64_t *bytes, uint64_t *resident)
{
	const struct heap *heap = (const struct heap *)handle;
	const struct heap_graph *graph = &heap->graph;
	CLEANUP_FREE uint32_t *child = calloc(graph->nodes + 1ULL, sizeof *child);
	CLEANUP_FREE uint32_t *sibling = calloc(graph->nodes + 1ULL, sizeof *sibling);
	CLEANUP_FREE uint32_t *open = calloc(heap->type_count + 1ULL, sizeof *open);
	struct tree tree = {.child = child, .sibling = sibling, .open = open};
	uint32_t node = 0;

	if (!graph->dominator)
		return -EINVAL;
	if (!child || !sibling || !open)
		return -ENOMEM;
	for (uint32_t type = 0; type < heap->type_count; type++)
		bytes[type] = resident[type] = 0;
	link_children(graph, &tree);
	while (walk_on(heap, &tree, &node, bytes, resident))
		;
	return 0;
}
