/* Blocks that no root reaches: the first of each chain, and one of each cycle that nothing points to. */
#include "graph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../cleanup.h"

/* Marks of the unreached. */
enum { POINTED_TO = 1, SEEN = 2, COVERED = 4 };

/* Marks all that `node` leads to and is not marked yet. `stack` has an entry for each unreached node. */
static void mark_from(const struct heap_graph *graph, const struct graph_search *search,
		      uint8_t *marks, uint8_t mark, uint32_t node, uint32_t *stack)
{
	uint32_t depth = 0;

	marks[node] |= mark;
	stack[depth++] = node;
	while (depth) {
		node = stack[--depth];
		for (uint32_t i = graph->offset[node]; i < graph->offset[node + 1]; i++) {
			uint32_t to = graph->edge[i];

			if (search->number[to] != HEAP_NONE || marks[to] & mark)
				continue;
			marks[to] |= mark;
			stack[depth++] = to;
		}
	}
}

static int add_head(struct heap_graph *graph, uint32_t node, int state)
{
	graph->state[node] = (uint8_t)state;
	return graph_add_edge(graph, node);
}

static uint32_t mark_targets(const struct heap_graph *graph, const struct graph_search *search,
			     uint8_t *marks)
{
	uint32_t first = graph_block_node(graph, 0), lost = 0;

	for (uint32_t node = first; node < first + graph->blocks; node++) {
		if (search->number[node] != HEAP_NONE)
			continue;
		lost++;
		graph->state[node] = MEMATLAS_HEAP_LOST_INDIRECTLY;
		for (uint32_t i = graph->offset[node]; i < graph->offset[node + 1]; i++)
			marks[graph->edge[i]] |=
				POINTED_TO; /* a block's edges lead to others only */
	}
	return lost;
}

/* What no directly lost block leads to are cycles and what hangs on them. Of blocks searched in turn,
 * the last start that no earlier start reaches lies in a cycle that nothing points to; without what
 * the cycle leads to, the same is true of the start before. */
static int add_cycles(struct heap_graph *graph, const struct graph_search *search, uint8_t *marks,
		      uint32_t *stack, uint32_t *starts)
{
	uint32_t first = graph_block_node(graph, 0), count = 0;
	int error = 0;

	for (uint32_t node = first; node < first + graph->blocks; node++)
		if (search->number[node] == HEAP_NONE && !(marks[node] & (SEEN | COVERED))) {
			starts[count++] = node;
			mark_from(graph, search, marks, SEEN, node, stack);
		}
	while (count-- && !error) {
		if (marks[starts[count]] & COVERED)
			continue;
		mark_from(graph, search, marks, COVERED, starts[count], stack);
		error = add_head(graph, starts[count], MEMATLAS_HEAP_LOST_CYCLE);
	}
	return error;
}

int graph_find_lost(struct heap_graph *graph, const struct graph_search *search)
{
	uint32_t first = graph_block_node(graph, 0), lost;
	CLEANUP_FREE uint8_t *marks = calloc(graph->nodes, 1);
	CLEANUP_FREE uint32_t *stack = NULL;
	CLEANUP_FREE uint32_t *starts = NULL;
	int error = 0;

	if (!marks)
		return -ENOMEM;
	lost = mark_targets(graph, search, marks);
	stack = malloc((lost + 1ULL) * sizeof *stack);
	starts = malloc((lost + 1ULL) * sizeof *starts);
	if (!stack || !starts)
		return -ENOMEM;
	for (uint32_t node = first; node < first + graph->blocks && !error; node++)
		if (search->number[node] == HEAP_NONE && !(marks[node] & POINTED_TO)) {
			mark_from(graph, search, marks, COVERED, node, stack);
			error = add_head(graph, node, MEMATLAS_HEAP_LOST);
		}
	if (!error)
		error = add_cycles(graph, search, marks, stack, starts);
	graph->offset[graph_lost_node(graph) + 1] = (uint32_t)graph->edges;
	return error;
}
