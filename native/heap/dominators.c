/* Dominators by Semi-NCA (Georgiadis, Tarjan: Linear-Time Algorithms for Dominators and Related
 * Problems), in depth-first numbers, without recursion. */
#include "graph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../array.h"
#include "../cleanup.h"

/* Sources of the edges to each node, all in depth-first numbers. */
struct sources {
	uint32_t *offset; /* count + 1 */
	uint32_t *from;
};

/* Whether an edge counts. What is found in a later phase takes nothing from those that hold a block
 * without it: a leaked block that points to a variable's list does not make the list shared. */
static bool counts(const struct graph_search *search, uint32_t from, uint32_t to)
{
	return from < to || graph_phase(search, from) <= graph_phase(search, to);
}

/* All nodes have been reached. */
static int find_sources(const struct heap_graph *graph, const struct graph_search *search,
			struct sources *sources)
{
	uint32_t count = search->count;

	sources->offset = calloc(count + 2ULL, sizeof *sources->offset);
	sources->from = malloc((graph->edges + 1) * sizeof *sources->from);
	if (!sources->offset || !sources->from)
		return -ENOMEM;
	/* Two behind: filling moves each offset one ahead. */
	for (uint64_t i = 0; i < graph->edges; i++)
		sources->offset[search->number[graph->edge[i]] + 2ULL]++;
	for (uint32_t i = 1; i < count + 2; i++)
		sources->offset[i] += sources->offset[i - 1];
	for (uint32_t i = 0; i < count; i++) {
		uint32_t node = search->vertex[i];

		for (uint32_t e = graph->offset[node]; e < graph->offset[node + 1]; e++) {
			uint32_t to = search->number[graph->edge[e]];

			/* An edge that does not count is told as the one that always does. */
			sources->from[sources->offset[to + 1ULL]++] =
				counts(search, i, to) ? i : search->parent[to];
		}
	}
	return 0;
}

struct forest {
	uint32_t *ancestor, *label, *semi;
	uint32_t *path;
	uint32_t capacity;
};

static bool keep_step(struct forest *forest, uint32_t depth, uint32_t node)
{
	if (!ARRAY_RESERVE(forest->path, depth, forest->capacity, 1024))
		return false;
	forest->path[depth] = node;
	return true;
}

/* The node with the least semidominator on the way up from `node`, among those at or behind `last`,
 * which are linked. The way is shortened. HEAP_NONE: no memory. */
static uint32_t evaluate(struct forest *forest, uint32_t node, uint32_t last)
{
	uint32_t depth = 0, at = node, best, root;

	for (; forest->ancestor[at] >= last; at = forest->ancestor[at])
		if (!keep_step(forest, depth++, at))
			return HEAP_NONE;
	best = forest->label[at];
	root = forest->ancestor[at];
	while (depth) {
		at = forest->path[--depth];
		if (forest->semi[best] < forest->semi[forest->label[at]])
			forest->label[at] = best;
		else
			best = forest->label[at];
		forest->ancestor[at] = root;
	}
	return forest->label[node];
}

static int find_semidominators(struct forest *forest, const struct sources *sources, uint32_t count)
{
	for (uint32_t node = count - 1; node > 0; node--) {
		uint32_t least = forest->ancestor[node]; /* its parent: it is not linked yet */

		for (uint32_t e = sources->offset[node]; e < sources->offset[node + 1]; e++) {
			uint32_t from = sources->from[e];

			if (from > node) {
				from = evaluate(forest, from, node + 1);
				if (from == HEAP_NONE)
					return -ENOMEM;
				from = forest->semi[from];
			}
			least = from < least ? from : least;
		}
		forest->semi[node] = least;
		forest->label[node] = node;
	}
	return 0;
}

int graph_find_dominators(const struct heap_graph *graph, struct graph_search *search,
			  uint32_t *dominator)
{
	uint32_t count = search->count;
	struct forest forest = {.ancestor = search->parent};
	struct sources sources = {0};
	int error;

	error = find_sources(graph, search, &sources);
	/* From here on all is in depth-first numbers. */
	free(search->number);
	search->number = NULL;
	forest.label = malloc((size_t)count * sizeof *forest.label);
	forest.semi = malloc((size_t)count * sizeof *forest.semi);
	if (!forest.label || !forest.semi)
		error = -ENOMEM;
	if (!error) {
		memcpy(dominator, search->parent, (size_t)count * sizeof *dominator);
		error = find_semidominators(&forest, &sources, count);
	}
	for (uint32_t node = 1; node < count && !error; node++)
		while (dominator[node] > forest.semi[node])
			dominator[node] = dominator[dominator[node]];
	free(sources.offset);
	free(sources.from);
	free(forest.label);
	free(forest.semi);
	free(forest.path);
	return error;
}
