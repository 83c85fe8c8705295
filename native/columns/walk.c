/* Walks in tries: from nodes towards the root, and through a trie in preorder. */
#include <errno.h>

#include "mematlas.h"

/* Defines `name` for words of one width. */
#define CLIMB(name, type)                                                                          \
	static int name(const uint32_t *parents, const type *words, uint64_t count,                \
			const uint8_t *passed, uint32_t capacity, uint32_t *nodes, uint64_t rows)  \
	{                                                                                          \
		for (uint64_t row = 0; row < rows; row++) {                                        \
			uint32_t node = nodes[row];                                                \
			if (node >= count)                                                         \
				return -EINVAL;                                                    \
			while (node && words[node] < capacity && passed[words[node]])              \
				node = parents[node];                                              \
			nodes[row] = node;                                                         \
		}                                                                                  \
		return 0;                                                                          \
	}
CLIMB(climb2, uint16_t)
CLIMB(climb4, uint32_t)

/* Words without a flag are not passed. */
int mematlas_trie_climb(const uint32_t *parents, const void *words, uint32_t bytes, uint64_t count,
			const uint8_t *passed, uint32_t capacity, uint32_t *nodes, uint64_t rows)
{
	int error = mematlas_trie_check(parents, 0, count);

	if (error)
		return error;
	if (bytes == 2)
		return climb2(parents, words, count, passed, capacity, nodes, rows);
	return bytes == 4 ? climb4(parents, words, count, passed, capacity, nodes, rows) : -EINVAL;
}

/* Defines `name` for words of one width. */
#define OWN(name, type)                                                                            \
	static int name(const uint32_t *parents, const type *words, const type *least,             \
			uint64_t count, uint32_t *nodes, uint64_t rows)                            \
	{                                                                                          \
		for (uint64_t row = 0; row < rows; row++) {                                        \
			uint32_t node = nodes[row];                                                \
			if (node >= count)                                                         \
				return -EINVAL;                                                    \
			while (node && least[node] != words[node])                                 \
				node = parents[node];                                              \
			nodes[row] = node;                                                         \
		}                                                                                  \
		return 0;                                                                          \
	}
OWN(own2, uint16_t)
OWN(own4, uint32_t)

int mematlas_trie_own(const uint32_t *parents, const void *words, const void *least, uint32_t bytes,
		      uint64_t count, uint32_t *nodes, uint64_t rows)
{
	int error = mematlas_trie_check(parents, 0, count);

	if (error)
		return error;
	if (bytes == 2)
		return own2(parents, words, least, count, nodes, rows);
	return bytes == 4 ? own4(parents, words, least, count, nodes, rows) : -EINVAL;
}

/* Links siblings, the last of `order` first. `linked` marks linked nodes: one linked twice would close
 * a circle. */
static int link_siblings(const uint32_t *parents, uint64_t count, const uint32_t *order,
			 uint64_t length, uint32_t *first, uint32_t *next, uint32_t *linked)
{
	for (uint64_t i = 0; i < count; i++)
		first[i] = next[i] = linked[i] = 0;
	for (uint64_t i = 0; i < length; i++) {
		uint32_t at = order[i];

		if (at >= count || linked[at])
			return -EINVAL;
		if (!at)
			continue;
		linked[at] = 1;
		next[at] = first[parents[at]];
		first[parents[at]] = at;
	}
	return 0;
}

/* Parents come before children in the array, so climbing ends at the root. */
int64_t mematlas_trie_preorder(const uint32_t *parents, uint64_t count, const uint32_t *order,
			       uint64_t length, uint32_t *first, uint32_t *next, uint32_t *ret)
{
	int64_t found = 0;
	uint32_t node = 0;
	int error = mematlas_trie_check(parents, 0, count);

	if (!error)
		error = count ? link_siblings(parents, count, order, length, first, next, ret)
			      : -EINVAL;
	if (error)
		return error;
	for (;;) {
		ret[found++] = node;
		if (first[node]) {
			node = first[node];
			continue;
		}
		while (node && !next[node])
			node = parents[node];
		if (!node)
			return found;
		node = next[node];
	}
}
