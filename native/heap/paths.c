#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../cleanup.h"
#include "graph.h"

/* Breadth-first: a queue of nodes in the order of their distance. */
static uint32_t spread(const struct heap_graph *graph, uint32_t *queue, uint32_t count)
{
	for (uint32_t at = 0; at < count; at++) {
		uint32_t node = queue[at];

		for (uint32_t e = graph->offset[node]; e < graph->offset[node + 1]; e++) {
			uint32_t to = graph->edge[e];

			if (graph->path[to] != HEAP_NONE)
				continue;
			graph->path[to] = node;
			queue[count++] = to;
		}
	}
	return count;
}

int mematlas_heap_find_paths(struct mematlas_heap *handle)
{
	struct heap_graph *graph = &((struct heap *)handle)->graph;
	CLEANUP_FREE uint32_t *queue = NULL;
	uint32_t count;

	if (!graph->dominator)
		return -EINVAL;
	queue = malloc(graph->nodes * sizeof *queue);
	free(graph->path);
	graph->path = malloc(graph->nodes * sizeof *graph->path);
	if (!queue || !graph->path)
		return -ENOMEM;
	memset(graph->path, 0xFF, graph->nodes * sizeof *graph->path);
	graph->path[0] = 0;
	queue[0] = 0;
	count = spread(graph, queue, 1);
	/* Weak groups are not edges of node 0; they hold what no strong root does. */
	count = 0;
	for (uint32_t group = graph->strong + 1; group <= graph->groups; group++) {
		uint32_t node = graph_group_node(graph, group), parent = graph->parents[group];

		graph->path[node] = parent ? graph_group_node(graph, parent) : 0;
		queue[count++] = node;
	}
	spread(graph, queue, count);
	return 0;
}
