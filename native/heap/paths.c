#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../cleanup.h"
#include "graph.h"

struct paths {
	const struct heap *heap;
	uint32_t *path, *top; /* as the columns */
	uint32_t *queue; /* nodes in the order of their distance */
};

static void reach(struct paths *paths, uint32_t from, uint32_t node, uint32_t *count)
{
	if (paths->path[node] != HEAP_NONE)
		return;
	paths->path[node] = from;
	paths->top[node] = graph_same_type(paths->heap, from, node) ? paths->top[from] : node;
	paths->queue[(*count)++] = node;
}

/* Breadth-first. */
static void spread(struct paths *paths, uint32_t count)
{
	const struct heap_graph *graph = &paths->heap->graph;

	for (uint32_t at = 0; at < count; at++) {
		uint32_t node = paths->queue[at];

		for (uint32_t e = graph->offset[node]; e < graph->offset[node + 1]; e++)
			reach(paths, node, graph->edge[e], &count);
	}
}

/* Groups of later ranks are no edges of node 0; they hold what those of earlier ranks do not. */
static void spread_rank(struct paths *paths, uint32_t *group)
{
	const struct heap_graph *graph = &paths->heap->graph;
	uint8_t rank = graph->ranks[*group];
	uint32_t count = 0;

	for (; *group <= graph->groups && graph->ranks[*group] == rank; ++*group) {
		uint32_t node = graph_group_node(graph, *group);
		uint32_t parent = graph->parents[*group];

		if (paths->path[node] != HEAP_NONE)
			continue;
		paths->top[node] = node;
		paths->path[node] = parent ? graph_group_node(graph, parent) : 0;
		paths->queue[count++] = node;
	}
	spread(paths, count);
}

/* `without`: a group's node whose words start no path; 0: none. The groups below it start theirs. */
static int find(const struct heap *heap, uint32_t without, uint32_t *path, uint32_t *top)
{
	const struct heap_graph *graph = &heap->graph;
	CLEANUP_FREE uint32_t *queue = malloc(graph->nodes * sizeof *queue);
	struct paths paths = {.heap = heap, .path = path, .top = top, .queue = queue};
	uint32_t count = 1;

	if (!queue)
		return -ENOMEM;
	memset(path, 0xFF, graph->nodes * sizeof *path);
	memset(top, 0, graph->nodes * sizeof *top);
	path[without] = 0;
	path[0] = 0;
	queue[0] = 0;
	for (uint32_t group = 1; without && group <= graph->strong; group++)
		if (graph->parents[group] == without)
			reach(&paths, 0, group, &count);
	spread(&paths, count);
	for (uint32_t group = graph->strong + 1; group <= graph->groups;)
		spread_rank(&paths, &group);
	return 0;
}

int mematlas_heap_find_paths(struct mematlas_heap *handle)
{
	struct heap *heap = (struct heap *)handle;
	struct heap_graph *graph = &heap->graph;
	int error;

	if (!graph->dominator)
		return -EINVAL;
	if (graph->path) /* since the last mematlas_heap_dominate() */
		return 0;
	free(graph->path_top);
	graph->path = malloc(graph->nodes * sizeof *graph->path);
	graph->path_top = malloc(graph->nodes * sizeof *graph->path_top);
	error = graph->path && graph->path_top ? find(heap, 0, graph->path, graph->path_top)
					       : -ENOMEM;
	if (error) {
		free(graph->path);
		graph->path = NULL;
	}
	return error;
}

int mematlas_heap_find_paths_without(const struct mematlas_heap *handle, uint32_t group,
				     uint32_t *path, uint32_t *top)
{
	const struct heap *heap = (const struct heap *)handle;

	if (!heap->graph.dominator || group >= heap->graph.nodes)
		return -EINVAL;
	return find(heap, group, path, top);
}
