/* Edges, dominators, lost blocks and paths on made-up memory, against plain algorithms. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../heap/heap.h"
#include "check.h"
#include "random.h"

#define BASE 0x100000ULL
#define ROOTS 0x1000ULL
#define MOST 400

static uint64_t blocks[MOST][4], roots[64];
static uint64_t rnd_state = 88172645463325252ULL;

static uint64_t rnd(uint64_t below)
{
	return random_next(&rnd_state) % below;
}

static struct mematlas_heap *create(uint32_t count, const struct mematlas_heap_root *rows,
				    uint64_t rows_count, const uint32_t *parents,
				    const uint8_t *ranks, uint32_t groups)
{
	const struct mematlas_heap_range ranges[] = {
		{.start = ROOTS, .size = sizeof roots, .bytes = (uint8_t *)roots},
		{.start = BASE, .size = sizeof blocks, .bytes = (uint8_t *)blocks},
	};
	struct mematlas_heap *heap;

	CHECK(mematlas_heap_create(ranges, 2, 4096, &heap) == 0);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t address = BASE + i * sizeof *blocks, size = sizeof *blocks;

		CHECK(mematlas_heap_add(heap, &address, &size, 1, MEMATLAS_HEAP_TRACED) == 0);
	}
	CHECK(mematlas_heap_index(heap) == count);
	CHECK(mematlas_heap_link(heap, rows, rows_count, parents, ranks, groups) >= 0);
	CHECK(mematlas_heap_dominate(heap) == 0);
	CHECK(mematlas_heap_find_paths(heap) == 0);
	return heap;
}

enum { STRONG, PROGRAM, WEAK, LOST, PHASES };

/* The phase in which a node is a start; groups of the program's rank and of weak rank hang on node 0. */
static int start_phase(const struct mematlas_heap_graph *graph, const uint8_t *ranks, uint32_t node)
{
	if (!node)
		return STRONG;
	if (node <= graph->blocks + graph->strong)
		return PHASES;
	if (node == graph->nodes - 1)
		return LOST;
	return ranks[node - graph->blocks - 1] == MEMATLAS_HEAP_WEAK ? WEAK : PROGRAM;
}

/* Marks what is reached from the starts up to a phase, by nodes of `allowed` phases alone. */
static void spread(const struct mematlas_heap_graph *graph, const uint8_t *ranks, int phase,
		   uint32_t without, const uint8_t *phases, uint8_t *seen)
{
	static uint32_t stack[2 * MOST + 200];
	uint32_t depth = 0;

	memset(seen, 0, graph->nodes);
	for (uint32_t node = 0; node < graph->nodes; node++)
		if (node != without && start_phase(graph, ranks, node) <= phase) {
			seen[node] = 1;
			stack[depth++] = node;
		}
	while (depth) {
		uint32_t node = stack[--depth];

		for (uint32_t e = graph->offsets[node]; e < graph->offsets[node + 1]; e++) {
			uint32_t to = graph->targets[e];

			if (to == without || seen[to] || (phases && phases[to] > phase))
				continue;
			seen[to] = 1;
			stack[depth++] = to;
		}
	}
}

static void find_phases(const struct mematlas_heap_graph *graph, const uint8_t *ranks,
			uint8_t *phases)
{
	static uint8_t seen[MOST + 100];

	memset(phases, PHASES, graph->nodes);
	for (int phase = STRONG; phase < PHASES; phase++) {
		spread(graph, ranks, phase, HEAP_NONE, NULL, seen);
		for (uint32_t node = 0; node < graph->nodes; node++)
			if (seen[node] && phases[node] == PHASES)
				phases[node] = (uint8_t)phase;
	}
}

/* Which nodes are reached without `without`, each in its phase: later ones take nothing from it. */
static void reach(const struct mematlas_heap_graph *graph, const uint8_t *ranks,
		  const uint8_t *phases, uint32_t without, uint8_t *seen)
{
	static uint8_t found[MOST + 100];

	memset(seen, 0, graph->nodes);
	for (int phase = STRONG; phase < PHASES; phase++) {
		spread(graph, ranks, phase, without, phases, found);
		for (uint32_t node = 0; node < graph->nodes; node++)
			if (phases[node] == phase)
				seen[node] = found[node];
	}
}

static void check_text(uint64_t behind, int layout, int state)
{
	const struct mematlas_heap_root root = {.start = ROOTS, .end = ROOTS + 8, .group = 1};
	const uint32_t parents[] = {0};
	const uint8_t ranks[] = {MEMATLAS_HEAP_STRONG};

	memset(blocks, 0, sizeof blocks);
	memcpy(blocks[0], "a name of a host", 16);
	blocks[0][3] = behind;
	roots[0] = BASE;
	struct mematlas_heap *heap = create(2, &root, 1, parents, ranks, 1);
	CHECK(mematlas_heap_type_by_content(heap) == 2);
	CHECK(mematlas_heap_link(heap, &root, 1, parents, ranks, 1) >= 0);
	CHECK(mematlas_heap_dominate(heap) == 0);
	const uint8_t *layouts = mematlas_heap_column(heap, MEMATLAS_HEAP_LAYOUT);
	const uint8_t *states = mematlas_heap_node_column(heap, MEMATLAS_HEAP_STATE);
	CHECK(layouts[0] == layout && states[2] == MEMATLAS_HEAP_HELD && states[3] == state);
	mematlas_heap_destroy(heap);
}

/* A text may be a field of a structure, with a pointer behind it. */
static void test_pointer_behind_text(void)
{
	check_text(0, MEMATLAS_HEAP_OPAQUE, MEMATLAS_HEAP_LOST);
	check_text(BASE + sizeof *blocks, MEMATLAS_HEAP_WORDS, MEMATLAS_HEAP_HELD);
	memset(blocks, 0, sizeof blocks);
	memset(roots, 0, sizeof roots);
}

/* d dominates n if n is not reached without d; what d retains is what is not reached without it. */
static void check_retained(const struct mematlas_heap *heap, const uint8_t *ranks)
{
	static uint8_t seen[MOST + 100], phases[MOST + 100];
	const uint64_t *retained = mematlas_heap_node_column(heap, MEMATLAS_HEAP_RETAINED);
	const uint32_t *dominator = mematlas_heap_node_column(heap, MEMATLAS_HEAP_DOMINATOR);
	struct mematlas_heap_graph graph;

	mematlas_heap_graph(heap, &graph);
	find_phases(&graph, ranks, phases);
	for (uint32_t node = 1; node < graph.nodes; node++) {
		uint64_t expected = 0;

		reach(&graph, ranks, phases, node, seen);
		for (uint32_t i = 0; i < graph.blocks; i++)
			if (!seen[graph.strong + 1 + i])
				expected += sizeof *blocks;
		CHECK(retained[node] == expected);
		reach(&graph, ranks, phases, dominator[node], seen);
		CHECK(!dominator[node] || !seen[node]);
	}
	CHECK(retained[0] == graph.blocks * sizeof *blocks);
}

/* Without the words of a group, paths lead to all that others reach, and none begins there. */
static void check_other_paths(const struct mematlas_heap *heap, const uint8_t *ranks,
			      uint32_t group)
{
	static uint8_t seen[MOST + 100], phases[MOST + 100];
	static uint32_t path[MOST + 100], top[MOST + 100];
	struct mematlas_heap_graph graph;

	mematlas_heap_graph(heap, &graph);
	find_phases(&graph, ranks, phases);
	reach(&graph, ranks, phases, group, seen);
	CHECK(mematlas_heap_find_paths_without(heap, group, path, top) == 0);
	for (uint32_t i = 0; i < graph.blocks; i++) {
		uint32_t node = graph.strong + 1 + i;

		CHECK(!seen[node] || phases[node] == LOST || path[node] != HEAP_NONE);
		while (path[node] != HEAP_NONE && node - graph.strong - 1 < graph.blocks)
			node = path[node];
		CHECK(node != group);
	}
	CHECK(mematlas_heap_find_paths_without(heap, (uint32_t)graph.nodes, path, top) == -EINVAL);
}

static void test_random(void)
{
	static const uint32_t parents[] = {0, 1, 0, 0};
	static const uint8_t ranks[] = {MEMATLAS_HEAP_STRONG, MEMATLAS_HEAP_STRONG,
					MEMATLAS_HEAP_PROGRAM, MEMATLAS_HEAP_WEAK};

	for (int round = 0; round < 60; round++) {
		uint32_t count = 1 + (uint32_t)rnd(MOST - 1);
		const struct mematlas_heap_root rows[] = {
			{.start = ROOTS, .end = ROOTS + 16, .group = 1},
			{.start = ROOTS + 16, .end = ROOTS + 24, .group = 2},
			{.start = ROOTS + 32, .end = ROOTS + 48, .group = 3},
			{.start = ROOTS + 48, .end = ROOTS + 72, .group = 4},
		};
		struct mematlas_heap *heap;

		memset(blocks, 0, sizeof blocks);
		for (uint32_t i = 0; i < count; i++)
			for (uint64_t k = rnd(5); k < 4; k++)
				blocks[i][k] = BASE + rnd(count * sizeof *blocks);
		for (int i = 0; i < 10; i++)
			roots[i] = rnd(3) ? BASE + rnd(count * sizeof *blocks) : 0;
		heap = create(count, rows, 4, parents, ranks, 4);
		check_retained(heap, ranks);
		check_other_paths(heap, ranks, 1);
		check_other_paths(heap, ranks, 2);
		check_other_paths(heap, ranks, 2 + count + 1);
		mematlas_heap_destroy(heap);
	}
}

static uint64_t block(uint32_t number)
{
	return BASE + number * sizeof *blocks;
}

/* Blocks of each way to be held or lost. */
static void fill(void)
{
	memset(blocks, 0, sizeof blocks);
	roots[0] = block(0) + 8; /* inside */
	roots[1] = block(9);
	blocks[0][3] = block(1) + 31;
	blocks[2][0] = block(3); /* a lost chain into a cycle */
	blocks[3][0] = block(4);
	blocks[4][0] = block(3);
	blocks[5][1] = block(5); /* only its own */
	blocks[6][0] = block(7); /* a cycle, and what hangs on it */
	blocks[7][0] = block(6);
	blocks[7][1] = block(8);
	blocks[9][0] = block(10);
	blocks[9][1] = block(0);
}

static void test_lost(void)
{
	const struct mematlas_heap_root row = {.start = ROOTS, .end = ROOTS + 8, .group = 1};
	const struct mematlas_heap_root weak = {.start = ROOTS + 8, .end = ROOTS + 16, .group = 2};
	const struct mematlas_heap_root rows[] = {row, weak};
	const uint32_t parents[] = {0, 0};
	static const uint8_t ranks[] = {MEMATLAS_HEAP_STRONG, MEMATLAS_HEAP_WEAK};
	static const uint8_t expected[] = {
		MEMATLAS_HEAP_HELD,
		MEMATLAS_HEAP_HELD,
		MEMATLAS_HEAP_LOST,
		MEMATLAS_HEAP_LOST_INDIRECTLY,
		MEMATLAS_HEAP_LOST_INDIRECTLY,
		MEMATLAS_HEAP_LOST,
		MEMATLAS_HEAP_LOST_CYCLE,
		MEMATLAS_HEAP_LOST_INDIRECTLY,
		MEMATLAS_HEAP_LOST_INDIRECTLY,
		MEMATLAS_HEAP_HELD_WEAKLY,
		MEMATLAS_HEAP_HELD_WEAKLY,
	};
	struct mematlas_heap *heap;
	const uint8_t *state;
	const uint32_t *path;
	const uint64_t *retained;

	fill();
	heap = create(11, rows, 2, parents, ranks, 2);
	state = mematlas_heap_node_column(heap, MEMATLAS_HEAP_STATE);
	path = mematlas_heap_node_column(heap, MEMATLAS_HEAP_PATH);
	retained = mematlas_heap_node_column(heap, MEMATLAS_HEAP_RETAINED);
	for (uint32_t i = 0; i < 11; i++)
		CHECK(state[2 + i] == expected[i]);
	CHECK(path[2] == 1 && path[1] == 0 && path[3] == 2);
	CHECK(path[2 + 10] == 2 + 9 && path[2 + 9] == 11 + 2 && path[2 + 5] == HEAP_NONE);
	CHECK(retained[2 + 2] == 96 && retained[2 + 6] == 96 && retained[11 + 2] == 64);
	CHECK(retained[11 + 3] == 7 * 32);
	CHECK(mematlas_heap_dominate(heap) == 0 && mematlas_heap_dominate(heap) == 0);
	mematlas_heap_destroy(heap);
}

static void test_empty(void)
{
	const struct mematlas_heap_root rows[] = {
		{.start = ROOTS, .end = ROOTS + 8, .group = 1},
		{.start = ROOTS + 8, .end = ROOTS + 16, .group = 2},
	};
	const uint32_t parents[] = {0, 0};
	static const uint8_t ranks[] = {MEMATLAS_HEAP_STRONG, MEMATLAS_HEAP_WEAK};
	struct mematlas_heap *heap;

	CHECK(mematlas_heap_create(NULL, 0, 4096, &heap) == 0 && mematlas_heap_index(heap) == 0);
	CHECK(mematlas_heap_link(heap, rows, 2, parents, ranks, 1) == -EINVAL);
	CHECK(mematlas_heap_link(heap, NULL, 0, NULL, NULL, 0) == 0 &&
	      mematlas_heap_dominate(heap) == 0);
	mematlas_heap_destroy(heap);
}

/* A chain of two million blocks: nothing recurses. */
static void test_chain(void)
{
	enum { COUNT = 2000000 };
	uint64_t *chain = calloc(COUNT * 2, 8);
	const struct mematlas_heap_root row = {.start = ROOTS, .end = ROOTS + 8, .group = 1};
	const uint32_t parent = 0;
	const uint8_t rank = MEMATLAS_HEAP_STRONG;
	const struct mematlas_heap_range ranges[] = {
		{.start = ROOTS, .size = sizeof roots, .bytes = (uint8_t *)roots},
		{.start = BASE, .size = COUNT * 16, .bytes = (uint8_t *)chain},
	};
	struct mematlas_heap *heap;

	CHECK(mematlas_heap_create(ranges, 2, 4096, &heap) == 0);
	roots[0] = BASE;
	for (uint64_t i = 0; i < COUNT; i++) {
		uint64_t address = BASE + i * 16, size = 16;

		chain[i * 2] = i + 1 < COUNT ? address + 16 : 0;
		chain[i * 2 + 1] = i ? address - 16 : 0;
		CHECK(mematlas_heap_add(heap, &address, &size, 1, MEMATLAS_HEAP_TRACED) == 0);
	}
	CHECK(mematlas_heap_index(heap) == COUNT);
	for (int lost = 0; lost < 2; lost++) {
		CHECK(mematlas_heap_link(heap, &row, 1, &parent, &rank, 1) > COUNT);
		CHECK(mematlas_heap_dominate(heap) == 0 && mematlas_heap_find_paths(heap) == 0);
		CHECK(((const uint64_t *)mematlas_heap_node_column(
			      heap, MEMATLAS_HEAP_RETAINED))[2] == COUNT * 16);
		roots[0] = 0;
	}
	mematlas_heap_destroy(heap);
	free(chain);
}

/* Each radix tree of jemalloc costs a pass over the image, so a made-up heap may not have any number. */
static void test_many_copies(void)
{
	enum { COPIES = 20, WORDS = 1 << 18 };
	const uint64_t start = 1ULL << 30, leaf = start + COPIES * WORDS * 8ULL;
	uint64_t *words = calloc(COPIES + 2, WORDS * 8ULL);
	const struct mematlas_heap_range range = {.start = start,
						  .size = (COPIES + 2) * WORDS * 8ULL,
						  .bytes = (uint8_t *)words,
						  .kind = MEMATLAS_HEAP_DATA};
	struct mematlas_heap_allocator sum;
	struct mematlas_heap *heap;

	CHECK(words);
	for (int i = 0; i < COPIES; i++)
		words[i * WORDS + (start >> 30)] = leaf;
	words[COPIES * WORDS] =
		leaf + WORDS * 8ULL; /* the first page of the leaf leads to an extent, */
	words[(COPIES + 1) * WORDS + 1] = start; /* which has this address */
	CHECK(mematlas_heap_create(&range, 1, 4096, &heap) == 0);
	CHECK(mematlas_heap_read_jemalloc(heap, &sum) == 0);
	CHECK(sum.copies == HEAP_MOST_COPIES && sum.refused == HEAP_MOST_COPIES);
	mematlas_heap_destroy(heap);
	free(words);
}

int main(void)
{
	test_many_copies();
	test_pointer_behind_text();
	test_random();
	test_lost();
	test_empty();
	test_chain();
	return 0;
}
