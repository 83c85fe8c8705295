/* Tries whose nodes come after their parents, so that one pass replaces recursion. */
#include <errno.h>
#include <stdbool.h>

#include "mematlas.h"

/* parents[i] < first + i, or 0 for the root. A walk up such a trie comes to its root,
 * whatever a file says. No early exit, so that the loop is vectorised. */
int mematlas_trie_check(const uint32_t *parents, uint64_t first, uint64_t count)
{
	bool before = false;

	if (count > UINT32_MAX || first > UINT32_MAX - count)
		return -EINVAL;
	for (uint64_t i = 0; i < count; i++)
		before |= parents[i] >= (first + i ? first + i : 1);
	return before ? -EINVAL : 0;
}

int mematlas_trie_depths(const uint32_t *parents, uint64_t count, uint32_t *depths)
{
	int error = mematlas_trie_check(parents, 0, count);

	if (error)
		return error;
	for (uint64_t node = 0; node < count; node++)
		depths[node] = node ? depths[parents[node]] + 1 : 0;
	return 0;
}

/* Defines `name` for words of one width. */
#define LEAST(name, type)                                                                          \
	static int name(const uint32_t *parents, const type *words, uint64_t count,                \
			const int32_t *ranks, uint32_t capacity, type *least)                      \
	{                                                                                          \
		if (count)                                                                         \
			least[0] = (type)capacity;                                                 \
		for (uint64_t node = 1; node < count; node++) {                                    \
			type above = least[parents[node]], own = words[node];                      \
			if (own >= capacity)                                                       \
				return -EINVAL;                                                    \
			least[node] = ranks[own] <= ranks[above] ? own : above;                    \
		}                                                                                  \
		return 0;                                                                          \
	}
LEAST(least2, uint16_t)
LEAST(least4, uint32_t)

/* least[node] is the word of lowest rank on the path from the root to the node. */
int mematlas_trie_least(const uint32_t *parents, const void *words, uint32_t bytes, uint64_t count,
			const int32_t *ranks, uint32_t capacity, void *least)
{
	int error = mematlas_trie_check(parents, 0, count);

	if (error)
		return error;
	if (bytes == 2 && capacity <= UINT16_MAX)
		return least2(parents, words, count, ranks, capacity, least);
	return bytes == 4 ? least4(parents, words, count, ranks, capacity, least) : -EINVAL;
}

/* One pass: a node inherits its parent's answer, unless it is the next marked one. */
int mematlas_trie_nearest(const uint32_t *parents, uint64_t count, const uint32_t *marked,
			  uint32_t marked_count, uint32_t *nearest)
{
	int error = mematlas_trie_check(parents, 0, count);
	uint32_t next = 0;

	if (error)
		return error;
	for (uint64_t node = 0; node < count; node++) {
		if (next < marked_count && marked[next] == node)
			nearest[node] = next++;
		else
			nearest[node] = node ? nearest[parents[node]] : marked_count;
	}
	return next == marked_count ? 0 : -EINVAL;
}

/* Each node's sum is added to its parent's, from the last node down; sums of kept nodes stay
 * apart. */
int mematlas_trie_add_up(const uint32_t *parents, const uint8_t *kept, uint64_t count,
			 int64_t *sums)
{
	int error = mematlas_trie_check(parents, 0, count);

	if (error)
		return error;
	for (uint64_t node = count; node-- > 1;)
		if (!kept || !kept[node])
			sums[parents[node]] =
				(int64_t)((uint64_t)sums[parents[node]] + (uint64_t)sums[node]);
	return 0;
}
