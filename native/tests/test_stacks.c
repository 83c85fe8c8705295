/* Tries and rows against straightforward implementations. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "mematlas.h"

#define NODES 5000

static uint32_t parents[NODES], depths[NODES], words[NODES], least[NODES];
static uint16_t narrow[NODES], narrow_least[NODES];
static int32_t ranks[NODES];
static int64_t sums[NODES], whole[NODES];
static uint8_t kept[NODES];

static void grow(unsigned int seed)
{
	srand(seed);
	for (uint32_t node = 0; node < NODES; node++) {
		parents[node] = node ? (uint32_t)rand() % node : 0;
		if (node && rand() % 4)
			parents[node] = node - 1;
		ranks[node] = rand() % 5;
		sums[node] = rand() % 1000;
		kept[node] = rand() % 2;
	}
	ranks[0] = 1 << 30;
}

static void test_ways_up(void)
{
	int32_t by_word[6] = {3, 1, 4, 1, 1 << 30, 1 << 30};

	for (uint32_t node = 0; node < NODES; node++)
		narrow[node] = (uint16_t)(words[node] = (uint32_t)ranks[node] % 5);
	CHECK(mematlas_trie_depths(parents, NODES, depths) == 0);
	CHECK(mematlas_trie_least(parents, words, 4, NODES, by_word, 5, least) == 0);
	CHECK(mematlas_trie_least(parents, narrow, 2, NODES, by_word, 5, narrow_least) == 0);
	for (uint32_t node = 0; node < NODES; node++) {
		uint32_t depth = 0, best = 5;

		for (uint32_t at = node; at; at = parents[at], depth++)
			if (by_word[words[at]] < by_word[best] ||
			    (best == 5 && by_word[words[at]] == by_word[best]))
				best = words[at];
		CHECK(depths[node] == depth);
		CHECK(least[node] == best && narrow_least[node] == best);
	}
	words[7] = 5;
	CHECK(mematlas_trie_least(parents, words, 4, NODES, by_word, 5, least) == -EINVAL);
	CHECK(mematlas_trie_least(parents, words, 3, NODES, by_word, 5, least) == -EINVAL);
}

static void test_nearest(void)
{
	uint32_t marked[NODES], count = 0, number[NODES], nearest[NODES];

	for (uint32_t node = 0; node < NODES; node++) {
		number[node] = count;
		if (kept[node] && node % 3 == 0)
			marked[count++] = node;
	}
	CHECK(mematlas_trie_nearest(parents, NODES, marked, count, nearest) == 0);
	for (uint32_t node = 0; node < NODES; node++) {
		uint32_t at = node;

		while (at && !(kept[at] && at % 3 == 0))
			at = parents[at];
		CHECK(nearest[node] == (kept[at] && at % 3 == 0 ? number[at] : count));
	}
	marked[count - 1] = marked[count - 2];
	CHECK(mematlas_trie_nearest(parents, NODES, marked, count, nearest) == -EINVAL);
	marked[count - 1] = NODES;
	CHECK(mematlas_trie_nearest(parents, NODES, marked, count, nearest) == -EINVAL);
	CHECK(mematlas_trie_nearest(parents, NODES, marked, 0, nearest) == 0);
	CHECK(nearest[NODES - 1] == 0);
}

static uint32_t climbed(uint32_t node, const uint8_t *passed)
{
	while (node && words[node] < 3 && passed[words[node]])
		node = parents[node];
	return node;
}

static void test_walks(void)
{
	static const uint8_t passed[] = {1, 0, 1};
	static const int32_t by_word[] = {2, 0, 1, 1, 9};
	uint32_t nodes[NODES], unknown = NODES;

	for (uint32_t node = 0; node < NODES; node++)
		narrow[node] = (uint16_t)(words[node] = node % 4), nodes[node] = node;
	CHECK(mematlas_trie_climb(parents, words, 4, NODES, passed, 3, nodes, NODES) == 0);
	for (uint32_t node = 0; node < NODES; node++) {
		CHECK(nodes[node] == climbed(node, passed));
		nodes[node] = node;
	}
	CHECK(mematlas_trie_climb(parents, narrow, 2, NODES, passed, 3, nodes, NODES) == 0);
	CHECK(nodes[NODES - 1] == climbed(NODES - 1, passed));
	CHECK(mematlas_trie_climb(parents, words, 4, NODES, passed, 3, &unknown, 1) == -EINVAL);
	CHECK(mematlas_trie_climb(parents, words, 3, NODES, passed, 3, nodes, 1) == -EINVAL);
	CHECK(mematlas_trie_least(parents, words, 4, NODES, by_word, 4, least) == 0);
	for (uint32_t node = 0; node < NODES; node++)
		nodes[node] = node;
	CHECK(mematlas_trie_own(parents, words, least, 4, NODES, nodes, NODES) == 0);
	for (uint32_t node = 0; node < NODES; node++) {
		uint32_t at = node;

		while (at && words[at] != least[at])
			at = parents[at];
		CHECK(nodes[node] == at);
	}
	CHECK(mematlas_trie_own(parents, words, least, 4, NODES, &unknown, 1) == -EINVAL);
}

static void test_preorder(void)
{
	static const uint32_t above[] = {0, 0, 0, 1, 1, 3}, order[] = {3, 4, 1, 2, 5},
			      part[] = {5, 2, 0}, twice[] = {3, 4, 3}, beyond[] = {6};
	static const uint32_t preorder[] = {0, 2, 1, 4, 3, 5};
	uint32_t first[6], next[6], found[6];

	CHECK(mematlas_trie_preorder(above, 6, order, 5, first, next, found) == 6);
	CHECK(!memcmp(found, preorder, sizeof preorder));
	CHECK(mematlas_trie_preorder(above, 6, part, 3, first, next, found) == 2);
	CHECK(found[0] == 0 && found[1] == 2);
	CHECK(mematlas_trie_preorder(above, 6, twice, 3, first, next, found) == -EINVAL);
	CHECK(mematlas_trie_preorder(above, 6, beyond, 1, first, next, found) == -EINVAL);
}

static void test_keys(void)
{
	static const int64_t some[] = {-5, 2, 8, 900}, others[] = {-7, -5, 3, 8, 9}, not[] = {3, 3};
	uint32_t index[4];

	CHECK(mematlas_keys_find(some, 4, others, 5, index) == 2);
	CHECK(index[0] == 1 && index[1] == UINT32_MAX && index[2] == 3);
	CHECK(index[3] == UINT32_MAX);
	CHECK(mematlas_keys_find(not, 2, others, 5, index) == -EINVAL);
	CHECK(mematlas_keys_find(some, 4, not, 2, index) == -EINVAL);
	CHECK(mematlas_keys_find(some, 0, others, 5, NULL) == 0);
}

static void test_figures(void)
{
	static const uint16_t numbers[] = {2, 0, 2, 1, 2};
	static const uint32_t wide[] = {2, 0, 2, 1, 2}, some[] = {0, 4};
	static const uint8_t bytes[] = {1, 2, 3, 255, 5};
	static const int64_t large[] = {1LL << 40, -7};
	int64_t added[3] = {0};
	uint32_t starts[4], rows[5];

	CHECK(mematlas_sums_add(numbers, 2, 5, NULL, bytes, 1, 5, 3, added) == 0);
	CHECK(added[0] == 2 && added[1] == 255 && added[2] == 9);
	CHECK(mematlas_sums_add(wide, 4, 5, some, large, 8, 2, 3, added) == 0);
	CHECK(added[2] == 9 + (1LL << 40) - 7);
	CHECK(mematlas_sums_add(numbers, 2, 5, NULL, bytes, 1, 5, 2, added) == -EINVAL);
	CHECK(mematlas_sums_add(numbers, 2, 4, some, bytes, 1, 2, 3, added) == -EINVAL);
	CHECK(mematlas_sums_add(numbers, 2, 5, NULL, bytes, 3, 5, 3, added) == -EINVAL);
	CHECK(mematlas_rows_group(numbers, 2, 5, 3, starts, rows) == 0);
	CHECK(starts[0] == 0 && starts[1] == 1 && starts[2] == 2 && starts[3] == 5);
	CHECK(rows[0] == 1 && rows[1] == 3 && rows[2] == 0 && rows[3] == 2 && rows[4] == 4);
	CHECK(mematlas_rows_group(wide, 4, 5, 2, starts, rows) == -EINVAL);
}

static void test_sums(void)
{
	memset(whole, 0, sizeof(whole));
	for (uint32_t node = 0; node < NODES; node++) {
		uint32_t at = node;

		for (;; at = parents[at]) {
			whole[at] += sums[node];
			if (!at)
				break;
		}
	}
	CHECK(mematlas_trie_add_up(parents, NULL, NODES, sums) == 0);
	CHECK(memcmp(sums, whole, sizeof(sums)) == 0);
}

static void test_folded_sums(void)
{
	memset(whole, 0, sizeof(whole));
	for (uint32_t node = 0; node < NODES; node++) {
		uint32_t at = node;

		while (at && !kept[at])
			at = parents[at];
		whole[at] += sums[node];
	}
	CHECK(mematlas_trie_add_up(parents, kept, NODES, sums) == 0);
	for (uint32_t node = 0; node < NODES; node++)
		CHECK((node && !kept[node]) || sums[node] == whole[node]);
}

static void test_no_trie(void)
{
	static const uint32_t later[] = {0, 2, 0}, itself[] = {0, 1}, root[] = {1, 0};

	CHECK(mematlas_trie_depths(later, 3, depths) == -EINVAL);
	CHECK(mematlas_trie_least(itself, words, 4, 2, ranks, 1, least) == -EINVAL);
	CHECK(mematlas_trie_add_up(root, NULL, 2, sums) == -EINVAL);
	CHECK(mematlas_trie_depths(NULL, 0, NULL) == 0);
}

static void test_words(void)
{
	static const uint64_t some[] = {7, 0, 7, UINT64_MAX, 0, 1ULL << 63, 7};
	static const uint32_t expected[] = {0, 1, 0, 2, 1, 3, 0};
	uint32_t numbers[7];
	uint64_t distinct[4];

	CHECK(mematlas_unique_inverse(some, 7, 4, numbers, distinct) == 4);
	CHECK(memcmp(numbers, expected, sizeof(numbers)) == 0);
	CHECK(distinct[0] == 7 && distinct[1] == 0 && distinct[2] == UINT64_MAX);
	CHECK(mematlas_unique_inverse(some, 7, 3, numbers, distinct) == -ENOSPC);
	CHECK(mematlas_unique_inverse(some, 7, 0, numbers, distinct) == -ENOSPC);
	CHECK(mematlas_unique_inverse(some, 0, 0, NULL, NULL) == 0);
	CHECK(mematlas_unique_inverse(some, 7, 1ULL << 31, numbers, distinct) == -EINVAL);
}

static void test_turned_rows(void)
{
	enum { ROWS = 37, SIZE = 12 };
	uint8_t turned[ROWS * SIZE];
	uint32_t four[ROWS];
	uint64_t wide[ROWS];

	for (int row = 0; row < ROWS; row++) {
		uint64_t number = 0x0123456789ABCDEFULL * (uint64_t)(row + 1);
		uint32_t small = 0xDEADBEEF + (uint32_t)row;

		for (int byte = 0; byte < 4; byte++)
			turned[byte * ROWS + row] = (uint8_t)(small >> 8 * byte);
		for (int byte = 0; byte < 8; byte++)
			turned[(4 + byte) * ROWS + row] = (uint8_t)(number >> 8 * byte);
	}
	CHECK(mematlas_rows_column(turned, ROWS, 0, 4, four) == 0);
	CHECK(mematlas_rows_column(turned, ROWS, 4, 8, wide) == 0);
	for (uint64_t row = 0; row < ROWS; row++) {
		CHECK(four[row] == 0xDEADBEEF + row);
		CHECK(wide[row] == 0x0123456789ABCDEFULL * (row + 1));
	}
	CHECK(mematlas_rows_column(turned, ROWS, 0, 2, four) == -EINVAL);
}

static void test_a_tree_grows(void)
{
	static const uint32_t labelled[] = {0, 0, 1, 0, 2}, up[] = {0, 0, 1, 0, 3};
	static const uint32_t starts[] = {0, 1, 3, 3}, labels[] = {7, 8, 9}, later[] = {0, 2, 0};
	struct mematlas_tree *tree = NULL;
	uint32_t nodes[5], tree_parents[8], tree_labels[8];

	CHECK(mematlas_tree_create(&tree) == 0);
	CHECK(mematlas_tree_merge(tree, 0, up, labelled, 5, starts, labels, nodes) == 0);
	CHECK(nodes[0] == 0 && nodes[1] == 1 && nodes[2] == 3 && nodes[3] == 1 && nodes[4] == 1);
	CHECK(mematlas_tree_read(tree, tree_parents, tree_labels) == 4);
	CHECK(tree_parents[2] == 1 && tree_labels[2] == 8 && tree_parents[3] == 2);
	CHECK(mematlas_tree_merge(tree, 0, later, labelled, 3, starts, labels, nodes) == -EINVAL);
	CHECK(mematlas_tree_child(tree, 4, 1) == -EINVAL);
	for (uint32_t label = 0; label < 100000; label++)
		CHECK(mematlas_tree_child(tree, label % 4, label) >= (label < 10 ? 1 : 4));
	for (uint32_t label = 0; label < 100000; label++)
		CHECK(mematlas_tree_child(tree, label % 4, label) <= 100003);
	CHECK(mematlas_tree_read(tree, NULL, NULL) <= 100004);
	mematlas_tree_destroy(tree);
	mematlas_tree_destroy(NULL);
}

int main(void)
{
	test_a_tree_grows();
	for (unsigned int seed = 1; seed <= 20; seed++) {
		grow(seed);
		test_ways_up();
		test_nearest();
		test_walks();
		test_folded_sums();
		grow(seed);
		test_sums();
	}
	test_no_trie();
	test_preorder();
	test_keys();
	test_figures();
	test_words();
	test_turned_rows();
	return 0;
}
