/* Nodes and edges. See mematlas_heap_link() for the numbers of nodes. */
#ifndef MEMATLAS_HEAP_GRAPH_H
#define MEMATLAS_HEAP_GRAPH_H

#include "heap.h"

static inline uint32_t graph_block_node(const struct heap_graph *graph, uint32_t block)
{
	return graph->strong + 1 + block;
}

static inline uint32_t graph_group_node(const struct heap_graph *graph, uint32_t group)
{
	return group <= graph->strong ? group : graph->blocks + group;
}

static inline uint32_t graph_lost_node(const struct heap_graph *graph)
{
	return graph->blocks + graph->groups + 1;
}

static inline bool graph_is_block(const struct heap_graph *graph, uint32_t node)
{
	return node - graph->strong - 1 < graph->blocks;
}

/* Whether two nodes are blocks of one type. */
static inline bool graph_same_type(const struct heap *heap, uint32_t a, uint32_t b)
{
	const struct heap_graph *graph = &heap->graph;

	return graph_is_block(graph, a) && graph_is_block(graph, b) &&
	       heap->blocks.type[a - graph->strong - 1] == heap->blocks.type[b - graph->strong - 1];
}

int graph_add_edge(struct heap_graph *graph, uint32_t to);
/* Adds an edge for each word of the roots of `group`, from *root on; to blocks that are in `number`
 * already, none (NULL: to all). */
int graph_add_roots(const struct heap *heap, struct heap_graph *graph,
		    const struct mematlas_heap_root **root, const struct mematlas_heap_root *end,
		    uint32_t group, const uint32_t *number);
void heap_graph_destroy(struct heap_graph *graph);

/* A depth-first search in phases, one a rank and one for the lost. Numbers ascend from 0; parent[n] < n;
 * numbers of phase p: phase_end[p - 1] <= n < phase_end[p] */
#define GRAPH_PHASES (MEMATLAS_HEAP_RANKS + 1)
struct graph_search {
	uint32_t phase_end[GRAPH_PHASES];
	uint32_t *number; /* of each node; HEAP_NONE: not reached */
	uint32_t *vertex; /* the node of each number */
	uint32_t *parent; /* numbers */
	uint32_t *next; /* edges that are left, by number */
	uint32_t count;
};

static inline unsigned graph_phase(const struct graph_search *search, uint32_t number)
{
	unsigned phase = 0;

	while (phase < GRAPH_PHASES - 1 && number >= search->phase_end[phase])
		phase++;
	return phase;
}

void graph_search_from(const struct heap_graph *graph, struct graph_search *search, uint32_t node,
		       uint32_t parent);
/* Finds the first blocks of what is not reached, adds them as edges of the last node, and their state. */
int graph_find_lost(struct heap_graph *graph, const struct graph_search *search);
/* Uses up number[] and parent[] of `search`. */
int graph_find_dominators(const struct heap_graph *graph, struct graph_search *search,
			  uint32_t *dominator);

#endif
