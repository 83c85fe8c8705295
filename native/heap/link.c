/* Edges: the words of roots and of blocks that point into blocks, in one pass over all memory. */
#include "graph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../cleanup.h"
#include "index.h"

#define FIRST_EDGES 4096ULL
#define MOST_READINGS 4ULL /* of a word, as a root and in a container; the average is below 1 */

void heap_graph_destroy(struct heap_graph *graph)
{
	free(graph->offset);
	free(graph->edge);
	free(graph->weak);
	free(graph->parents);
	free(graph->ranks);
	free(graph->dominator);
	free(graph->retained);
	free(graph->retained_resident);
	free(graph->retained_count);
	free(graph->state);
	free(graph->top);
	free(graph->path);
	free(graph->path_top);
	*graph = (struct heap_graph){0};
}

int graph_add_edge(struct heap_graph *graph, uint32_t to)
{
	if (graph->edges == graph->capacity) {
		uint64_t capacity = graph->capacity ? graph->capacity * 3 / 2 : FIRST_EDGES;
		uint32_t *moved;

		if (capacity > graph->most)
			capacity = graph->most;
		if (graph->edges >= graph->most)
			return -EFBIG;
		moved = realloc(graph->edge, capacity * sizeof *moved);
		if (!moved)
			return -ENOMEM;
		graph->edge = moved;
		graph->capacity = capacity;
	}
	graph->edge[graph->edges++] = to;
	return 0;
}

/* Pointers in blocks are edges of these; those in an allocator's tables keep nothing alive. */
static bool is_root(const struct heap *heap, const struct mematlas_heap_root *root, uint64_t at)
{
	return root->flags & MEMATLAS_HEAP_ROOT_EXACT ||
	       (index_find(heap, at) == HEAP_NONE &&
		!heap_in_area(heap, at, MEMATLAS_HEAP_AREA_ALLOCATOR));
}

static int add_root_words(const struct heap *heap, struct heap_graph *graph,
			  const struct mematlas_heap_root *root, const uint32_t *number)
{
	const struct mematlas_heap_range *range = heap_range(&heap->image, root->start);
	uint64_t size, word;
	int error = 0;

	if (!range)
		return 0;
	size = range->size - (root->start - range->start);
	size = root->end - root->start < size ? root->end - root->start : size;
	for (uint64_t at = (root->start + 7) & ~7ULL; !error && at + 8 <= root->start + size;
	     at += 8) {
		uint32_t block, node;

		memcpy(&word, range->bytes + (at - range->start), 8);
		block = index_find(heap, word);
		if (block == HEAP_NONE || !heap_is_reference(heap, block, word))
			continue;
		node = graph_block_node(graph, block);
		if ((!number || number[node] == HEAP_NONE) && is_root(heap, root, at))
			error = graph_add_edge(graph, node);
	}
	return error;
}

int graph_add_roots(const struct heap *heap, struct heap_graph *graph,
		    const struct mematlas_heap_root **root, const struct mematlas_heap_root *end,
		    uint32_t group, const uint32_t *number)
{
	int error = 0;

	for (; *root < end && (*root)->group == group && !error; ++*root)
		error = add_root_words(heap, graph, *root, number);
	return error;
}

static int add_child_groups(struct heap_graph *graph, const uint32_t *first, const uint32_t *next,
			    uint32_t group)
{
	int error = 0;

	for (uint32_t child = first[group]; child && !error; child = next[child])
		error = graph_add_edge(graph, child);
	return error;
}

/* Node 0 and the strong groups. */
static int link_groups(const struct heap *heap, struct heap_graph *graph,
		       const struct mematlas_heap_root *root, const struct mematlas_heap_root *end)
{
	CLEANUP_FREE uint32_t *first = calloc(graph->strong + 1ULL, sizeof *first);
	CLEANUP_FREE uint32_t *next = calloc(graph->strong + 1ULL, sizeof *next);
	int error = first && next ? 0 : -ENOMEM;

	for (uint32_t group = graph->strong; group && !error; group--) {
		next[group] = first[graph->parents[group]];
		first[graph->parents[group]] = group;
	}
	for (uint32_t group = 0; group <= graph->strong && !error; group++) {
		error = add_child_groups(graph, first, next, group);
		if (!error && group)
			error = graph_add_roots(heap, graph, &root, end, group, NULL);
		graph->offset[group + 1] = (uint32_t)graph->edges;
	}
	return error;
}

struct target {
	const struct heap *heap;
	struct heap_graph *graph;
	uint32_t block;
	uint32_t last; /* the same pointer often stands twice */
	int error;
};

static void add_word(void *to, uint64_t word)
{
	struct target *target = to;
	uint32_t block = index_find(target->heap, word);

	if (block == HEAP_NONE || block == target->last || block == target->block ||
	    target->error || !heap_is_reference(target->heap, block, word))
		return;
	target->last = block;
	target->error = graph_add_edge(target->graph, graph_block_node(target->graph, block));
}

static void add_words(const struct heap *heap, struct target *target)
{
	uint64_t size = heap->blocks.size[target->block] & ~7ULL, word;
	const uint8_t *bytes = heap_at(&heap->image, heap->blocks.address[target->block], size);

	for (uint64_t at = 0; bytes && at < size; at += 8) {
		memcpy(&word, bytes + at, 8);
		if (word - heap->index.base < heap->index.windows << INDEX_WINDOW_BITS)
			add_word(target, word);
	}
}

static int link_blocks(const struct heap *heap, struct heap_graph *graph)
{
	struct target target = {.heap = heap, .graph = graph};

	for (uint32_t block = 0; block < graph->blocks && !target.error; block++) {
		target.block = block;
		target.last = HEAP_NONE;
		if (heap->readers[heap->blocks.layout[block]])
			heap_visit(heap, block, add_word, &target);
		else if (heap->blocks.layout[block] != MEMATLAS_HEAP_OPAQUE)
			add_words(heap, &target);
		graph->offset[graph_block_node(graph, block) + 1] = (uint32_t)graph->edges;
	}
	return target.error;
}

static bool are_roots(const struct mematlas_heap_root *roots, uint64_t count, uint32_t groups)
{
	for (uint64_t i = 0; i < count; i++)
		if (roots[i].start >= roots[i].end || !roots[i].group || roots[i].group > groups ||
		    (i && roots[i - 1].group > roots[i].group))
			return false;
	return true;
}

static bool are_ranks(const uint32_t *parents, const uint8_t *ranks, uint32_t groups)
{
	for (uint32_t group = 1; group <= groups; group++) {
		uint32_t parent = parents[group - 1];

		if (ranks[group - 1] >= MEMATLAS_HEAP_RANKS ||
		    (group > 1 && ranks[group - 1] < ranks[group - 2]) || parent >= group ||
		    (parent && ranks[parent - 1] != ranks[group - 1]))
			return false;
	}
	return true;
}

static int keep_weak(struct heap_graph *graph, const struct mematlas_heap_root *roots,
		     uint64_t count)
{
	graph->weak = malloc((count ? count : 1) * sizeof *roots);
	if (!graph->weak)
		return -ENOMEM;
	if (count)
		memcpy(graph->weak, roots, count * sizeof *roots);
	graph->weak_count = count;
	return 0;
}

static uint64_t most_edges(const struct heap_image *image, const struct heap_graph *graph)
{
	uint64_t most = 2ULL * graph->nodes + FIRST_EDGES;

	for (size_t i = 0; i < image->count; i++)
		most += image->ranges[i].size / 8 * MOST_READINGS;
	return most < UINT32_MAX ? most : UINT32_MAX;
}

static int start(struct heap_graph *graph, const uint32_t *parents, const uint8_t *ranks)
{
	if ((uint64_t)graph->blocks + graph->groups + 2 >= HEAP_NONE)
		return -EFBIG;
	graph->nodes = graph->blocks + graph->groups + 2;
	graph->offset = calloc(graph->nodes + 1ULL, sizeof *graph->offset);
	graph->parents = calloc(graph->groups + 1ULL, sizeof *graph->parents);
	graph->ranks = calloc(graph->groups + 1ULL, sizeof *graph->ranks);
	if (!graph->offset || !graph->parents || !graph->ranks)
		return -ENOMEM;
	if (graph->groups) {
		memcpy(graph->parents + 1, parents, graph->groups * sizeof *parents);
		memcpy(graph->ranks + 1, ranks, graph->groups * sizeof *ranks);
	}
	return 0;
}

/* Sets graph->strong and returns the number of roots of strong groups. */
static uint64_t count_strong(struct heap_graph *graph, const struct mematlas_heap_root *roots,
			     uint64_t count, const uint8_t *ranks)
{
	uint64_t strong = 0;

	while (graph->strong < graph->groups && ranks[graph->strong] == MEMATLAS_HEAP_STRONG)
		graph->strong++;
	while (strong < count && roots[strong].group <= graph->strong)
		strong++;
	return strong;
}

int64_t mematlas_heap_link(struct mematlas_heap *handle, const struct mematlas_heap_root *roots,
			   uint64_t root_count, const uint32_t *parents, const uint8_t *ranks,
			   uint32_t groups)
{
	struct heap *heap = (struct heap *)handle;
	struct heap_graph *graph = &heap->graph;
	uint64_t strong_roots;
	int error;

	if (!are_roots(roots, root_count, groups) || !are_ranks(parents, ranks, groups))
		return -EINVAL;
	heap_graph_destroy(graph);
	graph->groups = groups;
	graph->blocks = heap->blocks.count;
	strong_roots = count_strong(graph, roots, root_count, ranks);
	error = start(graph, parents, ranks);
	graph->most = most_edges(&heap->image, graph);
	if (!error)
		error = keep_weak(graph, roots + strong_roots, root_count - strong_roots);
	if (!error)
		error = link_groups(heap, graph, roots, roots + strong_roots);
	if (!error)
		error = link_blocks(heap, graph);
	if (error) {
		heap_graph_destroy(graph);
		return error;
	}
	return (int64_t)graph->edges;
}

void mematlas_heap_graph(const struct mematlas_heap *handle, struct mematlas_heap_graph *ret)
{
	const struct heap_graph *graph = &((const struct heap *)handle)->graph;

	*ret = (struct mematlas_heap_graph){.nodes = graph->nodes,
					    .edges = graph->edges,
					    .blocks = graph->blocks,
					    .groups = graph->groups,
					    .strong = graph->strong,
					    .offsets = graph->offset,
					    .targets = graph->edge};
}
