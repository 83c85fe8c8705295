#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../cleanup.h"
#include "graph.h"

/* Breadth-first: a queue of nodes in the order of their distance. */
static void spread(const struct heap *heap, uint32_t *queue, uint32_t count)
{
	const struct heap_graph *graph = &heap->graph;

	for (uint32_t at = 0; at < count; at++) {
		uint32_t node = queue[at];

		for (uint32_t e = graph->offset[node]; e < graph->offset[node + 1]; e++) {
			uint32_t to = graph->edge[e];

			if (graph->path[to] != HEAP_NONE)
				continue;
			graph->path[to] = node;
			graph->path_top[to] =
				graph_same_type(heap, node, to) ? graph->path_top[node] : to;
			queue[count++] = to;
		}
	}
}

int mematlas_heap_find_paths(struct mematlas_heap *handle)
{
	struct heap *heap = (struct heap *)handle;
	struct heap_graph *graph = &heap->graph;
	CLEANUP_FREE uint32_t *queue = NULL;
	uint32_t count;

	if (!graph->dominator)
		return -EINVAL;
	if (graph->path) /* since the last mematlas_heap_dominate() */
		return 0;
	queue = malloc(graph->nodes * sizeof *queue);
	free(graph->path_top);
	graph->path = malloc(graph->nodes * sizeof *graph->path);
	graph->path_top = calloc(graph->nodes, sizeof *graph->path_top);
	if (!queue || !graph->path || !graph->path_top) {
		free(graph->path);
		graph->path = NULL;
		return -ENOMEM;
	}
	memset(graph->path, 0xFF, graph->nodes * sizeof *graph->path);
	graph->path[0] = 0;
	queue[0] = 0;
	spread(heap, queue, 1);
	/* Groups of later ranks are no edges of node 0; they hold what those of earlier ranks do not. */
	for (uint32_t group = graph->strong + 1; group <= graph->groups;) {
		uint8_t rank = graph->ranks[group];

		count = 0;
		for (; group <= graph->groups && graph->ranks[group] == rank; group++) {
			uint32_t node = graph_group_node(graph, group);
			uint32_t parent = graph->parents[group];

			graph->path_top[node] = node;
			graph->path[node] = parent ? graph_group_node(graph, parent) : 0;
			queue[count++] = node;
		}
		spread(heap, queue, count);
	}
	return 0;
}
