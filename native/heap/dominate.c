/* From the graph to what each node retains: search, weak roots, lost blocks, dominators, sums. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "graph.h"

static int create(const struct heap_graph *graph, struct graph_search *search)
{
	size_t bytes = graph->nodes * sizeof *search->number;

	search->number = malloc(bytes);
	search->vertex = malloc(bytes);
	search->parent = malloc(bytes);
	search->next = malloc(bytes);
	if (!search->number || !search->vertex || !search->parent || !search->next)
		return -ENOMEM;
	memset(search->number, 0xFF, bytes);
	return 0;
}

static void release(struct graph_search *search)
{
	free(search->number);
	free(search->vertex);
	free(search->parent);
	free(search->next);
}

static void set_state(struct heap_graph *graph, const struct graph_search *search, uint32_t from,
		      int state)
{
	for (uint32_t i = from; i < search->count; i++)
		graph->state[search->vertex[i]] = (uint8_t)state;
}

/* The groups of a rank, from *group on, keep alive what no group of an earlier rank does. */
static int search_rank(const struct heap *heap, struct heap_graph *graph,
		       struct graph_search *search, int rank, uint32_t *group,
		       const struct mematlas_heap_root **root)
{
	const struct mematlas_heap_root *end = graph->weak + graph->weak_count;
	uint32_t first = *group, before = search->count;
	int error = 0;

	for (; *group <= graph->groups && graph->ranks[*group] == rank && !error; ++*group) {
		error = graph_add_roots(heap, graph, root, end, *group, search->number);
		graph->offset[graph_group_node(graph, *group) + 1] = (uint32_t)graph->edges;
	}
	for (uint32_t each = first; each < *group && !error; each++) {
		uint32_t parent = graph->parents[each];

		graph_search_from(graph, search, graph_group_node(graph, each),
				  parent ? search->number[graph_group_node(graph, parent)] : 0);
	}
	set_state(graph, search, before,
		  rank == MEMATLAS_HEAP_WEAK ? MEMATLAS_HEAP_HELD_WEAKLY : MEMATLAS_HEAP_HELD);
	search->phase_end[rank] = search->count;
	return error;
}

static int search_all(const struct heap *heap, struct heap_graph *graph,
		      struct graph_search *search)
{
	const struct mematlas_heap_root *root = graph->weak;
	uint32_t group = graph->strong + 1;
	int error = 0;

	/* What the last run added. */
	graph->edges = graph->offset[graph_block_node(graph, graph->blocks)];
	graph_search_from(graph, search, 0, 0);
	set_state(graph, search, 0, MEMATLAS_HEAP_HELD);
	search->phase_end[MEMATLAS_HEAP_STRONG] = search->count;
	for (int rank = MEMATLAS_HEAP_STRONG + 1; rank < MEMATLAS_HEAP_RANKS && !error; rank++)
		error = search_rank(heap, graph, search, rank, &group, &root);
	if (!error)
		error = graph_find_lost(graph, search);
	if (!error)
		graph_search_from(graph, search, graph_lost_node(graph), 0);
	search->phase_end[GRAPH_PHASES - 1] = search->count;
	return error;
}

static void sum_up(const struct heap *heap, struct heap_graph *graph,
		   const struct graph_search *search, const uint32_t *dominator)
{
	for (uint32_t block = 0; block < graph->blocks; block++) {
		uint32_t node = graph_block_node(graph, block);

		graph->retained[node] = heap->blocks.size[block];
		graph->retained_resident[node] = heap->resident[block];
		graph->retained_count[node] = 1;
	}
	for (uint32_t i = 1; i < search->count; i++) {
		uint32_t node = search->vertex[i], above = search->vertex[dominator[i]];

		graph->top[node] = graph_same_type(heap, node, above) ? graph->top[above] : node;
	}
	for (uint32_t i = search->count - 1; i > 0; i--) {
		uint32_t node = search->vertex[i], above = search->vertex[dominator[i]];

		graph->dominator[node] = above;
		graph->retained[above] += graph->retained[node];
		graph->retained_resident[above] += graph->retained_resident[node];
		graph->retained_count[above] += graph->retained_count[node];
	}
}

static int allocate(struct heap_graph *graph)
{
	free(graph->dominator);
	free(graph->retained);
	free(graph->retained_resident);
	free(graph->retained_count);
	free(graph->top);
	free(graph->path);
	graph->path = NULL;
	graph->dominator = calloc(graph->nodes, sizeof *graph->dominator);
	graph->retained = calloc(graph->nodes, sizeof *graph->retained);
	graph->retained_resident = calloc(graph->nodes, sizeof *graph->retained_resident);
	graph->retained_count = calloc(graph->nodes, sizeof *graph->retained_count);
	graph->top = calloc(graph->nodes, sizeof *graph->top);
	return graph->dominator && graph->retained && graph->retained_resident &&
			       graph->retained_count && graph->top
		       ? 0
		       : -ENOMEM;
}

int mematlas_heap_dominate(struct mematlas_heap *handle)
{
	struct heap *heap = (struct heap *)handle;
	struct heap_graph *graph = &heap->graph;
	struct graph_search search = {0};
	uint32_t *dominator = NULL;
	int error = graph->offset ? create(graph, &search) : -EINVAL;

	free(graph->state);
	graph->state = error ? NULL : calloc(graph->nodes, 1);
	if (!error)
		error = graph->state ? search_all(heap, graph, &search) : -ENOMEM;
	free(search.next);
	search.next = NULL;
	if (!error) {
		dominator = malloc((size_t)search.count * sizeof *dominator);
		error = dominator ? graph_find_dominators(graph, &search, dominator) : -ENOMEM;
	}
	if (!error)
		error = allocate(graph);
	if (!error)
		sum_up(heap, graph, &search, dominator);
	release(&search);
	free(dominator);
	return error;
}

const void *mematlas_heap_node_column(const struct mematlas_heap *handle, int column)
{
	const struct heap_graph *graph = &((const struct heap *)handle)->graph;
	const void *const columns[] = {
		[MEMATLAS_HEAP_DOMINATOR] = graph->dominator,
		[MEMATLAS_HEAP_RETAINED] = graph->retained,
		[MEMATLAS_HEAP_RETAINED_RESIDENT] = graph->retained_resident,
		[MEMATLAS_HEAP_RETAINED_COUNT] = graph->retained_count,
		[MEMATLAS_HEAP_STATE] = graph->state,
		[MEMATLAS_HEAP_TOP] = graph->top,
		[MEMATLAS_HEAP_PATH] = graph->path,
		[MEMATLAS_HEAP_PATH_TOP] = graph->path_top,
	};

	return column >= 0 && column < (int)(sizeof columns / sizeof *columns) ? columns[column]
									       : NULL;
}
