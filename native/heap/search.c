#include "graph.h"

/* The way back is by parent[], so chains of millions of nodes need no stack. */
void graph_search_from(const struct heap_graph *graph, struct graph_search *search, uint32_t node,
		       uint32_t parent)
{
	uint32_t start = search->count, at = start;

	if (search->number[node] != HEAP_NONE)
		return;
	search->number[node] = start;
	search->vertex[start] = node;
	search->parent[start] = parent;
	search->next[start] = graph->offset[node];
	search->count++;
	for (;;) {
		if (search->next[at] == graph->offset[search->vertex[at] + 1]) {
			if (at == start)
				return;
			at = search->parent[at];
			continue;
		}
		node = graph->edge[search->next[at]++];
		if (search->number[node] != HEAP_NONE)
			continue;
		search->number[node] = search->count;
		search->vertex[search->count] = node;
		search->parent[search->count] = at;
		search->next[search->count] = graph->offset[node];
		at = search->count++;
	}
}
